//! The only place that prints. Whatever the text is made of, no control character of it reaches the terminal.

use std::io::{self, Write};

use serde::Serialize;

use super::safe;

/// Prints a result. A reader that has seen enough, such as `head`, is no error.
pub(super) fn print(text: &str) {
    let _ = writeln!(io::stdout().lock(), "{}", safe::lines(text.trim_end()));
}

/// Prints a result as JSON.
pub(super) fn json(value: &impl Serialize) -> anyhow::Result<()> {
    print_json(&serde_json::to_string_pretty(value)?);
    Ok(())
}

/// Prints an event as one line of JSON.
pub(super) fn event(event: &serde_json::Value) {
    print_json(&event.to_string());
}

fn print_json(text: &str) {
    let _ = writeln!(io::stdout().lock(), "{}", safe::json(text));
}

/// Prints a line of progress.
pub(super) fn note(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{}", safe::lines(line));
}

/// Prints a question, and leaves the cursor behind it.
pub(super) fn ask(question: &str) {
    let mut out = io::stderr().lock();
    let _ = write!(out, "{}", safe::lines(question)).and_then(|()| out.flush());
}

/// Prints an error, with the next step where the error itself knows none.
pub(super) fn complain(line: &str) {
    // A hint and no more: where the server speaks another language, there is none.
    let next = match line.contains("permission denied") {
        true => "; use a role that owns what it works on, or GRANT it what it lacks",
        false => "",
    };
    note(&format!("error: {line}{next}"));
}

/// Where the log goes: to stderr, each entry a line.
#[derive(Clone, Copy)]
pub(super) struct Log;

impl Write for Log {
    fn write(&mut self, entry: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(entry);
        let end = text.ends_with('\n');
        let safe = safe::word(text.strip_suffix('\n').unwrap_or(&text));
        io::stderr().lock().write_all(format!("{safe}{}", if end { "\n" } else { "" }).as_bytes())?;
        Ok(entry.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().lock().flush()
    }
}
