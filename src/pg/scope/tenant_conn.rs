use std::ops::{Deref, DerefMut};

use diesel::PgConnection;

use super::{Mark, path, transaction};
use crate::{Error, SchemaName, pg::depth};

/// A connection inside one tenant's schema.
///
/// There is no way to make one but a scope, so a function that takes `&mut TenantConn` says in its
/// signature that it must run inside a tenant, and a bare connection there does not compile:
///
/// ```compile_fail,E0308
/// # use diesel::{PgConnection, prelude::*};
/// # use tenantry::pg::scope::TenantConn;
/// fn count_projects(tenant: &mut TenantConn<'_>) -> QueryResult<i64> {
///     diesel::dsl::sql::<diesel::sql_types::BigInt>("SELECT count(*) FROM projects").get_result(tenant.conn())
/// }
///
/// fn handler(conn: &mut PgConnection) -> QueryResult<i64> {
///     count_projects(conn)
/// }
/// ```
///
/// Where Diesel wants a connection, hand it [`conn`](TenantConn::conn).
#[allow(missing_debug_implementations)] // `PgConnection` has none
pub struct TenantConn<'c> {
    conn: &'c mut PgConnection,
    schema: SchemaName,
    mark: Mark,
}

impl<'c> TenantConn<'c> {
    pub(super) fn new(conn: &'c mut PgConnection, schema: SchemaName, mark: Mark) -> Self {
        Self { conn, schema, mark }
    }

    /// By which the scope knows its transaction again.
    pub(crate) fn mark(&self) -> &Mark {
        &self.mark
    }

    /// The tenant's schema.
    pub fn schema(&self) -> &SchemaName {
        &self.schema
    }

    /// The connection, for Diesel's queries.
    pub fn conn(&mut self) -> &mut PgConnection {
        self.conn
    }

    /// Proves, in one round trip, that this is still the scope's transaction, and that the tenant is alone on the path:
    /// for critical code that runs after code which may have changed either.
    ///
    /// # Errors
    ///
    /// [`Error::LeftScope`] with the path that was found, [`Error::TransactionEnded`] or [`Error::SchemaReplaced`].
    pub fn ensure_current(&mut self) -> Result<(), Error> {
        let found = path::find(self.conn, &self.schema)?;
        self.mark.check(&self.schema, &found)
    }

    /// Runs the closure all or nothing: in a transaction, or in a savepoint when one is under way.
    ///
    /// After its error, what the transaction had done before can still be committed.
    ///
    /// # Errors
    ///
    /// The closure's, and those of [`scope::transaction`](super::transaction()).
    pub fn transaction<T, E: From<Error>>(
        &mut self,
        work: impl FnOnce(&mut TenantConn<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        transaction::savepoint(self, work)
    }

    /// Runs the closure in the transaction that is under way, or else in one of its own.
    ///
    /// Saves the savepoint's two round trips, for a closure of which every error should end the whole
    /// transaction.
    ///
    /// # Errors
    ///
    /// The closure's, and those of [`scope::transaction`](super::transaction()).
    pub fn in_transaction<T, E: From<Error>>(
        &mut self,
        work: impl FnOnce(&mut TenantConn<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        match depth(self.conn) > 0 {
            true => work(self),
            false => transaction::transaction(self.conn, &self.schema, work),
        }
    }
}

impl Deref for TenantConn<'_> {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        self.conn
    }
}

impl DerefMut for TenantConn<'_> {
    fn deref_mut(&mut self) -> &mut PgConnection {
        self.conn
    }
}
