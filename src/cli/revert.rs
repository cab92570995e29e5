use anyhow::{Result, ensure};

use super::{Health, confirm, connect::connect, output, render, run};
use crate::{
    Config, Fleet,
    migrate::{Goal, Set, Until},
};

/// Take migrations back, with their down.sql: in every tenant, and in `public` after them
///
/// Shows what it would take back and where, and asks. With a choice of tenants, `public` is left alone.
#[derive(clap::Args)]
#[group(id = "how_far", required = true, multiple = false, args = ["steps", "to"])]
pub(super) struct Args {
    /// Take back so many migrations, in each schema the last ones that it has
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    steps: Option<u32>,
    /// Take back everything after this version
    #[arg(long, value_name = "VERSION")]
    to: Option<String>,
    /// The public set, in `public` alone, instead of the tenants' set
    #[arg(long)]
    public: bool,
    /// Show what would be taken back, and do nothing
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
        let set = if self.public { Set::Public } else { Set::Tenant };
        let until = match (&self.to, self.steps) {
            (Some(version), _) => {
                let known: Vec<&str> = fleet.migrations.versions(set).collect();
                ensure!(
                    known.contains(&version.as_str()),
                    "the set has no migration {version}: it has {}",
                    known.join(", ")
                );
                Until::Version(version.clone())
            }
            (None, steps) => Until::Steps(steps.unwrap_or(1) as usize),
        };
        back(&Goal::Revert { set, until }, self.dry_run, self.yes, &self.how, fleet, config)
    }
}

/// Goes back, after showing where to and asking.
pub(super) fn back(
    goal: &Goal,
    dry_run: bool,
    yes: bool,
    how: &run::Options,
    fleet: Fleet<'_>,
    config: &Config,
) -> Result<Health> {
    let plan = fleet.plan(goal, &mut connect(config)?)?;
    let text = render::plan(&plan, false);
    if dry_run {
        output::print(&text);
        return Ok(Health::Good);
    }
    if plan.is_empty() {
        output::print(&text);
        return Ok(Health::from(plan.refused.is_empty()));
    }
    if !(yes && how.is_quiet()) {
        confirm::confirm(&text, yes)?;
    }
    how.run(fleet, config, goal)
}
