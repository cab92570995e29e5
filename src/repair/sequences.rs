//! Moves sequences on: a number that was copied does not advance the sequence from which the next one is drawn.

use diesel::{
    OptionalExtension, PgConnection, QueryResult, RunQueryDsl, sql_query,
    sql_types::{BigInt, Bool, Nullable, Text},
};
use serde_json::json;

use super::{
    Advanced,
    memory::{Change, Recorder, What},
};
use crate::{SchemaName, pg::tables::Tables, quote};

/// Where a sequence stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, diesel::QueryableByName)]
pub(super) struct Standing {
    #[diesel(sql_type = BigInt)]
    pub(super) last_value: i64,
    #[diesel(sql_type = Bool)]
    pub(super) is_called: bool,
}

/// A sequence that numbers a column, and where it stood when it was looked at.
#[derive(Debug)]
pub(super) struct Sequence {
    table: String,
    column: String,
    /// Quoted and qualified.
    name: String,
    before: Standing,
    /// The largest number of the column then.
    largest: Option<i64>,
}

/// Where the sequences of these tables stand.
pub(super) fn look<'t>(
    conn: &mut PgConnection,
    schema: &SchemaName,
    tenant: &Tables,
    tables: impl Iterator<Item = &'t String>,
) -> QueryResult<Vec<Sequence>> {
    let mut found = Vec::new();
    for table in tables {
        for column in tenant.columns(table).iter().filter(|column| !column.descends) {
            let Some(sequence) = &column.sequence else { continue };
            let name = quote::qualified(schema.as_str(), sequence);
            if let Some(before) = standing(conn, &name)? {
                let largest = largest(conn, schema, table, &column.name, &name)?;
                found.push(Sequence { table: table.clone(), column: column.name.clone(), name, before, largest });
            }
        }
    }
    Ok(found)
}

/// Has the sequences of one table begin behind the largest numbers of their columns, for now.
pub(super) fn catch_up(
    conn: &mut PgConnection,
    schema: &SchemaName,
    tenant: &Tables,
    table: &String,
) -> QueryResult<()> {
    let sequences = look(conn, schema, tenant, std::iter::once(table))?;
    advance(conn, schema, sequences, false, &Recorder::silent(schema)).map(|_| ())
}

/// Has the sequences begin behind the largest numbers of their columns, and tells which had to be moved. Since no
/// rollback takes that back, a rehearsal moves none.
pub(super) fn advance(
    conn: &mut PgConnection,
    schema: &SchemaName,
    sequences: Vec<Sequence>,
    rehearsal: bool,
    recorder: &Recorder<'_>,
) -> QueryResult<Vec<Advanced>> {
    let mut advanced = Vec::new();
    for Sequence { table, column, name, before, largest: largest_before } in sequences {
        let Some(mut now) = standing(conn, &name)? else { continue };
        let largest = largest(conn, schema, &table, &column, &name)?;
        let is_behind = largest.filter(|largest| (*largest, true) > (now.last_value, now.is_called));
        if let Some(last_value) = is_behind {
            now = Standing { last_value, is_called: true };
            if !rehearsal {
                set(conn, &name, now)?;
            }
        }
        if now != before {
            let image = |at: Standing| json!({ "last_value": at.last_value, "is_called": at.is_called });
            let mut image_before = image(before);
            image_before["largest"] = json!(largest_before);
            let change = Change {
                key: json!({ "sequence": name, "column": column }).to_string(),
                before: Some(image_before.to_string()),
                after: Some(image(now).to_string()),
            };
            recorder.write(conn, &table, What::Sequence, &[change])?;
            advanced.push(Advanced { table, column, last_value: now.last_value });
        }
    }
    Ok(advanced)
}

/// The largest number of a column.
pub(super) fn largest(
    conn: &mut PgConnection,
    schema: &SchemaName,
    table: &str,
    column: &str,
    sequence: &str,
) -> QueryResult<Option<i64>> {
    #[derive(diesel::QueryableByName)]
    struct Largest {
        #[diesel(sql_type = Nullable<BigInt>)]
        largest: Option<i64>,
    }
    let table = format!("{}.{}", schema.quoted(), quote::identifier(table));
    // No further than its sequence can count.
    let found: Option<Largest> = sql_query(format!(
        "SELECT CASE WHEN max({column}) IS NOT NULL THEN least(max({column}), s.seqmax) END::bigint AS largest \
         FROM {table}, pg_catalog.pg_sequence s WHERE s.seqrelid = $1::regclass GROUP BY s.seqmax",
        column = quote::identifier(column)
    ))
    .bind::<Text, _>(sequence)
    .get_result(conn)
    .optional()?;
    Ok(found.and_then(|found| found.largest))
}

/// Where the sequence of this quoted name stands; `None` where there is none.
pub(super) fn standing(conn: &mut PgConnection, name: &str) -> QueryResult<Option<Standing>> {
    #[derive(diesel::QueryableByName)]
    struct There {
        #[diesel(sql_type = Bool)]
        there: bool,
    }
    let There { there } =
        sql_query("SELECT to_regclass($1) IS NOT NULL AS there").bind::<Text, _>(name).get_result(conn)?;
    match there {
        true => sql_query(format!("SELECT last_value, is_called FROM {name}")).get_result(conn).optional(),
        false => Ok(None),
    }
}

pub(super) fn set(conn: &mut PgConnection, name: &str, to: Standing) -> QueryResult<()> {
    sql_query("SELECT setval($1::regclass, $2, $3)")
        .bind::<Text, _>(name)
        .bind::<BigInt, _>(to.last_value)
        .bind::<Bool, _>(to.is_called)
        .execute(conn)
        .map(|_| ())
}
