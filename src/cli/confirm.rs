//! Asking, before anything is destroyed.

use std::io::{self, IsTerminal};

use anyhow::{Result, bail};

use super::output;

/// Shows what will be done, and goes on only with a yes.
pub(super) fn confirm(what: &str, yes: bool) -> Result<()> {
    output::note(what.trim_end());
    if yes {
        return Ok(());
    }
    if !io::stdin().is_terminal() {
        bail!("this takes a yes, and there is nobody to ask: pass --yes");
    }
    output::ask("go on? [y/N] ");
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => bail!("nothing was done"),
    }
}
