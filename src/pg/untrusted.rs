//! Tables whose reading would run another role's code, whatever the path is.

use diesel::{
    PgConnection, QueryResult, RunQueryDsl, sql_query,
    sql_types::{Array, Text},
};

use super::trust::is_trusted;
use crate::Error;

/// A table that is not read.
#[derive(Debug, Clone, PartialEq, Eq, diesel::QueryableByName)]
pub(crate) struct Untrusted {
    #[diesel(sql_type = Text)]
    pub(crate) schema: String,
    #[diesel(sql_type = Text)]
    pub(crate) table: String,
    /// What of it calls the function.
    #[diesel(sql_type = Text)]
    what: String,
}

impl Untrusted {
    /// Why it is not read.
    pub(crate) fn error(&self) -> Error {
        Error::Untrusted { table: format!("{}.{}", self.schema, self.table), what: self.what.clone() }
    }
}

/// Finds them in these schemas, by their names: one query for all. The path has to be closed.
pub(crate) fn find(conn: &mut PgConnection, schemas: &[&str]) -> QueryResult<Vec<Untrusted>> {
    let query = include_str!("untrusted.sql").replace("{is_trusted}", &is_trusted("f.proowner"));
    sql_query(query).bind::<Array<Text>, _>(schemas).load(conn)
}

/// Refuses schemas that have such a table.
///
/// # Errors
///
/// [`Error::Untrusted`] for the first of them, within Diesel's, and those of the query.
pub(crate) fn refuse(conn: &mut PgConnection, schemas: &[&str]) -> QueryResult<()> {
    find(conn, schemas)?.first().map_or(Ok(()), |found| Err(found.error().into()))
}
