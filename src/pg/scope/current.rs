use diesel::{PgConnection, QueryResult, RunQueryDsl, select};

use super::{
    mark::MARK,
    path::{PATH, current_schema, current_schemas, current_setting},
};

/// Where a connection's next row would go.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Current {
    /// The search_path as it is set.
    pub path: String,
    /// The schema in which a table would be created now; `None` when nothing on the path exists.
    pub schema: Option<String>,
    /// The schemas on the path that exist and that the role may use, in their order.
    pub visible: Vec<String>,
    /// Whether a [`transaction`](super::transaction) scope is on.
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
    let (path, schema, visible, mark) =
        select((current_setting(PATH, true), current_schema(), current_schemas(false), current_setting(MARK, true)))
            .get_result::<(Option<String>, _, _, Option<String>)>(conn)?;
    let in_transaction_scope = mark.is_some_and(|mark| mark.starts_with("transaction"));
    Ok(Current { path: path.unwrap_or_default(), schema, visible, in_transaction_scope })
}
