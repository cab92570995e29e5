//! What a script can have only where a client such as psql runs it.

use squawk_syntax::SyntaxKind as Kind;

use super::{
    Rule,
    report::Notice,
    script::{Place, Script},
};

pub(super) const RULES: &[&Rule] = &[&CLIENT];

static CLIENT: Rule = Rule::error(
    "client-only",
    "a script needs psql or the like: COPY FROM STDIN, COPY TO STDOUT, or a command with a backslash",
    "write it in SQL: INSERT for data, or COPY from a file on the server",
);

pub(super) fn check(script: &Script<'_>, found: &mut Vec<Notice>) {
    for (tree, node) in script.nodes().filter(|(tree, _)| tree.place == Place::Script) {
        let message = match node.kind() {
            Kind::COPY_STDIN => "COPY FROM STDIN waits for data, and a migration has none",
            Kind::COPY_STDOUT => "COPY TO STDOUT prints, and nothing reads what a migration prints",
            _ => continue,
        };
        found.push(Notice::at(&CLIENT, tree.offset(&node), message));
    }
    found.extend(backslash(script));
}

/// The first command of psql.
pub(super) fn backslash(script: &Script<'_>) -> Option<Notice> {
    let mut tokens = script.parse.syntax_node().descendants_with_tokens().filter_map(|element| element.into_token());
    let token = tokens.find(|token| token.kind() == Kind::ERROR && token.text().starts_with('\\'))?;
    let at = usize::from(token.text_range().start());
    let command = script.text[at..].split_ascii_whitespace().next().unwrap_or_default();
    Some(Notice::at(&CLIENT, at, format!("{command} is a command of psql, which the server does not know")))
}

#[cfg(test)]
mod tests {
    use crate::lint::tests::check;

    #[test]
    fn what_needs_a_client_is_named() {
        check("COPY t (a) FROM STDIN WITH (FORMAT csv)", &["client-only"]);
        check("COPY (SELECT 1) TO STDOUT", &["client-only"]);
        check("\\i other.sql", &["client-only"]);
        check("SELECT 1;\n\\copy t from 'a.csv'\n", &["client-only"]);
        check("COPY stdin FROM '/srv/t.csv'; SELECT '\\i', E'\\\\i' -- \\i", &[]);
    }
}
