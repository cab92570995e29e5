//! Reports as text for a person. Pure functions, so that tests can hold the whole output against a picture of it.

mod plan;
mod report;
mod runs;
mod status;

use comfy_table::{Table, presets::NOTHING};

use super::safe;

pub(super) use plan::plan;
pub(super) use report::report;
pub(super) use runs::{past_run, past_runs, time};
pub(super) use status::{gate, status};

/// How many of one kind are listed before the rest is counted.
const SHOWN: usize = 20;

/// A warning of migrations that were changed after they had been applied.
fn edited(versions: &[String]) -> String {
    match versions {
        [] => String::new(),
        _ => {
            let versions = versions.join(", ");
            safe::line(format!("warning: edited after it was applied: {versions}; what was applied stays as it was"))
        }
    }
}

/// A table without lines, whose cells are one line each.
pub(super) struct Columns(Table);

impl Columns {
    pub(super) fn new() -> Self {
        let mut table = Table::new();
        table.load_style(NOTHING);
        Self(table)
    }

    pub(super) fn add_row(&mut self, cells: impl IntoIterator<Item: AsRef<str>>) {
        self.0.add_row(cells.into_iter().map(safe::word));
    }

    pub(super) fn text(&self) -> String {
        self.0.lines().map(|line| format!("{}\n", line.trim())).collect()
    }
}

/// The first names, and how many more there are.
pub(super) fn listed(names: &[&str]) -> String {
    match names.len().checked_sub(SHOWN) {
        Some(more @ 1..) => format!("{} and {more} more", names[..SHOWN].join(", ")),
        _ => names.join(", "),
    }
}

pub(super) fn plural(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}
