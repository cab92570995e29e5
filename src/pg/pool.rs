//! An r2d2 pool whose connections come out with the search_path they were born with.

use diesel::{PgConnection, connection::SimpleConnection, r2d2::R2D2Connection};
use r2d2::ManageConnection;

use crate::{Config, Error};

/// A pool of connections that forget the last borrower's search_path.
pub type Pool = r2d2::Pool<Manager>;

/// A connection lent by a [`Pool`]. `&mut` of it is taken wherever a `&mut PgConnection` is.
pub type PooledConnection = r2d2::PooledConnection<Manager>;

/// Opens connections, and resets their search_path whenever one is lent.
///
/// A `SET search_path` that a borrower left behind would send the next one's rows into another tenant.
/// r2d2 knows no hook for the return of a connection, so the reset takes the place of the ping that
/// each checkout makes anyway, and costs nothing more. A connection that comes back inside a
/// transaction, or broken, is closed.
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

/// The path, the scope's mark, and temporary tables, which would be found before a tenant's of the same name.
const RESET: &str = "RESET search_path; SET tenantry.scope = ''; DISCARD TEMP";

impl ManageConnection for Manager {
    type Connection = PgConnection;
    type Error = Error;

    fn connect(&self) -> Result<PgConnection, Error> {
        super::connect(&self.config)
    }

    fn is_valid(&self, conn: &mut PgConnection) -> Result<(), Error> {
        Ok(conn.batch_execute(RESET)?)
    }

    fn has_broken(&self, conn: &mut PgConnection) -> bool {
        std::thread::panicking() || conn.is_broken()
    }
}

/// Opens a pool of the settings' size, timeout and lifetime.
///
/// One connection is opened first, so that a wrong password or address is told at once, in the server's
/// own words, and not after the pool's timeout.
///
/// # Errors
///
/// [`Error::Connect`] or [`Error::Pool`].
///
/// ```no_run
/// use tenantry::{Config, pg::pool};
///
/// let pool = pool::open(Config::from_env()?)?;
/// let mut conn = pool.get()?;
/// # Ok::<(), tenantry::Error>(())
/// ```
pub fn open(config: Config) -> Result<Pool, Error> {
    drop(super::connect(&config)?);
    let pool = r2d2::Pool::builder()
        .max_size(config.pool_size)
        .min_idle(Some(1))
        .connection_timeout(config.pool_timeout)
        .max_lifetime(Some(config.pool_max_lifetime))
        .build(Manager::new(config))?;
    Ok(pool)
}
