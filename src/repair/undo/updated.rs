//! Empties the columns that a repair has filled.

use std::collections::{BTreeMap, BTreeSet};

use diesel::{
    PgConnection, QueryResult, QueryableByName, RunQueryDsl, sql_query,
    sql_types::{Array, BigInt, Text},
};

use super::{inserted::json, tenant::Work};
use crate::{
    quote,
    repair::{
        Filled,
        memory::{PastChange, What},
        rows,
    },
};

pub(super) fn empty(conn: &mut PgConnection, work: &mut Work<'_>) -> QueryResult<()> {
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
) -> QueryResult<()> {
    #[derive(QueryableByName)]
    struct Found {
        #[diesel(sql_type = BigInt)]
        id: i64,
    }
    let found: Vec<Found> = match work.tenant.tables.get(table) {
        Some(structure) if work.tenant.has(table, std::slice::from_ref(&column)) => {
            let name = work.tenant.only(&work.schema.quoted(), table);
            let from = "unnest($1, $2, $3) u(id, key, after)";
            let is_as_filled = format!(
                "{} = u.key::jsonb AND {} = u.after::jsonb",
                rows::key_image(structure, "t"),
                rows::image_of(std::iter::once(column.as_str()), "t"),
            );
            let query = match work.dry_run {
                true => format!("SELECT u.id FROM {name} t JOIN {from} ON {is_as_filled}"),
                false => format!(
                    "UPDATE {name} t SET {} = NULL FROM {from} WHERE {is_as_filled} RETURNING u.id",
                    quote::identifier(&column)
                ),
            };
            sql_query(query)
                .bind::<Array<BigInt>, _>(changes.iter().map(|change| change.id).collect::<Vec<_>>())
                .bind::<Array<Text>, _>(changes.iter().map(|change| change.key.to_string()).collect::<Vec<_>>())
                .bind::<Array<Text>, _>(changes.iter().map(|change| json(change.after.as_ref())).collect::<Vec<_>>())
                .load(conn)?
        }
        _ => Vec::new(),
    };
    let found: BTreeSet<i64> = found.into_iter().map(|found| found.id).collect();
    for change in changes {
        match found.contains(&change.id) {
            true => work.done.push(change.id),
            false => work.keep(table, &change.key, "was changed since, or is gone"),
        }
    }
    if !found.is_empty() {
        work.undone.emptied.push(Filled { table: table.into(), column, rows: found.len() as i64 });
    }
    Ok(())
}
