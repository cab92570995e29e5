//! Rows of `public` that belong to a tenant, by their owner column, or by what refers to what.

use std::collections::{BTreeMap, BTreeSet};

use diesel::{
    PgConnection, QueryResult, QueryableByName, RunQueryDsl, sql_query,
    sql_types::{Array, Integer, Text},
};

use super::{
    check::{equal, only, texts},
    contested::Contested,
    plan::{Surroundings, compared, telling_key},
    rows::Answer,
};
use crate::{
    SchemaName,
    pg::tables::{Reference, Tables},
    quote,
};

/// The tables of `public` whose rows have owners, in the order in which that is found out.
#[derive(Debug)]
pub(super) struct Owned {
    tables: Vec<String>,
    /// How many of them tell the owner themselves; what the others' rows are bound to does.
    named: usize,
    /// A query for each, which the later ones read: place and owner of every row that has one of the owners.
    queries: Vec<String>,
}

/// A row of `public`, by its place in a table.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, QueryableByName)]
pub(crate) struct Stray {
    #[diesel(sql_type = Text)]
    pub(crate) table: String,
    #[diesel(sql_type = Text)]
    pub(crate) place: String,
}

/// The expression for the place of a row `p`: the partition or child table, and where in it.
const PLACE: &str = "p.tableoid::oid::text || ' ' || p.ctid::text AS place";

/// Which rows of one table a tenant does not have.
struct Missing {
    from: String,
    condition: String,
    /// The expression that shows a row's key.
    key: String,
}

/// A tenant, and one of the tables in which it may have rows.
pub(super) struct Claim<'c> {
    pub(super) schema: &'c SchemaName,
    pub(super) id: String,
    pub(super) tables: &'c Tables,
}

/// Which of a tenant's rows are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Any,
    Own,
    Shared,
}

