//! Removes the copies that a repair has made.

use std::collections::BTreeMap;

use diesel::{
    PgConnection, QueryableByName, RunQueryDsl,
    connection::SimpleConnection,
    sql_query,
    sql_types::{Array, BigInt, Text},
};

use super::{
    copies::{Copies, unchanged},
    loose::loosen,
    referrers::{Referrers, keep_referred_to, referred_to},
    tenant::Work,
};
use crate::{
    Error,
    repair::{
        Copied,
        memory::{PastChange, What},
        rows::{self, Place},
    },
};

pub(super) fn remove(conn: &mut PgConnection, work: &mut Work<'_>) -> Result<(), Error> {
    let mut copies = Copies::new();
    for (table, changes) in work.of(What::Inserted) {
        let found = unchanged(conn, work, &table, changes)?;
        copies.insert(table, found);
    }
    copies.retain(|_, rows| !rows.is_empty());
    keep_referred_to(conn, work, &mut copies)?;
    for (table, rows) in &copies {
        let rows = rows.len() as i64;
        if rows > 0 {
            work.undone.removed.push(Copied { table: table.clone(), rows });
        }
    }
    if work.writes() && copies.values().any(|rows| !rows.is_empty()) {
        delete(conn, work, &copies)?;
    }
    work.done.extend(copies.values().flat_map(BTreeMap::values).map(|change| change.id));
    Ok(())
}

/// Deletes them. Foreign keys whose rows will refer in vain again would delete those rows too, or forbid it: they
/// are taken away meanwhile.
fn delete(conn: &mut PgConnection, work: &mut Work<'_>, copies: &Copies) -> Result<(), Error> {
    let mut loose = Vec::new();
    for reference in work.tenant.references.iter().filter(|reference| copies.contains_key(&reference.parent)) {
        if !referred_to(conn, work, reference, copies, Referrers::Any)?.is_empty() {
            loose.extend(loosen(conn, work, reference)?);
        }
    }
    conn.batch_execute("SET CONSTRAINTS ALL DEFERRED")?;
    let tables: Vec<(&String, &BTreeMap<Place, PastChange>)> =
        copies.iter().filter(|(_, rows)| !rows.is_empty()).collect();
    // In one statement, after which alone foreign keys act: what hangs on a row by cascade is gone by then as well.
    let delete = |(at, (table, _)): (usize, &(&String, _))| {
        let table = work.tenant.only(&work.schema.quoted(), table);
        format!("d{at} AS (DELETE FROM {table} t WHERE {} RETURNING 1)", rows::is_at("t", 1))
    };
    let deletes: Vec<String> = tables.iter().enumerate().map(delete).collect();
    let counts: Vec<String> =
        (0..tables.len()).map(|at| format!("SELECT {at}::bigint AS at, count(*) AS rows FROM d{at}")).collect();
    let deleted: Vec<Deleted> =
        sql_query(format!("WITH {} {} ORDER BY at", deletes.join(", "), counts.join(" UNION ALL ")))
            .bind::<Array<Text>, _>(tables.iter().flat_map(|(_, rows)| rows.keys()).collect::<Vec<_>>())
            .load(conn)?;
    for ((table, rows), Deleted { rows: deleted, .. }) in tables.into_iter().zip(deleted) {
        if deleted != rows.len() as i64 {
            return Err(Error::Repair {
                schema: work.schema.clone(),
                reason: format!("{deleted} of {} rows of {table} could be removed again: try again", rows.len()),
            });
        }
    }
    conn.batch_execute("SET CONSTRAINTS ALL IMMEDIATE; SET CONSTRAINTS ALL DEFERRED")?;
    for one in loose {
        work.undone.loosened.extend(one.tighten(conn)?);
    }
    Ok(())
}

/// How many rows of which table were deleted.
#[derive(QueryableByName)]
struct Deleted {
    #[diesel(sql_type = BigInt)]
    #[allow(dead_code)]
    at: i64,
    #[diesel(sql_type = BigInt)]
    rows: i64,
}
