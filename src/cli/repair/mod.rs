mod past;
mod text;

use anyhow::Result;
use clap::Subcommand;

use super::{Health, confirm::confirm, connect::connect, interrupt, output};
use crate::{
    Config, Fleet,
    directory::{self, TenantDirectory},
    doctor::{Doctor, cores},
    pg,
    repair::{KINDS, Outcome, Repair, Report, Undo},
};

/// Put right what the doctor finds: copy rows from `public` to their tenants, fill nulls, restore constraints
///
/// Nothing is overwritten, and nothing deleted unless asked for. Each tenant is one transaction; what is not certain
/// is listed and left alone. What is done is remembered, and can be taken back. Safe to run again.
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Option<Verb>,
    /// Show what would be done, and keep nothing of it
    #[arg(long)]
    dry_run: bool,
    /// Remove from `public` the originals of rows that one tenant has just the same and nobody else needs. Shows
    /// which, and asks
    #[arg(long)]
    remove_originals: bool,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
    /// Do not remember in schema `tenantry` what is done, for a role that may not: it cannot be taken back then
    #[arg(long)]
    no_record: bool,
    /// How many connections to use [default: as many as there are cores, 2 to 8]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    jobs: Option<u16>,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Subcommand)]
enum Verb {
    /// Show the last repairs, the newest first
    List {
        /// How many
        #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(i64).range(1..))]
        limit: i64,
        /// Print as JSON
        #[arg(long)]
        json: bool,
    },
    /// Show what a repair did, tenant by tenant
    Show {
        /// Its number
        repair: i64,
        /// Print as JSON
        #[arg(long)]
        json: bool,
    },
    /// Take back what a repair did, but for what was changed since. Shows what and where, and asks
    Undo {
        /// Its number
        repair: i64,
        /// Show what would be taken back, and keep nothing of it
        #[arg(long)]
        dry_run: bool,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
        /// Print the report as JSON
        #[arg(long)]
        json: bool,
    },
}

impl Args {
    pub(super) fn run(&self, fleet: Fleet<'_>, all: &dyn TenantDirectory, config: &Config) -> Result<Health> {
        let conn = &mut connect(config)?;
        match &self.verb {
            Some(Verb::List { limit, json }) => return past::list(conn, *limit, *json),
            Some(Verb::Show { repair, json }) => return past::show(conn, *repair, *json),
            Some(Verb::Undo { repair, dry_run, yes, json }) => {
                let mut undo = Undo::new(*repair).lock_timeout(config.lock_timeout);
                if !fleet.directory.is_whole() {
                    undo = undo.only(directory::read(conn, fleet.directory)?.schemas());
                }
                return past::undo(conn, undo, *dry_run, *yes, *json);
            }
            None => {}
        }
        // Whoever is chosen, all are looked at: a row may be another's too.
        let workers = || pg::connect(config);
        let jobs = self.jobs.map_or_else(cores, usize::from);
        let doctor = Doctor::new(fleet.migrations, all, fleet.rules).only(KINDS.iter().copied()).jobs(jobs);
        let found = doctor.run(&workers)?;
        let listing = directory::read(conn, all)?;
        let mut repair = Repair::new(fleet.rules)
            .migrations(fleet.migrations)
            .remove_originals(self.remove_originals)
            .record(!self.no_record)
            .lock_timeout(config.lock_timeout)
            .jobs(jobs, &workers)
            .findings(&found.findings);
        if !fleet.directory.is_whole() {
            repair = repair.only(directory::read(conn, fleet.directory)?.schemas());
        }
        let mut proposed = None;
        if self.dry_run || self.remove_originals {
            proposed = Some(repair.propose(conn, &listing)?);
        }
        let report = match proposed {
            Some(report) if self.dry_run => report,
            proposed => {
                if let Some(report) = proposed.filter(would_change) {
                    confirm(&text::repair(&report), self.yes)?;
                }
                repair.interrupt(interrupt::stoppable()).apply(conn, &listing)?
            }
        };
        if self.json {
            output::json(&report)?;
        } else {
            output::print(&text::repair(&report));
        }
        Ok(Health::from(report.is_healthy()))
    }
}

fn would_change(report: &Report) -> bool {
    report.tenants.iter().any(|tenant| tenant.result.as_ref().is_ok_and(Outcome::changes))
}
