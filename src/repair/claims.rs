//! Which rows of `public` belong to which tenants, if one follows the references.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use diesel::{
    PgConnection, QueryResult, QueryableByName, RunQueryDsl, sql_query,
    sql_types::{Array, BigInt, Nullable, Text},
};

use super::{
    admit::content,
    earlier,
    proposal::{Contested, SpokenFor},
    rows::{self, Place, Row},
    settings::begin,
};
use crate::{
    Error, SchemaName,
    directory::TenantEntry,
    pg::{
        atomically,
        tables::{self, Reference, Tables, equal},
        untrusted,
    },
};

/// How many tenants one query asks. Each holds locks on a table and its indexes.
const CHUNK: usize = 20;

/// How many places of rows are too many to send to every tenant.
const MANY: usize = 5000;

/// The tenants that claim a row, by their place among all that claim something. Most often it is one, of very many rows.
#[derive(Debug, Default)]
struct Claimants {
    first: Option<u32>,
    more: Vec<u32>,
}

/// What is known of the tenants' claims.
#[derive(Debug, Default)]
pub(super) struct Claims {
    pub(super) contested: Contested,
    pub(super) spoken_for: SpokenFor,
    /// The tenants of which nobody knows what they refer to.
    pub(super) unexamined: Vec<SchemaName>,
    /// For each tenant and table, the rows that it has, or claims, and nobody else. Known only if asked for.
    pub(super) held: BTreeMap<SchemaName, BTreeMap<String, BTreeSet<Row>>>,
    /// For each table, the rows that somebody claims, and who does.
    claimed: BTreeMap<String, BTreeMap<Row, Claimants>>,
    /// Rows that come to a tenant if nobody claims them, by table and key, and the tenants to which they would.
    asked: BTreeMap<(String, String), Claimants>,
    /// The references by which tenants claim rows.
    references: Vec<Reference>,
    /// Who claims something, or would get it.
    claimants: Vec<SchemaName>,
    numbers: BTreeMap<SchemaName, u32>,
}

impl Claims {
    pub(super) fn add(&mut self, schema: &SchemaName, rows: BTreeMap<String, BTreeSet<Row>>) {
        let number = self.number(schema);
        for (table, rows) in rows {
            let claimed = self.claimed.entry(table).or_default();
            rows.into_iter().for_each(|row| claimed.entry(row).or_default().add(number));
        }
    }

    /// Has rows count as theirs to whom an earlier repair has given what they refer to this way.
    pub(super) fn follow(&mut self, references: &[Reference]) {
        for reference in references {
            if !self.references.iter().any(|known| known.ends() == reference.ends()) {
                self.references.push(reference.clone());
            }
        }
    }

    fn number(&mut self, schema: &SchemaName) -> u32 {
        let next = self.claimants.len() as u32;
        *self.numbers.entry(schema.clone()).or_insert_with(|| {
            self.claimants.push(schema.clone());
            next
        })
    }

    /// Has it counted who claims this row, which otherwise comes to this tenant.
    pub(super) fn ask(&mut self, schema: &SchemaName, table: String, row: Row) {
        let number = self.number(schema);
        self.asked.entry((table.clone(), row.key.clone())).or_default().add(number);
        self.claimed.entry(table).or_default().entry(row).or_default();
    }

    /// Counts what tenants have of the claimed rows as a claim too, and tells which rows more than one tenant claims.
    /// If originals are to be removed, of all other rows too.
    pub(super) fn settle(
        &mut self,
        conn: &mut PgConnection,
        public: &Tables,
        tenants: &[TenantEntry],
        all: bool,
        patience: Duration,
    ) {
        if self.claimed.is_empty() && !all {
            return;
        }
        self.remember(conn, public, tenants, patience);
        for chunk in tenants.chunks(CHUNK) {
            if self.count_in(conn, public, chunk, all, patience).is_ok() {
                continue;
            }
            for tenant in chunk {
                if let Err(error) = self.count_in(conn, public, std::slice::from_ref(tenant), all, patience) {
                    tracing::warn!(tenant.schema = %tenant.schema, %error, "Could not see which rows of public it has");
                    self.unexamined.push(tenant.schema.clone());
                }
            }
        }
        self.unexamined.sort();
        self.unexamined.dedup();
        let asked = std::mem::take(&mut self.asked);
        for (table, rows) in std::mem::take(&mut self.claimed) {
            for (row, claimants) in rows {
                let tenants = self.names(claimants);
                let id = (table.clone(), row.key.clone());
                if !tenants.is_empty() && asked.contains_key(&id) {
                    self.spoken_for.entry(id).or_default().extend(tenants.iter().cloned());
                }
                match tenants.as_slice() {
                    [one] if all => {
                        let held = self.held.entry(one.clone()).or_default();
                        held.entry(table.clone()).or_default().insert(row);
                    }
                    [] | [_] => {}
                    _ => drop(self.contested.insert((table.clone(), row.key), tenants)),
                }
            }
        }
        // Whoever claims a row comes before those who would merely get it.
        for (id, others) in asked {
            let others = self.names(others);
            self.spoken_for.entry(id).or_insert_with(|| others.into_iter().collect());
        }
    }

