use std::collections::{BTreeMap, BTreeSet};

use super::{
    Copied, Filled, Left, Outcome,
    rows::{Place, Row},
};
use crate::SchemaName;

/// Rows of `public`, by table and key, that belong to several tenants if one follows the references.
pub(super) type Contested = BTreeMap<(String, String), Vec<SchemaName>>;

/// Rows of `public`, by table and key, and the tenants that refer to them, are named as their owners, or have them.
pub(super) type SpokenFor = BTreeMap<(String, String), BTreeSet<SchemaName>>;

/// Rows that are not to be copied, by table and place, and why.
pub(super) type Excluded = BTreeMap<(String, Place), Left>;

/// The rows to which the tenant refers in vain, by table and place, and how many of its rows do.
pub(super) type Roots = BTreeMap<(String, Place), (Row, i64)>;

/// What is to be done in one tenant.
#[derive(Debug, Default)]
pub(super) struct Proposal {
    pub(super) fills: Vec<Filled>,
    /// For each table, the rows to copy as they are.
    pub(super) copies: BTreeMap<String, BTreeSet<Place>>,
    /// For each table, the rows to copy under a new number, since the tenant uses theirs for another row.
    pub(super) renumbered: BTreeMap<String, BTreeSet<Place>>,
    pub(super) left: BTreeSet<Left>,
    /// For each table, the rows that belong to the tenant, whether or not it has them.
    pub(super) claims: BTreeMap<String, BTreeSet<Row>>,
    /// For each table, the rows whose number is another row's in the tenant.
    pub(super) mistaken: BTreeMap<String, BTreeSet<Place>>,
}

impl Proposal {
    pub(super) fn outcome(&self) -> Outcome {
        let mut rows = BTreeMap::<&String, i64>::new();
        for (table, places) in self.copies.iter().chain(&self.renumbered) {
            *rows.entry(table).or_default() += places.len() as i64;
        }
        rows.retain(|_, rows| *rows > 0);
        let copied = rows.into_iter().map(|(table, rows)| Copied { table: table.clone(), rows }).collect();
        let left = self.left.iter().cloned().collect();
        Outcome { filled: self.fills.clone(), copied, left, ..Outcome::default() }
    }

    /// Whether the row is to be copied, in one way or the other.
    pub(super) fn has(&self, table: &str, place: &Place) -> bool {
        [&self.copies, &self.renumbered].iter().any(|rows| rows.get(table).is_some_and(|rows| rows.contains(place)))
    }

    /// The rows of a table that are to be copied.
    pub(super) fn places(&self, table: &str) -> Vec<&Place> {
        [&self.copies, &self.renumbered].iter().filter_map(|rows| rows.get(table)).flatten().collect()
    }

    /// The tables into which something is to be copied.
    pub(super) fn tables(&self) -> BTreeSet<&String> {
        let some = |(table, places): (_, &BTreeSet<Place>)| (!places.is_empty()).then_some(table);
        self.copies.iter().filter_map(some).chain(self.renumbered.iter().filter_map(some)).collect()
    }

    pub(super) fn remove(&mut self, table: &str, place: &Place) {
        for rows in [&mut self.copies, &mut self.renumbered] {
            rows.get_mut(table).map(|rows| rows.remove(place));
        }
    }
}
