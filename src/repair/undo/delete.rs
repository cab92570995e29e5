//! Deletes copies.

use diesel::{
    PgConnection, QueryResult, QueryableByName, RunQueryDsl,
    connection::SimpleConnection,
    sql_query,
    sql_types::{Array, BigInt, Bool, Text},
};

use super::{
    copies::Copies,
    loose::loosen,
    referrers::{Referrers, referred_to},
    tenant::Work,
};
use crate::{
    Error, SchemaName,
    repair::{
        order::parents_first,
        rows::{self, Place},
        settings::writing,
    },
};

/// Deletes them. Foreign keys whose rows will refer in vain again would delete those rows too, or forbid it: they
/// are taken away meanwhile.
pub(super) fn delete(conn: &mut PgConnection, work: &mut Work<'_>, copies: &Copies) -> Result<(), Error> {
    let mut loose = Vec::new();
    for reference in work.tenant.references.iter().filter(|reference| copies.contains_key(&reference.parent)) {
        if !referred_to(conn, work, reference, copies, Referrers::Any)?.is_empty() {
            loose.extend(loosen(conn, work, reference)?);
        }
    }
    conn.batch_execute("SET CONSTRAINTS ALL DEFERRED")?;
    let tables: Vec<&String> = copies.iter().filter(|(_, rows)| !rows.is_empty()).map(|(table, _)| table).collect();
    let are_ruled = are_ruled(conn, work.schema, &tables)?;
    let deleted = writing(conn, work.schema, |conn| match are_ruled {
        false => delete_at_once(conn, work, copies, &tables),
        true => delete_one_by_one(conn, work, copies, &tables),
    })?;
    for (table, deleted) in deleted {
        let rows = copies[table].len();
        if deleted != rows {
            return Err(Error::Repair {
                schema: work.schema.clone(),
                reason: format!("{deleted} of {rows} rows of {table} could be removed again: try again"),
            });
        }
    }
    let loosened = writing(conn, work.schema, |conn| {
        conn.batch_execute("SET CONSTRAINTS ALL IMMEDIATE; SET CONSTRAINTS ALL DEFERRED")?;
        loose.into_iter().filter_map(|one| one.tighten(conn).transpose()).collect::<QueryResult<Vec<_>>>()
    })?;
    work.undone.loosened.extend(loosened);
    Ok(())
}

/// Deletes in one statement, after which alone foreign keys act: what hangs on a row by cascade is gone by then as well.
fn delete_at_once<'t>(
    conn: &mut PgConnection,
    work: &Work<'_>,
    copies: &Copies,
    tables: &[&'t String],
) -> QueryResult<Vec<(&'t String, usize)>> {
    #[derive(QueryableByName)]
    struct Deleted {
        #[diesel(sql_type = BigInt)]
        at: i64,
        #[diesel(sql_type = BigInt)]
        rows: i64,
    }
    let deletes: Vec<String> = tables
        .iter()
        .enumerate()
        .map(|(at, table)| format!("d{at} AS ({} RETURNING 1)", statement(work, table)))
        .collect();
    let counts: Vec<String> = (0..tables.len())
        .map(|at| format!("SELECT {at}::bigint AS at, pg_catalog.count(*) AS rows FROM d{at}"))
        .collect();
    let deleted: Vec<Deleted> = sql_query(format!("WITH {} {}", deletes.join(", "), counts.join(" UNION ALL ")))
        .bind::<Array<Text>, _>(tables.iter().flat_map(|table| copies[*table].keys()).collect::<Vec<_>>())
        .load(conn)?;
    Ok(deleted.into_iter().map(|Deleted { at, rows }| (tables[at as usize], rows as usize)).collect())
}

/// Deletes from one table after the other, those that refer to others first.
fn delete_one_by_one<'t>(
    conn: &mut PgConnection,
    work: &Work<'_>,
    copies: &Copies,
    tables: &[&'t String],
) -> QueryResult<Vec<(&'t String, usize)>> {
    let order = parents_first(tables.iter().map(ToString::to_string), &work.tenant.references).concat();
    let ordered = order.iter().rev().filter_map(|name| tables.iter().find(|table| **table == name));
    let delete = |table: &&'t String| {
        let places: Vec<&Place> = copies[*table].keys().collect();
        Ok((*table, sql_query(statement(work, table)).bind::<Array<Text>, _>(places).execute(conn)?))
    };
    ordered.map(delete).collect()
}

fn statement(work: &Work<'_>, table: &str) -> String {
    let table = work.tenant.only(&work.schema.quoted(), table);
    format!("DELETE FROM {table} t WHERE {}", rows::is_at("t", 1))
}

/// Whether a rule does something when rows of one of the tables are deleted. In the same statement as others it cannot.
fn are_ruled(conn: &mut PgConnection, schema: &SchemaName, tables: &[&String]) -> QueryResult<bool> {
    #[derive(QueryableByName)]
    struct Ruled {
        #[diesel(sql_type = Bool)]
        ruled: bool,
    }
    sql_query(
        "SELECT EXISTS (SELECT FROM pg_catalog.pg_rewrite w JOIN pg_catalog.pg_class c ON c.oid = w.ev_class \
         WHERE c.relnamespace = to_regnamespace($1) AND c.relname = ANY ($2) AND w.ev_type = '4') AS ruled",
    )
    .bind::<Text, _>(schema.quoted())
    .bind::<Array<Text>, _>(tables)
    .get_result(conn)
    .map(|Ruled { ruled }| ruled)
}
