use anyhow::Result;

use super::{Health, output, render};
use crate::{Config, Fleet, directory::TenantDirectory, pg, repair::Repair};

/// Put right what the incident left behind: copy rows from `public` to the tenants that refer to them, and fill nulls
///
/// Nothing is overwritten and nothing deleted. Each tenant is one transaction; what is not certain is listed and
/// left alone. Safe to run again.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Show what would be done, and write nothing
    #[arg(long)]
    dry_run: bool,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

impl Args {
    /// Whatever tenants are chosen, all are looked at: a row may be another's too.
    pub(super) fn run(&self, fleet: Fleet<'_>, all: &dyn TenantDirectory, config: &Config) -> Result<Health> {
        let conn = &mut pg::connect(config)?;
        let listing = all.list(conn)?;
        let mut repair = Repair::new(fleet.rules).dry_run(self.dry_run).lock_timeout(config.lock_timeout);
        if !fleet.directory.is_whole() {
            repair = repair.only(fleet.directory.list(conn)?.schemas());
        }
        let report = repair.run(conn, &listing)?;
        if self.json {
            output::json(&report)?;
        } else {
            output::print(&render::repair(&report));
        }
        Ok(Health::from(report.is_healthy()))
    }
}
