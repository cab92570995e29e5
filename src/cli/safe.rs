//! Text that is safe to print.
//!
//! Names, values of rows and messages of the server may hold characters that move a terminal's cursor, write its title
//! or turn the text round. They are printed as escapes, as Rust and JSON write them.

use std::fmt::Write;

/// One line of text for a person. What would break the line is escaped too.
pub(super) fn line(text: impl AsRef<str>) -> String {
    escaped(text.as_ref(), |c| c == '\n' || c == '\t' || is_unsafe(c), rust) + "\n"
}

/// A piece of such a line.
pub(super) fn word(text: impl AsRef<str>) -> String {
    let mut line = line(text);
    line.pop();
    line
}

/// Lines of text for a person, whichever way they end.
pub(super) fn lines(text: &str) -> String {
    escaped(&text.replace("\r\n", "\n"), is_unsafe, rust)
}

/// A JSON text, which a reader of JSON understands as before: these characters can only be inside its strings.
pub(super) fn json(text: &str) -> String {
    escaped(text, is_unsafe, |c, out| {
        c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| {
            let _ = write!(out, "\\u{unit:04x}");
        });
    })
}

fn escaped(text: &str, is_unsafe: impl Fn(char) -> bool, escape: impl Fn(char, &mut String)) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match is_unsafe(c) {
            true => escape(c, &mut out),
            false => out.push(c),
        }
    }
    out
}

fn rust(c: char, out: &mut String) {
    // What has no escape of its own is written by its number.
    match c {
        '\n' | '\r' | '\t' => out.extend(c.escape_default()),
        _ => out.extend(c.escape_unicode()),
    }
}

/// Control characters, separators of lines, and what sets the direction of text.
fn is_unsafe(c: char) -> bool {
    c.is_control() && c != '\n' && c != '\t'
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVIL: &str = "a\u{1b}[2J\u{7}\u{9b}\u{7f}\u{202e}\r\n\tb é日";

    #[test]
    fn a_line_is_one_line_without_control_characters() {
        assert_eq!(line(EVIL), "a\\u{1b}[2J\\u{7}\\u{9b}\\u{7f}\\u{202e}\\r\\n\\tb é日\n");
    }

    #[test]
    fn lines_keep_their_ends() {
        assert_eq!(lines(EVIL), "a\\u{1b}[2J\\u{7}\\u{9b}\\u{7f}\\u{202e}\n\tb é日");
    }

    #[test]
    fn json_stays_the_same() {
        let text = serde_json::to_string(EVIL).unwrap();
        let safe = json(&text);
        assert_eq!(serde_json::from_str::<String>(&safe).unwrap(), EVIL);
        assert!(!safe.contains(|c: char| is_unsafe(c) || c.is_control()), "{safe}");
    }
}
