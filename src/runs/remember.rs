use diesel::{
    PgConnection, QueryResult, RunQueryDsl,
    dsl::sql,
    select, sql_query,
    sql_types::{Array, BigInt, Bool, Jsonb, Nullable, Text},
};
use serde_json::Value;

use super::PastLine;
use crate::{
    Error, SchemaName,
    pg::{atomically, own},
    quote,
};

/// What is known of a run when it begins.
pub(crate) struct Beginning<'r> {
    pub(crate) options: Value,
    pub(crate) program: &'r str,
    /// Every migration of the program, with its set and its checksum.
    pub(crate) migrations: Value,
}

/// What is known of a run when it has ended.
#[derive(Default)]
pub(crate) struct End {
    /// How many schemas had each outcome.
    pub(crate) outcomes: Value,
    /// Why it could not be carried out.
    pub(crate) error: Option<String>,
    /// The schemas to which something happened.
    pub(crate) lines: Vec<PastLine>,
}

/// One migration that was applied to one schema or taken back.
pub(crate) struct Step<'r> {
    pub(crate) schema: &'r str,
    pub(crate) version: &'r str,
    pub(crate) up: bool,
    pub(crate) checksum: &'r str,
}

const TABLES: [&str; 3] = ["run", "run_line", "run_step"];

/// Writes down that a run begins, and returns its number. Makes the tables where there are none.
pub(crate) fn begin(conn: &mut PgConnection, run: &Beginning<'_>) -> Result<i64, Error> {
    #[derive(diesel::QueryableByName)]
    struct Row {
        #[diesel(sql_type = BigInt)]
        id: i64,
    }
    let begin = |conn: &mut PgConnection| {
        own::have(conn, "run_step", include_str!("tables.sql"))?;
        sql_query("INSERT INTO tenantry.run (options, program, migrations) VALUES ($1, $2, $3) RETURNING id")
            .bind::<Jsonb, _>(&run.options)
            .bind::<Text, _>(run.program)
            .bind::<Jsonb, _>(&run.migrations)
            .get_result::<Row>(conn)
    };
    atomically(conn, begin).map(|row| row.id).map_err(|error| own::not_recorded(conn, &TABLES, error))
}

/// Whether another run than this one was the last to begin.
pub(crate) fn is_overtaken(conn: &mut PgConnection, run: i64) -> QueryResult<bool> {
    let overtaken = format!("EXISTS (SELECT FROM tenantry.run WHERE id OPERATOR(pg_catalog.>) {run}::pg_catalog.int8)");
    select(sql::<Bool>(&overtaken)).get_result(conn)
}

/// Writes down which tenants were chosen, where that is not all of them.
pub(crate) fn chose(conn: &mut PgConnection, run: i64, schemas: &[&str]) -> QueryResult<()> {
    sql_query("UPDATE tenantry.run SET schemas = $2 WHERE id OPERATOR(pg_catalog.=) $1")
        .bind::<BigInt, _>(run)
        .bind::<Array<Text>, _>(schemas)
        .execute(conn)
        .map(|_| ())
}

/// The statement that writes down what is done in a transaction.
pub(crate) fn insert_steps<'s>(run: i64, steps: impl Iterator<Item = Step<'s>>) -> String {
    let row = |step: Step<'_>| {
        let text = |text: &str| quote::literal(text);
        format!("({run}, {}, {}, {}, {})", text(step.schema), text(step.version), step.up, text(step.checksum))
    };
    let rows: Vec<String> = steps.map(row).collect();
    format!("INSERT INTO tenantry.run_step (run, schema, version, up, checksum) VALUES {}", rows.join(", "))
}

/// Writes down how a run has ended, in two statements however large the fleet is.
pub(crate) fn end(conn: &mut PgConnection, run: i64, end: &End) -> QueryResult<()> {
    fn all<'l, T>(lines: &'l [PastLine], part: impl Fn(&'l PastLine) -> T) -> Vec<T> {
        lines.iter().map(part).collect()
    }
    atomically(conn, |conn| {
        sql_query(
            "INSERT INTO tenantry.run_line (run, schema, outcome, attempts, duration_ms, error) \
             SELECT $1, * FROM unnest($2, $3, $4, $5, $6) ON CONFLICT DO NOTHING",
        )
        .bind::<BigInt, _>(run)
        .bind::<Array<Text>, _>(all(&end.lines, |line| &line.schema))
        .bind::<Array<Text>, _>(all(&end.lines, |line| &line.outcome))
        .bind::<Array<BigInt>, _>(all(&end.lines, |line| line.attempts))
        .bind::<Array<BigInt>, _>(all(&end.lines, |line| line.duration_ms))
        .bind::<Array<Nullable<Text>>, _>(all(&end.lines, |line| line.error.as_ref()))
        .execute(conn)?;
        sql_query(
            "UPDATE tenantry.run SET ended_at = pg_catalog.clock_timestamp(), outcomes = $2, error = $3 \
             WHERE id OPERATOR(pg_catalog.=) $1",
        )
        .bind::<BigInt, _>(run)
        .bind::<Jsonb, _>(&end.outcomes)
        .bind::<Nullable<Text>, _>(&end.error)
        .execute(conn)?;
        Ok(())
    })
}

/// Deletes what was written of these steps of a run in one schema, since they were not done after all.
pub(crate) fn forget_steps(
    conn: &mut PgConnection,
    run: i64,
    schema: &SchemaName,
    versions: &[&str],
) -> QueryResult<()> {
    sql_query("DELETE FROM tenantry.run_step WHERE run = $1 AND schema = $2 AND version = ANY($3)")
        .bind::<BigInt, _>(run)
        .bind::<Text, _>(schema.as_str())
        .bind::<Array<Text>, _>(versions)
        .execute(conn)
        .map(drop)
}
