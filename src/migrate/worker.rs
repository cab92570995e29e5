//! One of a run's connections: takes chunks of the fleet, looks what is to be done, does it, and reads it back.

use std::{
    collections::HashMap,
    thread,
    time::{Duration, Instant},
};

use diesel::{PgConnection, connection::SimpleConnection, r2d2::R2D2Connection};

use super::{
    Connector, Event, Line, Run, SchemaStatus, State, advance,
    carry_out::Pass,
    group::{self, Pace, Task},
    step::{Direction, Step},
    survey::{self, survey_on},
};
use crate::{
    Error, SchemaName,
    pg::{
        ddl, depth,
        engine::{self, Engine},
        transient,
    },
};

/// After how many migrated schemas a worker takes a fresh connection: its catalog cache grows with every table it has
/// seen, and never shrinks.
const RECYCLE: usize = 1000;

/// How many schemas may be looked at for each that may be migrated: of those it sees one small table.
const LOOKS: usize = 10;

pub(super) struct Worker<'p> {
    pass: &'p Pass<'p, 'p>,
    connect: &'p Connector<'p>,
    conn: PgConnection,
    pace: Pace,
    engine: Engine,
    served: usize,
    lines: Vec<Line>,
    /// How many of the lines were read back already.
    proven: usize,
}

impl<'p> Worker<'p> {
    pub(super) fn new(pass: &'p Pass<'p, 'p>, connect: &'p Connector<'p>) -> Result<Self, Error> {
        let (mut conn, pace) = (pass.run.open(connect)?, Pace::new(pass.run.lock_budget));
        let engine = engine::detect(&mut conn)?;
        Ok(Self { pass, connect, conn, pace, engine, served: 0, lines: Vec::new(), proven: 0 })
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
        if self.served >= RECYCLE * LOOKS {
            self.read_back();
            self.reconnect()?;
        }
        self.served += chunk.len();
        let run = self.pass.run;
        let found = match survey_on(&mut self.conn, self.engine, chunk, run.migrations) {
            Err(_) if self.conn.is_broken() => {
                self.reconnect()?;
                survey_on(&mut self.conn, self.engine, chunk, run.migrations)?
            }
            found => found?,
        };
        let mut tasks = Vec::new();
        for SchemaStatus { schema, state } in found {
            let idle = match task(run, &schema, state) {
                Ok(Some(task)) => {
                    tasks.push(task);
                    continue;
                }
                Ok(None) => Line::idle(schema.as_str(), Ok(())),
                Err(error) => Line::idle(schema.as_str(), Err(error)),
            };
            self.lines.push(self.pass.told(idle));
        }
        // Alone a schema that is missing or cannot be read will be told what is wrong with it.
        let (strange, tasks): (Vec<_>, Vec<_>) = tasks.into_iter().partition(|task| task.steps.is_empty());
        self.one_by_one(&strange)?;
        self.served += tasks.len() * (LOOKS - 1);
        let mut left = tasks.as_slice();
        while !left.is_empty() && !self.pass.is_over() {
            let (group, rest) = left.split_at(self.pace.size().min(left.len()));
            self.group(group)?;
            left = rest;
        }
        Ok(())
    }

    /// Takes a group of schemas to the goal together if that goes, or else one by one.
    fn group(&mut self, group: &[Task<'_>]) -> Result<(), Error> {
        let (run, started) = (self.pass.run, Instant::now());
        let _span = tracing::debug_span!("group", tenants = group.len()).entered();
        group.iter().for_each(|task| run.observer.on(&Event::Began { schema: &task.schema }));
        // Citus takes most DDL only in a message of its own.
        let sent = match self.engine {
            Engine::Postgres => group::apply(run, &mut self.conn, group),
            Engine::Citus => Ok(false),
        };
        match sent {
            Ok(true) => {
                let duration = started.elapsed();
                self.pace.took(group.len(), duration);
                let share = duration / group.len() as u32;
                let line = |task: &Task<'_>| self.pass.told(line(&task.schema, &task.steps, Ok(()), share));
                self.lines.extend(group.iter().map(line));
                return Ok(());
            }
            Ok(false) => {}
            Err(error) => {
                tracing::debug!(%error, "Taking {} schemas one by one", group.len());
                self.pace.failed();
            }
        }
        if self.conn.is_broken() && !run.goal.is_repeatable() {
            // It may have been done: once more could be once too often.
            for task in group {
                let versions = task.steps.iter().map(|step| step.migration.version().into()).collect();
                let error = Error::Unproven { schema: task.schema.clone(), versions };
                self.lines.push(self.pass.told(Line::idle(task.schema.as_str(), Err(error))));
            }
            return self.reconnect();
        }
        self.one_by_one(group)
    }

    fn one_by_one(&mut self, tasks: &[Task<'_>]) -> Result<(), Error> {
        for task in tasks {
            forget(&mut self.conn);
            if self.conn.is_broken() {
                self.reconnect()?;
            }
            if self.pass.is_over() {
                break;
            }
            self.lines.push(self.pass.told(alone(self.pass.run, &mut self.conn, &task.schema)));
        }
        Ok(())
    }

    /// Opens another connection, with some patience for a server that starts again.
    fn reconnect(&mut self) -> Result<(), Error> {
        let mut pause = Duration::from_millis(rand::random_range(50..150));
        self.conn = loop {
            match self.pass.run.open(self.connect) {
                Ok(conn) => break conn,
                Err(error) if pause > PATIENCE || self.pass.is_over() => return Err(error),
                Err(_) => thread::sleep(pause),
            }
            pause *= 2;
        };
        self.served = 0;
        Ok(())
    }

    /// Reads back on the connection that made the changes, whose cache knows the tables.
    fn read_back(&mut self) {
        if self.conn.is_broken() && self.reconnect().is_err() {
            tracing::warn!("No connection to read back on");
        }
        read_back(self.pass.run, &mut self.conn, &mut self.lines[self.proven..]);
        self.proven = self.lines.len();
    }
}

/// The longest of the pauses between two attempts to connect; all of them together are twice as long.
const PATIENCE: Duration = Duration::from_secs(2);

/// What is to be done in a schema, if anything is.
fn task<'m>(run: &Run<'m>, schema: &SchemaName, state: State) -> Result<Option<Task<'m>>, Error> {
    let schema = schema.clone();
    Ok(match state {
        State::Known { applied, .. } => {
            let (steps, fresh) = (run.goal.steps(&schema, &applied, run.migrations)?, applied.is_empty());
            (!steps.is_empty()).then_some(Task { schema, steps, fresh })
        }
        State::Missing | State::Unreadable { .. } => Some(Task { schema, steps: Vec::new(), fresh: false }),
    })
}

