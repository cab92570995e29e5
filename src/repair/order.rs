use std::collections::BTreeSet;

use crate::pg::tables::Reference;

/// Puts tables in an order in which each comes after those it refers to. A reference whose check can wait needs no
/// order; a cycle of others is cut anywhere, and its constraint has the last word.
pub(super) fn parents_first(tables: impl IntoIterator<Item = String>, references: &[Reference]) -> Vec<String> {
    let mut waiting: BTreeSet<String> = tables.into_iter().collect();
    let mut order = Vec::new();
    while let Some(first) = waiting.first().cloned() {
        let waits = |r: &Reference, table: &String| {
            !r.deferrable && r.child == *table && r.parent != r.child && waiting.contains(&r.parent)
        };
        let ready = |table: &&String| !references.iter().any(|reference| waits(reference, table));
        let next = waiting.iter().find(ready).cloned().unwrap_or(first);
        waiting.remove(&next);
        order.push(next);
    }
    order
}
