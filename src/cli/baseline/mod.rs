mod text;

use anyhow::Result;

use super::{Health, confirm, connect::connect, output};
use crate::{
    Config, Error, Fleet,
    baseline::{Baseline, Line},
    directory::{self, Listing},
};

/// Record schemas that other tools made as being at a version, after their structure was compared
///
/// What the migrations up to the version make is built in a scratch schema, which is rolled back, and compared with
/// `public` and every tenant. Where they agree, the versions are recorded as Diesel records them; where something is
/// missing or differs, nothing is. Tables, columns and rows are never changed. What is extra and harmless is shown
/// and does not stand in the way, nor do other names of constraints and indexes.
#[derive(clap::Args)]
pub(in crate::cli) struct Args {
    /// The version of the tenants' migrations that the schemas are at
    #[arg(long, value_name = "VERSION")]
    at: String,
    /// Only `public`, or `public` beside the tenants that are chosen
    #[arg(long)]
    public: bool,
    /// Record the versions although the structure differs
    #[arg(long)]
    force: bool,
    /// Show what would be recorded, and write nothing
    #[arg(long)]
    dry_run: bool,
    /// Do not ask before recording with --force
    #[arg(long)]
    yes: bool,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

impl Args {
    pub(in crate::cli) fn run(&self, fleet: Fleet<'_>, config: &Config) -> Result<Health> {
        let chosen = !fleet.directory.is_whole();
        let baseline = Baseline::new(fleet.migrations, &self.at)?
            .public(self.public || !chosen)
            .force(self.force)
            .lock_timeout(config.lock_timeout);
        let conn = &mut connect(config)?;
        // `public` alone needs no registry.
        let only_public = self.public && !chosen;
        let listing = if only_public { Listing::default() } else { directory::read(conn, fleet.directory)? };
        let schemas = listing.schemas();
        if self.force && !self.dry_run {
            let would = baseline.clone().dry_run(true).run(conn, &schemas)?;
            let against = would.lines.iter().filter(|line| line.is_forced()).count();
            if against > 0 {
                let what = format!(
                    "{}record {} although what is there does not agree?",
                    text::report(&would),
                    text::schemas(against)
                );
                confirm::confirm(&what, self.yes)?;
            }
        }
        let mut report = baseline.dry_run(self.dry_run).run(conn, &schemas)?;
        report.lines.extend(listing.refused.into_iter().map(|(name, source)| Line {
            schema: name.clone(),
            result: Err(Error::SchemaName { name, source }),
            differences: Vec::new(),
            not_compared: None,
        }));
        if self.json {
            output::json(&report)?;
        } else {
            output::print(&text::report(&report));
        }
        Ok(Health::from(report.is_healthy()))
    }
}
