//! The copies that a repair has made, and that nobody has changed since.

use std::collections::BTreeMap;

use diesel::{
    PgConnection, QueryResult, QueryableByName, RunQueryDsl, sql_query,
    sql_types::{Array, BigInt, Bool, Nullable, Text},
};

use super::{
    original::has_original,
    tenant::{Work, json},
};
use crate::{
    quote,
    repair::{
        memory::{PastChange, What},
        rows::{self, Place},
    },
};

/// For each table, the copies to remove by place, each with the change that made it.
pub(super) type Copies = BTreeMap<String, BTreeMap<Place, PastChange>>;

/// The copies that are as the repair has made them. The others are kept.
pub(super) fn unchanged(
    conn: &mut PgConnection,
    work: &mut Work<'_>,
    table: &str,
    changes: Vec<PastChange>,
) -> QueryResult<BTreeMap<Place, PastChange>> {
    #[derive(QueryableByName)]
    struct Match {
        #[diesel(sql_type = BigInt)]
        id: i64,
        #[diesel(sql_type = Text)]
        place: Place,
        #[diesel(sql_type = Bool)]
        same: bool,
        /// Whether `public` has what it was copied from, or gets it back.
        #[diesel(sql_type = Bool)]
        original: bool,
    }
    let come_back: Vec<String> = work
        .of(What::Deleted)
        .remove(table)
        .into_iter()
        .flatten()
        .filter(|change| work.done.contains(&change.id))
        .map(|change| change.key.to_string())
        .collect();
    let matches: Vec<Match> = match work.tenant.tables.get(table) {
        None => Vec::new(),
        Some(structure) => sql_query(format!(
            "SELECT u.id, {place} AS place, {image} @> u.after::jsonb AND {untouched} AS same, \
                    {original} OR {returned} AS original \
             FROM {table} t JOIN unnest($1, $2, $3) u(id, key, after) ON {key} = u.key::jsonb {lock}",
            place = rows::place("t"),
            image = rows::image(structure, "t"),
            untouched = untouched(conn, work, table, &changes)?,
            original = has_original(work, table),
            returned = rows::is_among("u.key", 4),
            key = rows::key_image(structure, "t"),
            table = work.tenant.only(&work.schema.quoted(), table),
            lock = if work.writes() { "FOR UPDATE OF t" } else { "" },
        ))
        .bind::<Array<BigInt>, _>(changes.iter().map(|change| change.id).collect::<Vec<_>>())
        .bind::<Array<Text>, _>(changes.iter().map(|change| change.key.to_string()).collect::<Vec<_>>())
        .bind::<Array<Text>, _>(changes.iter().map(|change| json(change.after.as_ref())).collect::<Vec<_>>())
        .bind::<Array<Text>, _>(come_back)
        .load(conn)?,
    };
    let mut by_change = BTreeMap::<i64, Vec<Match>>::new();
    matches.into_iter().for_each(|one| by_change.entry(one.id).or_default().push(one));
    let mut found = BTreeMap::new();
    for change in changes {
        let of_change = by_change.remove(&change.id).unwrap_or_default();
        let is_there = !of_change.is_empty();
        // Rows without a key may be alike: each stands for one of the copies.
        match of_change.iter().find(|one| one.same && !found.contains_key(&one.place)) {
            Some(one) if !one.original => work.keep(table, &change.key, "has no original in public any more"),
            Some(one) => {
                found.insert(one.place.clone(), change);
            }
            None if is_there => work.keep(table, &change.key, "was changed since"),
            None => work.keep(table, &change.key, "is gone"),
        }
    }
    Ok(found)
}

/// The condition that nobody has written into the columns of the row `t` that were added since: a column says nothing
/// of the row as long as it has what all rows got with it.
fn untouched(conn: &mut PgConnection, work: &Work<'_>, table: &str, changes: &[PastChange]) -> QueryResult<String> {
    #[derive(QueryableByName)]
    struct Given {
        #[diesel(sql_type = Text)]
        name: String,
        #[diesel(sql_type = Nullable<Text>)]
        value: Option<String>,
    }
    let is_known =
        |name: &str| changes.iter().any(|change| change.after.as_ref().is_some_and(|after| after.get(name).is_some()));
    let new = rows::written(&work.tenant.tables[table]).map(|column| &column.name).filter(|name| !is_known(name));
    let given: Vec<Given> = sql_query(
        "SELECT a.attname::text AS name, (a.attmissingval::text::text[])[1] AS value FROM pg_catalog.pg_attribute a \
         JOIN pg_catalog.pg_class c ON c.oid = a.attrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE n.nspname = $1 AND c.relname = $2 AND a.attname = ANY ($3) AND NOT a.attisdropped",
    )
    .bind::<Text, _>(work.schema.as_str())
    .bind::<Text, _>(table)
    .bind::<Array<Text>, _>(new.collect::<Vec<_>>())
    .load(conn)?;
    let conditions = given.into_iter().map(|Given { name, value }| {
        let column = rows::column("t", &name);
        match value {
            Some(value) => format!("coalesce({column}::text = {}, true)", quote::literal(&value)),
            None => format!("{column} IS NULL"),
        }
    });
    Ok(conditions.chain(["true".into()]).collect::<Vec<_>>().join(" AND "))
}
