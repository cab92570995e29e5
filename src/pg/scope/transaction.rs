use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use diesel::{
    PgConnection,
    connection::{AnsiTransactionManager, SimpleConnection, TransactionManager},
    result::Error as DieselError,
};

use super::{
    TenantConn,
    path::{Before, put_back, switch, why_not},
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
    let outside = depth(conn);
    let scope = enter(conn, schema)?;
    run(conn, schema, scope, outside, work)
}

/// [`transaction`] for a connection that is inside the schema: no more than a savepoint, where one will do.
pub(super) fn savepoint<T, E: From<Error>>(
    conn: &mut PgConnection,
    schema: &SchemaName,
    work: impl FnOnce(&mut TenantConn<'_>) -> Result<T, E>,
) -> Result<T, E> {
    let outside = depth(conn);
    if outside == 0 {
        return transaction(conn, schema, work);
    }
    Manager::begin_transaction(conn).map_err(Error::from)?;
    run(conn, schema, Scope::Savepoint, outside, work)
}

/// What was begun, and so what is to be ended.
enum Scope {
    /// A transaction, whose end puts the path back.
    Outermost,
    /// A savepoint, whose path would survive its release.
    Nested(Before),
    /// A savepoint that left the path alone.
    Savepoint,
}

fn run<T, E: From<Error>>(
    conn: &mut PgConnection,
    schema: &SchemaName,
    scope: Scope,
    outside: u32,
    work: impl FnOnce(&mut TenantConn<'_>) -> Result<T, E>,
) -> Result<T, E> {
    let mut tenant = TenantConn::new(conn, schema.clone());
    // Diesel's own `transaction` leaves the transaction open when the closure panics.
    let result = match catch_unwind(AssertUnwindSafe(|| work(&mut tenant))) {
        // What was begun inside and not ended would be committed half done, or end in our place.
        Ok(Ok(_)) if !is_lost(conn) && depth(conn) != outside + 1 => {
            Err(Error::SwallowedError { schema: schema.clone() }.into())
        }
        Ok(Ok(value)) => leave(conn, schema, &scope).map(|()| value).map_err(E::from),
        Ok(Err(error)) => Err(error),
        Err(panic) => {
            roll_back_to(conn, outside);
            resume_unwind(panic)
        }
    };
    if result.is_err() {
        roll_back_to(conn, outside);
    }
    result
}

fn enter(conn: &mut PgConnection, schema: &SchemaName) -> Result<Scope, Error> {
    // Statements that only set are cheaper than set_config(), and functions than operators, which the server
    // would choose among many: together that is most of what a scope costs.
    let begin = format!(
        "BEGIN; {path}; SET LOCAL tenantry.scope TO 'transaction'; \
         SELECT pg_catalog.int4div(1, pg_catalog.int4(coalesce(pg_catalog.nameeq(pg_catalog.current_schema(), {name}), false)))",
        path = ddl::set_path(schema),
        name = quote::literal(schema.as_str()),
    );
    match Manager::begin_transaction_sql(conn, &begin) {
        Ok(()) => Ok(Scope::Outermost),
        Err(DieselError::AlreadyInTransaction) => nest(conn, schema),
        Err(error) => {
            // Diesel believes that nothing began.
            conn.batch_execute("ROLLBACK")?;
            Err(why_not(conn, schema)?.unwrap_or(error.into()))
        }
    }
}

fn nest(conn: &mut PgConnection, schema: &SchemaName) -> Result<Scope, Error> {
    let outside = depth(conn);
    Manager::begin_transaction(conn)?;
    let switched = switch(conn, schema, true);
    if switched.is_err() {
        roll_back_to(conn, outside);
    }
    switched.map(Scope::Nested)
}

/// Ends what was begun. After an error it may still be there, for the caller to roll back.
fn leave(conn: &mut PgConnection, schema: &SchemaName, scope: &Scope) -> Result<(), Error> {
    match scope {
        Scope::Outermost => commit(conn, schema),
        Scope::Nested(before) => {
            let visible = put_back(conn, before, true).map_err(|error| swallowed(conn, schema, error))?;
            if visible != [schema.as_str()] {
                return Err(Error::LeftScope { schema: schema.clone(), path: visible.join(", ") });
            }
            release(conn, schema)
        }
        Scope::Savepoint => release(conn, schema),
    }
}

fn commit(conn: &mut PgConnection, schema: &SchemaName) -> Result<(), Error> {
    // The transaction is known to be ours and the outermost, so the textual COMMIT ends what it should,
    // and Diesel learns from the connection's status that it did.
    let committed = conn.batch_execute(&format!("SELECT {}; COMMIT", proof(schema)));
    committed.map_err(|error| match strayed(&error) {
        Some(path) => Error::LeftScope { schema: schema.clone(), path },
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

/// What [`proof`] puts before the path it found.
const STRAYED: &str = "tenantry: search_path is ";

/// An expression that fails unless the schema is alone on the path, for a message whose results nobody reads.
///
/// The failure is a cast whose text the server repeats in its error, in whatever language that is.
pub(crate) fn proof(schema: &SchemaName) -> String {
    format!(
        "CASE WHEN pg_catalog.array_eq(pg_catalog.current_schemas(false), {alone}) THEN 0 \
         ELSE CAST(pg_catalog.concat({strayed}, pg_catalog.current_setting('search_path')) AS int) END",
        alone = quote::literal(&format!("{{{}}}", schema.quoted())),
        strayed = quote::literal(STRAYED),
    )
}

/// The path that [`proof`] found instead of the schema.
pub(crate) fn strayed(error: &DieselError) -> Option<String> {
    let DieselError::DatabaseError(_, about) = error else { return None };
    let (_, path) = about.message().split_once(STRAYED)?;
    Some(path.strip_suffix('"').unwrap_or(path).into())
}
