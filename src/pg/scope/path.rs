//! The search_path: what it is, and its change.

use diesel::{
    PgConnection, RunQueryDsl, define_sql_function, select,
    sql_types::{BigInt, Bool, Nullable, Oid, Text},
};

use super::mark::{MARK, Mark};
use crate::{Error, SchemaName, pg::catalog};

// Declared, not written as SQL, so that Diesel prepares the statements once and keeps them. With their schema, since a
// tenant may have functions of the same names.
define_sql_function! {
    #[sql_name = "pg_catalog.current_setting"]
    fn current_setting(name: Text, missing_ok: Bool) -> Nullable<Text>
}
define_sql_function! {
    #[sql_name = "pg_catalog.set_config"]
    fn set_config(name: Text, value: Text, is_local: Bool) -> Text
}
define_sql_function! {
    #[sql_name = "pg_catalog.current_schema"]
    fn current_schema() -> Nullable<Text>
}
define_sql_function! {
    #[sql_name = "pg_catalog.current_schemas"]
    fn current_schemas(implicit: Bool) -> Array<Text>
}
define_sql_function! {
    /// A `regnamespace`, which is sent as the oid that it is.
    #[sql_name = "pg_catalog.to_regnamespace"]
    fn to_regnamespace(name: Text) -> Nullable<Oid>
}
define_sql_function! {
    /// Of an oid, too, which has no text of its own.
    #[sql_name = "pg_catalog.int8"]
    fn number_of(oid: Nullable<Oid>) -> Nullable<BigInt>
}
define_sql_function! {
    #[sql_name = "pg_catalog.concat"]
    fn concat(words: Text, number: Nullable<BigInt>) -> Text
}

pub(super) const PATH: &str = "search_path";

/// What a switch of the path found, for restoring it.
pub(super) struct Before {
    path: String,
    mark: String,
}

/// Where a connection is.
pub(super) struct Found {
    /// Whether the scope's schema is the only one that is visible.
    pub(super) is_alone: bool,
    pub(super) path: String,
    pub(super) mark: String,
    /// Of the schema that has the scope's name now.
    pub(super) oid: Option<u32>,
}

/// Puts the schema alone on the path, for the transaction or for the session, and proves that it works.
pub(super) fn switch(conn: &mut PgConnection, schema: &SchemaName, mark: &Mark, local: bool) -> Result<Before, Error> {
    let oid = number_of(to_regnamespace(schema.quoted()));
    // A select list is evaluated from left to right.
    let (path, before, _, _, visible) = select((
        current_setting(PATH, true),
        current_setting(MARK, true),
        set_config(PATH, schema.quoted(), local),
        set_config(MARK, concat(mark.words(), oid), local),
        current_schemas(false),
    ))
    .get_result::<(Option<String>, Option<String>, String, String, Vec<String>)>(conn)?;
    let before = Before { path: path.unwrap_or_default(), mark: before.unwrap_or_default() };
    if visible == [schema.as_str()] {
        Ok(before)
    } else {
        restore(conn, schema, &before, local)?;
        Err(why_not(conn, schema)?.unwrap_or_else(|| Error::MissingSchema { schema: schema.clone() }))
    }
}

/// Restores the former path, and returns what was found before that.
pub(super) fn restore(
    conn: &mut PgConnection,
    schema: &SchemaName,
    before: &Before,
    local: bool,
) -> Result<Found, Error> {
    let (path, mark, visible, oid, ..) = select((
        current_setting(PATH, true),
        current_setting(MARK, true),
        current_schemas(false),
        to_regnamespace(schema.quoted()),
        set_config(PATH, &before.path, local),
        set_config(MARK, &before.mark, local),
    ))
    .get_result::<(Option<String>, Option<String>, Vec<String>, Option<u32>, String, String)>(conn)?;
    let is_alone = visible == [schema.as_str()];
    Ok(Found { is_alone, path: path.unwrap_or_default(), mark: mark.unwrap_or_default(), oid })
}

/// Finds out where the connection is.
pub(super) fn find(conn: &mut PgConnection, schema: &SchemaName) -> Result<Found, Error> {
    let (path, mark, visible, oid) = select((
        current_setting(PATH, true),
        current_setting(MARK, true),
        current_schemas(false),
        to_regnamespace(schema.quoted()),
    ))
    .get_result::<(Option<String>, Option<String>, Vec<String>, Option<u32>)>(conn)?;
    let is_alone = visible == [schema.as_str()];
    Ok(Found { is_alone, path: path.unwrap_or_default(), mark: mark.unwrap_or_default(), oid })
}

/// Why the schema could not be entered: it is missing, or the role lacks the privilege to use it.
pub(super) fn why_not(conn: &mut PgConnection, schema: &SchemaName) -> Result<Option<Error>, Error> {
    let schema = schema.clone();
    Ok(match catalog::may_use(conn, &schema)? {
        None => Some(Error::MissingSchema { schema }),
        Some(false) => Some(Error::NoUsage { schema }),
        Some(true) => None,
    })
}
