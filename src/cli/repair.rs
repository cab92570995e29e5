use anyhow::Result;

use super::{Health, output, render, select};
use crate::{Config, Fleet, pg, repair::Repair};

/// Put right what the incident left behind: copy rows from `public` to the tenants that refer to them, and fill nulls
///
/// Nothing is overwritten and nothing deleted. Each tenant is one transaction; what is not certain is listed and
/// left alone. Safe to run again.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Repair this tenant only, by its schema; may be given several times
    #[arg(long, value_name = "SCHEMA")]
    tenant: Vec<String>,
    /// Show what would be done, and write nothing
    #[arg(long)]
    dry_run: bool,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

impl Args {
    pub(super) fn run(&self, fleet: Fleet<'_>, config: &Config) -> Result<Health> {
        let conn = &mut pg::connect(config)?;
        let listing = fleet.directory.list(conn)?;
        let mut repair = Repair::new(fleet.rules).dry_run(self.dry_run).lock_timeout(config.lock_timeout);
        if !self.tenant.is_empty() {
            repair = repair.only(select::named(&self.tenant, &listing)?);
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
