//! What is recorded of a migration that has ended its own transaction: a half of it is committed, with its record.

use diesel::{PgConnection, QueryResult, connection::SimpleConnection};

use super::step::{Direction, Step};
use crate::{
    SchemaName,
    pg::{atomically, ddl},
    runs,
};

/// Makes the history say of the first of these steps that it was not done, and the run's own record of all of them.
///
/// The others were to come after it in the same transaction.
pub(super) fn forget(
    run: Option<i64>,
    conn: &mut PgConnection,
    schema: &SchemaName,
    steps: &[Step<'_>],
) -> QueryResult<()> {
    let Some(step) = steps.first() else { return Ok(()) };
    let version = step.migration.version();
    let history = match step.direction {
        Direction::Up => ddl::delete_version(schema, version),
        Direction::Down => ddl::insert_version(schema, version),
    };
    let versions: Vec<&str> = steps.iter().map(|step| step.migration.version()).collect();
    atomically(conn, |conn| {
        conn.batch_execute(&history)?;
        run.map_or(Ok(()), |run| runs::forget_steps(conn, run, schema, &versions))
    })
}
