use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use diesel::{
    OptionalExtension, PgConnection, QueryResult, RunQueryDsl, sql_query,
    sql_types::{Array, BigInt, Bool, Jsonb, Nullable, Text, Timestamptz},
};
use serde::Serialize;
use serde_json::Value;

use crate::{
    Error,
    pg::{closed::reading, fleet_lock, own},
};

/// A run that was remembered.
#[derive(Debug, Clone, Serialize, diesel::QueryableByName)]
pub struct PastRun {
    /// Its number.
    #[diesel(sql_type = BigInt)]
    pub id: i64,
    /// Its goal, and how it was to get there: the options of [`Run`](crate::migrate::Run).
    #[diesel(sql_type = Jsonb)]
    pub options: Value,
    /// The program and its version.
    #[diesel(sql_type = Text)]
    pub program: String,
    /// The role of the database that carried it out.
    #[diesel(sql_type = Text)]
    pub role: String,
    /// From where.
    #[diesel(sql_type = Text)]
    pub client: String,
    /// The program's migrations, each with its set, its version and its checksum.
    #[diesel(sql_type = Jsonb)]
    pub migrations: Value,
    /// The tenants that were chosen; `None` for all.
    #[diesel(sql_type = Nullable<Array<Text>>)]
    pub schemas: Option<Vec<String>>,
    /// When it began.
    #[diesel(sql_type = Timestamptz)]
    pub started_at: DateTime<Utc>,
    /// When it ended; `None` while it is [under way], when it was killed, and when its end could not be recorded.
    ///
    /// [under way]: under_way
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub ended_at: Option<DateTime<Utc>>,
    /// How many schemas had each outcome, once it has ended.
    #[diesel(sql_type = Nullable<Jsonb>)]
    pub outcomes: Option<Value>,
    /// Why it could not be carried out, if it could not.
    #[diesel(sql_type = Nullable<Text>)]
    pub error: Option<String>,
}

/// What a run that has ended did in one schema. Schemas in which there was nothing to do have none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, diesel::QueryableByName)]
pub struct PastLine {
    /// The schema.
    #[diesel(sql_type = Text)]
    pub schema: String,
    /// As of [`Line::outcome`](crate::migrate::Line::outcome).
    #[diesel(sql_type = Text)]
    pub outcome: String,
    /// How often it was tried.
    #[diesel(sql_type = BigInt)]
    pub attempts: i64,
    /// How long it took.
    #[diesel(sql_type = BigInt)]
    pub duration_ms: i64,
    /// What went wrong.
    #[diesel(sql_type = Nullable<Text>)]
    pub error: Option<String>,
}

/// A migration that a run applied to one schema, or took back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, diesel::QueryableByName)]
pub struct PastStep {
    /// The schema.
    #[diesel(sql_type = Text)]
    pub schema: String,
    /// The migration's version.
    #[diesel(sql_type = Text)]
    pub version: String,
    /// False where it was taken back.
    #[diesel(sql_type = Bool)]
    pub up: bool,
    /// Of the text that was run.
    #[diesel(sql_type = Text)]
    pub checksum: String,
}

const RUN: &str = "SELECT id, options, program, role, client, migrations, schemas, started_at, ended_at, outcomes, \
                   error FROM tenantry.run";

/// The last runs, the newest first. None where nothing was ever remembered.
///
/// # Errors
///
/// [`Error::Foreign`] and [`Error::NotATable`], within Diesel's, and those of the query.
pub fn list(conn: &mut PgConnection, most: i64) -> QueryResult<Vec<PastRun>> {
    reading(conn, |conn| match is_there(conn)? {
        true => sql_query(format!("{RUN} ORDER BY id DESC LIMIT $1")).bind::<BigInt, _>(most).load(conn),
        false => Ok(Vec::new()),
    })
}

/// The number of the run that may be under way: the last one, while some run holds the lock of the fleet.
///
/// Any other run without an end was killed, or could not record its end.
pub fn under_way(conn: &mut PgConnection) -> QueryResult<Option<i64>> {
    if !fleet_lock::is_taken(conn)? {
        return Ok(None);
    }
    Ok(list(conn, 1)?.into_iter().find(|run| run.ended_at.is_none()).map(|run| run.id))
}

