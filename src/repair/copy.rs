//! Copies rows of `public` into a tenant, inside its transaction.

use std::collections::{BTreeMap, BTreeSet};

use diesel::{
    PgConnection, QueryResult, QueryableByName, RunQueryDsl,
    connection::SimpleConnection,
    sql_query,
    sql_types::{Array, BigInt, Text},
};

use super::{
    attempt::refusal,
    memory::{Recorder, What},
    order::parents_first,
    proposal::Proposal,
    propose::Proposer,
    rows::{self, Place, Row},
    sequences,
    settings::writing,
};
use crate::{
    pg::tables::{Column, equal},
    quote,
};

impl Proposer<'_> {
    /// Copies what the proposal says, and has every constraint checked.
    pub(super) fn copy_all(
        &self,
        conn: &mut PgConnection,
        proposal: &Proposal,
        recorder: &Recorder<'_>,
    ) -> QueryResult<()> {
        conn.batch_execute("SET CONSTRAINTS ALL DEFERRED")?;
        for tables in parents_first(proposal.tables().into_iter().cloned(), &self.examined.references) {
            for (rows, renumber) in [(&proposal.copies, false), (&proposal.renumbered, true)] {
                let part = |table| {
                    let places = rows.get(table).filter(|places| !places.is_empty())?;
                    Some(Part { table, places, own: proposal.claims.get(table), renumber })
                };
                let parts: Vec<Part<'_>> = tables.iter().filter_map(part).collect();
                if !parts.is_empty() {
                    self.copy(conn, &parts, recorder)?;
                }
            }
        }
        // A deferred foreign key would speak up at COMMIT only, when it is too late to look again.
        writing(conn, &self.tenant.schema, |conn| {
            conn.batch_execute("SET CONSTRAINTS ALL IMMEDIATE; SET CONSTRAINTS ALL DEFERRED")
        })
    }

    /// Copies rows of several tables in one statement, after which alone foreign keys are checked that cannot wait.
    fn copy(&self, conn: &mut PgConnection, parts: &[Part<'_>], recorder: &Recorder<'_>) -> QueryResult<()> {
        let (mut steps, mut counts) = (Vec::new(), Vec::new());
        for (at, part) in parts.iter().enumerate() {
            self.record_referrers(conn, part.table, part.places, recorder)?;
            self.record_needed(conn, part, recorder)?;
            if part.renumber && !self.rehearsal {
                sequences::catch_up(conn, &self.tenant.schema, &self.examined.tenant, part.table)?;
            }
            let casts = self.casts(conn, part)?;
            steps.push(format!("i{at} AS ({})", self.insertion(part, &casts)));
            let told = recorder.statement(part.table, What::Inserted, &format!("i{at}"));
            steps.extend(told.map(|told| format!("m{at} AS ({told})")));
            counts.push(format!("SELECT {at}::bigint AS at, pg_catalog.count(*) AS rows FROM i{at}"));
        }
        let copy = sql_query(format!("WITH {} {}", steps.join(", "), counts.join(" UNION ALL ")))
            .bind::<Array<Text>, _>(parts.iter().flat_map(|part| part.places).collect::<Vec<_>>());
        let copied: Vec<Done> = writing(conn, &self.tenant.schema, |conn| copy.load(conn))?;
        for Done { at, rows } in copied {
            let part = &parts[at as usize];
            let missing = part.places.len() as i64 - rows;
            if missing != 0 {
                return Err(refusal(format!("a trigger of {} keeps {missing} of the rows out", part.table)));
            }
        }
        self.have_their_keys(conn, parts)
    }

    /// The statement that copies rows of one table.
    fn insertion(&self, part: &Part<'_>, casts: &BTreeMap<String, String>) -> String {
        let Part { table, renumber, .. } = *part;
        let structure = &self.examined.tenant.tables[table];
        let shared = rows::shared_columns(self.public, &self.examined.tenant, table);
        let take = |column: &&Column| {
            let filled = self.rules.fills.iter().any(|fill| fill.table == *table && fill.column == column.name);
            (filled || shared.contains(&column.name.as_str())) && !(renumber && column.numbered)
        };
        let (mut names, mut values): (Vec<String>, Vec<String>) = rows::written(structure)
            .filter(take)
            .map(|column| (quote::identifier(&column.name), self.value(table, &column.name, casts)))
            .unzip();
        if self.rehearsal {
            // A rehearsal draws no number, not for a column that `public` lacks either.
            for column in rows::written(structure).filter(|column| column.numbered && !take(column)) {
                let name = quote::identifier(&column.name);
                values.push(format!(
                    "(SELECT coalesce(pg_catalog.max({name}), 0) FROM {}.{}) \
                     OPERATOR(pg_catalog.+) pg_catalog.row_number() OVER ()",
                    self.tenant.schema.quoted(),
                    quote::identifier(table)
                ));
                names.push(name);
            }
        }
        // Numbers of an identity that is ALWAYS generated are kept all the same.
        let overriding =
            if structure.columns.iter().any(|column| column.identity) { "OVERRIDING SYSTEM VALUE" } else { "" };
        format!(
            "INSERT INTO {schema}.{table} AS t ({names}) {overriding} \
             SELECT {values} FROM {originals} p WHERE {at} \
             RETURNING {key} AS key, NULL::jsonb AS before, {image} AS after",
            originals = self.public.only("public", table),
            at = rows::is_at("p", 1),
            schema = self.tenant.schema.quoted(),
            table = quote::identifier(table),
            names = names.join(", "),
            values = values.join(", "),
            key = rows::key_image(structure, "t"),
            image = rows::image(structure, "t"),
        )
    }

    /// Makes sure that the rows are there under the keys that they have in `public`.
    fn have_their_keys(&self, conn: &mut PgConnection, parts: &[Part<'_>]) -> QueryResult<()> {
        #[derive(QueryableByName)]
        struct Missing {
            #[diesel(sql_type = BigInt)]
            at: i64,
        }
        let tenant = &self.examined.tenant;
        let select = |(at, part): (usize, &Part<'_>)| {
            let table = part.table;
            let key =
                rows::primary_key(&tenant.tables[table]).filter(|key| !part.renumber && self.public.has(table, key))?;
            let same: Vec<String> =
                key.iter().map(|name| equal(("t", tenant, table, name), ("p", self.public, table, name))).collect();
            Some(format!(
                "SELECT {at}::bigint AS at FROM {} p \
                 WHERE {} AND NOT EXISTS (SELECT FROM {} t WHERE {})",
                self.public.only("public", table),
                rows::is_at("p", 1),
                tenant.only(&self.tenant.schema.quoted(), table),
                same.join(" AND "),
            ))
        };
        let selects: Vec<String> = parts.iter().enumerate().filter_map(select).collect();
        if selects.is_empty() {
            return Ok(());
        }
        let missing: Vec<Missing> = sql_query(selects.join(" UNION ALL "))
            .bind::<Array<Text>, _>(parts.iter().flat_map(|part| part.places).collect::<Vec<_>>())
            .load(conn)?;
        match missing.first() {
            None => Ok(()),
            Some(first) => {
                let table = parts[first.at as usize].table;
                Err(refusal(format!("a trigger of {table} gives other keys to {} of the rows", missing.len())))
            }
        }
    }

    /// A column of a row to be copied, as a type that differs; a null that a rule fills is filled on the way.
    fn value(&self, table: &str, column: &str, casts: &BTreeMap<String, String>) -> String {
        let mut value = rows::column("p", column);
        if let Some(kind) = casts.get(column).filter(|_| !self.is_of_one_kind(table, column)) {
            value = format!("{value}::text::{kind}");
        }
        let is_there = self.public.has(table, std::slice::from_ref(&column.to_owned()));
        match self.rules.fills.iter().find(|fill| fill.table == table && fill.column == column) {
            Some(fill) if is_there => format!("coalesce({value}, {})", self.source(fill, "p")),
            Some(fill) => format!("coalesce({})", self.source(fill, "p")),
            None => value,
        }
    }
}

/// Rows of one table that are copied in one way.
pub(super) struct Part<'p> {
    pub(super) table: &'p String,
    pub(super) places: &'p BTreeSet<Place>,
    /// Which of them are the tenant's own, and not only needed.
    pub(super) own: Option<&'p BTreeSet<Row>>,
    /// Under new numbers.
    renumber: bool,
}

/// How many rows a step of a statement has written.
#[derive(QueryableByName)]
pub(super) struct Done {
    #[diesel(sql_type = BigInt)]
    pub(super) at: i64,
    #[diesel(sql_type = BigInt)]
    pub(super) rows: i64,
}
