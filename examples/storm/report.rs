//! What took place in a storm, and what it has found.

use std::{fmt, time::Duration};

use super::{
    Settings, planner,
    tally::Tally,
    verdict::{Kind, Verdict},
};

/// How many violations of each kind are shown.
const EXAMPLES: usize = 3;

/// What took place, and what is not as it should be.
pub struct Report {
    pub(super) settings: Settings,
    pub(super) took: Duration,
    pub(super) tally: Tally,
    pub(super) verdict: Verdict,
}

impl Report {
    /// How many rows violate this.
    pub fn rows(&self, kind: Kind) -> usize {
        self.verdict.violations.iter().filter(|violation| violation.kind == kind).count()
    }

    /// How many connections were lent that were not as fresh ones.
    pub fn unclean(&self) -> u64 {
        self.tally.count("checkout", "unclean")
    }

    /// How often this was done, or happened.
    pub fn times(&self, what: &str) -> u64 {
        self.tally.outcomes(what).into_iter().map(|(_, times)| times).sum()
    }

    /// Whether there is no violation of any kind.
    pub fn is_clean(&self) -> bool {
        self.verdict.violations.is_empty() && self.unclean() == 0
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Settings { seed, threads, pool, tenants, scope, .. } = &self.settings;
        for what in self.tally.names() {
            writeln!(f, "{what}: {}", self.times(what))?;
            for (outcome, times) in self.tally.outcomes(what) {
                writeln!(f, "{times:>10}  {outcome}")?;
            }
        }
        writeln!(f, "\nseed {seed}, {scope:?}, {threads} threads, pool of {pool}, {tenants} tenants")?;
        writeln!(f, "took {:.1} s, most memory {}\n", self.took.as_secs_f64(), most_memory())?;
        let verdict = &self.verdict;
        line(f, "rows acknowledged", verdict.acknowledged)?;
        line(f, "rows failed", verdict.failed)?;
        line(f, "rows unknown, and there", verdict.unknown_and_there)?;
        line(f, "rows unknown, and not there", verdict.unknown_and_absent)?;
        line(f, "checkouts", self.times("checkout"))?;
        writeln!(f)?;
        for (name, kind) in [
            ("in the wrong schema", Kind::WrongSchema),
            ("acknowledged and missing", Kind::AcknowledgedAndMissing),
            ("reported as failed and there", Kind::FailedAndThere),
        ] {
            line(f, name, self.rows(kind) as u64)?;
            for one in verdict.violations.iter().filter(|violation| violation.kind == kind).take(EXAMPLES) {
                let (thread, visit) = (one.key.thread(), one.key.visit());
                let plan = planner::visit(&self.settings, thread, visit);
                writeln!(f, "    {}\n    thread {thread}, visit {visit}, {plan:?}", one.text)?;
            }
        }
        line(f, "unclean at checkout", self.unclean())
    }
}

fn line(f: &mut fmt::Formatter<'_>, name: &str, count: u64) -> fmt::Result {
    writeln!(f, "{name:<28} {count:>8}")
}

/// The most memory that this process had, where the system says.
fn most_memory() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let size = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    size.map_or_else(|| "not known".into(), |size| size.trim().into())
}
