use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use diesel::{
    PgConnection,
    connection::{AnsiTransactionManager, SimpleConnection, TransactionManager},
    result::Error as DieselError,
};

use super::{
    TenantConn,
    mark::{COMMITTED, MARK, Mark},
    path::{Before, restore, switch, why_not},
    proof::{broken, proof},
};
use crate::{
    Error, SchemaName,
    pg::{ddl, depth, is_lost, roll_back_to},
    quote,
};

type Manager = AnsiTransactionManager;

/// Runs the closure inside the tenant's schema, in a transaction that is proven to be there.
///
/// Beginning, switching and proving take one round trip, and so do proving again and committing: as many
/// as a plain transaction. Inside a transaction, a test transaction or another scope, of the same tenant
/// or another, a savepoint takes the transaction's place, and the path it found is put back exactly.
///
/// Everything is rolled back when the closure returns an error or panics, when it left the schema by
/// changing the path, and when it dropped the error of a failed query: PostgreSQL then commits nothing,
/// and Diesel's own `transaction` would report success. What the closure itself has committed, by a COMMIT that it
/// sent as SQL, cannot be rolled back: that is an error of its own.
///
/// # Errors
///
/// The closure's; [`Error::MissingSchema`] and [`Error::NoUsage`] before it runs; [`Error::LeftScope`],
/// [`Error::SchemaReplaced`], [`Error::TransactionEnded`], [`Error::SwallowedError`] and those of the commit, such as a
/// deferred foreign key's, after it. `TransactionEnded` takes the place of the closure's own error, too.
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
    let outside = depth(conn);
    let mark = Mark::of_scope("transaction");
    let begun = enter(conn, schema, &mark)?;
    run(TenantConn::new(conn, schema.clone(), mark), begun, outside, work)
}

