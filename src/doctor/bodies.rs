//! What functions name in their text, which PostgreSQL looks up only when they are called.

use std::collections::BTreeSet;

use diesel::{
    PgConnection, QueryResult, QueryableByName, RunQueryDsl, sql_query,
    sql_types::{Array, Text},
};

use super::{
    Finding, Fix, Kind,
    draft::Draft,
    words::{Word, words},
};
use crate::structure::{self, Object, Structure};

/// A relation, a function or a type with its schema; without a name, the schema itself, which is put on the path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, QueryableByName)]
pub(super) struct Target {
    #[diesel(sql_type = Text)]
    pub(super) schema: String,
    #[diesel(sql_type = Text)]
    name: String,
}

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

impl Target {
    /// How it is told, where the schema is called so.
    fn shown(&self, schema: &str) -> String {
        match (self.name.as_str(), schema) {
            ("", "its") => "its schema".into(),
            ("", schema) => format!("schema {schema}"),
            (name, "its") => format!("its {name}"),
            (name, schema) => format!("{schema}.{name}"),
        }
    }
}

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

/// Every `schema.name` of a text that can be nothing else, if there is such a thing; and the schemas that it puts on
/// the path.
///
/// What stands before a dot may just as well be a table's alias, a variable or an argument. If the text has that
/// word alone, too, only a place counts where there can be none of those: what is read, written to or called.
fn named(text: &str) -> Vec<Target> {
    let words = words(text);
    let (mut found, mut of_paths) = (Vec::new(), BTreeSet::new());
    for at in (0..words.len()).filter(|at| words[*at].is("search_path")) {
        for (at, name) in path(&words, at + 1) {
            of_paths.insert(at);
            found.push(Target { schema: name, name: String::new() });
        }
    }
    let at = |at: Option<usize>| at.and_then(|at| words.get(at));
    let before = |here: usize, steps: usize| at(here.checked_sub(steps));
    let is_dot = |word: Option<&Word>| word == Some(&Word::Mark('.'));
    let is_begin = |word: Option<&Word>| matches!(word, Some(Word::Begin(_)));
    let mut alone: BTreeSet<&str> = ["new", "old", "excluded"].into();
    for (here, word) in words.iter().enumerate() {
        let is_whole = is_begin(before(here, 1)) && at(Some(here + 1)) == Some(&Word::End);
        let is_part = is_dot(before(here, 1)) || is_dot(at(Some(here + 1)));
        alone.extend(word.name().filter(|_| !is_whole && !is_part && !of_paths.contains(&here)));
    }
    let mut depth = 0;
    for (here, word) in words.iter().enumerate() {
        match word {
            Word::Begin(_) => depth += 1,
            Word::End => depth -= 1,
            Word::Name(schema) if is_dot(at(Some(here + 1))) && !is_dot(before(here, 1)) => {
                let name = at(Some(here + 2)).and_then(Word::name).unwrap_or_default();
                let after = at(Some(here + 3));
                let is_placed = match before(here, 1) {
                    Some(Word::Name(keyword)) if keyword == "from" => {
                        !before(here, 2).is_some_and(|word| word.is("distinct"))
                    }
                    Some(Word::Name(keyword)) => PLACES.contains(&keyword.as_str()),
                    Some(Word::Mark(':')) => before(here, 2) == Some(&Word::Mark(':')),
                    Some(Word::Begin(_)) => !name.is_empty() && after == Some(&Word::End),
                    _ => false,
                };
                let is_called = !name.is_empty() && after == Some(&Word::Mark('('));
                let is_plain = depth == 0 && !name.is_empty() && !alone.contains(schema.as_str());
                if is_placed || is_called || is_plain {
                    found.push(Target { schema: schema.clone(), name: name.into() });
                }
            }
            _ => {}
        }
    }
    found
}

/// What only a relation or a function can follow, beside FROM.
const PLACES: &[&str] = &["join", "into", "update", "only", "table", "truncate", "lateral", "references", "call"];

/// The schemas of a path that is set here, and where they stand.
fn path(words: &[Word], mut at: usize) -> Vec<(usize, String)> {
    let mut names = Vec::new();
    while words.get(at) == Some(&Word::End) {
        at += 1;
    }
    match words.get(at) {
        Some(Word::Mark('=' | ',')) => at += 1,
        Some(word) if word.is("to") => at += 1,
        _ => return names,
    }
    let (mut expected, mut inside) = (true, false);
    for (at, word) in words.iter().enumerate().skip(at) {
        match word {
            Word::Begin(whole) if expected => {
                names.push((at, whole.clone()));
                (expected, inside) = (false, true);
            }
            Word::End => inside = false,
            Word::Name(name) if expected || inside => {
                names.push((at, name.clone()));
                expected = false;
            }
            Word::Mark(',') => expected = !inside,
            _ if inside => {}
            _ => break,
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &[&str]) {
        let shown: BTreeSet<String> = named(text).iter().map(|target| target.shown(&target.schema)).collect();
        assert_eq!(shown.into_iter().collect::<Vec<_>>(), expected, "{text}");
    }

    #[test]
    fn an_alias_or_a_variable_is_no_schema() {
        check("SELECT acme.id FROM users acme", &[]);
        check("SELECT acme.id FROM users AS acme WHERE acme.x IS DISTINCT FROM acme.y", &[]);
        check("SELECT new.id, old.id", &[]);
        check("DECLARE acme record; BEGIN RETURN acme.total; END", &[]);
        check("EXECUTE 'SELECT acme.id FROM users acme'", &[]);
        check("-- acme.users\nSELECT 'see acme.users for more' /* acme.users */", &[]);
    }

    #[test]
    fn what_can_only_be_a_schema_is_one() {
        check("SELECT acme.id FROM globex.users acme", &["globex.users"]);
        check("SELECT acme.id FROM users acme JOIN acme.orders o USING (id)", &["acme.orders"]);
        check("SELECT acme.f(acme.id) FROM users acme", &["acme.f"]);
        check("SELECT 1 FROM a, \"Big Co\".b WHERE 1.5 < x", &["Big Co.b"]);
        check("SELECT nextval('acme.s'), acme.t.c, x::acme.mood", &["acme.mood", "acme.s", "acme.t"]);
        check("EXECUTE 'DELETE FROM acme.users'; EXECUTE 'UPDATE acme.' || name", &["acme.users", "schema acme"]);
    }

    #[test]
    fn schemas_on_a_path_are_named() {
        let path = "AS x\n SET search_path TO 'Big-Co', 'acme'\nAS";
        check(path, &["schema Big-Co", "schema acme", "schema big", "schema co"]);
        check("set_config('search_path', 'acme', true)", &["schema acme", "schema true"]);
        check("SET LOCAL search_path = acme; SELECT current_setting('search_path')", &["schema acme"]);
    }
}
