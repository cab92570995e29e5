use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use diesel::{
    PgConnection,
    connection::{AnsiTransactionManager, SimpleConnection, TransactionManager},
    result::Error as DieselError,
};

use super::{TenantConn, set_path, switch, why_not};
use crate::{Error, SchemaName, quote};

type Manager = AnsiTransactionManager;

/// Runs the closure inside the tenant's schema, in a transaction that is proven to be there.
///
/// Beginning, switching and proving take one round trip, and so do proving again and committing: as many
/// as a plain transaction. Inside a transaction, a test transaction or another scope, of the same tenant
/// or another, a savepoint takes the transaction's place, and the path it found is put back exactly.
///
/// Everything is rolled back when the closure returns an error or panics, when it left the schema by
/// changing the path, and when it dropped the error of a failed query: PostgreSQL then commits nothing,
/// and Diesel's own `transaction` would report success.
///
/// # Errors
///
/// The closure's; [`Error::MissingSchema`] and [`Error::NoUsage`] before it runs; [`Error::LeftScope`],
/// [`Error::SwallowedError`] and those of the commit, such as a deferred foreign key's, after it.
///
/// ```no_run
/// # use diesel::prelude::*;
/// # use tenantry::{SchemaName, pg::scope};
/// # diesel::table! { projects (id) { id -> Integer, name -> Text, } }
/// # let conn = &mut PgConnection::establish("")?;
/// let acme: SchemaName = "acme".parse()?;
/// let many: i64 = scope::transaction(conn, &acme, |tenant| projects::table.count().get_result(tenant.conn()))?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn transaction<T, E: From<Error>>(
    conn: &mut PgConnection,
    schema: &SchemaName,
    work: impl FnOnce(&mut TenantConn<'_>) -> Result<T, E>,
) -> Result<T, E> {
    let scope = enter(conn, schema)?;
    let mut tenant = TenantConn::new(conn, schema.clone());
    // Diesel's own `transaction` leaves the transaction open when the closure panics.
    let result = catch_unwind(AssertUnwindSafe(|| work(&mut tenant)));
    match result {
        Ok(Ok(value)) => match leave(conn, schema, &scope) {
            Ok(()) => Ok(value),
            Err(error) => Err(error.into()),
        },
        Ok(Err(error)) => {
            abandon(conn, schema);
            Err(error)
        }
        Err(panic) => {
            abandon(conn, schema);
            resume_unwind(panic)
        }
    }
}

/// What to put back.
enum Scope {
    /// Nothing: the transaction's end does it.
    Outermost,
    /// A savepoint's path survives its release.
    Nested { path_before: String, mark_before: Option<String> },
}

fn enter(conn: &mut PgConnection, schema: &SchemaName) -> Result<Scope, Error> {
    let begin = format!(
        "BEGIN; SELECT set_config('search_path', {path}, true), set_config('tenantry.scope', 'transaction', true), {proof}",
        path = quote::literal(&schema.quoted()),
        proof = proof(schema),
    );
    match Manager::begin_transaction_sql(conn, &begin) {
        Ok(()) => Ok(Scope::Outermost),
        Err(DieselError::AlreadyInTransaction) => nest(conn, schema),
        Err(error) => {
            // Diesel believes that nothing began.
            conn.batch_execute("ROLLBACK")?;
            Err(if strayed(&error).is_some() { why_not(conn, schema)? } else { error.into() })
        }
    }
}

fn nest(conn: &mut PgConnection, schema: &SchemaName) -> Result<Scope, Error> {
    Manager::begin_transaction(conn)?;
    match switch(conn, schema, true) {
        Ok(before) => Ok(Scope::Nested { path_before: before.path_before, mark_before: before.mark_before }),
        Err(error) => {
            abandon(conn, schema);
            Err(error)
        }
    }
}

fn leave(conn: &mut PgConnection, schema: &SchemaName, scope: &Scope) -> Result<(), Error> {
    let left = match scope {
        Scope::Outermost => commit(conn, schema),
        Scope::Nested { path_before, mark_before } => release(conn, schema, path_before, mark_before.as_deref()),
    };
    if left.is_err() {
        abandon(conn, schema);
    }
    left
}

fn commit(conn: &mut PgConnection, schema: &SchemaName) -> Result<(), Error> {
    // The transaction is known to be ours and the outermost, so the textual COMMIT ends what it should,
    // and Diesel learns from the connection's status that it did.
    conn.batch_execute(&format!("SELECT {}; COMMIT", proof(schema))).map_err(|error| match strayed(&error) {
        Some(path) => Error::LeftScope { schema: schema.clone(), path },
        // A COMMIT that fails ends the transaction; where it is still open, it had failed before.
        None if in_transaction(conn) => Error::SwallowedError { schema: schema.clone() },
        None => error.into(),
    })
}

fn release(conn: &mut PgConnection, schema: &SchemaName, path: &str, mark: Option<&str>) -> Result<(), Error> {
    let visible = match set_path(conn, path, mark, true) {
        Err(_) if in_transaction(conn) => return Err(Error::SwallowedError { schema: schema.clone() }),
        visible => visible?,
    };
    if visible != [schema.as_str()] {
        return Err(Error::LeftScope { schema: schema.clone(), path: visible.join(", ") });
    }
    Ok(Manager::commit_transaction(conn)?)
}

/// Rolls back what [`enter`] began, if it is still there.
fn abandon(conn: &mut PgConnection, schema: &SchemaName) {
    match Manager::rollback_transaction(conn) {
        Ok(()) | Err(DieselError::NotInTransaction) => {}
        // The connection is lost, and the server rolls back by itself: the first error is the one to tell.
        Err(error) => tracing::warn!(tenant.schema = %schema, %error, "Could not roll back in `{schema}`"),
    }
}

fn in_transaction(conn: &mut PgConnection) -> bool {
    matches!(Manager::transaction_manager_status_mut(conn).transaction_depth(), Ok(Some(_)))
}

/// What [`proof`] puts before the path it found.
const STRAYED: &str = "tenantry: search_path is ";

/// An expression that fails unless the schema is alone on the path, for a message whose results nobody reads.
///
/// The failure is a cast whose text the server repeats in its error, in whatever language that is.
pub(crate) fn proof(schema: &SchemaName) -> String {
    format!(
        "CASE WHEN current_schemas(false) = ARRAY[{name}]::name[] THEN 0 \
         ELSE ({strayed} || current_setting('search_path'))::int END",
        name = quote::literal(schema.as_str()),
        strayed = quote::literal(STRAYED),
    )
}

/// The path that [`proof`] found instead of the schema.
pub(crate) fn strayed(error: &DieselError) -> Option<String> {
    let DieselError::DatabaseError(_, about) = error else { return None };
    let (_, path) = about.message().split_once(STRAYED)?;
    Some(path.strip_suffix('"').unwrap_or(path).into())
}
