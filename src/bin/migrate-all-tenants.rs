//! `migrate-all-tenants`, over the incident's application.

use std::process::ExitCode;

use tenantry::{cli, domain};

fn main() -> ExitCode {
    cli::migrate_all_tenants(domain::fleet)
}
