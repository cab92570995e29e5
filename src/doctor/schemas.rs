//! The registry beside the schemas that there are.

use std::collections::{BTreeMap, BTreeSet};

use diesel::{
    PgConnection, QueryResult, RunQueryDsl, sql_query,
    sql_types::{Array, BigInt, Bool, Text},
};

use super::{Finding, Fix, Kind, draft::Draft};
use crate::{directory::Listing, pg::ddl::HISTORY};

/// The schemas of the database, but for PostgreSQL's own.
pub(super) type Schemas = BTreeMap<String, Namespace>;

/// A schema, and how it looks from afar.
#[derive(Debug, Clone, diesel::QueryableByName)]
pub(super) struct Namespace {
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Bool)]
    pub(super) usable: bool,
    /// How many tables it has beside the history.
    #[diesel(sql_type = BigInt)]
    pub(super) tables: i64,
    /// How many of them are called as the tenants' tables are.
    #[diesel(sql_type = BigInt)]
    pub(super) ours: i64,
    #[diesel(sql_type = Bool)]
    history: bool,
    /// Whether it came with an extension.
    #[diesel(sql_type = Bool)]
    extension: bool,
}

/// Reads them all. `expected` are the tables that a tenant has.
pub(super) fn read(conn: &mut PgConnection, expected: &[String]) -> QueryResult<Schemas> {
    let found: Vec<Namespace> = sql_query(
        "SELECT n.nspname::text AS name, coalesce(has_schema_privilege(n.oid, 'USAGE'), false) AS usable, \
                coalesce(c.tables, 0) AS tables, coalesce(c.ours, 0) AS ours, coalesce(c.history, false) AS history, \
                EXISTS (SELECT FROM pg_catalog.pg_depend d \
                        WHERE d.classid = 'pg_catalog.pg_namespace'::regclass AND d.objid = n.oid AND d.deptype = 'e') \
                AS extension \
         FROM pg_catalog.pg_namespace n \
         LEFT JOIN (SELECT relnamespace, count(*) FILTER (WHERE relname <> $2) AS tables, \
                           count(*) FILTER (WHERE relname = ANY ($1)) AS ours, bool_or(relname = $2) AS history \
                    FROM pg_catalog.pg_class WHERE relkind IN ('r', 'p', 'f') GROUP BY relnamespace) c \
                ON c.relnamespace = n.oid \
         WHERE n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'tenantry')",
    )
    .bind::<Array<Text>, _>(expected)
    .bind::<Text, _>(HISTORY)
    .load(conn)?;
    Ok(found.into_iter().map(|schema| (schema.name.clone(), schema)).collect())
}

/// The tables that most of these schemas have.
pub(super) fn usual_tables(conn: &mut PgConnection, schemas: &[&str]) -> QueryResult<Vec<String>> {
    #[derive(diesel::QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        name: String,
    }
    let rows: Vec<Row> = sql_query(
        "SELECT c.relname::text AS name FROM pg_catalog.pg_class c \
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE n.nspname = ANY ($1) AND c.relkind IN ('r', 'p', 'f') AND c.relname <> $2 \
         GROUP BY c.relname HAVING count(*) * 2 > cardinality($1)",
    )
    .bind::<Array<Text>, _>(schemas)
    .bind::<Text, _>(HISTORY)
    .load(conn)?;
    Ok(rows.into_iter().map(|row| row.name).collect())
}

/// What is wrong between the registry and the schemas.
pub(super) fn findings(listing: &Listing, schemas: &Schemas) -> Vec<Finding> {
    let mut found = Vec::new();
    for (name, rule) in &listing.refused {
        let fix = Fix::None("only a person knows what the tenant should be called".into());
        let says = format!("is registered, and cannot be a tenant's schema: {rule}");
        found.push(Draft::new(Kind::RefusedName, says, fix).of(name));
    }
    for tenant in listing.tenants.iter().filter(|tenant| !schemas.contains_key(tenant.schema.as_str())) {
        let fix = Fix::None("restore the schema from a backup, or take the tenant off the registry".into());
        let says = "is registered, and there is no such schema";
        found.push(Draft::new(Kind::MissingSchema, says, fix).of(tenant.schema.as_str()));
    }
    found.extend(twins(listing, schemas));
    found
}

/// The schemas that look like a tenant's and that no registry knows; those with a history need a look at it.
pub(super) fn strangers<'s>(
    listing: &Listing,
    schemas: &'s Schemas,
    expected: usize,
) -> impl Iterator<Item = (&'s str, bool)> {
    let known: BTreeSet<String> = listing.tenants.iter().map(|tenant| tenant.schema.to_string()).collect();
    let refused: BTreeSet<String> = listing.refused.iter().map(|(name, _)| name.clone()).collect();
    let is_known = move |name: &str| name == "public" || known.contains(name) || refused.contains(name);
    let others = schemas.values().filter(move |schema| !is_known(&schema.name) && !schema.extension);
    others.filter_map(move |schema| {
        let has_tables = expected > 0 && schema.ours > 0 && schema.ours as usize * 2 >= expected;
        (schema.history || has_tables).then_some((schema.name.as_str(), has_tables))
    })
}

/// The finding of a schema that looks like a tenant's.
pub(super) fn unregistered(name: &str, by_tables: bool) -> Finding {
    let sign = if by_tables { "has the tenants' tables" } else { "has a history of migrations" };
    let fix = Fix::None("register the tenant, or drop the schema if it is a dropped or renamed one's remains".into());
    Draft::new(Kind::Unregistered, format!("{sign} and is not registered"), fix).of(name)
}

fn twins(listing: &Listing, schemas: &Schemas) -> Vec<Finding> {
    let mut alike = BTreeMap::<String, BTreeSet<&str>>::new();
    let tenants: BTreeSet<&str> = listing.tenants.iter().map(|tenant| tenant.schema.as_str()).collect();
    for name in schemas.keys().map(String::as_str).chain(tenants.iter().copied()) {
        alike.entry(name.to_lowercase()).or_default().insert(name);
    }
    let mut found = Vec::new();
    for names in alike.into_values().filter(|names| names.len() > 1) {
        for tenant in names.iter().filter(|name| tenants.contains(*name)) {
            let others: Vec<String> = names.iter().filter(|name| *name != tenant).map(ToString::to_string).collect();
            let says = format!("differs only by upper and lower case from {}", others.join(", "));
            let fix = Fix::None("rename one of them, before somebody takes one for the other".into());
            found.push(Draft::new(Kind::CaseTwin, says, fix).examples(others.len() as u64, others).of(tenant));
        }
    }
    found
}
