//! A pooler in transaction mode, such as PgBouncer: it lends the server's connections for one transaction at a time, so
//! whatever belongs to a session (locks, settings, prepared statements) is lost, or reaches another client.

use diesel::{
    PgConnection, QueryResult, RunQueryDsl, connection::SimpleConnection, dsl::sql, select, sql_types::Integer,
};

use super::{KEEP_OPEN, establish};
use crate::{Config, Error};

/// Which process of the server answers on this connection.
pub(crate) fn backend(conn: &mut PgConnection) -> QueryResult<i32> {
    // SQL text is never prepared under a name, so this also works where other clients' statements are in the way.
    select(sql::<Integer>("pg_catalog.pg_backend_pid()")).get_result(conn)
}

/// Refuses a database that is behind a pooler in transaction mode, with two connections that leave nothing behind.
///
/// # Errors
///
/// [`Error::Pooler`], or those of the connections.
pub(crate) fn check(config: &Config) -> Result<(), Error> {
    refuse(&mut establish(config)?, &mut establish(config)?)
}

/// Opens connections, of which the first two are those that have shown that no pooler in transaction mode answers.
///
/// # Errors
///
/// [`Error::Pooler`], or those of the connections.
#[cfg(feature = "cli")]
pub(crate) fn checked(config: &Config) -> Result<impl Fn() -> Result<PgConnection, Error> + Sync, Error> {
    use std::sync::{Mutex, PoisonError};

    use super::{connect, session};

    let (mut one, mut other) = (establish(config)?, establish(config)?);
    refuse(&mut one, &mut other)?;
    session::begin(&mut one, config)?;
    session::begin(&mut other, config)?;
    let first = Mutex::new(vec![one, other]);
    let next = move || first.lock().unwrap_or_else(PoisonError::into_inner).pop();
    let config = config.clone();
    Ok(move || next().map_or_else(|| connect(&config), Ok))
}

/// Opens two connections, each with a process of the server to itself, which no idle timeout ends.
///
/// # Errors
///
/// [`Error::Pooler`], or those of the connections.
pub(crate) fn pair(connect: &dyn Fn() -> Result<PgConnection, Error>) -> Result<(PgConnection, PgConnection), Error> {
    let (mut one, mut other) = (connect()?, connect()?);
    refuse(&mut one, &mut other)?;
    one.batch_execute(KEEP_OPEN)?;
    other.batch_execute(KEEP_OPEN)?;
    Ok((one, other))
}

/// Refuses two connections that a pooler in transaction mode answers, and leaves nothing behind in either.
///
/// An idle pooler lends one of the server's connections to both, and a busy one changes it between two queries. The
/// order keeps a pooler that lends its connections in turns from giving each of the two its own every time.
///
/// # Errors
///
/// [`Error::Pooler`].
pub(crate) fn refuse(one: &mut PgConnection, other: &mut PgConnection) -> Result<(), Error> {
    let backends = (backend(one)?, backend(other)?);
    if backends.0 == backends.1 {
        return Err(Error::Pooler { reason: "two connections have the same process of the server".into() });
    }
    for _ in 0..TRIES {
        if (backend(other)?, backend(one)?) != (backends.1, backends.0) {
            return Err(changed());
        }
        if (backend(one)?, backend(other)?) != backends {
            return Err(changed());
        }
    }
    Ok(())
}

/// How often two connections are asked: a busy pooler with `n` connections passes each time with a chance of about
/// `1/n⁴`.
const TRIES: u32 = 2;

/// Refuses a connection that is not answered by this process of the server any more.
///
/// # Errors
///
/// [`Error::Pooler`].
pub(crate) fn refuse_other(conn: &mut PgConnection, expected: i32) -> Result<(), Error> {
    if backend(conn)? == expected { Ok(()) } else { Err(changed()) }
}

/// The error of a new connection on which another client has prepared a statement.
pub(crate) fn shared() -> Error {
    Error::Pooler { reason: "a new connection has another client's session".into() }
}

/// The error of a connection that has changed its process.
pub(crate) fn changed() -> Error {
    Error::Pooler { reason: "one connection has several processes of the server".into() }
}
