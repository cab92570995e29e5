//! Which transaction is under way, and what became of it.

use diesel::{
    PgConnection, QueryResult, RunQueryDsl,
    connection::SimpleConnection,
    dsl::sql,
    select,
    sql_types::{Bool, Text},
};

use crate::quote;

/// A transaction's number. In a savepoint it is that of the transaction around it.
#[derive(Debug)]
pub(crate) struct Xact(String);

impl Xact {
    /// The transaction that is under way.
    pub(crate) fn current(conn: &mut PgConnection) -> QueryResult<Self> {
        select(sql::<Text>("pg_catalog.pg_current_xact_id()::pg_catalog.text")).get_result(conn).map(Self)
    }

    /// Whether it was committed, asked after what was done in it has failed and was rolled back.
    ///
    /// If so, what was done had ended it. The query is refused where something else was begun in its place, which
    /// failed and has no savepoint to go back to: nothing of the caller's is left, and a ROLLBACK ends that.
    pub(crate) fn is_committed(&self, conn: &mut PgConnection) -> QueryResult<bool> {
        self.ask(conn).or_else(|_| {
            conn.batch_execute("ROLLBACK")?;
            self.ask(conn)
        })
    }

    fn ask(&self, conn: &mut PgConnection) -> QueryResult<bool> {
        let status = format!("pg_catalog.pg_xact_status({}::pg_catalog.xid8)", quote::literal(&self.0));
        select(sql::<Bool>(&format!("pg_catalog.texteq({status}, 'committed')"))).get_result(conn)
    }
}
