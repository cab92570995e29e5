use diesel::result::Error as DieselError;

use super::{
    mark::{MARK, Mark, oid},
    path::Found,
};
use crate::{Error, SchemaName, quote};

/// An expression that fails unless the transaction is the one with this mark, and the schema alone on its path: for a
/// message whose results are not read.
pub(crate) fn proof(schema: &SchemaName, mark: &Mark) -> String {
    proof_after("", schema, mark)
}

/// The same, which names in its failure the migration before it.
///
/// The failure is a cast whose text the server repeats in its error, in whatever language that is.
pub(crate) fn proof_after(version: &str, schema: &SchemaName, mark: &Mark) -> String {
    let alone = format!(
        "pg_catalog.array_eq(pg_catalog.current_schemas(false), {})",
        quote::literal(&format!("{{{}}}", schema.quoted()))
    );
    let current = format!("pg_catalog.current_setting('{MARK}', true)");
    format!(
        "CASE WHEN {alone} AND pg_catalog.texteq({current}, {value}) THEN 0 \
         ELSE CAST(pg_catalog.concat({FOUND}, {name}, '|', {version}, '|', {alone}, '|', {oid}, '|', {current}, '|', \
           pg_catalog.current_setting('search_path')) AS pg_catalog.int4) END",
        value = mark.value(schema),
        name = quote::literal(schema.as_str()),
        version = quote::literal(version),
        oid = oid(schema),
    )
}

/// What the failed cast begins with.
const FOUND: &str = "'tenantry|'";

/// What a proof found instead of the scope, if it was a proof that failed.
pub(crate) fn broken(error: &DieselError, schema: &SchemaName, mark: &Mark) -> Option<Error> {
    let (_, found) = found(error)?;
    mark.check(schema, &found).err()
}

/// The schema and the version of the migration that ended the transaction, if one did.
pub(crate) fn ended_by(error: &DieselError, mark: &Mark) -> Option<(String, String)> {
    let (migration, found) = found(error)?;
    (!found.mark.starts_with(&mark.words())).then_some(migration)
}

fn found(error: &DieselError) -> Option<((String, String), Found)> {
    let DieselError::DatabaseError(_, about) = error else { return None };
    let (_, found) = about.message().split_once(FOUND.trim_matches('\''))?;
    let mut fields = found.strip_suffix('"').unwrap_or(found).splitn(6, '|').map(String::from);
    let migration = (fields.next()?, fields.next()?);
    let is_alone = fields.next()? == "t";
    let oid = fields.next()?.parse().ok();
    Some((migration, Found { is_alone, oid, mark: fields.next()?, path: fields.next()? }))
}