    /// Counts as a claim, too, that a row belongs to one that an earlier repair has given to a tenant as its own.
    fn remember(&mut self, conn: &mut PgConnection, public: &Tables, tenants: &[TenantEntry], patience: Duration) {
        let (references, claimed) = (&self.references, &self.claimed);
        let given = atomically::<_, Error>(conn, |conn| {
            begin(conn, patience)?;
            let rows = |table: &str| claimed.get(table).into_iter().flat_map(BTreeMap::keys);
            let places = |table: &str| rows(table).map(|row| &row.place).collect();
            Ok(earlier::owners(conn, public, references, places, tenants)?)
        });
        match given {
            Ok(given) => given.into_iter().for_each(|(schema, table, row)| {
                let number = self.number(&schema);
                self.claimed.entry(table).or_default().entry(row).or_default().add(number);
            }),
            Err(error) => {
                tracing::warn!(%error, "Could not see what earlier repairs have given to whom");
                self.unexamined.extend(tenants.iter().map(|tenant| tenant.schema.clone()));
            }
        }
    }

    fn names(&self, Claimants { first, more }: Claimants) -> Vec<SchemaName> {
        let numbers = first.into_iter().chain(more);
        let mut tenants: Vec<SchemaName> = numbers.map(|number| self.claimants[number as usize].clone()).collect();
        tenants.sort();
        tenants
    }

    fn count_in(
        &mut self,
        conn: &mut PgConnection,
        public: &Tables,
        tenants: &[TenantEntry],
        all: bool,
        patience: Duration,
    ) -> Result<(), Error> {
        let tables: BTreeSet<&String> = match all {
            true => public.tables.keys().collect(),
            false => self.claimed.keys().collect(),
        };
        // Too many are not worth the way to the server, and are sorted out here.
        let places = |table: &String| {
            let rows = self.claimed.get(table).filter(|rows| !all && rows.len() < MANY)?;
            Some(rows.keys().map(|row| &row.place).collect::<Vec<_>>())
        };
        let names: Vec<&str> = tenants.iter().map(|tenant| tenant.schema.as_str()).collect();
        let found = atomically::<_, Error>(conn, |conn| {
            begin(conn, patience)?;
            untrusted::refuse(conn, &names)?;
            let found = tables::read_many(conn, &names)?;
            let known: Vec<(&SchemaName, &Tables)> = tenants
                .iter()
                .filter_map(|tenant| Some((&tenant.schema, found.get(tenant.schema.as_str())?)))
                .collect();
            let mut holding = Vec::new();
            for table in tables {
                holding.push((table.clone(), holders(conn, public, table, places(table), &known)?));
            }
            Ok(holding)
        })?;
        for (table, holding) in found {
            let numbers: Vec<u32> = holding.iter().map(|(_, schema)| self.number(schema)).collect();
            let claimed = self.claimed.entry(table).or_default();
            for ((row, _), number) in holding.into_iter().zip(numbers) {
                if all || claimed.contains_key(&row) {
                    claimed.entry(row).or_default().add(number);
                }
            }
        }
        Ok(())
    }
}

impl Claimants {
    fn add(&mut self, number: u32) {
        match self.first {
            None => self.first = Some(number),
            Some(first) if first == number || self.more.contains(&number) => {}
            Some(_) => self.more.push(number),
        }
    }
}

/// Which of the tenants have which of these rows, or of all. A number may stand for another row elsewhere, so that
/// all of the row has to be the same; a uuid may not.
pub(super) fn holders(
    conn: &mut PgConnection,
    public: &Tables,
    table: &str,
    places: Option<Vec<&Place>>,
    tenants: &[(&SchemaName, &Tables)],
) -> QueryResult<Vec<(Row, SchemaName)>> {
    #[derive(QueryableByName)]
    struct Holder {
        #[diesel(embed)]
        found: Row,
        #[diesel(sql_type = BigInt)]
        at: i64,
    }
    let Some(structure) = public.tables.get(table) else { return Ok(Vec::new()) };
    let Some(key) = rows::primary_key(structure) else { return Ok(Vec::new()) };
    let is_unique =
        |name: &String| structure.columns.iter().any(|column| column.name == *name && column.kind.starts_with(UUID));
    let here = if places.is_some() { rows::is_at("p", 1) } else { "$1::text[] IS NULL".into() };
    let select = |(at, (schema, tenant)): (usize, &(&SchemaName, &Tables))| {
        if !tenant.has(table, key) {
            return None;
        }
        let mut same: Vec<String> =
            key.iter().map(|name| equal(("p", public, table, name), ("t", tenant, table, name))).collect();
        if !key.iter().any(is_unique) {
            let text = |alias: &str| content(public, tenant, table, |name| Some(rows::column(alias, name)));
            same.push(format!("{} = {}", text("p"), text("t")));
        }
        Some(format!(
            "SELECT {place} AS place, {text} AS key, {at}::bigint AS at \
             FROM {table} p JOIN {theirs} t ON {same} WHERE {here}",
            place = rows::place("p"),
            text = rows::key_text(Some(structure), "p"),
            table = public.only("public", table),
            theirs = tenant.only(&schema.quoted(), table),
            same = same.join(" AND "),
        ))
    };
    let selects: Vec<String> = tenants.iter().enumerate().filter_map(select).collect();
    if selects.is_empty() {
        return Ok(Vec::new());
    }
    let found: Vec<Holder> =
        sql_query(selects.join(" UNION ALL ")).bind::<Nullable<Array<Text>>, _>(places).load(conn)?;
    Ok(found.into_iter().map(|Holder { found, at }| (found, tenants[at as usize].0.clone())).collect())
}

/// How the kind of a column of type uuid begins: with the type's number, which never changes.
pub(super) const UUID: &str = "2950:";
