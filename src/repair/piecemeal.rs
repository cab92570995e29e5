//! Copies and fills what the server takes.

use std::collections::{BTreeMap, BTreeSet};

use diesel::PgConnection;

use super::{
    Filled, Left, Outcome, Reason,
    attempt::attempt,
    memory::Recorder,
    proposal::{Excluded, Proposal, Roots},
    propose::Proposer,
    rows::Row,
    tenant::Turn,
    walk::left,
};
use crate::Error;

impl Turn<'_> {
    /// Copies rows: all at once or, where the server refuses something of it, what belongs to each row by itself.
    pub(super) fn copy(
        &self,
        conn: &mut PgConnection,
        proposer: &Proposer<'_>,
        proposal: &Proposal,
        recorder: &Recorder<'_>,
        outcome: &mut Outcome,
    ) -> Result<Excluded, Error> {
        let mut refused = Excluded::new();
        if proposal.tables().is_empty() || attempt(conn, |conn| proposer.copy_all(conn, proposal, recorder))?.is_ok() {
            return Ok(refused);
        }
        let mut whole = Proposal::default();
        for ((table, place), (row, rows)) in proposer.roots(conn)? {
            if whole.has(&table, &place) {
                continue;
            }
            let root = Roots::from([((table.clone(), place.clone()), (row.clone(), rows))]);
            let mut part = proposer.closed(conn, &root, refused.clone())?;
            part.left.retain(|left| !is_done(&part.claims, &whole, left));
            match attempt(conn, |conn| proposer.copy_all(conn, &part, recorder))? {
                Ok(()) => {
                    for (rows, all) in [(part.copies, &mut whole.copies), (part.renumbered, &mut whole.renumbered)] {
                        rows.into_iter().for_each(|(table, rows)| all.entry(table).or_default().extend(rows));
                    }
                }
                Err(words) => {
                    let why = left(&table, &row, Reason::Refused { words }, &root);
                    outcome.left.push(why.clone());
                    refused.insert((table, place), why);
                }
            }
            for left in part.left {
                if !outcome.left.contains(&left) {
                    outcome.left.push(left);
                }
            }
        }
        outcome.copied = whole.outcome().copied;
        outcome.left.sort();
        Ok(refused)
    }

    pub(super) fn fill(
        &self,
        conn: &mut PgConnection,
        proposer: &Proposer<'_>,
        recorder: &Recorder<'_>,
        outcome: &mut Outcome,
    ) -> Result<(), Error> {
        for filled in std::mem::take(&mut outcome.filled) {
            let rule = proposer
                .examined
                .fills(self.repair.rules)
                .find(|fill| (&fill.table, &fill.column) == (&filled.table, &filled.column));
            let Some(rule) = rule else { continue };
            match attempt(conn, |conn| proposer.fill(conn, rule, recorder))? {
                // Somebody else has been faster.
                Ok(0) => {}
                Ok(rows) => outcome.filled.push(Filled { rows, ..filled }),
                Err(words) => {
                    let reason = Reason::Refused { words };
                    outcome.left.push(Left { table: filled.table, key: filled.column, rows: 0, reason });
                }
            }
        }
        Ok(())
    }
}

/// Whether the row was copied a moment ago, maybe under another number.
fn is_done(known: &BTreeMap<String, BTreeSet<Row>>, done: &Proposal, left: &Left) -> bool {
    let mut rows = known.get(&left.table).into_iter().flatten().filter(|row| row.key == left.key);
    rows.any(|row| done.has(&left.table, &row.place))
}
