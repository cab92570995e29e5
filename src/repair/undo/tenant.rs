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
        untrusted,
    },
    repair::{
        memory::{self, PastChange, What},
        settings::{begin, open},
    },
};

/// What is at hand while a tenant is being put back.
pub(super) struct Work<'w> {
    pub(super) schema: &'w SchemaName,
    pub(super) tenant: Tables,
    pub(super) public: Tables,
    pub(super) extent: Extent,
    pub(super) changes: Vec<PastChange>,
    pub(super) undone: Undone,
    /// The numbers of the changes that were taken back.
    pub(super) done: Vec<i64>,
}

/// How far an undo goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    /// It reads.
    Look,
    /// It writes all but what no rollback would take back.
    Rehearsal,
    /// It writes.
    Whole,
}

/// One tenant whose turn it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Turn<'t> {
    pub(super) schema: &'t SchemaName,
    pub(super) repair: i64,
    pub(super) patience: Duration,
}

impl Turn<'_> {
    /// Takes the repair back, unless another undo has done so.
    pub(super) fn take(self, conn: &mut PgConnection) -> Result<Option<Undone>, Error> {
        let Self { schema, repair, .. } = self;
        let undone = scope::transaction(conn, schema, |scoped| self.work(scoped, Extent::Whole))?;
        if undone.is_some() {
            tracing::info!(tenant.schema = %schema, "Took repair {repair} of `{schema}` back");
        }
        Ok(undone)
    }

    /// Does that, and rolls it back. A role that may not write down what it takes back is told what it would
    /// try, and that it has not.
    pub(super) fn rehearse(self, conn: &mut PgConnection) -> Result<(Option<Undone>, bool), Error> {
        if !memory::may_write(conn)? {
            let undone = scope::transaction(conn, self.schema, |scoped| self.work(scoped, Extent::Look))?;
            return Ok((undone, false));
        }
        let tried = scope::transaction(conn, self.schema, |scoped| {
            let undone = self.work(scoped, Extent::Rehearsal)?;
            Err::<(), _>(Rehearsed::Done(Box::new(undone)))
        });
        match tried {
            Err(Rehearsed::Done(undone)) => Ok((*undone, true)),
            Err(Rehearsed::Failed(error)) => Err(error),
            Ok(()) => Ok((None, true)),
        }
    }

    fn work(self, conn: &mut TenantConn<'_>, extent: Extent) -> Result<Option<Undone>, Error> {
        let Self { schema, repair, patience } = self;
        begin(conn, patience)?;
        if extent != Extent::Look {
            lock::schema(conn, schema, patience)?;
        }
        // Before the lock was taken, another undo may have done it.
        let changes = memory::pending(conn, repair, schema.as_str())?;
        if !changes.iter().any(PastChange::is_of_something) {
            open(conn, schema)?;
            return Ok(None);
        }
        untrusted::refuse(conn, &["public", schema.as_str()])?;
        let mut work = Work {
            schema,
            tenant: tables::read(conn, schema)?,
            public: tables::read(conn, &SchemaName::public())?,
            extent,
            changes,
            undone: Undone::default(),
            done: Vec::new(),
        };
        returned::put_back(conn, &mut work)?;
        constraints::put_back(conn, &mut work)?;
        updated::empty(conn, &mut work)?;
        inserted::remove(conn, &mut work)?;
        sequences::set_back(conn, &mut work)?;
        if work.writes() {
            memory::mark_undone(conn, &work.done)?;
        }
        open(conn, schema)?;
        work.undone.kept.sort();
        Ok(Some(work.undone))
    }
}

/// Why a rehearsal was rolled back.
enum Rehearsed {
    Done(Box<Option<Undone>>),
    Failed(Error),
}

impl From<Error> for Rehearsed {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl Work<'_> {
    pub(super) fn writes(&self) -> bool {
        self.extent != Extent::Look
    }

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
