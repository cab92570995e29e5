//! One connection, and nothing of tenants.

pub(crate) mod catalog;
pub(crate) mod ddl;
pub(crate) mod engine;
pub(crate) mod lock;
pub mod pool;
pub mod scope;
pub(crate) mod structure;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use diesel::{Connection, ConnectionError, PgConnection, result::Error as DieselError};

use crate::{Config, Error};

/// Opens one connection, with the settings' bound on waiting.
///
/// # Errors
///
/// [`Error::Connect`], on one line and without the password.
pub fn connect(config: &Config) -> Result<PgConnection, Error> {
    PgConnection::establish(&config.database_url.for_libpq(config.connect_timeout)).map_err(|error| {
        let reason = match error {
            ConnectionError::BadConnection(words) => {
                words.split_whitespace().collect::<Vec<_>>().join(" ").trim_end_matches('.').into()
            }
            other => other.to_string(),
        };
        Error::Connect { url: config.database_url.to_string(), reason }
    })
}

/// Runs the closure in a transaction or, inside one, in a savepoint: Diesel's `transaction`, rolled back on a panic too.
///
/// # Errors
///
/// The closure's, and those of the commit.
pub fn atomically<T, E: From<DieselError>>(
    conn: &mut PgConnection,
    work: impl FnOnce(&mut PgConnection) -> Result<T, E>,
) -> Result<T, E> {
    let mut panicked = None;
    let result = conn.transaction(|conn| {
        catch_unwind(AssertUnwindSafe(|| work(conn))).unwrap_or_else(|panic| {
            panicked = Some(panic);
            Err(DieselError::RollbackTransaction.into())
        })
    });
    match panicked {
        Some(panic) => resume_unwind(panic),
        None => result,
    }
}
