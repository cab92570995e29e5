use anyhow::Result;

use super::{Health, connect::connect, output, render};
use crate::{Config, Fleet, migrate::Goal};

/// Show what `migrate` would apply, and where. Reads only. Exits with 2 when a schema could not be migrated
#[derive(clap::Args)]
pub(super) struct Args {
    /// Print the SQL of every migration that is pending somewhere, too
    #[arg(long, conflicts_with = "json")]
    sql: bool,
    /// Print as JSON: every schema with what is pending in it
    #[arg(long)]
    json: bool,
}

impl Args {
    pub(super) fn run(&self, fleet: Fleet<'_>, config: &Config) -> Result<Health> {
        let plan = fleet.plan(&Goal::Latest, &mut connect(config)?)?;
        if self.json {
            output::json(&plan)?;
        } else {
            output::print(&render::plan(&plan, self.sql));
        }
        Ok(Health::from(plan.refused.is_empty()))
    }
}
