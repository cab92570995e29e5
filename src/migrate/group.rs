//! Several tenants in one message: the quick way, for when nothing is in the way.

use std::time::Duration;

use diesel::{PgConnection, QueryResult, connection::SimpleConnection, migration::CREATE_MIGRATIONS_TABLE};

use super::{
    Run, half_done,
    set::Script,
    step::{self, Direction, Step},
};
use crate::{
    SchemaName,
    pg::{
        self, catalog, ddl, lock,
        scope::{self, Mark},
        statements,
    },
};

/// What is to be done in one schema.
pub(super) struct Task<'m> {
    pub(super) schema: SchemaName,
    pub(super) steps: Vec<Step<'m>>,
    /// Whether the schema has no migration yet.
    pub(super) fresh: bool,
}

/// Takes the steps of these schemas as one transaction and one message; false where that cannot be.
///
/// Everything that could be in the way makes the message fail, and then all of it is undone: a schema that
/// is missing or locked, a version that somebody else has recorded meanwhile, a script. The caller then takes
/// the schemas one by one, which tells what it was.
pub(super) fn apply(run: &Run<'_>, conn: &mut PgConnection, group: &[Task<'_>]) -> QueryResult<bool> {
    let mark = Mark::of_group();
    let parts: Option<Vec<String>> = group.iter().map(|task| part(task, &mark)).collect();
    let Some(parts) = parts else { return Ok(false) };
    if pg::depth(conn) > 0 {
        // A COMMIT would end what is not ours.
        return Ok(false);
    }
    let steps = group.iter().flat_map(|task| task.steps.iter().map(|step| (&task.schema, *step)));
    // The run ends with a commit that waits for the disk, and WAL is written in order.
    let message = format!(
        "BEGIN; SET LOCAL synchronous_commit = off; {}; {};\n{};\n{}\n{};\nCOMMIT",
        mark.set(),
        lock::bounding("SET LOCAL", run.lock_timeout, run.statement_timeout),
        lock::must_lock(group.iter().map(|task| &task.schema)),
        parts.concat(),
        run.number.map(|number| step::remember_all(number, steps)).unwrap_or_default(),
    );
    let sent = conn.batch_execute(&message);
    if sent.is_err() && is_half_committed(conn, &mark) {
        forget_last(conn, group)?;
    }
    sent.map(|()| true)
}

/// Rolls back, and finds out whether a script has committed what was sent before it: with its own record, and a half of
/// what it does.
fn is_half_committed(conn: &mut PgConnection, mark: &Mark) -> bool {
    let asked = conn.batch_execute(&format!("ROLLBACK; SELECT {}", mark.unless_committed()));
    asked.is_err() && !pg::is_lost(conn)
}

/// Makes the migration pending again that has committed the transaction: the last one of the message that is recorded.
fn forget_last(conn: &mut PgConnection, group: &[Task<'_>]) -> QueryResult<()> {
    let names: Vec<&str> = group.iter().map(|task| task.schema.as_str()).collect();
    let histories = catalog::histories(conn, &names)?;
    let is_readable = |task: &&Task<'_>| histories.get(task.schema.as_str()) == Some(&catalog::History::Readable);
    let schemas: Vec<&SchemaName> = group.iter().filter(is_readable).map(|task| &task.schema).collect();
    let recorded = catalog::versions(conn, &schemas)?;
    let is_done = |task: &Task<'_>, step: &Step<'_>| {
        let is_recorded = |versions: &Vec<String>| versions.iter().any(|known| known == step.migration.version());
        recorded.get(task.schema.as_str()).is_some_and(is_recorded) == (step.direction == Direction::Up)
    };
    let steps = group.iter().flat_map(|task| task.steps.iter().map(move |step| (task, step)));
    match steps.rev().find(|(task, step)| is_done(task, step)) {
        Some((task, step)) => half_done::forget(None, conn, &task.schema, &[*step]),
        None => Ok(()),
    }
}

/// One schema's part of the message.
fn part(task: &Task<'_>, mark: &Mark) -> Option<String> {
    let schema = &task.schema;
    let path = ddl::set_path(schema);
    let mut part = format!("{};\n{path};\n", ddl::DISCARD_TEMP);
    if task.fresh {
        part += CREATE_MIGRATIONS_TABLE;
    }
    for step in &task.steps {
        let Ok(Script::Sql(text)) = step.script() else { return None };
        if statements::changes_settings(text) {
            // What it sets would hold for the tenants behind it.
            return None;
        }
        let record = step.record(schema);
        let text = match step.migration.runs_in_transaction() {
            true => text,
            false if task.fresh && step.fits_inside() => &statements::without_concurrently(text),
            false => return None,
        };
        // The record is written to the schema by its name, so that a missing one fails before its script runs
        // anywhere. The script may end in a comment, or without a semicolon.
        let proof = scope::proof(schema, mark);
        part += &format!("{record};\n{text}\n;\nSELECT {proof};\n");
    }
    Some(part)
}

/// How many schemas to put into one message: more while their locks are held for less than the budget.
#[derive(Debug)]
pub(super) struct Pace {
    budget: Duration,
    size: usize,
}

/// A transaction's locks have to fit into the server's table of them.
const MOST: usize = 64;

impl Pace {
    pub(super) fn new(budget: Duration) -> Self {
        Self { budget, size: 1 }
    }

    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// Learns from a group that took so long.
    pub(super) fn took(&mut self, schemas: usize, elapsed: Duration) {
        if elapsed > self.budget {
            self.size = (schemas / 2).max(1);
        } else if elapsed * 2 <= self.budget && schemas == self.size {
            self.size = (self.size * 2).min(MOST);
        }
    }

    /// Learns from a group that failed.
    pub(super) fn failed(&mut self) {
        self.size = 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUDGET: Duration = Duration::from_millis(50);

    #[test]
    fn groups_grow_while_they_are_quick_and_shrink_when_they_are_slow() {
        let mut pace = Pace::new(BUDGET);
        for expected in [2, 4, 8, 16, 32, 64, 64] {
            pace.took(pace.size(), BUDGET / 10);
            assert_eq!(pace.size(), expected);
        }
        pace.took(64, BUDGET * 2);
        assert_eq!(pace.size(), 32);
        pace.took(32, BUDGET * 3 / 4);
        assert_eq!(pace.size(), 32, "between half and all of the budget is right");
        pace.failed();
        assert_eq!(pace.size(), 1);
    }

    #[test]
    fn the_last_group_of_a_run_teaches_nothing() {
        let mut pace = Pace::new(BUDGET);
        pace.took(1, BUDGET / 10);
        pace.took(1, BUDGET / 10);
        assert_eq!(pace.size(), 2);
    }
}
