//! What earlier repairs have given to tenants, and what belongs to it.

use std::collections::BTreeSet;

use diesel::{
    PgConnection, QueryResult, QueryableByName, RunQueryDsl, sql_query,
    sql_types::{Array, Text},
};

use super::{
    claims::holders,
    memory,
    rows::{self, Place, Row, primary_key},
};
use crate::{
    SchemaName,
    directory::TenantEntry,
    doctor::same_key,
    pg::tables::{self, Reference, Tables},
};

/// A row of `public`, and one that it refers to.
#[derive(QueryableByName)]
struct Bound {
    #[diesel(embed)]
    child: Row,
    #[diesel(sql_type = Text)]
    parent: Place,
    /// The key of that one, as it is remembered.
    #[diesel(sql_type = Text)]
    image: String,
}

/// Which rows of `public` refer to one that a tenant was given as its own and still has, and which tenant.
///
/// `places` tells where in a table to look.
pub(super) fn owners<'p>(
    conn: &mut PgConnection,
    public: &Tables,
    references: &[Reference],
    places: impl Fn(&str) -> Vec<&'p Place>,
    tenants: &[TenantEntry],
) -> QueryResult<Vec<(SchemaName, String, Row)>> {
    let mut found = Vec::new();
    let given: BTreeSet<String> = memory::schemas_given(conn)?.into_iter().collect();
    let tenants: Vec<&SchemaName> =
        tenants.iter().map(|tenant| &tenant.schema).filter(|schema| given.contains(schema.as_str())).collect();
    if tenants.is_empty() {
        return Ok(found);
    }
    for reference in references {
        let bound = bound(conn, public, reference, places(&reference.child))?;
        let images = bound.iter().map(|row| row.image.as_str()).collect();
        let own = memory::given_as_own(conn, &reference.parent, &images, &tenants)?;
        let names: BTreeSet<&str> = own.iter().map(|(schema, _)| schema.as_str()).collect();
        let known = tables::read_many(conn, &names.into_iter().collect::<Vec<_>>())?;
        let known: Vec<(&SchemaName, &Tables)> =
            tenants.iter().filter_map(|schema| Some((*schema, known.get(schema.as_str())?))).collect();
        let parents: BTreeSet<&Place> = bound.iter().map(|row| &row.parent).collect();
        let held = holders(conn, public, &reference.parent, Some(parents.into_iter().collect()), &known)?;
        let held: BTreeSet<(Place, &SchemaName)> =
            held.iter().map(|(row, schema)| (row.place.clone(), schema)).collect();
        for Bound { child, parent, image } in bound {
            for (schema, _) in &known {
                let is_own = own.contains(&(schema.to_string(), image.clone()));
                if is_own && held.contains(&(parent.clone(), *schema)) {
                    found.push(((*schema).clone(), reference.child.clone(), child.clone()));
                }
            }
        }
    }
    Ok(found)
}

/// The rows at these places that refer to one that has a key.
fn bound(
    conn: &mut PgConnection,
    public: &Tables,
    reference: &Reference,
    places: Vec<&Place>,
) -> QueryResult<Vec<Bound>> {
    let parent = public.tables.get(&reference.parent).filter(|parent| primary_key(parent).is_some());
    let Some(parent) = parent.filter(|_| !places.is_empty() && public.has(&reference.child, &reference.child_columns))
    else {
        return Ok(Vec::new());
    };
    if !public.has(&reference.parent, &reference.parent_columns) {
        return Ok(Vec::new());
    }
    sql_query(format!(
        "SELECT {place} AS place, {key} AS key, {parent_place} AS parent, {image}::text AS image \
         FROM {child} p JOIN {parents} q ON {same} WHERE {at}",
        place = rows::place("p"),
        key = rows::key_text(public.tables.get(&reference.child), "p"),
        parent_place = rows::place("q"),
        image = rows::key_image(parent, "q"),
        child = public.only("public", &reference.child),
        parents = public.only("public", &reference.parent),
        same = same_key(reference, ("p", public), ("q", public)),
        at = rows::is_at("p", 1),
    ))
    .bind::<Array<Text>, _>(places)
    .load(conn)
}
