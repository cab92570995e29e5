//! Reports as text for a person. Pure functions, so that tests can hold the whole output against a picture of it.

mod plan;
mod report;
mod runs;
mod status;

use comfy_table::{Table, presets::NOTHING};

pub(super) use plan::plan;
pub(super) use report::report;
pub(super) use runs::{past_run, past_runs, time};
pub(super) use status::{gate, status};

/// How many schemas of one kind are listed before the rest is counted.
const SHOWN: usize = 20;

/// A warning of migrations that were changed after they had been applied.
fn edited(versions: &[String]) -> String {
    match versions {
        [] => String::new(),
        _ => {
            format!("warning: edited after it was applied: {}; what was applied stays as it was\n", versions.join(", "))
        }
    }
}

pub(super) fn columns() -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING);
    table
}

pub(super) fn text(table: &Table) -> String {
    table.lines().map(|line| format!("{}\n", line.trim())).collect()
}

fn listed(names: &[&str]) -> String {
    match names.len().checked_sub(SHOWN) {
        Some(more @ 1..) => format!("{} and {more} more", names[..SHOWN].join(", ")),
        _ => names.join(", "),
    }
}

pub(super) fn plural(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}
