use std::{collections::BTreeMap, sync::Mutex};

use super::fault::Fault;

/// How often each thing took place, and how it ended.
#[derive(Debug, Default)]
pub struct Tally(Mutex<BTreeMap<&'static str, BTreeMap<String, u64>>>);

impl Tally {
    /// Counts one more.
    pub fn add(&self, what: &'static str, outcome: impl Into<String>) {
        *self.0.lock().expect("a tally").entry(what).or_default().entry(outcome.into()).or_default() += 1;
    }

    /// Counts one more that ended like this.
    pub fn result(&self, what: &'static str, result: &Result<(), Fault>) {
        self.add(what, result.as_ref().map_or_else(Fault::kind, |()| "ok".into()));
    }

    /// The outcomes of one thing, the most frequent first.
    pub fn outcomes(&self, what: &str) -> Vec<(String, u64)> {
        let tally = self.0.lock().expect("a tally");
        let mut outcomes: Vec<_> =
            tally.get(what).into_iter().flatten().map(|(outcome, times)| (outcome.clone(), *times)).collect();
        outcomes.sort_by_key(|(_, times)| std::cmp::Reverse(*times));
        outcomes
    }

    /// How often one outcome of one thing was seen.
    pub fn count(&self, what: &str, outcome: &str) -> u64 {
        self.outcomes(what).into_iter().filter(|(name, _)| name == outcome).map(|(_, times)| times).sum()
    }

    /// Everything that was counted.
    pub fn names(&self) -> Vec<&'static str> {
        self.0.lock().expect("a tally").keys().copied().collect()
    }
}
