//! The words of a function's text: enough of SQL to tell a name from a comment and a string.

use crate::pg::lexer::{Kind, tokens};

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

/// The words of a text, without comments and numbers. What is between dollars is read as if it were not.
pub(super) fn words(text: &str) -> Vec<Word> {
    let mut words = Vec::new();
    read(text, DEEPEST, &mut words);
    words
}

/// How many strings within strings are read. Text is what anyone may have written, and each is looked through anew.
const DEEPEST: usize = 16;

fn read(text: &str, depth: usize, words: &mut Vec<Word>) {
    let inside = |text: &str, words: &mut Vec<Word>| {
        if depth > 0 {
            read(text, depth - 1, words);
        }
    };
    let mut number = None;
    for token in tokens(text) {
        match token.kind {
            // The rest of a number: `x1F`.
            Kind::Word if number == Some(token.at) => {}
            Kind::Word | Kind::QuotedName => words.extend(token.name().map(Word::Name)),
            Kind::String | Kind::EscapeString => {
                let says = token.content();
                words.push(Word::Begin(says.clone()));
                inside(&says, words);
                words.push(Word::End);
            }
            Kind::DollarString => inside(&token.content(), words),
            Kind::Number => number = Some(token.end()),
            Kind::Mark => words.extend(token.text.chars().map(Word::Mark)),
        }
    }
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
        check("1..n 0x1F 1_000 1e5 /* open", ". . n");
        check("Ä.b -- x.y\rc.d $ü$ e.f $ü$", "Ä . b c . d e . f");
    }

    #[test]
    fn strings_are_read_too_and_dollars_are_not_seen() {
        check("f('a.b, ''c''') E'\\'d' e", "f ( < a . b , < c > > ) < < d > > e");
        check("AS $body$ SELECT $$x$$, a$b$body$ 'y", "as select x , a$b < y >");
        check("E'a.b '\n '\\'c.d'", "< a . b < c . d > >");
        let nested: String = (0..100_000).map(|at| format!("$a{at}$")).collect();
        check(&nested, "");
    }
}
