use std::collections::BTreeMap;

use super::{Columns, SHOWN, edited};
use crate::{
    Error,
    cli::safe,
    migrate::{Goal, Line, Report},
};

/// What a run did: each schema that was changed or failed, and the counts.
pub(in crate::cli) fn report(report: &Report, goal: &Goal) -> String {
    let mut table = Columns::new();
    // Schemas to which the same happened, ten thousand of them it may be, are listed up to a point.
    let mut alike = BTreeMap::<String, usize>::new();
    for line in report.lines.iter().filter(|line| line.outcome() != "up to date") {
        let kind = line.result.as_ref().err().map_or_else(|| line.outcome().into(), Error::chain);
        let seen = alike.entry(kind).or_default();
        *seen += 1;
        if *seen <= SHOWN {
            table.add_row([line.schema.clone(), line.outcome().into(), detail(line)]);
        }
    }
    let more = alike.iter().filter(|(_, count)| **count > SHOWN);
    let more: String = more.map(|(kind, count)| safe::line(format!("… and {} more {kind}", count - SHOWN))).collect();
    let unremembered = report.unremembered.as_ref().map(|reason| {
        safe::line(format!(
            "warning: `tenantry runs` will show this run without its end, which could not be written: {reason}"
        ))
    });
    let lock_lost =
        report.lock_lost.as_ref().map(|reason| safe::line(format!("warning: {reason}: look at what it did, too")));
    let warnings = lock_lost.unwrap_or_default() + &unremembered.unwrap_or_default() + &edited(&report.edited);
    format!("{}{more}{warnings}{}\n", table.text(), counts(report, goal))
}

fn counts(report: &Report, goal: &Goal) -> String {
    let done = match goal {
        Goal::Latest => "migrated",
        Goal::Redo { .. } => "redone",
        _ => "reverted",
    };
    let idle = if *goal == Goal::Latest { "up to date" } else { "with nothing to do" };
    let mut counts = format!(
        "{} {done}, {} {idle}, {} failed",
        report.count(done),
        report.count("up to date"),
        report.count("failed")
    );
    if report.count("not reached") > 0 {
        counts += &format!(", {} not reached", report.count("not reached"));
    }
    counts += &format!(", in {:.1} s", report.elapsed.as_secs_f32());
    match report.run {
        Some(run) => format!("{counts} (run {run})"),
        None => counts,
    }
}

fn detail(line: &Line) -> String {
    let mut detail = match &line.result {
        Ok(()) => {
            let versions = if line.applied.is_empty() { &line.reverted } else { &line.applied };
            format!("{} in {} ms", versions.join(", "), line.duration.as_millis())
        }
        Err(error) => error.chain(),
    };
    if line.result.is_err() && !line.reverted.is_empty() {
        detail += &format!("; {} before it was taken back", line.reverted.join(", "));
    }
    if line.result.is_err() && !line.applied.is_empty() {
        detail += &format!("; {} before it was applied", line.applied.join(", "));
    }
    if line.attempts > 1 {
        detail += &format!(", after {} attempts", line.attempts);
    }
    detail
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_done_before_it_failed_is_told() {
        let mut line = Line::idle("acme", Err(Error::Stopped));
        assert_eq!(detail(&line), "stopped before anything was done");
        (line.reverted, line.applied) = (vec!["3".into(), "2".into()], vec!["2".into()]);
        let expected = "stopped before anything was done; 3, 2 before it was taken back; 2 before it was applied";
        assert_eq!(detail(&line), expected);
    }
}
