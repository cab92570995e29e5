//! Sorts out the rows that a tenant has already, that collide with others of its rows, or that name another
//! tenant as their owner.

use std::collections::BTreeSet;

use diesel::{
    PgConnection, QueryResult, QueryableByName, RunQueryDsl, sql_query,
    sql_types::{Array, Bool, Text},
};
use uuid::Uuid;

use super::{
    Reason,
    proposal::{Proposal, Roots},
    propose::Proposer,
    rows::{self, Place, Row},
};
use crate::pg::tables::{Key, Reference, Tables, equal};

#[derive(QueryableByName)]
struct Collision {
    #[diesel(embed)]
    found: Row,
    /// Whether the tenant's row says the same.
    #[diesel(sql_type = Bool)]
    equal: bool,
    /// Whether another key tells the two apart.
    #[diesel(sql_type = Bool)]
    told_apart: bool,
}

impl Proposer<'_> {
    /// Adds to the proposal those of the rows that can be copied.
    pub(super) fn admit(
        &self,
        conn: &mut PgConnection,
        table: &str,
        rows: &[Row],
        roots: &Roots,
        proposal: &mut Proposal,
    ) -> QueryResult<()> {
        let Some(structure) = self.examined.tenant.tables.get(table) else { return Ok(()) };
        let mut as_is: BTreeSet<Place> = rows.iter().map(|row| row.place.clone()).collect();
        let mut renumbered = BTreeSet::new();
        for key in self.keys(table) {
            for Collision { found: row, equal, told_apart } in
                self.collisions(conn, table, key, as_is.union(&renumbered).collect())?
            {
                let was_renumbered = renumbered.remove(&row.place);
                as_is.remove(&row.place);
                let is_number = key.primary && self.is_number(table, key);
                if equal {
                    // The tenant has it.
                } else if is_number && !self.is_referred_to(table, key) && told_apart && !was_renumbered {
                    renumbered.insert(row.place);
                } else {
                    let reason = Reason::DifferentRecord { index: key.name.clone() };
                    self.leave(table, &row, reason, roots, proposal);
                    if is_number {
                        proposal.mistaken.entry(table.into()).or_default().insert(row.place);
                    }
                }
            }
        }
        if rows::primary_key(structure).is_none() {
            for place in self.there_already(conn, table, &as_is)? {
                as_is.remove(&place);
            }
        }
        proposal.copies.entry(table.into()).or_default().extend(as_is);
        proposal.renumbered.entry(table.into()).or_default().extend(renumbered);
        Ok(())
    }

    /// What may not be in the tenant's table twice: its keys and, since it may have lost some, those of `public`.
    fn keys(&self, table: &str) -> impl Iterator<Item = &Key> {
        let tenant = &self.examined.tenant;
        let known = tenant.tables.get(table).map_or(&[][..], |table| &table.keys);
        let all = self.public.tables.get(table).map_or(&[][..], |table| &table.keys);
        let is_lost =
            move |key: &&Key| tenant.has(table, &key.columns) && !known.iter().any(|one| one.columns == key.columns);
        known.iter().chain(all.iter().filter(is_lost))
    }

    /// Whether the key is a number from a sequence.
    fn is_number(&self, table: &str, key: &Key) -> bool {
        let [column] = key.columns.as_slice() else { return false };
        self.examined.tenant.columns(table).iter().any(|known| known.name == *column && known.numbered)
    }

    fn is_referred_to(&self, table: &str, key: &Key) -> bool {
        let refers =
            |r: &Reference| r.parent == table && r.parent_columns.iter().any(|name| key.columns.contains(name));
        self.examined.references.iter().any(refers)
    }

    /// The rows whose owner column names another tenant, and whom it names.
    pub(super) fn of_others(
        &self,
        conn: &mut PgConnection,
        table: &str,
        rows: &[Row],
    ) -> QueryResult<Vec<(Row, String)>> {
        #[derive(QueryableByName)]
        struct Owned {
            #[diesel(embed)]
            found: Row,
            #[diesel(sql_type = Text)]
            owner: String,
        }
        let Some(column) = &self.rules.owner_column else { return Ok(Vec::new()) };
        if rows.is_empty() || !self.public.has(table, std::slice::from_ref(column)) {
            return Ok(Vec::new());
        }
        // Where the tenant's id is not known, whoever is named may be another.
        let id = self.tenant.id.as_ref().map(Uuid::to_string).unwrap_or_default();
        let owned: Vec<Owned> = sql_query(format!(
            "SELECT {place} AS place, {key} AS key, {owner}::text AS owner FROM {table} p \
             WHERE {at} AND {owner}::text <> $2",
            place = rows::place("p"),
            at = rows::is_at("p", 1),
            key = rows::key_text(self.public.tables.get(table), "p"),
            owner = rows::column("p", column),
            table = self.public.only("public", table),
        ))
        .bind::<Array<Text>, _>(rows.iter().map(|row| &row.place).collect::<Vec<_>>())
        .bind::<Text, _>(id)
        .load(conn)?;
        Ok(owned.into_iter().map(|Owned { found, owner }| (found, owner)).collect())
    }

    /// The rows under whose key the tenant has one already.
    fn collisions(
        &self,
        conn: &mut PgConnection,
        table: &str,
        key: &Key,
        places: Vec<&Place>,
    ) -> QueryResult<Vec<Collision>> {
        if places.is_empty() || !self.public.has(table, &key.columns) {
            return Ok(Vec::new());
        }
        let tenant = &self.examined.tenant;
        let same: Vec<String> =
            key.columns.iter().map(|name| equal(("t", tenant, table, name), ("p", self.public, table, name))).collect();
        // A row that another key tells apart does not merely look like another record because it was edited.
        let others = self.keys(table).filter(|other| {
            let numbered = |column: &String| tenant.columns(table).iter().any(|c| c.name == *column && c.numbered);
            other.name != key.name && self.public.has(table, &other.columns) && !other.columns.iter().any(numbered)
        });
        let told_apart: Vec<String> = others
            .map(|other| {
                let given: Vec<String> =
                    other.columns.iter().map(|name| format!("{} IS NOT NULL", rows::column("p", name))).collect();
                format!("({})", given.join(" AND "))
            })
            .chain(["false".into()])
            .collect();
        sql_query(format!(
            "SELECT {place} AS place, {key} AS key, {left} IS NOT DISTINCT FROM {right} AS equal, \
                    {told_apart} AS told_apart \
             FROM {table} p JOIN {theirs} t ON {same} WHERE {at}",
            place = rows::place("p"),
            at = rows::is_at("p", 1),
            key = rows::key_text(self.public.tables.get(table), "p"),
            left = self.content(table, |name, filled| {
                let (one, other) = (rows::column("p", name), rows::column("t", name));
                Some(if filled { format!("coalesce({one}::text, {other}::text)") } else { one })
            }),
            right = self.content(table, |name, _| Some(rows::column("t", name))),
            told_apart = told_apart.join(" OR "),
            table = self.public.only("public", table),
            theirs = tenant.only(&self.tenant.schema.quoted(), table),
            same = same.join(" AND "),
        ))
        .bind::<Array<Text>, _>(places)
        .load(conn)
    }

    /// The rows of a table without a key of which the tenant has as many as `public`, or is the better part of.
    fn there_already(&self, conn: &mut PgConnection, table: &str, places: &BTreeSet<Place>) -> QueryResult<Vec<Place>> {
        #[derive(QueryableByName)]
        struct There {
            #[diesel(sql_type = Text)]
            place: Place,
        }
        if places.is_empty() {
            return Ok(Vec::new());
        }
        let there: Vec<There> = sql_query(format!(
            "SELECT place FROM ( \
                 SELECT {place} AS place, {content} AS content, \
                        row_number() OVER (PARTITION BY {content} ORDER BY {place}) AS number \
                 FROM {table} p) p \
             JOIN (SELECT {theirs} AS content, count(*) AS rows FROM {table_there} t GROUP BY 1) t USING (content) \
             WHERE p.number <= t.rows AND {given}",
            place = rows::place("p"),
            given = rows::is_among("p.place", 1),
            content = self.content(table, |name, filled| (!filled).then(|| rows::column("p", name))),
            theirs = self.content(table, |name, filled| (!filled).then(|| rows::column("t", name))),
            table = self.public.only("public", table),
            table_there = self.examined.tenant.only(&self.tenant.schema.quoted(), table),
        ))
        .bind::<Array<Text>, _>(places.iter().collect::<Vec<_>>())
        .load(conn)?;
        Ok(there.into_iter().map(|row| row.place).collect())
    }

    /// What a row says, as a text. What is filled on the way may be null.
    fn content(&self, table: &str, value: impl Fn(&str, bool) -> Option<String>) -> String {
        let filled = |name: &str| self.rules.fills.iter().any(|fill| fill.table == table && fill.column == name);
        content(self.public, &self.examined.tenant, table, |name| value(name, filled(name)))
    }
}

/// The text of the columns that both have: texts are compared, since not every type has an equality.
pub(super) fn content(public: &Tables, tenant: &Tables, table: &str, value: impl Fn(&str) -> Option<String>) -> String {
    let columns: Vec<String> = rows::shared_columns(public, tenant, table).into_iter().filter_map(value).collect();
    format!("ROW({})::text", columns.join(", "))
}
