//! A monolith's migrations, its directory of tenants, and what it knows of its tables, together.

use std::{collections::BTreeMap, thread, time::Duration};

use diesel::{PgConnection, connection::SimpleConnection};
use serde::Serialize;
use serde_json::json;

use crate::{
    Error, SchemaName,
    directory::{self, Listing, TenantDirectory},
    doctor::Rules,
    migrate::{self, Connector, Goal, Line, Migrations, Plan, Report, Run, SchemaStatus, State, survey},
    pg::{atomically, pooler},
    runs,
};

/// All schemas of one database: `public`, and the tenants of a directory.
#[allow(missing_debug_implementations)] // the directory has none
#[derive(Clone, Copy)]
pub struct Fleet<'a> {
    /// What every schema should have.
    pub migrations: &'a Migrations,
    /// Which tenants there are.
    pub directory: &'a dyn TenantDirectory,
    /// What the doctor and the repair need to know of the tables.
    pub rules: &'a Rules,
}

/// Where a fleet stands.
#[derive(Debug, Serialize)]
pub struct Status {
    /// Every schema, `public` first if the directory lists all tenants.
    pub schemas: Vec<SchemaStatus>,
    /// Entries of the directory that can be no schema's name, and why.
    pub refused: Vec<(String, String)>,
    /// Migrations whose text is another than the one that an earlier run applied.
    pub edited: Vec<String>,
}

impl Fleet<'_> {
    /// Carries out a run: takes `public` and every tenant that is listed, active or suspended, to the run's goal.
    ///
    /// Where migrations are applied, `public` comes first; where they are taken back it comes last, and only if every
    /// tenant went back and the directory lists all of them.
    ///
    /// # Errors
    ///
    /// [`Error::RunInProgress`], [`Error::Pooler`], [`Error::Record`], [`Error::RecordDenied`], or when `public` could not
    /// be migrated, so that no tenant was touched, or when there is no connection. A tenant's failure is a line of the
    /// report.
    pub fn run(&self, run: &Run<'_>, connect: &Connector<'_>) -> Result<Report, Error> {
        migrate::watched(run, connect, |run| {
            let (session, mut conn) = pooler::pair(connect)?;
            let lock = run.lock_fleet(session)?;
            run.prepare(&mut conn)?;
            let number = run.record.then(|| runs::begin(&mut conn, &run.beginning())).transpose()?;
            let run = run.with(number, &lock);
            let overtaken = |conn: &mut PgConnection| match number {
                Some(number) => Ok(runs::is_overtaken(conn, number)?),
                None => Ok(false),
            };
            let mut outcome = thread::scope(|threads| {
                let _watch = lock.watch(threads, connect, &overtaken);
                self.recorded(&run, conn, connect)
            });
            let lost = lock.release();
            if let Ok(report) = &mut outcome {
                report.lock_lost = lost;
            }
            outcome
        })
    }

    /// Carries out a run under the lock, and records its end.
    fn recorded(&self, run: &Run<'_>, mut conn: PgConnection, connect: &Connector<'_>) -> Result<Report, Error> {
        let mut outcome = self.carry_out(run, &mut conn, |conn, schemas| {
            let report = run.tenants(connect, schemas)?;
            // Idle all the while, it may have been lost without a word.
            if conn.batch_execute("SELECT 1").is_err()
                && let Ok(another) = run.open(connect)
            {
                *conn = another;
            }
            Ok(report)
        });
        // By its own name it would still be cancelled. If it is lost, the next statement says so.
        let _ = conn.batch_execute("RESET application_name");
        if let Some(number) = run.number
            && let Err(error) = runs::end(&mut conn, number, &ending(&outcome))
        {
            tracing::error!(%error, "Run {number} stays without an end");
            if let Ok(report) = &mut outcome {
                report.unremembered = Some(error.to_string());
            }
        }
        outcome
    }

    /// Carries out a run on one connection, which may be inside a test transaction. It is not remembered.
    ///
    /// # Errors
    ///
    /// As [`run`](Fleet::run).
    pub fn run_on(&self, run: &Run<'_>, conn: &mut PgConnection) -> Result<Report, Error> {
        self.carry_out(run, conn, |conn, schemas| Ok(run.tenants_on(conn, schemas)))
    }

    fn carry_out(
        &self,
        run: &Run<'_>,
        conn: &mut PgConnection,
        tenants: impl FnOnce(&mut PgConnection, &[SchemaName]) -> Result<Report, Error>,
    ) -> Result<Report, Error> {
        run.check()?;
        let whole = self.directory.is_whole();
        // A choice that cannot be made is refused before anything is done. Whatever else is in the way may be what
        // the migrations of `public` make.
        if self.directory.is_choice()
            && let Err(error @ (Error::Request { .. } | Error::SchemaName { .. })) =
                atomically(conn, |conn| self.listing(run, conn))
        {
            return Err(error);
        }
        let first = if run.public_is_first() { Some(run.public(conn)?) } else { None };
        // The registry may have been made by that very migration.
        let listing = self.listing(run, conn)?;
        let schemas = run.concerned(listing.schemas());
        let mut report = tenants(conn, &schemas)?;
        let public = match first {
            Some(line) => Some(line),
            None if !run.public_is_last(whole) => None,
            None if report.failures().next().is_some() => {
                let reason = "it comes last, and not all tenants went before it".into();
                Some(Line::idle("public", Err(Error::NotReached { reason })))
            }
            None => Some(run.public(conn).unwrap_or_else(|error| Line::idle("public", Err(error)))),
        };
        report.elapsed += public.as_ref().map_or(Duration::ZERO, |line| line.duration);
        report.lines.splice(0..0, public);
        report.lines.extend(listing.refused.iter().map(|(name, rule)| {
            let source = rule.clone();
            Line::idle(name.as_str(), Err(Error::SchemaName { name: name.clone(), source }))
        }));
        report.edited = self.edited(conn).unwrap_or_else(|error| {
            tracing::warn!(error = %error.chain(), "Could not look for edited migrations");
            Vec::new()
        });
        report.run = run.number;
        Ok(report)
    }

    /// Lists the tenants and, where they were chosen among others, remembers which they are.
    fn listing(&self, run: &Run<'_>, conn: &mut PgConnection) -> Result<Listing, Error> {
        let listing = directory::read(conn, self.directory)?;
        if let (Some(number), true) = (run.number, self.directory.is_choice()) {
            let schemas = run.concerned(listing.schemas());
            let public = run.public_is_last(self.directory.is_whole()).then_some("public");
            let chosen: Vec<&str> = schemas.iter().map(SchemaName::as_str).chain(public).collect();
            runs::chose(conn, number, &chosen)?;
        }
        Ok(listing)
    }

    fn edited(&self, conn: &mut PgConnection) -> Result<Vec<String>, Error> {
        let migrations: Vec<(&str, &str)> =
            self.migrations.all().map(|(_, migration)| (migration.version(), migration.checksum())).collect();
        Ok(runs::edited(conn, &migrations)?)
    }

    /// Tells where every schema stands, and writes nothing: a role that may only SELECT is enough.
    ///
    /// # Errors
    ///
    /// [`Error::NoRegistry`], or those of the queries.
    pub fn status(&self, conn: &mut PgConnection) -> Result<Status, Error> {
        let listing = directory::read(conn, self.directory)?;
        let public = self.directory.is_whole().then(SchemaName::public);
        let schemas: Vec<SchemaName> = public.into_iter().chain(listing.schemas()).collect();
        let refused = listing.refused.iter().map(|(name, rule)| (name.clone(), rule.to_string())).collect();
        Ok(Status { schemas: survey(conn, &schemas, self.migrations)?, refused, edited: self.edited(conn)? })
    }

    /// Tells what a run with this goal would do, and writes nothing.
    ///
    /// # Errors
    ///
    /// As [`status`](Fleet::status).
    pub fn plan(&self, goal: &Goal, conn: &mut PgConnection) -> Result<Plan<'_>, Error> {
        let run = Run::new(self.migrations).goal(goal);
        let listing = directory::read(conn, self.directory)?;
        let mut schemas = run.concerned(listing.schemas());
        if run.public_is_first() {
            schemas.insert(0, SchemaName::public());
        } else if run.public_is_last(self.directory.is_whole()) {
            schemas.push(SchemaName::public());
        }
        let mut plan = Plan::new(goal, survey(conn, &schemas, self.migrations)?, self.migrations);
        plan.refused.extend(listing.refused.iter().map(|(name, rule)| (name.clone(), rule.to_string())));
        plan.edited = self.edited(conn)?;
        Ok(plan)
    }
}

