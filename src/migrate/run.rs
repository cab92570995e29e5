use std::{mem, thread, time::Duration};

use diesel::{PgConnection, connection::SimpleConnection};
use serde_json::{Value, json};

use super::{
    Canary, Event, Goal, Interrupt, Line, Migration, Migrations, Observer, Report, Set, Silent, carry_out, wave,
};
use crate::{
    Error, SchemaName,
    pg::{KEEP_OPEN, closed::CLOSED_PATH, fleet_lock::FleetLock, lock, pooler},
    quote, runs,
};

/// Opens one more connection: each worker has its own.
pub type Connector<'a> = dyn Fn() -> Result<PgConnection, Error> + Sync + 'a;

/// A run of the migrations over the schemas it is handed.
///
/// One schema's failure is a line of the report, and the others carry on.
#[allow(missing_debug_implementations)] // the observer has none
#[derive(Clone, Copy)]
pub struct Run<'a> {
    pub(super) migrations: &'a Migrations,
    pub(super) goal: &'a Goal,
    pub(super) jobs: usize,
    pub(super) lock_timeout: Duration,
    pub(super) statement_timeout: Option<Duration>,
    pub(super) lock_budget: Duration,
    pub(super) attempts: u32,
    pub(super) max_failures: Option<usize>,
    pub(super) canary: Option<&'a Canary>,
    pub(super) waves: &'a [u8],
    pub(super) observer: &'a dyn Observer,
    pub(super) interrupt: Option<&'a Interrupt>,
    pub(crate) wait: Duration,
    pub(crate) record: bool,
    /// The number under which it is remembered, once it is.
    pub(crate) number: Option<i64>,
    /// What its connections call themselves, by which they are found when they are to be cancelled.
    pub(super) name: &'a str,
    /// The lock of the fleet, without which no tenant is begun.
    pub(super) lock: Option<&'a FleetLock>,
}

impl<'a> Run<'a> {
    /// A run that applies what is pending of these migrations.
    pub fn new(migrations: &'a Migrations) -> Self {
        Self {
            migrations,
            goal: &Goal::Latest,
            jobs: default_jobs(),
            lock_timeout: Duration::from_secs(5),
            statement_timeout: None,
            lock_budget: Duration::from_millis(50),
            attempts: 3,
            max_failures: None,
            canary: None,
            waves: &[],
            observer: &Silent,
            interrupt: None,
            wait: Duration::ZERO,
            record: true,
            number: None,
            name: "tenantry",
            lock: None,
        }
    }

    /// Sets where the run takes each schema. Defaults to [`Goal::Latest`].
    pub fn goal(mut self, goal: &'a Goal) -> Self {
        self.goal = goal;
        self
    }

    /// Sets how many schemas are worked on at a time, each on a connection of its own.
    ///
    /// Defaults to twice the machine's cores, and 8 at most. Fewer are used when the server has no more
    /// connections to give.
    pub fn jobs(mut self, jobs: usize) -> Self {
        self.jobs = jobs.max(1);
        self
    }

    /// Sets how long one statement may wait for a lock before its schema is put off, and at last reported as failed.
    ///
    /// Other schemas carry on. In milliseconds of PostgreSQL's `lock_timeout`. Defaults to 5 seconds.
    pub fn lock_timeout(mut self, timeout: Duration) -> Self {
        self.lock_timeout = timeout;
        self
    }

    /// Sets how long one statement may take before its schema is reported as failed.
    ///
    /// In milliseconds of PostgreSQL's `statement_timeout`. Defaults to what the server or the role has set, which
    /// is mostly no bound.
    pub fn statement_timeout(mut self, timeout: Duration) -> Self {
        self.statement_timeout = Some(timeout);
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

    /// Sets how often a schema is tried before it counts as failed, when what is in the way will pass: a lock, a
    /// deadlock, a serialization failure, a lost connection.
    ///
    /// It is tried again when all others are done, after a pause of about a quarter of a second that doubles each
    /// time. Defaults to 3; 1 is never again.
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts.max(1);
        self
    }

