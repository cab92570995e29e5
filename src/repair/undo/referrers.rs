//! Rows that refer to copies.

use std::collections::BTreeMap;

use diesel::{
    PgConnection, QueryResult, QueryableByName, RunQueryDsl, sql_query,
    sql_types::{Array, Text},
};

use super::{
    copies::Copies,
    tenant::{Work, json},
};
use crate::{
    doctor::{references, same_key},
    pg::tables::Reference,
    repair::{
        memory::{PastChange, What},
        outside::{Outside, outside},
        rows::{self, Place},
    },
};

/// Keeps the copies to which rows refer that were not there, or did not refer to them in vain, before the repair.
pub(super) fn keep_referred_to(conn: &mut PgConnection, work: &mut Work<'_>, copies: &mut Copies) -> QueryResult<()> {
    let references = references(&work.tenant, &work.public);
    let outside = outside(conn, work.schema)?;
    loop {
        let mut kept = Vec::new();
        for outside in outside.iter().filter(|outside| copies.contains_key(&outside.parent)) {
            for place in referred_to_outside(conn, work, outside, copies)? {
                kept.push((outside.parent.clone(), place, outside.child()));
            }
        }
        for reference in references.iter().filter(|reference| copies.contains_key(&reference.parent)) {
            for place in referred_to(conn, work, reference, copies, Referrers::New)? {
                kept.push((reference.parent.clone(), place, reference.child.clone()));
            }
        }
        let before = copies.values().map(BTreeMap::len).sum::<usize>();
        for (table, place, child) in kept {
            let change = copies.get_mut(&table).and_then(|rows| rows.remove(&place));
            if let Some(change) = change {
                work.keep(
                    &table,
                    &change.key,
                    &format!("is referred to by rows of {child} that are newer, or were kept"),
                );
            }
        }
        if copies.values().map(BTreeMap::len).sum::<usize>() == before {
            return Ok(());
        }
    }
}

/// Which of a row's referrers count.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Referrers {
    /// Those that neither are removed nor referred in vain before the repair.
    New,
    /// All that are not removed.
    Any,
}

#[derive(QueryableByName)]
struct At {
    #[diesel(sql_type = Text)]
    place: Place,
}

/// The places of the copies that are referred to.
pub(super) fn referred_to(
    conn: &mut PgConnection,
    work: &Work<'_>,
    reference: &Reference,
    copies: &Copies,
    which: Referrers,
) -> QueryResult<Vec<Place>> {
    let places = |table: &str| copies.get(table).map(|rows| rows.keys().collect::<Vec<_>>()).unwrap_or_default();
    let known: Vec<(String, String)> = match which {
        Referrers::Any => Vec::new(),
        Referrers::New => {
            let referred =
                |change: &&PastChange| change.what == What::Referred.word() && change.table == reference.child;
            work.changes
                .iter()
                .filter(referred)
                .map(|change| (change.key.to_string(), json(change.before.as_ref())))
                .collect()
        }
    };
    let (keys, refers): (Vec<String>, Vec<String>) = known.into_iter().unzip();
    let found: Vec<At> = sql_query(format!(
        "SELECT DISTINCT {place} AS place FROM {parent} p JOIN {child} c ON {same} \
         WHERE {at} AND {staying} \
           AND NOT EXISTS (SELECT FROM unnest($3::text[], $4::text[]) u(key, refers) \
                           WHERE u.key::jsonb = {key} AND u.refers::jsonb = {refers})",
        place = rows::place("p"),
        parent = work.tenant.only(&work.schema.quoted(), &reference.parent),
        child = work.tenant.only(&work.schema.quoted(), &reference.child),
        same = same_key(reference, ("c", &work.tenant), ("p", &work.tenant)),
        at = rows::is_at("p", 1),
        staying = rows::is_not_at("c", 2),
        key = rows::key_image(&work.tenant.tables[&reference.child], "c"),
        refers = rows::image_of(reference.child_columns.iter().map(String::as_str), "c"),
    ))
    .bind::<Array<Text>, _>(places(&reference.parent))
    .bind::<Array<Text>, _>(places(&reference.child))
    .bind::<Array<Text>, _>(keys)
    .bind::<Array<Text>, _>(refers)
    .load(conn)?;
    Ok(found.into_iter().map(|row| row.place).collect())
}

/// The places of the copies to which rows of another schema refer.
fn referred_to_outside(
    conn: &mut PgConnection,
    work: &Work<'_>,
    outside: &Outside,
    copies: &Copies,
) -> QueryResult<Vec<Place>> {
    let (child, same) = outside.refers();
    let found: Vec<At> = sql_query(format!(
        "SELECT DISTINCT {} AS place FROM {} p JOIN {child} c ON {same} WHERE {}",
        rows::place("p"),
        work.tenant.only(&work.schema.quoted(), &outside.parent),
        rows::is_at("p", 1),
    ))
    .bind::<Array<Text>, _>(copies[&outside.parent].keys().collect::<Vec<_>>())
    .load(conn)?;
    Ok(found.into_iter().map(|row| row.place).collect())
}
