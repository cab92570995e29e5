use std::time::Duration;

use diesel::{PgConnection, QueryResult};
use serde::Serialize;

use super::{Migration, Migrations, Set};
use crate::{
    Error, SchemaName,
    pg::{
        self,
        catalog::{self, History},
        closed,
        engine::{self, Engine},
        lock,
    },
};

/// How many schemas one query reads. More are slower, and all of a large fleet's at once would fill the
/// server's lock table.
pub(super) const CHUNK: usize = 64;

/// How long to wait for a history that somebody has locked.
const PATIENCE: Duration = Duration::from_secs(2);

/// Where one schema stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SchemaStatus {
    /// The schema.
    pub schema: SchemaName,
    /// What was found there.
    #[serde(flatten)]
    pub state: State,
}

/// What a [`survey`] found in one schema.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum State {
    /// There is no such schema.
    Missing,
    /// The role may not read its history, or it changed while it was read.
    Unreadable {
        /// Why.
        reason: String,
    },
    /// The history was read, or there is none, so that everything is pending.
    Known {
        /// The last version that this program knows and that is recorded.
        version: Option<String>,
        /// The versions that are recorded, in order.
        applied: Vec<String>,
        /// The versions that are not, in order.
        pending: Vec<String>,
        /// The versions that are recorded and that this program does not have.
        unknown: Vec<String>,
        /// The pending versions that come before one of the same set that is recorded.
        out_of_order: Vec<String>,
    },
}

impl SchemaStatus {
    /// Whether the schema has every migration.
    pub fn is_current(&self) -> bool {
        matches!(&self.state, State::Known { pending, .. } if pending.is_empty())
    }

    /// The versions that are not recorded; none where the schema is missing or cannot be read.
    pub fn pending(&self) -> &[String] {
        match &self.state {
            State::Known { pending, .. } => pending,
            _ => &[],
        }
    }
}

/// Reads what every one of these schemas has applied, in a handful of queries, and writes nothing.
///
/// # Errors
///
/// Those of its queries. A single schema that cannot be read is [`State::Unreadable`].
pub fn survey(
    conn: &mut PgConnection,
    schemas: &[SchemaName],
    migrations: &Migrations,
) -> QueryResult<Vec<SchemaStatus>> {
    let engine = engine::detect(conn)?;
    survey_on(conn, engine, schemas, migrations)
}

/// The same, where the engine is known.
pub(super) fn survey_on(
    conn: &mut PgConnection,
    engine: Engine,
    schemas: &[SchemaName],
    migrations: &Migrations,
) -> QueryResult<Vec<SchemaStatus>> {
    in_chunks(conn, engine, schemas, |conn, chunk| survey_chunk(conn, chunk, migrations), migrations)
}

/// The same of schemas whose histories this connection has just written: what they are was asked before that.
pub(super) fn read_back(
    conn: &mut PgConnection,
    engine: Engine,
    schemas: &[SchemaName],
    migrations: &Migrations,
) -> QueryResult<Vec<SchemaStatus>> {
    let read = |conn: &mut PgConnection, chunk: &[SchemaName]| {
        let mut versions =
            lock::patiently(conn, PATIENCE, |conn| catalog::versions(conn, &chunk.iter().collect::<Vec<_>>()))?;
        let mut recorded = |schema: &SchemaName| versions.remove(schema.as_str()).unwrap_or_default();
        let mut status = |schema: &SchemaName| SchemaStatus {
            schema: schema.clone(),
            state: compare(schema, recorded(schema), migrations),
        };
        Ok(chunk.iter().map(&mut status).collect())
    };
    in_chunks(conn, engine, schemas, read, migrations)
}

fn in_chunks(
    conn: &mut PgConnection,
    engine: Engine,
    schemas: &[SchemaName],
    read: impl Fn(&mut PgConnection, &[SchemaName]) -> QueryResult<Vec<SchemaStatus>>,
    migrations: &Migrations,
) -> QueryResult<Vec<SchemaStatus>> {
    let mut found = Vec::with_capacity(schemas.len());
    let size = match engine {
        Engine::Postgres => CHUNK,
        // There it is quicker, and a node that is down costs its own schemas only.
        Engine::Citus => 1,
    };
    for chunk in schemas.chunks(size) {
        match read(conn, chunk) {
            Ok(chunk) => found.extend(chunk),
            Err(error) if pg::is_lost(conn) => return Err(error),
            // One of them was dropped between two queries, or is locked: the others are read on their own.
            Err(_) => found.extend(chunk.iter().map(|schema| survey_one(conn, schema, migrations))),
        }
    }
    Ok(found)
}

