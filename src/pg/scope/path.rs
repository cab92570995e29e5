//! The search_path, and the mark that says what kind of scope has set it.

use diesel::{
    PgConnection, RunQueryDsl, define_sql_function, select,
    sql_types::{Bool, Text},
};

use crate::{Error, SchemaName, pg::catalog};

// Declared, not written as SQL, so that Diesel prepares the statements once and keeps them.
define_sql_function! { fn current_setting(name: Text, missing_ok: Bool) -> Nullable<Text> }
define_sql_function! { fn set_config(name: Text, value: Text, is_local: Bool) -> Text }
define_sql_function! { fn current_schema() -> Nullable<Text> }
define_sql_function! { fn current_schemas(implicit: Bool) -> Array<Text> }

pub(super) const PATH: &str = "search_path";

/// The setting that says which kind of scope is on.
pub(super) const MARK: &str = "tenantry.scope";

/// What a switch of the path found, for putting it back.
pub(super) struct Before {
    path: String,
    mark: String,
}

/// Puts the schema alone on the path, for the transaction or for the session, and proves that it works.
pub(super) fn switch(conn: &mut PgConnection, schema: &SchemaName, local: bool) -> Result<Before, Error> {
    let kind = if local { "transaction" } else { "session" };
    // A select list is evaluated from left to right.
    let (path, mark, _, _, visible) = select((
        current_setting(PATH, true),
        current_setting(MARK, true),
        set_config(PATH, schema.quoted(), local),
        set_config(MARK, kind, local),
        current_schemas(false),
    ))
    .get_result::<(Option<String>, Option<String>, String, String, Vec<String>)>(conn)?;
    let before = Before { path: path.unwrap_or_default(), mark: mark.unwrap_or_default() };
    if visible == [schema.as_str()] {
        Ok(before)
    } else {
        put_back(conn, &before, local)?;
        Err(why_not(conn, schema)?.unwrap_or(Error::LeftScope { schema: schema.clone(), path: visible.join(", ") }))
    }
}

/// Puts the former path back, and returns the schemas that were visible before that.
pub(super) fn put_back(conn: &mut PgConnection, before: &Before, local: bool) -> Result<Vec<String>, Error> {
    let (visible, ..) =
        select((current_schemas(false), set_config(PATH, &before.path, local), set_config(MARK, &before.mark, local)))
            .get_result::<(Vec<String>, String, String)>(conn)?;
    Ok(visible)
}

/// Why the schema could not be entered, if it is for want of the schema or of the right to use it.
pub(super) fn why_not(conn: &mut PgConnection, schema: &SchemaName) -> Result<Option<Error>, Error> {
    let schema = schema.clone();
    Ok(match catalog::may_use(conn, &schema)? {
        None => Some(Error::MissingSchema { schema }),
        Some(false) => Some(Error::NoUsage { schema }),
        Some(true) => None,
    })
}
