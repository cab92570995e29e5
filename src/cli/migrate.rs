use anyhow::Result;

use super::{Health, run};
use crate::{Config, Fleet, migrate::Goal};

/// Apply what is pending: to `public`, and then to every tenant, active or suspended
///
/// `public` is migrated whatever tenants are chosen. It needs connections of its own: where DATABASE_URL leads through
/// a pooler in transaction mode, set MIGRATION_DATABASE_URL to the server itself, or to a pooler in session mode.
#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    how: run::Options,
}

impl Args {
    pub(super) fn run(&self, fleet: Fleet<'_>, config: &Config) -> Result<Health> {
        self.how.run(fleet, config, &Goal::Latest)
    }
}
