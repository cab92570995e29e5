use std::ops::{Deref, DerefMut};

use diesel::PgConnection;

use super::{
    TenantConn,
    mark::Mark,
    path::{Before, restore, switch},
};
use crate::{
    Error, SchemaName,
    pg::{depth, roll_back_to},
};

/// Sets the connection's search_path to the tenant, alone, until the guard drops.
///
/// For code that cannot hold a transaction for as long as it works in the tenant. Everything else is
/// better served by [`transaction`](super::transaction): behind a pooler in transaction mode a session's
/// path reaches other clients.
///
/// When the guard drops, the former path is restored. Where that fails because the connection is lost, or
/// inside a transaction that has failed, the pool's [`Manager`](crate::pg::pool::Manager) does not lend
/// the connection again before its session is reset.
///
/// # Errors
///
/// [`Error::MissingSchema`] and [`Error::NoUsage`]; the path is then as it was.
///
/// ```no_run
/// # use diesel::{Connection, PgConnection};
/// # use tenantry::{SchemaName, pg::scope};
/// # fn export(tenant: &mut scope::TenantConn<'_>) {}
/// # let conn = &mut PgConnection::establish("")?;
/// let acme: SchemaName = "acme".parse()?;
/// let mut tenant = scope::session(conn, &acme)?;
/// export(&mut tenant);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn session<'c>(conn: &'c mut PgConnection, schema: &SchemaName) -> Result<SessionScope<'c>, Error> {
    // Inside a transaction, what is set for the session would outlive what is set for the transaction.
    let outside = depth(conn);
    let mark = Mark::of_scope("session");
    let before = switch(conn, schema, &mark, outside > 0)?;
    let tenant = TenantConn::new(conn, schema.clone(), mark);
    Ok(SessionScope { tenant, before, outside })
}

/// A [`TenantConn`] whose search_path is restored when it drops. Made by [`session`].
#[allow(missing_debug_implementations)] // `PgConnection` has none
#[must_use = "the path is restored as soon as this drops"]
pub struct SessionScope<'c> {
    tenant: TenantConn<'c>,
    before: Before,
    /// The depth of transactions when it began.
    outside: u32,
}

impl<'c> Deref for SessionScope<'c> {
    type Target = TenantConn<'c>;

    fn deref(&self) -> &TenantConn<'c> {
        &self.tenant
    }
}

impl<'c> DerefMut for SessionScope<'c> {
    fn deref_mut(&mut self) -> &mut TenantConn<'c> {
        &mut self.tenant
    }
}

impl Drop for SessionScope<'_> {
    fn drop(&mut self) {
        // A panic inside Diesel's own `transaction` has left it open, and its end would undo what follows.
        roll_back_to(self.tenant.conn(), self.outside);
        let schema = self.tenant.schema().clone();
        let restored = restore(self.tenant.conn(), &schema, &self.before, self.outside > 0);
        if let Err(error) = restored {
            tracing::error!(tenant.schema = %schema, error = %error.chain(), "The search_path still points at `{schema}`");
        }
    }
}
