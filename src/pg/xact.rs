//! Which transaction is under way, and what became of it.

use diesel::{
    PgConnection, QueryResult, RunQueryDsl,
    dsl::sql,
    select,
    sql_types::{Bool, Text},
};

/// A transaction's number. In a savepoint it is that of the transaction around it.
#[derive(Debug)]
pub(crate) struct Xact(String);

impl Xact {
    /// The transaction that is under way.
    pub(crate) fn current(conn: &mut PgConnection) -> QueryResult<Self> {
        select(sql::<Text>("pg_catalog.pg_current_xact_id()::pg_catalog.text")).get_result(conn).map(Self)
    }

    /// Whether it was committed.
    pub(crate) fn is_committed(&self, conn: &mut PgConnection) -> QueryResult<bool> {
        let status = sql::<Bool>("coalesce(pg_catalog.texteq(pg_catalog.pg_xact_status(")
            .bind::<Text, _>(&self.0)
            .sql("::pg_catalog.xid8), 'committed'), false)");
        select(status).get_result(conn)
    }
}
