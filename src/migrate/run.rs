use std::{
    collections::HashMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use diesel::{PgConnection, connection::SimpleConnection};

use super::{
    Event, Line, Migrations, Observer, Report, Silent, apply,
    survey::CHUNK,
    worker::{self, Worker},
};
use crate::{Error, SchemaName};

/// Opens one more connection: each worker has its own.
pub type Connector<'a> = dyn Fn() -> Result<PgConnection, Error> + Sync + 'a;

/// A run of the migrations over the schemas it is handed.
///
/// One schema's failure is a line of the report, and the others carry on.
#[allow(missing_debug_implementations)] // the observer has none
#[derive(Clone, Copy)]
pub struct Run<'a> {
    pub(super) migrations: &'a Migrations,
    jobs: usize,
    pub(super) lock_timeout: Duration,
    pub(super) lock_budget: Duration,
    patience: Duration,
    stop: &'a AtomicBool,
    pub(super) observer: &'a dyn Observer,
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
        let on = |_: &&SchemaName| !self.is_stopped();
        let mut lines: Vec<Line> =
            schemas.iter().take_while(on).map(|schema| worker::alone(self, conn, schema)).collect();
        worker::read_back(self, conn, &mut lines);
        self.report(schemas, lines, started)
    }

    /// Migrates the tenants, several at a time, and reads back what was done.
    ///
    /// # Errors
    ///
    /// [`Error::Connect`] when there is not even one connection to be had.
    pub fn tenants(&self, connect: &Connector<'_>, schemas: &[SchemaName]) -> Result<Report, Error> {
        let started = Instant::now();
        self.observer.on(&Event::Started { tenants: schemas.len() });
        let left = Mutex::new(schemas);
        let take = || {
            let mut left = left.lock().unwrap_or_else(PoisonError::into_inner);
            // Towards the end, smaller chunks leave something for every worker.
            let most = if self.is_stopped() { 0 } else { CHUNK.min(left.len().div_ceil(self.jobs * 2)) };
            let (chunk, rest) = left.split_at(most);
            *left = rest;
            chunk
        };
        let first = Worker::new(self, connect)?;
        let mut lines = thread::scope(|threads| {
            // A connection is worth its while for a handful of schemas.
            let others = 1..self.jobs.min(schemas.len().div_ceil(8));
            let others: Vec<_> =
                others.map(|_| threads.spawn(|| Worker::new(self, connect).map(|other| other.work(&take)))).collect();
            let mut lines = first.work(&take);
            for other in others {
                match other.join() {
                    Ok(Ok(more)) => lines.extend(more),
                    Ok(Err(error)) => tracing::warn!(error = %error.chain(), "One worker fewer: no connection for it"),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
            lines
        });
        if let Err(error) = flush(connect) {
            worker::doubt(&mut lines, &error);
        }
        Ok(self.report(schemas, lines, started))
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// The lines in the order of the schemas.
    fn report(&self, schemas: &[SchemaName], lines: Vec<Line>, started: Instant) -> Report {
        let mut lines: HashMap<String, Line> = lines.into_iter().map(|line| (line.schema.clone(), line)).collect();
        let reason = if self.is_stopped() { "the run was stopped" } else { "the connection was lost" };
        let missed = |schema: &SchemaName| Line {
            schema: schema.to_string(),
            result: Err(Error::NotReached { reason: format!("{reason} before its turn") }),
            duration: Duration::ZERO,
        };
        let lines = schemas.iter().map(|schema| lines.remove(schema.as_str()).unwrap_or_else(|| missed(schema)));
        Report { lines: lines.collect(), elapsed: started.elapsed() }
    }
}

/// Groups do not wait for the disk. One commit that does waits for all that came before it.
fn flush(connect: &Connector<'_>) -> Result<(), Error> {
    Ok(connect()?.batch_execute("BEGIN; SET LOCAL synchronous_commit = on; SELECT txid_current(); COMMIT")?)
}

static NEVER: AtomicBool = AtomicBool::new(false);

fn default_jobs() -> usize {
    thread::available_parallelism().map_or(2, |cores| (cores.get() * 2).min(8))
}
