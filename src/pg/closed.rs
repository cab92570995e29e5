//! The closed search_path: nothing but the server's own schemas, so that no name can be found elsewhere.

use diesel::{
    PgConnection, QueryResult, QueryableByName, RunQueryDsl,
    connection::SimpleConnection,
    result::Error as DieselError,
    sql_query,
    sql_types::{Array, Text},
};

use super::{atomically, depth};

/// The path of our own connections, and of those that the pool lends, outside of scopes.
///
/// A bare table is not found on it, and no function, operator or type that another role has made is. `pg_temp` is
/// named so that it comes last: unnamed, it would be searched before `pg_catalog`.
pub(crate) const CLOSED_PATH: &str = "pg_catalog, pg_temp";

/// The statements after which, until the end of the transaction, a query reads tables and runs the server's own
/// functions only.
///
/// Where a policy would hide rows, or a view stands in a table's place, the query fails instead of running their code.
/// The last setting came with the minor versions of August 2024. Before, the catalog alone tells tables from views.
/// `constraint_exclusion` would have the planner evaluate CHECKs.
pub(crate) const CLOSE: &str = "SET LOCAL search_path TO pg_catalog, pg_temp; SET LOCAL row_security TO off; \
    SET LOCAL constraint_exclusion TO off; \
    SELECT CASE WHEN current_setting('restrict_nonsystem_relation_kind', true) IS NOT NULL \
           THEN set_config('restrict_nonsystem_relation_kind', 'view, foreign-table', true) END";

/// The same for the last setting alone, to have views read.
pub(crate) const VIEW: &str = "SELECT CASE WHEN pg_catalog.current_setting('restrict_nonsystem_relation_kind', true) IS NOT NULL \
           THEN pg_catalog.set_config('restrict_nonsystem_relation_kind', '', true) END";

/// What [`CLOSE`] sets.
pub(crate) const SETTINGS: [&str; 4] =
    ["search_path", "row_security", "constraint_exclusion", "restrict_nonsystem_relation_kind"];

/// The statement that sets what [`CLOSE`] changes as it was before.
#[derive(Debug, QueryableByName)]
pub(crate) struct Open {
    #[diesel(sql_type = Text)]
    pub(crate) statement: String,
}

impl Open {
    /// Reads the settings, if a caller's transaction is under way that would keep what is set now.
    pub(crate) fn if_nested(conn: &mut PgConnection) -> QueryResult<Option<Self>> {
        if depth(conn) <= 1 {
            return Ok(None);
        }
        Self::of(conn, &SETTINGS).map(Some)
    }

    /// The same for these settings. Those that the server does not have are left out.
    pub(crate) fn of(conn: &mut PgConnection, settings: &[&str]) -> QueryResult<Self> {
        sql_query(
            "SELECT pg_catalog.string_agg(pg_catalog.format('SELECT pg_catalog.set_config(%L, %L, true)', name, \
                    pg_catalog.current_setting(name, true)), '; ') AS statement FROM pg_catalog.unnest($1) name \
             WHERE pg_catalog.current_setting(name, true) IS NOT NULL",
        )
        .bind::<Array<Text>, _>(settings)
        .get_result(conn)
    }
}

/// Runs the closure as a transaction or, inside one, as a savepoint, in which queries run the server's own code only.
///
/// Tables are written with their schema there. A path of the caller's transaction is set again.
pub(crate) fn reading<T, E: From<DieselError>>(
    conn: &mut PgConnection,
    work: impl FnOnce(&mut PgConnection) -> Result<T, E>,
) -> Result<T, E> {
    atomically(conn, |conn| {
        let before = Open::if_nested(conn)?;
        conn.batch_execute(CLOSE)?;
        let value = work(conn)?;
        before.map_or(Ok(()), |before| conn.batch_execute(&before.statement))?;
        Ok(value)
    })
}
