use std::sync::{
    LazyLock,
    atomic::{AtomicU64, Ordering},
};

use super::path::Found;
use crate::{Error, SchemaName, quote};

/// The setting that holds a scope's mark.
pub(super) const MARK: &str = "tenantry.scope";

/// The setting that holds the number of the last scope whose transaction was committed.
pub(super) const COMMITTED: &str = "tenantry.committed";

/// What a scope writes into a setting, and by which it knows its own transaction again.
///
/// The setting is local to the transaction, and so is gone when the closure ends that by hand. In a tenant's scope it
/// holds the schema's oid, too, since another schema may take the name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mark {
    kind: &'static str,
    /// Different from that of any scope before.
    pub(super) number: u64,
    has_oid: bool,
}

/// Begins anywhere: where a pooler lends connections, another program may have left its numbers.
static NEXT: LazyLock<AtomicU64> = LazyLock::new(|| AtomicU64::new(rand::random_range(0..1 << 62)));

impl Mark {
    /// The mark of one scope: a `transaction`, or a `session`.
    pub(super) fn of_scope(kind: &'static str) -> Self {
        Self { kind, number: NEXT.fetch_add(1, Ordering::Relaxed), has_oid: true }
    }

    /// The mark of a transaction that goes from schema to schema.
    pub(crate) fn of_group() -> Self {
        Self { has_oid: false, ..Self::of_scope("group") }
    }

    /// The statements that set the mark of a group, whose transaction has begun.
    pub(crate) fn set(&self) -> String {
        format!("SET {COMMITTED} TO '{}'; SET LOCAL {MARK} TO '{}'", self.number, self.words())
    }

    /// What the setting begins with; all of it, where there is no oid.
    pub(super) fn words(&self) -> String {
        format!("{} {} ", self.kind, self.number)
    }

    /// Expressions for the parts of what the setting should be.
    pub(super) fn parts(&self, schema: &SchemaName) -> String {
        match self.has_oid {
            true => format!("'{}', pg_catalog.to_regnamespace({})::pg_catalog.oid", self.words(), literal(schema)),
            false => format!("'{}'", self.words()),
        }
    }

    /// An expression that fails if the transaction that set this mark was committed.
    pub(crate) fn unless_committed(&self) -> String {
        format!(
            "pg_catalog.int4div(1, pg_catalog.int4(pg_catalog.textne(\
             coalesce(pg_catalog.current_setting('{COMMITTED}', true), ''), '{}')))",
            self.number
        )
    }

    /// Checks what was found in a scope, or at its end.
    pub(super) fn check(&self, schema: &SchemaName, found: &Found) -> Result<(), Error> {
        let schema = schema.clone();
        match found.mark.strip_prefix(&self.words()) {
            None => Err(Error::TransactionEnded { schema, committed: false }),
            Some(_) if !found.is_alone => Err(Error::LeftScope { schema, path: found.path.clone() }),
            Some(entered) if found.oid.is_some_and(|oid| entered != oid.to_string()) => {
                Err(Error::SchemaReplaced { schema })
            }
            Some(_) => Ok(()),
        }
    }
}

/// The quoted name, as a text.
pub(super) fn literal(schema: &SchemaName) -> String {
    quote::literal(&schema.quoted())
}
