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

use crate::{Error, SchemaName, quote};

/// Takes the schema's lock until the end of the transaction, or of the savepoint if that is rolled back.
pub(crate) fn schema(conn: &mut PgConnection, schema: &SchemaName, patience: Duration) -> Result<(), Error> {
    let started = Instant::now();
    let mut pause = Duration::from_millis(5);
    while !try_lock(conn, schema)? {
        if started.elapsed() >= patience {
            return Err(Error::Locked { schema: schema.clone(), waited: patience });
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(200));
    }
    Ok(())
}

/// Bounds every wait for a lock of a row or a table, until the end of the transaction.
pub(crate) fn timeout(conn: &mut PgConnection, patience: Duration) -> QueryResult<()> {
    conn.batch_execute(&format!("SET LOCAL lock_timeout = {}", patience.as_millis().max(1)))
}

/// An expression that takes the schema's lock, or fails: for a message whose results nobody reads.
pub(crate) fn must_lock(schema: &SchemaName) -> String {
    let name = quote::literal(&format!("tenantry:{schema}"));
    format!(
        "CASE WHEN pg_try_advisory_xact_lock(hashtextextended({name}, 0)) THEN 0 ELSE ('locked: ' || now())::int END"
    )
}

fn try_lock(conn: &mut PgConnection, schema: &SchemaName) -> Result<bool, Error> {
    let locked = sql::<Bool>("pg_try_advisory_xact_lock(hashtextextended(")
        .bind::<Text, _>(format!("tenantry:{schema}"))
        .sql(", 0))");
    Ok(select(locked).get_result(conn)?)
}
