//! Scripts taken apart into statements, so far as that goes without a parser.

use std::fmt;

use super::lexer::{Token, tokens};

/// The statements of a script, without what is between them.
pub(crate) fn split(script: &str) -> Vec<&str> {
    statements(script).iter().map(|statement| text(script, statement)).collect()
}

/// What a migration's script cannot have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unfit<'s> {
    /// This word begins or ends a transaction.
    Control(&'s str),
    /// COPY from the client.
    CopyFrom,
    /// COPY to the client.
    CopyTo,
    /// A command that psql would carry out itself.
    Psql(&'s str),
}

impl fmt::Display for Unfit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Control(word) => {
                write!(f, "it has a {word} of its own, and runs in a transaction with its record: take that out")
            }
            Self::CopyFrom => f.write_str(
                "it has COPY FROM STDIN, and a migration has no input: write INSERT, or COPY from a file on the server",
            ),
            Self::CopyTo => {
                f.write_str("it has COPY TO STDOUT, and nothing reads what a migration prints: take that out")
            }
            Self::Psql(command) => {
                write!(f, "it has {command}, a command of psql that the server does not know: write it in SQL")
            }
        }
    }
}

/// The first thing in a script that a migration cannot have.
pub(crate) fn unfit(script: &str) -> Option<Unfit<'_>> {
    statements(script).iter().find_map(|statement| {
        let backslash = statement.iter().find(|token| token.is_mark('\\'));
        control(statement)
            .or_else(|| copy(statement))
            .or_else(|| backslash.map(|backslash| Unfit::Psql(command(&script[backslash.at..]))))
    })
}

fn control<'s>(statement: &[Token<'s>]) -> Option<Unfit<'s>> {
    const CONTROL: &[&str] = &["BEGIN", "START", "COMMIT", "END", "ROLLBACK", "ABORT"];
    let first = statement.first()?;
    let is_control = CONTROL.iter().any(|control| first.is(control));
    (is_control || begins(statement, &["PREPARE", "TRANSACTION"])).then_some(Unfit::Control(first.text))
}

fn copy<'s>(statement: &[Token<'s>]) -> Option<Unfit<'s>> {
    if !begins(statement, &["COPY"]) {
        return None;
    }
    let outside = outside_parentheses(statement);
    // Both words are reserved, so that no name is meant.
    let at = outside.iter().position(|token| token.is("FROM") || token.is("TO"))?;
    // PostgreSQL takes either for the other.
    let is_client = outside.get(at + 1).is_some_and(|place| place.is("STDIN") || place.is("STDOUT"));
    let is_from = outside[at].is("FROM");
    is_client.then_some(if is_from { Unfit::CopyFrom } else { Unfit::CopyTo })
}

/// The name of a command of psql, which a text begins with.
fn command(text: &str) -> &str {
    let letters = text[1..].find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(text.len() - 1);
    let symbol = text[1..].chars().next().filter(|c| !c.is_whitespace()).map_or(0, char::len_utf8);
    &text[..1 + letters.max(symbol)]
}

/// Whether a setting is changed, a role for one, which would stay so for the rest of the transaction.
pub(crate) fn changes_settings(script: &str) -> bool {
    let is_set_config = |token: &Token<'_>| token.name().is_some_and(|name| name == "set_config");
    statements(script).iter().any(|statement| {
        let sets = begins(statement, &["SET"]) && !begins(statement, &["SET", "CONSTRAINTS"]);
        sets || begins(statement, &["RESET"]) || statement.iter().any(is_set_config)
    })
}

/// The index that a statement creates without blocking writers, if it does; `None` too where PostgreSQL names it.
pub(crate) fn concurrent_index(statement: &str) -> Option<String> {
    let tokens: Vec<Token<'_>> = tokens(statement).collect();
    let rest = after(&tokens, &["CREATE"])?;
    let rest = after(rest, &["UNIQUE"]).unwrap_or(rest);
    let rest = after(rest, &["INDEX", "CONCURRENTLY"])?;
    let rest = after(rest, &["IF", "NOT", "EXISTS"]).unwrap_or(rest);
    rest.first().filter(|name| !name.is("ON")).and_then(Token::name)
}

/// The script without the word CONCURRENTLY, outside of comments and quotes: in a form that a transaction allows.
///
/// It is a reserved word, so that no unquoted name can be meant.
pub(crate) fn without_concurrently(script: &str) -> String {
    let (mut text, mut at) = (String::new(), 0);
    for token in tokens(script).filter(|token| token.is("CONCURRENTLY")) {
        text += &script[at..token.at];
        at = token.end();
    }
    text + &script[at..]
}

