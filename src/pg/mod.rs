//! One connection, and nothing of tenants.

pub(crate) mod catalog;
pub(crate) mod closed;
pub(crate) mod ddl;
pub(crate) mod engine;
pub(crate) mod fleet_lock;
pub(crate) mod lexer;
pub(crate) mod lock;
pub(crate) mod messages;
pub(crate) mod own;
pub mod pool;
pub(crate) mod pooler;
pub mod scope;
mod session;
pub(crate) mod statements;
pub(crate) mod tables;
pub(crate) mod transient;
pub(crate) mod trust;
pub(crate) mod untrusted;
pub(crate) mod xact;

use std::{
    num::NonZeroU32,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    time::Duration,
};

use diesel::{
    Connection, ConnectionError, PgConnection,
    connection::{AnsiTransactionManager as Manager, TransactionManager},
    result::Error as DieselError,
};

use crate::{Config, Error};

/// The statement that has no idle timeout end the session, for one that may have to wait for others, or for an answer.
/// PostgreSQL 13 does not have that setting.
pub(crate) const KEEP_OPEN: &str = "SELECT CASE WHEN pg_catalog.current_setting('idle_session_timeout', true) IS NOT NULL \
     THEN pg_catalog.set_config('idle_session_timeout', '0', false) END";

/// Opens one connection, with the settings' bound on waiting and, where the role may choose, messages in English.
///
/// Outside of scopes a bare table name finds what [`Config::outside_scopes`] says: nothing, by default.
///
/// It fails when the server has not read for 15 seconds what it was sent, as a server does that is gone; but so does one
/// that waits for a lock in the middle of a large `COPY ... FROM STDIN`. For that, take a connection of the pool, or set
/// `tcp_user_timeout` in the URL.
///
/// # Errors
///
/// [`Error::Connect`], on one line and without the password, and those of its first query.
pub fn connect(config: &Config) -> Result<PgConnection, Error> {
    begun(establish(config)?, config)
}

/// Opens one connection for the pool. What is sent through it may be more than the server, or a pooler whose connections
/// are all lent, reads at once.
fn connect_pooled(config: &Config) -> Result<PgConnection, Error> {
    begun(establish_with(config, None)?, config)
}

fn begun(mut conn: PgConnection, config: &Config) -> Result<PgConnection, Error> {
    session::begin(&mut conn, config)?;
    Ok(conn)
}

/// How long what is sent may wait to be read.
const UNREAD: Duration = Duration::from_secs(15);

/// Opens one connection, and leaves its session as it is.
fn establish(config: &Config) -> Result<PgConnection, Error> {
    establish_with(config, Some(UNREAD))
}

fn establish_with(config: &Config, unread: Option<Duration>) -> Result<PgConnection, Error> {
    let url = config.database_url.for_libpq(config.connect_timeout, unread);
    PgConnection::establish(&url).map_err(|error| {
        let reason = match error {
            ConnectionError::BadConnection(words) => {
                let line = words.split_whitespace().collect::<Vec<_>>().join(" ");
                // What libpq or the server do not understand they quote.
                config.database_url.hide_in(line.trim_end_matches('.'))
            }
            other => other.to_string(),
        };
        Error::Connect { url: config.database_url.to_string(), reason }
    })
}

/// Runs the closure in a transaction or, inside one, in a savepoint: Diesel's `transaction`, rolled back on a
/// panic too.
///
/// # Errors
///
/// The closure's, and those of the commit.
pub fn atomically<T, E: From<DieselError>>(
    conn: &mut PgConnection,
    work: impl FnOnce(&mut PgConnection) -> Result<T, E>,
) -> Result<T, E> {
    let outside = depth(conn);
    Manager::begin_transaction(conn)?;
    match catch_unwind(AssertUnwindSafe(|| work(conn))) {
        Ok(Ok(value)) => {
            Manager::commit_transaction(conn)?;
            Ok(value)
        }
        Ok(Err(error)) => {
            roll_back_to(conn, outside);
            Err(error)
        }
        Err(panic) => {
            roll_back_to(conn, outside);
            resume_unwind(panic)
        }
    }
}

/// How many transactions and savepoints Diesel has under way; none on a connection that is lost.
pub(crate) fn depth(conn: &mut PgConnection) -> u32 {
    let depth = Manager::transaction_manager_status_mut(conn).transaction_depth();
    depth.ok().flatten().map_or(0, NonZeroU32::get)
}

/// Whether Diesel knows the connection to be lost.
pub(crate) fn is_lost(conn: &mut PgConnection) -> bool {
    Manager::transaction_manager_status_mut(conn).transaction_depth().is_err()
}

/// Rolls back all that began since the depth was this, and returns whether that could be done. A panic inside Diesel's
/// own `transaction` leaves that one open, so there may be more than one.
pub(crate) fn roll_back_to(conn: &mut PgConnection, outside: u32) -> bool {
    while depth(conn) > outside {
        if let Err(error) = Manager::rollback_transaction(conn) {
            // The connection is lost, and the server rolls back by itself: the first error is the one to report. Or
            // there is no such savepoint any more.
            tracing::warn!(%error, "Could not roll back");
            return false;
        }
    }
    !is_lost(conn)
}
