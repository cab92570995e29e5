//! Follows the references of `public`, from the rows that a tenant lacks.

use std::collections::{BTreeSet, VecDeque};

use diesel::{PgConnection, QueryResult};

use super::{
    Left, Reason,
    proposal::{Excluded, Proposal, Roots},
    propose::Proposer,
    rows::Row,
};
use crate::pg::tables::{Key, Reference};

impl Proposer<'_> {
    /// The rows that tenants refer to, with all that belongs to them.
    ///
    /// What refers to a row belongs to it, and so on. What it refers to is only needed: that comes along alone,
    /// since others than this tenant may refer to it too.
    pub(super) fn walk(&self, conn: &mut PgConnection, roots: &Roots, excluded: &Excluded) -> QueryResult<Proposal> {
        let mut proposal = Proposal::default();
        let (mut judged, mut followed, mut foreign) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        let mut queue = VecDeque::new();
        for table in roots.keys().map(|(table, _)| table).collect::<BTreeSet<_>>() {
            let rows = roots.iter().filter(|((of, _), _)| of == table).map(|(_, (row, _))| row.clone());
            queue.push_back((table.clone(), rows.collect::<Vec<Row>>(), true, None));
        }
        while let Some((table, mut rows, belongs, through)) = queue.pop_front() {
            let id = |row: &Row| (table.clone(), row.place.clone());
            rows.retain(|row| !excluded.contains_key(&id(row)));
            let mut new: Vec<Row> = rows.iter().filter(|row| !judged.contains(&id(row))).cloned().collect();
            judged.extend(new.iter().map(id));
            for (row, owner) in self.of_others(conn, &table, &new)? {
                self.leave(&table, &row, Reason::OfAnotherTenant { owner }, roots, &mut proposal);
                foreign.insert(id(&row));
            }
            if belongs {
                for row in &rows {
                    if foreign.contains(&id(row)) {
                        continue;
                    }
                    proposal.claims.entry(table.clone()).or_default().insert(row.clone());
                    if let Some(tenants) = self.claimants(&table, row) {
                        let reason = Reason::Contested { tenants };
                        self.leave(&table, row, reason, roots, &mut proposal);
                        proposal.remove(&table, &row.place);
                        foreign.insert(id(row));
                    }
                }
            }
            new.retain(|row| !foreign.contains(&id(row)));
            self.admit(conn, &table, &new, roots, &mut proposal)?;
            let fresh: BTreeSet<String> =
                new.into_iter().map(|row| row.place).filter(|place| proposal.has(&table, place)).collect();
            let ours: BTreeSet<String> = rows
                .iter()
                .filter(|row| belongs && proposal.has(&table, &row.place) && followed.insert(id(row)))
                .map(|row| row.place.clone())
                .collect();
            for (at, reference) in self.examined.references.iter().enumerate() {
                // The only rows to which they refer that way are those they were found by.
                let is_back = through == Some(at) && self.is_unique(reference);
                if reference.child == table && !fresh.is_empty() && !is_back {
                    let parents = self.parents(conn, reference, &fresh)?;
                    queue.push_back((reference.parent.clone(), parents, false, None));
                }
                if reference.parent == table && !ours.is_empty() {
                    let dependants = self.dependants(conn, reference, &ours)?;
                    queue.push_back((reference.child.clone(), dependants, true, Some(at)));
                }
            }
        }
        Ok(proposal)
    }

    /// Whether `public` has at most one row for each reference.
    fn is_unique(&self, reference: &Reference) -> bool {
        let is_all = |key: &Key| key.columns.iter().all(|column| reference.parent_columns.contains(column));
        self.public.tables.get(&reference.parent).is_some_and(|parent| parent.keys.iter().any(is_all))
    }

    pub(super) fn leave(&self, table: &str, row: &Row, reason: Reason, roots: &Roots, proposal: &mut Proposal) {
        proposal.left.insert(left(table, row, reason, roots));
    }
}

/// A row that is left alone, with the number of rows that refer to it in vain.
pub(super) fn left(table: &str, row: &Row, reason: Reason, roots: &Roots) -> Left {
    let rows = roots.get(&(table.to_owned(), row.place.clone())).map_or(0, |(_, rows)| *rows);
    Left { table: table.into(), key: row.key.clone(), rows, reason }
}
