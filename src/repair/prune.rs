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
use crate::{doctor::same_key, pg::tables::Reference, quote};

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
        let parent = quote::identifier(&reference.parent);
        let in_public = match self.in_public(reference) {
            true => same_key(reference, ("p", self.public), ("q", self.public)),
            false => "false".into(),
        };
        let mistaken = proposal.mistaken.get(&reference.parent);
        sql_query(format!(
            "SELECT {place} AS place, {key} AS key FROM public.{child} p WHERE {at} AND {given} \
             AND (EXISTS (SELECT FROM public.{parent} q WHERE {in_public} AND {mistaken}) \
                  OR NOT EXISTS (SELECT FROM public.{parent} q WHERE {in_public} AND {copied}) \
                     AND NOT EXISTS (SELECT FROM {schema}.{parent} t WHERE {here}))",
            place = rows::place("p"),
            key = rows::key_text(self.public.tables.get(&reference.child), "p"),
            child = quote::identifier(&reference.child),
            at = rows::is_at("p", 1),
            given = given.join(" AND "),
            copied = rows::is_at("q", 2),
            mistaken = rows::is_at("q", 3),
            schema = self.tenant.schema.quoted(),
            here = same_key(reference, ("p", self.public), ("t", &self.examined.tenant)),
        ))
        .bind::<Array<Text>, _>(children)
        .bind::<Array<Text>, _>(proposal.places(&reference.parent))
        .bind::<Array<Text>, _>(mistaken.unwrap_or(&BTreeSet::new()).iter().collect::<Vec<_>>())
        .load(conn)
    }
}
