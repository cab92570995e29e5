//! Reads of the catalog: never `information_schema`, which scans all of it.

use std::collections::BTreeMap;

use diesel::{
    OptionalExtension, PgConnection, QueryResult, RunQueryDsl, sql_query,
    sql_types::{Array, Bool, Text},
};

use super::{ddl::HISTORY, trust::is_plain};
use crate::{Error, SchemaName, quote};

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
        "SELECT pg_catalog.has_schema_privilege(oid, 'USAGE') AS usable \
         FROM pg_catalog.pg_namespace WHERE nspname OPERATOR(pg_catalog.=) $1",
    )
    .bind::<Text, _>(schema.as_str())
    .get_result(conn)
    .optional()?;
    Ok(found.map(|row| row.usable))
}

/// The schemas of this name in any mixture of upper and lower case.
pub(crate) fn twins(conn: &mut PgConnection, schema: &SchemaName) -> QueryResult<Vec<String>> {
    let names: Vec<Name> = sql_query(
        "SELECT nspname::text AS name FROM pg_catalog.pg_namespace \
             WHERE pg_catalog.lower(nspname::text) OPERATOR(pg_catalog.=) pg_catalog.lower($1)",
    )
    .bind::<Text, _>(schema.as_str())
    .load(conn)?;
    Ok(names.into_iter().map(|found| found.name).collect())
}

/// The schemas whose names match a LIKE pattern, PostgreSQL's own aside, in order.
pub(crate) fn schemas_like(conn: &mut PgConnection, pattern: &str) -> QueryResult<Vec<String>> {
    let names: Vec<Name> = sql_query(
        "SELECT nspname::text AS name FROM pg_catalog.pg_namespace \
         WHERE nspname OPERATOR(pg_catalog.~~) $1 AND nspname OPERATOR(pg_catalog.!~) '^pg_' \
           AND nspname OPERATOR(pg_catalog.<>) ALL (ARRAY['public', 'information_schema', 'tenantry']) \
         ORDER BY nspname",
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
    /// Something bears its name whose reading would run its owner's code.
    NotATable,
    Readable,
}

/// Which of these schemas exist, and whether their history can be read: one query for all.
///
/// Within a tenant's scope, too, it calls no function of the tenant's.
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
        #[diesel(sql_type = Bool)]
        plain: bool,
    }
    // Looked up name by name: a join would have the planner read all of pg_class, which is most of the catalog.
    let query = include_str!("histories.sql").replace("{is_plain}", &is_plain("c"));
    let rows: Vec<Row> = sql_query(query).bind::<Array<Text>, _>(schemas).bind::<Text, _>(HISTORY).load(conn)?;
    let history = |row: &Row| match row {
        Row { present: true, usable: true, plain: false, .. } => History::NotATable,
        Row { present: true, usable: true, readable: true, .. } => History::Readable,
        Row { present: false, usable: true, .. } => History::Absent,
        _ => History::Forbidden,
    };
    Ok(rows.into_iter().map(|row| (row.schema.clone(), history(&row))).collect())
}

/// What is to be said of a schema whose history is [`History::NotATable`].
pub(crate) fn not_a_table(schema: &SchemaName) -> Error {
    Error::NotATable { table: format!("{schema}.{HISTORY}") }
}

/// The versions that one schema has recorded, also within its scope; none where it has no history.
///
/// # Errors
///
/// [`Error::NotATable`], and those of the queries.
pub(crate) fn recorded(conn: &mut PgConnection, schema: &SchemaName) -> Result<Vec<String>, Error> {
    match histories(conn, &[schema.as_str()])?.get(schema.as_str()) {
        Some(History::NotATable) => Err(not_a_table(schema)),
        // What is forbidden is an error of the query.
        Some(History::Readable | History::Forbidden) => {
            Ok(versions(conn, &[schema])?.remove(schema.as_str()).unwrap_or_default())
        }
        Some(History::Absent) | None => Ok(Vec::new()),
    }
}

/// The indexes of a schema that no query uses, since their making has failed.
pub(crate) fn invalid_indexes(conn: &mut PgConnection, schema: &SchemaName) -> QueryResult<Vec<String>> {
    let names: Vec<Name> = sql_query(
        "SELECT x.relname::text AS name FROM pg_catalog.pg_class x \
         JOIN pg_catalog.pg_index i ON i.indexrelid OPERATOR(pg_catalog.=) x.oid \
         JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) x.relnamespace \
         WHERE n.nspname OPERATOR(pg_catalog.=) $1 AND NOT i.indisvalid \
           AND NOT EXISTS (SELECT FROM pg_catalog.pg_stat_progress_create_index p \
                           WHERE p.index_relid OPERATOR(pg_catalog.=) x.oid) \
         ORDER BY 1",
    )
    .bind::<Text, _>(schema.as_str())
    .load(conn)?;
    Ok(names.into_iter().map(|found| found.name).collect())
}

/// The table of a schema's index, and the statement that makes such an index where the path points.
pub(crate) fn index(conn: &mut PgConnection, schema: &SchemaName, name: &str) -> QueryResult<Option<(String, String)>> {
    let schema = quote::literal(schema.as_str());
    let namespace =
        format!("(SELECT oid FROM pg_catalog.pg_namespace WHERE nspname OPERATOR(pg_catalog.=) {schema}::text)");
    index_of(conn, &namespace, name)
}

/// The same of a temporary index.
pub(crate) fn temporary_index(conn: &mut PgConnection, name: &str) -> QueryResult<Option<(String, String)>> {
    index_of(conn, "pg_catalog.pg_my_temp_schema()", name)
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
        "SELECT t.relname::text AS table, pg_catalog.pg_get_indexdef(x.oid, 0, true) AS definition \
         FROM pg_catalog.pg_class x \
         JOIN pg_catalog.pg_index i ON i.indexrelid OPERATOR(pg_catalog.=) x.oid \
         JOIN pg_catalog.pg_class t ON t.oid OPERATOR(pg_catalog.=) i.indrelid \
         WHERE x.relnamespace OPERATOR(pg_catalog.=) {namespace} AND x.relname OPERATOR(pg_catalog.=) $1"
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
            // A view is no table to sample. Without a cast, which the column's type could bring.
            format!(
                "SELECT {name}::text AS schema, pg_catalog.concat(version) AS version \
                 FROM ONLY {}.{HISTORY} TABLESAMPLE pg_catalog.system (100)",
                schema.quoted()
            )
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
