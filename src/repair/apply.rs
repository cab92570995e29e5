//! Carries a proposal out, inside the tenant's transaction.

use std::collections::{BTreeMap, BTreeSet};

use diesel::{
    PgConnection, QueryResult, QueryableByName, RunQueryDsl,
    connection::SimpleConnection,
    sql_query,
    sql_types::{Array, BigInt, Bool, Text},
};

use super::{
    attempt::refusal,
    memory::{Recorder, What},
    order::parents_first,
    proposal::Proposal,
    propose::Proposer,
    rows::{self, Place, Row},
    sequences,
};
use crate::{
    doctor::{Fill, same_key},
    pg::tables::{Column, Tables, equal},
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
        conn.batch_execute("SET CONSTRAINTS ALL IMMEDIATE; SET CONSTRAINTS ALL DEFERRED")
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
            counts.push(format!("SELECT {at}::bigint AS at, count(*) AS rows FROM i{at}"));
        }
        let copied: Vec<Done> = sql_query(format!("WITH {} {}", steps.join(", "), counts.join(" UNION ALL ")))
            .bind::<Array<Text>, _>(parts.iter().flat_map(|part| part.places).collect::<Vec<_>>())
            .load(conn)?;
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
                    "(SELECT coalesce(max({name}), 0) FROM {}.{}) + row_number() OVER ()",
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

    /// The columns whose type is another than in `public`, with that type; a refusal where values would not be the
    /// same any more.
    fn casts(&self, conn: &mut PgConnection, part: &Part<'_>) -> QueryResult<BTreeMap<String, String>> {
        #[derive(QueryableByName)]
        struct Changed {
            #[diesel(sql_type = Array<Bool>)]
            changed: Vec<bool>,
        }
        let tenant = &self.examined.tenant;
        let mut differing = rows::shared_columns(self.public, tenant, part.table);
        differing.retain(|name| self.public.kind(part.table, name) != tenant.kind(part.table, name));
        if differing.is_empty() {
            return Ok(BTreeMap::new());
        }
        let types = rows::types(conn, self.tenant.schema.as_str(), part.table)?;
        let casts: BTreeMap<String, String> =
            differing.iter().filter_map(|name| Some((name.to_string(), types.get(*name)?.clone()))).collect();
        let changed = casts.iter().map(|(name, kind)| {
            let column = rows::column("p", name);
            let changed = match self.is_of_one_kind(part.table, name) {
                true => format!("{column}::{kind} IS DISTINCT FROM {column}"),
                false => format!("{column}::text::{kind}::text IS DISTINCT FROM {column}::text"),
            };
            format!("coalesce(bool_or({changed}), false)")
        });
        let Changed { changed } = sql_query(format!(
            "SELECT ARRAY[{}] AS changed FROM {} p WHERE {}",
            changed.collect::<Vec<_>>().join(", "),
            self.public.only("public", part.table),
            rows::is_at("p", 1),
        ))
        .bind::<Array<Text>, _>(part.places.iter().collect::<Vec<_>>())
        .get_result(conn)?;
        match casts.iter().zip(changed).find(|(_, changed)| *changed) {
            Some(((name, kind), _)) => Err(refusal(format!("{name} of {} would be changed by {kind}", part.table))),
            None => Ok(casts),
        }
    }

    /// Whether a column's type differs from `public`'s in its modifier only.
    fn is_of_one_kind(&self, table: &str, column: &str) -> bool {
        let base =
            |tables: &Tables| tables.kind(table, column).and_then(|kind| Some(kind.split_once(':')?.0.to_owned()));
        base(self.public) == base(&self.examined.tenant)
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

    /// Writes down which rows of the tenant refer in vain to the rows that will be copied: those may stay as they
    /// were when the copy is taken back, and none else.
    fn record_referrers(
        &self,
        conn: &mut PgConnection,
        table: &str,
        places: &BTreeSet<Place>,
        recorder: &Recorder<'_>,
    ) -> QueryResult<()> {
        let tenant = &self.examined.tenant;
        for reference in self.examined.references.iter().filter(|reference| reference.parent == table) {
            if !self.public.has(table, &reference.parent_columns) {
                continue;
            }
            let referrers = format!(
                "(SELECT {key} AS key, {refers} AS before, NULL::jsonb AS after FROM {child} c \
                  WHERE EXISTS (SELECT FROM {parent} p WHERE {at} AND {same}))",
                key = rows::key_image(&tenant.tables[&reference.child], "c"),
                refers = rows::image_of(reference.child_columns.iter().map(String::as_str), "c"),
                child = tenant.only(&self.tenant.schema.quoted(), &reference.child),
                parent = self.public.only("public", table),
                at = rows::is_at("p", 1),
                same = same_key(reference, ("c", tenant), ("p", self.public)),
            );
            if let Some(told) = recorder.statement(&reference.child, What::Referred, &referrers) {
                sql_query(told).bind::<Array<Text>, _>(places.iter().collect::<Vec<_>>()).execute(conn)?;
            }
        }
        Ok(())
    }

    /// Writes down which rows are copied since others need them: what refers to those in `public` is not the tenant's.
    fn record_needed(&self, conn: &mut PgConnection, part: &Part<'_>, recorder: &Recorder<'_>) -> QueryResult<()> {
        let own: BTreeSet<&Place> = part.own.into_iter().flatten().map(|row| &row.place).collect();
        let needed: Vec<&Place> = part.places.iter().filter(|place| !own.contains(place)).collect();
        let Some(structure) = self.public.tables.get(part.table).filter(|_| !needed.is_empty()) else { return Ok(()) };
        let rows = format!(
            "(SELECT {key} AS key, NULL::jsonb AS before, NULL::jsonb AS after FROM {table} p WHERE {at})",
            key = rows::key_image(structure, "p"),
            table = self.public.only("public", part.table),
            at = rows::is_at("p", 1),
        );
        match recorder.statement(part.table, What::Needed, &rows) {
            Some(told) => sql_query(told).bind::<Array<Text>, _>(needed).execute(conn).map(|_| ()),
            None => Ok(()),
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

    /// Fills the nulls of one column, and tells of how many rows.
    pub(super) fn fill(&self, conn: &mut PgConnection, fill: &Fill, recorder: &Recorder<'_>) -> QueryResult<i64> {
        #[derive(QueryableByName)]
        struct Kept {
            #[diesel(sql_type = Bool)]
            kept: bool,
        }
        let structure = &self.examined.tenant.tables[&fill.table];
        let table = self.examined.tenant.only(&self.tenant.schema.quoted(), &fill.table);
        let column = quote::identifier(&fill.column);
        let filled = format!(
            "filled AS (UPDATE {table} t SET {column} = coalesce({source}) WHERE t.{column} IS NULL \
             RETURNING {key} AS key, {before} AS before, {after} AS after)",
            source = self.source(fill, "t"),
            key = rows::key_image(structure, "t"),
            before = format_args!("jsonb_build_object({}, NULL)", quote::literal(&fill.column)),
            after = rows::image_of(std::iter::once(fill.column.as_str()), "t"),
        );
        let told = recorder.statement(&fill.table, What::Updated, "filled");
        let told = told.map(|told| format!(", told AS ({told})")).unwrap_or_default();
        let Done { rows, .. } =
            sql_query(format!("WITH {filled}{told} SELECT 0::bigint AS at, count(*) AS rows FROM filled"))
                .get_result(conn)?;
        conn.batch_execute("SET CONSTRAINTS ALL IMMEDIATE; SET CONSTRAINTS ALL DEFERRED")?;
        let Kept { kept } = sql_query(format!("SELECT EXISTS (SELECT FROM {table} WHERE {column} IS NULL) AS kept"))
            .get_result(conn)?;
        match kept {
            true => Err(refusal(format!("a trigger of {} keeps nulls in {}", fill.table, fill.column))),
            false => Ok(rows),
        }
    }

    /// What a null gets: the columns that are there, in the rule's order, and the time of the repair.
    fn source(&self, fill: &Fill, alias: &str) -> String {
        let there = |name: &&String| {
            let name = std::slice::from_ref(*name);
            self.examined.tenant.has(&fill.table, name) && (alias == "t" || self.public.has(&fill.table, name))
        };
        let mut from: Vec<String> = fill.from.iter().filter(there).map(|name| rows::column(alias, name)).collect();
        from.push("now()".into());
        from.join(", ")
    }
}

/// Rows of one table that are copied in one way.
struct Part<'p> {
    table: &'p String,
    places: &'p BTreeSet<Place>,
    /// Which of them are the tenant's own, and not only needed.
    own: Option<&'p BTreeSet<Row>>,
    /// Under new numbers.
    renumber: bool,
}

/// How many rows a step of a statement has written.
#[derive(QueryableByName)]
struct Done {
    #[diesel(sql_type = BigInt)]
    at: i64,
    #[diesel(sql_type = BigInt)]
    rows: i64,
}
