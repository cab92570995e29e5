//! Advisory locks, polled: a session that *waits* for one holds a snapshot, and a
//! `CREATE INDEX CONCURRENTLY` elsewhere would wait for that snapshot in turn.

use std::{
    thread,
    time::{Duration, Instant},
};

use diesel::{
    OptionalExtension, PgConnection, QueryResult, RunQueryDsl,
    connection::SimpleConnection,
    dsl::sql,
    select, sql_query,
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

/// Takes the lock that one run holds for all of a fleet, until the connection closes.
///
/// `give_up` is asked at every turn whether there is still a wish for it.
pub(crate) fn fleet(conn: &mut PgConnection, patience: Duration, give_up: impl Fn() -> bool) -> Result<(), Error> {
    let started = Instant::now();
    loop {
        let lock = sql::<Bool>(&format!("pg_catalog.pg_try_advisory_lock({FLEET})"));
        if select(lock).get_result(conn)? {
            return Ok(());
        }
        if started.elapsed() >= patience {
            return Err(Error::RunInProgress { holder: fleet_holder(conn)? });
        }
        if give_up() {
            return Err(Error::Stopped);
        }
        thread::sleep(Duration::from_millis(200));
    }
}

/// Whether a run holds the lock of the fleet, in this database.
pub(crate) fn fleet_is_held(conn: &mut PgConnection) -> QueryResult<bool> {
    let held = format!(
        "EXISTS (SELECT FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_database d ON d.oid = l.database \
         WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1 AND d.datname = pg_catalog.current_database() \
           AND (l.classid::bigint << 32 | l.objid::bigint) = {FLEET})"
    );
    select(sql::<Bool>(&held)).get_result(conn)
}

// Whoever calls may have any path.
const FLEET: &str = "pg_catalog.hashtextextended('tenantry fleet', 0)";

fn fleet_holder(conn: &mut PgConnection) -> QueryResult<String> {
    #[derive(diesel::QueryableByName)]
    struct Holder {
        #[diesel(sql_type = Text)]
        holder: String,
    }
    let holder: Option<Holder> = sql_query(format!(
        "SELECT pg_catalog.format('role %s from %s, process %s of the server, since %s', a.usename, \
                coalesce(pg_catalog.host(a.client_addr), 'this machine'), a.pid, \
                pg_catalog.to_char(a.backend_start, 'YYYY-MM-DD HH24:MI:SS TZ')) AS holder \
         FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_stat_activity a ON a.pid OPERATOR(pg_catalog.=) l.pid \
         WHERE l.locktype OPERATOR(pg_catalog.=) 'advisory' AND l.granted AND l.objsubid OPERATOR(pg_catalog.=) 1 \
           AND a.datname OPERATOR(pg_catalog.=) pg_catalog.current_database() \
           AND ((l.classid::bigint OPERATOR(pg_catalog.<<) 32) OPERATOR(pg_catalog.|) l.objid::bigint) \
               OPERATOR(pg_catalog.=) {FLEET}",
    ))
    .get_result(conn)
    .optional()?;
    Ok(holder.map_or("one that has just ended".into(), |found| found.holder))
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
