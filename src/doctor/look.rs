//! Which tables of `public` can be asked about rows.

use std::collections::BTreeSet;

use diesel::{
    PgConnection, QueryResult, QueryableByName, RunQueryDsl, sql_query,
    sql_types::{Array, BigInt, Text},
};

use super::check::only;
use crate::{
    Error,
    pg::{self, tables::Tables},
    quote,
};

/// Which tables of `public` the role may read, and which of the tenants' have rows there.
pub(super) fn look(
    conn: &mut PgConnection,
    public: &Tables,
    tenants: &BTreeSet<String>,
) -> QueryResult<(BTreeSet<String>, BTreeSet<String>)> {
    #[derive(QueryableByName)]
    struct Name {
        #[diesel(sql_type = Text)]
        name: String,
    }
    #[derive(QueryableByName)]
    struct Filled {
        #[diesel(sql_type = BigInt)]
        at: i64,
    }
    let all: Vec<&str> = public.tables.keys().map(String::as_str).collect();
    let readable: Vec<Name> = sql_query(
        "SELECT c.relname::text AS name FROM pg_catalog.pg_class c \
         WHERE c.relnamespace = 'public'::regnamespace AND c.relname = ANY ($1) AND has_table_privilege(c.oid, 'SELECT')",
    )
    .bind::<Array<Text>, _>(all)
    .load(conn)?;
    let readable: BTreeSet<String> = readable.into_iter().map(|row| row.name).collect();
    let twins: Vec<&String> = tenants.intersection(&readable).collect();
    let select = |(at, name): (usize, &&String)| {
        let only = only(public.tables[*name].partitioned);
        format!("SELECT {at}::bigint AS at WHERE EXISTS (SELECT FROM {only}{})", quote::qualified("public", name))
    };
    let selects: Vec<String> = twins.iter().enumerate().map(select).collect();
    let mut filled = BTreeSet::new();
    for chunk in selects.chunks(100) {
        let found: Vec<Filled> = sql_query(chunk.join(" UNION ALL ")).load(conn)?;
        filled.extend(found.into_iter().map(|row| twins[row.at as usize].clone()));
    }
    Ok((readable, filled))
}

/// What [`look`] finds out, and the tables that it could not look at, with the reason.
pub(super) type Looked = (BTreeSet<String>, BTreeSet<String>, Vec<(String, String)>);

/// Looks at these tables as [`look`] does, and does without those that are locked, or of which a policy hides rows.
pub(super) fn look_patiently(
    conn: &mut PgConnection,
    public: &Tables,
    tables: &BTreeSet<String>,
) -> Result<Looked, Error> {
    let all: Result<_, Error> = pg::atomically(conn, |conn| Ok(look(conn, public, tables)?));
    match all {
        Ok((readable, filled)) => return Ok((readable, filled, Vec::new())),
        Err(error) if pg::is_lost(conn) => return Err(error),
        Err(_) => {}
    }
    let (mut readable, mut filled) = look(conn, public, &BTreeSet::new())?;
    let mut failed = Vec::new();
    for name in tables {
        let one = BTreeSet::from([name.clone()]);
        let found: Result<_, Error> = pg::atomically(conn, |conn| Ok(look(conn, public, &one)?));
        match found {
            Ok((_, found)) => filled.extend(found),
            Err(error) if pg::is_lost(conn) => return Err(error),
            Err(error) => {
                readable.remove(name);
                failed.push((name.clone(), error.chain()));
            }
        }
    }
    Ok((readable, filled, failed))
}
