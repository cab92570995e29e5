//! Empties the columns that a repair has filled.

use std::collections::{BTreeMap, BTreeSet};

use diesel::{
    PgConnection, QueryResult, QueryableByName, RunQueryDsl,
    connection::SimpleConnection,
    sql_query,
    sql_types::{Array, BigInt, Bool, Text},
};

use super::tenant::{Work, json};
use crate::{
    Error, quote,
    repair::{
        Filled,
        attempt::{attempt, refusal},
        memory::{PastChange, What},
        rows::{self, Place},
        settings::writing,
    },
};

pub(super) fn empty(conn: &mut PgConnection, work: &mut Work<'_>) -> Result<(), Error> {
    for (table, changes) in work.of(What::Updated) {
        let mut by_column = BTreeMap::<String, Vec<PastChange>>::new();
        for change in changes {
            let column = change.after.as_ref().and_then(|after| after.as_object()?.keys().next().cloned());
            by_column.entry(column.unwrap_or_default()).or_default().push(change);
        }
        for (column, changes) in by_column {
            put_back(conn, work, &table, column, changes)?;
        }
    }
    Ok(())
}

fn put_back(
    conn: &mut PgConnection,
    work: &mut Work<'_>,
    table: &str,
    column: String,
    changes: Vec<PastChange>,
) -> Result<(), Error> {
    let mut found = match work.tenant.tables.get(table) {
        Some(_) if work.tenant.has(table, std::slice::from_ref(&column)) => {
            as_filled(conn, work, table, &column, &changes)?
        }
        _ => BTreeMap::new(),
    };
    if work.writes() && !found.is_empty() {
        // Somebody may have forbidden nulls since.
        match attempt(conn, |conn| set_null(conn, work, table, &column, &found))? {
            Ok(emptied) => found.retain(|id, _| emptied.contains(id)),
            Err(words) => {
                let why = format!("may not be null again: {words}");
                changes.iter().for_each(|change| work.keep(table, &change.key, &why));
                return Ok(());
            }
        }
    }
    for change in changes {
        match found.contains_key(&change.id) {
            true => work.done.push(change.id),
            false => work.keep(table, &change.key, "was changed since, or is gone"),
        }
    }
    if !found.is_empty() {
        work.undone.emptied.push(Filled { table: table.into(), column, rows: found.len() as i64 });
    }
    Ok(())
}

/// For each change whose row is as it was filled, that row. Rows without a key may be alike: each stands for one.
fn as_filled(
    conn: &mut PgConnection,
    work: &Work<'_>,
    table: &str,
    column: &str,
    changes: &[PastChange],
) -> QueryResult<BTreeMap<i64, Place>> {
    #[derive(QueryableByName)]
    struct Match {
        #[diesel(sql_type = BigInt)]
        id: i64,
        #[diesel(sql_type = Text)]
        place: Place,
    }
    let structure = &work.tenant.tables[table];
    let matches: Vec<Match> = sql_query(format!(
        "SELECT u.id, {place} AS place FROM {table} t JOIN unnest($1, $2, $3) u(id, key, after) \
         ON {key} = u.key::jsonb AND {after} = u.after::jsonb {lock}",
        place = rows::place("t"),
        table = work.tenant.only(&work.schema.quoted(), table),
        key = rows::key_image(structure, "t"),
        after = rows::image_of(std::iter::once(column), "t"),
        lock = if work.writes() { "FOR UPDATE OF t" } else { "" },
    ))
    .bind::<Array<BigInt>, _>(changes.iter().map(|change| change.id).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(changes.iter().map(|change| change.key.to_string()).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(changes.iter().map(|change| json(change.after.as_ref())).collect::<Vec<_>>())
    .load(conn)?;
    let (mut found, mut taken) = (BTreeMap::new(), BTreeSet::new());
    for Match { id, place } in matches {
        if !found.contains_key(&id) && taken.insert(place.clone()) {
            found.insert(id, place);
        }
    }
    Ok(found)
}

/// Sets the column null in these rows, and tells of which changes that was done.
fn set_null(
    conn: &mut PgConnection,
    work: &Work<'_>,
    table: &str,
    column: &str,
    rows: &BTreeMap<i64, Place>,
) -> QueryResult<BTreeSet<i64>> {
    #[derive(QueryableByName)]
    struct Emptied {
        #[diesel(sql_type = BigInt)]
        id: i64,
        #[diesel(sql_type = Bool)]
        empty: bool,
    }
    let update = sql_query(format!(
        "UPDATE {table} t SET {column} = NULL FROM unnest($1, $2) u(id, place) \
         WHERE {at} AND {place} OPERATOR(pg_catalog.=) u.place \
         RETURNING u.id, t.{column} IS NULL AS empty",
        table = work.tenant.only(&work.schema.quoted(), table),
        column = quote::identifier(column),
        at = rows::is_at("t", 2),
        place = rows::place("t"),
    ))
    .bind::<Array<BigInt>, _>(rows.keys().collect::<Vec<_>>())
    .bind::<Array<Text>, _>(rows.values().collect::<Vec<_>>());
    let emptied: Vec<Emptied> = writing(conn, work.schema, |conn| {
        let emptied: Vec<Emptied> = update.load(conn)?;
        if emptied.iter().any(|row| !row.empty) {
            return Err(refusal(format!("a trigger of {table} fills {column} again")));
        }
        conn.batch_execute("SET CONSTRAINTS ALL IMMEDIATE; SET CONSTRAINTS ALL DEFERRED")?;
        Ok(emptied)
    })?;
    Ok(emptied.into_iter().map(|row| row.id).collect())
}
