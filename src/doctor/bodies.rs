//! What functions name in their text, which PostgreSQL looks up only when they are called.

use std::collections::BTreeSet;

use diesel::{
    PgConnection, QueryResult, QueryableByName, RunQueryDsl, sql_query,
    sql_types::{Array, Text},
};

use super::{
    Finding, Fix, Kind,
    draft::Draft,
    named::{Target, named},
};
use crate::structure::{self, Object, Structure};

/// A function, and what it names.
#[derive(Debug, Clone)]
pub(super) struct Body {
    kind: structure::Kind,
    name: String,
    pub(super) targets: Vec<Target>,
}

/// The functions of these structures that name something that there is, of each structure in its order.
pub(super) fn read(conn: &mut PgConnection, structures: &[&Structure]) -> QueryResult<Vec<Vec<Body>>> {
    use structure::Kind::{Aggregate, Function, Procedure};
    let body = |object: &Object| Body {
        kind: object.kind,
        name: object.name.clone(),
        targets: object.facts.iter().flat_map(|fact| named(fact)).collect(),
    };
    let is_function = |object: &&Object| matches!(object.kind, Function | Procedure | Aggregate);
    let mut bodies: Vec<Vec<Body>> =
        structures.iter().map(|structure| structure.objects.iter().filter(is_function).map(body).collect()).collect();
    let all = bodies.iter().flatten().flat_map(|body| body.targets.iter().cloned()).collect();
    let there = existing(conn, all)?;
    for body in bodies.iter_mut().flatten() {
        body.targets.retain(|target| there.contains(target));
        body.targets.sort();
        body.targets.dedup();
    }
    Ok(bodies)
}

/// The findings in a schema whose functions these are.
pub(super) fn outwards<'b>(bodies: &'b [Body], own: &'b str) -> impl Iterator<Item = Draft> + 'b {
    bodies.iter().filter_map(move |body| {
        let others = body.targets.iter().filter(|target| target.schema != own);
        let others: Vec<String> = others.map(|target| target.shown(&target.schema)).collect();
        if others.is_empty() {
            return None;
        }
        let says = format!("{} {} names {}", body.kind, body.name, others.join(", "));
        let fix = Fix::None("make it again with bare names, which follow the caller's path".into());
        let draft = Draft::new(Kind::FunctionLeak, says, fix).examples(others.len() as u64, others);
        Some(draft.covering(body.kind, None, &body.name))
    })
}

/// The findings in these tenants, of functions in these other schemas.
pub(super) fn inwards(
    conn: &mut PgConnection,
    schemas: &[&str],
    tenants: &BTreeSet<&str>,
) -> QueryResult<Vec<Finding>> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        name: String,
        #[diesel(sql_type = Text)]
        says: String,
    }
    // Many functions beside few tenants need not all be sent.
    let few: Vec<&str> = if tenants.len() > FEW { Vec::new() } else { tenants.iter().copied().collect() };
    let rows: Vec<Row> = sql_query(
        "SELECT n.nspname || '.' || f.proname || '()' AS name, \
                concat_ws(E'\\n', f.prosrc, 'SET ' || array_to_string(f.proconfig, E'\\nSET ')) AS says \
         FROM pg_catalog.pg_namespace n JOIN pg_catalog.pg_proc f ON f.pronamespace = n.oid \
         WHERE n.nspname = ANY ($1) AND f.prolang NOT IN ( \
                   SELECT l.oid FROM pg_catalog.pg_language l WHERE l.lanname IN ('c', 'internal')) \
           AND (cardinality($2) = 0 OR EXISTS ( \
                   SELECT FROM unnest($2) t WHERE strpos(lower(f.prosrc || f.proconfig::text), lower(t)) > 0 \
                                               OR strpos(lower(f.prosrc), lower(t)) > 0)) \
           AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_proc'::regclass \
                           AND d.objid = f.oid AND d.deptype = 'e') \
         ORDER BY 1",
    )
    .bind::<Array<Text>, _>(schemas)
    .bind::<Array<Text>, _>(few)
    .load(conn)?;
    let targets = |row: &Row| -> BTreeSet<Target> {
        named(&row.says).into_iter().filter(|target| tenants.contains(&*target.schema)).collect()
    };
    let named: Vec<BTreeSet<Target>> = rows.iter().map(targets).collect();
    let there = existing(conn, named.iter().flatten().cloned().collect())?;
    let mut found = Vec::new();
    for (row, targets) in rows.iter().zip(&named) {
        for target in targets.intersection(&there) {
            let fix = Fix::None("it stands in the way of dropping, renaming and moving the tenant: drop it".into());
            let says = format!("function {} names {}", row.name, target.shown("its"));
            let draft = Draft::new(Kind::FunctionLeak, says, fix).examples(1, vec![row.name.clone()]);
            found.push(if target.name.is_empty() { draft } else { draft.table(&target.name) }.of(&target.schema));
        }
    }
    Ok(found)
}

/// So few tenants that the server looks for their names.
const FEW: usize = 10;

/// Those of them that there are, and that are not everybody's: PostgreSQL's own, the extensions', types of `public`.
fn existing(conn: &mut PgConnection, targets: BTreeSet<Target>) -> QueryResult<BTreeSet<Target>> {
    if targets.is_empty() {
        return Ok(targets);
    }
    let (schemas, names): (Vec<String>, Vec<String>) =
        targets.into_iter().map(|target| (target.schema, target.name)).unzip();
    let found: Vec<Target> = sql_query(include_str!("bodies.sql"))
        .bind::<Array<Text>, _>(schemas)
        .bind::<Array<Text>, _>(names)
        .load(conn)?;
    Ok(found.into_iter().collect())
}
