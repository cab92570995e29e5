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

/// Prints an error, with the next step where the error itself knows none.
pub(super) fn complain(line: &str) {
    let next = match line.contains("permission denied") {
        true => "; use a role that owns what it works on, or GRANT it what it lacks",
        false => "",
    };
    note(&format!("error: {line}{next}"));
}

/// Asks on stderr, and takes nothing but `y` or `yes` for a yes; no answer is a no.
pub(super) fn confirm(question: &str) -> bool {
    let _ = write!(io::stderr().lock(), "{question} [y/N] ");
    let mut answer = String::new();
    let read = io::stdin().read_line(&mut answer);
    read.is_ok() && ["y", "yes"].contains(&answer.trim().to_lowercase().as_str())
}
