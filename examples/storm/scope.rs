//! How a borrower comes to a connection and into a tenant: the library's way, and what the broken ways share.

use std::{ops::DerefMut, time::Duration};

use diesel::{Connection, PgConnection};
use tenantry::{
    Config, Error, SchemaName,
    pg::{
        pool,
        scope::{self, TenantConn},
    },
};

use super::fault::Fault;

/// A connection of any pool.
pub type Borrowed = Box<dyn DerefMut<Target = PgConnection>>;

/// What is done inside a tenant.
pub type Work<'w> = &'w mut dyn FnMut(&mut Entered<'_, '_>) -> Result<(), Fault>;

/// A pool, and a way into a tenant on its connections.
pub trait Scope: Sync {
    /// Borrows a connection.
    fn get(&self) -> Result<Borrowed, Fault>;
    /// Runs the work in the tenant, all or nothing.
    fn transaction(&self, conn: &mut PgConnection, schema: &SchemaName, work: Work<'_>) -> Result<(), Fault>;
    /// Runs the work in the tenant, each statement in a transaction of its own.
    fn session(&self, conn: &mut PgConnection, schema: &SchemaName, work: Work<'_>) -> Result<(), Fault>;
}

/// A connection inside a tenant.
pub enum Entered<'a, 'c> {
    /// By a scope of the library.
    Proven(&'a mut TenantConn<'c>),
    /// By a broken one.
    Plain(&'a mut PgConnection),
}

impl Entered<'_, '_> {
    pub fn conn(&mut self) -> &mut PgConnection {
        match self {
            Self::Proven(tenant) => tenant.conn(),
            Self::Plain(conn) => conn,
        }
    }

    /// Runs the work all or nothing, in the same tenant.
    pub fn savepoint(&mut self, work: Work<'_>) -> Result<(), Fault> {
        match self {
            Self::Proven(tenant) => tenant.transaction(|tenant| work(&mut Entered::Proven(tenant))),
            Self::Plain(conn) => conn.transaction(|conn| work(&mut Entered::Plain(conn))),
        }
    }

    pub fn ensure_current(&mut self) -> Result<(), Fault> {
        match self {
            Self::Proven(tenant) => Ok(tenant.ensure_current()?),
            Self::Plain(_) => Ok(()),
        }
    }
}

/// The library's pool and scopes.
pub struct Tenantry(pool::Pool);

impl Tenantry {
    pub fn open(url: &str, size: u32) -> Self {
        let mut config = Config::new(url.parse().expect("a URL"));
        (config.pool_size, config.pool_timeout) = (size, Duration::from_secs(10));
        Self(pool::open(config).expect("a pool"))
    }
}

impl Scope for Tenantry {
    fn get(&self) -> Result<Borrowed, Fault> {
        Ok(Box::new(self.0.get().map_err(Error::from)?))
    }

    fn transaction(&self, conn: &mut PgConnection, schema: &SchemaName, work: Work<'_>) -> Result<(), Fault> {
        transaction(conn, schema, work)
    }

    fn session(&self, conn: &mut PgConnection, schema: &SchemaName, work: Work<'_>) -> Result<(), Fault> {
        session(conn, schema, work)
    }
}

pub fn transaction(conn: &mut PgConnection, schema: &SchemaName, work: Work<'_>) -> Result<(), Fault> {
    scope::transaction(conn, schema, |tenant| work(&mut Entered::Proven(tenant)))
}

pub fn session(conn: &mut PgConnection, schema: &SchemaName, work: Work<'_>) -> Result<(), Fault> {
    let mut guard = scope::session(conn, schema)?;
    work(&mut Entered::Proven(&mut guard))
}
