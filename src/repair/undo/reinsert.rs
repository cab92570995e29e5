//! Inserts originals again.

use std::collections::{BTreeMap, BTreeSet};

use diesel::{
    PgConnection, QueryResult, QueryableByName, RunQueryDsl,
    connection::SimpleConnection,
    sql_query,
    sql_types::{Array, BigInt, Text},
};

use super::tenant::{Extent, Work, json};
use crate::{
    quote,
    repair::{attempt::refusal, memory::PastChange, order::parents_first, rows, settings::writing},
};

/// Inserts them, and has every constraint checked.
pub(super) fn reinsert(conn: &mut PgConnection, work: &Work<'_>, wanted: &[&PastChange]) -> QueryResult<()> {
    let mut by_table = BTreeMap::<&String, Vec<&PastChange>>::new();
    wanted.iter().for_each(|change| by_table.entry(&change.table).or_default().push(change));
    conn.batch_execute("SET CONSTRAINTS ALL DEFERRED")?;
    for tables in parents_first(by_table.keys().map(|table| (*table).clone()), &work.public.references) {
        let parts: Vec<(&String, &Vec<&PastChange>)> =
            tables.iter().filter_map(|table| Some((table, by_table.get(table)?))).collect();
        insert(conn, work, &parts)?;
    }
    writing(conn, work.schema, |conn| conn.batch_execute("SET CONSTRAINTS ALL IMMEDIATE; SET CONSTRAINTS ALL DEFERRED"))
}

/// Inserts rows of several tables in one statement, after which alone foreign keys are checked that cannot wait.
fn insert(conn: &mut PgConnection, work: &Work<'_>, parts: &[(&String, &Vec<&PastChange>)]) -> QueryResult<()> {
    let (mut steps, mut counts, mut numbers, mut keys, mut images) =
        <(Vec<_>, Vec<_>, Vec<_>, Vec<_>, Vec<_>)>::default();
    for (at, (table, changes)) in parts.iter().enumerate() {
        let key = rows::key_image(&work.public.tables[*table], "t");
        steps.push(format!("i{at} AS ({} RETURNING {key} AS key)", insertion(conn, work, at, table, changes)?));
        let is_told = |key: &&[String]| changes[0].key.as_object().is_some_and(|told| told.keys().eq(sorted(key)));
        let is_known = match rows::primary_key(&work.public.tables[*table]).filter(is_told) {
            Some(_) => format!(
                "key OPERATOR(pg_catalog.=) ANY (SELECT u.key::jsonb FROM unnest($1, $2) u(at, key) \
                 WHERE u.at OPERATOR(pg_catalog.=) {at})"
            ),
            // Columns that were added since are in the image now; a key may be another since.
            None => "true".into(),
        };
        counts.push(format!("SELECT {at}::bigint AS at, pg_catalog.count(*) AS rows FROM i{at} WHERE {is_known}"));
        for change in *changes {
            numbers.push(at as i64);
            keys.push(change.key.to_string());
            images.push(json(change.before.as_ref()));
        }
    }
    let reinsert = sql_query(format!("WITH {} {}", steps.join(", "), counts.join(" UNION ALL ")))
        .bind::<Array<BigInt>, _>(numbers)
        .bind::<Array<Text>, _>(keys)
        .bind::<Array<Text>, _>(images);
    let inserted: Vec<Inserted> = writing(conn, work.schema, |conn| reinsert.load(conn))?;
    for Inserted { at, rows } in inserted {
        let (table, changes) = parts[at as usize];
        if rows != changes.len() as i64 {
            return Err(refusal(format!("a trigger of public.{table} does not let it in as it was")));
        }
    }
    Ok(())
}

fn sorted(columns: &[String]) -> impl Iterator<Item = &String> {
    columns.iter().collect::<BTreeSet<_>>().into_iter()
}

/// The statement that inserts those rows of the parameters that are numbered like this table.
fn insertion(
    conn: &mut PgConnection,
    work: &Work<'_>,
    at: usize,
    table: &str,
    changes: &[&PastChange],
) -> QueryResult<String> {
    let structure = &work.public.tables[table];
    let types = rows::types(conn, "public", table)?;
    // A column that was added since has its default.
    let is_known =
        |name: &str| changes.iter().any(|change| change.before.as_ref().is_some_and(|row| row.get(name).is_some()));
    let (mut names, mut values): (Vec<String>, Vec<String>) = rows::written(structure)
        .filter(|column| is_known(&column.name))
        .map(|column| {
            let kind = types.get(&column.name).map_or("text", String::as_str);
            let value =
                format!("(u.image::jsonb OPERATOR(pg_catalog.->>) {}::text)::{kind}", quote::literal(&column.name));
            (quote::identifier(&column.name), value)
        })
        .unzip();
    if work.extent == Extent::Rehearsal {
        // A rehearsal draws no number.
        for column in rows::written(structure).filter(|column| column.numbered && !is_known(&column.name)) {
            let name = quote::identifier(&column.name);
            let from = quote::qualified("public", table);
            values.push(format!(
                "(SELECT coalesce(pg_catalog.max({name}), 0) FROM {from}) \
                 OPERATOR(pg_catalog.+) pg_catalog.row_number() OVER ()"
            ));
            names.push(name);
        }
    }
    let overriding =
        if structure.columns.iter().any(|column| column.identity) { "OVERRIDING SYSTEM VALUE" } else { "" };
    Ok(format!(
        "INSERT INTO {} AS t ({}) {overriding} SELECT {} FROM unnest($1, $3) u(at, image) \
         WHERE u.at OPERATOR(pg_catalog.=) {at}",
        quote::qualified("public", table),
        names.join(", "),
        values.join(", "),
    ))
}

/// How many rows of a part are there under their keys.
#[derive(QueryableByName)]
struct Inserted {
    #[diesel(sql_type = BigInt)]
    at: i64,
    #[diesel(sql_type = BigInt)]
    rows: i64,
}
