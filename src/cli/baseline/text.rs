//! A baseline's report as text for a person.

use std::collections::BTreeMap;

use crate::{
    Error,
    baseline::{Line, Outcome, Report},
    cli::{render::listed, safe},
    structure::Difference,
};

/// How many harmless differences of a schema are named before the rest is counted.
const SHOWN: usize = 20;

/// What became of each schema, those together to which the same happened, and the counts.
pub(super) fn report(report: &Report) -> String {
    let record = if report.dry_run { "would record" } else { "recorded" };
    let mut alike = Vec::<(String, Vec<&str>)>::new();
    let mut known = BTreeMap::<String, usize>::new();
    for line in &report.lines {
        let says = says(line, record);
        let at = *known.entry(says.clone()).or_insert(alike.len());
        if at == alike.len() {
            alike.push((says, Vec::new()));
        }
        alike[at].1.push(&line.schema);
    }
    let mut out = String::new();
    for (says, schemas) in alike {
        out += &format!("{}: {says}", safe::word(listed(&schemas)));
    }
    if report.lines.iter().flat_map(Line::blocking).any(|difference| difference.cure.is_some()) {
        out += "the statements have bare names: run them with the schema alone on the search_path\n";
    }
    out += &format!(
        "{} at {}: {record} {}, {} already there, {} refused, {} failed\n",
        schemas(report.lines.len()),
        report.at,
        report.count("recorded"),
        report.count("already at"),
        report.count("refused"),
        report.count("failed"),
    );
    out
}

/// So many schemas.
pub(super) fn schemas(count: usize) -> String {
    format!("{count} schema{}", if count == 1 { "" } else { "s" })
}

/// What became of a schema, and what differs.
fn says(line: &Line, record: &str) -> String {
    let mut out = match &line.result {
        Ok(Outcome::AlreadyAt) => "already there\n".into(),
        Ok(Outcome::Recorded(versions)) => safe::line(format!("{record} {}", versions.join(", "))),
        Ok(Outcome::Refused(reason)) => safe::line(format!("refused: {reason}")),
        Err(error) => safe::line(format!("failed: {}", Error::chain(error))),
    };
    if let Some(reason) = &line.not_compared {
        out += &safe::line(format!("    not compared: {reason}"));
    }
    let (blocking, harmless): (Vec<_>, Vec<_>) = line.differences.iter().partition(|difference| difference.blocks);
    for difference in blocking {
        out += &safe::line(format!("    {}", difference.says));
        out += &cure(difference);
    }
    for difference in harmless.iter().take(SHOWN) {
        out += &safe::line(format!("    {} (no matter)", difference.says));
    }
    if let Some(more @ 1..) = harmless.len().checked_sub(SHOWN) {
        out += &safe::line(format!("    … and {more} more that are no matter: --json lists them"));
    }
    out
}

fn cure(difference: &Difference) -> String {
    let lines = difference.cure.iter().flat_map(|cure| cure.lines());
    lines.map(|line| safe::line(format!("        {line}"))).collect()
}