/// Drops what the last tenant's script has left of temporary tables. A connection that is lost is then known to be.
pub(super) fn forget(conn: &mut PgConnection) {
    // A caller's transaction may be using its own.
    if depth(conn) == 0
        && let Err(error) = conn.batch_execute(ddl::DISCARD_TEMP)
    {
        tracing::debug!(%error, "Could not drop temporary tables");
    }
}

/// Takes one schema to the goal in a transaction of its own.
pub(super) fn alone(run: &Run<'_>, conn: &mut PgConnection, schema: &SchemaName) -> Line {
    let _span = tracing::info_span!("tenant", tenant.schema = %schema).entered();
    let started = Instant::now();
    let mut done = Vec::new();
    let result = advance(run, conn, schema, &mut done);
    let unclear = result.as_ref().is_err_and(|error| transient::is_unclear(conn, error));
    Line { unclear, ..line(schema, &done, result, started.elapsed()) }
}

fn line(schema: &SchemaName, steps: &[Step<'_>], result: Result<(), Error>, duration: Duration) -> Line {
    let versions = |direction| {
        let steps = steps.iter().filter(move |step| step.direction == direction);
        steps.map(|step| step.migration.version().into()).collect()
    };
    let (reverted, applied) = (versions(Direction::Down), versions(Direction::Up));
    Line { reverted, applied, duration, ..Line::idle(schema.as_str(), result) }
}

/// Corrects the lines that claim what the catalog does not show.
pub(super) fn read_back(run: &Run<'_>, conn: &mut PgConnection, lines: &mut [Line]) {
    let changed: Vec<SchemaName> =
        lines.iter().filter(|line| line.is_changed()).filter_map(|line| line.schema.parse().ok()).collect();
    let found = engine::detect(conn).and_then(|engine| survey::read_back(conn, engine, &changed, run.migrations));
    match found {
        Ok(found) => {
            let mut found: HashMap<String, SchemaStatus> =
                found.into_iter().map(|status| (status.schema.to_string(), status)).collect();
            for line in lines.iter_mut().filter(|line| line.result.is_ok()) {
                if let Some(error) = found.remove(&line.schema).and_then(|status| refute(line, status)) {
                    line.result = Err(error);
                }
            }
        }
        Err(error) => doubt(lines.iter_mut(), &error.into()),
    }
}

/// Takes back what the lines claim, since it cannot be seen.
pub(super) fn doubt<'l>(lines: impl Iterator<Item = &'l mut Line>, error: &Error) {
    for line in lines.filter(|line| line.is_changed() && line.result.is_ok()) {
        let reason = format!("its state could not be read back: {}", error.chain());
        line.result = Err(Error::NotReached { reason });
    }
}

/// What the catalog says against a line.
fn refute(line: &Line, status: SchemaStatus) -> Option<Error> {
    let schema = status.schema;
    match status.state {
        State::Missing => Some(Error::MissingSchema { schema }),
        State::Unreadable { reason } => Some(Error::NotReached { reason }),
        State::Known { applied: recorded, .. } => {
            let gone = line.reverted.iter().filter(|version| !line.applied.contains(version));
            let lacking = line.applied.iter().filter(|version| !recorded.contains(version));
            let versions: Vec<String> =
                lacking.chain(gone.filter(|version| recorded.contains(version))).cloned().collect();
            (!versions.is_empty()).then_some(Error::Unproven { schema, versions })
        }
    }
}
