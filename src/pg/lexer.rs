//! SQL taken apart into tokens, where PostgreSQL's own lexer (`scan.l`) ends them.
//!
//! Keywords are not told from names, nor operators from other characters: nothing here needs it.

/// A piece of a text that is neither blank nor comment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Token<'t> {
    pub(crate) kind: Kind,
    pub(crate) text: &'t str,
    /// Where in the whole text it begins.
    pub(crate) at: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A keyword, or a name without quotes.
    Word,
    /// A name in quotes, with or without `U&`.
    QuotedName,
    /// `'…'`, after `N`, `B`, `X`, `U&` or nothing; continued on later lines or not.
    String,
    /// `E'…'`, in which a backslash takes the next character with it.
    EscapeString,
    /// `$tag$…$tag$`.
    DollarString,
    /// Digits, with or without a point, or `$1`.
    Number,
    /// Any other character, or `..`.
    Mark,
}

/// The tokens of a text.
pub(crate) fn tokens(text: &str) -> impl Iterator<Item = Token<'_>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        at += blanks(&text[at..]);
        let (kind, length) = first(&text[at..])?;
        let token = Token { kind, text: &text[at..at + length], at };
        at += length;
        Some(token)
    })
}

impl<'t> Token<'t> {
    pub(crate) fn end(&self) -> usize {
        self.at + self.text.len()
    }

    /// Whether it is this keyword, which is never quoted.
    pub(crate) fn is(&self, keyword: &str) -> bool {
        self.kind == Kind::Word && self.text.eq_ignore_ascii_case(keyword)
    }

    pub(crate) fn is_mark(&self, mark: char) -> bool {
        self.kind == Kind::Mark && self.text.starts_with(mark)
    }

    /// The name that PostgreSQL reads here, if it may be one. Escapes of `U&"…"` stay as they are.
    pub(crate) fn name(&self) -> Option<String> {
        let mut name = match self.kind {
            // Other letters keep their case, as in a database in UTF-8.
            Kind::Word => self.text.to_ascii_lowercase(),
            Kind::QuotedName => self.content(),
            _ => return None,
        };
        name.truncate(name.floor_char_boundary(MAX_NAME));
        Some(name)
    }

    /// What is between the quotes, as the server reads it, except for escapes by number: `\x41` stays `x41`.
    pub(crate) fn content(&self) -> String {
        let mut content = String::new();
        match self.kind {
            Kind::QuotedName | Kind::String | Kind::EscapeString => {
                let open = self.text.find(['"', '\'']).unwrap_or_default();
                quoted(self.text, open, self.kind == Kind::EscapeString, |c| content.push(c));
            }
            Kind::DollarString => content.push_str(self.inside_dollars()),
            Kind::Word | Kind::Number | Kind::Mark => content.push_str(self.text),
        }
        content
    }

    fn inside_dollars(&self) -> &'t str {
        let tag = tag(self.text).unwrap_or_default();
        let rest = &self.text[tag.len()..];
        rest.strip_suffix(tag).unwrap_or(rest)
    }
}

/// The bytes of a name that PostgreSQL keeps.
const MAX_NAME: usize = 63;

/// The length of the blanks and comments that a text begins with.
fn blanks(text: &str) -> usize {
    let mut at = 0;
    loop {
        at += match &text.as_bytes()[at..] {
            [c, ..] if is_blank(*c) => 1,
            [b'-', b'-', ..] => line_comment(&text[at..]),
            [b'/', b'*', ..] => comment(&text[at..]),
            _ => return at,
        }
    }
}

/// From PostgreSQL 16 on the vertical tab is one; before, it is an error wherever it stands.
fn is_blank(c: u8) -> bool {
    matches!(c, b' ' | b'\t' | b'\n' | b'\r' | b'\x0b' | b'\x0c')
}

fn line_comment(text: &str) -> usize {
    text.find(['\n', '\r']).unwrap_or(text.len())
}

