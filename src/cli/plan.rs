use anyhow::Result;

use super::{Health, output, render};
use crate::{Config, Fleet, pg};

/// Show what `migrate` would apply, and where. Reads only
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
        let status = fleet.status(&mut pg::connect(config)?)?;
        if self.json {
            output::json(&status)?;
        } else {
            output::print(&render::plan(&status, fleet.migrations, self.sql));
        }
        Ok(Health::Good)
    }
}
