//! The settings of a tenant's turn.

use std::time::Duration;

use diesel::{
    PgConnection, QueryResult, QueryableByName, RunQueryDsl,
    connection::SimpleConnection,
    sql_query,
    sql_types::{Array, Text},
};

use crate::{
    Error,
    pg::{depth, lock},
};

/// What is set until the end of the transaction.
const SETTINGS: [(&str, &str); 9] = [
    // Rows that a policy hides would be taken for missing: they are an error.
    ("row_security", "off"),
    // To compile what reads the catalog takes longer than to run it.
    ("jit", "off"),
    // Rows of `public` are found by an index wherever there is one, since it may hold all tenants' rows.
    ("enable_seqscan", "off"),
    // Where there is none, that makes starting a process for each of some small tables look cheap.
    ("enable_parallel_append", "off"),
    // The texts of values do not depend on the session.
    ("timezone", "'UTC'"),
    ("datestyle", "'ISO, YMD'"),
    ("intervalstyle", "'postgres'"),
    ("extra_float_digits", "1"),
    ("bytea_output", "'hex'"),
];

/// Sets them, and bounds every wait for a lock.
pub(super) fn begin(conn: &mut PgConnection, patience: Duration) -> QueryResult<()> {
    lock::bound(conn, patience, None)?;
    conn.batch_execute(&SETTINGS.map(|(name, value)| format!("SET LOCAL {name} = {value}")).join("; "))
}

/// Does the work, and leaves the settings of a caller's transaction as they were.
pub(super) fn keeping_settings<T>(
    conn: &mut PgConnection,
    work: impl FnOnce(&mut PgConnection) -> Result<T, Error>,
) -> Result<T, Error> {
    #[derive(QueryableByName)]
    struct Settings {
        #[diesel(sql_type = Text)]
        statements: String,
    }
    if depth(conn) == 0 {
        return work(conn);
    }
    let names: Vec<&str> = SETTINGS.iter().map(|(name, _)| *name).chain(["lock_timeout"]).collect();
    let Settings { statements } = sql_query(
        "SELECT string_agg(format('SET LOCAL %I = %L', name, current_setting(name)), '; ') AS statements \
         FROM unnest($1) name",
    )
    .bind::<Array<Text>, _>(names)
    .get_result(conn)?;
    let outcome = work(conn);
    let restored = conn.batch_execute(&statements);
    let value = outcome?;
    restored?;
    Ok(value)
}
