use std::{collections::BTreeMap, time::Duration};

use serde::{Serialize, Serializer, ser::SerializeStruct};

use super::Kind;

/// What the doctor found in a fleet.
///
/// As JSON it has `healthy`, `tenants`, `counts` (findings by [kind](Kind)), `findings`, `not_compared` and
/// `elapsed_ms`. A [`Finding`] and a [`NotCompared`] have their fields; a [`Fix`] is an object of one field: `command`,
/// `sql` or `none`.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// How many tenants were looked at.
    pub tenants: usize,
    /// What is wrong, in the order of [`Kind::ALL`], and of the tenants within a kind.
    pub findings: Vec<Finding>,
    /// What could not be compared, and why.
    pub not_compared: Vec<NotCompared>,
    /// How long it took.
    pub elapsed: Duration,
}

/// Something that is wrong in one schema.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What it is.
    pub kind: Kind,
    /// How bad it is.
    pub severity: Severity,
    /// The tenant's schema, `public`, or what the directory wrote in its place.
    pub schema: String,
    /// The table.
    pub table: Option<String>,
    /// The columns that it is about.
    pub columns: Vec<String>,
    /// How many rows, or other things.
    pub count: u64,
    /// Up to five keys, versions or names.
    pub examples: Vec<String>,
    /// One sentence that tells it.
    pub says: String,
    /// What to do about it.
    pub fix: Fix,
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Good to know.
    Notice,
    /// It will be in somebody's way.
    Warning,
    /// It is in somebody's way.
    Error,
}

/// What to do about a finding.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fix {
    /// A command, without what chooses the tenant.
    Command(String),
    /// Statements to be run with the schema alone on the search_path.
    Sql(String),
    /// Why nothing can do it but a person.
    None(String),
}

/// Something that the doctor could not look at, though nothing says that it is ill.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NotCompared {
    /// What.
    pub what: String,
    /// In how many schemas.
    pub schemas: usize,
    /// Why, and with what it was compared in its place.
    pub reason: String,
}

impl Report {
    /// Whether nothing is worse than a notice.
    pub fn is_healthy(&self) -> bool {
        self.findings.iter().all(|finding| finding.severity == Severity::Notice)
    }

    /// The findings of one kind.
    pub fn of(&self, kind: Kind) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(move |finding| finding.kind == kind)
    }

    /// How many findings are this bad.
    pub fn count(&self, severity: Severity) -> usize {
        self.findings.iter().filter(|finding| finding.severity == severity).count()
    }
}

impl Serialize for Report {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut counts = BTreeMap::<&str, usize>::new();
        for finding in &self.findings {
            *counts.entry(finding.kind.id()).or_default() += 1;
        }
        let mut report = serializer.serialize_struct("Report", 6)?;
        report.serialize_field("healthy", &self.is_healthy())?;
        report.serialize_field("tenants", &self.tenants)?;
        report.serialize_field("counts", &counts)?;
        report.serialize_field("findings", &self.findings)?;
        report.serialize_field("not_compared", &self.not_compared)?;
        report.serialize_field("elapsed_ms", &(self.elapsed.as_millis() as u64))?;
        report.end()
    }
}
