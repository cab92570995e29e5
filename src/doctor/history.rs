//! What the histories of migrations say, beside what this program knows.

use std::collections::BTreeMap;

use diesel::{PgConnection, QueryResult};

use super::{Fix, Kind, Severity, draft::Draft};
use crate::{
    SchemaName,
    migrate::{Migrations, Set},
    pg::catalog::{self, History},
};

/// What was read of one schema's history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Recorded {
    /// There is no such schema any more.
    Gone,
    Forbidden,
    /// What bears its name is not an ordinary table.
    NotATable,
    /// These versions, in order.
    Versions(Vec<String>),
}

/// How far a schema has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Standing {
    /// It has the first so many migrations of its sets, and no others.
    At(usize),
    /// It has others, so that nobody can tell how it should be built.
    Odd,
    /// Nothing is recorded.
    Nowhere,
}

/// How many schemas one query reads: more are slower.
const CHUNK: usize = 50;

/// Reads the histories of these schemas, in their order.
pub(super) fn read(conn: &mut PgConnection, schemas: &[&SchemaName]) -> QueryResult<Vec<Recorded>> {
    let mut found = Vec::with_capacity(schemas.len());
    for chunk in schemas.chunks(CHUNK) {
        let names: Vec<&str> = chunk.iter().map(|schema| schema.as_str()).collect();
        let histories: BTreeMap<String, History> = catalog::histories(conn, &names)?;
        let is_readable = |schema: &&SchemaName| histories.get(schema.as_str()) == Some(&History::Readable);
        let readable: Vec<&SchemaName> = chunk.iter().copied().filter(is_readable).collect();
        let mut versions = catalog::versions(conn, &readable)?;
        found.extend(chunk.iter().map(|schema| match histories.get(schema.as_str()) {
            None => Recorded::Gone,
            Some(History::Forbidden) => Recorded::Forbidden,
            Some(History::NotATable) => Recorded::NotATable,
            Some(_) => Recorded::Versions(versions.remove(schema.as_str()).unwrap_or_default()),
        }));
    }
    Ok(found)
}

/// Where a schema stands by its history, and what is wrong with that.
pub(super) fn judge(schema: &SchemaName, applied: &[String], migrations: &Migrations) -> (Standing, Vec<Draft>) {
    let expected: Vec<&str> = migrations.expected(schema).map(|migration| migration.version()).collect();
    let is_applied = |version: &&&str| applied.iter().any(|known| known == **version);
    let recorded = expected.iter().filter(is_applied).count();
    let last = expected.iter().rposition(|version| is_applied(&version)).map_or(0, |at| at + 1);
    let mut drafts = Vec::new();
    let unknown = applied.iter().filter(|version| !expected.contains(&version.as_str())).cloned();
    let is_publics = |version: &String| migrations.versions(Set::Public).any(|known| known == version);
    let (publics, unknown): (Vec<String>, Vec<String>) = unknown.partition(is_publics);
    let is_known = unknown.is_empty();
    if !publics.is_empty() {
        let says = format!("its history has versions of the public set: {}", publics.join(", "));
        let fix = Fix::None("find out where that migration was applied, then delete the version here".into());
        drafts.push(Draft::new(Kind::MisplacedHistory, says, fix).examples(publics.len() as u64, publics));
    }
    if !is_known {
        let says = format!("its history has versions that this program does not know: {}", unknown.join(", "));
        let fix = Fix::None("use the program that knows them, or find out who applied them".into());
        drafts.push(Draft::new(Kind::UnknownVersion, says, fix).examples(unknown.len() as u64, unknown));
    }
    let missing = |upto: usize| -> Vec<String> {
        expected[..upto].iter().filter(|version| !is_applied(version)).map(ToString::to_string).collect()
    };
    if last > recorded {
        let lacking = missing(last);
        let says = format!("lacks {} below versions that are recorded", lacking.join(", "));
        let fix = Fix::Command("tenantry migrate".into());
        drafts.push(Draft::new(Kind::OutOfOrder, says, fix).examples(lacking.len() as u64, lacking));
    } else if recorded > 0 && recorded < expected.len() {
        let pending = missing(expected.len());
        let says = format!("{} pending: {}", pending.len(), pending.join(", "));
        let fix = Fix::Command("tenantry migrate".into());
        drafts.push(Draft::new(Kind::Behind, says, fix).examples(pending.len() as u64, pending));
    }
    let standing = match recorded {
        _ if !is_known => Standing::Odd,
        0 => Standing::Nowhere,
        _ if last > recorded => Standing::Odd,
        _ => Standing::At(recorded),
    };
    (standing, drafts)
}

/// A schema without its tables.
pub(super) fn half_provisioned(versions: &[String]) -> Draft {
    match versions {
        [] => {
            let fix = Fix::Command("tenantry migrate".into());
            Draft::new(Kind::HalfProvisioned, "is registered, and its schema is empty", fix)
        }
        _ => {
            let fix = Fix::None(
                "restore the tables from a backup; or empty the history and migrate, if there never were any".into(),
            );
            let says = format!("has none of the tenants' tables, though {} is recorded", versions.join(", "));
            Draft::new(Kind::HalfProvisioned, says, fix).examples(versions.len() as u64, versions.to_vec())
        }
    }
}

/// A schema with tables that no migration is known to have made.
pub(super) fn no_history() -> Draft {
    let fix = Fix::Command("tenantry baseline --at VERSION".into());
    Draft::new(Kind::NoHistory, "has tables, and no migration is recorded", fix)
}

/// A schema whose history and structure are those of different versions.
pub(super) fn disagreeing(recorded: &str, built: &str) -> Draft {
    let says = format!("its history ends at {recorded}, and its structure is that of {built}");
    let fix = Fix::None("find out where the version was recorded instead, and put the row right".into());
    Draft::new(Kind::MisplacedHistory, says, fix).severity(Severity::Error).examples(1, vec![recorded.into()])
}
