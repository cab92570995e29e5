use std::collections::{BTreeMap, BTreeSet};

use super::strays::Stray;

/// Rows that belong to several, and to whom.
#[derive(Debug, Default)]
pub(super) struct Contested {
    rows: Vec<(Stray, usize)>,
    /// The owners of such rows, each group of them once.
    pub(super) groups: Vec<Vec<String>>,
}

impl Contested {
    pub(super) fn new(found: Vec<(Stray, Vec<String>)>) -> Self {
        let mut known = BTreeMap::new();
        let mut contested = Self::default();
        for (stray, owners) in found {
            let next = contested.groups.len();
            let group = *known.entry(owners.clone()).or_insert(next);
            if group == next {
                contested.groups.push(owners);
            }
            contested.rows.push((stray, group));
        }
        contested
    }

    /// Those that belong to one of these.
    pub(super) fn of(&self, ids: &BTreeSet<&str>) -> Vec<&(Stray, usize)> {
        let theirs: Vec<bool> =
            self.groups.iter().map(|owners| owners.iter().any(|owner| ids.contains(owner.as_str()))).collect();
        self.rows.iter().filter(|(_, group)| theirs[*group]).collect()
    }
}
