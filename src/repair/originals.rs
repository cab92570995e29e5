//! Removes from `public` the originals of rows that one tenant has just the same, and that nobody else needs.

use std::collections::{BTreeMap, BTreeSet};

use diesel::{
    PgConnection, QueryResult, QueryableByName, RunQueryDsl,
    connection::SimpleConnection,
    sql_query,
    sql_types::{Array, BigInt, Text},
};

use super::{
    Copied, Left, Outcome, Reason,
    admit::content,
    claims::UUID,
    memory::{self, Recorder, What},
    order::parents_first,
    outside::{Outside, outside},
    proposal::Proposal,
    propose::Proposer,
    rows::{self, Place, Row},
    settings::writing,
};
use crate::{SchemaName, doctor::same_key, pg::tables::equal, quote};

/// Rows of `public`, by table and place, with what they are called.
type Originals = BTreeMap<String, BTreeMap<Place, Row>>;

impl Proposer<'_> {
    /// Removes what the tenant has just the same, and tells which of it is still needed.
    pub(super) fn remove_originals(
        &self,
        conn: &mut PgConnection,
        proposal: &Proposal,
        held: Option<&BTreeMap<String, BTreeSet<Row>>>,
        recorder: &Recorder<'_>,
        outcome: &mut Outcome,
    ) -> QueryResult<()> {
        let remembers = memory::is_there(conn)?;
        let mut originals = Originals::new();
        // A table that all tenants share has its rows in `public`, whoever has some of them too.
        let is_shared = |table: &&String| self.rules.shared.iter().any(|shared| shared.parent == **table);
        for table in self.examined.tenant.tables.keys().filter(|table| !is_shared(table)) {
            let claimed = proposal.claims.get(table);
            let known = held.and_then(|held| held.get(table));
            for (rows, is_proven) in [(claimed, true), (known, false)] {
                let found = self.equal_originals(conn, table, rows, is_proven, remembers)?;
                originals.entry(table.clone()).or_default().extend(found);
            }
        }
        originals.retain(|_, rows| !rows.is_empty());
        let outside = outside(conn, &SchemaName::public())?;
        self.keep_what_is_needed(conn, &mut originals, &outside, outcome)?;
        self.delete(conn, &originals, recorder, outcome)
    }

    /// Those of the rows that the tenant has, equal in every column. Where it is not known to be its own row, a key
    /// that no other row can have, the owner's column, or an earlier repair has to prove that it is.
    fn equal_originals(
        &self,
        conn: &mut PgConnection,
        table: &str,
        rows: Option<&BTreeSet<Row>>,
        is_proven: bool,
        remembers: bool,
    ) -> QueryResult<BTreeMap<Place, Row>> {
        let (Some(rows), Some(public)) = (rows.filter(|rows| !rows.is_empty()), self.public.tables.get(table)) else {
            return Ok(BTreeMap::new());
        };
        let tenant = &self.examined.tenant;
        let is_whole = rows::written(public).all(|column| tenant.has(table, std::slice::from_ref(&column.name)));
        if !is_whole {
            return Ok(BTreeMap::new());
        }
        let contested = |row: &Row| self.contested.contains_key(&(table.to_owned(), row.key.clone()));
        let filled = |name: &str| self.rules.fills.iter().any(|fill| fill.table == table && fill.column == name);
        let left = content(self.public, tenant, table, |name| {
            let (one, other) = (rows::column("p", name), rows::column("t", name));
            Some(if filled(name) { format!("coalesce({one}::text, {other}::text)") } else { one })
        });
        let right = content(self.public, tenant, table, |name| Some(rows::column("t", name)));
        let key = rows::primary_key(public).unwrap_or_default();
        let mut same: Vec<String> =
            key.iter().map(|name| equal(("t", tenant, table, name), ("p", self.public, table, name))).collect();
        same.push(format!("{left} = {right}"));
        let mut proofs = vec![(is_proven || self.has_uuid(table, key)).to_string()];
        let owner = self.rules.owner_column.as_ref().filter(|name| tenant.has(table, std::slice::from_ref(*name)));
        if let (Some(owner), Some(id)) = (owner, self.tenant.id) {
            proofs.push(format!("p.{}::text = {}", quote::identifier(owner), quote::literal(&id.to_string())));
        }
        if remembers {
            proofs.push(format!(
                "EXISTS (SELECT FROM tenantry.repair_change m WHERE m.schema = {} AND m.\"table\" = {} \
                 AND m.what = 'inserted' AND m.undone_at IS NULL AND m.key = {})",
                quote::literal(self.tenant.schema.as_str()),
                quote::literal(table),
                rows::key_image(public, "p"),
            ));
        }
        let found: Vec<Row> = sql_query(format!(
            "SELECT {place} AS place, {text} AS key FROM {name} p WHERE {at} AND ({proofs}) \
             AND EXISTS (SELECT FROM {theirs} t WHERE {same}) FOR UPDATE OF p",
            place = rows::place("p"),
            text = rows::key_text(Some(public), "p"),
            name = self.public.only("public", table),
            at = rows::is_at("p", 1),
            proofs = proofs.join(" OR "),
            theirs = tenant.only(&self.tenant.schema.quoted(), table),
            same = same.join(" AND "),
        ))
        .bind::<Array<Text>, _>(rows.iter().map(|row| &row.place).collect::<Vec<_>>())
        .load(conn)?;
        // Another row may have come to a place since that was looked at.
        let found = found.into_iter().filter(|row| rows.contains(row) && !contested(row));
        Ok(found.map(|row| (row.place.clone(), row)).collect())
    }

    fn has_uuid(&self, table: &str, key: &[String]) -> bool {
        self.public.columns(table).iter().any(|column| key.contains(&column.name) && column.kind.starts_with(UUID))
    }

    /// Takes those out to which a row refers that stays, and so on.
    fn keep_what_is_needed(
        &self,
        conn: &mut PgConnection,
        originals: &mut Originals,
        outside: &[Outside],
        outcome: &mut Outcome,
    ) -> QueryResult<()> {
        loop {
            let mut needed = Vec::<(String, Place, String)>::new();
            // Also those of tables that `public` alone has.
            let own = self.public.references.iter().filter(|reference| reference.inside);
            for reference in self.examined.references.iter().filter(|one| self.in_public(one)).chain(own) {
                let Some(rows) = originals.get(&reference.parent) else { continue };
                let same = same_key(reference, ("c", self.public), ("p", self.public));
                let going: Vec<&Place> = originals.get(&reference.child).into_iter().flat_map(BTreeMap::keys).collect();
                let child = self.public.only("public", &reference.child);
                let found =
                    referred_to(conn, &self.public.only("public", &reference.parent), rows, &child, &same, &going)?;
                needed
                    .extend(found.into_iter().map(|place| (reference.parent.clone(), place, reference.child.clone())));
            }
            for outside in outside {
                let Some(rows) = originals.get(&outside.parent) else { continue };
                let (child, same) = outside.refers();
                let found = referred_to(conn, &self.public.only("public", &outside.parent), rows, &child, &same, &[])?;
                needed.extend(found.into_iter().map(|place| (outside.parent.clone(), place, outside.child())));
            }
            if needed.is_empty() {
                return Ok(());
            }
            for (table, place, by) in needed {
                if let Some(row) = originals.get_mut(&table).and_then(|rows| rows.remove(&place)) {
                    outcome.left.push(Left { table, key: row.key, rows: 0, reason: Reason::OriginalNeeded { by } });
                }
            }
            originals.retain(|_, rows| !rows.is_empty());
        }
    }

    fn delete(
        &self,
        conn: &mut PgConnection,
        originals: &Originals,
        recorder: &Recorder<'_>,
        outcome: &mut Outcome,
    ) -> QueryResult<()> {
        if originals.is_empty() {
            return Ok(());
        }
        conn.batch_execute("SET CONSTRAINTS ALL DEFERRED")?;
        // In one statement, after which alone foreign keys act: a cascade would remove rows unseen.
        let (mut steps, mut counts) = (Vec::new(), Vec::new());
        // Written down children first, as they have to come back in the opposite order.
        let tables = parents_first(originals.keys().cloned(), &self.public.references).concat();
        for (at, table) in tables.iter().rev().enumerate() {
            let structure = &self.public.tables[table];
            steps.push(format!(
                "d{at} AS (DELETE FROM {} p WHERE {} RETURNING {} AS key, {} AS before, NULL::jsonb AS after)",
                self.public.only("public", table),
                rows::is_at("p", 1),
                rows::key_image(structure, "p"),
                rows::image(structure, "p"),
            ));
            let told = recorder.statement(table, What::Deleted, &format!("d{at}"));
            steps.extend(told.map(|told| format!("m{at} AS ({told})")));
            counts.push(format!(
                "SELECT {}::text AS table, pg_catalog.count(*) AS rows FROM d{at}",
                quote::literal(table)
            ));
        }
        let delete = sql_query(format!("WITH {} {}", steps.join(", "), counts.join(" UNION ALL ")))
            .bind::<Array<Text>, _>(originals.values().flat_map(BTreeMap::keys).collect::<Vec<_>>());
        let deleted: Vec<Deleted> = writing(conn, &self.tenant.schema, |conn| {
            let deleted = delete.load(conn)?;
            conn.batch_execute("SET CONSTRAINTS ALL IMMEDIATE; SET CONSTRAINTS ALL DEFERRED")?;
            Ok(deleted)
        })?;
        outcome.removed.extend(deleted.into_iter().map(|Deleted { table, rows }| Copied { table, rows }));
        Ok(())
    }
}

#[derive(QueryableByName)]
struct Deleted {
    #[diesel(sql_type = Text)]
    table: String,
    #[diesel(sql_type = BigInt)]
    rows: i64,
}

/// Which of the rows a child refers to that is not going itself.
fn referred_to(
    conn: &mut PgConnection,
    parent: &str,
    rows: &BTreeMap<Place, Row>,
    child: &str,
    same: &str,
    going: &[&Place],
) -> QueryResult<Vec<Place>> {
    #[derive(QueryableByName)]
    struct At {
        #[diesel(sql_type = Text)]
        place: Place,
    }
    let found: Vec<At> = sql_query(format!(
        "SELECT {place} AS place FROM {parent} p WHERE {at} \
         AND EXISTS (SELECT FROM {child} c WHERE {same} AND {staying})",
        place = rows::place("p"),
        at = rows::is_at("p", 1),
        staying = rows::is_not_at("c", 2),
    ))
    .bind::<Array<Text>, _>(rows.keys().collect::<Vec<_>>())
    .bind::<Array<Text>, _>(going)
    .load(conn)?;
    Ok(found.into_iter().map(|row| row.place).collect())
}
