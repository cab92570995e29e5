//! Reports as text for a person. Pure functions, so that tests can hold the whole output against a picture of it.

use std::collections::BTreeMap;

use comfy_table::{Table, presets::NOTHING};

use crate::{
    Error, Status,
    migrate::{Line, Migrations, Report, SchemaStatus, State},
    repair::{self, Outcome},
};

/// How many schemas of one kind are listed before the rest is counted.
const SHOWN: usize = 20;

/// What a run did: each schema that was changed or failed, and the counts.
pub(super) fn report(report: &Report) -> String {
    let mut table = columns();
    // Schemas to which the same happened, ten thousand of them it may be, are listed up to a point.
    let mut alike = BTreeMap::<String, usize>::new();
    for line in report.lines.iter().filter(|line| line.outcome() != "up to date") {
        let kind = line.result.as_ref().err().map_or("migrated".into(), Error::chain);
        let seen = alike.entry(kind).or_default();
        *seen += 1;
        if *seen <= SHOWN {
            table.add_row([line.schema.clone(), line.outcome().into(), detail(line)]);
        }
    }
    let more = alike.iter().filter(|(_, count)| **count > SHOWN);
    let more: String = more.map(|(kind, count)| format!("… and {} more {kind}\n", count - SHOWN)).collect();
    let counts = format!(
        "{} migrated, {} up to date, {} failed, in {:.1} s",
        report.count("migrated"),
        report.count("up to date"),
        report.count("failed"),
        report.elapsed.as_secs_f32(),
    );
    format!("{}{more}{counts}\n", text(&table))
}

fn detail(line: &Line) -> String {
    match &line.result {
        Ok(applied) => format!("{} in {} ms", applied.join(", "), line.duration.as_millis()),
        Err(error) => error.chain(),
    }
}

/// Where the fleet stands: the counts, and then every schema, or only those that are behind.
pub(super) fn status(status: &Status, behind: bool) -> String {
    let mut counts = BTreeMap::<&str, usize>::new();
    let mut table = columns();
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
        "{}: {}\n\n{}",
        plural(status.schemas.len() + status.refused.len(), "schema"),
        counts.join(", "),
        text(&table)
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
        State::Known { applied, .. } if applied.is_empty() => ("behind", "behind: nothing applied".into()),
        State::Known { .. } => ("behind", "behind".into()),
    }
}

/// Whether every schema has a version.
pub(super) fn gate(version: &str, schemas: usize, lacking: &[&str]) -> String {
    match lacking {
        [] => format!("{} at {version} or later\n", plural(schemas, "schema")),
        _ => format!("{} of {} without {version}: {}\n", lacking.len(), plural(schemas, "schema"), listed(lacking)),
    }
}

/// What would be applied: the schemas together that lack the same, and the SQL if it is wanted.
pub(super) fn plan(status: &Status, migrations: &Migrations, sql: bool) -> String {
    let mut groups = BTreeMap::<Vec<&str>, Vec<&str>>::new();
    let mut out = String::new();
    for found in &status.schemas {
        match &found.state {
            State::Known { pending, .. } if pending.is_empty() => {}
            State::Known { .. } => {
                let names =
                    migrations.expected(&found.schema).filter(|m| found.pending().iter().any(|v| v == m.version()));
                groups
                    .entry(names.map(|migration| migration.name()).collect())
                    .or_default()
                    .push(found.schema.as_str());
            }
            _ => out += &format!("{}: {}\n", found.schema, condition(found).1),
        }
    }
    for (name, rule) in &status.refused {
        out += &format!("{name:?}: refused: {rule}\n");
    }
    if groups.is_empty() {
        out += "nothing to apply\n";
    }
    for (names, schemas) in &groups {
        out += &format!(
            "{} to apply in {}: {}\n",
            plural(names.len(), "migration"),
            plural(schemas.len(), "schema"),
            listed(schemas)
        );
        for name in names {
            out += &format!("    {name}\n");
        }
    }
    if sql {
        let mut shown = Vec::new();
        for found in status.schemas.iter().filter(|found| !found.pending().is_empty()) {
            for migration in migrations.expected(&found.schema) {
                if found.pending().iter().any(|version| version == migration.version())
                    && !shown.contains(&migration.name())
                {
                    shown.push(migration.name());
                    let text = migration.sql().unwrap_or("-- written in Rust");
                    out += &format!("\n-- {}\n{}\n", migration.name(), text.trim_end());
                }
            }
        }
    }
    out
}

/// What a repair did, or would do, tenant by tenant, and the counts.
pub(super) fn repair(report: &repair::Report) -> String {
    let mut out = String::new();
    let (mut filled, mut copied, mut left, mut failed) = (0, 0, 0, 0);
    let (fill, copy) = if report.dry_run { ("would fill", "would copy") } else { ("filled", "copied") };
    for tenant in &report.tenants {
        out += &format!("{}\n", tenant.schema);
        let nothing = Outcome::default();
        let outcome = tenant.result.as_ref().unwrap_or(&nothing);
        for entry in &outcome.filled {
            filled += entry.rows;
            out += &format!("    {fill} {} of {}.{}\n", plural(entry.rows as usize, "null"), entry.table, entry.column);
        }
        for entry in &outcome.copied {
            copied += entry.rows;
            out += &format!("    {copy} {} of {} from public\n", plural(entry.rows as usize, "row"), entry.table);
        }
        for entry in &outcome.left {
            left += 1;
            out += &format!("    left alone: {} {} {}", entry.table, entry.key, entry.reason);
            if entry.rows > 0 {
                out += &format!("; referred to by {} of the tenant", plural(entry.rows as usize, "row"));
            }
            out.push('\n');
        }
        if let Err(error) = &tenant.result {
            failed += 1;
            out += &format!("    failed: {}\n", error.chain());
        }
    }
    if report.tenants.is_empty() {
        out += "nothing to repair\n";
    }
    out += &format!(
        "{} examined, {} ill: {copy} {}, {fill} {}, left {left} alone, {failed} failed\n",
        plural(report.examined, "tenant"),
        report.tenants.len(),
        plural(copied as usize, "row"),
        plural(filled as usize, "null"),
    );
    out
}

fn columns() -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING);
    table
}

fn text(table: &Table) -> String {
    table.lines().map(|line| format!("{}\n", line.trim())).collect()
}

fn listed(names: &[&str]) -> String {
    match names.len().checked_sub(SHOWN) {
        Some(more @ 1..) => format!("{} and {more} more", names[..SHOWN].join(", ")),
        _ => names.join(", "),
    }
}

fn plural(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}
