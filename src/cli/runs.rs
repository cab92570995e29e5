use std::collections::BTreeSet;

use anyhow::{Context, Result, bail};
use clap::Subcommand;
use diesel::PgConnection;
use serde_json::json;

use super::{Health, connect::connect, output, render, revert, run};
use crate::{
    Config, Fleet, SchemaName,
    directory::{self, Named},
    migrate::Goal,
    runs,
};

/// What earlier runs did: list them, show one, try again what it did not get done, or take back what it did
#[derive(clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Show the last runs, the newest first
    List {
        /// How many
        #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(i64).range(1..))]
        limit: i64,
        /// Print as JSON
        #[arg(long)]
        json: bool,
    },
    /// Show what a run did, tenant by tenant
    Show {
        /// Its number
        run: i64,
        /// Print as JSON
        #[arg(long)]
        json: bool,
    },
    /// Do for the tenants that failed or were not reached what the run was to do. Asks before it takes anything back
    Retry {
        /// Its number
        run: i64,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
        #[command(flatten)]
        how: run::Options,
    },
    /// Take back exactly what a run applied, the newest first. Shows what and where, and asks
    Revert {
        /// Its number
        run: i64,
        /// Show what would be taken back, and do nothing
        #[arg(long)]
        dry_run: bool,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
        #[command(flatten)]
        how: run::Options,
    },
}

impl Args {
    pub(super) fn run(&self, fleet: Fleet<'_>, config: &Config) -> Result<Health> {
        let conn = &mut connect(config)?;
        match &self.verb {
            Verb::List { limit, json } => list(conn, *limit, *json),
            Verb::Show { run, json } => show(conn, *run, *json),
            Verb::Retry { run, yes, how } => retry(conn, *run, *yes, how, fleet, config),
            Verb::Revert { run, dry_run, yes, how } => {
                runs::find(conn, *run)?;
                let goal = Goal::Unapply { versions: runs::applied(conn, *run)? };
                revert::back(&goal, *dry_run, *yes, how, fleet, config)
            }
        }
    }
}

fn list(conn: &mut PgConnection, limit: i64, json: bool) -> Result<Health> {
    let found = runs::list(conn, limit)?;
    if json {
        output::json(&found)?;
    } else {
        output::print(&render::past_runs(&found, runs::under_way(conn)?));
    }
    Ok(Health::Good)
}

fn show(conn: &mut PgConnection, id: i64, json: bool) -> Result<Health> {
    let (run, lines, steps) = (runs::find(conn, id)?, runs::lines(conn, id)?, runs::steps(conn, id)?);
    if json {
        output::json(&json!({ "run": run, "lines": lines, "steps": steps }))?;
    } else {
        output::print(&render::past_run(&run, &lines, &steps, runs::under_way(conn)?));
    }
    Ok(Health::Good)
}

fn retry(
    conn: &mut PgConnection,
    id: i64,
    yes: bool,
    how: &run::Options,
    fleet: Fleet<'_>,
    config: &Config,
) -> Result<Health> {
    let run = runs::find(conn, id)?;
    let goal: Goal = serde_json::from_value(run.options["goal"].clone())
        .with_context(|| format!("run {id} was made by another version, {}", run.program))?;
    let listed = directory::read(conn, fleet.directory)?.schemas();
    let mut names = runs::left(conn, &run, listed.iter().map(SchemaName::as_str))?;
    let mut begun = BTreeSet::new();
    if !goal.is_repeatable() {
        // What was done there before it failed would be done twice.
        begun.extend(runs::steps(conn, id)?.into_iter().map(|step| step.schema).filter(|schema| names.remove(schema)));
    }
    // A run that was cut short was done with them, but one that failed there was not.
    if run.ended_at.is_some() && run.error.is_none() && !begun.is_empty() {
        let begun: Vec<String> = begun.into_iter().collect();
        bail!(
            "run {id} did a part in {}: see with `tenantry status` what they have, and go on from there",
            begun.join(", ")
        );
    }
    if names.is_empty() {
        output::print(&format!("nothing is left to do of run {id}"));
        return Ok(Health::Good);
    }
    let left = Named { directory: fleet.directory, names };
    let fleet = Fleet { directory: &left, ..fleet };
    match goal {
        Goal::Latest => how.run(fleet, config, &goal),
        _ => revert::back(&goal, false, yes, how, fleet, config),
    }
}