    /// Sets how many schemas may fail before the run ends early: 0 ends it at the first one.
    ///
    /// What is under way is finished, and the rest is reported as not reached. Defaults to no limit.
    pub fn max_failures(mut self, failures: usize) -> Self {
        self.max_failures = Some(failures);
        self
    }

    /// Sets which tenants come first: they are migrated and read back before any other is begun, and when one of
    /// them fails, no other is.
    pub fn canary(mut self, canary: &'a Canary) -> Self {
        self.canary = Some(canary);
        self
    }

    /// Sets the waves in which the fleet is worked on, as percentages of the whole that grow up to 100.
    ///
    /// A wave is read back before the next one is begun, and when more of it fail than
    /// [`max_failures`](Run::max_failures) allows, or any where that is not set, the next one is not. Defaults to
    /// all at once.
    pub fn waves(mut self, percentages: &'a [u8]) -> Self {
        self.waves = percentages;
        self
    }

    /// Sets how long to wait for another run of a [`Fleet`](crate::Fleet) over the same database to end. Defaults to
    /// not at all; [`Duration::MAX`] is as long as it takes.
    ///
    /// An [`Event::Waiting`](super::Event::Waiting) reports for whom the run waits. Two runs are kept apart by a lock
    /// that belongs to a connection, which is kept alive whatever idle timeouts the server has, and watched: when it is
    /// lost, no tenant is begun until the lock is held again. If another run has begun by then, this one ends, and its
    /// report says so ([`Report::lock_lost`]). So a run needs connections of its own: behind a pooler in transaction
    /// mode it is refused, with [`Error::Pooler`].
    pub fn wait(mut self, timeout: Duration) -> Self {
        self.wait = timeout;
        self
    }

    /// Sets who may end the run early. Defaults to nobody.
    pub fn interrupt(mut self, interrupt: &'a Interrupt) -> Self {
        self.interrupt = Some(interrupt);
        self
    }

    /// Sets who is told how the run goes along. Defaults to nobody.
    pub fn observer(mut self, observer: &'a dyn Observer) -> Self {
        self.observer = observer;
        self
    }

    /// Sets whether a run of a whole [`Fleet`](crate::Fleet) is remembered in the schema `tenantry`. Defaults to true.
    ///
    /// The role needs CREATE on the database once, for the schema, and then the right to write there.
    pub fn record(mut self, record: bool) -> Self {
        self.record = record;
        self
    }

    /// Takes `public` to the goal, as one transaction.
    ///
    /// # Errors
    ///
    /// Those of [`apply`](super::apply): no tenant should then be migrated.
    pub fn public(&self, conn: &mut PgConnection) -> Result<Line, Error> {
        let quiet = Run { observer: &Silent, ..*self };
        let mut lines = carry_out::on_one(&quiet, conn, &[SchemaName::public()]).lines;
        let mut line = lines.pop().unwrap_or_else(|| Line::idle("public", Ok(())));
        mem::replace(&mut line.result, Ok(())).map(|()| line)
    }

    /// Takes the tenants to the goal on one connection, which may be inside a test transaction.
    ///
    /// Outside of one, temporary tables of the connection's are dropped, so that no tenant finds another's.
    pub fn tenants_on(&self, conn: &mut PgConnection, schemas: &[SchemaName]) -> Report {
        carry_out::on_one(self, conn, schemas)
    }

    /// Takes the tenants to the goal, several at a time, and reads back what was done.
    ///
    /// # Errors
    ///
    /// [`Error::Connect`] when there is not even one connection to be had, [`Error::Pooler`], and [`Error::Request`]
    /// for waves that make no sense.
    pub fn tenants(&self, connect: &Connector<'_>, schemas: &[SchemaName]) -> Result<Report, Error> {
        if self.lock.is_none() {
            pooler::pair(connect)?;
        }
        carry_out::on_many(self, connect, schemas)
    }

    /// Refuses waves that make no sense, before anything is done.
    pub(crate) fn check(&self) -> Result<(), Error> {
        wave::split(&[], None, self.waves).map(drop)
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.interrupt.is_some_and(Interrupt::is_stopped)
    }

    /// Whether no more tenants should be begun. Waits while the lock of the fleet is lost and may be taken again.
    pub(super) fn is_ended(&self) -> bool {
        self.is_stopped() || self.lock.is_some_and(|lock| !lock.is_held(|| self.is_stopped()))
    }

