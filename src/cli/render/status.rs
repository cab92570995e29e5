use std::collections::BTreeMap;

use super::{Columns, edited, listed, plural};
use crate::{
    Status,
    cli::safe,
    migrate::{SchemaStatus, State},
};

/// Where the fleet stands: the counts, and then every schema, or only those that are behind.
pub(in crate::cli) fn status(status: &Status, behind: bool) -> String {
    let mut counts = BTreeMap::<&str, usize>::new();
    let mut table = Columns::new();
    table.add_row(["SCHEMA", "VERSION", "PENDING", "STATE"]);
    for found in &status.schemas {
        let (word, note) = condition(found);
        *counts.entry(word).or_default() += 1;
        if behind && found.is_current() {
            continue;
        }
        let version = match &found.state {
            State::Known { version: Some(version), .. } => version,
            _ => "-",
        };
        table.add_row([&found.schema.to_string(), version, &found.pending().len().to_string(), &note]);
    }
    for (name, rule) in &status.refused {
        *counts.entry("refused").or_default() += 1;
        table.add_row([&format!("{name:?}"), "-", "-", &format!("refused: {rule}")]);
    }
    let counts: Vec<String> = counts.into_iter().map(|(word, count)| format!("{count} {word}")).collect();
    format!(
        "{}: {}\n{}\n{}",
        plural(status.schemas.len() + status.refused.len(), "schema"),
        counts.join(", "),
        edited(&status.edited),
        table.text()
    )
}

/// One word for the counts, and the words for the table.
fn condition(found: &SchemaStatus) -> (&'static str, String) {
    match &found.state {
        State::Missing => ("missing", "missing: in the registry, and no such schema".into()),
        State::Unreadable { reason } => ("unreadable", format!("unreadable: {reason}")),
        State::Known { unknown, .. } if !unknown.is_empty() => {
            ("unknown", format!("has versions that this program does not know: {}", unknown.join(", ")))
        }
        State::Known { pending, .. } if pending.is_empty() => ("up to date", "up to date".into()),
        State::Known { out_of_order, .. } if !out_of_order.is_empty() => {
            ("behind", format!("behind: {} is missing below what was applied", out_of_order.join(", ")))
        }
        State::Known { applied, .. } if applied.is_empty() => ("behind", "behind: nothing applied".into()),
        State::Known { .. } => ("behind", "behind".into()),
    }
}

/// Whether every schema has a version.
pub(in crate::cli) fn gate(version: &str, schemas: usize, lacking: &[&str]) -> String {
    match lacking {
        [] => safe::line(format!("{} at {version} or later", plural(schemas, "schema"))),
        _ => safe::line(format!(
            "{} of {} without {version}: {}",
            lacking.len(),
            plural(schemas, "schema"),
            listed(lacking)
        )),
    }
}
