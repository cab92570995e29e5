//! Takes back from a proposal the rows that would refer to nothing, or to the wrong row.

use std::collections::BTreeSet;

use diesel::{
    PgConnection, QueryResult, RunQueryDsl, sql_query,
    sql_types::{Array, Text},
};

use super::{
    Reason,
    proposal::{Excluded, Proposal, Roots},
    propose::Proposer,
    rows::{self, Row},
    walk::left,
};
use crate::{doctor::same_key, pg::tables::Reference};

impl Proposer<'_> {
    /// Removes the rows whose own reference has to be left, those that refer to them, and so on.
    pub(super) fn prune(
        &self,
        conn: &mut PgConnection,
        proposal: &mut Proposal,
        roots: &Roots,
    ) -> QueryResult<Excluded> {
        let mut pruned = Excluded::new();
        loop {
            let before = pruned.len();
            for reference in &self.examined.references {
                for row in self.without_parent(conn, reference, proposal)? {
                    proposal.remove(&reference.child, &row.place);
                    let reason = Reason::NeedsAnother { table: reference.parent.clone() };
                    let why = left(&reference.child, &row, reason, roots);
                    pruned.insert((reference.child.clone(), row.place), why);
                }
            }
            if pruned.len() == before {
                return Ok(pruned);
            }
        }
    }

    /// The rows to be copied that refer to a row which will not be there, or whose number is another row's there.
    fn without_parent(
        &self,
        conn: &mut PgConnection,
        reference: &Reference,
        proposal: &Proposal,
    ) -> QueryResult<Vec<Row>> {
        let children = proposal.places(&reference.child);
        if children.is_empty() || !self.public.has(&reference.child, &reference.child_columns) {
            return Ok(Vec::new());
        }
        let given: Vec<String> =
            reference.child_columns.iter().map(|name| format!("{} IS NOT NULL", rows::column("p", name))).collect();
        let mistaken = proposal.mistaken.get(&reference.parent);
        let tenant = &self.examined.tenant;
        // Where `public` has no such parents, none is copied and none is mistaken for another.
        let parents = |which: &str| match self.in_public(reference) {
            true => {
                let parent = self.public.only("public", &reference.parent);
                let same = same_key(reference, ("p", self.public), ("q", self.public));
                format!("EXISTS (SELECT FROM {parent} q WHERE {same} AND {which})")
            }
            false => "($2::text[] || $3::text[] IS NULL)".into(),
        };
        sql_query(format!(
            "SELECT {place} AS place, {key} AS key FROM {child} p WHERE {at} AND {given} \
             AND ({mistaken} OR NOT {copied} AND NOT EXISTS (SELECT FROM {theirs} t WHERE {here}))",
            place = rows::place("p"),
            key = rows::key_text(self.public.tables.get(&reference.child), "p"),
            child = self.public.only("public", &reference.child),
            at = rows::is_at("p", 1),
            given = given.join(" AND "),
            copied = parents(&rows::is_at("q", 2)),
            mistaken = parents(&rows::is_at("q", 3)),
            theirs = tenant.only(&self.tenant.schema.quoted(), &reference.parent),
            here = same_key(reference, ("p", self.public), ("t", tenant)),
        ))
        .bind::<Array<Text>, _>(children)
        .bind::<Array<Text>, _>(proposal.places(&reference.parent))
        .bind::<Array<Text>, _>(mistaken.unwrap_or(&BTreeSet::new()).iter().collect::<Vec<_>>())
        .load(conn)
    }
}
