use anyhow::{Result, ensure};
use serde::Serialize;

use super::{Health, connect::connect, output, render};
use crate::{Config, Fleet, Status};

/// Show where every schema stands. Reads only: a role that may SELECT is enough
#[derive(clap::Args)]
pub(super) struct Args {
    /// Show only the schemas that are not up to date
    #[arg(long)]
    behind: bool,
    /// Answer only whether every schema has this version, and name those that lack it
    #[arg(long, value_name = "VERSION", conflicts_with_all = ["behind", "json"])]
    gate: Option<String>,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

impl Args {
    pub(super) fn run(&self, fleet: Fleet<'_>, config: &Config) -> Result<Health> {
        let conn = &mut connect(config)?;
        let mut status = fleet.status(conn)?;
        if let Some(version) = &self.gate {
            // Every schema has the tenant set.
            ensure!(
                fleet.migrations.tenant().versions().any(|known| known == version),
                "the tenants have no migration {version}"
            );
            let lacking = status.lacking(version);
            output::print(&render::gate(version, status.schemas.len(), &lacking));
            return Ok(Health::from(lacking.is_empty()));
        }
        let healthy = status.is_healthy();
        if self.json {
            status.schemas.retain(|found| !(self.behind && found.is_current()));
            output::json(&Json { healthy, status: &status })?;
        } else {
            output::print(&render::status(&status, self.behind));
        }
        Ok(Health::from(healthy))
    }
}

#[derive(Serialize)]
struct Json<'s> {
    healthy: bool,
    #[serde(flatten)]
    status: &'s Status,
}
