//! A run for machines: one line of JSON for each event, and a summary as the last one.

use serde::Serialize;
use serde_json::{Value, json};

use super::output;
use crate::migrate::{Event, Line, Observer, Report};

pub(super) struct Events;

impl Events {
    /// The last line: the counts, the schemas that failed, and the number of the run.
    pub(super) fn summary(report: &Report) {
        let count = |outcome: &str| report.count(outcome);
        output::event(&json!({
            "event": "summary",
            "run": report.run,
            "schemas": report.lines.len(),
            "migrated": count("migrated"),
            "reverted": count("reverted"),
            "redone": count("redone"),
            "up_to_date": count("up to date"),
            "failed": count("failed"),
            "not_reached": count("not reached"),
            "failures": report.lines.iter().filter(|line| line.result.is_err()).collect::<Vec<_>>(),
            "edited": report.edited,
            "unremembered": report.unremembered,
            "lock_lost": report.lock_lost,
            "elapsed_ms": report.elapsed.as_millis() as u64,
        }));
    }
}

impl Observer for Events {
    fn on(&self, event: &Event<'_>) {
        let line = match event {
            Event::Waiting { holder, at_most } => json!({
                "event": "waiting",
                "holder": holder,
                "abandoned": holder.is_abandoned(),
                "at_most_seconds": at_most.map(|time| time.as_secs()),
            }),
            Event::Started { tenants } => json!({ "event": "started", "tenants": tenants }),
            Event::Wave { name, tenants } => json!({ "event": "wave", "name": name, "tenants": tenants }),
            Event::Deferred { line } => tagged("deferred", line),
            Event::Finished(line) => tagged("finished", line),
            Event::Began { .. } => return,
        };
        output::event(&line);
    }
}

fn tagged(event: &str, line: &Line) -> Value {
    #[derive(Serialize)]
    struct Tagged<'l> {
        event: &'l str,
        #[serde(flatten)]
        line: &'l Line,
    }
    serde_json::to_value(Tagged { event, line }).unwrap_or_default()
}
