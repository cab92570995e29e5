use std::{collections::BTreeSet, time::Duration};

use diesel::PgConnection;

use super::{Report, settings::keeping_settings};
use crate::{
    Error, SchemaName,
    directory::Listing,
    doctor::{Finding, Kind, Rules},
    migrate::{Connector, Interrupt, Migrations},
};

/// A repair of the tenants it is handed: each in one transaction, under the tenant's lock.
///
/// It copies from `public` what rows of a tenant refer to and do not have beside them, and what belongs to the tenant,
/// together with every row of `public` that refers to what is copied; fills the nulls that the [`Rules`] name; moves
/// sequences on, and puts constraints right by its [`migrations`](Repair::migrations). It overwrites nothing, deletes
/// only [originals](Repair::remove_originals), and is safe to run again. What it does is remembered, and can be [taken
/// back](super::Undo).
#[allow(missing_debug_implementations)] // the connector has none
#[derive(Clone)]
pub struct Repair<'a> {
    pub(super) rules: &'a Rules,
    pub(super) migrations: Option<&'a Migrations>,
    pub(super) record: bool,
    pub(super) lock_timeout: Duration,
    pub(super) remove_originals: bool,
    pub(super) interrupt: Option<&'a Interrupt>,
    pub(super) jobs: Option<(usize, &'a Connector<'a>)>,
    pub(super) only: Option<Vec<SchemaName>>,
    pub(super) found: Option<Found>,
}

/// Whom findings are about.
#[derive(Debug, Clone, Default)]
pub(super) struct Found {
    /// Those in whom something can be repaired.
    pub(super) ill: BTreeSet<String>,
    /// Those who have rows under keys that `public` has too.
    pub(super) twins: BTreeSet<String>,
}

impl<'a> Repair<'a> {
    /// A repair by these rules.
    pub fn new(rules: &'a Rules) -> Self {
        Self {
            rules,
            migrations: None,
            record: true,
            lock_timeout: Duration::from_secs(5),
            remove_originals: false,
            interrupt: None,
            jobs: None,
            only: None,
            found: None,
        }
    }

    /// Has constraints be as these migrations make them. Defaults to leaving constraints alone.
    ///
    /// Of a tenant that lacks versions, they are compared with what those make that it has. Missing foreign keys,
    /// checks, keys and NOT NULLs are added and validated, others of theirs validated or replaced. What rows do not
    /// allow is left as it was, and named.
    pub fn migrations(mut self, migrations: &'a Migrations) -> Self {
        self.migrations = Some(migrations);
        self
    }

    /// Looks only at the tenants that these findings are about. Defaults to looking at every one.
    ///
    /// The [`Doctor`](crate::doctor::Doctor) finds the ill ones of a large fleet much quicker. It has to have looked
    /// at all tenants, and for [`KINDS`](crate::repair::KINDS) at least.
    pub fn findings<'f>(mut self, findings: impl IntoIterator<Item = &'f Finding>) -> Self {
        let mut found = Found::default();
        for finding in findings {
            match finding.kind {
                Kind::Copy | Kind::Conflict => found.twins.insert(finding.schema.clone()),
                _ => found.ill.insert(finding.schema.clone()),
            };
        }
        self.found = Some(found);
        self
    }

    /// Sets whether to remove from `public` the originals of what a tenant has. Defaults to keeping them.
    ///
    /// Only those are removed that the tenant has just the same, that no other tenant has or refers to, and to which
    /// nothing refers that stays.
    pub fn remove_originals(mut self, remove: bool) -> Self {
        self.remove_originals = remove;
        self
    }

    /// Lets somebody end it early: the tenant whose turn it is is finished, and the others are not reached.
    pub fn interrupt(mut self, interrupt: &'a Interrupt) -> Self {
        self.interrupt = Some(interrupt);
        self
    }

    /// Repairs so many tenants at a time, each on a connection from here. Defaults to one after the other, on the
    /// connection that it is handed; so it is inside a transaction, too.
    ///
    /// Tenants that might wait for each other come one after the other all the same: those whose originals are
    /// removed, and those of which a foreign key is replaced, or added that leads into `public`.
    pub fn jobs(mut self, jobs: usize, connect: &'a Connector<'a>) -> Self {
        self.jobs = Some((jobs.max(1), connect));
        self
    }

    /// Repairs these tenants and no others. All are examined, to see which rows several of them refer to.
    pub fn only(mut self, schemas: Vec<SchemaName>) -> Self {
        self.only = Some(schemas);
        self
    }

    /// Sets whether to remember, in the schema `tenantry`, what is done. Defaults to true.
    ///
    /// What is not remembered cannot be [taken back](super::Undo).
    pub fn record(mut self, record: bool) -> Self {
        self.record = record;
        self
    }

    /// Sets how long to wait for a tenant's lock, and for a row's. Defaults to 5 seconds.
    pub fn lock_timeout(mut self, timeout: Duration) -> Self {
        self.lock_timeout = timeout;
        self
    }

    /// Reports what [`apply`](Repair::apply) would do, and keeps nothing of it.
    ///
    /// What it reports it has tried, tenant by tenant, and rolled back, so that it foresees what fails; for a role
    /// that may only read, it reports what would be tried.
    ///
    /// # Errors
    ///
    /// As [`apply`](Repair::apply).
    pub fn propose(&self, conn: &mut PgConnection, listing: &Listing) -> Result<Report, Error> {
        keeping_settings(conn, |conn| self.carry_out(conn, listing, true))
    }

    /// Examines the tenants, and repairs those in which something is wrong.
    ///
    /// # Errors
    ///
    /// When `public` cannot be read, and [`Error::Record`] or [`Error::RecordDenied`]. One tenant's failure is a line of the report.
    pub fn apply(&self, conn: &mut PgConnection, listing: &Listing) -> Result<Report, Error> {
        keeping_settings(conn, |conn| self.carry_out(conn, listing, false))
    }
}
