//! The SQL expressions that tell rows, and texts of rows, apart.
//!
//! Places and images are of statements that write, too, for which the tenant is on the path: their functions and
//! operators are named with their schema. The others are for the [closed path](crate::pg::closed).

use std::collections::BTreeMap;

use diesel::{PgConnection, QueryResult, QueryableByName, RunQueryDsl, sql_query, sql_types::Text};

use crate::{
    pg::tables::{Column, Table, Tables},
    quote,
};

/// A row of `public`, by its place in the table. It stays there while the row is share-locked.
pub(super) type Place = String;

/// A row of `public`, and how it is called in a report.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, QueryableByName)]
pub(super) struct Row {
    #[diesel(sql_type = diesel::sql_types::Text)]
    pub(super) place: Place,
    #[diesel(sql_type = diesel::sql_types::Text)]
    pub(super) key: String,
}

/// The expression for a row's place: the partition or child table, and where in it.
pub(super) fn place(alias: &str) -> String {
    format!(
        "({alias}.tableoid::oid::text OPERATOR(pg_catalog.||) ' '::text OPERATOR(pg_catalog.||) {alias}.ctid::text)"
    )
}

/// The condition that a row is at one of the places of a parameter; the first half finds it, the second makes sure.
pub(super) fn is_at(alias: &str, parameter: usize) -> String {
    format!(
        "{alias}.ctid OPERATOR(pg_catalog.=) ANY(ARRAY( \
             SELECT pg_catalog.split_part(place, ' ', 2)::tid FROM pg_catalog.unnest(${parameter}::text[]) place)) \
         AND {}",
        is_among(&place(alias), parameter)
    )
}

/// The condition that a row is at none of the places of a parameter.
pub(super) fn is_not_at(alias: &str, parameter: usize) -> String {
    format!("NOT {}", is_among(&place(alias), parameter))
}

/// The condition that a text is among those of a parameter, of which there may be as many as there are rows.
///
/// Before PostgreSQL 14, `= ANY` compares with each of them in turn, as does a join of which the planner expects few
/// rows. In a JSON object the server finds a key by binary search, whatever the plan.
pub(super) fn is_among(text: &str, parameter: usize) -> String {
    format!(
        "(SELECT pg_catalog.jsonb_object(${parameter}::text[], ${parameter}::text[])) OPERATOR(pg_catalog.?) ({text})"
    )
}

/// The columns that are written: all but those that are computed.
pub(super) fn written(table: &Table) -> impl Iterator<Item = &Column> {
    table.columns.iter().filter(|column| !column.generated)
}

/// The columns that can be copied: those that both have, but for what is computed.
pub(super) fn shared_columns<'t>(public: &Tables, tenant: &'t Tables, table: &str) -> Vec<&'t str> {
    let Some(known) = tenant.tables.get(table) else { return Vec::new() };
    written(known).map(|column| column.name.as_str()).filter(|name| public.has(table, &[name.to_string()])).collect()
}

/// The columns of the primary key, or none.
pub(super) fn primary_key(table: &Table) -> Option<&[String]> {
    table.keys.first().filter(|key| key.primary).map(|key| key.columns.as_slice())
}

/// The expression that shows a row's primary key, or all of a row that has none.
pub(super) fn key_text(table: Option<&Table>, alias: &str) -> String {
    match table.and_then(primary_key) {
        Some(columns) => {
            let columns: Vec<String> = columns.iter().map(|name| column(alias, name)).collect();
            let parts = columns.join(", ");
            match columns.len() {
                1 => format!("{parts}::text"),
                // Commas in the values would let two keys look alike. The columns may have collations of their own.
                _ => format!(
                    "CASE WHEN concat_ws('', {parts}) COLLATE \"C\" LIKE '%, %' THEN ROW({parts})::text \
                     ELSE concat_ws(', ', {parts}) COLLATE \"C\" END"
                ),
            }
        }
        // Not the alias alone, which may be a column's name; and not a cast, which the table's owner may have made.
        None => format!("concat({alias}.*)"),
    }
}

/// A row's columns as a JSON object of texts, from which each value can be had again exactly.
pub(super) fn image(table: &Table, alias: &str) -> String {
    image_of(written(table).map(|column| column.name.as_str()), alias)
}

/// The image of the primary key, or of all of a row that has none.
pub(super) fn key_image(table: &Table, alias: &str) -> String {
    match primary_key(table) {
        Some(columns) => image_of(columns.iter().map(String::as_str), alias),
        None => image(table, alias),
    }
}

pub(super) fn image_of<'c>(columns: impl Iterator<Item = &'c str>, alias: &str) -> String {
    let (names, values): (Vec<String>, Vec<String>) =
        columns.map(|name| (quote::literal(name), format!("{}::text", column(alias, name)))).unzip();
    format!("pg_catalog.jsonb_object(ARRAY[{}]::text[], ARRAY[{}]::text[])", names.join(", "), values.join(", "))
}

/// A column of the row with this alias.
pub(super) fn column(alias: &str, name: &str) -> String {
    format!("{alias}.{}", quote::identifier(name))
}

/// The types of a table's columns, as they are written.
pub(super) fn types(conn: &mut PgConnection, schema: &str, table: &str) -> QueryResult<BTreeMap<String, String>> {
    #[derive(QueryableByName)]
    struct Kind {
        #[diesel(sql_type = Text)]
        name: String,
        #[diesel(sql_type = Text)]
        kind: String,
    }
    let kinds: Vec<Kind> = sql_query(
        "SELECT a.attname::text AS name, format_type(a.atttypid, a.atttypmod) AS kind \
         FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid \
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE n.nspname = $1 AND c.relname = $2 AND a.attnum > 0 AND NOT a.attisdropped",
    )
    .bind::<Text, _>(schema)
    .bind::<Text, _>(table)
    .load(conn)?;
    Ok(kinds.into_iter().map(|Kind { name, kind }| (name, kind)).collect())
}
