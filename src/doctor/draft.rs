use super::{Finding, Fix, Kind, Severity};
use crate::structure;

/// A finding that may be told of many schemas, since they are all built alike.
#[derive(Debug, Clone)]
pub(super) struct Draft {
    pub(super) finding: Finding,
    /// The object of the schema that it tells about, so that it is not told again as a mere difference.
    pub(super) covers: Option<Covers>,
}

/// What an object is, the table that it is a part of, and its name.
pub(super) type Covers = (structure::Kind, Option<String>, String);

impl Draft {
    pub(super) fn new(kind: Kind, says: impl Into<String>, fix: Fix) -> Self {
        let finding = Finding {
            kind,
            severity: kind.severity(),
            schema: String::new(),
            table: None,
            columns: Vec::new(),
            count: 1,
            examples: Vec::new(),
            says: says.into(),
            fix,
        };
        Self { finding, covers: None }
    }

    pub(super) fn table(mut self, table: &str) -> Self {
        self.finding.table = Some(table.into());
        self
    }

    pub(super) fn examples(mut self, count: u64, examples: Vec<String>) -> Self {
        self.finding.count = count;
        self.finding.examples = examples;
        self.finding.examples.truncate(super::EXAMPLES);
        self
    }

    pub(super) fn severity(mut self, severity: Severity) -> Self {
        self.finding.severity = severity;
        self
    }

    pub(super) fn covering(mut self, kind: structure::Kind, table: Option<&str>, name: &str) -> Self {
        self.covers = Some((kind, table.map(Into::into), name.into()));
        self
    }

    /// The finding, in this schema.
    pub(super) fn of(&self, schema: &str) -> Finding {
        Finding { schema: schema.into(), ..self.finding.clone() }
    }
}

/// So many of them: `1 row`, `2 rows`.
pub(super) fn plural(count: u64, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}
