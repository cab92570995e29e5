//! Where one statement of a script ends and the next begins, so far as that can be told without a parser.

/// The first word of every statement, outside of comments, quotes and dollar quotes.
///
/// The statements of a `BEGIN ATOMIC` body count too: a body cannot hold transaction control.
pub(crate) fn first_words(script: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let mut rest = script;
    let mut at_start = true;
    while let Some(c) = rest.chars().next() {
        let length = match c {
            ';' => {
                at_start = true;
                1
            }
            '-' if rest.starts_with("--") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => comment(rest),
            '\'' | '"' => quoted(rest, c),
            '$' => dollar_quoted(rest),
            c if c.is_alphabetic() || c == '_' => {
                let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
                if at_start {
                    words.push(&rest[..end]);
                }
                at_start = false;
                // E'..' knows backslashes; the quote itself comes next.
                match rest[end..].starts_with('\'') && rest[..end].eq_ignore_ascii_case("e") {
                    true => end + escaped(&rest[end..]),
                    false => end,
                }
            }
            c => c.len_utf8(),
        };
        rest = &rest[length..];
    }
    words
}

/// The script without the word CONCURRENTLY, outside of comments, quotes and dollar quotes.
///
/// It is a reserved word, so that no unquoted name can be meant.
pub(crate) fn without_concurrently(script: &str) -> String {
    let mut out = String::with_capacity(script.len());
    let mut rest = script;
    while let Some(c) = rest.chars().next() {
        let length = match c {
            '-' if rest.starts_with("--") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => comment(rest),
            '\'' | '"' => quoted(rest, c),
            '$' => dollar_quoted(rest),
            c if c.is_alphanumeric() || c == '_' => {
                let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_' && c != '$').unwrap_or(rest.len());
                if rest[..end].eq_ignore_ascii_case("concurrently") {
                    rest = &rest[end..];
                    continue;
                }
                match rest[end..].starts_with('\'') && rest[..end].eq_ignore_ascii_case("e") {
                    true => end + escaped(&rest[end..]),
                    false => end,
                }
            }
            c => c.len_utf8(),
        };
        out += &rest[..length];
        rest = &rest[length..];
    }
    out
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

fn quoted(text: &str, quote: char) -> usize {
    text[1..].find(quote).map_or(text.len(), |end| end + 2)
}

fn escaped(text: &str) -> usize {
    let mut escape = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escape => escape = false,
            '\\' => escape = true,
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
    fn only_the_first_word_of_a_statement_counts() {
        let script = "-- COMMIT;\n/* a /* nested; */ COMMIT; */ CREATE TABLE a (t text DEFAULT ';COMMIT;');\n\
            INSERT INTO a VALUES (E'it\\'s; ROLLBACK;'), ('x''; BEGIN;'); DO $body$ BEGIN; COMMIT; $body$; \
            SELECT \"odd; BEGIN\", $1; commit";
        assert_eq!(first_words(script), ["CREATE", "INSERT", "DO", "SELECT", "commit"]);
        assert_eq!(first_words(""), Vec::<&str>::new());
        assert_eq!(first_words("BEGIN; SELECT 1"), ["BEGIN", "SELECT"]);
    }
}
