//! PostgreSQL, or PostgreSQL with Citus: detected, never configured.

use diesel::{PgConnection, QueryResult, RunQueryDsl, dsl::sql, select, sql_types::Bool};

/// What answers at the other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Engine {
    Postgres,
    /// A coordinator that distributes tables by the schema they are in.
    Citus,
}

/// Asks the server what it is.
pub(crate) fn detect(conn: &mut PgConnection) -> QueryResult<Engine> {
    let citus =
        sql::<Bool>("EXISTS (SELECT FROM pg_catalog.pg_extension WHERE extname OPERATOR(pg_catalog.=) 'citus')");
    Ok(if select(citus).get_result(conn)? { Engine::Citus } else { Engine::Postgres })
}
