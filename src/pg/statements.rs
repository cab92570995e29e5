//! Scripts taken apart into statements, so far as that goes without a parser.

use std::ops::Range;

/// The statements of a script, without what is between them.
pub(crate) fn split(script: &str) -> Vec<&str> {
    let (mut statements, mut first, mut last) = (Vec::new(), None, 0);
    // Semicolons inside of these end no statement.
    let (mut parentheses, mut bodies, mut before) = (0_u32, 0_u32, "");
    for token in tokens(script) {
        let text = &script[token.range.clone()];
        match text {
            "(" => parentheses += 1,
            ")" => parentheses = parentheses.saturating_sub(1),
            ";" if parentheses == 0 && bodies == 0 => {
                statements.extend(first.take().map(|first: usize| &script[first..last]));
                before = "";
                continue;
            }
            // `BEGIN ATOMIC … END`, in which `CASE … END` may stand.
            word if token.word && is(word, "ATOMIC") && is(before, "BEGIN") => bodies += 1,
            word if token.word && is(word, "CASE") && bodies > 0 => bodies += 1,
            word if token.word && is(word, "END") => bodies = bodies.saturating_sub(1),
            _ => {}
        }
        first.get_or_insert(token.range.start);
        last = token.range.end;
        before = text;
    }
    statements.extend(first.map(|first| &script[first..last]));
    statements
}

/// The first word that begins or ends a transaction, if a statement of the script does.
pub(crate) fn transaction_control(script: &str) -> Option<&str> {
    let control = |statement| {
        let mut words = words(statement);
        let word = words.next()?;
        let is_control =
            ["BEGIN", "START", "COMMIT", "END", "ROLLBACK", "ABORT"].iter().any(|control| is(word, control));
        let is_prepared = is(word, "PREPARE") && words.next().is_some_and(|next| is(next, "TRANSACTION"));
        (is_control || is_prepared).then_some(word)
    };
    split(script).into_iter().find_map(control)
}

/// Whether a setting is changed, a role for one, which would stay so for the rest of the transaction.
pub(crate) fn changes_settings(script: &str) -> bool {
    let changes = |statement| {
        let words: Vec<&str> = words(statement).collect();
        match words.as_slice() {
            [set, constraints, ..] if is(set, "SET") && is(constraints, "CONSTRAINTS") => false,
            [set, ..] if is(set, "SET") || is(set, "RESET") => true,
            words => words.iter().any(|word| is(word, "set_config")),
        }
    };
    split(script).into_iter().any(changes)
}

/// The index that a statement creates without blocking writers, if it does.
pub(crate) fn concurrent_index(statement: &str) -> Option<String> {
    let words: Vec<&str> = words(statement).collect();
    let mut words = words.as_slice();
    for (word, optional) in [
        ("CREATE", false),
        ("UNIQUE", true),
        ("INDEX", false),
        ("CONCURRENTLY", false),
        ("IF", true),
        ("NOT", true),
        ("EXISTS", true),
    ] {
        match words.first() {
            Some(found) if is(found, word) => words = &words[1..],
            _ if optional => {}
            _ => return None,
        }
    }
    match words.first() {
        // Left to PostgreSQL to name.
        Some(on) if is(on, "ON") => None,
        Some(quoted) if quoted.starts_with('"') => Some(quoted[1..quoted.len() - 1].replace("\"\"", "\"")),
        Some(name) => Some(name.to_lowercase()),
        None => None,
    }
}

/// The script without the word CONCURRENTLY, outside of comments and quotes: in a form that a transaction allows.
///
/// It is a reserved word, so that no unquoted name can be meant.
pub(crate) fn without_concurrently(script: &str) -> String {
    let is_concurrently = |token: &Token| token.word && is(&script[token.range.clone()], "CONCURRENTLY");
    let (mut text, mut at) = (String::new(), 0);
    for token in tokens(script).into_iter().filter(is_concurrently) {
        text += &script[at..token.range.start];
        at = token.range.end;
    }
    text + &script[at..]
}

