use serde::Serialize;

use super::{Rule, Severity, folder::Migration};

/// Which migrations a folder holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Set {
    /// Those of `public` alone.
    Public,
    /// Those of `public` and of every tenant.
    Tenant,
}

impl Set {
    /// The set's name, as in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Tenant => "tenant",
        }
    }
}

/// Something that a rule noticed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The name of the rule.
    pub rule: &'static str,
    /// How much it matters.
    pub severity: Severity,
    /// The set of the migration.
    pub set: Set,
    /// The migration's folder.
    pub migration: String,
    /// The file, or the folder when it is about none of its files.
    pub file: String,
    /// The line, from 1; `None` when it is about the whole file.
    pub line: Option<usize>,
    /// The column in characters, from 1.
    pub column: Option<usize>,
    /// What was noticed, in one sentence.
    pub message: String,
    /// How to cure it.
    pub cure: &'static str,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// How many migrations were read.
    pub migrations: usize,
    /// How many of the findings are errors.
    pub errors: usize,
    /// How many of the findings are warnings.
    pub warnings: usize,
    /// By set, file and line.
    pub findings: Vec<Finding>,
}

impl Report {
    pub(super) fn new(migrations: usize, mut findings: Vec<Finding>) -> Self {
        findings.sort_by(|a, b| {
            (a.set, &a.migration, &a.file, a.line, a.column, a.rule).cmp(&(
                b.set,
                &b.migration,
                &b.file,
                b.line,
                b.column,
                b.rule,
            ))
        });
        let errors = findings.iter().filter(|finding| finding.severity == Severity::Error).count();
        Self { migrations, errors, warnings: findings.len() - errors, findings }
    }

    /// Whether nothing was found that must be put right; with `strict`, nothing at all.
    pub fn is_healthy(&self, strict: bool) -> bool {
        self.errors == 0 && (self.warnings == 0 || !strict)
    }
}

/// A finding before it is known whether it is allowed.
#[derive(Debug)]
pub(super) struct Notice {
    pub rule: &'static Rule,
    /// Where in the text; `None` for the whole file.
    pub at: Option<usize>,
    pub message: String,
}

impl Notice {
    pub(super) fn at(rule: &'static Rule, at: usize, message: impl Into<String>) -> Self {
        Self { rule, at: Some(at), message: message.into() }
    }

    pub(super) fn whole(rule: &'static Rule, message: impl Into<String>) -> Self {
        Self { rule, at: None, message: message.into() }
    }

    pub(super) fn finding(self, set: Set, migration: &Migration, file: &str, text: &str) -> Finding {
        let (line, column) = self.at.map(|at| position(text, at)).unzip();
        Finding {
            rule: self.rule.id,
            severity: self.rule.severity,
            set,
            migration: migration.name.clone(),
            file: file.into(),
            line,
            column,
            message: self.message,
            cure: self.rule.cure,
        }
    }
}

/// Line and column of an offset, both from 1.
fn position(text: &str, at: usize) -> (usize, usize) {
    let before = &text[..text.floor_char_boundary(at)];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_count_characters() {
        assert_eq!(position("ü x", 3), (1, 3));
        assert_eq!(position("a\r\nüb", 5), (2, 2));
        assert_eq!(position("", 0), (1, 1));
        assert_eq!(position("ü", 99), (1, 2));
    }
}
