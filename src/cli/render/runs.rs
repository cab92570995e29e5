use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::{Columns, SHOWN, plural};
use crate::{
    cli::safe,
    runs::{PastLine, PastRun, PastStep},
};

/// The runs that are remembered, the newest first, one of which may be under way.
pub(in crate::cli) fn past_runs(runs: &[PastRun], under_way: Option<i64>) -> String {
    if runs.is_empty() {
        return "no run is remembered yet\n".into();
    }
    let mut table = Columns::new();
    table.add_row(["RUN", "STARTED", "TOOK", "GOAL", "OUTCOME", "BY"]);
    for run in runs {
        table.add_row([
            run.id.to_string(),
            time(run.started_at),
            took(run),
            goal(&run.options),
            outcome(run, under_way),
            by(run),
        ]);
    }
    table.text()
}

/// One run: what it was to do, and what it did, schema by schema.
pub(in crate::cli) fn past_run(
    run: &PastRun,
    lines: &[PastLine],
    steps: &[PastStep],
    under_way: Option<i64>,
) -> String {
    let mut done = BTreeMap::<&str, Vec<String>>::new();
    for step in steps {
        let version = if step.up { step.version.clone() } else { format!("back {}", step.version) };
        done.entry(&step.schema).or_default().push(version);
    }
    let mut table = Columns::new();
    // Schemas to which the same happened are listed up to a point, as when it did.
    let mut alike = BTreeMap::<&str, usize>::new();
    for line in lines {
        let seen = alike.entry(line.error.as_deref().unwrap_or(&line.outcome)).or_default();
        *seen += 1;
        if *seen > SHOWN {
            continue;
        }
        let detail = match &line.error {
            Some(error) => error.clone(),
            None => format!(
                "{} in {} ms",
                done.get(&*line.schema).map(|done| done.join(", ")).unwrap_or_default(),
                line.duration_ms
            ),
        };
        let detail = if line.attempts > 1 { format!("{detail}, after {} attempts", line.attempts) } else { detail };
        table.add_row([line.schema.clone(), line.outcome.clone(), detail]);
    }
    let mut more: String = alike
        .iter()
        .filter(|(_, count)| **count > SHOWN)
        .map(|(kind, count)| safe::line(format!("… and {} more {kind}", count - SHOWN)))
        .collect();
    if run.ended_at.is_none() {
        // Whoever killed it left no lines, but each step was committed with its migration.
        for (schema, done) in done.iter().take(SHOWN) {
            table.add_row([(*schema).into(), "done".into(), done.join(", ")]);
        }
        if done.len() > SHOWN {
            more += &safe::line(format!("… and {} more done", done.len() - SHOWN));
        }
    }
    let chosen = match &run.schemas {
        Some(schemas) => format!("{} of the fleet", plural(schemas.len(), "tenant")),
        None => "the whole fleet".into(),
    };
    let lines = [
        format!("run {}: {}, {chosen}", run.id, goal(&run.options)),
        format!("{} by {} with {}", time(run.started_at), by(run), run.program),
        outcome(run, under_way),
    ];
    format!("{}\n{}{more}", lines.map(safe::line).concat(), table.text())
}

pub(in crate::cli) fn time(time: DateTime<Utc>) -> String {
    time.format("%Y-%m-%d %H:%M:%S UTC").to_string()
}

fn took(run: &PastRun) -> String {
    match run.ended_at {
        Some(ended) => format!("{:.1} s", (ended - run.started_at).as_seconds_f32()),
        None => "-".into(),
    }
}

fn by(run: &PastRun) -> String {
    format!("{} from {}", run.role, run.client)
}

fn goal(options: &Value) -> String {
    let goal = &options["goal"];
    match goal["goal"].as_str() {
        Some("latest") => "migrate".into(),
        Some("revert") => match &goal["until"] {
            Value::Object(until) if until.contains_key("steps") => format!("revert --steps {}", until["steps"]),
            until => format!("revert --to {}", until["version"].as_str().unwrap_or("?")),
        },
        Some("redo") => format!("redo --steps {}", goal["steps"]),
        Some("unapply") => "revert a run".into(),
        _ => "?".into(),
    }
}

fn outcome(run: &PastRun, under_way: Option<i64>) -> String {
    match (&run.error, &run.outcomes, run.ended_at) {
        (Some(error), ..) => format!("could not be carried out: {error}"),
        (None, Some(Value::Object(counts)), _) => {
            let counts: Vec<String> = counts.iter().map(|(word, count)| format!("{count} {word}")).collect();
            counts.join(", ")
        }
        (_, _, None) if under_way == Some(run.id) => "under way, or killed".into(),
        (_, _, None) => "ended without a record".into(),
        _ => "-".into(),
    }
}
