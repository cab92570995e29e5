//! `tenantry`, over the incident's application.

use std::process::ExitCode;

use tenantry::{cli, domain};

fn main() -> ExitCode {
    cli::main(domain::fleet)
}
