//! Reads of the catalog: never `information_schema`, which scans all of it.

use std::collections::BTreeMap;

use diesel::{
    OptionalExtension, PgConnection, QueryResult, RunQueryDsl,
    dsl::sql,
    select, sql_query,
    sql_types::{Array, Bool, Text},
};

use super::ddl::HISTORY;
use crate::{SchemaName, quote};

#[derive(diesel::QueryableByName)]
struct Name {
    #[diesel(sql_type = Text)]
    name: String,
}

/// Whether the role may use the schema; `None` when there is none.
pub(crate) fn may_use(conn: &mut PgConnection, schema: &SchemaName) -> QueryResult<Option<bool>> {
    #[derive(diesel::QueryableByName)]
    struct Row {
        #[diesel(sql_type = Bool)]
        usable: bool,
    }
    let found: Option<Row> = sql_query(
        "SELECT has_schema_privilege(oid, 'USAGE') AS usable FROM pg_catalog.pg_namespace WHERE nspname = $1",
    )
    .bind::<Text, _>(schema.as_str())
    .get_result(conn)
    .optional()?;
    Ok(found.map(|row| row.usable))
}

/// The schemas of this name in any mixture of upper and lower case.
pub(crate) fn twins(conn: &mut PgConnection, schema: &SchemaName) -> QueryResult<Vec<String>> {
    let names: Vec<Name> =
        sql_query("SELECT nspname::text AS name FROM pg_catalog.pg_namespace WHERE lower(nspname) = lower($1)")
            .bind::<Text, _>(schema.as_str())
            .load(conn)?;
    Ok(names.into_iter().map(|found| found.name).collect())
}

/// The schemas whose names match a LIKE pattern, PostgreSQL's own aside, in order.
pub(crate) fn schemas_like(conn: &mut PgConnection, pattern: &str) -> QueryResult<Vec<String>> {
    let names: Vec<Name> = sql_query(
        "SELECT nspname::text AS name FROM pg_catalog.pg_namespace \
         WHERE nspname LIKE $1 AND nspname !~ '^pg_' \
           AND nspname NOT IN ('public', 'information_schema', 'tenantry') ORDER BY nspname",
    )
    .bind::<Text, _>(pattern)
    .load(conn)?;
    Ok(names.into_iter().map(|found| found.name).collect())
}

/// A schema that exists, and what can be read of its history of migrations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum History {
    /// There is no history table: nothing was applied.
    Absent,
    /// There is one, and the role may not read it.
    Forbidden,
    Readable,
}

/// Which of these schemas exist, and whether their history can be read: one query for all.
pub(crate) fn histories(conn: &mut PgConnection, schemas: &[&str]) -> QueryResult<BTreeMap<String, History>> {
    #[derive(diesel::QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        schema: String,
        #[diesel(sql_type = Bool)]
        usable: bool,
        #[diesel(sql_type = Bool)]
        present: bool,
        #[diesel(sql_type = Bool)]
        readable: bool,
    }
    // Looked up name by name: a join would have the planner read all of pg_class, which is most of the catalog.
    let rows: Vec<Row> = sql_query(
        "SELECT schema, usable, history IS NOT NULL AS present, \
                coalesce(has_table_privilege(history, 'SELECT'), false) AS readable \
         FROM (SELECT nspname::text AS schema, usable, \
                      CASE WHEN usable THEN to_regclass(quote_ident(nspname) || '.' || quote_ident($2)) END AS history \
               FROM (SELECT nspname, has_schema_privilege(oid, 'USAGE') AS usable \
                     FROM pg_catalog.pg_namespace WHERE nspname = ANY($1)) known OFFSET 0) found",
    )
    .bind::<Array<Text>, _>(schemas)
    .bind::<Text, _>(HISTORY)
    .load(conn)?;
    let history = |row: &Row| match row {
        Row { present: true, usable: true, readable: true, .. } => History::Readable,
        Row { present: false, usable: true, .. } => History::Absent,
        _ => History::Forbidden,
    };
    Ok(rows.into_iter().map(|row| (row.schema.clone(), history(&row))).collect())
}