/// The tokens of each statement, of which there is at least one.
fn statements(script: &str) -> Vec<Vec<Token<'_>>> {
    let (mut statements, mut current) = (Vec::new(), Vec::<Token<'_>>::new());
    // Semicolons inside of these end no statement of the script.
    let (mut parentheses, mut bodies) = (0_u32, 0_u32);
    // Where the innermost statement begins: the current one, or one in its body.
    let mut start = 0;
    for token in tokens(script) {
        let is_first = start == current.len();
        if token.is_mark('(') {
            parentheses += 1;
        } else if token.is_mark(')') {
            parentheses = parentheses.saturating_sub(1);
        } else if token.is_mark(';') && parentheses == 0 {
            if bodies == 0 {
                statements.extend(Some(std::mem::take(&mut current)).filter(|statement| !statement.is_empty()));
                start = 0;
                continue;
            }
            start = current.len() + 1;
        } else if token.is("ATOMIC") && parentheses == 0 && opens_body(&current[start..]) {
            bodies += 1;
            start = current.len() + 1;
        } else if token.is("END") && is_first {
            // Anywhere else it belongs to a CASE, or is a label.
            bodies = bodies.saturating_sub(1);
        }
        current.push(token);
    }
    statements.extend(Some(current).filter(|statement| !statement.is_empty()));
    statements
}

/// Whether ATOMIC begins a body behind these tokens. Elsewhere, as in `SELECT begin atomic`, both words are names.
fn opens_body(statement: &[Token<'_>]) -> bool {
    let Some(rest) = after(statement, &["CREATE"]) else { return false };
    let rest = after(rest, &["OR", "REPLACE"]).unwrap_or(rest);
    let is_routine = begins(rest, &["FUNCTION"]) || begins(rest, &["PROCEDURE"]);
    is_routine && rest.last().is_some_and(|last| last.is("BEGIN"))
}

/// What follows these words, if the tokens begin with them.
fn after<'t, 's>(tokens: &'t [Token<'s>], words: &[&str]) -> Option<&'t [Token<'s>]> {
    let (first, rest) = tokens.split_at_checked(words.len())?;
    first.iter().zip(words).all(|(token, word)| token.is(word)).then_some(rest)
}

fn begins(tokens: &[Token<'_>], words: &[&str]) -> bool {
    after(tokens, words).is_some()
}

fn outside_parentheses<'s>(statement: &[Token<'s>]) -> Vec<Token<'s>> {
    let mut depth = 0_u32;
    let mut outside = Vec::new();
    for token in statement {
        if token.is_mark('(') {
            depth += 1;
        } else if token.is_mark(')') {
            depth = depth.saturating_sub(1);
        } else if depth == 0 {
            outside.push(*token);
        }
    }
    outside
}

