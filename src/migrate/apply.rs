use std::{collections::VecDeque, thread, time::Duration};

use diesel::{PgConnection, connection::SimpleConnection, result::Error as DieselError};

use super::{
    Goal, Migrations, Run, half_done, outside,
    set::Script,
    step::{self, Step},
};
use crate::{
    Error, SchemaName,
    error::BoxError,
    pg::{
        atomically, catalog, ddl, depth,
        engine::{self, Engine},
        lock,
        scope::{self, Mark, TenantConn},
        statements,
        transient::{self, Transient},
        xact::Xact,
    },
};

/// Applies what is pending in one schema, and returns the versions it applied.
///
/// All or nothing, but for migrations with `run_in_transaction = false`: what came before such a one is kept when
/// it fails. Inside a transaction, and in a schema without any migration, those too are part of the whole, and
/// their indexes are made in the ordinary way, without `CONCURRENTLY`.
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
    let mut done = Vec::new();
    advance(&Run::new(migrations).lock_timeout(patience), conn, schema, &mut done)?;
    Ok(done.iter().map(|step| step.migration.version().into()).collect())
}

/// Takes one schema to the run's goal. What was committed is added to `done`, also before an error, and is
/// written down if the run is remembered.
pub(super) fn advance<'m>(
    run: &Run<'m>,
    conn: &mut PgConnection,
    schema: &SchemaName,
    done: &mut Vec<Step<'m>>,
) -> Result<(), Error> {
    let mut collisions = 0;
    // What is left to do, once it is known.
    let mut left: Option<VecDeque<Step<'m>>> = None;
    loop {
        let mut begun = Begun::default();
        match scope::transaction(conn, schema, |tenant| stage(run, tenant, left.clone(), &mut begun)) {
            Ok((finished, mut rest)) => {
                done.extend(finished);
                let Some(step) = rest.pop_front() else { return Ok(()) };
                outside::perform(run, conn, schema, step)?;
                done.push(step);
                left = Some(rest);
            }
            // Before all else: what it has recorded would pass for another migrator's.
            Err(error) if begun.is_committed(conn) => {
                half_done::forget(run.number, conn, schema, &begun.steps)?;
                return Err(begun.failed(schema, true).unwrap_or(error));
            }
            Err(error) if collisions < COLLISIONS && is_race(run, conn, schema, &error) => {
                collisions += 1;
                tracing::debug!(tenant.schema = %schema, error = %error.chain(), "Another migrator is in `{schema}`");
                // Let the other one finish: each of its versions may collide with ours once more.
                thread::sleep(Duration::from_millis(rand::random_range(10..50) << collisions));
            }
            Err(error @ Error::TransactionEnded { .. }) => return Err(begun.failed(schema, false).unwrap_or(error)),
            Err(error) => return Err(error),
        }
    }
}

/// What is under way in a transaction.
#[derive(Default)]
struct Begun<'m> {
    xact: Option<Xact>,
    /// The step that is under way, and what is to come after it in the same transaction.
    steps: Vec<Step<'m>>,
}

impl Begun<'_> {
    /// Whether the transaction was committed, although its end was never reached. A connection that is lost cannot be
    /// asked.
    fn is_committed(&self, conn: &mut PgConnection) -> bool {
        depth(conn) == 0 && self.xact.as_ref().is_some_and(|xact| xact.is_committed(conn).unwrap_or(false))
    }

    /// The error of the step that has ended it.
    fn failed(&self, schema: &SchemaName, committed: bool) -> Option<Error> {
        self.steps.first().map(|step| failed(schema, *step, ended(committed)))
    }
}

/// How often to start over when somebody without our lock, such as Diesel's own migrator, is at it too.
const COLLISIONS: u32 = 5;

/// Whether another migrator was doing the same at the same time. Our own transaction is known to be rolled back, so what
/// is recorded was recorded by another.
fn is_race(run: &Run<'_>, conn: &mut PgConnection, schema: &SchemaName, error: &Error) -> bool {
    match error {
        // Diesel records a version after its script, so ours may have found the tables and not the row. A version that
        // was to be taken back is recorded anyway.
        Error::Migration { version, .. } if transient::of(error).is_none() && *run.goal == Goal::Latest => {
            atomically(conn, |conn| catalog::versions(conn, &[schema]))
                .is_ok_and(|found| found.values().flatten().any(|recorded| recorded == version))
        }
        error => transient::of(error) == Some(Transient::Race),
    }
}

