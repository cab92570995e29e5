//! A connection inside one tenant's schema, proven to be there when the scope begins and when it ends.
//!
//! | | [`transaction`] | [`session`] |
//! | --- | --- | --- |
//! | how | `SET LOCAL`, in a transaction of its own | `SET`, for as long as the guard lives |
//! | ends | with the transaction, whatever happens | when the guard drops; again at the pool's checkout |
//! | behind PgBouncer in transaction mode | safe | **not safe**: another client may get the path |
//! | use it for | everything | code that cannot hold a transaction |
//!
//! Inside, the tenant is *alone* on the path: PostgreSQL skips a schema that is missing without a word and
//! takes the next, so with `public` behind the tenant a missing one would send its rows there. Name shared
//! tables in full (`public.custom_auth_user`) and the tenant's bare.

mod current;
mod session;
mod tenant_conn;
mod transaction;

pub use current::{Current, current};
pub use session::{SessionScope, session};
pub use tenant_conn::TenantConn;
pub use transaction::transaction;
pub(crate) use transaction::{proof, strayed};

use diesel::{
    PgConnection, RunQueryDsl, sql_query,
    sql_types::{Array, Bool, Nullable, Text},
};

use crate::{Error, SchemaName};

/// What a switch of the path found.
#[derive(diesel::QueryableByName)]
struct Switched {
    #[diesel(sql_type = Text)]
    path_before: String,
    #[diesel(sql_type = Nullable<Text>)]
    mark_before: Option<String>,
    /// The schemas on the new path that exist and may be used.
    #[diesel(sql_type = Array<Text>)]
    visible: Vec<String>,
}

/// Puts the schema alone on the path, for the transaction or for the session, and proves that it works.
fn switch(conn: &mut PgConnection, schema: &SchemaName, local: bool) -> Result<Switched, Error> {
    // A select list is evaluated from left to right.
    let switched: Switched = sql_query(
        "SELECT current_setting('search_path') AS path_before, \
                current_setting('tenantry.scope', true) AS mark_before, \
                set_config('search_path', $1, $2), \
                set_config('tenantry.scope', CASE WHEN $2 THEN 'transaction' ELSE 'session' END, $2), \
                current_schemas(false)::text[] AS visible",
    )
    .bind::<Text, _>(schema.quoted())
    .bind::<Bool, _>(local)
    .get_result(conn)?;
    if switched.visible == [schema.as_str()] {
        Ok(switched)
    } else {
        set_path(conn, &switched.path_before, switched.mark_before.as_deref(), local)?;
        Err(why_not(conn, schema)?)
    }
}

/// Puts a former path and mark back, and returns the schemas that were visible before that.
fn set_path(conn: &mut PgConnection, path: &str, mark: Option<&str>, local: bool) -> Result<Vec<String>, Error> {
    #[derive(diesel::QueryableByName)]
    struct Left {
        #[diesel(sql_type = Array<Text>)]
        visible: Vec<String>,
    }
    let left: Left = sql_query(
        "SELECT current_schemas(false)::text[] AS visible, \
                set_config('search_path', $1, $3), set_config('tenantry.scope', $2, $3)",
    )
    .bind::<Text, _>(path)
    .bind::<Text, _>(mark.unwrap_or_default())
    .bind::<Bool, _>(local)
    .get_result(conn)?;
    Ok(left.visible)
}

/// Why the schema could not be entered.
fn why_not(conn: &mut PgConnection, schema: &SchemaName) -> Result<Error, Error> {
    let schema = schema.clone();
    Ok(match super::catalog::schema_exists(conn, &schema)? {
        true => Error::NoUsage { schema },
        false => Error::MissingSchema { schema },
    })
}
