use std::{
    collections::HashMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use diesel::{PgConnection, connection::SimpleConnection, r2d2::R2D2Connection};

use super::{
    Line, Migrations, Report, SchemaStatus, State, apply,
    group::{self, Pace},
    survey,
};
use crate::{Error, SchemaName, pg::scope};

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
    lock_budget: Duration,
    patience: Duration,
    stop: &'a AtomicBool,
    observer: &'a dyn Observer,
}

impl<'a> Run<'a> {
    /// A run of these migrations.
    pub fn new(migrations: &'a Migrations) -> Self {
        Self {
            migrations,
            jobs: default_jobs(),
            lock_timeout: Duration::from_secs(5),
            lock_budget: Duration::from_millis(50),
            patience: Duration::ZERO,
            stop: &NEVER,
            observer: &Silent,
        }
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

    /// Sets how long the locks of several schemas together may be held, so that small migrations can share a
    /// transaction.
    ///
    /// Groups grow while they take less and shrink when they take more; a group that fails is done again one by
    /// one. Zero keeps every schema in a transaction of its own. Defaults to 50 milliseconds.
    pub fn lock_budget(mut self, budget: Duration) -> Self {
        self.lock_budget = budget;
        self
    }

    /// Sets how long to wait for another run over the same database to end. Defaults to not at all.
    ///
    /// The lock belongs to a connection, so a run needs connections of its own, not a pooler's in transaction mode.
    pub fn wait(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// How long to wait for another run.
    pub(crate) fn patience(&self) -> Duration {
        self.patience
    }

    /// Sets a flag that ends the run early: once it is true, what is under way is finished and the rest is
    /// reported as not reached.
    pub fn stop_when(mut self, stop: &'a AtomicBool) -> Self {
        self.stop = stop;
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
        let (started, schema) = (Instant::now(), SchemaName::public());
        let applied = apply(conn, &schema, self.migrations, self.lock_timeout)?;
        Ok(Line { schema: schema.to_string(), result: Ok(applied), duration: started.elapsed() })
    }

    /// Migrates the tenants on one connection, which may be inside a test transaction.
    pub fn tenants_on(&self, conn: &mut PgConnection, schemas: &[SchemaName]) -> Report {
        let started = Instant::now();
        self.observer.on(&Event::Started { tenants: schemas.len() });
        let on = |_: &&SchemaName| !self.stop.load(Ordering::Relaxed);
        let finished = schemas.iter().take_while(on).map(|schema| self.finish(conn, schema)).collect();
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
        let mut finished: Vec<Line> =
            current.iter().map(|status| self.told(status.schema.as_str(), Ok(Vec::new()), Duration::ZERO)).collect();
        let next = Mutex::new(behind.as_slice());
        let take = |most: usize| {
            if self.stop.load(Ordering::Relaxed) {
                return &[][..];
            }
            let mut left = next.lock().unwrap_or_else(PoisonError::into_inner);
            // Towards the end, smaller groups leave something for every worker.
            let (group, rest) = left.split_at(most.min(left.len().div_ceil(self.jobs)));
            *left = rest;
            group
        };
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
            Err(error) => Ok(self.report(schemas, finished, started, |_| Err(lost(&error)))),
        }
    }

    /// Takes groups of schemas until there are none left, or no connection.
    fn work<'s>(
        &self,
        connect: &Connector<'_>,
        conn: Option<PgConnection>,
        take: &dyn Fn(usize) -> &'s [SchemaStatus],
    ) -> Vec<Line> {
        let mut lines = Vec::new();
        let mut conn = match conn.map_or_else(connect, Ok) {
            Ok(conn) => conn,
            Err(error) => {
                tracing::warn!(error = %error.chain(), "One worker fewer: no connection for it");
                return lines;
            }
        };
        let mut pace = Pace::new(self.lock_budget);
        let mut served = 0;
        loop {
            let group = take(pace.size());
            if group.is_empty() {
                return lines;
            }
            lines.extend(self.group(&mut conn, group, &mut pace));
            served += group.len();
            // A connection's catalog cache grows with every schema it has seen, and never shrinks.
            if conn.is_broken() || served >= RECYCLE {
                served = 0;
                match connect() {
                    Ok(fresh) => conn = fresh,
                    Err(error) => {
                        tracing::error!(error = %error.chain(), "The connection is lost");
                        return lines;
                    }
                }
            }
        }
    }

