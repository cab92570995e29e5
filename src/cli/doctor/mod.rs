mod text;

use anyhow::{Result, ensure};

use super::{Health, output};
use crate::{
    Config, Fleet,
    doctor::{Doctor, Kind},
    pg::pooler,
};

/// Find what is wrong: schemas, histories, structure, and rows out of place. Reads only: a role that may SELECT is enough
///
/// Each tenant is compared with what the migrations make at its version, in a scratch schema that is rolled back; a
/// role that may not make one compares the tenants with each other. Notices alone leave the fleet healthy.
#[derive(clap::Args)]
pub(in crate::cli) struct Args {
    /// Look only for this kind of finding; may be given several times
    #[arg(long, value_name = "KIND")]
    only: Vec<Kind>,
    /// Do not look for this kind of finding; may be given several times
    #[arg(long, value_name = "KIND")]
    skip: Vec<Kind>,
    /// List the kinds of findings, and do nothing else
    #[arg(long)]
    kinds: bool,
    /// How many connections to use [default: as many as there are cores, 2 to 8]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    jobs: Option<u16>,
    /// Seconds that one query may take before its tenants count as unreadable [default: 60]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=86400))]
    statement_timeout: Option<u32>,
    /// Take valid foreign keys at their word: quicker, and blind to rows that were written while they were switched off
    #[arg(long)]
    trust_foreign_keys: bool,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

impl Args {
    /// Whether the question is only which kinds there are: then no database is needed.
    pub(in crate::cli) fn lists_kinds(&self) -> bool {
        self.kinds
    }

    pub(in crate::cli) fn list_kinds(&self) -> Result<Health> {
        match self.json {
            true => output::json(&text::kinds_as_json())?,
            false => output::print(&text::kinds()),
        }
        Ok(Health::Good)
    }

    pub(in crate::cli) fn run(&self, fleet: Fleet<'_>, config: &Config) -> Result<Health> {
        let is_wanted = |kind: &Kind| (self.only.is_empty() || self.only.contains(kind)) && !self.skip.contains(kind);
        ensure!(Kind::ALL.iter().any(is_wanted), "--only and --skip leave no kind to look for");
        let mut doctor =
            Doctor::new(fleet.migrations, fleet.directory, fleet.rules).trust_foreign_keys(self.trust_foreign_keys);
        if !self.only.is_empty() {
            doctor = doctor.only(self.only.iter().copied());
        }
        doctor = doctor.skip(self.skip.iter().copied());
        if let Some(jobs) = self.jobs {
            doctor = doctor.jobs(jobs.into());
        }
        if let Some(seconds) = self.statement_timeout {
            doctor = doctor.statement_timeout(std::time::Duration::from_secs(seconds.into()));
        }
        let report = doctor.run(&pooler::checked(config)?)?;
        if self.json {
            output::json(&report)?;
        } else {
            output::print(&text::report(&report));
        }
        Ok(Health::from(report.is_healthy()))
    }
}