/// Comments nest.
fn comment(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        match &text.as_bytes()[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    at
}

/// The token that a text begins with, and its length.
fn first(text: &str) -> Option<(Kind, usize)> {
    let string = |open| (Kind::String, quoted(text, open, false, |_| {}));
    let name = |open| (Kind::QuotedName, quoted(text, open, false, |_| {}));
    Some(match text.as_bytes() {
        [] => return None,
        [b'\'', ..] => string(0),
        [b'N' | b'n' | b'B' | b'b' | b'X' | b'x', b'\'', ..] => string(1),
        [b'U' | b'u', b'&', b'\'', ..] => string(2),
        [b'E' | b'e', b'\'', ..] => (Kind::EscapeString, quoted(text, 1, true, |_| {})),
        [b'"', ..] => name(0),
        [b'U' | b'u', b'&', b'"', ..] => name(2),
        [b'$', b'0'..=b'9', ..] => (Kind::Number, 1 + digits(&text[1..])),
        [b'$', ..] => dollars(text),
        [b'0'..=b'9', ..] | [b'.', b'0'..=b'9', ..] => (Kind::Number, number(text)),
        [b'.', b'.', ..] => (Kind::Mark, 2),
        [c, ..] if starts_name(*c) => (Kind::Word, run(text, is_name)),
        _ => (Kind::Mark, 1),
    })
}

/// The length of a string or a quoted name, whose first quote is at `open`. Its characters go to `says`.
fn quoted(text: &str, open: usize, escapes: bool, mut says: impl FnMut(char)) -> usize {
    let quote = text[open..].chars().next().unwrap_or('\'');
    let mut inside = open + 1;
    let mut characters = text[inside..].char_indices().peekable();
    while let Some((at, c)) = characters.next() {
        match c {
            '\\' if escapes => characters.next().into_iter().for_each(|(_, c)| says(unescaped(c))),
            c if c != quote => says(c),
            // A doubled quote is one that does not end it.
            _ if characters.next_if(|(_, next)| *next == quote).is_some() => says(quote),
            _ => {
                let end = inside + at + 1;
                match continuation(&text[end..]).filter(|_| quote == '\'') {
                    Some(gap) => inside = end + gap + 1,
                    None => return end,
                }
                characters = text[inside..].char_indices().peekable();
            }
        }
    }
    text.len()
}

fn unescaped(c: char) -> char {
    match c {
        'b' => '\x08',
        'f' => '\x0c',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        other => other,
    }
}

/// Where the next quote is, if a string goes on there: between the two is a line's end, and no comment but `--`.
fn continuation(text: &str) -> Option<usize> {
    let (mut at, mut is_next_line) = (0, false);
    loop {
        at += match &text.as_bytes()[at..] {
            [b'\'', ..] if is_next_line => return Some(at),
            [c, ..] if is_blank(*c) => {
                is_next_line |= matches!(c, b'\n' | b'\r');
                1
            }
            [b'-', b'-', ..] => line_comment(&text[at..]),
            _ => return None,
        }
    }
}

/// A string between dollars, or the sign alone.
fn dollars(text: &str) -> (Kind, usize) {
    let Some(tag) = tag(text) else { return (Kind::Mark, 1) };
    let close = text[tag.len()..].find(tag);
    (Kind::DollarString, close.map_or(text.len(), |close| close + 2 * tag.len()))
}

/// The `$tag$` that a text begins with. A tag is a name without a dollar sign.
fn tag(text: &str) -> Option<&str> {
    let length = 1 + run(&text[1..], |c| is_name(c) && c != b'$');
    text[length..].starts_with('$').then(|| &text[..=length])
}

/// An exponent is a name of its own here, which makes no difference.
fn number(text: &str) -> usize {
    let whole = digits(text);
    match &text.as_bytes()[whole..] {
        // As in a slice, 1..2.
        [b'.', b'.', ..] => whole,
        [b'.', ..] => whole + 1 + digits(&text[whole + 1..]),
        _ => whole,
    }
}

fn digits(text: &str) -> usize {
    run(text, |c| c.is_ascii_digit())
}

/// How many bytes at the beginning are such.
fn run(text: &str, is_such: impl Fn(u8) -> bool) -> usize {
    text.bytes().position(|c| !is_such(c)).unwrap_or(text.len())
}

/// What is not ASCII counts as a letter, blanks of Unicode too.
fn starts_name(c: u8) -> bool {
    c.is_ascii_alphabetic() || c == b'_' || !c.is_ascii()
}

fn is_name(c: u8) -> bool {
    starts_name(c) || c.is_ascii_digit() || c == b'$'
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text's tokens, with a bar between two.
    #[track_caller]
    fn check(text: &str, expected: &str) {
        assert_eq!(tokens(text).map(|token| token.text).collect::<Vec<_>>().join(" | "), expected, "{text:?}");
    }

    #[test]
    fn comments_end_with_the_line_and_nest() {
        check("a -- b\rc -- d\ne -- f", "a | c | e");
        check("a/* /* ; */ */b /* c", "a | b");
        check("1-/*-*/-2 +--+\n3", "1 | - | - | 2 | + | 3");
        check("a/**/b/*/*/**/*/*/c", "a | b | c");
    }

    #[test]
    fn only_blanks_of_ascii_are_blank() {
        check("a\u{b}b\u{c}c\td\re", "a | b | c | d | e");
        check("a\u{a0}b\u{2028}\u{85}c", "a\u{a0}b\u{2028}\u{85}c");
    }

    #[test]
    fn a_backslash_escapes_in_one_kind_of_strings() {
        check(r"E'a\'b' e'\\' 'c\' x", r"E'a\'b' | e'\\' | 'c\' | x");
        check(r"N'\' b'1' X'f' u&'\' U&a E", r"N'\' | b'1' | X'f' | u&'\' | U | & | a | E");
        check("E'it''s'' \\'' ae'x'", "E'it''s'' \\'' | ae | 'x'");
    }

    #[test]
    fn a_string_goes_on_after_a_line_end() {
        check("'a'\n'b' 'c'", "'a'\n'b' | 'c'");
        check("E'a' -- '\r\t-- b\n '\\'' E", "E'a' -- '\r\t-- b\n '\\'' | E");
        check("'a' /* */\n'b'", "'a' | 'b'");
        check("'a'\n-- b", "'a'");
        check("'a'\nE'b\\''", "'a' | E'b\\''");
        check("\"a\"\n\"b\"", "\"a\" | \"b\"");
        let content = |text| tokens(text).map(|token| token.content()).collect::<Vec<_>>();
        assert_eq!(content("E'it''s\\t' -- one\n 'o\\'ne' $a$ $$ $a$ $$x"), ["it's\to'ne", " $$ ", "x"]);
    }

    #[test]
    fn a_tag_between_dollars_is_a_name() {
        check("$a$ $b$ $$ $a$ $$ ; $$", "$a$ $b$ $$ $a$ | $$ ; $$");
        check("$😀$ ; $😀$ $é1_$;$é1_$", "$😀$ ; $😀$ | $é1_$;$é1_$");
        check("a$b$c $1$d$;$d$", "a$b$c | $1 | $d$;$d$");
        check("$1a$ $ $a b$", "$1 | a$ | $ | $ | a | b$");
    }

    #[test]
    fn numbers_end_before_names_and_ranges() {
        check("1.5 .5 1. 1..2 a.5 2END 1e5 $1x", "1.5 | .5 | 1. | 1 | .. | 2 | a | .5 | 2 | END | 1 | e5 | $1 | x");
    }

    #[test]
    fn names_are_folded_and_cut() {
        let name = |text: &str| tokens(text).next().and_then(|token| token.name());
        assert_eq!(name("ÄbC"), Some("Äbc".into()));
        assert_eq!(name("\"A\"\"b\""), Some("A\"b".into()));
        assert_eq!(name(&"é".repeat(40)), Some("é".repeat(31)));
        assert_eq!((name("'a'"), name("1")), (None, None));
    }
}