fn text<'s>(script: &'s str, statement: &[Token<'s>]) -> &'s str {
    match statement {
        [first, .., last] => &script[first.at..last.end()],
        [only] => only.text,
        [] => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn concurrently_goes_only_where_it_is_the_word() {
        let script = "CREATE INDEX concurrently i ON t (a); -- CONCURRENTLY\nDROP INDEX CONCURRENTLY \"CONCURRENTLY\"; \
            SELECT 'CONCURRENTLY', E'\\' CONCURRENTLY', $$CONCURRENTLY$$, concurrently_not";
        let expected = "CREATE INDEX  i ON t (a); -- CONCURRENTLY\nDROP INDEX  \"CONCURRENTLY\"; \
            SELECT 'CONCURRENTLY', E'\\' CONCURRENTLY', $$CONCURRENTLY$$, concurrently_not";
        assert_eq!(without_concurrently(script), expected);
    }

    #[test]
    fn only_the_first_word_of_a_statement_controls_a_transaction() {
        let quoted = "-- COMMIT;\n/* a /* nested; */ COMMIT; */ CREATE TABLE a (t text DEFAULT ';COMMIT;');\n\
            INSERT INTO a VALUES (E'it\\'s; ROLLBACK;'), ('x''; BEGIN;'); DO $body$ BEGIN; COMMIT; $body$; \
            SELECT \"odd; BEGIN\", $1; PREPARE x AS SELECT 1";
        assert_eq!(unfit(quoted), None);
        assert_eq!(unfit(""), None);
        for (script, word) in [
            ("SELECT 1; commit", "commit"),
            ("SELECT 1; END", "END"),
            ("prepare transaction 'x'", "prepare"),
            // Comments end at a carriage return, too.
            ("-- keep it simple\rCOMMIT", "COMMIT"),
            ("SELECT E'what it'\n' isn\\'t'; ROLLBACK; -- '", "ROLLBACK"),
            ("SELECT $😀$ ' $😀$; COMMIT", "COMMIT"),
            ("CREATE TABLE a AS SELECT begin atomic; COMMIT", "COMMIT"),
            ("CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1 AS case; END; COMMIT", "COMMIT"),
        ] {
            assert_eq!(unfit(script), Some(Unfit::Control(word)), "{script:?}");
        }
    }

    #[test]
    fn what_needs_a_client_is_named() {
        for (script, found) in [
            ("COPY t (a, b) FROM STDIN;\n1\tit's\n\\.\n", Some(Unfit::CopyFrom)),
            ("copy binary s.t from stdin", Some(Unfit::CopyFrom)),
            ("COPY (SELECT 1 FROM stdin) TO STDOUT WITH (FORMAT csv)", Some(Unfit::CopyTo)),
            ("COPY stdin FROM '/a/file'; COPY t TO PROGRAM 'STDOUT'; SELECT 1 FROM stdin", None),
            ("SELECT 1;\n\\i other.sql\n", Some(Unfit::Psql("\\i"))),
            ("\\copy t FROM 'a.csv'; COMMIT", Some(Unfit::Psql("\\copy"))),
            ("SELECT 1 \\; SELECT 2", Some(Unfit::Psql("\\;"))),
            ("SELECT 1 \\", Some(Unfit::Psql("\\"))),
            ("SELECT '\\i', E'\\\\i' -- \\i", None),
        ] {
            assert_eq!(unfit(script), found, "{script:?}");
        }
    }

    #[test]
    fn a_setting_is_changed_by_a_statement_of_its_own_or_by_a_call() {
        for script in
            ["SELECT 1; set local role x", "RESET ROLE", "SELECT pg_catalog.\"set_config\"('role', 'x', true)"]
        {
            assert!(changes_settings(script), "{script}");
        }
        for script in [
            "UPDATE t SET a = 1",
            "ALTER TABLE t ALTER a SET NOT NULL",
            "SET CONSTRAINTS ALL DEFERRED",
            "SELECT 'set_config'",
        ] {
            assert!(!changes_settings(script), "{script}");
        }
    }

    #[test]
    fn statements_end_where_postgresql_ends_them() {
        assert_eq!(split("  ; -- nothing\n /* ; */ ;"), Vec::<&str>::new());
        assert_eq!(split("SELECT 1 -- one;\n; SELECT ';' ;"), ["SELECT 1", "SELECT ';'"]);
        assert_eq!(split("SELECT 'it''s;', \"a\"\";b\"; X"), ["SELECT 'it''s;', \"a\"\";b\"", "X"]);
        let function = "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; SELECT CASE WHEN true THEN 1 END; END";
        assert_eq!(split(&format!("{function}; SELECT 2;")), [function, "SELECT 2"]);
        let labels = "create or replace procedure p(a int default 1)\nbegin -- it\natomic select 1 end; select 2 AS end, t.case FROM t; end";
        assert_eq!(split(&format!("{labels}; SELECT 2;")), [labels, "SELECT 2"]);
        assert_eq!(
            split("CREATE RULE r AS ON INSERT TO t DO (A; B); C"),
            ["CREATE RULE r AS ON INSERT TO t DO (A; B)", "C"]
        );
        assert_eq!(split("SELECT a$b; SELECT c$d"), ["SELECT a$b", "SELECT c$d"]);
        let escaped = r"SELECT E'it''s \'; COMMIT; \''";
        assert_eq!(split(&format!("{escaped}; X")), [escaped, "X"]);
    }

    #[test]
    fn an_index_made_concurrently_has_a_name() {
        let name = concurrent_index;
        assert_eq!(name("CREATE INDEX CONCURRENTLY Idx ON t (a)"), Some("idx".into()));
        assert_eq!(name("create unique index concurrently if not exists \"I \"\"x\" on t (a)"), Some("I \"x".into()));
        assert_eq!(name("CREATE INDEX CONCURRENTLY ON t (a)"), None);
        assert_eq!(name("CREATE INDEX CONCURRENTLY if ON t (a)"), Some("if".into()));
        assert_eq!(name("CREATE INDEX i ON t (a)"), None);
        assert_eq!(name("DROP INDEX CONCURRENTLY i"), None);
    }
}
