//! Finds the rows of `public` with which a proposal begins.

use std::collections::{BTreeMap, BTreeSet};

use diesel::{
    PgConnection, QueryResult, QueryableByName, RunQueryDsl, sql_query,
    sql_types::{Array, Text},
};

use super::{
    proposal::Roots,
    propose::Proposer,
    rows::{self, Place, Row},
};
use crate::{
    doctor::{Problem, Title, same_key},
    pg::tables::Reference,
};

impl Proposer<'_> {
    /// The rows of `public` to which the tenant refers in vain, and those that belong to it. None, where others may
    /// have a claim to them.
    pub(super) fn roots(&self, conn: &mut PgConnection) -> QueryResult<Roots> {
        #[derive(QueryableByName)]
        struct Found {
            #[diesel(embed)]
            found: Row,
            #[diesel(sql_type = Array<Text>)]
            orphan: Vec<String>,
        }
        let mut roots = Roots::new();
        if !self.unexamined.is_empty() {
            return Ok(roots);
        }
        for reference in &self.examined.references {
            let orphans = self.orphans(reference);
            if orphans.is_empty() {
                continue;
            }
            let schema = self.tenant.schema.quoted();
            let tenant = &self.examined.tenant;
            let key: Vec<String> =
                reference.parent_columns.iter().map(|name| format!("{}::text", rows::column("p", name))).collect();
            let found: Vec<Found> = sql_query(format!(
                "SELECT {place} AS place, {text} AS key, ARRAY[{key}] AS orphan FROM {parent} p \
                 WHERE EXISTS (SELECT FROM {child} c WHERE {in_public} \
                     AND NOT EXISTS (SELECT FROM {theirs} t WHERE {here})) {lock}",
                place = rows::place("p"),
                text = rows::key_text(self.public.tables.get(&reference.parent), "p"),
                key = key.join(", "),
                parent = self.public.only("public", &reference.parent),
                child = tenant.only(&schema, &reference.child),
                theirs = tenant.only(&schema, &reference.parent),
                in_public = same_key(reference, ("c", tenant), ("p", self.public)),
                here = same_key(reference, ("c", tenant), ("t", tenant)),
                lock = self.lock_of("p"),
            ))
            .load(conn)?;
            for Found { found: row, orphan } in found {
                // Equal values may be written differently.
                let rows = orphans.get(orphan.as_slice()).copied().unwrap_or(1);
                roots.entry((reference.parent.clone(), row.place.clone())).or_insert((row, 0)).1 += rows;
            }
        }
        let strays = self.strays(conn)?;
        // What a row refers to that is named as the tenant's counts as if it were there already, and did so in vain.
        let mut named = BTreeMap::<&String, BTreeSet<Place>>::new();
        for (table, row, _) in strays.iter().filter(|(.., title)| **title == Title::Named) {
            named.entry(table).or_default().insert(row.place.clone());
        }
        for reference in &self.examined.references {
            let Some(places) = named.get(&reference.child) else { continue };
            for row in self.parents(conn, reference, places)? {
                roots.entry((reference.parent.clone(), row.place.clone())).or_insert((row, 0));
            }
        }
        for (table, row, title) in strays {
            let is_ours = match self.spoken_for {
                Some(_) => self.rivals(&table, &row, title).is_none(),
                None => *title == Title::Named,
            };
            if is_ours {
                roots.entry((table, row.place.clone())).or_insert((row, 0));
            }
        }
        Ok(roots)
    }

    /// The keys of the orphans of this reference that `public` has, and how many rows refer to each.
    fn orphans(&self, reference: &Reference) -> BTreeMap<&[String], i64> {
        let of_reference = |symptom: &'_ crate::doctor::Symptom| symptom.table == reference.child;
        let findings = self.examined.findings.iter().filter(|symptom| of_reference(symptom));
        let orphan = findings.filter_map(|symptom| match &symptom.problem {
            Problem::Orphans { columns, parent, key, rows, in_public: true }
                if *columns == reference.child_columns && *parent == reference.parent =>
            {
                Some((key.as_slice(), *rows))
            }
            _ => None,
        });
        orphan.collect()
    }
}
