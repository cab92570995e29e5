//! Carries a proposal out, inside the tenant's transaction.

use std::collections::BTreeSet;

use diesel::{
    PgConnection, QueryResult, RunQueryDsl,
    connection::SimpleConnection,
    sql_query,
    sql_types::{Array, Text},
};

use super::{
    memory::{Change, Recorder, What},
    order::parents_first,
    proposal::Proposal,
    propose::Proposer,
    rows::{self, Place},
    sequences,
};
use crate::{
    doctor::{Fill, same_key},
    pg::tables::Column,
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
        for table in parents_first(proposal.tables().into_iter().cloned(), &self.examined.references) {
            for (rows, renumber) in [(&proposal.copies, false), (&proposal.renumbered, true)] {
                if let Some(places) = rows.get(&table).filter(|places| !places.is_empty()) {
                    self.record_referrers(conn, &table, places, recorder)?;
                    if renumber && !self.rehearsal {
                        // The next numbers may be those of rows that came with theirs.
                        sequences::catch_up(conn, &self.tenant.schema, &self.examined.tenant, &table)?;
                    }
                    let copied = self.copy(conn, &table, places, renumber)?;
                    recorder.write(conn, &table, What::Inserted, &copied)?;
                }
            }
        }
        // A deferred foreign key would speak up at COMMIT only, when it is too late to look again.
        conn.batch_execute("SET CONSTRAINTS ALL IMMEDIATE; SET CONSTRAINTS ALL DEFERRED")
    }

    fn copy(
        &self,
        conn: &mut PgConnection,
        table: &str,
        places: &BTreeSet<Place>,
        renumber: bool,
    ) -> QueryResult<Vec<Change>> {
        let structure = &self.examined.tenant.tables[table];
        let shared = rows::shared_columns(self.public, &self.examined.tenant, table);
        let take = |column: &&Column| shared.contains(&column.name.as_str()) && !(renumber && column.numbered);
        let (mut names, mut values): (Vec<String>, Vec<String>) = rows::written(structure)
            .filter(take)
            .map(|column| (quote::identifier(&column.name), self.value(table, &column.name)))
            .unzip();
        if renumber && self.rehearsal {
            // A rehearsal draws no number.
            for column in structure.columns.iter().filter(|column| column.numbered) {
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
        sql_query(format!(
            "INSERT INTO {schema}.{table} AS t ({names}) {overriding} \
             SELECT {values} FROM public.{table} p WHERE {at} \
             RETURNING {key}::text AS key, NULL::text AS before, {image}::text AS after",
            at = rows::is_at("p", 1),
            schema = self.tenant.schema.quoted(),
            table = quote::identifier(table),
            names = names.join(", "),
            values = values.join(", "),
            key = rows::key_image(structure, "t"),
            image = rows::image(structure, "t"),
        ))
        .bind::<Array<Text>, _>(places.iter().collect::<Vec<_>>())
        .load(conn)
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
        if recorder.repair().is_none() {
            return Ok(());
        }
        for reference in self.examined.references.iter().filter(|reference| reference.parent == table) {
            if !self.public.has(table, &reference.parent_columns) {
                continue;
            }
            let tenant = &self.examined.tenant;
            let referrers: Vec<Change> = sql_query(format!(
                "SELECT {key}::text AS key, NULL::text AS before, NULL::text AS after FROM {schema}.{child} c \
                 WHERE EXISTS (SELECT FROM public.{parent} p WHERE {at} AND {same})",
                key = rows::key_image(&tenant.tables[&reference.child], "c"),
                schema = self.tenant.schema.quoted(),
                child = quote::identifier(&reference.child),
                parent = quote::identifier(table),
                at = rows::is_at("p", 1),
                same = same_key(reference, ("c", tenant), ("p", self.public)),
            ))
            .bind::<Array<Text>, _>(places.iter().collect::<Vec<_>>())
            .load(conn)?;
            recorder.write(conn, &reference.child, What::Referred, &referrers)?;
        }
        Ok(())
    }

    /// A column of a row to be copied; a null that a rule fills is filled on the way.
    fn value(&self, table: &str, column: &str) -> String {
        let filled = self.rules.fills.iter().find(|fill| fill.table == table && fill.column == column);
        match filled {
            Some(fill) => format!("coalesce({}, {})", rows::column("p", column), self.source(fill, "p")),
            None => rows::column("p", column),
        }
    }

    /// Fills the nulls of one column.
    pub(super) fn fill(&self, conn: &mut PgConnection, fill: &Fill, recorder: &Recorder<'_>) -> QueryResult<()> {
        let structure = &self.examined.tenant.tables[&fill.table];
        let filled: Vec<Change> = sql_query(format!(
            "WITH old AS ( \
                 SELECT t.ctid AS place, t.tableoid AS relation, {image}::text AS before \
                 FROM {table} t WHERE t.{column} IS NULL FOR UPDATE) \
             UPDATE {table} t SET {column} = coalesce({source}) FROM old \
             WHERE t.ctid = old.place AND t.tableoid = old.relation \
             RETURNING {key}::text AS key, old.before, {image}::text AS after",
            table = format_args!("{}.{}", self.tenant.schema.quoted(), quote::identifier(&fill.table)),
            column = quote::identifier(&fill.column),
            source = self.source(fill, "t"),
            key = rows::key_image(structure, "t"),
            image = rows::image(structure, "t"),
        ))
        .load(conn)?;
        recorder.write(conn, &fill.table, What::Updated, &filled)?;
        conn.batch_execute("SET CONSTRAINTS ALL IMMEDIATE; SET CONSTRAINTS ALL DEFERRED")
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
