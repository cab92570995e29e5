use std::collections::BTreeMap;

use super::{edited, listed, plural};
use crate::{
    cli::safe,
    migrate::{Plan, PlannedStep},
};

/// What would be done: the schemas together in which it is the same, and the SQL if it is wanted.
pub(in crate::cli) fn plan(plan: &Plan<'_>, sql: bool) -> String {
    let mut groups = BTreeMap::<&[PlannedStep<'_>], Vec<&str>>::new();
    for planned in &plan.schemas {
        groups.entry(&planned.steps).or_default().push(planned.schema.as_str());
    }
    let mut out = edited(&plan.edited);
    for (name, reason) in &plan.refused {
        out += &safe::line(format!("{name}: {reason}"));
    }
    if groups.is_empty() {
        out += "nothing to do\n";
    }
    for (steps, schemas) in &groups {
        out += &safe::line(format!("{} in {}: {}", summary(steps), plural(schemas.len(), "schema"), listed(schemas)));
        for step in *steps {
            out += &safe::line(format!("    {}{}", if step.up { "" } else { "back: " }, step.name));
        }
    }
    if sql {
        let mut shown: Vec<PlannedStep<'_>> = Vec::new();
        for step in plan.schemas.iter().flat_map(|planned| &planned.steps) {
            if !shown.contains(step) {
                shown.push(*step);
                let text = step.sql.unwrap_or("-- written in Rust");
                out += &format!("\n-- {}{}\n", safe::line(step.name), text.trim_end());
            }
        }
    }
    out
}

fn summary(steps: &[PlannedStep<'_>]) -> String {
    let up = steps.iter().filter(|step| step.up).count();
    match (up, steps.len() - up) {
        (up, 0) => format!("{} to apply", plural(up, "migration")),
        (0, down) => format!("{} to take back", plural(down, "migration")),
        (_, down) => format!("{} to take back and apply again", plural(down, "migration")),
    }
}
