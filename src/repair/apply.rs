//! Carries a proposal out, inside the tenant's transaction.

use std::collections::BTreeSet;

use diesel::{
    PgConnection, QueryResult, RunQueryDsl,
    connection::SimpleConnection,
    sql_query,
    sql_types::{Array, BigInt, Nullable, Text},
};

use super::propose::{Proposal, Proposer, is_at, shared_columns};
use crate::{doctor::Fill, pg::tables::Column, quote};

impl Proposer<'_> {
    /// Writes what the proposal says. The caller checks what came of it.
    pub(super) fn apply(&self, conn: &mut PgConnection, proposal: &Proposal) -> QueryResult<()> {
        conn.batch_execute("SET CONSTRAINTS ALL DEFERRED")?;
        for table in self.parents_first(proposal) {
            if let Some(places) = proposal.copies.get(&table) {
                self.copy(conn, &table, places, |_| true)?;
                self.advance_sequences(conn, &table)?;
            }
            if let Some(places) = proposal.renumbered.get(&table) {
                self.copy(conn, &table, places, |column| !column.numbered)?;
            }
        }
        for fill in self.examined.fills(self.rules) {
            if proposal.fills.iter().any(|filled| (&filled.table, &filled.column) == (&fill.table, &fill.column)) {
                self.fill(conn, fill)?;
            }
        }
        // A deferred foreign key would speak up at COMMIT only, when it is too late to look again.
        conn.batch_execute("SET CONSTRAINTS ALL IMMEDIATE; SET CONSTRAINTS ALL DEFERRED")
    }

    /// The tables to copy into, so that each comes after those it refers to. A reference whose check can wait
    /// needs no order; a cycle of others is cut anywhere, and its constraint has the last word.
    fn parents_first(&self, proposal: &Proposal) -> Vec<String> {
        let mut waiting: BTreeSet<String> = proposal.copies.keys().chain(proposal.renumbered.keys()).cloned().collect();
        let mut order = Vec::new();
        while let Some(first) = waiting.first().cloned() {
            let ready =
                |table: &&String| {
                    !self.examined.references.iter().any(|r| {
                        !r.deferrable && r.child == **table && r.parent != r.child && waiting.contains(&r.parent)
                    })
                };
            let next = waiting.iter().find(ready).cloned().unwrap_or(first);
            waiting.remove(&next);
            order.push(next);
        }
        order
    }

    fn copy(
        &self,
        conn: &mut PgConnection,
        table: &str,
        places: &BTreeSet<String>,
        take: impl Fn(&Column) -> bool,
    ) -> QueryResult<usize> {
        if places.is_empty() {
            return Ok(0);
        }
        let structure = &self.examined.tenant.tables[table];
        let shared = shared_columns(self.public, &self.examined.tenant, table);
        let columns = structure.columns.iter().filter(|column| shared.contains(&column.name.as_str()) && take(column));
        let (mut names, mut values) = (Vec::new(), Vec::new());
        for column in columns {
            names.push(quote::identifier(&column.name));
            values.push(self.value(table, &column.name));
        }
        // Numbers of an identity that is ALWAYS generated are kept all the same.
        let overriding =
            if structure.columns.iter().any(|column| column.identity) { "OVERRIDING SYSTEM VALUE" } else { "" };
        let table = quote::identifier(table);
        sql_query(format!(
            "INSERT INTO {schema}.{table} ({names}) {overriding} \
             SELECT {values} FROM public.{table} p WHERE {at}",
            at = is_at("p"),
            schema = self.tenant.schema.quoted(),
            names = names.join(", "),
            values = values.join(", "),
        ))
        .bind::<Array<Text>, _>(places.iter().collect::<Vec<_>>())
        .execute(conn)
    }

    /// A column of a row to be copied; a null that a rule fills is filled on the way.
    fn value(&self, table: &str, column: &str) -> String {
        let filled = self.rules.fills.iter().find(|fill| fill.table == table && fill.column == column);
        match filled {
            Some(fill) => format!("coalesce(p.{}, {})", quote::identifier(column), self.source(fill, "p.")),
            None => format!("p.{}", quote::identifier(column)),
        }
    }

    fn fill(&self, conn: &mut PgConnection, fill: &Fill) -> QueryResult<usize> {
        let column = quote::identifier(&fill.column);
        sql_query(format!(
            "UPDATE {}.{} SET {column} = coalesce({}) WHERE {column} IS NULL",
            self.tenant.schema.quoted(),
            quote::identifier(&fill.table),
            self.source(fill, ""),
        ))
        .execute(conn)
    }

    /// What a null gets: the columns that are there, in the rule's order, and the time of the repair.
    fn source(&self, fill: &Fill, prefix: &str) -> String {
        let there = |name: &&String| {
            let name = std::slice::from_ref(*name);
            self.examined.tenant.has(&fill.table, name) && (prefix.is_empty() || self.public.has(&fill.table, name))
        };
        let mut from: Vec<String> =
            fill.from.iter().filter(there).map(|name| format!("{prefix}{}", quote::identifier(name))).collect();
        from.push("now()".into());
        from.join(", ")
    }

    /// A number that was copied does not advance the sequence from which the next one is drawn.
    fn advance_sequences(&self, conn: &mut PgConnection, table: &str) -> QueryResult<()> {
        #[derive(diesel::QueryableByName)]
        struct Sequence {
            #[diesel(sql_type = Nullable<Text>)]
            name: Option<String>,
            #[diesel(sql_type = Nullable<BigInt>)]
            largest: Option<i64>,
        }
        #[derive(diesel::QueryableByName)]
        struct Last {
            #[diesel(sql_type = BigInt)]
            last: i64,
        }
        let qualified = format!("{}.{}", self.tenant.schema.quoted(), quote::identifier(table));
        for column in self.examined.tenant.tables[table].columns.iter().filter(|column| column.numbered) {
            // Quoted and qualified by the server, so that it can be read from below.
            let sequence: Sequence = sql_query(format!(
                "SELECT pg_get_serial_sequence($1, $2) AS name, (SELECT max({})::bigint FROM {qualified}) AS largest",
                quote::identifier(&column.name),
            ))
            .bind::<Text, _>(&qualified)
            .bind::<Text, _>(&column.name)
            .get_result(conn)?;
            let (Some(name), Some(largest)) = (sequence.name, sequence.largest) else { continue };
            let Last { last } = sql_query(format!("SELECT last_value AS last FROM {name}")).get_result(conn)?;
            if largest >= last {
                sql_query("SELECT setval($1::regclass, $2)")
                    .bind::<Text, _>(&name)
                    .bind::<BigInt, _>(largest)
                    .execute(conn)?;
            }
        }
        Ok(())
    }
}