/// The run of this number.
///
/// # Errors
///
/// [`Error::NoSuchRun`].
pub fn find(conn: &mut PgConnection, id: i64) -> Result<PastRun, Error> {
    let found: Option<PastRun> = reading::<_, Error>(conn, |conn| match is_there(conn)? {
        true => Ok(sql_query(format!("{RUN} WHERE id = $1")).bind::<BigInt, _>(id).get_result(conn).optional()?),
        false => Ok(None),
    })?;
    found.ok_or(Error::NoSuchRun { id })
}

/// The lines of a run, those that failed first.
pub fn lines(conn: &mut PgConnection, run: i64) -> QueryResult<Vec<PastLine>> {
    let lines = sql_query(
        "SELECT schema, outcome, attempts, duration_ms, error FROM tenantry.run_line WHERE run = $1 \
         ORDER BY error IS NULL, outcome, schema",
    )
    .bind::<BigInt, _>(run);
    reading(conn, |conn| lines.load(conn))
}

/// The steps of a run, in their order.
pub fn steps(conn: &mut PgConnection, run: i64) -> QueryResult<Vec<PastStep>> {
    let steps = sql_query("SELECT schema, version, up, checksum FROM tenantry.run_step WHERE run = $1 ORDER BY id")
        .bind::<BigInt, _>(run);
    reading(conn, |conn| steps.load(conn))
}

/// What a run has applied, and neither it nor a later run has taken back: the versions by schema.
pub fn applied(conn: &mut PgConnection, run: i64) -> QueryResult<BTreeMap<String, Vec<String>>> {
    let mut applied = BTreeMap::<String, Vec<String>>::new();
    // What a later run has applied again is that one's.
    let last = sql_query(
        "SELECT schema, version, up, checksum FROM tenantry.run_step s WHERE run = $1 AND NOT EXISTS ( \
             SELECT FROM tenantry.run_step later \
             WHERE later.schema = s.schema AND later.version = s.version AND later.run <> s.run AND later.id > s.id \
         ) ORDER BY id",
    )
    .bind::<BigInt, _>(run);
    let last: Vec<PastStep> = reading(conn, |conn| last.load(conn))?;
    for step in last {
        let versions = applied.entry(step.schema).or_default();
        versions.retain(|version| *version != step.version);
        if step.up {
            versions.push(step.version);
        }
    }
    applied.retain(|_, versions| !versions.is_empty());
    Ok(applied)
}

/// The schemas for which a run may have still to be done: those that failed or were not reached, or, of a run that was
/// cut short, all of these. In some it may have done all or a part, which their histories tell.
pub fn left<'n>(
    conn: &mut PgConnection,
    run: &PastRun,
    listed: impl Iterator<Item = &'n str>,
) -> QueryResult<BTreeSet<String>> {
    if run.ended_at.is_some() && run.error.is_none() {
        let failed = lines(conn, run.id)?.into_iter().filter(|line| line.error.is_some());
        return Ok(failed.map(|line| line.schema).collect());
    }
    Ok(match &run.schemas {
        Some(chosen) => chosen.iter().cloned().collect(),
        None => listed.chain(["public"]).map(Into::into).collect(),
    })
}

/// Whether runs are remembered here, and this role may read of them.
pub(crate) fn is_there(conn: &mut PgConnection) -> QueryResult<bool> {
    own::is_there(conn, "run_step")
}

/// Which of these versions some schema has with another text than this one.
pub(crate) fn edited(conn: &mut PgConnection, migrations: &[(&str, &str)]) -> QueryResult<Vec<String>> {
    #[derive(diesel::QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        version: String,
    }
    let (versions, checksums): (Vec<&str>, Vec<&str>) = migrations.iter().copied().unzip();
    let edited =
        sql_query(include_str!("edited.sql")).bind::<Array<Text>, _>(versions).bind::<Array<Text>, _>(checksums);
    let rows: Vec<Row> = reading(conn, |conn| if is_there(conn)? { edited.load(conn) } else { Ok(Vec::new()) })?;
    Ok(rows.into_iter().map(|row| row.version).collect())
}
