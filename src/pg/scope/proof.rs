use diesel::result::Error as DieselError;

use super::{
    mark::{MARK, Mark, oid},
    path::Found,
};
use crate::{Error, SchemaName, quote};

/// An expression that fails unless the transaction is the one with this mark, and the schema alone on its path: for a
/// message whose results are not read.
///
/// The failure is a cast whose text the server repeats in its error, in whatever language that is.
pub(crate) fn proof(schema: &SchemaName, mark: &Mark) -> String {
    let alone = format!(
        "pg_catalog.array_eq(pg_catalog.current_schemas(false), {})",
        quote::literal(&format!("{{{}}}", schema.quoted()))
    );
    let current = format!("pg_catalog.current_setting('{MARK}', true)");
    format!(
        "CASE WHEN {alone} AND pg_catalog.texteq({current}, {value}) THEN 0 \
         ELSE CAST(pg_catalog.concat({FOUND}, {alone}, '|', {oid}, '|', {current}, '|', \
           pg_catalog.current_setting('search_path')) AS pg_catalog.int4) END",
        value = mark.value(schema),
        oid = oid(schema),
    )
}

/// What the failed cast begins with.
const FOUND: &str = "'tenantry|'";

/// What a proof found instead of the scope, if it was a proof that failed.
pub(crate) fn broken(error: &DieselError, schema: &SchemaName, mark: &Mark) -> Option<Error> {
    let DieselError::DatabaseError(_, about) = error else { return None };
    let (_, found) = about.message().split_once(FOUND.trim_matches('\''))?;
    let mut fields = found.strip_suffix('"').unwrap_or(found).splitn(4, '|').map(String::from);
    let is_alone = fields.next()? == "t";
    let oid = fields.next()?.parse().ok();
    let found = Found { is_alone, oid, mark: fields.next()?, path: fields.next()? };
    mark.check(schema, &found).err()
}