    /// Migrates a group of schemas together if that goes, or else one by one.
    fn group(&self, conn: &mut PgConnection, group: &[SchemaStatus], pace: &mut Pace) -> Vec<Line> {
        let started = Instant::now();
        match group::apply(conn, group, self.migrations, self.lock_timeout) {
            Ok(true) => {
                let duration = started.elapsed();
                pace.took(group.len(), duration);
                let share = duration / group.len() as u32;
                group
                    .iter()
                    .map(|status| self.told(status.schema.as_str(), Ok(status.pending().to_vec()), share))
                    .collect()
            }
            Ok(false) => group.iter().map(|status| self.finish(conn, &status.schema)).collect(),
            Err(error) => {
                tracing::debug!(%error, "Taking {} schemas one by one", group.len());
                pace.failed();
                group.iter().map(|status| self.finish(conn, &status.schema)).collect()
            }
        }
    }

    fn finish(&self, conn: &mut PgConnection, schema: &SchemaName) -> Line {
        let started = Instant::now();
        let result = apply(conn, schema, self.migrations, self.lock_timeout);
        self.told(schema.as_str(), result, started.elapsed())
    }

    /// The line of a schema, once the log and the observer were told of it.
    fn told(&self, schema: &str, result: Result<Vec<String>, Error>, duration: Duration) -> Line {
        let duration_ms = duration.as_millis() as u64;
        match &result {
            Ok(applied) if applied.is_empty() => {}
            Ok(applied) => tracing::info!(tenant.schema = schema, ?applied, duration_ms, "Migrated `{schema}`"),
            Err(error) => {
                tracing::warn!(tenant.schema = schema, error = %error.chain(), duration_ms, "Could not migrate `{schema}`");
            }
        }
        let line = Line { schema: schema.into(), result, duration };
        self.observer.on(&Event::Finished(&line));
        line
    }

    /// The report, after the catalog was asked whether it is so.
    fn prove(&self, conn: &mut PgConnection, schemas: &[SchemaName], finished: Vec<Line>, started: Instant) -> Report {
        // The groups did not wait for the disk. One commit that does waits for all that came before it.
        let flushed = match scope::in_transaction(conn) {
            true => Ok(()),
            false => conn.batch_execute("BEGIN; SET LOCAL synchronous_commit = on; SELECT txid_current(); COMMIT"),
        };
        match flushed.and_then(|()| survey(conn, schemas, self.migrations)) {
            Ok(found) => {
                let found: HashMap<String, SchemaStatus> =
                    found.into_iter().map(|status| (status.schema.to_string(), status)).collect();
                self.report(schemas, finished, started, |schema| found.get(schema.as_str()).map_or(Ok(()), proven))
            }
            Err(error) => {
                let error = Error::from(error);
                self.report(schemas, finished, started, |_| Err(lost(&error)))
            }
        }
    }

    /// The lines in the order of the schemas, corrected where the check refutes them.
    fn report(
        &self,
        schemas: &[SchemaName],
        finished: Vec<Line>,
        started: Instant,
        check: impl Fn(&SchemaName) -> Result<(), Error>,
    ) -> Report {
        let mut finished: HashMap<String, Line> =
            finished.into_iter().map(|line| (line.schema.clone(), line)).collect();
        let missed = match self.stop.load(Ordering::Relaxed) {
            true => "the run was stopped before its turn",
            false => "the connection was lost before its turn",
        };
        let lines = schemas.iter().map(|schema| match finished.remove(schema.as_str()) {
            Some(mut line) => {
                if let (Ok(_), Err(error)) = (&line.result, check(schema)) {
                    line.result = Err(error);
                }
                line
            }
            None => Line {
                schema: schema.to_string(),
                result: Err(Error::NotReached { reason: missed.into() }),
                duration: Duration::ZERO,
            },
        });
        Report { lines: lines.collect(), elapsed: started.elapsed() }
    }
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

static NEVER: AtomicBool = AtomicBool::new(false);

/// After how many schemas a worker takes a fresh connection.
const RECYCLE: usize = 1000;

fn default_jobs() -> usize {
    thread::available_parallelism().map_or(2, |cores| (cores.get() * 2).min(8))
}
