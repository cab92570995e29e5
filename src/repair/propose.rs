//! Decides what to do in one tenant, and writes nothing.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use diesel::{
    PgConnection, QueryResult, RunQueryDsl, sql_query,
    sql_types::{Array, Bool, Text},
};
use uuid::Uuid;

use super::{Copied, Filled, Left, Outcome, Reason};
use crate::{
    SchemaName,
    directory::TenantEntry,
    doctor::{Examined, Problem, Rules, Symptom, same_key},
    pg::tables::{Key, Reference, Tables},
    quote,
};

/// A row of `public`, by its place in the table. It stays there while the row is share-locked.
type Place = String;

/// A row that several tenants refer to: table and key.
pub(super) type Contested = BTreeMap<(String, Vec<String>), Vec<SchemaName>>;

/// What is to be done in one tenant.
#[derive(Debug, Default)]
pub(super) struct Proposal {
    pub(super) fills: Vec<Filled>,
    /// For each table, the rows to copy as they are.
    pub(super) copies: BTreeMap<String, BTreeSet<Place>>,
    /// For each table, the rows to copy under a new number, since the tenant uses theirs for another row.
    pub(super) renumbered: BTreeMap<String, BTreeSet<Place>>,
    pub(super) left: BTreeSet<Left>,
}

/// All that a proposal is made from.
pub(super) struct Proposer<'a> {
    pub(super) tenant: &'a TenantEntry,
    pub(super) rules: &'a Rules,
    pub(super) public: &'a Tables,
    pub(super) examined: &'a Examined,
    pub(super) contested: &'a Contested,
    /// The tenants of which nobody knows what they refer to.
    pub(super) unexamined: &'a [SchemaName],
    /// Lock the rows of `public` that are to be copied, until the end of the transaction.
    pub(super) lock: bool,
}

impl Proposal {
    pub(super) fn into_outcome(self) -> Outcome {
        let mut rows = BTreeMap::<String, i64>::new();
        for (table, places) in self.copies.into_iter().chain(self.renumbered) {
            *rows.entry(table).or_default() += places.len() as i64;
        }
        rows.retain(|_, rows| *rows > 0);
        let copied = rows.into_iter().map(|(table, rows)| Copied { table, rows }).collect();
        Outcome { filled: self.fills, copied, left: self.left.into_iter().collect() }
    }

    /// Adds rows that were not in it, and returns those.
    fn add(&mut self, table: &str, admitted: Admitted) -> Vec<Place> {
        let mut new = Vec::new();
        for (places, target) in [(admitted.as_is, &mut self.copies), (admitted.renumbered, &mut self.renumbered)] {
            let known = target.entry(table.into()).or_default();
            new.extend(places.into_iter().filter(|place| known.insert(place.clone())));
        }
        new
    }
}

/// Rows of one table that refer to a row of another which is not in their schema.
struct Orphan<'f> {
    child: &'f str,
    columns: &'f [String],
    parent: &'f str,
    key: &'f [String],
    rows: i64,
}

impl Orphan<'_> {
    fn leave(&self, reason: Reason, proposal: &mut Proposal) {
        proposal.left.insert(Left { table: self.parent.into(), key: self.key.join(", "), rows: self.rows, reason });
    }
}

#[derive(Default)]
struct Admitted {
    as_is: BTreeSet<Place>,
    renumbered: BTreeSet<Place>,
}

