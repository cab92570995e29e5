//! A schema's own name within a definition, which another schema of the same structure does not have.

use crate::{SchemaName, quote};

/// The definition without the schema's name, where it is a prefix or what a function sets its path to.
///
/// PostgreSQL prints most of it bare already; what is left is what a function's body says as text, and names that
/// one of PostgreSQL's own hides. Two definitions that differ before may still be the same after this.
pub(super) fn without(definition: &str, schema: &SchemaName) -> String {
    let quoted = schema.quoted();
    let prefixes = [format!("{}.", schema.as_str()), format!("{quoted}.")];
    let paths = [schema.as_str().to_owned(), quoted, quote::literal(schema.as_str())];
    let mut out = String::with_capacity(definition.len());
    let mut rest = definition;
    let mut before = ' ';
    while let Some(c) = rest.chars().next() {
        let starts_name = !is_name(before) && before != '"' && before != '.';
        let prefix = starts_name.then(|| prefixes.iter().find(|prefix| rest.starts_with(prefix.as_str()))).flatten();
        if let Some(prefix) = prefix {
            rest = &rest[prefix.len()..];
            before = ' ';
            continue;
        }
        if let Some(path) = rest.strip_prefix(SET_PATH) {
            out += SET_PATH;
            let end = path.find('\n').unwrap_or(path.len());
            let elements =
                path[..end].split(", ").map(|name| if paths.iter().any(|own| own == name) { "*" } else { name });
            out += &elements.collect::<Vec<_>>().join(", ");
            rest = &path[end..];
            before = ' ';
            continue;
        }
        out.push(c);
        before = c;
        rest = &rest[c.len_utf8()..];
    }
    out
}

const SET_PATH: &str = "SET search_path TO ";

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '$'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(schema: &str, definition: &str, expected: &str) {
        assert_eq!(without(definition, &schema.parse().unwrap()), expected);
    }

    #[test]
    fn only_the_schemas_own_prefix_goes() {
        check(
            "acme",
            "SELECT acme.f(x) FROM \"acme\".t, not_acme.t, t.acme, acme",
            "SELECT f(x) FROM t, not_acme.t, t.acme, acme",
        );
        check("Acme", "nextval('\"Acme\".s'), acme.t", "nextval('s'), acme.t");
        check("a", "data.x, a.x, b.a.x", "data.x, x, b.a.x");
    }

    #[test]
    fn a_functions_own_path_goes() {
        check(
            "acme",
            "AS x\n SET search_path TO 'acme', 'pg_temp'\nAS $$acme$$",
            "AS x\n SET search_path TO *, 'pg_temp'\nAS $$acme$$",
        );
        check("a-b", " SET search_path TO 'a-b'", " SET search_path TO *");
    }
}
