//! A run over many tenants: in waves, each of them again and again for those who had something passing in their way.

use std::{
    collections::HashMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use diesel::{PgConnection, connection::SimpleConnection};

use super::{
    Connector, Event, Line, Report, Run, survey,
    survey::CHUNK,
    wave,
    worker::{self, Worker},
};
use crate::{
    Error, SchemaName,
    pg::transient::{self, Transient},
};

/// Takes the tenants to the goal, several at a time.
pub(super) fn on_many(run: &Run<'_>, connect: &Connector<'_>, schemas: &[SchemaName]) -> Result<Report, Error> {
    let started = Instant::now();
    let waves = wave::split(schemas, run.canary, run.waves)?;
    let pinned = match run.goal.is_repeatable() {
        true => None,
        false => run.goal.pinned(&survey(&mut run.open(connect)?, schemas, run.migrations)?, run.migrations),
    };
    let run = &Run { goal: pinned.as_ref().unwrap_or(run.goal), ..*run };
    run.observer.on(&Event::Started { tenants: schemas.len() });
    let failed = AtomicUsize::new(0);
    let mut lines = Lines::default();
    let mut reason = None;
    for wave in &waves {
        if waves.len() > 1 {
            run.observer.on(&Event::Wave { name: &wave.name, tenants: wave.schemas.len() });
        }
        attempts(run, &wave.schemas, &failed, &mut lines, |pass, schemas| pass.on_many(connect, schemas))?;
        if is_over(run, &failed) {
            break;
        }
        // Who was not reached did not succeed, either.
        let is_done = |schema: &SchemaName| lines.0.get(schema.as_str()).is_some_and(|line| line.result.is_ok());
        let many = wave.schemas.iter().filter(|schema| !is_done(schema)).count();
        if waves.len() > 1 && many > run.max_failures.unwrap_or(0) {
            reason = Some(format!(
                "{many} of the {} failed before its turn",
                if wave.name == "canary" { "canary" } else { "wave before" }
            ));
            break;
        }
    }
    if lines.0.values().any(Line::is_changed)
        && let Err(error) = flush(connect)
    {
        worker::doubt(lines.0.values_mut(), &error);
    }
    let reason = reason.unwrap_or_else(|| why_over(run, &failed));
    Ok(lines.report(schemas, &reason, started))
}

/// Takes the tenants to the goal on one connection.
pub(super) fn on_one(run: &Run<'_>, conn: &mut PgConnection, schemas: &[SchemaName]) -> Report {
    let started = Instant::now();
    let pinned = match run.goal.is_repeatable() {
        true => None,
        // On a connection that is lost, each schema will be told so.
        false => survey(conn, schemas, run.migrations).ok().and_then(|found| run.goal.pinned(&found, run.migrations)),
    };
    let run = &Run { goal: pinned.as_ref().unwrap_or(run.goal), ..*run };
    run.observer.on(&Event::Started { tenants: schemas.len() });
    let failed = AtomicUsize::new(0);
    let mut lines = Lines::default();
    let result = attempts(run, schemas, &failed, &mut lines, |pass, schemas| {
        let on = schemas.iter().take_while(|_| !pass.is_over());
        let mut alone = |schema| {
            worker::forget(conn);
            pass.told(worker::alone(run, conn, schema))
        };
        let mut lines: Vec<Line> = on.map(&mut alone).collect();
        worker::read_back(run, conn, &mut lines);
        Ok(lines)
    });
    let reason = result.map_or_else(|error| error.chain(), |()| why_over(run, &failed));
    lines.report(schemas, &reason, started)
}

/// One attempt at many tenants.
pub(super) struct Pass<'r, 'm> {
    pub(super) run: &'r Run<'m>,
    /// How many tenants have failed for good.
    failed: &'r AtomicUsize,
    /// Whether there is no other attempt after this one.
    last: bool,
}

impl Pass<'_, '_> {
    /// Whether no more tenants should be begun.
    pub(super) fn is_over(&self) -> bool {
        is_over(self.run, self.failed)
    }

    /// The line, once the observer was told of it.
    pub(super) fn told(&self, line: Line) -> Line {
        match &line.result {
            Err(error) if !self.last && is_passing(self.run, &line) => {
                tracing::info!(tenant.schema = line.schema, error = %error.chain(), "`{}` is put off", line.schema);
                self.run.observer.on(&Event::Deferred { line: &line });
            }
            _ => finish(self.run, &line, self.failed),
        }
        line
    }

    fn on_many(&self, connect: &Connector<'_>, schemas: &[SchemaName]) -> Result<Vec<Line>, Error> {
        let left = Mutex::new(schemas);
        let take = || {
            let mut left = left.lock().unwrap_or_else(PoisonError::into_inner);
            // Towards the end, smaller chunks leave something for every worker.
            let most = if self.is_over() { 0 } else { CHUNK.min(left.len().div_ceil(self.run.jobs * 2)) };
            let (chunk, rest) = left.split_at(most);
            *left = rest;
            chunk
        };
        let first = Worker::new(self, connect)?;
        thread::scope(|threads| {
            // A connection is worth its while for a handful of schemas.
            let others = 1..self.run.jobs.min(schemas.len().div_ceil(8));
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
            Ok(lines)
        })
    }
}

/// What is known of each schema so far.
#[derive(Default)]
struct Lines(HashMap<String, Line>);

impl Lines {
    /// Adds what one more attempt has brought.
    fn add(&mut self, mut line: Line, attempt: u32) {
        line.attempts = attempt;
        if let Some(before) = self.0.remove(&line.schema) {
            line.duration += before.duration;
            line.applied.splice(0..0, before.applied);
            line.reverted.splice(0..0, before.reverted);
        }
        self.0.insert(line.schema.clone(), line);
    }

    /// The lines in the order of the schemas.
    fn report(mut self, schemas: &[SchemaName], reason: &str, started: Instant) -> Report {
        let missed =
            |schema: &SchemaName| Line::idle(schema.as_str(), Err(Error::NotReached { reason: reason.into() }));
        let lines = schemas.iter().map(|schema| self.0.remove(schema.as_str()).unwrap_or_else(|| missed(schema)));
        Report { lines: lines.collect(), elapsed: started.elapsed(), ..Report::default() }
    }
}

/// Makes one pass after another, for those that are left, until nothing passing is in anybody's way.
fn attempts(
    run: &Run<'_>,
    schemas: &[SchemaName],
    failed: &AtomicUsize,
    lines: &mut Lines,
    mut make: impl FnMut(&Pass<'_, '_>, &[SchemaName]) -> Result<Vec<Line>, Error>,
) -> Result<(), Error> {
    let mut left = schemas.to_vec();
    for attempt in 1..=run.attempts {
        let pass = Pass { run, failed, last: attempt == run.attempts };
        let found = match make(&pass, &left) {
            Ok(found) => found,
            // What earlier waves have done is to be told.
            Err(error) if attempt == 1 && lines.0.is_empty() => return Err(error),
            Err(error) => {
                tracing::warn!(error = %error.chain(), attempt, "No connection for another attempt");
                Vec::new()
            }
        };
        found.into_iter().for_each(|line| lines.add(line, attempt));
        // Those without a line were not reached, since a connection was lost.
        left.retain(|schema| lines.0.get(schema.as_str()).is_none_or(|line| is_passing(run, line)));
        if left.is_empty() || pass.last || is_over(run, failed) {
            break;
        }
        pause(run, attempt);
    }
    for line in
        left.iter().filter_map(|schema| lines.0.get(schema.as_str())).filter(|line| line.attempts < run.attempts)
    {
        finish(run, line, failed);
    }
    Ok(())
}

/// Whether it is worth another try, and one may be made: when a connection is lost, so may the answer to a COMMIT be,
/// and what was committed before the rest failed would be gone back behind.
fn is_passing(run: &Run<'_>, line: &Line) -> bool {
    let unclear = line.unclear.then_some(Transient::Busy);
    match line.result.as_ref().err().and_then(|error| transient::of(error).or(unclear)) {
        Some(Transient::Lost) => run.goal.is_repeatable(),
        Some(_) => run.goal.is_repeatable() || !line.is_changed(),
        None => false,
    }
}

/// Tells of a tenant that will not be tried again.
fn finish(run: &Run<'_>, line: &Line, failed: &AtomicUsize) {
    let duration_ms = line.duration.as_millis() as u64;
    let schema = &line.schema;
    match &line.result {
        Ok(()) if !line.is_changed() => {}
        Ok(()) => {
            tracing::info!(tenant.schema = schema, applied = ?line.applied, reverted = ?line.reverted, duration_ms, "`{schema}` is {}", line.outcome());
        }
        Err(error) => {
            failed.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(tenant.schema = schema, error = %error.chain(), duration_ms, "Could not migrate `{schema}`");
        }
    }
    run.observer.on(&Event::Finished(line));
}

fn is_over(run: &Run<'_>, failed: &AtomicUsize) -> bool {
    run.is_ended() || run.max_failures.is_some_and(|most| failed.load(Ordering::Relaxed) > most)
}

fn why_over(run: &Run<'_>, failed: &AtomicUsize) -> String {
    let failed = failed.load(Ordering::Relaxed);
    match run.why_ended() {
        Some(reason) => reason,
        None if run.max_failures.is_some_and(|most| failed > most) => {
            format!("the run ended after {failed} had failed, before its turn")
        }
        None => "the connection was lost before its turn".into(),
    }
}

/// Waits longer after each attempt, and not as long as others that have failed at the same moment.
fn pause(run: &Run<'_>, attempt: u32) {
    let most = 500_u64 << attempt.min(6);
    let until = Instant::now() + Duration::from_millis(rand::random_range(most / 4..most));
    while Instant::now() < until && !run.is_stopped() {
        thread::sleep(Duration::from_millis(20));
    }
}

/// Groups do not wait for the disk. One commit that does waits for all that came before it.
fn flush(connect: &Connector<'_>) -> Result<(), Error> {
    Ok(connect()?.batch_execute("BEGIN; SET LOCAL synchronous_commit = on; SELECT txid_current(); COMMIT")?)
}
