use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use super::{Kind, Report, Rules, crew::cores, visit::Visit};
use crate::{
    Error,
    directory::TenantDirectory,
    migrate::{Connector, Migrations},
};

/// An examination of a whole fleet.
///
/// It reads only, for a role that may SELECT, and holds no lock that a writer would wait for. Tenants that are
/// written to, migrated, dropped or renamed meanwhile are looked at again. Each tenant is compared with what the
/// migrations make of it at its own version, in a scratch schema that is rolled back; where the role may not make
/// one, with the majority of the tenants of that version.
///
/// ```no_run
/// use tenantry::{Config, doctor::{Doctor, Severity}, domain, pg};
///
/// let (config, fleet) = (Config::from_env()?, domain::fleet()?);
/// let report = Doctor::new(fleet.migrations, fleet.directory, fleet.rules).run(&|| pg::connect(&config))?;
/// for finding in &report.findings {
///     println!("{}: {}", finding.schema, finding.says);
/// }
/// assert_eq!(report.count(Severity::Error), 0);
/// # Ok::<(), tenantry::Error>(())
/// ```
#[allow(missing_debug_implementations)] // the directory has none
#[derive(Clone)]
pub struct Doctor<'a> {
    pub(super) migrations: &'a Migrations,
    pub(super) directory: &'a dyn TenantDirectory,
    pub(super) rules: &'a Rules,
    pub(super) kinds: BTreeSet<Kind>,
    pub(super) jobs: usize,
    pub(super) statement_timeout: Duration,
    pub(super) trust_foreign_keys: bool,
}

impl<'a> Doctor<'a> {
    /// A doctor for these tenants, who looks for everything.
    pub fn new(migrations: &'a Migrations, directory: &'a dyn TenantDirectory, rules: &'a Rules) -> Self {
        let kinds = Kind::ALL.iter().copied().collect();
        let statement_timeout = Duration::from_secs(60);
        Self { migrations, directory, rules, kinds, jobs: cores(), statement_timeout, trust_foreign_keys: false }
    }

    /// Looks for these kinds and no others.
    pub fn only(mut self, kinds: impl IntoIterator<Item = Kind>) -> Self {
        self.kinds = kinds.into_iter().collect();
        self
    }

    /// Looks for all but these kinds.
    pub fn skip(mut self, kinds: impl IntoIterator<Item = Kind>) -> Self {
        for kind in kinds {
            self.kinds.remove(&kind);
        }
        self
    }

    /// Sets how many connections to use. Defaults to as many as there are cores, 2 to 8.
    ///
    /// It is the server that works: more than it has cores do not help.
    pub fn jobs(mut self, jobs: usize) -> Self {
        self.jobs = jobs.max(1);
        self
    }

    /// Sets how long one query may take before its tenants count as unreadable. Defaults to a minute.
    pub fn statement_timeout(mut self, timeout: Duration) -> Self {
        self.statement_timeout = timeout;
        self
    }

    /// Sets whether a valid foreign key is proof enough that no row refers to nothing. Defaults to not.
    ///
    /// Only who has switched its triggers off, as a restore may, can have written such a row. Without that look most
    /// tables need not be opened, and the rows of a fleet are examined in less than half the time.
    pub fn trust_foreign_keys(mut self, trust: bool) -> Self {
        self.trust_foreign_keys = trust;
        self
    }

    /// Looks at all tenants of the directory and, if these are [all](TenantDirectory::is_whole), at `public` too.
    ///
    /// # Errors
    ///
    /// [`Error::NoRegistry`], [`Error::Pooler`], or when there is no connection. A tenant that cannot be looked at is a finding.
    pub fn run(&self, connect: &Connector<'_>) -> Result<Report, Error> {
        let started = Instant::now();
        let report = Visit::new(self, connect)?.run()?;
        Ok(Report { elapsed: started.elapsed(), ..report })
    }

    /// Whether it has to look at rows.
    pub(super) fn wants_rows(&self) -> bool {
        self.kinds.iter().any(|kind| kind.is_of_rows())
    }

    pub(super) fn wants(&self, kinds: &[Kind]) -> bool {
        kinds.iter().any(|kind| self.kinds.contains(kind))
    }
}
