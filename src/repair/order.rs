use std::collections::BTreeSet;

use crate::pg::tables::Reference;

/// Puts tables in an order in which each comes after those it refers to. A reference whose check can wait needs no
/// order; tables that all wait for each other come together, and have to be written in one statement.
pub(super) fn parents_first(tables: impl IntoIterator<Item = String>, references: &[Reference]) -> Vec<Vec<String>> {
    let mut waiting: BTreeSet<String> = tables.into_iter().collect();
    let mut order = Vec::new();
    while !waiting.is_empty() {
        let waits = |r: &Reference, table: &String| {
            !r.deferrable && r.child == *table && r.parent != r.child && waiting.contains(&r.parent)
        };
        let ready = |table: &&String| !references.iter().any(|reference| waits(reference, table));
        match waiting.iter().find(ready).cloned() {
            Some(next) => {
                waiting.remove(&next);
                order.push(vec![next]);
            }
            None => order.push(std::mem::take(&mut waiting).into_iter().collect()),
        }
    }
    order
}
