use std::time::Duration;

use anyhow::Result;

use super::{Health, interrupt, output, progress::Progress, render};
use crate::{Config, Fleet, migrate::Run, pg};

/// Apply what is pending: to `public`, and then to every tenant, active or suspended
#[derive(clap::Args)]
pub(super) struct Args {
    /// How many tenants to migrate at a time, each on a connection of its own [default: twice the cores, at most 8]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    jobs: Option<u16>,
    /// Seconds that a statement may wait for a lock before its tenant counts as failed [default: 5]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=86400))]
    lock_timeout: Option<u32>,
    /// Milliseconds that the locks of several tenants together may be held, so that small migrations can share a transaction [default: 50]
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u32).range(0..=60000))]
    lock_budget: Option<u32>,
    /// Wait for another run over the same database to end, instead of saying whose it is
    #[arg(long)]
    wait: bool,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

impl Args {
    pub(super) fn run(&self, fleet: Fleet<'_>, config: &Config) -> Result<Health> {
        let progress = Progress::new();
        let lock_timeout = self.lock_timeout.map_or(config.lock_timeout, |seconds| Duration::from_secs(seconds.into()));
        let mut run =
            Run::new(fleet.migrations).lock_timeout(lock_timeout).observer(&progress).stop_when(interrupt::flag());
        if let Some(jobs) = self.jobs {
            run = run.jobs(jobs.into());
        }
        if self.wait {
            run = run.wait(Duration::MAX);
        }
        if let Some(budget) = self.lock_budget {
            run = run.lock_budget(Duration::from_millis(budget.into()));
        }
        let report = fleet.migrate(&run, &|| pg::connect(config));
        progress.finish();
        let report = report?;
        if self.json {
            output::json(&report)?;
        } else {
            output::print(&render::report(&report));
        }
        Ok(Health::from(report.failures().next().is_none()))
    }
}
