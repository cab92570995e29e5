//! Decides what to do in one tenant, and writes nothing.

use std::collections::{BTreeMap, BTreeSet};

use diesel::{
    PgConnection, QueryResult, QueryableByName, RunQueryDsl, sql_query,
    sql_types::{Array, Text},
};

use super::{
    Filled, Left, Reason,
    proposal::{Contested, Excluded, Proposal, Roots, SpokenFor},
    rows::{self, Place, Row},
};
use crate::{
    SchemaName,
    directory::TenantEntry,
    doctor::{Examined, Problem, Rules, Title, same_key},
    pg::tables::{Reference, Tables},
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

    /// The rows that belong to the tenant if nobody else has a claim to what is bound to its rows.
    pub(super) fn with_strays(&self, conn: &mut PgConnection) -> QueryResult<BTreeMap<String, BTreeSet<Row>>> {
        if self.examined.strays.values().all(|title| *title == Title::Named) {
            return Ok(BTreeMap::new());
        }
        let proposer = Proposer { spoken_for: Some(&SpokenFor::new()), ..*self };
        let roots = proposer.roots(conn)?;
        Ok(proposer.walk(conn, &roots, &Excluded::new())?.claims)
    }

    /// The tenants that may have a row, if there is another than this one.
    pub(super) fn claimants(&self, table: &str, row: &Row) -> Option<Vec<SchemaName>> {
        let id = (table.to_owned(), row.key.clone());
        if let Some(tenants) = self.contested.get(&id) {
            return Some(tenants.clone());
        }
        let tenants = self.spoken_for?.get(&id)?;
        let all: BTreeSet<&SchemaName> = tenants.iter().chain([&self.tenant.schema]).collect();
        (all.len() > 1).then(|| all.into_iter().cloned().collect())
    }

    /// The tenants that a stray may belong to, if there is another than this one.
    fn rivals(&self, table: &str, row: &Row, title: &Title) -> Option<Vec<SchemaName>> {
        let shared = match title {
            Title::Named => return None,
            Title::Reached => &[],
            Title::Shared(tenants) => tenants.as_slice(),
        };
        let others = self.spoken_for.and_then(|rows| rows.get(&(table.to_owned(), row.key.clone())));
        let mut tenants: BTreeSet<SchemaName> = shared.iter().chain(others.into_iter().flatten()).cloned().collect();
        tenants.insert(self.tenant.schema.clone());
        (tenants.len() > 1).then(|| tenants.into_iter().collect())
    }

    /// The rows of `public` that belong to the tenant, and why.
    pub(super) fn strays(&self, conn: &mut PgConnection) -> QueryResult<Vec<(String, Row, &Title)>> {
        let mut by_table = BTreeMap::<&String, BTreeMap<&Place, &Title>>::new();
        for (stray, title) in &self.examined.strays {
            by_table.entry(&stray.table).or_default().insert(&stray.place, title);
        }
        let mut found = Vec::new();
        for (table, titles) in by_table {
            let places = titles.keys().map(|place| (*place).clone()).collect();
            let rows = self.rows(conn, table, &rows::is_at("p", 1), &places)?.into_iter();
            found.extend(rows.filter_map(|row| {
                let title = titles.get(&row.place).copied()?;
                Some((table.clone(), row, title))
            }));
        }
        Ok(found)
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

    /// The rows of `public` to which these refer and which are there.
    pub(super) fn parents(
        &self,
        conn: &mut PgConnection,
        reference: &Reference,
        rows: &BTreeSet<Place>,
    ) -> QueryResult<Vec<Row>> {
        if !self.in_public(reference) {
            return Ok(Vec::new());
        }
        let condition = format!(
            "EXISTS (SELECT FROM {} x WHERE {} AND {})",
            self.public.only("public", &reference.child),
            rows::is_at("x", 1),
            same_key(reference, ("x", self.public), ("p", self.public)),
        );
        self.rows(conn, &reference.parent, &condition, rows)
    }

    /// The rows of `public` that refer to these.
    pub(super) fn dependants(
        &self,
        conn: &mut PgConnection,
        reference: &Reference,
        rows: &BTreeSet<Place>,
    ) -> QueryResult<Vec<Row>> {
        if !self.in_public(reference) {
            return Ok(Vec::new());
        }
        let condition = format!(
            "EXISTS (SELECT FROM {} x WHERE {} AND {})",
            self.public.only("public", &reference.parent),
            rows::is_at("x", 1),
            same_key(reference, ("p", self.public), ("x", self.public)),
        );
        self.rows(conn, &reference.child, &condition, rows)
    }

    /// Whether `public` has what the reference connects.
    pub(super) fn in_public(&self, reference: &Reference) -> bool {
        self.public.has(&reference.parent, &reference.parent_columns)
            && self.public.has(&reference.child, &reference.child_columns)
    }

    fn rows(
        &self,
        conn: &mut PgConnection,
        table: &str,
        condition: &str,
        places: &BTreeSet<Place>,
    ) -> QueryResult<Vec<Row>> {
        sql_query(format!(
            "SELECT {place} AS place, {key} AS key FROM {table} p WHERE {condition} {lock}",
            place = rows::place("p"),
            key = rows::key_text(self.public.tables.get(table), "p"),
            table = self.public.only("public", table),
            lock = self.lock_of("p"),
        ))
        .bind::<Array<Text>, _>(places.iter().collect::<Vec<_>>())
        .load(conn)
    }

    fn lock_of(&self, alias: &str) -> String {
        if self.lock { format!("FOR SHARE OF {alias}") } else { String::new() }
    }
}
