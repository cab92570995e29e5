use serde::Serialize;

use super::{Goal, Migrations, SchemaStatus, State, step::Direction};
use crate::{Error, SchemaName};

/// What a run would do, as far as can be seen without doing it.
#[derive(Debug, Serialize)]
pub struct Plan<'m> {
    /// The schemas in which something would be done, in the order of the run.
    pub schemas: Vec<Planned<'m>>,
    /// The schemas, or what the directory wrote in their place, in which nothing could be done, and why.
    pub refused: Vec<(String, String)>,
    /// Migrations whose text is another than the one that an earlier run applied.
    pub edited: Vec<String>,
}

/// What would be done in one schema.
#[derive(Debug, Serialize)]
pub struct Planned<'m> {
    /// Where.
    pub schema: SchemaName,
    /// What, in this order.
    pub steps: Vec<PlannedStep<'m>>,
}

/// One migration that would be applied or taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct PlannedStep<'m> {
    /// The name of its folder.
    pub name: &'m str,
    /// False where it would be taken back.
    pub up: bool,
    /// The script; `None` for a migration written in Rust.
    #[serde(skip)]
    pub sql: Option<&'m str>,
}

impl<'m> Plan<'m> {
    /// What the goal asks for in schemas that stand so.
    pub(crate) fn new(goal: &Goal, found: Vec<SchemaStatus>, migrations: &'m Migrations) -> Self {
        let mut plan = Self { schemas: Vec::new(), refused: Vec::new(), edited: Vec::new() };
        for SchemaStatus { schema, state } in found {
            match steps(goal, &schema, state, migrations) {
                Ok(steps) if steps.is_empty() => {}
                Ok(steps) => plan.schemas.push(Planned { schema, steps }),
                Err(reason) => plan.refused.push((schema.to_string(), reason)),
            }
        }
        plan
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.schemas.is_empty()
    }
}

fn steps<'m>(
    goal: &Goal,
    schema: &SchemaName,
    state: State,
    migrations: &'m Migrations,
) -> Result<Vec<PlannedStep<'m>>, String> {
    let applied = match state {
        State::Known { applied, .. } => applied,
        State::Missing => return Err(Error::MissingSchema { schema: schema.clone() }.to_string()),
        State::Unreadable { reason } => return Err(reason),
    };
    let steps = goal.steps(schema, &applied, migrations).map_err(|error| error.chain())?;
    let planned = steps.into_iter().map(|step| match step.direction {
        Direction::Up => PlannedStep { name: step.migration.name(), up: true, sql: step.migration.sql() },
        Direction::Down => PlannedStep { name: step.migration.name(), up: false, sql: step.migration.down_sql() },
    });
    Ok(planned.collect())
}