impl Proposer<'_> {
    pub(super) fn propose(&self, conn: &mut PgConnection) -> QueryResult<Proposal> {
        let mut proposal = Proposal::default();
        for Symptom { table, problem, .. } in &self.examined.findings {
            match problem {
                Problem::Nulls { column, rows } => {
                    proposal.fills.push(Filled { table: table.clone(), column: column.clone(), rows: *rows });
                }
                Problem::Orphans { columns, parent, key, rows, in_public } => {
                    let orphan = Orphan { child: table, columns, parent, key, rows: *rows };
                    let contested = self.contested.get(&(parent.clone(), key.clone()));
                    match (in_public, contested) {
                        (false, _) => orphan.leave(Reason::InNeitherSchema, &mut proposal),
                        (true, Some(tenants)) => {
                            orphan.leave(Reason::Contested { tenants: tenants.clone() }, &mut proposal)
                        }
                        (true, None) if !self.unexamined.is_empty() => {
                            orphan.leave(Reason::Unclear { tenants: self.unexamined.to_vec() }, &mut proposal);
                        }
                        (true, None) => self.place(conn, &orphan, &mut proposal)?,
                    }
                }
            }
        }
        Ok(proposal)
    }

    /// Copies the row that orphans refer to, with all that belongs to it.
    ///
    /// What refers to it belongs to it, and so on. What it refers to is only needed: that comes along alone,
    /// since others than this tenant may refer to it too.
    fn place(&self, conn: &mut PgConnection, orphan: &Orphan<'_>, proposal: &mut Proposal) -> QueryResult<()> {
        let mut seen = BTreeSet::new();
        let mut queue = VecDeque::from([(orphan.parent.to_owned(), self.parent_of(conn, orphan)?, true)]);
        while let Some((table, places, belongs)) = queue.pop_front() {
            let rows = if seen.is_empty() { orphan.rows } else { 0 };
            let admitted = self.admit(conn, &table, places, rows, &mut proposal.left)?;
            let all: Vec<Place> = admitted.as_is.union(&admitted.renumbered).cloned().collect();
            let new = proposal.add(&table, admitted);
            let of_ours: Vec<Place> =
                all.into_iter().filter(|place| belongs && seen.insert((table.clone(), place.clone()))).collect();
            for reference in &self.examined.references {
                if reference.child == table && !new.is_empty() {
                    queue.push_back((reference.parent.clone(), self.missing_parents(conn, reference, &new)?, false));
                }
                if reference.parent == table && !of_ours.is_empty() {
                    queue.push_back((reference.child.clone(), self.dependants(conn, reference, &of_ours)?, true));
                }
            }
        }
        Ok(())
    }

    /// The row of `public` that orphans refer to.
    fn parent_of(&self, conn: &mut PgConnection, orphan: &Orphan<'_>) -> QueryResult<BTreeSet<Place>> {
        let refers =
            |r: &&Reference| r.child == orphan.child && r.child_columns == orphan.columns && r.parent == orphan.parent;
        let Some(reference) = self.examined.references.iter().find(refers) else { return Ok(BTreeSet::new()) };
        let key: Vec<String> =
            reference.child_columns.iter().map(|name| format!("c.{}::text", quote::identifier(name))).collect();
        // By way of the orphans, so that the row is found by its key and not by its text.
        let condition = format!(
            "EXISTS (SELECT FROM {}.{} c WHERE ARRAY[{}] = $1 AND {})",
            self.tenant.schema.quoted(),
            quote::identifier(orphan.child),
            key.join(", "),
            same_key(reference, "c", "p"),
        );
        self.places(conn, orphan.parent, &condition, orphan.key)
    }

    /// The rows of `public` to which these refer and which the tenant does not have.
    fn missing_parents(
        &self,
        conn: &mut PgConnection,
        reference: &Reference,
        rows: &[Place],
    ) -> QueryResult<BTreeSet<Place>> {
        if !self.public.has(&reference.parent, &reference.parent_columns) {
            return Ok(BTreeSet::new());
        }
        let condition = format!(
            "NOT EXISTS (SELECT FROM {}.{} t WHERE {}) \
             AND EXISTS (SELECT FROM public.{} c WHERE {} AND {})",
            self.tenant.schema.quoted(),
            quote::identifier(&reference.parent),
            equal(&reference.parent_columns, "t", "p"),
            quote::identifier(&reference.child),
            is_at("c"),
            same_key(reference, "c", "p"),
        );
        self.places(conn, &reference.parent, &condition, rows)
    }

    /// The rows of `public` that refer to these.
    fn dependants(
        &self,
        conn: &mut PgConnection,
        reference: &Reference,
        rows: &[Place],
    ) -> QueryResult<BTreeSet<Place>> {
        if !self.public.has(&reference.child, &reference.child_columns) {
            return Ok(BTreeSet::new());
        }
        let condition = format!(
            "EXISTS (SELECT FROM public.{} x WHERE {} AND {})",
            quote::identifier(&reference.parent),
            is_at("x"),
            same_key(reference, "p", "x"),
        );
        self.places(conn, &reference.child, &condition, rows)
    }

    fn places(
        &self,
        conn: &mut PgConnection,
        table: &str,
        condition: &str,
        texts: &[String],
    ) -> QueryResult<BTreeSet<Place>> {
        #[derive(diesel::QueryableByName)]
        struct Row {
            #[diesel(sql_type = Text)]
            place: String,
        }
        let lock = if self.lock { "FOR SHARE OF p" } else { "" };
        let table = quote::identifier(table);
        let rows: Vec<Row> =
            sql_query(format!("SELECT {} AS place FROM public.{table} p WHERE {condition} {lock}", place("p")))
                .bind::<Array<Text>, _>(texts)
                .load(conn)?;
        Ok(rows.into_iter().map(|row| row.place).collect())
    }

    /// Sorts out the rows that the tenant has already, that collide with others of its rows, or that name
    /// another tenant as their owner.
    fn admit(
        &self,
        conn: &mut PgConnection,
        table: &str,
        places: BTreeSet<Place>,
        rows: i64,
        left: &mut BTreeSet<Left>,
    ) -> QueryResult<Admitted> {
        let mut admitted = Admitted { as_is: places, ..Default::default() };
        for (place, key, owner) in self.foreign(conn, table, &admitted.as_is)? {
            admitted.as_is.remove(&place);
            left.insert(Left { table: table.into(), key, rows, reason: Reason::OfAnotherTenant { owner } });
        }
        let Some(structure) = self.examined.tenant.tables.get(table) else { return Ok(Admitted::default()) };
        for key in &structure.keys {
            for collision in self.collisions(conn, table, key, &admitted)? {
                let Collision { place, text, equal } = collision;
                let was_renumbered = admitted.renumbered.remove(&place);
                admitted.as_is.remove(&place);
                if equal {
                    // The tenant has it.
                } else if key.primary && self.is_mere_number(table, key) && !was_renumbered {
                    admitted.renumbered.insert(place);
                } else {
                    let reason = Reason::DifferentRecord { index: key.name.clone() };
                    left.insert(Left { table: table.into(), key: text, rows, reason });
                }
            }
        }
        Ok(admitted)
    }

    /// Whether the key is a number from a sequence to which nothing refers, so that any other will do.
    fn is_mere_number(&self, table: &str, key: &Key) -> bool {
        let [column] = key.columns.as_slice() else { return false };
        let numbered = |structure: &Tables| {
            structure.tables[table].columns.iter().any(|known| known.name == *column && known.numbered)
        };
        let refers = |r: &Reference| r.parent == table && r.parent_columns.contains(column);
        numbered(&self.examined.tenant) && !self.examined.references.iter().any(refers)
    }

    /// The rows whose owner column names another tenant: place, key and owner.
    fn foreign(
        &self,
        conn: &mut PgConnection,
        table: &str,
        places: &BTreeSet<Place>,
    ) -> QueryResult<Vec<(Place, String, String)>> {
        #[derive(diesel::QueryableByName)]
        struct Row {
            #[diesel(sql_type = Text)]
            place: String,
            #[diesel(sql_type = Text)]
            key: String,
            #[diesel(sql_type = Text)]
            owner: String,
        }
        let Some(column) = &self.rules.owner_column else { return Ok(Vec::new()) };
        // Where the tenant's id is not known, whoever is named may be another.
        let id = self.tenant.id.as_ref().map(Uuid::to_string).unwrap_or_default();
        if !self.public.has(table, std::slice::from_ref(column)) {
            return Ok(Vec::new());
        }
        let owner = format!("p.{}::text", quote::identifier(column));
        let rows: Vec<Row> = sql_query(format!(
            "SELECT {place} AS place, {key} AS key, {owner} AS owner FROM public.{table} p \
             WHERE {at} AND {owner} <> $2",
            place = place("p"),
            at = is_at("p"),
            key = self.key_text(table),
            table = quote::identifier(table),
        ))
        .bind::<Array<Text>, _>(places.iter().collect::<Vec<_>>())
        .bind::<Text, _>(id)
        .load(conn)?;
        Ok(rows.into_iter().map(|row| (row.place, row.key, row.owner)).collect())
    }

    /// The rows under whose key the tenant has one already.
    fn collisions(
        &self,
        conn: &mut PgConnection,
        table: &str,
        key: &Key,
        admitted: &Admitted,
    ) -> QueryResult<Vec<Collision>> {
        if !self.public.has(table, &key.columns) {
            return Ok(Vec::new());
        }
        let columns = shared_columns(self.public, &self.examined.tenant, table);
        // Compared as texts, since not every type has an equality.
        let row = |alias: &str| {
            let columns: Vec<String> =
                columns.iter().map(|name| format!("{alias}.{}", quote::identifier(name))).collect();
            format!("ROW({})::text", columns.join(", "))
        };
        sql_query(format!(
            "SELECT {place} AS place, {key} AS text, {left} IS NOT DISTINCT FROM {right} AS equal \
             FROM public.{table} p JOIN {schema}.{table} t ON {same} WHERE {at}",
            place = place("p"),
            at = is_at("p"),
            key = self.key_text(table),
            left = row("p"),
            right = row("t"),
            table = quote::identifier(table),
            schema = self.tenant.schema.quoted(),
            same = equal(&key.columns, "t", "p"),
        ))
        .bind::<Array<Text>, _>(admitted.as_is.iter().chain(&admitted.renumbered).collect::<Vec<_>>())
        .load(conn)
    }

    /// The expression that shows a row's primary key, or all of a row that has none.
    fn key_text(&self, table: &str) -> String {
        let primary = self.public.tables.get(table).and_then(|table| table.keys.first()).filter(|key| key.primary);
        match primary {
            Some(key) => {
                let columns: Vec<String> =
                    key.columns.iter().map(|name| format!("p.{}", quote::identifier(name))).collect();
                format!("concat_ws(', ', {})", columns.join(", "))
            }
            None => "p::text".into(),
        }
    }
}

