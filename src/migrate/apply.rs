use std::{thread, time::Duration};

use diesel::{
    PgConnection,
    connection::SimpleConnection,
    result::{DatabaseErrorKind, Error as DieselError},
};

use super::{Migration, Migrations, set::Script};
use crate::{
    Error, SchemaName,
    error::BoxError,
    pg::{
        atomically, catalog, ddl, lock,
        scope::{self, TenantConn},
    },
};

/// Applies what is pending in one schema, all or nothing, and returns the versions it applied.
///
/// Safe against any other migrator, Diesel's own included: the schema's lock is taken, the history is read
/// under it, and each version is recorded *before* its script runs, so that whoever comes second collides
/// on a key and not in the middle of the script.
///
/// `patience` bounds each wait for a lock: the schema's own, and every table's.
///
/// # Errors
///
/// [`Error::Migration`] for the migration that failed, [`Error::Locked`], and those of
/// [`scope::transaction`]. The schema is then as it was.
pub fn apply(
    conn: &mut PgConnection,
    schema: &SchemaName,
    migrations: &Migrations,
    patience: Duration,
) -> Result<Vec<String>, Error> {
    let mut collisions = 0;
    loop {
        let result = scope::transaction(conn, schema, |tenant| apply_in_scope(tenant, migrations, patience));
        match result {
            Err(error) if collisions < COLLISIONS && is_collision(conn, schema, &error) => {
                collisions += 1;
                tracing::debug!(tenant.schema = %schema, error = %error.chain(), "Somebody else migrates `{schema}`");
                // Let the other one finish: each of its versions may collide with ours once more.
                thread::sleep(Duration::from_millis(rand::random_range(10..50) << collisions));
            }
            result => return result,
        }
    }
}

/// How often to start over when somebody without our lock, such as Diesel's own migrator, is at it too.
const COLLISIONS: u32 = 5;

/// Whether somebody else was doing the same at the same time.
fn is_collision(conn: &mut PgConnection, schema: &SchemaName, error: &Error) -> bool {
    match error {
        Error::Query(error) => is_race(error),
        // Diesel records a version after its script, so ours may have found the tables and not the row.
        Error::Migration { version, source, .. } => {
            source.downcast_ref().is_some_and(is_race)
                || atomically(conn, |conn| catalog::versions(conn, &[schema]))
                    .is_ok_and(|found| found.values().flatten().any(|recorded| recorded == version))
        }
        _ => false,
    }
}

/// What racing DDL ends in. Diesel tells no SQLSTATE, so a server that speaks another language than English
/// has its deadlocks reported and not tried again.
fn is_race(error: &DieselError) -> bool {
    let DieselError::DatabaseError(kind, about) = error else { return false };
    matches!(kind, DatabaseErrorKind::UniqueViolation)
        || ["deadlock detected", "tuple concurrently updated"].iter().any(|words| about.message().contains(words))
}

fn apply_in_scope(
    tenant: &mut TenantConn<'_>,
    migrations: &Migrations,
    patience: Duration,
) -> Result<Vec<String>, Error> {
    let schema = tenant.schema().clone();
    lock::timeout(tenant, patience)?;
    lock::schema(tenant, &schema, patience)?;
    ddl::create_history(tenant)?;
    let applied = catalog::versions(tenant, &[&schema])?.remove(schema.as_str()).unwrap_or_default();
    let is_pending = |migration: &&Migration| !applied.iter().any(|version| version == migration.version());
    let pending: Vec<&Migration> = migrations.expected(&schema).filter(is_pending).collect();
    for migration in &pending {
        run(tenant, migrations, migration).map_err(|source| Error::Migration {
            schema: schema.clone(),
            version: migration.version().into(),
            source,
        })?;
    }
    Ok(pending.iter().map(|migration| migration.version().into()).collect())
}

fn run(tenant: &mut TenantConn<'_>, migrations: &Migrations, migration: &Migration) -> Result<(), BoxError> {
    if let Some(word) = migration.transaction_control() {
        return Err(
            format!("it has a {word} of its own, and runs in a transaction with its record: take that out").into()
        );
    }
    if !migration.runs_in_transaction() {
        return Err("it sets run_in_transaction = false, which is not supported yet".into());
    }
    let schema = tenant.schema().clone();
    let record = format!("{}; {}", ddl::set_path(&schema), ddl::insert_version(&schema, migration.version()));
    let prove = format!("SELECT {}", scope::proof(&schema));
    match migration.script() {
        // The script may end in a comment, or without a semicolon.
        Script::Sql(up) => tenant.batch_execute(&format!("{record};\n{up}\n;{prove}")).map_err(explain)?,
        Script::Rust => {
            tenant.batch_execute(&record)?;
            migrations.run_in_rust(&schema, migration.version(), tenant)?;
            tenant.batch_execute(&prove).map_err(explain)?;
        }
    }
    Ok(())
}

fn explain(error: DieselError) -> BoxError {
    match scope::strayed(&error) {
        Some(path) => format!("it leaves search_path at {path:?}, where the next one would end up: use SET LOCAL in a function, or qualify the names").into(),
        None => error.into(),
    }
}
