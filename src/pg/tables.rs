//! The tables of one schema, for moving rows: columns, keys and references, from the catalog.

use std::collections::BTreeMap;

use diesel::{
    PgConnection, QueryResult, RunQueryDsl, sql_query,
    sql_types::{Array, Bool, Text},
};

use crate::SchemaName;

/// The tables of one schema.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tables {
    pub(crate) tables: BTreeMap<String, Table>,
    /// The foreign keys, of which the referenced table is known by its bare name.
    pub(crate) references: Vec<Reference>,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Table {
    pub(crate) columns: Vec<Column>,
    /// What may not be there twice, the primary key first.
    pub(crate) keys: Vec<Key>,
}

#[derive(Debug, Clone, diesel::QueryableByName)]
pub(crate) struct Column {
    #[diesel(sql_type = Text)]
    table: String,
    #[diesel(sql_type = Text)]
    pub(crate) name: String,
    /// Computed from others: never written.
    #[diesel(sql_type = Bool)]
    pub(crate) generated: bool,
    #[diesel(sql_type = Bool)]
    pub(crate) identity: bool,
    /// Numbered by a sequence: an identity, or a serial.
    #[diesel(sql_type = Bool)]
    pub(crate) numbered: bool,
}

#[derive(Debug, Clone, diesel::QueryableByName)]
pub(crate) struct Key {
    #[diesel(sql_type = Text)]
    table: String,
    #[diesel(sql_type = Text)]
    pub(crate) name: String,
    #[diesel(sql_type = Bool)]
    pub(crate) primary: bool,
    #[diesel(sql_type = Array<Text>)]
    pub(crate) columns: Vec<String>,
}

/// A foreign key, told by names, so that `public`'s can be looked for in a tenant that lacks it.
#[derive(Debug, Clone, diesel::QueryableByName)]
pub(crate) struct Reference {
    #[diesel(sql_type = Text)]
    pub(crate) child: String,
    #[diesel(sql_type = Array<Text>)]
    pub(crate) child_columns: Vec<String>,
    #[diesel(sql_type = Text)]
    pub(crate) parent: String,
    #[diesel(sql_type = Array<Text>)]
    pub(crate) parent_columns: Vec<String>,
    /// Whether its check can wait for the end of the transaction.
    #[diesel(sql_type = Bool)]
    pub(crate) deferrable: bool,
}

impl Reference {
    /// What it connects, which tells whether two are the same but for their properties.
    pub(crate) fn ends(&self) -> (&str, &[String], &str, &[String]) {
        (&self.child, &self.child_columns, &self.parent, &self.parent_columns)
    }
}

impl Tables {
    /// Whether the table is there with all of these columns.
    pub(crate) fn has(&self, table: &str, columns: &[String]) -> bool {
        let has = |table: &Table| columns.iter().all(|name| table.columns.iter().any(|column| column.name == *name));
        self.tables.get(table).is_some_and(has)
    }
}

/// Reads the structure of one schema, in three queries.
pub(crate) fn read(conn: &mut PgConnection, schema: &SchemaName) -> QueryResult<Tables> {
    let columns: Vec<Column> = sql_query(
        "SELECT c.relname::text AS table, a.attname::text AS name, a.attgenerated <> '' AS generated, \
                a.attidentity <> '' AS identity, \
                a.attidentity <> '' OR coalesce(pg_get_expr(d.adbin, d.adrelid) LIKE 'nextval(%', false) AS numbered \
         FROM pg_catalog.pg_class c \
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped \
         LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum \
         WHERE n.nspname = $1 AND c.relkind IN ('r', 'p') AND NOT c.relispartition \
         ORDER BY c.relname, a.attnum",
    )
    .bind::<Text, _>(schema.as_str())
    .load(conn)?;
    let keys: Vec<Key> = sql_query(
        "SELECT c.relname::text AS table, x.relname::text AS name, i.indisprimary AS primary, \
                ARRAY(SELECT a.attname::text FROM unnest(i.indkey::int2[]) WITH ORDINALITY k(attnum, at) \
                      JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum \
                      WHERE k.at <= i.indnkeyatts ORDER BY k.at) AS columns \
         FROM pg_catalog.pg_index i \
         JOIN pg_catalog.pg_class c ON c.oid = i.indrelid \
         JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid \
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE n.nspname = $1 AND i.indisunique AND i.indpred IS NULL AND i.indexprs IS NULL \
         ORDER BY c.relname, NOT i.indisprimary, x.relname",
    )
    .bind::<Text, _>(schema.as_str())
    .load(conn)?;
    // Citus' shards stand in pg_constraint too: pg_class tells them apart by their schema.
    let references: Vec<Reference> = sql_query(
        "SELECT c.relname::text AS child, p.relname::text AS parent, k.condeferrable AS deferrable, \
                ARRAY(SELECT a.attname::text FROM unnest(k.conkey) WITH ORDINALITY u(attnum, at) \
                      JOIN pg_catalog.pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.attnum \
                      ORDER BY u.at) AS child_columns, \
                ARRAY(SELECT a.attname::text FROM unnest(k.confkey) WITH ORDINALITY u(attnum, at) \
                      JOIN pg_catalog.pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = u.attnum \
                      ORDER BY u.at) AS parent_columns \
         FROM pg_catalog.pg_constraint k \
         JOIN pg_catalog.pg_class c ON c.oid = k.conrelid \
         JOIN pg_catalog.pg_class p ON p.oid = k.confrelid \
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE n.nspname = $1 AND k.contype = 'f' AND k.conparentid = 0 \
         ORDER BY c.relname, k.conname",
    )
    .bind::<Text, _>(schema.as_str())
    .load(conn)?;
    let mut tables = BTreeMap::<String, Table>::new();
    for column in columns {
        tables.entry(column.table.clone()).or_default().columns.push(column);
    }
    for key in keys {
        tables.entry(key.table.clone()).or_default().keys.push(key);
    }
    Ok(Tables { tables, references })
}
