//! Remembers why rows were copied.

use std::collections::BTreeSet;

use diesel::{
    PgConnection, QueryResult, RunQueryDsl, sql_query,
    sql_types::{Array, Text},
};

use super::{
    copy::Part,
    memory::{Recorder, What},
    propose::Proposer,
    rows::{self, Place},
};
use crate::doctor::same_key;

impl Proposer<'_> {
    /// Writes down which rows of the tenant refer in vain to the rows that will be copied: those may stay as they
    /// were when the copy is taken back, and none else.
    pub(super) fn record_referrers(
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
    pub(super) fn record_needed(
        &self,
        conn: &mut PgConnection,
        part: &Part<'_>,
        recorder: &Recorder<'_>,
    ) -> QueryResult<()> {
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
}
