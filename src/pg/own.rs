//! The program's own tables, in the schema `tenantry`.

use diesel::{
    OptionalExtension, PgConnection, QueryResult, RunQueryDsl,
    connection::SimpleConnection,
    dsl::sql,
    result::{DatabaseErrorKind as Kind, Error as DieselError},
    select, sql_query,
    sql_types::{Array, Bool, Nullable, Text},
};

use super::{
    atomically,
    trust::{is_plain, is_trusted},
};
use crate::Error;

/// Whether this table of our own is there and may be read.
///
/// # Errors
///
/// [`Error::Foreign`] and [`Error::NotATable`], within Diesel's, where the code of another role could run, and those of
/// the query.
pub(crate) fn is_there(conn: &mut PgConnection, table: &str) -> QueryResult<bool> {
    #[derive(diesel::QueryableByName)]
    struct Row {
        #[diesel(sql_type = Bool)]
        readable: bool,
        #[diesel(sql_type = Nullable<Text>)]
        odd: Option<String>,
        #[diesel(sql_type = Nullable<Text>)]
        what: Option<String>,
        #[diesel(sql_type = Nullable<Text>)]
        owner: Option<String>,
    }
    let query = include_str!("own.sql")
        .replace("{is_plain}", &is_plain("c"))
        .replace("{is_trusted}", &is_trusted("part.owner"));
    match sql_query(query).bind::<Text, _>(table).get_result(conn).optional()? {
        Some(Row { what: Some(what), owner: Some(owner), .. }) => Err(Error::Foreign { what, owner }.into()),
        Some(Row { odd: Some(odd), .. }) => Err(Error::NotATable { table: format!("tenantry.{odd}") }.into()),
        found => Ok(found.is_some_and(|found| found.readable)),
    }
}

/// Makes tables of our own with this script, unless this one is there. Another session that is making them is waited
/// for, and has made them then.
///
/// # Errors
///
/// As [`is_there`], and those of the script.
pub(crate) fn have(conn: &mut PgConnection, table: &str, script: &str) -> QueryResult<()> {
    if is_there(conn, table)? {
        return Ok(());
    }
    atomically(conn, |conn| {
        // `IF NOT EXISTS` does not see what another transaction has made and not committed.
        conn.batch_execute(LOCK)?;
        if !is_there(conn, table)? {
            conn.batch_execute(script)?;
            // Another role may have made the schema just before.
            is_there(conn, table)?;
        }
        Ok(())
    })
}

const LOCK: &str =
    "SELECT pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended('tenantry: tables of its own', 0))";

/// Says why these tables of our own could not be made or written: where the role lacks a privilege, that it does.
///
/// The transaction has to be able to go on after the error.
pub(crate) fn not_recorded(conn: &mut PgConnection, tables: &[&str], error: DieselError) -> Error {
    // Only an error of no known kind may be that of a missing privilege.
    match error {
        DieselError::DatabaseError(Kind::Unknown, _) if lacks_privilege(conn, tables).unwrap_or(false) => {
            Error::RecordDenied(error)
        }
        error => Error::Record(error),
    }
}

/// Whether the role may not write these tables or, where one is missing, not make it.
fn lacks_privilege(conn: &mut PgConnection, tables: &[&str]) -> QueryResult<bool> {
    let lacks = sql::<Bool>(
        "(SELECT pg_catalog.bool_or(NOT CASE \
             WHEN t.oid IS NULL THEN pg_catalog.has_database_privilege(pg_catalog.current_database(), 'CREATE') \
                  AND coalesce(pg_catalog.has_schema_privilege(n.oid, 'CREATE'), true) \
             ELSE pg_catalog.has_schema_privilege(n.oid, 'USAGE') \
                  AND pg_catalog.has_table_privilege(t.oid, 'SELECT') \
                  AND pg_catalog.has_table_privilege(t.oid, 'INSERT') \
                  AND pg_catalog.has_table_privilege(t.oid, 'UPDATE') END) \
         FROM pg_catalog.unnest(",
    )
    .bind::<Array<Text>, _>(tables)
    .sql(
        ") AS own (name) LEFT JOIN pg_catalog.pg_namespace n ON n.nspname = 'tenantry' \
         LEFT JOIN pg_catalog.pg_class t ON t.relnamespace = n.oid AND t.relname = own.name)",
    );
    select(lacks).get_result(conn)
}
