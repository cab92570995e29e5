//! Migrations that no transaction can hold, `CREATE INDEX CONCURRENTLY` above all: one at a time in the whole fleet,
//! one statement at a time, and recorded afterwards.

use std::sync::{Mutex, PoisonError};

use diesel::{PgConnection, connection::SimpleConnection};

use super::{
    Run,
    apply::{explain, failed},
    set::Script,
    step::{self, Direction, Step},
};
use crate::{
    Error, SchemaName,
    error::BoxError,
    pg::{
        atomically, catalog, ddl, lock, pooler,
        scope::{self, TenantConn},
        statements,
    },
};

/// Two of them at a time would wait for each other's snapshots.
static LANE: Mutex<()> = Mutex::new(());

/// Takes one step without a transaction.
///
/// What its statements did before one failed stays done, but for an index that is left invalid: that is dropped.
pub(super) fn perform(
    run: &Run<'_>,
    conn: &mut PgConnection,
    schema: &SchemaName,
    step: Step<'_>,
) -> Result<(), Error> {
    let _span = step.span().entered();
    let is_taken = LANE.try_lock().is_err();
    let _lane = LANE.lock().unwrap_or_else(PoisonError::into_inner);
    // Who did not have to wait was under way already.
    if is_taken
        && run.is_ended()
        && let Some(reason) = run.why_ended()
    {
        return Err(Error::NotReached { reason });
    }
    // What follows needs one session, to its end.
    let backend = pooler::backend(conn)?;
    pooler::refuse_other(conn, backend)?;
    let mut session = scope::session(conn, schema)?;
    let before = lock::bounds(&mut session)?;
    lock::schema_for_session(&mut session, schema, run.lock_timeout, || run.is_stopped())?;
    session.batch_execute(&lock::bounding("SET", run.lock_timeout, run.statement_timeout))?;
    let outcome = locked(run.number, &mut session, step, backend);
    // A connection that is lost has lost its lock and its settings, too.
    let ended = lock::restore(&mut session, "SET", &before);
    let released = lock::release(&mut session, schema);
    outcome?;
    ended?;
    released
}

fn locked(number: Option<i64>, conn: &mut TenantConn<'_>, step: Step<'_>, backend: i32) -> Result<(), Error> {
    let (schema, mark) = (&conn.schema().clone(), conn.mark().clone());
    let recorded = catalog::recorded(conn, schema)?;
    let is_recorded = recorded.iter().any(|version| version == step.migration.version());
    if is_recorded == (step.direction == Direction::Up) {
        // Somebody else was quicker.
        return Ok(());
    }
    let fail = |source: BoxError| failed(schema, step, source);
    let invalid = catalog::invalid_indexes(conn, schema)?;
    match step.script().map_err(fail)? {
        Script::Sql(script) => one_by_one(conn, schema, script, &invalid, backend).map_err(fail)?,
        Script::Rust => return Err(fail("it is written in Rust: such a migration runs in a transaction".into())),
        Script::Missing => return Err(fail("it has no script for this".into())),
    }
    let broken: Vec<String> =
        catalog::invalid_indexes(conn, schema)?.into_iter().filter(|index| !invalid.contains(index)).collect();
    if !broken.is_empty() {
        return Err(fail(format!("it left an index that is not valid: {}", broken.join(", ")).into()));
    }
    conn.batch_execute(&format!("SELECT {}", scope::proof(schema, &mark)))
        .map_err(|error| fail(explain(error, schema, &mark)))?;
    atomically(conn, |conn| {
        conn.batch_execute(&step.record(schema))?;
        number.map_or(Ok(()), |number| Ok(conn.batch_execute(&step::remember(number, schema, &[step]))?))
    })
}

fn one_by_one(
    conn: &mut PgConnection,
    schema: &SchemaName,
    script: &str,
    invalid: &[String],
    backend: i32,
) -> Result<(), BoxError> {
    let statements = statements::split(script);
    for (at, statement) in statements.iter().enumerate() {
        // Another session would have another path, and not the lock.
        pooler::refuse_other(conn, backend)?;
        let index = statements::concurrent_index(statement);
        match &index {
            // Left by an attempt that was killed: no use to anybody, and in the way.
            Some(index) if invalid.contains(index) => {
                conn.batch_execute(&ddl::drop_index_concurrently(schema, index))?;
            }
            // Finished by one that was killed before it was recorded.
            Some(index) if is_made(conn, schema, index, statement) => continue,
            _ => {}
        }
        if let Err(error) = conn.batch_execute(statement) {
            clean_up(conn, schema, invalid, index);
            return Err(match at {
                0 => error.into(),
                _ => format!("statement {} of {}: {error}; those before it stay done", at + 1, statements.len()).into(),
            });
        }
    }
    Ok(())
}

/// Whether the index is there, and just as the statement would make it.
fn is_made(conn: &mut PgConnection, schema: &SchemaName, index: &str, statement: &str) -> bool {
    let Ok(Some((table, made))) = catalog::index(conn, schema, index) else { return false };
    let wanted = atomically(conn, |conn| {
        // The temporary table is found before the tenant's.
        conn.batch_execute(&ddl::copy_empty(schema, &table))?;
        conn.batch_execute(&statements::without_concurrently(statement))?;
        catalog::temporary_index(conn, index)
    });
    wanted.is_ok_and(|wanted| wanted == Some((table, made)))
}

/// Drops the indexes that a failed statement has left invalid: its own, and any that was not so before.
fn clean_up(conn: &mut PgConnection, schema: &SchemaName, before: &[String], own: Option<String>) {
    let left = catalog::invalid_indexes(conn, schema).unwrap_or_default();
    for index in left.into_iter().filter(|index| own.as_ref() == Some(index) || !before.contains(index)) {
        if let Err(error) = conn.batch_execute(&ddl::drop_index_concurrently(schema, &index)) {
            tracing::warn!(tenant.schema = %schema, index, %error, "An index that is not valid is left");
        }
    }
}