/// Words and quoted names.
fn words(statement: &str) -> impl Iterator<Item = &str> {
    let named = |token: &Token| token.word || statement[token.range.clone()].starts_with('"');
    tokens(statement).into_iter().filter(named).map(|token| &statement[token.range])
}

fn is(word: &str, keyword: &str) -> bool {
    word.eq_ignore_ascii_case(keyword)
}

struct Token {
    range: Range<usize>,
    /// A keyword, or a name without quotes.
    word: bool,
}

/// What a script is made of, but for blanks and comments.
fn tokens(script: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(c) = script[at..].chars().next() {
        let rest = &script[at..];
        let (length, word) = match c {
            c if c.is_whitespace() => {
                at += c.len_utf8();
                continue;
            }
            '-' if rest.starts_with("--") => {
                at += rest.find('\n').unwrap_or(rest.len());
                continue;
            }
            '/' if rest.starts_with("/*") => {
                at += comment(rest);
                continue;
            }
            '\'' | '"' => (quoted(rest, c), false),
            '$' => (dollar_quoted(rest), false),
            c if c.is_alphanumeric() || c == '_' => {
                // A dollar sign inside a name opens no quote.
                let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_' && c != '$').unwrap_or(rest.len());
                // E'..' knows backslashes.
                match rest[end..].starts_with('\'') && is(&rest[..end], "e") {
                    true => (end + escaped(&rest[end..]), false),
                    false => (end, true),
                }
            }
            c => (c.len_utf8(), false),
        };
        tokens.push(Token { range: at..at + length, word });
        at += length;
    }
    tokens
}

/// Comments nest.
fn comment(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        let rest = &text[at..];
        if rest.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest.starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

/// A doubled quote is one that does not end it.
fn quoted(text: &str, quote: char) -> usize {
    let mut at = 1;
    while let Some(end) = text[at..].find(quote) {
        at += end + 1;
        if !text[at..].starts_with(quote) {
            return at;
        }
        at += 1;
    }
    text.len()
}

fn escaped(text: &str) -> usize {
    let mut escape = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escape => escape = false,
            '\\' => escape = true,
            // Doubled, it does not end it here, either.
            '\'' if text[at + 1..].starts_with('\'') => escape = true,
            '\'' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

fn dollar_quoted(text: &str) -> usize {
    let Some(end) = text[1..].find('$') else { return 1 };
    let tag = &text[..end + 2];
    if !tag[1..end + 1].chars().all(|c| c.is_alphanumeric() || c == '_') {
        return 1;
    }
    text[tag.len()..].find(tag).map_or(text.len(), |close| close + 2 * tag.len())
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
        assert_eq!(transaction_control(quoted), None);
        assert_eq!(transaction_control(""), None);
        assert_eq!(transaction_control("SELECT 1; commit"), Some("commit"));
        assert_eq!(transaction_control("SELECT 1; END"), Some("END"));
        assert_eq!(transaction_control("prepare transaction 'x'"), Some("prepare"));
    }

    #[test]
    fn a_setting_is_changed_by_a_statement_of_its_own_or_by_a_call() {
        for script in ["SELECT 1; set local role x", "RESET ROLE", "SELECT pg_catalog.set_config('role', 'x', true)"] {
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
        let name = |statement: &str| concurrent_index(statement);
        assert_eq!(name("CREATE INDEX CONCURRENTLY Idx ON t (a)"), Some("idx".into()));
        assert_eq!(name("create unique index concurrently if not exists \"I \"\"x\" on t (a)"), Some("I \"x".into()));
        assert_eq!(name("CREATE INDEX CONCURRENTLY ON t (a)"), None);
        assert_eq!(name("CREATE INDEX i ON t (a)"), None);
        assert_eq!(name("DROP INDEX CONCURRENTLY i"), None);
    }
}
