use serde::Serialize;

use super::{allow, blocking, citus, client, folder, names, objects, session, transaction};

/// Something that a migration should not do, and what to do instead.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Rule {
    /// The name by which it is allowed, skipped or picked.
    pub id: &'static str,
    /// How much a finding of it matters.
    pub severity: Severity,
    /// What it notices, in one line.
    pub about: &'static str,
    /// How to cure a finding of it.
    pub cure: &'static str,
}

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The migration is refused, fails for some tenant, or harms one.
    Error,
    /// It works, at a price that somebody should have agreed to.
    Warning,
}

impl Rule {
    pub(super) const fn error(id: &'static str, about: &'static str, cure: &'static str) -> Self {
        Self { id, severity: Severity::Error, about, cure }
    }

    pub(super) const fn warning(id: &'static str, about: &'static str, cure: &'static str) -> Self {
        Self { id, severity: Severity::Warning, about, cure }
    }

    /// The rule of this name.
    pub fn find(id: &str) -> Option<&'static Self> {
        rules().find(|rule| rule.id == id)
    }

    /// Whether it matters on Citus only, and therefore has to be asked for.
    pub fn is_for_citus(&self) -> bool {
        citus::RULES.iter().any(|rule| rule.id == self.id)
    }
}

/// All rules, those of one concern together.
pub fn rules() -> impl Iterator<Item = &'static Rule> {
    [
        folder::RULES,
        client::RULES,
        transaction::RULES,
        session::RULES,
        names::RULES,
        objects::RULES,
        blocking::RULES,
        citus::RULES,
        allow::RULES,
    ]
    .into_iter()
    .flatten()
    .copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_has_a_name_of_its_own() {
        let mut ids: Vec<_> = rules().map(|rule| rule.id).collect();
        ids.sort_unstable();
        let count = ids.len();
        ids.dedup();
        assert_eq!(ids.len(), count);
        assert!(ids.iter().all(|id| id.chars().all(|c| c.is_ascii_lowercase() || c == '-')), "{ids:?}");
    }

    #[test]
    fn a_rule_reads_as_half_a_sentence() {
        for rule in rules() {
            for text in [rule.about, rule.cure] {
                assert!(!text.ends_with('.') && !text.is_empty(), "{}: {text}", rule.id);
            }
        }
    }
}