/// [`transaction`] for a connection that is inside the schema: no more than a savepoint, where one will do.
pub(super) fn savepoint<T, E: From<Error>>(
    tenant: &mut TenantConn<'_>,
    work: impl FnOnce(&mut TenantConn<'_>) -> Result<T, E>,
) -> Result<T, E> {
    let (schema, mark) = (tenant.schema().clone(), tenant.mark().clone());
    let outside = depth(tenant);
    if outside == 0 {
        return transaction(tenant, &schema, work);
    }
    Manager::begin_transaction(tenant.conn()).map_err(Error::from)?;
    run(TenantConn::new(tenant, schema, mark), Begun::Savepoint, outside, work)
}

/// What was begun, and so what is to be ended.
enum Begun {
    /// A transaction, whose end restores the path.
    Transaction,
    /// A savepoint with a path of its own, which would survive its release.
    Nested(Before),
    /// A savepoint that left the path alone.
    Savepoint,
}

fn run<T, E: From<Error>>(
    mut tenant: TenantConn<'_>,
    begun: Begun,
    outside: u32,
    work: impl FnOnce(&mut TenantConn<'_>) -> Result<T, E>,
) -> Result<T, E> {
    // Diesel's own `transaction` leaves the transaction open when the closure panics.
    let result = catch_unwind(AssertUnwindSafe(|| work(&mut tenant)));
    let (schema, mark) = (tenant.schema().clone(), tenant.mark().clone());
    let conn = tenant.conn();
    let result = match result {
        Err(panic) => {
            let is_ended = depth(conn) <= outside;
            if (!roll_back_to(conn, outside) || is_ended)
                && let Err(error) = conn.batch_execute("ROLLBACK")
            {
                // Another transaction may have been begun by hand, of which Diesel does not know.
                tracing::warn!(%error, "Could not roll back");
            }
            resume_unwind(panic)
        }
        Ok(_) if !is_lost(conn) && depth(conn) <= outside => {
            Err(Failure::Scope(Error::TransactionEnded { schema: schema.clone(), committed: false }))
        }
        // What was begun inside and not ended would be committed half done, or end in our place.
        Ok(Ok(_)) if !is_lost(conn) && depth(conn) > outside + 1 => {
            Err(Failure::Scope(Error::SwallowedError { schema: schema.clone() }))
        }
        Ok(Ok(value)) => leave(conn, &schema, &mark, &begun).map(|()| value).map_err(Failure::Scope),
        Ok(Err(error)) => Err(Failure::Closure(error)),
    };
    result.map_err(|failure| {
        let is_ended = matches!(failure, Failure::Scope(Error::TransactionEnded { .. }));
        let committed = match begun {
            Begun::Transaction => was_committed(conn, &mark, is_ended).then_some(true),
            // Without its savepoint, it is another transaction. The one around it notices so, too, that it was ended.
            Begun::Nested(_) | Begun::Savepoint => {
                // Diesel reports success where there was no such savepoint, and leaves a failed transaction.
                let is_ended = is_ended || !roll_back_to(conn, outside) || conn.batch_execute("SELECT 1").is_err();
                (is_ended && conn.batch_execute("ROLLBACK").is_ok()).then_some(false)
            }
        };
        match committed {
            Some(committed) => Error::TransactionEnded { schema, committed }.into(),
            None => failure.into_error(),
        }
    })
}

/// Whose error it is.
enum Failure<E> {
    Scope(Error),
    Closure(E),
}

impl<E: From<Error>> Failure<E> {
    fn into_error(self) -> E {
        match self {
            Self::Scope(error) => error.into(),
            Self::Closure(error) => error,
        }
    }
}

fn enter(conn: &mut PgConnection, schema: &SchemaName, mark: &Mark) -> Result<Begun, Error> {
    // Statements that only set are cheaper than set_config(), and functions than operators, which the server would
    // choose among many: together that is most of what a scope costs. Without its schema, a tenant's own function might
    // be taken.
    let begin = format!(
        "BEGIN; {path}; SET {COMMITTED} TO '{number}'; \
         SELECT pg_catalog.set_config('{MARK}', pg_catalog.concat({mark}), true), pg_catalog.int4div(1, \
         pg_catalog.int4(coalesce(pg_catalog.nameeq(pg_catalog.current_schema(), {name}), false)))",
        path = ddl::set_path(schema),
        number = mark.number,
        mark = mark.parts(schema),
        name = quote::literal(schema.as_str()),
    );
    match Manager::begin_transaction_sql(conn, &begin) {
        Ok(()) => Ok(Begun::Transaction),
        Err(DieselError::AlreadyInTransaction) => nest(conn, schema, mark),
        Err(error) => {
            // Diesel believes that nothing began.
            conn.batch_execute("ROLLBACK")?;
            Err(match (why_not(conn, schema)?, error) {
                (Some(reason), _) => reason,
                // It was renamed away, and is back.
                (None, DieselError::DatabaseError(..)) => Error::MissingSchema { schema: schema.clone() },
                (None, error) => error.into(),
            })
        }
    }
}

fn nest(conn: &mut PgConnection, schema: &SchemaName, mark: &Mark) -> Result<Begun, Error> {
    let outside = depth(conn);
    Manager::begin_transaction(conn)?;
    let switched = switch(conn, schema, mark, true);
    if switched.is_err() {
        roll_back_to(conn, outside);
    }
    switched.map(Begun::Nested)
}

/// Ends what was begun. After an error it may still be there, for the caller to roll back.
fn leave(conn: &mut PgConnection, schema: &SchemaName, mark: &Mark, begun: &Begun) -> Result<(), Error> {
    match begun {
        Begun::Transaction => commit(conn, schema, mark),
        Begun::Nested(before) => {
            let found = restore(conn, schema, before, true).map_err(|error| swallowed(conn, schema, error))?;
            mark.check(schema, &found)?;
            release(conn, schema)
        }
        Begun::Savepoint => release(conn, schema),
    }
}

fn commit(conn: &mut PgConnection, schema: &SchemaName, mark: &Mark) -> Result<(), Error> {
    // The transaction is known to be the outermost, so the textual COMMIT ends what it should, and Diesel learns from
    // the connection's status that it did.
    let committed = conn.batch_execute(&format!("SELECT {}; COMMIT", proof(schema, mark)));
    committed.map_err(|error| match broken(&error, schema, mark) {
        Some(broken) => broken,
        None => swallowed(conn, schema, error.into()),
    })
}

fn release(conn: &mut PgConnection, schema: &SchemaName) -> Result<(), Error> {
    Manager::commit_transaction(conn).map_err(|error| swallowed(conn, schema, error.into()))
}

/// What an error at a scope's end means: a statement before it had failed, unless the transaction is over,
/// because the COMMIT itself failed or the connection is lost.
fn swallowed(conn: &mut PgConnection, schema: &SchemaName, error: Error) -> Error {
    if depth(conn) > 0 { Error::SwallowedError { schema: schema.clone() } } else { error }
}

/// Rolls back, and finds out whether a part of the transaction had been committed before: then what it has set for the
/// session is still there.
///
/// Where the transaction was ended by hand, another may be open of which Diesel does not know.
fn was_committed(conn: &mut PgConnection, mark: &Mark, is_ended: bool) -> bool {
    // Diesel takes a connection for lost, too, whose savepoint was ended by hand, until the server says otherwise.
    let rollback = if is_ended || is_lost(conn) || depth(conn) > 0 { "ROLLBACK; " } else { "" };
    match conn.batch_execute(&format!("{rollback}SELECT {}", mark.unless_committed())) {
        Ok(()) => false,
        Err(_) if !is_lost(conn) => true,
        Err(error) => {
            // The server rolls back by itself, and the first error is the one to report.
            tracing::warn!(%error, "Could not roll back");
            false
        }
    }
}
