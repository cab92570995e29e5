use std::{
    collections::HashMap,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use diesel::{PgConnection, r2d2::R2D2Connection};

use super::{Line, Migrations, Report, SchemaStatus, State, apply, survey};
use crate::{Error, SchemaName};

/// Opens one more connection: each worker has its own.
pub type Connector<'a> = dyn Fn() -> Result<PgConnection, Error> + Sync + 'a;

/// Is told how a run goes along. Every method does nothing unless it is written.
pub trait Observer: Sync {
    /// Something happened. Called from the workers' threads.
    fn on(&self, event: &Event<'_>) {
        let _ = event;
    }
}

/// What an [`Observer`] is told.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// So many tenants will be looked at.
    Started {
        /// How many.
        tenants: usize,
    },
    /// One of them is done.
    Finished(&'a Line),
}

/// An observer that listens to nothing.
#[derive(Debug, Clone, Copy)]
pub struct Silent;

impl Observer for Silent {}

/// A run of the migrations over the schemas it is handed.
///
/// One schema's failure is a line of the report, and the others carry on.
#[allow(missing_debug_implementations)] // the observer has none
#[derive(Clone, Copy)]
pub struct Run<'a> {
    migrations: &'a Migrations,
    jobs: usize,
    lock_timeout: Duration,
    observer: &'a dyn Observer,
}

impl<'a> Run<'a> {
    /// A run of these migrations.
    pub fn new(migrations: &'a Migrations) -> Self {
        Self { migrations, jobs: default_jobs(), lock_timeout: Duration::from_secs(5), observer: &Silent }
    }

    /// Sets how many schemas are migrated at a time, each on a connection of its own.
    ///
    /// Defaults to twice the machine's cores, and 8 at most. Fewer are used when the server has no more
    /// connections to give.
    pub fn jobs(mut self, jobs: usize) -> Self {
        self.jobs = jobs.max(1);
        self
    }

    /// Sets how long one statement may wait for a lock before its schema is reported as failed.
    ///
    /// Other schemas carry on. In milliseconds of PostgreSQL's `lock_timeout`. Defaults to 5 seconds.
    pub fn lock_timeout(mut self, timeout: Duration) -> Self {
        self.lock_timeout = timeout;
        self
    }

    /// Sets who is told how the run goes along. Defaults to nobody.
    pub fn observer(mut self, observer: &'a dyn Observer) -> Self {
        self.observer = observer;
        self
    }

    /// Migrates `public`: its own set, then the tenants', as one transaction.
    ///
    /// # Errors
    ///
    /// Those of [`apply`]: no tenant should then be migrated.
    pub fn public(&self, conn: &mut PgConnection) -> Result<Line, Error> {
        let line = self.one(conn, &SchemaName::public());
        match line.result {
            Ok(_) => Ok(line),
            Err(error) => Err(error),
        }
    }

    /// Migrates the tenants on one connection, which may be inside a test transaction.
    pub fn tenants_on(&self, conn: &mut PgConnection, schemas: &[SchemaName]) -> Report {
        let started = Instant::now();
        self.observer.on(&Event::Started { tenants: schemas.len() });
        let finished = schemas.iter().map(|schema| self.finish(conn, schema)).collect();
        self.prove(conn, schemas, finished, started)
    }

