use diesel::{
    PgConnection, QueryResult, RunQueryDsl, sql_query,
    sql_types::{Array, Bool, Nullable, Text},
};

/// Where a connection's next row would go.
#[derive(Debug, Clone, PartialEq, Eq, diesel::QueryableByName)]
#[non_exhaustive]
pub struct Current {
    /// The search_path as it is set: `"$user", public` on a fresh connection, most often.
    #[diesel(sql_type = Text)]
    pub path: String,
    /// The schema in which a table would be created now; `None` when nothing on the path exists.
    #[diesel(sql_type = Nullable<Text>)]
    pub schema: Option<String>,
    /// The schemas on the path that exist and that the role may use, in their order.
    #[diesel(sql_type = Array<Text>)]
    pub visible: Vec<String>,
    /// Whether a [`transaction`](super::transaction) scope is on.
    #[diesel(sql_type = Bool)]
    pub in_transaction_scope: bool,
}

/// Tells which schema a record would be created in, on any connection, in one round trip.
///
/// ```no_run
/// # use diesel::{Connection, PgConnection};
/// # let conn = &mut PgConnection::establish("")?;
/// let now = tenantry::pg::scope::current(conn)?;
/// println!("search_path is {}, new tables go to {:?}", now.path, now.schema);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn current(conn: &mut PgConnection) -> QueryResult<Current> {
    sql_query(
        "SELECT current_setting('search_path') AS path, current_schema()::text AS schema, \
                current_schemas(false)::text[] AS visible, \
                coalesce(current_setting('tenantry.scope', true) = 'transaction', false) AS in_transaction_scope",
    )
    .get_result(conn)
}
