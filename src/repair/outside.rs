//! Foreign keys that lead into a schema from others.

use diesel::{
    PgConnection, QueryResult, QueryableByName, RunQueryDsl, sql_query,
    sql_types::{Array, Text},
};

use super::rows;
use crate::{SchemaName, quote};

/// A foreign key from some other schema into this one.
#[derive(Debug, Clone, QueryableByName)]
pub(super) struct Outside {
    #[diesel(sql_type = Text)]
    schema: String,
    #[diesel(sql_type = Text)]
    child: String,
    #[diesel(sql_type = Array<Text>)]
    child_columns: Vec<String>,
    #[diesel(sql_type = Text)]
    pub(super) parent: String,
    #[diesel(sql_type = Array<Text>)]
    parent_columns: Vec<String>,
}

impl Outside {
    /// The table that refers, as it is named in a report.
    pub(super) fn child(&self) -> String {
        format!("{}.{}", self.schema, self.child)
    }

    /// That table, and the condition that its row `c` refers to the row `p`.
    pub(super) fn refers(&self) -> (String, String) {
        let pairs = self.child_columns.iter().zip(&self.parent_columns);
        let same = |(child, parent): (&String, &String)| {
            format!("{} = {}", rows::column("c", child), rows::column("p", parent))
        };
        (quote::qualified(&self.schema, &self.child), pairs.map(same).collect::<Vec<_>>().join(" AND "))
    }
}

/// The foreign keys from other schemas into this one.
pub(super) fn outside(conn: &mut PgConnection, schema: &SchemaName) -> QueryResult<Vec<Outside>> {
    let columns = |table: &str, key: &str| {
        format!(
            "ARRAY(SELECT a.attname::text FROM unnest(k.{key}) WITH ORDINALITY u(attnum, at) \
             JOIN pg_catalog.pg_attribute a ON a.attrelid = k.{table} AND a.attnum = u.attnum ORDER BY u.at)"
        )
    };
    sql_query(format!(
        "SELECT n.nspname::text AS schema, c.relname::text AS child, p.relname::text AS parent, \
                {} AS child_columns, {} AS parent_columns \
         FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_class p ON p.oid = k.confrelid \
         JOIN pg_catalog.pg_class c ON c.oid = k.conrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE k.contype = 'f' AND p.relnamespace = to_regnamespace($1) AND c.relnamespace <> p.relnamespace",
        columns("conrelid", "conkey"),
        columns("confrelid", "confkey"),
    ))
    .bind::<Text, _>(schema.quoted())
    .load(conn)
}