    /// Migrates the tenants, several at a time, and reads all of them back at the end.
    ///
    /// # Errors
    ///
    /// [`Error::Connect`] when there is not even one connection to be had.
    pub fn tenants(&self, connect: &Connector<'_>, schemas: &[SchemaName]) -> Result<Report, Error> {
        let started = Instant::now();
        self.observer.on(&Event::Started { tenants: schemas.len() });
        let mut conn = connect()?;
        // What is current already needs no worker, no lock and no transaction.
        let (current, behind): (Vec<_>, Vec<_>) =
            survey(&mut conn, schemas, self.migrations)?.into_iter().partition(SchemaStatus::is_current);
        let mut finished: Vec<Line> = current.iter().map(|status| self.up_to_date(status)).collect();
        let behind: Vec<SchemaName> = behind.into_iter().map(|status| status.schema).collect();
        let next = AtomicUsize::new(0);
        let take = || behind.get(next.fetch_add(1, Ordering::Relaxed));
        thread::scope(|threads| {
            let helpers = 1..self.jobs.min(behind.len());
            let helpers: Vec<_> = helpers.map(|_| threads.spawn(|| self.work(connect, None, &take))).collect();
            finished.extend(self.work(connect, Some(conn), &take));
            for helper in helpers {
                match helper.join() {
                    Ok(lines) => finished.extend(lines),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
        });
        // A connection that lasted through all of it is not to be counted on.
        match connect() {
            Ok(mut conn) => Ok(self.prove(&mut conn, schemas, finished, started)),
            Err(error) => Ok(report(schemas, finished, started, |_| Err(lost(&error)))),
        }
    }

    /// Takes schemas until there are none left, or no connection.
    fn work<'s>(
        &self,
        connect: &Connector<'_>,
        conn: Option<PgConnection>,
        take: &dyn Fn() -> Option<&'s SchemaName>,
    ) -> Vec<Line> {
        let mut lines = Vec::new();
        let mut conn = match conn.map_or_else(connect, Ok) {
            Ok(conn) => conn,
            Err(error) => {
                tracing::warn!(error = %error.chain(), "One worker fewer: no connection for it");
                return lines;
            }
        };
        while let Some(schema) = take() {
            lines.push(self.finish(&mut conn, schema));
            if conn.is_broken() {
                match connect() {
                    Ok(fresh) => conn = fresh,
                    Err(error) => {
                        tracing::error!(error = %error.chain(), "The connection is lost");
                        break;
                    }
                }
            }
        }
        lines
    }

    fn finish(&self, conn: &mut PgConnection, schema: &SchemaName) -> Line {
        let line = self.one(conn, schema);
        self.observer.on(&Event::Finished(&line));
        line
    }

    fn up_to_date(&self, status: &SchemaStatus) -> Line {
        let line = Line { schema: status.schema.to_string(), result: Ok(Vec::new()), duration: Duration::ZERO };
        self.observer.on(&Event::Finished(&line));
        line
    }

    fn one(&self, conn: &mut PgConnection, schema: &SchemaName) -> Line {
        let started = Instant::now();
        let result = apply(conn, schema, self.migrations, self.lock_timeout);
        let duration = started.elapsed();
        let duration_ms = duration.as_millis() as u64;
        match &result {
            Ok(applied) if applied.is_empty() => {}
            Ok(applied) => tracing::info!(tenant.schema = %schema, ?applied, duration_ms, "Migrated `{schema}`"),
            Err(error) => {
                tracing::warn!(tenant.schema = %schema, error = %error.chain(), duration_ms, "Could not migrate `{schema}`");
            }
        }
        Line { schema: schema.to_string(), result, duration }
    }

    /// The report, after the catalog was asked whether it is so.
    fn prove(&self, conn: &mut PgConnection, schemas: &[SchemaName], finished: Vec<Line>, started: Instant) -> Report {
        match survey(conn, schemas, self.migrations) {
            Ok(found) => {
                let found: HashMap<String, SchemaStatus> =
                    found.into_iter().map(|status| (status.schema.to_string(), status)).collect();
                report(schemas, finished, started, |schema| found.get(schema.as_str()).map_or(Ok(()), proven))
            }
            Err(error) => {
                let error = Error::from(error);
                report(schemas, finished, started, |_| Err(lost(&error)))
            }
        }
    }
}

/// Puts the lines into the order of the schemas, and corrects those that the check refutes.
fn report(
    schemas: &[SchemaName],
    finished: Vec<Line>,
    started: Instant,
    check: impl Fn(&SchemaName) -> Result<(), Error>,
) -> Report {
    let mut finished: HashMap<String, Line> = finished.into_iter().map(|line| (line.schema.clone(), line)).collect();
    let lines = schemas.iter().map(|schema| match finished.remove(schema.as_str()) {
        Some(mut line) => {
            if let (Ok(_), Err(error)) = (&line.result, check(schema)) {
                line.result = Err(error);
            }
            line
        }
        None => Line {
            schema: schema.to_string(),
            result: Err(Error::NotReached { reason: "the connection was lost before its turn".into() }),
            duration: Duration::ZERO,
        },
    });
    Report { lines: lines.collect(), elapsed: started.elapsed() }
}

fn proven(status: &SchemaStatus) -> Result<(), Error> {
    let schema = status.schema.clone();
    match &status.state {
        State::Known { pending, .. } if pending.is_empty() => Ok(()),
        State::Known { pending, .. } => Err(Error::Unproven { schema, pending: pending.clone() }),
        State::Missing => Err(Error::MissingSchema { schema }),
        State::Unreadable { reason } => Err(Error::NotReached { reason: reason.clone() }),
    }
}

fn lost(error: &Error) -> Error {
    Error::NotReached { reason: format!("its state could not be read back: {}", error.chain()) }
}

fn default_jobs() -> usize {
    thread::available_parallelism().map_or(2, |cores| (cores.get() * 2).min(8))
}
