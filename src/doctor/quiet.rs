//! Transactions in which nothing can be written, and that nobody has to wait for.

use std::time::Duration;

use diesel::{PgConnection, connection::SimpleConnection};

use crate::{
    Error,
    pg::{self, closed::CLOSE},
};

/// Runs queries that all see one moment, write nothing, and give way where somebody holds a lock.
pub(super) fn quietly<T>(
    conn: &mut PgConnection,
    patience: Duration,
    work: impl FnOnce(&mut PgConnection) -> Result<T, Error>,
) -> Result<T, Error> {
    // Where a policy hides rows, an error is better than half an answer, and than its code.
    let begin = format!(
        "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL lock_timeout = 500; \
         SET LOCAL statement_timeout = {}; SET LOCAL jit = off; {CLOSE}",
        patience.as_millis().clamp(1, i32::MAX as u128),
    );
    pg::atomically(conn, |conn| {
        conn.batch_execute(&begin)?;
        work(conn)
    })
}
