//! Puts the originals back that a repair has removed from `public`.

use std::collections::BTreeMap;

use diesel::{
    PgConnection, QueryResult, QueryableByName, RunQueryDsl,
    connection::SimpleConnection,
    sql_query,
    sql_types::{Array, BigInt, Text},
};

use super::tenant::{Work, json};
use crate::{
    quote,
    repair::{
        Copied,
        memory::{PastChange, What},
        order::parents_first,
        rows,
    },
};

pub(super) fn put_back(conn: &mut PgConnection, work: &mut Work<'_>) -> QueryResult<()> {
    let deleted = work.of(What::Deleted);
    if deleted.is_empty() {
        return Ok(());
    }
    if !work.dry_run {
        conn.batch_execute("SET CONSTRAINTS ALL DEFERRED")?;
    }
    for group in parents_first(deleted.keys().cloned(), &work.public.references) {
        let mut free = BTreeMap::new();
        for table in group {
            let changes = &deleted[&table];
            let back = those_that_are_gone(conn, work, &table, changes)?;
            let (back, there): (Vec<_>, Vec<_>) = changes.iter().partition(|change| back.contains(&change.id));
            for change in there {
                work.keep(&format!("public.{table}"), &change.key, "is there again");
            }
            if !back.is_empty() {
                free.insert(table, back);
            }
        }
        if !work.dry_run {
            insert(conn, work, &free)?;
        }
        for (table, changes) in free {
            work.done.extend(changes.iter().map(|change| change.id));
            work.undone.returned.push(Copied { table, rows: changes.len() as i64 });
        }
    }
    if !work.dry_run {
        conn.batch_execute("SET CONSTRAINTS ALL IMMEDIATE; SET CONSTRAINTS ALL DEFERRED")?;
    }
    Ok(())
}

/// The changes whose row is not there.
fn those_that_are_gone(
    conn: &mut PgConnection,
    work: &Work<'_>,
    table: &str,
    changes: &[PastChange],
) -> QueryResult<Vec<i64>> {
    #[derive(QueryableByName)]
    struct Gone {
        #[diesel(sql_type = BigInt)]
        id: i64,
    }
    let Some(structure) = work.public.tables.get(table) else { return Ok(Vec::new()) };
    // Rows without a key may be alike.
    let is_there = match rows::primary_key(structure) {
        Some(_) => {
            let name = work.public.only("public", table);
            format!("EXISTS (SELECT FROM {name} p WHERE {} = u.key::jsonb)", rows::key_image(structure, "p"))
        }
        None => "false".into(),
    };
    let gone: Vec<Gone> = sql_query(format!("SELECT u.id FROM unnest($1, $2) u(id, key) WHERE NOT {is_there}"))
        .bind::<Array<BigInt>, _>(changes.iter().map(|change| change.id).collect::<Vec<_>>())
        .bind::<Array<Text>, _>(changes.iter().map(|change| change.key.to_string()).collect::<Vec<_>>())
        .load(conn)?;
    Ok(gone.into_iter().map(|row| row.id).collect())
}

/// Inserts rows of several tables in one statement, after which alone foreign keys are checked that cannot wait.
fn insert(conn: &mut PgConnection, work: &Work<'_>, free: &BTreeMap<String, Vec<&PastChange>>) -> QueryResult<()> {
    let (mut inserts, mut numbers, mut images) = (Vec::new(), Vec::new(), Vec::new());
    for (at, (table, changes)) in free.iter().enumerate() {
        let structure = &work.public.tables[table];
        let types = rows::types(conn, "public", table)?;
        // A column that was added since has its default.
        let is_known =
            |name: &str| changes.iter().any(|change| change.before.as_ref().is_some_and(|row| row.get(name).is_some()));
        let (names, values): (Vec<String>, Vec<String>) = rows::written(structure)
            .filter(|column| is_known(&column.name))
            .map(|column| {
                let kind = types.get(&column.name).map_or("text", String::as_str);
                let value = format!("(u.before::jsonb ->> {})::{kind}", quote::literal(&column.name));
                (quote::identifier(&column.name), value)
            })
            .unzip();
        let overriding =
            if structure.columns.iter().any(|column| column.identity) { "OVERRIDING SYSTEM VALUE" } else { "" };
        inserts.push(format!(
            "i{at} AS (INSERT INTO {} ({}) {overriding} SELECT {} FROM unnest($1, $2) u(at, before) WHERE u.at = {at})",
            quote::qualified("public", table),
            names.join(", "),
            values.join(", "),
        ));
        for change in changes {
            numbers.push(at as i64);
            images.push(json(change.before.as_ref()));
        }
    }
    if inserts.is_empty() {
        return Ok(());
    }
    sql_query(format!("WITH {} SELECT", inserts.join(", ")))
        .bind::<Array<BigInt>, _>(numbers)
        .bind::<Array<Text>, _>(images)
        .execute(conn)
        .map(|_| ())
}