#[derive(diesel::QueryableByName)]
struct Collision {
    #[diesel(sql_type = Text)]
    place: Place,
    #[diesel(sql_type = Text)]
    text: String,
    #[diesel(sql_type = Bool)]
    equal: bool,
}

/// The columns that can be copied: those that both have, but for what is computed.
pub(super) fn shared_columns<'t>(public: &Tables, tenant: &'t Tables, table: &str) -> Vec<&'t str> {
    let Some(known) = tenant.tables.get(table) else { return Vec::new() };
    let columns = known.columns.iter().filter(|column| !column.generated);
    columns.map(|column| column.name.as_str()).filter(|name| public.has(table, &[name.to_string()])).collect()
}

/// The expression for a row's place: the partition or child table, and where in it.
fn place(alias: &str) -> String {
    format!("{alias}.tableoid::oid::text || ' ' || {alias}.ctid::text")
}

/// The condition that a row is at one of the places of `$1`; the first half finds it, the second makes sure.
pub(super) fn is_at(alias: &str) -> String {
    format!(
        "{alias}.ctid = ANY(ARRAY(SELECT split_part(place, ' ', 2)::tid FROM unnest($1) place)) AND {} = ANY($1)",
        place(alias)
    )
}

fn equal(columns: &[String], left: &str, right: &str) -> String {
    let pairs = columns.iter().map(|name| quote::identifier(name));
    pairs.map(|name| format!("{left}.{name} = {right}.{name}")).collect::<Vec<_>>().join(" AND ")
}
