//! Foreign keys that are taken away while rows go that are referred to, and put back.

use diesel::{
    PgConnection, QueryResult, QueryableByName, RunQueryDsl,
    connection::SimpleConnection,
    sql_query,
    sql_types::{Bool, Nullable, Text},
};

use super::tenant::Work;
use crate::{pg::tables::Reference, quote, repair::settings::writing};

/// A constraint that was taken away, by quoted names.
#[derive(QueryableByName)]
pub(super) struct Loose {
    #[diesel(sql_type = Text)]
    table: String,
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Text)]
    definition: String,
    #[diesel(sql_type = Bool)]
    valid: bool,
    #[diesel(sql_type = Nullable<Text>)]
    comment: Option<String>,
}

/// Takes a foreign key away, if it is the schema's own.
pub(super) fn loosen(conn: &mut PgConnection, work: &Work<'_>, reference: &Reference) -> QueryResult<Vec<Loose>> {
    let loose: Vec<Loose> = sql_query(
        "SELECT c.oid::regclass::text AS table, quote_ident(k.conname) AS name, \
                pg_get_constraintdef(k.oid) AS definition, k.convalidated AS valid, \
                obj_description(k.oid, 'pg_constraint') AS comment \
         FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_class c ON c.oid = k.conrelid \
         JOIN pg_catalog.pg_class p ON p.oid = k.confrelid \
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE n.nspname = $1 AND c.relname = $2 AND k.conname = $3 AND k.contype = 'f' AND k.conparentid = 0 \
           AND p.relnamespace = c.relnamespace",
    )
    .bind::<Text, _>(work.schema.as_str())
    .bind::<Text, _>(&reference.child)
    .bind::<Text, _>(&reference.name)
    .load(conn)?;
    for Loose { table, name, .. } in &loose {
        let drop = format!("SET CONSTRAINTS ALL IMMEDIATE; ALTER TABLE {table} DROP CONSTRAINT {name}");
        writing(conn, work.schema, |conn| conn.batch_execute(&drop))?;
    }
    Ok(loose)
}

impl Loose {
    /// Puts it back, and tells its name if it was valid before and cannot be any more.
    pub(super) fn tighten(self, conn: &mut PgConnection) -> QueryResult<Option<String>> {
        let Self { table, name, definition, valid, comment } = self;
        let not_valid = if valid { " NOT VALID" } else { "" };
        conn.batch_execute(&format!(
            "ALTER TABLE {table} ADD CONSTRAINT {name} {definition}{not_valid}{}",
            commenting(&table, &name, comment.as_deref()),
        ))?;
        Ok(valid.then_some(name))
    }
}

/// The statement that gives a new constraint the comment of the one in whose place it is, after the one that adds it.
pub(super) fn commenting(table: &str, name: &str, comment: Option<&str>) -> String {
    let statement = |text| format!("; COMMENT ON CONSTRAINT {name} ON {table} IS {}", quote::literal(text));
    comment.map(statement).unwrap_or_default()
}
