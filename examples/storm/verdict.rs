//! Compares what was reported to the writers with what is there.

use std::collections::HashMap;

use super::{
    fleet::Tenants,
    ledger::{Entry, Key, Ledger, Place, Reported},
};

/// A kind of violation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    WrongSchema,
    AcknowledgedAndMissing,
    FailedAndThere,
}

/// A row that is not as it should be.
pub struct Violation {
    pub kind: Kind,
    pub key: Key,
    /// Where it was meant to go, where it is, and what was reported to its writer.
    pub text: String,
}

/// What became of all rows.
#[derive(Default)]
pub struct Verdict {
    pub acknowledged: u64,
    pub failed: u64,
    pub unknown_and_there: u64,
    pub unknown_and_absent: u64,
    pub violations: Vec<Violation>,
}

impl Verdict {
    /// Judges every row of the ledger by where it was found.
    pub fn of(ledger: &Ledger, tenants: &Tenants, found: &HashMap<Key, Vec<String>>) -> Self {
        let mut verdict = Self::default();
        ledger.each(|key, entry| verdict.judge(key, entry, tenants, found.get(&key).map_or(&[], Vec::as_slice)));
        verdict.violations.sort_by_key(|violation| violation.key);
        verdict
    }

    fn judge(&mut self, key: Key, entry: &Entry, tenants: &Tenants, found: &[String]) {
        let (right, kept) = match entry.place {
            Place::Tenant(tenant) => (Some(tenants.schema(tenant).as_str()), tenants.is_kept(tenant)),
            Place::Public => (Some("public"), true),
            Place::Nowhere => (None, false),
        };
        let there = found.iter().any(|schema| Some(schema.as_str()) == right);
        let wrong = found.iter().any(|schema| Some(schema.as_str()) != right);
        let reported = entry.reported.expect("every row is settled");
        *match reported {
            Reported::Acknowledged => &mut self.acknowledged,
            Reported::Failed => &mut self.failed,
            Reported::Unknown if there => &mut self.unknown_and_there,
            Reported::Unknown => &mut self.unknown_and_absent,
        } += 1;
        let kinds = [
            (Kind::WrongSchema, wrong),
            // A tenant that is dropped takes its rows along.
            (Kind::AcknowledgedAndMissing, reported == Reported::Acknowledged && kept && !there),
            (Kind::FailedAndThere, reported == Reported::Failed && there),
        ];
        for (kind, _) in kinds.into_iter().filter(|(_, is_so)| *is_so) {
            let error = entry.error.as_ref().map(|error| format!(" ({error})")).unwrap_or_default();
            let right = right.unwrap_or("no schema");
            let text = format!("meant for {right}, found in {found:?}, reported as {reported:?}{error}");
            self.violations.push(Violation { kind, key, text });
        }
    }
}
