//! The rows of `public` that are bound to others by a reference.

use std::collections::BTreeSet;

use diesel::{
    PgConnection, QueryResult, RunQueryDsl, sql_query,
    sql_types::{Array, Text},
};

use super::{
    propose::Proposer,
    rows::{self, Place, Row},
};
use crate::{doctor::same_key, pg::tables::Reference};

impl Proposer<'_> {
    /// The rows of `public` to which these refer and which are there.
    pub(super) fn parents(
        &self,
        conn: &mut PgConnection,
        reference: &Reference,
        rows: &BTreeSet<Place>,
    ) -> QueryResult<Vec<Row>> {
        let same = same_key(reference, ("x", self.public), ("p", self.public));
        self.bound(conn, reference, (&reference.parent, &reference.child), &same, rows)
    }

    /// The rows of `public` that refer to these.
    pub(super) fn dependants(
        &self,
        conn: &mut PgConnection,
        reference: &Reference,
        rows: &BTreeSet<Place>,
    ) -> QueryResult<Vec<Row>> {
        let same = same_key(reference, ("p", self.public), ("x", self.public));
        self.bound(conn, reference, (&reference.child, &reference.parent), &same, rows)
    }

    /// The rows `p` of the first table that are the same by this condition as one of these rows `x` of the other.
    fn bound(
        &self,
        conn: &mut PgConnection,
        reference: &Reference,
        (table, other): (&str, &str),
        same: &str,
        rows: &BTreeSet<Place>,
    ) -> QueryResult<Vec<Row>> {
        if !self.in_public(reference) {
            return Ok(Vec::new());
        }
        let (other, at) = (self.public.only("public", other), rows::is_at("x", 1));
        self.rows(conn, table, &format!("EXISTS (SELECT FROM {other} x WHERE {at} AND {same})"), rows)
    }

    /// Whether `public` has what the reference connects.
    pub(super) fn in_public(&self, reference: &Reference) -> bool {
        self.public.has(&reference.parent, &reference.parent_columns)
            && self.public.has(&reference.child, &reference.child_columns)
    }

    pub(super) fn rows(
        &self,
        conn: &mut PgConnection,
        table: &str,
        condition: &str,
        places: &BTreeSet<Place>,
    ) -> QueryResult<Vec<Row>> {
        sql_query(format!(
            "SELECT {place} AS place, {key} AS key FROM {table} p WHERE {condition} {lock}",
            place = rows::place("p"),
            key = rows::key_text(self.public.tables.get(table), "p"),
            table = self.public.only("public", table),
            lock = self.lock_of("p"),
        ))
        .bind::<Array<Text>, _>(places.iter().collect::<Vec<_>>())
        .load(conn)
    }

    pub(super) fn lock_of(&self, alias: &str) -> String {
        if self.lock { format!("FOR SHARE OF {alias}") } else { String::new() }
    }
}