impl Status {
    /// The schemas, and the directory's refused entries, that are not known to have this version and all before it.
    pub fn lacking(&self, version: &str) -> Vec<&str> {
        let has = |status: &&SchemaStatus| match &status.state {
            State::Known { applied, out_of_order, .. } => {
                applied.iter().any(|known| known == version)
                    && out_of_order.iter().all(|missing| missing.as_str() > version)
            }
            _ => false,
        };
        let schemas = self.schemas.iter().filter(|status| !has(status)).map(|status| status.schema.as_str());
        schemas.chain(self.refused.iter().map(|(name, _)| name.as_str())).collect()
    }

    /// Whether every schema is there, readable, known and up to date.
    pub fn is_healthy(&self) -> bool {
        let healthy = |status: &SchemaStatus| matches!(&status.state, State::Known { pending, unknown, .. } if pending.is_empty() && unknown.is_empty());
        self.refused.is_empty() && self.schemas.iter().all(healthy)
    }
}

/// How a run is remembered.
fn ending(outcome: &Result<Report, Error>) -> runs::End {
    let report = match outcome {
        Ok(report) => report,
        Err(error) => return runs::End { error: Some(error.chain()), ..runs::End::default() },
    };
    let mut counts = BTreeMap::<&str, usize>::new();
    for line in &report.lines {
        *counts.entry(line.outcome()).or_default() += 1;
    }
    let past = |line: &Line| runs::PastLine {
        schema: line.schema.clone(),
        outcome: line.outcome().into(),
        attempts: line.attempts.into(),
        duration_ms: line.duration.as_millis() as i64,
        error: line.result.as_ref().err().map(Error::chain),
    };
    let told = report.lines.iter().filter(|line| line.outcome() != "up to date");
    runs::End { outcomes: json!(counts), error: None, lines: told.map(past).collect() }
}
