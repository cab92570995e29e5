//! Advisory locks, polled: a session that *waits* for one holds a snapshot, and a
//! `CREATE INDEX CONCURRENTLY` elsewhere would wait for that snapshot in turn.

use std::{
    thread,
    time::{Duration, Instant},
};

use diesel::{
    PgConnection, QueryResult, RunQueryDsl,
    connection::SimpleConnection,
    dsl::sql,
    select,
    sql_types::{Bool, Text},
};

use super::{
    atomically,
    closed::{CLOSE, Open},
    depth,
};
use crate::{Error, SchemaName, quote};

/// Takes the schema's lock until the end of the transaction, or of the savepoint if that is rolled back.
pub(crate) fn schema(conn: &mut PgConnection, schema: &SchemaName, patience: Duration) -> Result<(), Error> {
    schema_unless(conn, schema, patience, || false)
}

/// The same, while nobody wishes to give up.
pub(crate) fn schema_unless(
    conn: &mut PgConnection,
    schema: &SchemaName,
    patience: Duration,
    give_up: impl Fn() -> bool,
) -> Result<(), Error> {
    poll(patience, give_up, || try_lock(conn, schema, "pg_try_advisory_xact_lock"), schema)
}

fn poll(
    patience: Duration,
    give_up: impl Fn() -> bool,
    mut attempt: impl FnMut() -> Result<bool, Error>,
    schema: &SchemaName,
) -> Result<(), Error> {
    let started = Instant::now();
    let mut pause = Duration::from_millis(5);
    while !attempt()? {
        if started.elapsed() >= patience {
            return Err(Error::Locked { schema: schema.clone(), waited: patience });
        }
        if give_up() {
            return Err(Error::NotReached { reason: "the run was stopped while it waited for the schema".into() });
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(200));
    }
    Ok(())
}

/// Takes the schema's lock for the session: until it is released, or the connection closes.
pub(crate) fn schema_for_session(
    conn: &mut PgConnection,
    schema: &SchemaName,
    patience: Duration,
    give_up: impl Fn() -> bool,
) -> Result<(), Error> {
    poll(patience, give_up, || try_lock(conn, schema, "pg_try_advisory_lock"), schema)
}

/// Releases what [`schema_for_session`] took.
pub(crate) fn release(conn: &mut PgConnection, schema: &SchemaName) -> Result<(), Error> {
    try_lock(conn, schema, "pg_advisory_unlock").map(|_| ())
}

/// Bounds every wait for a lock of a row or a table, and every statement, until the end of the transaction.
pub(crate) fn bound(conn: &mut PgConnection, lock: Duration, statement: Option<Duration>) -> QueryResult<()> {
    conn.batch_execute(&bounding("SET LOCAL", lock, statement))
}

/// The statements that do so, for the transaction or, with `SET`, for the session.
pub(crate) fn bounding(set: &str, lock: Duration, statement: Option<Duration>) -> String {
    let milliseconds = |time: Duration| time.as_millis().clamp(1, i32::MAX as u128);
    let lock = format!("{set} lock_timeout = {}", milliseconds(lock));
    match statement {
        Some(statement) => format!("{lock}; {set} statement_timeout = {}", milliseconds(statement)),
        None => lock,
    }
}

/// Runs the closure as a transaction or, inside one, as a savepoint, in which nothing waits longer for a lock, and
/// queries run the server's own code only, as [`closed::reading`](super::closed::reading) has them do.
pub(crate) fn patiently<T>(
    conn: &mut PgConnection,
    patience: Duration,
    work: impl FnOnce(&mut PgConnection) -> QueryResult<T>,
) -> QueryResult<T> {
    atomically(conn, |conn| {
        // What is set here would stay so for the rest of a caller's transaction.
        let before = (depth(conn) > 1).then(|| bounds(conn)).transpose()?;
        let open = Open::if_nested(conn)?;
        conn.batch_execute(&format!("{CLOSE}; {}", bounding("SET LOCAL", patience, None)))?;
        let value = work(conn)?;
        open.map_or(Ok(()), |open| conn.batch_execute(&open.statement))?;
        before.map_or(Ok(()), |before| restore(conn, "SET LOCAL", &before))?;
        Ok(value)
    })
}

/// What the two bounds are.
pub(crate) struct Bounds(String, String);

/// Reads the bounds that are set now.
pub(crate) fn bounds(conn: &mut PgConnection) -> QueryResult<Bounds> {
    let setting = |name: &str| sql::<Text>(&format!("pg_catalog.current_setting('{name}')"));
    let (lock, statement) = select((setting("lock_timeout"), setting("statement_timeout"))).get_result(conn)?;
    Ok(Bounds(lock, statement))
}

/// Sets them again, for the transaction or, with `SET`, for the session.
pub(crate) fn restore(conn: &mut PgConnection, set: &str, Bounds(lock, statement): &Bounds) -> QueryResult<()> {
    let (lock, statement) = (quote::literal(lock), quote::literal(statement));
    conn.batch_execute(&format!("{set} lock_timeout = {lock}; {set} statement_timeout = {statement}"))
}

/// The statement that takes the locks of all these schemas, or fails: for a message whose results nobody reads.
pub(crate) fn must_lock<'s>(schemas: impl Iterator<Item = &'s SchemaName>) -> String {
    let names: Vec<String> = schemas.map(|schema| quote::literal(&format!("tenantry:{schema}"))).collect();
    format!(
        "SELECT CASE WHEN pg_catalog.bool_and(pg_catalog.pg_try_advisory_xact_lock(pg_catalog.hashtextextended(name, 0))) \
         THEN 0 ELSE pg_catalog.concat('locked: ', pg_catalog.now())::int END \
         FROM pg_catalog.unnest(ARRAY[{}]) AS name",
        names.join(", ")
    )
}

fn try_lock(conn: &mut PgConnection, schema: &SchemaName, function: &str) -> Result<bool, Error> {
    let locked = sql::<Bool>(&format!("pg_catalog.{function}(pg_catalog.hashtextextended("))
        .bind::<Text, _>(format!("tenantry:{schema}"))
        .sql(", 0))");
    Ok(select(locked).get_result(conn)?)
}