    /// Why no more tenants are begun, for the line of one that was not.
    pub(super) fn why_ended(&self) -> Option<String> {
        if self.interrupt.is_some_and(Interrupt::is_cancelled) {
            Some("the run was cancelled before its turn".into())
        } else if self.is_stopped() {
            Some("the run was stopped before its turn".into())
        } else {
            self.lock.and_then(FleetLock::loss)
        }
    }

    /// Opens a connection that is known as this run's, whose path is closed, and that waits for no lock longer than the
    /// run does.
    pub(crate) fn open(&self, connect: &Connector<'_>) -> Result<PgConnection, Error> {
        let mut conn = connect()?;
        self.prepare(&mut conn)?;
        Ok(conn)
    }

    /// Has a connection be known as this run's, stay open while it waits, and wait for no lock longer than the run does.
    pub(crate) fn prepare(&self, conn: &mut PgConnection) -> Result<(), Error> {
        let (name, bounds) = (quote::literal(self.name), lock::bounding("SET", self.lock_timeout, None));
        // The splitter of scripts reads literals in the standard way.
        let path = format!("SET search_path TO {CLOSED_PATH}; SET standard_conforming_strings = on");
        Ok(conn.batch_execute(&format!("SET application_name = {name}; {path}; {bounds}; {KEEP_OPEN}"))?)
    }

    /// Takes the lock of the fleet on this connection.
    pub(crate) fn lock_fleet(&self, conn: PgConnection) -> Result<FleetLock, Error> {
        let at_most = (self.wait < Duration::MAX).then_some(self.wait);
        FleetLock::take(
            conn,
            self.name,
            self.wait,
            || self.is_stopped(),
            |holder| self.observer.on(&Event::Waiting { holder, at_most }),
        )
    }

    /// The same run, remembered under this number, with the lock of the fleet.
    pub(crate) fn with(self, number: Option<i64>, lock: &'a FleetLock) -> Self {
        Self { number, lock: Some(lock), ..self }
    }

    /// Whether `public` is to be worked on before the tenants.
    pub(crate) fn public_is_first(&self) -> bool {
        matches!(self.goal, Goal::Latest)
    }

    /// Whether `public` is to be worked on after the tenants, if these are all there are.
    pub(crate) fn public_is_last(&self, whole: bool) -> bool {
        match self.goal {
            Goal::Latest => false,
            Goal::Revert { set: Set::Public, .. } => true,
            Goal::Unapply { versions } => whole && versions.contains_key("public"),
            Goal::Revert { .. } | Goal::Redo { .. } => whole,
        }
    }

    /// The tenants that the goal can concern.
    pub(crate) fn concerned(&self, mut tenants: Vec<SchemaName>) -> Vec<SchemaName> {
        match self.goal {
            Goal::Revert { set: Set::Public, .. } => tenants.clear(),
            Goal::Unapply { versions } => tenants.retain(|schema| versions.contains_key(schema.as_str())),
            _ => {}
        }
        tenants
    }

    /// What is remembered of it from the beginning.
    pub(crate) fn beginning(&self) -> runs::Beginning<'static> {
        let migration = |(set, migration): (&str, &Migration)| {
            json!({
                "set": set, "version": migration.version(), "checksum": migration.checksum()
            })
        };
        runs::Beginning {
            options: self.options(),
            program: concat!("tenantry ", env!("CARGO_PKG_VERSION")),
            migrations: self.migrations.all().map(migration).collect(),
        }
    }

    fn options(&self) -> Value {
        json!({
            "goal": self.goal,
            "jobs": self.jobs,
            "lock_timeout_ms": self.lock_timeout.as_millis() as u64,
            "statement_timeout_ms": self.statement_timeout.map(|timeout| timeout.as_millis() as u64),
            "lock_budget_ms": self.lock_budget.as_millis() as u64,
            "attempts": self.attempts,
            "max_failures": self.max_failures,
            "canary": self.canary,
            "waves": self.waves,
        })
    }
}

fn default_jobs() -> usize {
    thread::available_parallelism().map_or(2, |cores| (cores.get() * 2).min(8))
}
