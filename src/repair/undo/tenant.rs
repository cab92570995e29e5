//! The undo in one tenant: one transaction, in the order opposite to the repair's.

use std::{collections::BTreeMap, time::Duration};

use diesel::PgConnection;
use serde_json::Value;

use super::{Kept, Undone, constraints, inserted, returned, sequences, updated};
use crate::{
    Error, SchemaName,
    pg::{
        lock, scope,
        scope::TenantConn,
        tables::{self, Tables},
    },
    repair::{
        memory::{self, PastChange, What},
        settings::begin,
    },
};

/// What is at hand while a tenant is being put back.
pub(super) struct Work<'w> {
    pub(super) schema: &'w SchemaName,
    pub(super) tenant: Tables,
    pub(super) public: Tables,
    pub(super) dry_run: bool,
    pub(super) changes: Vec<PastChange>,
    pub(super) undone: Undone,
    /// The numbers of the changes that were taken back.
    pub(super) done: Vec<i64>,
}

pub(super) fn undo(
    conn: &mut PgConnection,
    schema: &SchemaName,
    repair: i64,
    dry_run: bool,
    patience: Duration,
) -> Result<Undone, Error> {
    scope::transaction(conn, schema, |scoped: &mut TenantConn<'_>| {
        begin(scoped, patience)?;
        if !dry_run {
            lock::schema(scoped, schema, patience)?;
        }
        let mut work = Work {
            schema,
            tenant: tables::read(scoped, schema)?,
            public: tables::read(scoped, &SchemaName::public())?,
            dry_run,
            changes: memory::pending(scoped, repair, schema.as_str())?,
            undone: Undone::default(),
            done: Vec::new(),
        };
        returned::put_back(scoped, &mut work)?;
        constraints::put_back(scoped, &mut work)?;
        updated::empty(scoped, &mut work)?;
        inserted::remove(scoped, &mut work)?;
        sequences::set_back(scoped, &mut work)?;
        if !dry_run {
            memory::mark_undone(scoped, &work.done)?;
        }
        work.undone.kept.sort();
        tracing::info!(tenant.schema = %schema, "Took repair {repair} of `{schema}` back");
        Ok(work.undone)
    })
}

impl Work<'_> {
    /// What was done of this kind, by table, in order.
    pub(super) fn of(&self, what: What) -> BTreeMap<String, Vec<PastChange>> {
        let mut changes = BTreeMap::<String, Vec<PastChange>>::new();
        for change in self.changes.iter().filter(|change| change.what == what.word()) {
            changes.entry(change.table.clone()).or_default().push(change.clone());
        }
        changes
    }

    pub(super) fn keep(&mut self, table: &str, key: &Value, why: &str) {
        self.undone.kept.push(Kept { table: table.into(), key: text(key), why: why.into() });
    }
}

/// An image as it is bound.
pub(super) fn json(image: Option<&Value>) -> String {
    image.map_or_else(|| "null".into(), ToString::to_string)
}

/// A key as it is shown: its values, without the names of the columns.
pub(super) fn text(key: &Value) -> String {
    let value = |value: &Value| match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    match key {
        Value::Object(parts) if parts.contains_key("sequence") => value(&parts["sequence"]),
        Value::Object(columns) => columns.values().map(value).collect::<Vec<_>>().join(", "),
        other => value(other),
    }
}
