//! One of a run's connections: takes chunks of the fleet, looks what they lack, applies it, and reads it back.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use diesel::{PgConnection, r2d2::R2D2Connection};

use super::{
    Connector, Event, Line, Run, SchemaStatus, State, apply,
    group::{self, Pace},
    survey,
};
use crate::{Error, SchemaName};

/// After how many schemas a worker takes a fresh connection: its catalog cache grows with every schema it has
/// seen, and never shrinks.
const RECYCLE: usize = 1000;

pub(super) struct Worker<'r> {
    run: &'r Run<'r>,
    connect: &'r Connector<'r>,
    conn: PgConnection,
    pace: Pace,
    served: usize,
    lines: Vec<Line>,
    /// How many of the lines were read back already.
    proven: usize,
}

impl<'r> Worker<'r> {
    pub(super) fn new(run: &'r Run<'_>, connect: &'r Connector<'_>) -> Result<Self, Error> {
        let pace = Pace::new(run.lock_budget);
        Ok(Self { run, connect, conn: connect()?, pace, served: 0, lines: Vec::new(), proven: 0 })
    }

    /// Works on chunks until there are none left, or no connection.
    pub(super) fn work<'s>(mut self, take: &dyn Fn() -> &'s [SchemaName]) -> Vec<Line> {
        loop {
            let chunk = take();
            if chunk.is_empty() {
                break;
            }
            if let Err(error) = self.chunk(chunk) {
                tracing::error!(error = %error.chain(), "The connection is lost");
                break;
            }
        }
        self.read_back();
        self.lines
    }

    fn chunk(&mut self, chunk: &[SchemaName]) -> Result<(), Error> {
        if self.served >= RECYCLE {
            self.read_back();
            self.reconnect()?;
        }
        self.served += chunk.len();
        let found = match survey(&mut self.conn, chunk, self.run.migrations) {
            Err(_) if self.conn.is_broken() => {
                self.reconnect()?;
                survey(&mut self.conn, chunk, self.run.migrations)?
            }
            found => found?,
        };
        let (current, behind): (Vec<_>, Vec<_>) = found.into_iter().partition(SchemaStatus::is_current);
        self.lines.extend(current.iter().map(|status| told(self.run, &status.schema, Ok(Vec::new()), Duration::ZERO)));
        let mut left = behind.as_slice();
        while !left.is_empty() && !self.run.is_stopped() {
            let (group, rest) = left.split_at(self.pace.size().min(left.len()));
            self.group(group);
            left = rest;
            if self.conn.is_broken() {
                self.reconnect()?;
            }
        }
        Ok(())
    }

    /// Migrates a group of schemas together if that goes, or else one by one.
    fn group(&mut self, group: &[SchemaStatus]) {
        let started = Instant::now();
        match group::apply(&mut self.conn, group, self.run.migrations, self.run.lock_timeout) {
            Ok(true) => {
                let duration = started.elapsed();
                self.pace.took(group.len(), duration);
                let share = duration / group.len() as u32;
                let line = |status: &SchemaStatus| told(self.run, &status.schema, Ok(status.pending().to_vec()), share);
                self.lines.extend(group.iter().map(line));
                return;
            }
            Ok(false) => {}
            Err(error) => {
                tracing::debug!(%error, "Taking {} schemas one by one", group.len());
                self.pace.failed();
            }
        }
        self.lines.extend(group.iter().map(|status| alone(self.run, &mut self.conn, &status.schema)));
    }

    fn reconnect(&mut self) -> Result<(), Error> {
        self.conn = (self.connect)()?;
        self.served = 0;
        Ok(())
    }

    /// Reads back on the connection that made the changes, whose cache knows the tables.
    fn read_back(&mut self) {
        read_back(self.run, &mut self.conn, &mut self.lines[self.proven..]);
        self.proven = self.lines.len();
    }
}

/// Migrates one schema in a transaction of its own, and tells of it.
pub(super) fn alone(run: &Run<'_>, conn: &mut PgConnection, schema: &SchemaName) -> Line {
    let started = Instant::now();
    let result = apply(conn, schema, run.migrations, run.lock_timeout);
    told(run, schema, result, started.elapsed())
}

/// The line of a schema, once the log and the observer were told of it.
fn told(run: &Run<'_>, schema: &SchemaName, result: Result<Vec<String>, Error>, duration: Duration) -> Line {
    let duration_ms = duration.as_millis() as u64;
    match &result {
        Ok(applied) if applied.is_empty() => {}
        Ok(applied) => tracing::info!(tenant.schema = %schema, ?applied, duration_ms, "Migrated `{schema}`"),
        Err(error) => {
            tracing::warn!(tenant.schema = %schema, error = %error.chain(), duration_ms, "Could not migrate `{schema}`");
        }
    }
    let line = Line { schema: schema.to_string(), result, duration };
    run.observer.on(&Event::Finished(&line));
    line
}

/// Corrects the lines that claim a migration which the catalog does not show.
pub(super) fn read_back(run: &Run<'_>, conn: &mut PgConnection, lines: &mut [Line]) {
    let migrated = lines.iter().filter(|line| line.outcome() == "migrated");
    let schemas: Vec<SchemaName> = migrated.filter_map(|line| line.schema.parse().ok()).collect();
    match survey(conn, &schemas, run.migrations) {
        Ok(found) => {
            let mut refuted: HashMap<String, Error> = found.iter().filter_map(refute).collect();
            for line in lines {
                if let Some(error) = refuted.remove(&line.schema) {
                    line.result = Err(error);
                }
            }
        }
        Err(error) => doubt(lines, &error.into()),
    }
}

/// Takes back what the lines claim, since it cannot be seen.
pub(super) fn doubt(lines: &mut [Line], error: &Error) {
    for line in lines.iter_mut().filter(|line| line.outcome() == "migrated") {
        let reason = format!("its state could not be read back: {}", error.chain());
        line.result = Err(Error::NotReached { reason });
    }
}

fn refute(status: &SchemaStatus) -> Option<(String, Error)> {
    let schema = status.schema.clone();
    let error = match &status.state {
        State::Known { pending, .. } if pending.is_empty() => return None,
        State::Known { pending, .. } => Error::Unproven { schema, pending: pending.clone() },
        State::Missing => Error::MissingSchema { schema },
        State::Unreadable { reason } => Error::NotReached { reason: reason.clone() },
    };
    Some((status.schema.to_string(), error))
}
