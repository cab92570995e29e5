//! What every command that changes the fleet's schemas has in common.

use std::time::Duration;

use anyhow::Result;

use super::{Health, events::Events, interrupt, output, progress::Progress, render};
use crate::{
    Config, Fleet,
    directory::Glob,
    migrate::{Canary, Goal, Report, Run},
    pg::pooler,
};

#[derive(clap::Args)]
#[command(next_help_heading = "How")]
pub(super) struct Options {
    /// How many tenants to work on at a time, each on a connection of its own [default: twice the cores, at most 8]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    jobs: Option<u16>,
    /// Seconds that a statement may wait for a lock before its tenant is put off, to be tried again later [default: 5]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=86400))]
    lock_timeout: Option<u32>,
    /// Seconds that a statement may take before its tenant counts as failed [default: the server's]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=86400))]
    statement_timeout: Option<u32>,
    /// Milliseconds that the locks of several tenants together may be held, so that small migrations can share a transaction [default: 50]
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u32).range(0..=60000))]
    lock_budget: Option<u32>,
    /// How often to try a tenant that has a lock, a deadlock or a lost connection in its way [default: 3]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=20))]
    attempts: Option<u32>,
    /// Whether a tenant that fails ends the run, once what is under way is finished
    #[arg(long, value_name = "WHAT", value_enum, default_value_t = OnFailure::Continue)]
    on_failure: OnFailure,
    /// End the run when more tenants than this have failed
    #[arg(long, value_name = "N", conflicts_with = "on_failure")]
    max_failures: Option<usize>,
    /// Try these first, so many or those that match, and go on only if all of them succeed
    #[arg(long, value_name = "N|SCHEMA", value_parser = canary)]
    canary: Option<Canary>,
    /// Go on in waves, up to these shares of the fleet, as long as no tenant of a wave fails: 1%,10%,100%
    #[arg(long, value_name = "PERCENT,…", value_delimiter = ',', value_parser = percentage)]
    waves: Vec<u8>,
    /// Wait for another run over the same database to end: so many seconds, or as long as it takes [default: do not wait]
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, require_equals = true, value_parser = clap::value_parser!(u32).range(1..=604800))]
    wait: Option<Option<u32>>,
    /// Do not remember the run in schema `tenantry`, for a role that may not create or write it
    #[arg(long)]
    no_record: bool,
    /// Print events as lines of JSON while it runs, and a summary as the last one
    #[arg(long)]
    json: bool,
    /// Show no progress, and print nothing when nothing failed
    #[arg(long, short, conflicts_with = "json")]
    quiet: bool,
}

#[derive(Clone, Copy, PartialEq, clap::ValueEnum)]
enum OnFailure {
    /// The others carry on
    Continue,
    /// The rest is not begun
    Stop,
}

impl Options {
    /// Carries out a run with this goal, shows how it goes along, and prints what it did.
    pub(super) fn run(&self, fleet: Fleet<'_>, config: &Config, goal: &Goal) -> Result<Health> {
        let connect = pooler::checked(config)?;
        let run = self.options(&fleet, config, goal);
        let report = match self.json {
            true => fleet.run(&run.observer(&Events), &connect)?,
            // The bar is gone before anything else is printed.
            false => fleet.run(&run.observer(&Progress::new(self.quiet)), &connect)?,
        };
        if self.json {
            Events::summary(&report);
        } else if !self.quiet || !is_healthy(&report) {
            output::print(&render::report(&report, goal));
        }
        Ok(Health::from(is_healthy(&report)))
    }

    /// Whether nothing is to be printed as long as all is well.
    pub(super) fn is_quiet(&self) -> bool {
        self.quiet
    }

    fn options<'r>(&'r self, fleet: &Fleet<'r>, config: &Config, goal: &'r Goal) -> Run<'r> {
        let seconds = |seconds: u32| Duration::from_secs(seconds.into());
        let mut run = Run::new(fleet.migrations)
            .goal(goal)
            .lock_timeout(self.lock_timeout.map_or(config.lock_timeout, seconds))
            .waves(&self.waves)
            .record(!self.no_record)
            .interrupt(interrupt::watched());
        if let Some(jobs) = self.jobs {
            run = run.jobs(jobs.into());
        }
        if let Some(timeout) = self.statement_timeout {
            run = run.statement_timeout(seconds(timeout));
        }
        if let Some(budget) = self.lock_budget {
            run = run.lock_budget(Duration::from_millis(budget.into()));
        }
        if let Some(attempts) = self.attempts {
            run = run.attempts(attempts);
        }
        let stop = (self.on_failure == OnFailure::Stop).then_some(0);
        if let Some(failures) = self.max_failures.or(stop) {
            run = run.max_failures(failures);
        }
        if let Some(canary) = &self.canary {
            run = run.canary(canary);
        }
        if let Some(most) = self.wait {
            run = run.wait(most.map_or(Duration::MAX, seconds));
        }
        run
    }
}

fn is_healthy(report: &Report) -> bool {
    report.failures().next().is_none() && report.lock_lost.is_none()
}

fn canary(text: &str) -> Result<Canary, String> {
    match text.parse() {
        Ok(0) => Err("it takes at least one tenant".into()),
        Ok(count) => Ok(Canary::First(count)),
        Err(_) => Ok(Canary::Matching(Glob::new(text))),
    }
}

fn percentage(text: &str) -> Result<u8, String> {
    let number = text.trim().trim_end_matches('%').parse();
    number.ok().filter(|number| (1..=100).contains(number)).ok_or("a share is 1% to 100%, in whole percent".into())
}
