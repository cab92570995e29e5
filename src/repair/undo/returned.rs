//! Puts the originals back that a repair has removed from `public`.

use diesel::{
    PgConnection, QueryResult, QueryableByName, RunQueryDsl,
    connection::SimpleConnection,
    sql_query,
    sql_types::{Array, BigInt, Text},
};

use super::{inserted::json, tenant::Work, updated::types_in};
use crate::{
    SchemaName, quote,
    repair::{
        Copied,
        memory::{PastChange, What},
        rows,
    },
};

pub(super) fn put_back(conn: &mut PgConnection, work: &mut Work<'_>) -> QueryResult<()> {
    let mut tables: Vec<(String, Vec<PastChange>)> = work.of(What::Deleted).into_iter().collect();
    // Children were removed first.
    tables.sort_by_key(|(_, changes)| std::cmp::Reverse(changes.iter().map(|change| change.id).max()));
    if !tables.is_empty() && !work.dry_run {
        conn.batch_execute("SET CONSTRAINTS ALL DEFERRED")?;
    }
    for (table, changes) in tables {
        let back = insert(conn, work, &table, &changes)?;
        let rows = back.len() as i64;
        if rows > 0 {
            work.undone.returned.push(Copied { table: table.clone(), rows });
        }
        for change in changes {
            match back.contains(&change.id) {
                true => work.done.push(change.id),
                false => work.keep(&format!("public.{table}"), &change.key, "is there again"),
            }
        }
    }
    if !work.undone.returned.is_empty() && !work.dry_run {
        conn.batch_execute("SET CONSTRAINTS ALL IMMEDIATE; SET CONSTRAINTS ALL DEFERRED")?;
    }
    Ok(())
}

/// Inserts them, and returns the changes of which the row was not there.
fn insert(conn: &mut PgConnection, work: &Work<'_>, table: &str, changes: &[PastChange]) -> QueryResult<Vec<i64>> {
    #[derive(QueryableByName)]
    struct Free {
        #[diesel(sql_type = BigInt)]
        id: i64,
    }
    let Some(structure) = work.public.tables.get(table) else { return Ok(Vec::new()) };
    let (name, only) = (quote::qualified("public", table), work.public.only("public", table));
    // Rows without a key may be alike.
    let taken = match rows::primary_key(structure) {
        Some(_) => format!("EXISTS (SELECT FROM {only} p WHERE {} = u.key::jsonb)", rows::key_image(structure, "p")),
        None => "false".into(),
    };
    let free: Vec<Free> = sql_query(format!("SELECT u.id FROM unnest($1, $2) u(id, key) WHERE NOT {taken}"))
        .bind::<Array<BigInt>, _>(changes.iter().map(|change| change.id).collect::<Vec<_>>())
        .bind::<Array<Text>, _>(changes.iter().map(|change| change.key.to_string()).collect::<Vec<_>>())
        .load(conn)?;
    let free: Vec<i64> = free.into_iter().map(|row| row.id).collect();
    if work.dry_run || free.is_empty() {
        return Ok(free);
    }
    let types = types_in(conn, SchemaName::public().as_str(), table)?;
    let (names, values): (Vec<String>, Vec<String>) = rows::written(structure)
        .map(|column| {
            let kind = types.get(&column.name).map_or("text", String::as_str);
            let value = format!("(u.before::jsonb ->> {})::{kind}", quote::literal(&column.name));
            (quote::identifier(&column.name), value)
        })
        .unzip();
    let overriding =
        if structure.columns.iter().any(|column| column.identity) { "OVERRIDING SYSTEM VALUE" } else { "" };
    let images: Vec<String> =
        changes.iter().filter(|change| free.contains(&change.id)).map(|change| json(change.before.as_ref())).collect();
    sql_query(format!(
        "INSERT INTO {name} ({}) {overriding} SELECT {} FROM unnest($1) u(before)",
        names.join(", "),
        values.join(", ")
    ))
    .bind::<Array<Text>, _>(images)
    .execute(conn)?;
    Ok(free)
}
