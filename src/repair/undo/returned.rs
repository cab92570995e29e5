//! Puts the originals back that a repair has removed from `public`.

use std::collections::{BTreeMap, BTreeSet};

use diesel::{
    PgConnection, QueryResult, QueryableByName, RunQueryDsl, sql_query,
    sql_types::{Array, BigInt, Text},
};

use super::{needs::Needs, reinsert::reinsert, tenant::Work};
use crate::{
    Error,
    repair::{
        Copied,
        attempt::attempt,
        memory::{PastChange, What},
        order::parents_first,
        rows,
    },
};

pub(super) fn put_back(conn: &mut PgConnection, work: &mut Work<'_>) -> Result<(), Error> {
    let deleted = work.of(What::Deleted);
    if deleted.is_empty() {
        return Ok(());
    }
    let mut wanted = Vec::new();
    for (table, changes) in &deleted {
        let gone = those_that_are_gone(conn, work, table, changes)?;
        for change in changes {
            match gone.contains(&change.id) {
                true => wanted.push(change.clone()),
                false => work.keep(&format!("public.{table}"), &change.key, "is there again"),
            }
        }
    }
    let back = match work.writes() {
        true => those_that_can(conn, work, wanted)?,
        false => wanted,
    };
    for table in parents_first(deleted.into_keys(), &work.public.references).concat() {
        let of_table: Vec<i64> = back.iter().filter(|change| change.table == table).map(|change| change.id).collect();
        if !of_table.is_empty() {
            work.undone.returned.push(Copied { table, rows: of_table.len() as i64 });
            work.done.extend(of_table);
        }
    }
    Ok(())
}

/// Puts them back, all at once or, where the server refuses something of it, all but that and what refers to it.
fn those_that_can(
    conn: &mut PgConnection,
    work: &mut Work<'_>,
    wanted: Vec<PastChange>,
) -> Result<Vec<PastChange>, Error> {
    let whole: Vec<&PastChange> = wanted.iter().collect();
    if whole.is_empty() || attempt(conn, |conn| reinsert(conn, work, &whole))?.is_ok() {
        return Ok(wanted);
    }
    let needs = Needs::look(conn, work, &wanted)?;
    let (mut back, mut refused) = (BTreeSet::<i64>::new(), BTreeSet::<i64>::new());
    let known: BTreeMap<i64, &PastChange> = wanted.iter().map(|change| (change.id, change)).collect();
    // Half of them, and half of those, so that few that are refused are found among many in a few steps.
    let mut parts = halves(needs.first_to_last());
    while let Some(mut part) = parts.pop() {
        part.retain(|id| !back.contains(id));
        part.retain(|id| match needs.of(*id).iter().find(|one| refused.contains(*one)) {
            None => true,
            Some(missing) => {
                let (change, missing) = (known[id], known[missing]);
                let why = format!("refers to a row of public.{} that cannot come back", missing.table);
                work.keep(&format!("public.{}", change.table), &change.key, &why);
                refused.insert(*id);
                false
            }
        });
        let all: BTreeSet<i64> =
            part.iter().flat_map(|id| needs.of(*id)).copied().filter(|id| !back.contains(id)).collect();
        let rows: Vec<&PastChange> = all.iter().map(|id| known[id]).collect();
        if rows.is_empty() {
            continue;
        }
        match attempt(conn, |conn| reinsert(conn, work, &rows))? {
            Ok(()) => back.extend(all),
            Err(words) if part.len() == 1 => {
                let change = known[&part[0]];
                work.keep(&format!("public.{}", change.table), &change.key, &format!("cannot come back: {words}"));
                refused.insert(change.id);
            }
            Err(_) => parts.extend(halves(part)),
        }
    }
    Ok(wanted.into_iter().filter(|change| back.contains(&change.id)).collect())
}

/// The second half and the first, so that the first is taken first.
fn halves(mut all: Vec<i64>) -> Vec<Vec<i64>> {
    match all.len() {
        0 | 1 => vec![all],
        many => {
            let second = all.split_off(many / 2);
            vec![second, all]
        }
    }
}

/// The changes whose row is not there.
fn those_that_are_gone(
    conn: &mut PgConnection,
    work: &Work<'_>,
    table: &str,
    changes: &[PastChange],
) -> QueryResult<BTreeSet<i64>> {
    #[derive(QueryableByName)]
    struct Gone {
        #[diesel(sql_type = BigInt)]
        id: i64,
    }
    let Some(structure) = work.public.tables.get(table) else { return Ok(BTreeSet::new()) };
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
