//! Whether a rehearsal can be made.

use std::collections::BTreeSet;

use diesel::{
    PgConnection, QueryResult, RunQueryDsl,
    dsl::sql,
    result::{DatabaseErrorKind as Kind, Error as DieselError},
    select,
    sql_types::{Array, Bool, Text},
};

use super::Outcome;
use crate::{Error, SchemaName};

/// Whether an error may be that of a role, or of a server, that takes no writes: its kind says so, or it has none.
pub(super) fn may_be_of_rights(error: &Error) -> bool {
    matches!(error, Error::Query(DieselError::DatabaseError(Kind::ReadOnlyTransaction | Kind::Unknown, _)))
}

/// Whether the role lacks the privilege to do this, or the server takes no writes. Rows of `public` that are copied are locked first, for which UPDATE
/// is needed.
pub(super) fn may_not_write(conn: &mut PgConnection, schema: &SchemaName, outcome: &Outcome) -> QueryResult<bool> {
    let copied: BTreeSet<&str> = outcome.copied.iter().map(|copied| copied.table.as_str()).collect();
    let filled: BTreeSet<&str> = outcome.filled.iter().map(|filled| filled.table.as_str()).collect();
    let needed = sql::<Bool>(
        "pg_catalog.current_setting('transaction_read_only')::pg_catalog.bool OR EXISTS (SELECT FROM (\
             SELECT ",
    )
    .bind::<Text, _>(schema.as_str())
    .sql(", 'INSERT', ")
    .bind::<Array<Text>, _>(copied.iter().collect::<Vec<_>>())
    .sql(" UNION ALL SELECT ")
    .bind::<Text, _>(schema.as_str())
    .sql(", 'UPDATE', ")
    .bind::<Array<Text>, _>(filled.iter().collect::<Vec<_>>())
    .sql(" UNION ALL SELECT 'public', 'UPDATE', ")
    .bind::<Array<Text>, _>(copied.iter().collect::<Vec<_>>())
    .sql(
        ") AS needed (schema, privilege, tables) \
         JOIN pg_catalog.pg_namespace n ON n.nspname = needed.schema \
         JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = ANY (needed.tables) \
         WHERE NOT pg_catalog.has_any_column_privilege(c.oid, needed.privilege))",
    );
    select(needed).get_result(conn)
}
