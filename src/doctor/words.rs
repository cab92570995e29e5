//! The words of a function's text: enough of SQL to tell a name from a comment and a string.

/// A word of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Word {
    /// A name or a keyword, as PostgreSQL folds it.
    Name(String),
    /// Any other character.
    Mark(char),
    /// A string begins, which says this. Its words come next, since it may be SQL too.
    Begin(String),
    /// The string ends.
    End,
}

impl Word {
    /// The name, if it is one.
    pub(super) fn name(&self) -> Option<&str> {
        match self {
            Self::Name(name) => Some(name),
            _ => None,
        }
    }

    pub(super) fn is(&self, keyword: &str) -> bool {
        self.name() == Some(keyword)
    }
}

/// The words of a text, without comments. What is between dollars is read as if it were not.
pub(super) fn words(text: &str) -> Vec<Word> {
    let mut words = Vec::new();
    let (mut rest, mut open) = (text, Vec::new());
    while let Some(c) = rest.chars().next() {
        let length = match c {
            '-' if rest.starts_with("--") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => comment(rest),
            '\'' => string(rest, false, &mut words),
            'e' | 'E' if rest[1..].starts_with('\'') => 1 + string(&rest[1..], true, &mut words),
            '"' => {
                let (name, length) = quoted(rest, '"', false);
                words.push(Word::Name(name));
                length
            }
            '$' => {
                let length = dollars(rest);
                let tag = &rest[..length];
                match open.last() {
                    Some(last) if *last == tag => drop(open.pop()),
                    _ if length > 1 && tag.ends_with('$') => open.push(tag),
                    _ => {}
                }
                length
            }
            '0'..='9' => number(rest),
            c if starts_name(c) => {
                let name = &rest[..rest.find(|c| !is_name(c)).unwrap_or(rest.len())];
                // What is between dollars ends where they come again.
                let length = open.last().and_then(|tag| name.find(tag)).unwrap_or(name.len());
                words.push(Word::Name(rest[..length].to_lowercase()));
                length
            }
            c if c.is_whitespace() => c.len_utf8(),
            c => {
                words.push(Word::Mark(c));
                c.len_utf8()
            }
        };
        rest = &rest[length..];
    }
    words
}

/// The length of a comment, which may hold others.
fn comment(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        let rest = &text[at..];
        match rest {
            _ if rest.starts_with("/*") => (depth, at) = (depth + 1, at + 2),
            _ if rest.starts_with("*/") => (depth, at) = (depth - 1, at + 2),
            _ => at += rest.chars().next().map_or(1, char::len_utf8),
        }
        if depth == 0 {
            return at;
        }
    }
    at
}

fn string(text: &str, escapes: bool, into: &mut Vec<Word>) -> usize {
    let (says, length) = quoted(text, '\'', escapes);
    let inner = words(&says);
    into.push(Word::Begin(says));
    into.extend(inner);
    into.push(Word::End);
    length
}

/// What is between quotes, which are doubled within, and the length with them.
fn quoted(text: &str, quote: char, escapes: bool) -> (String, usize) {
    let mut says = String::new();
    let mut characters = text.char_indices().skip(1).peekable();
    while let Some((at, c)) = characters.next() {
        match c {
            '\\' if escapes => says.extend(characters.next().map(|(_, c)| c)),
            c if c != quote => says.push(c),
            _ if characters.next_if(|(_, c)| *c == quote).is_some() => says.push(quote),
            _ => return (says, at + 1),
        }
    }
    (says, text.len())
}

/// The length of `$tag$`, or of `$1`.
fn dollars(text: &str) -> usize {
    let tag = text[1..].find(|c| c == '$' || !is_name(c)).map_or(text.len(), |at| at + 1);
    if text[tag..].starts_with('$') { tag + 1 } else { tag }
}

fn number(text: &str) -> usize {
    let digits = |text: &str| text.find(|c| !is_name(c)).unwrap_or(text.len());
    let whole = digits(text);
    match text[whole..].strip_prefix('.') {
        Some(rest) if rest.starts_with(|c: char| c.is_ascii_digit()) => whole + 1 + digits(rest),
        _ => whole,
    }
}

fn starts_name(c: char) -> bool {
    c.is_alphabetic() || c == '_' || !c.is_ascii()
}

fn is_name(c: char) -> bool {
    starts_name(c) || c.is_ascii_digit() || c == '$'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let one = |word: Word| match word {
            Word::Name(name) => name,
            Word::Mark(c) => c.to_string(),
            Word::Begin(_) => "<".into(),
            Word::End => ">".into(),
        };
        assert_eq!(words(text).into_iter().map(one).collect::<Vec<_>>().join(" "), expected);
    }

    #[test]
    fn names_are_folded_and_comments_are_left_out() {
        check(
            "SELECT Acme.f(\"Big \"\"Co\"\"\".t) -- it's a.b\n+ x /* c.d /* */ e.f */ y",
            "select acme . f ( Big \"Co\" . t ) + x y",
        );
        check("a 1.5 $1.x ü.y", "a . x ü . y");
        check("1..n /* open", ". . n");
    }

    #[test]
    fn strings_are_read_too_and_dollars_are_not_seen() {
        check("f('a.b, ''c''') E'\\'d' e", "f ( < a . b , < c > > ) < < d > > e");
        check("AS $body$ SELECT $$x$$, a$b$body$ 'y", "as select x , a$b < y >");
    }
}
