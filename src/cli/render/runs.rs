use chrono::{DateTime, Utc};
use serde_json::Value;

use super::{columns, plural, text};
use crate::runs::{PastLine, PastRun, PastStep};

/// The runs that are remembered, the newest first.
pub(in crate::cli) fn past_runs(runs: &[PastRun]) -> String {
    if runs.is_empty() {
        return "no run is remembered yet\n".into();
    }
    let mut table = columns();
    table.add_row(["RUN", "STARTED", "TOOK", "GOAL", "OUTCOME", "BY"]);
    for run in runs {
        table.add_row([run.id.to_string(), time(run.started_at), took(run), goal(&run.options), outcome(run), by(run)]);
    }
    text(&table)
}

/// One run: what it was to do, and what it did, schema by schema.
pub(in crate::cli) fn past_run(run: &PastRun, lines: &[PastLine], steps: &[PastStep]) -> String {
    let mut table = columns();
    for line in lines {
        let detail = match &line.error {
            Some(error) => error.clone(),
            None => format!("{} in {} ms", versions(steps, &line.schema), line.duration_ms),
        };
        let detail = if line.attempts > 1 { format!("{detail}, after {} attempts", line.attempts) } else { detail };
        table.add_row([line.schema.clone(), line.outcome.clone(), detail]);
    }
    if run.ended_at.is_none() {
        // Whoever killed it left no lines, but each step was committed with its migration.
        let mut schemas: Vec<&str> = steps.iter().map(|step| step.schema.as_str()).collect();
        schemas.dedup();
        for schema in schemas {
            table.add_row([schema.into(), "done".into(), versions(steps, schema)]);
        }
    }
    let chosen = match &run.schemas {
        Some(schemas) => format!("{} of the fleet", plural(schemas.len(), "tenant")),
        None => "the whole fleet".into(),
    };
    format!(
        "run {}: {}, {chosen}\n{} by {} with {}\n{}\n\n{}",
        run.id,
        goal(&run.options),
        time(run.started_at),
        by(run),
        run.program,
        outcome(run),
        text(&table)
    )
}

fn time(time: DateTime<Utc>) -> String {
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

fn outcome(run: &PastRun) -> String {
    match (&run.error, &run.outcomes, run.ended_at) {
        (Some(error), ..) => format!("could not be carried out: {error}"),
        (None, Some(Value::Object(counts)), _) => {
            let counts: Vec<String> = counts.iter().map(|(word, count)| format!("{count} {word}")).collect();
            counts.join(", ")
        }
        (_, _, None) => "under way, or killed".into(),
        _ => "-".into(),
    }
}

fn versions(steps: &[PastStep], schema: &str) -> String {
    let of = |step: &&PastStep| step.schema == schema;
    let shown = |step: &PastStep| if step.up { step.version.clone() } else { format!("back {}", step.version) };
    steps.iter().filter(of).map(shown).collect::<Vec<_>>().join(", ")
}
