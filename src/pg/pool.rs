//! An r2d2 pool whose connections come out as if they had just been opened.

use diesel::{PgConnection, r2d2::R2D2Connection};
use r2d2::ManageConnection;

use super::{pooler, session};
use crate::{Config, Error, config::Pooler};

/// A pool of connections that keep nothing of their last borrower.
pub type Pool = r2d2::Pool<Manager>;

/// A connection lent by a [`Pool`]. `&mut` of it is taken wherever a `&mut PgConnection` is.
pub type PooledConnection = r2d2::PooledConnection<Manager>;

/// Opens connections, and makes each one clean again whenever it is lent.
///
/// An open transaction, a role, a setting such as `search_path`, a lock or a temporary table that a borrower left behind
/// would reach the next one's tenant. r2d2 knows no hook for the return of a connection, so what resets them takes
/// the place of the ping that each checkout makes anyway, in one round trip. What stays is what Diesel has prepared.
///
/// A connection is replaced that comes back inside a transaction that Diesel began, or broken; without its prepared
/// statements, after `DISCARD ALL` or `DEALLOCATE ALL`; or with one that fails for good, since a migration has changed
/// a column's type under it (`cached plan must not change result type`). The last of these is noticed by the
/// connection's [`Instrumentation`](diesel::connection::Instrumentation): set your own as Diesel's default, not on a
/// connection.
///
/// Behind a pooler in transaction mode ([`Pooler::Transaction`](crate::Pooler)) there is no session to be made clean: only
/// an open transaction is ended.
#[derive(Debug, Clone)]
pub struct Manager {
    config: Config,
}

impl Manager {
    /// A manager for this database. [`open`] is the short way to a pool of it.
    pub fn new(config: Config) -> Self {
        Self { config }
    }
}

impl ManageConnection for Manager {
    type Connection = PgConnection;
    type Error = Error;

    fn connect(&self) -> Result<PgConnection, Error> {
        super::connect_pooled(&self.config)
    }

    fn is_valid(&self, conn: &mut PgConnection) -> Result<(), Error> {
        session::reset(conn, &self.config)
    }

    fn has_broken(&self, conn: &mut PgConnection) -> bool {
        std::thread::panicking() || conn.is_broken() || session::has_stale_plans(conn)
    }
}

/// Opens a pool of the settings' size, timeout and lifetime.
///
/// Two connections are opened first, so that a wrong password or address is reported at once, in the server's own
/// words, and not after the pool's timeout, and so that a pooler in transaction mode is noticed that the settings do
/// not name.
///
/// # Errors
///
/// [`Error::Connect`], [`Error::Pooler`] or [`Error::Pool`].
///
/// ```no_run
/// use tenantry::{Config, pg::pool};
///
/// let pool = pool::open(Config::from_env()?)?;
/// let mut conn = pool.get()?;
/// # Ok::<(), tenantry::Error>(())
/// ```
pub fn open(config: Config) -> Result<Pool, Error> {
    match config.pooler {
        Pooler::Session => pooler::check(&config)?,
        Pooler::Transaction => drop(super::connect(&config)?),
    }
    let pool = r2d2::Pool::builder()
        .max_size(config.pool_size)
        .min_idle(Some(1))
        .connection_timeout(config.pool_timeout)
        .max_lifetime(Some(config.pool_max_lifetime))
        .build(Manager::new(config))?;
    Ok(pool)
}