/// Takes as many steps as one transaction can take, and returns them with those that are left.
fn stage<'m>(
    run: &Run<'m>,
    tenant: &mut TenantConn<'_>,
    left: Option<VecDeque<Step<'m>>>,
    begun: &mut Begun<'m>,
) -> Result<(Vec<Step<'m>>, VecDeque<Step<'m>>), Error> {
    let schema = tenant.schema().clone();
    let nested = depth(tenant) > 1;
    // What is set here would stay so for the rest of a caller's transaction.
    let before = nested.then(|| lock::bounds(tenant)).transpose()?;
    lock::bound(tenant, run.lock_timeout, run.statement_timeout)?;
    lock::schema_unless(tenant, &schema, run.lock_timeout, || run.is_stopped())?;
    ddl::create_history(tenant)?;
    let applied = catalog::recorded(tenant, &schema)?;
    let mut left = match left {
        None => run.goal.steps(&schema, &applied, run.migrations)?.into(),
        Some(left) => left,
    };
    let engine = engine::detect(tenant)?;
    // An index on a table that nobody else can see yet needs no care for them.
    let fresh = applied.is_empty();
    let inside = |step: &mut Step<'_>| nested || step.migration.runs_in_transaction() || fresh && step.fits_inside();
    let mut steps = Vec::new();
    while let Some(step) = left.pop_front_if(inside) {
        steps.push(step);
    }
    if !steps.is_empty() {
        begun.xact = Some(Xact::current(tenant)?);
    }
    // First, since a script may take a role that cannot write it.
    if let (Some(number), false) = (run.number, steps.is_empty()) {
        tenant.batch_execute(&step::remember(number, &schema, &steps))?;
    }
    for (at, step) in steps.iter().enumerate() {
        begun.steps = steps[at..].to_vec();
        perform(tenant, run.migrations, *step, engine).map_err(|source| failed(&schema, *step, source))?;
    }
    *begun = Begun::default();
    if let Some(before) = before {
        lock::restore(tenant, "SET LOCAL", &before)?;
    }
    Ok((steps, left))
}

fn perform(
    tenant: &mut TenantConn<'_>,
    migrations: &Migrations,
    step: Step<'_>,
    engine: Engine,
) -> Result<(), BoxError> {
    let (schema, mark, outside) = (tenant.schema().clone(), tenant.mark().clone(), depth(tenant));
    let _span = step.span().entered();
    let prove = format!("SELECT {}", scope::proof(&schema, &mark));
    let explain = |error| explain(error, &schema, &mark);
    let record = format!("{}; {}", ddl::set_path(&schema), step.record(&schema));
    match step.script()? {
        Script::Sql(text) => {
            let text = match step.migration.runs_in_transaction() {
                true => text,
                false => &statements::without_concurrently(text),
            };
            match engine {
                // The script may end in a comment, or without a semicolon.
                Engine::Postgres => tenant.batch_execute(&format!("{record};\n{text}\n;{prove}")).map_err(explain)?,
                // It takes most DDL only in a message of its own.
                Engine::Citus => {
                    tenant.batch_execute(&record)?;
                    for statement in statements::split(text) {
                        tenant.batch_execute(statement)?;
                    }
                    tenant.batch_execute(&prove).map_err(explain)?;
                }
            }
        }
        Script::Rust => {
            tenant.batch_execute(&record)?;
            migrations.run_in_rust(&schema, step, tenant)?;
            tenant.batch_execute(&prove).map_err(explain)?;
            if depth(tenant) != outside {
                return Err(ended(false));
            }
        }
        Script::Missing => return Err("it has no script for this".into()),
    }
    Ok(())
}

pub(super) fn failed(schema: &SchemaName, step: Step<'_>, source: BoxError) -> Error {
    Error::Migration { schema: schema.clone(), version: step.migration.version().into(), source }
}

/// Why a migration failed that ended its own transaction.
fn ended(committed: bool) -> BoxError {
    let kept = if committed { ", and what it did before that stays done" } else { "" };
    format!("it ended the transaction that it runs in{kept}: take its COMMIT, ROLLBACK or RESET ALL out").into()
}

/// Says what a script has broken, if it was the proof that failed.
pub(super) fn explain(error: DieselError, schema: &SchemaName, mark: &Mark) -> BoxError {
    match scope::broken(&error, schema, mark) {
        Some(Error::LeftScope { path, .. }) => format!("it leaves search_path at {path:?}, where the next one would end up: use SET LOCAL in a function, or qualify the names").into(),
        Some(Error::TransactionEnded { committed, .. }) => ended(committed),
        Some(broken) => broken.into(),
        None => error.into(),
    }
}
