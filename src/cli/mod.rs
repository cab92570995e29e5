//! The commands, for this crate's own programs and for a monolith's.
//!
//! ```no_run
//! use std::process::ExitCode;
//! use tenantry::{Fleet, cli, domain};
//!
//! fn main() -> ExitCode {
//!     // Put your own migrations, directory and rules here.
//!     cli::main(|| Ok(Fleet { migrations: domain::migrations()?, directory: &domain::Registry, rules: domain::rules() }))
//! }
//! ```
//!
//! Results go to stdout, progress and errors to stderr. Exit codes: 0 done and healthy, 1 could not run,
//! 2 ran and something needs attention.

mod baseline;
mod confirm;
mod connect;
mod doctor;
mod events;
mod interrupt;
mod lint;
mod migrate;
mod output;
mod plan;
mod progress;
mod redo;
mod render;
mod repair;
mod revert;
mod run;
mod runs;
mod safe;
mod status;
mod tenants;

use std::process::ExitCode;

use anyhow::{Result, ensure};
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand, error::ErrorKind};
use tracing_subscriber::{EnvFilter, fmt::format::FmtSpan};

use crate::{Error, Fleet};

/// Keeps every tenant's schema at the same migration, and every row in its own tenant's schema.
///
/// The database is the one of DATABASE_URL, from the environment or from .env. Where that leads through a pooler in
/// transaction mode, such as PgBouncer, set MIGRATION_DATABASE_URL to the server itself: the commands take that one.
///
/// Exit codes: 0 done and healthy, 1 could not run, 2 ran and something needs attention.
#[derive(Parser)]
#[command(name = "tenantry", version, max_term_width = 110)]
struct Tenantry {
    #[command(flatten)]
    tenants: tenants::Tenants,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Migrate(migrate::Args),
    Status(status::Args),
    Plan(plan::Args),
    Revert(revert::Args),
    Redo(redo::Args),
    Runs(runs::Args),
    Doctor(doctor::Args),
    Repair(repair::Args),
    Baseline(baseline::Args),
    Lint(lint::Args),
}

/// Migrates `public`, and then the schema of every tenant: `tenantry migrate` under its own name.
///
/// The database is the one of DATABASE_URL, from the environment or from .env. Where that leads through a pooler in
/// transaction mode, such as PgBouncer, set MIGRATION_DATABASE_URL to the server itself. One tenant's failure does not
/// stop the others.
///
/// Exit codes: 0 done, 1 could not run, 2 some tenants failed.
#[derive(Parser)]
#[command(name = "migrate-all-tenants", version, max_term_width = 110)]
struct MigrateAllTenants {
    #[command(flatten)]
    tenants: tenants::Tenants,
    #[command(flatten)]
    migrate: migrate::Args,
}

/// Whether something needs attention.
enum Health {
    Good,
    NeedsAttention,
}

impl From<bool> for Health {
    fn from(healthy: bool) -> Self {
        if healthy { Self::Good } else { Self::NeedsAttention }
    }
}

/// The program `tenantry`: every verb.
pub fn main<'a>(fleet: impl FnOnce() -> Result<Fleet<'a>, Error>) -> ExitCode {
    run(|Tenantry { tenants, verb }| {
        // Works without a database, and on migrations that no fleet could be made of.
        if let Verb::Lint(args) = &verb {
            ensure!(
                !tenants.are_chosen(),
                "lint reads migrations, and no tenants: name folders with --public-set and --tenant-set"
            );
            return args.run();
        }
        if let Verb::Doctor(args) = &verb
            && args.lists_kinds()
        {
            return args.list_kinds();
        }
        let config = connect::settings(matches!(verb, Verb::Status(_) | Verb::Plan(_)))?;
        tenants.with(fleet()?, |fleet, all| match verb {
            Verb::Migrate(args) => args.run(fleet, &config),
            Verb::Status(args) => args.run(fleet, &config),
            Verb::Plan(args) => args.run(fleet, &config),
            Verb::Revert(args) => args.run(fleet, &config),
            Verb::Redo(args) => args.run(fleet, &config),
            Verb::Runs(args) => args.run(fleet, &config),
            Verb::Doctor(args) => args.run(fleet, &config),
            Verb::Repair(args) => args.run(fleet, all, &config),
            Verb::Baseline(args) => args.run(fleet, &config),
            Verb::Lint(args) => args.run(),
        })
    })
}

/// The program `migrate-all-tenants`: the deploy job.
pub fn migrate_all_tenants<'a>(fleet: impl FnOnce() -> Result<Fleet<'a>, Error>) -> ExitCode {
    run(|MigrateAllTenants { tenants, migrate }| {
        let config = connect::settings(false)?;
        tenants.with(fleet()?, |fleet, _| migrate.run(fleet, &config))
    })
}

fn run<A: CommandFactory + FromArgMatches>(work: impl FnOnce(A) -> Result<Health>) -> ExitCode {
    let filter = EnvFilter::try_from_env("TENANTRY_LOG").unwrap_or_else(|_| EnvFilter::new("off"));
    // Without colours, which are control characters too.
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(|| output::Log).with_ansi(false);
    // The end of a span tells how long a tenant, or a migration, has taken.
    log.with_span_events(FmtSpan::CLOSE).init();
    let args = A::command().try_get_matches().and_then(|matches| A::from_arg_matches(&matches));
    let args = match args {
        Ok(args) => args,
        Err(error) => {
            // clap would exit with 2, which says here that a run needs attention.
            let asked_for = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            let _ = error.print();
            return if asked_for { ExitCode::SUCCESS } else { ExitCode::from(1) };
        }
    };
    match work(args) {
        Ok(Health::Good) => ExitCode::SUCCESS,
        Ok(Health::NeedsAttention) => ExitCode::from(2),
        Err(error) => {
            output::complain(&crate::error::chain(&*error));
            ExitCode::from(1)
        }
    }
}
