//! What a function's text names, as far as that is certain.

use std::collections::BTreeSet;

use diesel::{QueryableByName, sql_types::Text};

use super::words::{Word, words};

/// A relation, a function or a type with its schema; without a name, the schema itself, which is put on the path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, QueryableByName)]
pub(super) struct Target {
    #[diesel(sql_type = Text)]
    pub(super) schema: String,
    #[diesel(sql_type = Text)]
    pub(super) name: String,
}

impl Target {
    /// How it is told, where the schema is called so.
    pub(super) fn shown(&self, schema: &str) -> String {
        match (self.name.as_str(), schema) {
            ("", "its") => "its schema".into(),
            ("", schema) => format!("schema {schema}"),
            (name, "its") => format!("its {name}"),
            (name, schema) => format!("{schema}.{name}"),
        }
    }
}

/// Every `schema.name` of a text that can be nothing else, if there is such a thing; and the schemas that it puts on
/// the path.
///
/// What stands before a dot may just as well be a table's alias, a variable or an argument. If the text has that
/// word alone, too, only a place counts where there can be none of those: what is read, written to or called.
pub(super) fn named(text: &str) -> Vec<Target> {
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