impl Owned {
    /// Finds a way to the owner of every table's rows: its own column, or the shortest along the references.
    pub(super) fn new(around: &Surroundings, owner_column: &str) -> Self {
        let mut owned = Self { tables: Vec::new(), named: 0, queries: Vec::new() };
        let tables = |known: &BTreeSet<String>| -> Vec<String> {
            around.filled.iter().filter(|name| !known.contains(*name)).cloned().collect()
        };
        let column = std::slice::from_ref(&owner_column.to_owned()).to_vec();
        let mut known = BTreeSet::new();
        for name in tables(&known).into_iter().filter(|name| around.public.has(name, &column)) {
            let column = quote::identifier(owner_column);
            // The columns of several tables are put together, and may have collations of their own.
            owned.add(
                &name,
                format!(
                    "SELECT p.tableoid AS place, p.ctid AS row, p.{column}::text COLLATE \"C\" AS owner FROM {} \
                     WHERE p.{column}::text IN (SELECT unnest($1::text[]))",
                    from(around, &name, "p"),
                ),
            );
            known.insert(name);
        }
        owned.named = owned.tables.len();
        loop {
            let mut next = BTreeMap::new();
            for name in tables(&known) {
                let steps: Vec<String> =
                    around.public.references.iter().filter_map(|r| owned.step(around, r, &name)).collect();
                if !steps.is_empty() {
                    next.insert(name, steps.join(" UNION "));
                }
            }
            if next.is_empty() {
                return owned;
            }
            for (name, query) in next {
                known.insert(name.clone());
                owned.add(&name, query);
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.tables.is_empty()
    }

    /// Which of these owners have rows, and in which table.
    pub(super) fn owners(&self, conn: &mut PgConnection, ids: &[String]) -> QueryResult<Vec<(String, String)>> {
        #[derive(QueryableByName)]
        struct Row {
            #[diesel(sql_type = Text)]
            table: String,
            #[diesel(sql_type = Text)]
            owner: String,
        }
        let select = |(at, name): (usize, &String)| {
            format!("SELECT DISTINCT {}::text AS table, owner FROM o{at}", quote::literal(name))
        };
        let selects: Vec<String> = self.tables.iter().enumerate().map(select).collect();
        let rows: Vec<Row> = sql_query(format!("{} {} ORDER BY 1, 2", self.with(), selects.join(" UNION ALL ")))
            .bind::<Array<Text>, _>(ids)
            .load(conn)?;
        Ok(rows.into_iter().map(|row| (row.table, row.owner)).collect())
    }

    /// The rows that the tenants do not have: an answer for each claim, told by its place among them; and another for
    /// those that belong to several, which tells the groups of these.
    pub(super) fn missing(
        &self,
        conn: &mut PgConnection,
        around: &Surroundings,
        claims: &[(&Claim<'_>, &str)],
        contested: &Contested,
    ) -> QueryResult<Vec<Answer>> {
        let ids: BTreeSet<&str> = claims.iter().map(|(claim, _)| claim.id.as_str()).collect();
        let contested = contested.of(&ids);
        let of_several: BTreeSet<&str> = contested.iter().map(|(stray, _)| stray.table.as_str()).collect();
        let mut selects = Vec::new();
        for (at, (claim, table)) in claims.iter().enumerate() {
            let sides: &[Side] = if of_several.contains(table) { &[Side::Own, Side::Shared] } else { &[Side::Any] };
            selects.extend(sides.iter().filter_map(|side| self.select(around, claim, table, at, *side)));
        }
        if selects.is_empty() {
            return Ok(Vec::new());
        }
        let names: Vec<&str> = contested.iter().map(|(stray, _)| stray.table.as_str()).collect();
        let places: Vec<&str> = contested.iter().map(|(stray, _)| stray.place.as_str()).collect();
        let groups: Vec<i32> = contested.iter().map(|(_, group)| *group as i32).collect();
        let shared = "shared AS MATERIALIZED ( \
            SELECT * FROM unnest($2::text[], $3::text[], $4::int4[]) x(\"table\", place, party))";
        let found: Vec<Answer> = sql_query(format!("{}, {shared} {}", self.with(), selects.join(" UNION ALL ")))
            .bind::<Array<Text>, _>(ids.into_iter().collect::<Vec<_>>())
            .bind::<Array<Text>, _>(names)
            .bind::<Array<Text>, _>(places)
            .bind::<Array<Integer>, _>(groups)
            .load(conn)?;
        Ok(found.into_iter().filter(|answer| answer.rows > 0).collect())
    }

    /// Where the rows are that the tenant does not have.
    pub(super) fn places(
        &self,
        conn: &mut PgConnection,
        around: &Surroundings,
        claim: &Claim<'_>,
    ) -> QueryResult<Vec<Stray>> {
        let select = |name: &String| {
            let Missing { from, condition, .. } = self.missing_from(around, claim, name)?;
            Some(format!(
                "SELECT DISTINCT {}::text AS table, {PLACE} FROM {from} WHERE {condition}",
                quote::literal(name)
            ))
        };
        let selects: Vec<String> = self.tables.iter().filter_map(select).collect();
        if selects.is_empty() {
            return Ok(Vec::new());
        }
        sql_query(format!("{} {}", self.with(), selects.join(" UNION ALL ")))
            .bind::<Array<Text>, _>(vec![&claim.id])
            .load(conn)
    }

    /// Where the rows are that have more than one of these owners, and who they are.
    pub(super) fn contested(&self, conn: &mut PgConnection, ids: &[String]) -> QueryResult<Vec<(Stray, Vec<String>)>> {
        #[derive(QueryableByName)]
        struct Row {
            #[diesel(embed)]
            stray: Stray,
            #[diesel(sql_type = Array<Text>)]
            owners: Vec<String>,
        }
        let select = |(at, name): (usize, &String)| {
            format!(
                "SELECT {}::text AS table, p.place::oid::text || ' ' || p.row::text AS place, \
                        array_agg(DISTINCT p.owner) AS owners \
                 FROM o{at} p GROUP BY p.place, p.row HAVING count(DISTINCT p.owner) > 1",
                quote::literal(name)
            )
        };
        // A column tells one owner.
        let selects: Vec<String> = self.tables.iter().enumerate().skip(self.named).map(select).collect();
        if selects.is_empty() {
            return Ok(Vec::new());
        }
        let found: Vec<Row> = sql_query(format!("{} {}", self.with(), selects.join(" UNION ALL ")))
            .bind::<Array<Text>, _>(ids)
            .load(conn)?;
        Ok(found.into_iter().map(|row| (row.stray, row.owners)).collect())
    }

    fn select(&self, around: &Surroundings, claim: &Claim<'_>, name: &str, at: usize, side: Side) -> Option<String> {
        let Missing { mut from, mut condition, key } = self.missing_from(around, claim, name)?;
        if side != Side::Any {
            let not = if side == Side::Shared { "NOT " } else { "" };
            let place = PLACE.trim_end_matches(" AS place");
            from += &format!(" LEFT JOIN shared s ON s.table = {} AND s.place = {place}", quote::literal(name));
            condition += &format!(" AND s.place IS {not}NULL");
        }
        let more = if side == Side::Shared { "coalesce(string_agg(DISTINCT s.party::text, ' '), '')" } else { "''" };
        Some(format!(
            "SELECT {at} AS at, count(*) AS rows, {more} AS more, \
                    ARRAY(SELECT e.key FROM (SELECT DISTINCT {key} AS key FROM {from} WHERE {condition}) e \
                          ORDER BY length(e.key), e.key LIMIT {}) AS examples FROM {from} WHERE {condition}",
            super::EXAMPLES
        ))
    }

    fn missing_from(&self, around: &Surroundings, claim: &Claim<'_>, name: &str) -> Option<Missing> {
        let number = self.tables.iter().position(|table| table == name)?;
        let table = claim.tables.tables.get(name)?;
        let references = &claim.tables.references;
        let same = match telling_key(name, table, references, claim.tables, &around.public) {
            Some(key) => equal(("c", claim.tables, name), key, ("p", &around.public, name), key),
            None => {
                let columns = compared(name, table, references, claim.tables, &around.public);
                let row = |alias| format!("ROW({})::text", super::check::listed(alias, &columns));
                format!("{} = {}", row("c"), row("p"))
            }
        };
        let key = match around.public.tables.get(name)?.keys.first() {
            Some(key) => texts("p", &key.columns),
            None => "p.ctid::text".into(),
        };
        let condition = format!(
            "o.owner = {} AND NOT EXISTS (SELECT FROM {}{} c WHERE {same})",
            quote::literal(&claim.id),
            only(table.partitioned),
            quote::qualified(claim.schema.as_str(), name),
        );
        let from = format!("o{number} o JOIN {} ON p.ctid = o.row AND p.tableoid = o.place", from(around, name, "p"));
        Some(Missing { from, condition, key })
    }

    fn add(&mut self, name: &str, query: String) {
        self.tables.push(name.into());
        self.queries.push(query);
    }

    /// The rows of a table that are bound by this reference to rows whose owner is known.
    fn step(&self, around: &Surroundings, reference: &Reference, name: &str) -> Option<String> {
        let (other, columns, others) = if reference.child == name {
            (&reference.parent, &reference.child_columns, &reference.parent_columns)
        } else if reference.parent == name {
            (&reference.child, &reference.parent_columns, &reference.child_columns)
        } else {
            return None;
        };
        let number = self.tables.iter().position(|table| table == other)?;
        Some(format!(
            "SELECT DISTINCT p.tableoid AS place, p.ctid AS row, o.owner FROM {} \
             JOIN {} ON {} JOIN o{number} o ON o.row = q.ctid AND o.place = q.tableoid",
            from(around, name, "p"),
            from(around, other, "q"),
            equal(("p", &around.public, name), columns, ("q", &around.public, other), others),
        ))
    }

    fn with(&self) -> String {
        let queries = self.queries.iter().enumerate();
        let queries: Vec<String> = queries.map(|(at, query)| format!("o{at} AS MATERIALIZED ({query})")).collect();
        format!("WITH {}", queries.join(", "))
    }
}

fn from(around: &Surroundings, name: &str, alias: &str) -> String {
    let partitioned = around.public.tables.get(name).is_some_and(|table| table.partitioned);
    format!("{}{} {alias}", only(partitioned), quote::qualified("public", name))
}
