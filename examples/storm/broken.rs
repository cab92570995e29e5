//! Three scopes as they are often written. The storm finds violations in each, or else it would find none anywhere.

use std::time::Duration;

use diesel::{
    Connection, PgConnection,
    connection::SimpleConnection,
    r2d2::{ConnectionManager, Pool},
};
use tenantry::{Error, SchemaName};

use super::{
    fault::Fault,
    scope::{self, Borrowed, Entered, Scope, Tenantry, Work},
};

/// `SET search_path`, no transaction, and no reset.
pub struct PlainSet(pub Tenantry);

impl Scope for PlainSet {
    fn get(&self) -> Result<Borrowed, Fault> {
        self.0.get()
    }

    fn transaction(&self, conn: &mut PgConnection, schema: &SchemaName, work: Work<'_>) -> Result<(), Fault> {
        set_path(conn, "SET", schema)?;
        work(&mut Entered::Plain(conn))
    }

    fn session(&self, conn: &mut PgConnection, schema: &SchemaName, work: Work<'_>) -> Result<(), Fault> {
        self.transaction(conn, schema, work)
    }
}

/// Diesel's own transaction, `SET LOCAL search_path` to the tenant and `public`, and no proof at the end.
pub struct NoProof(pub Tenantry);

impl Scope for NoProof {
    fn get(&self) -> Result<Borrowed, Fault> {
        self.0.get()
    }

    fn transaction(&self, conn: &mut PgConnection, schema: &SchemaName, work: Work<'_>) -> Result<(), Fault> {
        conn.transaction(|conn| {
            set_path(conn, "SET LOCAL", schema)?;
            work(&mut Entered::Plain(conn))
        })
    }

    fn session(&self, conn: &mut PgConnection, schema: &SchemaName, work: Work<'_>) -> Result<(), Fault> {
        set_path(conn, "SET", schema)?;
        let result = work(&mut Entered::Plain(conn));
        conn.batch_execute("RESET search_path")?;
        result
    }
}

fn set_path(conn: &mut PgConnection, set: &str, schema: &SchemaName) -> Result<(), Fault> {
    Ok(conn.batch_execute(&format!("{set} search_path TO \"{schema}\", public"))?)
}

/// The library's scopes on Diesel's own pool, which lends a connection as it came back.
pub struct LeakyPool(Pool<ConnectionManager<PgConnection>>);

impl LeakyPool {
    pub fn open(url: &str, size: u32) -> Self {
        let builder = Pool::builder().max_size(size).min_idle(Some(1)).connection_timeout(Duration::from_secs(10));
        Self(builder.build(ConnectionManager::new(url)).expect("a pool"))
    }
}

impl Scope for LeakyPool {
    fn get(&self) -> Result<Borrowed, Fault> {
        Ok(Box::new(self.0.get().map_err(Error::from)?))
    }

    fn transaction(&self, conn: &mut PgConnection, schema: &SchemaName, work: Work<'_>) -> Result<(), Fault> {
        scope::transaction(conn, schema, work)
    }

    fn session(&self, conn: &mut PgConnection, schema: &SchemaName, work: Work<'_>) -> Result<(), Fault> {
        scope::session(conn, schema, work)
    }
}
