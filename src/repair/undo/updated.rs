//! Empties the columns that a repair has filled.

use std::collections::BTreeMap;

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
    for (table, mut changes) in work.of(What::Updated) {
        // The last change of a row first: what was there before it is what the one before has left.
        changes.reverse();
        let mut by_columns = Vec::<(Vec<String>, Vec<PastChange>)>::new();
        for change in changes {
            let columns = changed(&change);
            match by_columns.last_mut() {
                Some((same, all)) if *same == columns => all.push(change),
                _ => by_columns.push((columns, vec![change])),
            }
        }
        let mut overtaken = BTreeMap::new();
        for (columns, changes) in by_columns {
            put_back(conn, work, &table, &columns, changes, &mut overtaken)?;
        }
    }
    Ok(())
}

/// The columns in which a row was changed.
fn changed(change: &PastChange) -> Vec<String> {
    let (Some(before), Some(after)) = (&change.before, &change.after) else { return Vec::new() };
    let columns = after.as_object().into_iter().flatten();
    columns.filter(|(name, value)| before.get(name) != Some(*value)).map(|(name, _)| name.clone()).collect()
}

fn put_back(
    conn: &mut PgConnection,
    work: &mut Work<'_>,
    table: &str,
    columns: &[String],
    changes: Vec<PastChange>,
    expected: &mut BTreeMap<String, serde_json::Value>,
) -> QueryResult<()> {
    #[derive(QueryableByName)]
    struct Found {
        #[diesel(sql_type = BigInt)]
        id: i64,
    }
    let found: Vec<Found> = match work.tenant.tables.get(table) {
        Some(structure) if work.tenant.has(table, columns) && !columns.is_empty() => {
            let types = types(conn, work, table)?;
            let is_as_it_was = format!("{} @> u.after::jsonb", rows::image(structure, "t"));
            let key = rows::key_image(structure, "t");
            let from = "unnest($1, $2, $3, $4) u(id, key, before, after)";
            let name = work.tenant.only(&work.schema.quoted(), table);
            let set: Vec<String> = columns
                .iter()
                .map(|column| {
                    let kind = types.get(column).map_or("text", String::as_str);
                    let value = format!("(u.before::jsonb ->> {})::{kind}", quote::literal(column));
                    format!("{} = {value}", quote::identifier(column))
                })
                .collect();
            // A dry run has not emptied what was filled later: what it finds is what the last change has left.
            let query = match work.dry_run {
                true => format!("SELECT u.id FROM {name} t JOIN {from} ON {key} = u.key::jsonb AND {is_as_it_was}"),
                false => format!(
                    "UPDATE {name} t SET {} FROM {from} WHERE {key} = u.key::jsonb AND {is_as_it_was} RETURNING u.id",
                    set.join(", ")
                ),
            };
            let after = |change: &PastChange| match work.dry_run {
                true => json(expected.get(&change.key.to_string()).or(change.after.as_ref())),
                false => json(change.after.as_ref()),
            };
            sql_query(query)
                .bind::<Array<BigInt>, _>(changes.iter().map(|change| change.id).collect::<Vec<_>>())
                .bind::<Array<Text>, _>(changes.iter().map(|change| change.key.to_string()).collect::<Vec<_>>())
                .bind::<Array<Text>, _>(changes.iter().map(|change| json(change.before.as_ref())).collect::<Vec<_>>())
                .bind::<Array<Text>, _>(changes.iter().map(after).collect::<Vec<_>>())
                .load(conn)?
        }
        _ => Vec::new(),
    };
    let mut rows = 0;
    for change in changes {
        if let (true, Some(after)) = (work.dry_run, &change.after) {
            expected.entry(change.key.to_string()).or_insert_with(|| after.clone());
        }
        match found.iter().any(|found| found.id == change.id) {
            true => {
                rows += 1;
                work.done.push(change.id);
            }
            false => work.keep(table, &change.key, "was changed since, or is gone"),
        }
    }
    if rows > 0 {
        work.undone.emptied.push(Filled { table: table.into(), column: columns.join(", "), rows });
    }
    Ok(())
}

/// The types of a table's columns, as they are written.
pub(super) fn types(conn: &mut PgConnection, work: &Work<'_>, table: &str) -> QueryResult<BTreeMap<String, String>> {
    types_in(conn, work.schema.as_str(), table)
}

/// [`types`] of a table of any schema.
pub(in crate::repair) fn types_in(
    conn: &mut PgConnection,
    schema: &str,
    table: &str,
) -> QueryResult<BTreeMap<String, String>> {
    #[derive(QueryableByName)]
    struct Kind {
        #[diesel(sql_type = Text)]
        name: String,
        #[diesel(sql_type = Text)]
        kind: String,
    }
    let kinds: Vec<Kind> = sql_query(
        "SELECT a.attname::text AS name, format_type(a.atttypid, a.atttypmod) AS kind \
         FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid \
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE n.nspname = $1 AND c.relname = $2 AND a.attnum > 0 AND NOT a.attisdropped",
    )
    .bind::<Text, _>(schema)
    .bind::<Text, _>(table)
    .load(conn)?;
    Ok(kinds.into_iter().map(|Kind { name, kind }| (name, kind)).collect())
}
