//! The settings of a tenant's turn.

use std::time::Duration;

use diesel::{PgConnection, QueryResult, connection::SimpleConnection};

use crate::{
    Error, SchemaName,
    pg::{
        closed::{self, CLOSE, Open, VIEW},
        ddl, depth, lock,
    },
};

/// What is set until the end of the transaction, beside the [closed](closed) path.
const SETTINGS: [(&str, &str); 8] = [
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

/// Sets them, and bounds every wait for a lock. Queries run the server's own code only from here on, except in what is
/// [written](writing): where a policy would hide rows, which would be taken for missing, that is an error.
pub(super) fn begin(conn: &mut PgConnection, patience: Duration) -> QueryResult<()> {
    let settings = SETTINGS.map(|(name, value)| format!("SET LOCAL {name} = {value}")).join("; ");
    conn.batch_execute(&format!("{}; {settings}; {CLOSE}", lock::bounding("SET LOCAL", patience, None)))
}

/// Writes into a tenant, with the tenant alone on the path: its triggers, defaults and checks expect it there.
///
/// What is written here names every function and operator with its schema.
pub(super) fn writing<T>(
    conn: &mut PgConnection,
    schema: &SchemaName,
    work: impl FnOnce(&mut PgConnection) -> QueryResult<T>,
) -> QueryResult<T> {
    open(conn, schema)?;
    let value = work(conn)?;
    conn.batch_execute(CLOSE)?;
    Ok(value)
}

/// Has the tenant alone on the path again, as its scope demands it.
pub(super) fn open(conn: &mut PgConnection, schema: &SchemaName) -> QueryResult<()> {
    conn.batch_execute(&format!("{VIEW}; {}", ddl::set_path(schema)))
}

/// Does the work, and leaves the settings of a caller's transaction as they were.
pub(super) fn keeping_settings<T>(
    conn: &mut PgConnection,
    work: impl FnOnce(&mut PgConnection) -> Result<T, Error>,
) -> Result<T, Error> {
    if depth(conn) == 0 {
        return work(conn);
    }
    let names: Vec<&str> =
        SETTINGS.iter().map(|(name, _)| *name).chain(closed::SETTINGS).chain(["lock_timeout"]).collect();
    let before = Open::of(conn, &names)?;
    let outcome = work(conn);
    let restored = conn.batch_execute(&before.statement);
    let value = outcome?;
    restored?;
    Ok(value)
}