/// The last version that one schema has recorded, whoever recorded it; `None` where nothing is.
///
/// A transaction of two short queries: cheap enough for a health check, or for a request that has to know which columns there are.
///
/// # Errors
///
/// [`Error::MissingSchema`], [`Error::NoUsage`], [`Error::NotATable`], and those of the queries.
pub fn version(conn: &mut PgConnection, schema: &SchemaName) -> Result<Option<String>, Error> {
    closed::reading(conn, |conn| match catalog::histories(conn, &[schema.as_str()])?.get(schema.as_str()) {
        None => Err(Error::MissingSchema { schema: schema.clone() }),
        Some(History::Absent) => Ok(None),
        Some(History::Forbidden) => Err(Error::NoUsage { schema: schema.clone() }),
        Some(History::NotATable) => Err(catalog::not_a_table(schema)),
        Some(History::Readable) => {
            Ok(catalog::versions(conn, &[schema])?.remove(schema.as_str()).and_then(|mut found| found.pop()))
        }
    })
}

fn survey_one(conn: &mut PgConnection, schema: &SchemaName, migrations: &Migrations) -> SchemaStatus {
    match survey_chunk(conn, std::slice::from_ref(schema), migrations) {
        Ok(mut status) if status.len() == 1 => status.remove(0),
        Ok(_) => SchemaStatus { schema: schema.clone(), state: State::Missing },
        Err(error) => SchemaStatus { schema: schema.clone(), state: State::Unreadable { reason: error.to_string() } },
    }
}

fn survey_chunk(
    conn: &mut PgConnection,
    schemas: &[SchemaName],
    migrations: &Migrations,
) -> QueryResult<Vec<SchemaStatus>> {
    let names: Vec<&str> = schemas.iter().map(SchemaName::as_str).collect();
    let (histories, mut versions) = lock::patiently(conn, PATIENCE, |conn| {
        let histories = catalog::histories(conn, &names)?;
        let readable = |schema: &&SchemaName| histories.get(schema.as_str()) == Some(&History::Readable);
        let versions = catalog::versions(conn, &schemas.iter().filter(readable).collect::<Vec<_>>())?;
        Ok((histories, versions))
    })?;
    let mut state = |schema: &SchemaName| match histories.get(schema.as_str()) {
        None => State::Missing,
        Some(History::Forbidden) => State::Unreadable { reason: "the role may not read its history".into() },
        Some(History::NotATable) => State::Unreadable { reason: catalog::not_a_table(schema).to_string() },
        Some(_) => compare(schema, versions.remove(schema.as_str()).unwrap_or_default(), migrations),
    };
    Ok(schemas.iter().map(|schema| SchemaStatus { schema: schema.clone(), state: state(schema) }).collect())
}

fn compare(schema: &SchemaName, applied: Vec<String>, migrations: &Migrations) -> State {
    let is_applied = |version: &&str| applied.iter().any(|known| known == version);
    let versions = |set| migrations.of(set, schema).map(Migration::version);
    let pending_in_place = |set| {
        let last = versions(set).filter(is_applied).last();
        versions(set).filter(move |version| !is_applied(version) && Some(*version) < last).map(Into::into)
    };
    let expected: Vec<&str> = migrations.expected(schema).map(Migration::version).collect();
    let (recorded, pending): (Vec<&str>, Vec<&str>) = expected.iter().partition(|version| is_applied(version));
    State::Known {
        version: recorded.last().map(ToString::to_string),
        pending: pending.into_iter().map(Into::into).collect(),
        unknown: applied.iter().filter(|version| !expected.contains(&version.as_str())).cloned().collect(),
        out_of_order: [Set::Public, Set::Tenant].into_iter().flat_map(pending_in_place).collect(),
        applied,
    }
}
