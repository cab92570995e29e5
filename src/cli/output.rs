//! The only place that prints.

use std::io::{self, Write};

use serde::Serialize;

/// Prints a result. A reader that has seen enough, such as `head`, is no error.
pub(super) fn print(text: &str) {
    let _ = writeln!(io::stdout().lock(), "{}", text.trim_end());
}

/// Prints a result as JSON.
pub(super) fn json(value: &impl Serialize) -> anyhow::Result<()> {
    print(&serde_json::to_string_pretty(value)?);
    Ok(())
}

/// Prints a line of progress.
pub(super) fn note(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// Prints a question, and leaves the cursor behind it.
pub(super) fn ask(question: &str) {
    let mut out = io::stderr().lock();
    let _ = write!(out, "{question}").and_then(|()| out.flush());
}

/// Prints an error, with the next step where the error itself knows none.
pub(super) fn complain(line: &str) {
    let next = match line.contains("permission denied") {
        true => "; use a role that owns what it works on, or GRANT it what it lacks",
        false => "",
    };
    note(&format!("error: {line}{next}"));
}
