//! Decides what to do in one tenant, and writes nothing.

use std::collections::BTreeSet;

use diesel::{PgConnection, QueryResult};

use super::{
    Filled, Left, Reason,
    proposal::{Contested, Excluded, Proposal, Roots, SpokenFor},
};
use crate::{
    SchemaName,
    directory::TenantEntry,
    doctor::{Examined, Problem, Rules},
    pg::tables::Tables,
};

/// All that a proposal is made from.
pub(super) struct Proposer<'a> {
    pub(super) tenant: &'a TenantEntry,
    pub(super) rules: &'a Rules,
    pub(super) public: &'a Tables,
    pub(super) examined: &'a Examined,
    pub(super) contested: &'a Contested,
    /// Whose the rows are that somebody refers to, names or has. Not known while that is being found out.
    pub(super) spoken_for: Option<&'a SpokenFor>,
    /// The tenants of which nobody knows what they refer to.
    pub(super) unexamined: &'a [SchemaName],
    /// Lock the rows of `public` that are to be copied, until the end of the transaction.
    pub(super) lock: bool,
    /// Draw no numbers: all of it will be rolled back, and sequences would not.
    pub(super) rehearsal: bool,
}

impl Proposer<'_> {
    /// What to do, all of it but for the rows that the server has refused.
    pub(super) fn propose(&self, conn: &mut PgConnection, refused: &Excluded) -> QueryResult<Proposal> {
        let roots = self.roots(conn)?;
        let mut proposal = self.closed(conn, &roots, refused.clone())?;
        if self.unexamined.is_empty() {
            for (table, row, title) in self.strays(conn)? {
                if let Some(tenants) = self.rivals(&table, &row, title).filter(|_| !proposal.has(&table, &row.place)) {
                    self.leave(&table, &row, Reason::Contested { tenants }, &roots, &mut proposal);
                }
            }
        }
        for symptom in &self.examined.findings {
            match &symptom.problem {
                Problem::Nulls { column, rows } => {
                    proposal.fills.push(Filled { table: symptom.table.clone(), column: column.clone(), rows: *rows });
                }
                Problem::Orphans { parent, key, rows, in_public, .. } => {
                    let reason = match in_public {
                        false => Reason::InNeitherSchema,
                        true if !self.unexamined.is_empty() => Reason::Unclear { tenants: self.unexamined.to_vec() },
                        true => continue,
                    };
                    proposal.left.insert(Left { table: parent.clone(), key: key.join(", "), rows: *rows, reason });
                }
                Problem::Strays { rows } if !self.unexamined.is_empty() => {
                    let reason = Reason::Unclear { tenants: self.unexamined.to_vec() };
                    let key = format!("{rows} of its rows in public");
                    proposal.left.insert(Left { table: symptom.table.clone(), key, rows: 0, reason });
                }
                Problem::Strays { .. } | Problem::SequenceBehind { .. } => {}
            }
        }
        Ok(proposal)
    }

    /// The rows of these roots with all that belongs to them and all that they need, and none whose own need
    /// cannot be met.
    pub(super) fn closed(
        &self,
        conn: &mut PgConnection,
        roots: &Roots,
        mut excluded: Excluded,
    ) -> QueryResult<Proposal> {
        let (mut causes, mut claims) = (BTreeSet::new(), None);
        loop {
            let mut proposal = self.walk(conn, roots, &excluded)?;
            // What cannot be had is the tenant's all the same, and not another's.
            let claimed = std::mem::take(&mut proposal.claims);
            let claims = claims.get_or_insert(claimed);
            let pruned = self.prune(conn, &mut proposal, roots)?;
            if pruned.is_empty() {
                proposal.left.extend(excluded.into_values());
                proposal.left.append(&mut causes);
                proposal.claims = std::mem::take(claims);
                return Ok(proposal);
            }
            // Without them, others may not be needed any more.
            causes.append(&mut proposal.left);
            excluded.extend(pruned);
        }
    }
}
