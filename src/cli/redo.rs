use anyhow::Result;

use super::{Health, revert, run};
use crate::{Config, Fleet, migrate::Goal};

/// Take the last migrations back and apply them again, in one transaction for each schema
///
/// For a migration that is being written. Shows where, and asks.
#[derive(clap::Args)]
pub(super) struct Args {
    /// How many of the last migrations of each schema
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    steps: u32,
    /// Show what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
    #[command(flatten)]
    how: run::Options,
}

impl Args {
    pub(super) fn run(&self, fleet: Fleet<'_>, config: &Config) -> Result<Health> {
        let goal = Goal::Redo { steps: self.steps as usize };
        revert::back(&goal, self.dry_run, self.yes, &self.how, fleet, config)
    }
}