/// Whether a table of our own, in the schema `tenantry`, is there and may be read.
pub(crate) fn remembers(conn: &mut PgConnection, table: &str) -> QueryResult<bool> {
    let may_read = format!("has_table_privilege(to_regclass('tenantry.{table}'), 'SELECT')");
    // Looked for only where the role may look.
    let usable = "SELECT has_schema_privilege(oid, 'USAGE') FROM pg_catalog.pg_namespace WHERE nspname = 'tenantry'";
    select(sql::<Bool>(&format!("CASE WHEN ({usable}) THEN coalesce({may_read}, false) ELSE false END")))
        .get_result(conn)
}

/// The indexes of a schema that no query uses, since their making has failed.
pub(crate) fn invalid_indexes(conn: &mut PgConnection, schema: &SchemaName) -> QueryResult<Vec<String>> {
    let names: Vec<Name> = sql_query(
        "SELECT x.relname::text AS name FROM pg_catalog.pg_class x \
         JOIN pg_catalog.pg_index i ON i.indexrelid = x.oid \
         JOIN pg_catalog.pg_namespace n ON n.oid = x.relnamespace \
         WHERE n.nspname = $1 AND NOT i.indisvalid \
           AND NOT EXISTS (SELECT FROM pg_catalog.pg_stat_progress_create_index p WHERE p.index_relid = x.oid) \
         ORDER BY 1",
    )
    .bind::<Text, _>(schema.as_str())
    .load(conn)?;
    Ok(names.into_iter().map(|found| found.name).collect())
}

/// The table of a schema's index, and the statement that makes such an index where the path points.
pub(crate) fn index(conn: &mut PgConnection, schema: &SchemaName, name: &str) -> QueryResult<Option<(String, String)>> {
    let schema = quote::literal(schema.as_str());
    index_of(conn, &format!("(SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = {schema})"), name)
}

/// The same of a temporary index.
pub(crate) fn temporary_index(conn: &mut PgConnection, name: &str) -> QueryResult<Option<(String, String)>> {
    index_of(conn, "pg_my_temp_schema()", name)
}

fn index_of(conn: &mut PgConnection, namespace: &str, name: &str) -> QueryResult<Option<(String, String)>> {
    #[derive(diesel::QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        table: String,
        #[diesel(sql_type = Text)]
        definition: String,
    }
    let found: Option<Row> = sql_query(format!(
        "SELECT t.relname::text AS table, pg_get_indexdef(x.oid, 0, true) AS definition \
         FROM pg_catalog.pg_class x \
         JOIN pg_catalog.pg_index i ON i.indexrelid = x.oid \
         JOIN pg_catalog.pg_class t ON t.oid = i.indrelid \
         WHERE x.relnamespace = {namespace} AND x.relname = $1"
    ))
    .bind::<Text, _>(name)
    .get_result(conn)
    .optional()?;
    Ok(found.map(|row| (row.table, row.definition)))
}

/// The versions that these schemas, which must have a readable history, have recorded: one query for all.
pub(crate) fn versions(conn: &mut PgConnection, schemas: &[&SchemaName]) -> QueryResult<BTreeMap<String, Vec<String>>> {
    #[derive(diesel::QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        schema: String,
        #[diesel(sql_type = Text)]
        version: String,
    }
    let selects: Vec<String> = schemas
        .iter()
        .map(|schema| {
            let name = quote::literal(schema.as_str());
            format!("SELECT {name}::text AS schema, version::text FROM {}.{HISTORY}", schema.quoted())
        })
        .collect();
    let mut versions = BTreeMap::<String, Vec<String>>::new();
    if !selects.is_empty() {
        let rows: Vec<Row> = sql_query(selects.join(" UNION ALL ")).load(conn)?;
        for row in rows {
            versions.entry(row.schema).or_default().push(row.version);
        }
    }
    versions.values_mut().for_each(|versions| versions.sort());
    Ok(versions)
}
