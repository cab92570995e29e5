//! A monolith's migrations, its directory of tenants, and what it knows of its tables, together.

use diesel::PgConnection;
use serde::Serialize;

use crate::{
    Error, SchemaName,
    directory::{Listing, TenantDirectory},
    doctor::Rules,
    migrate::{Connector, Line, Migrations, Report, Run, SchemaStatus, State, survey},
    pg::lock,
};

/// All schemas of one database: `public`, and the tenants of a directory.
#[allow(missing_debug_implementations)] // the directory has none
#[derive(Clone, Copy)]
pub struct Fleet<'a> {
    /// What every schema should have.
    pub migrations: &'a Migrations,
    /// Which tenants there are.
    pub directory: &'a dyn TenantDirectory,
    /// What the doctor and the repair need to know of the tables.
    pub rules: &'a Rules,
}

/// Where a fleet stands.
#[derive(Debug, Serialize)]
pub struct Status {
    /// Every schema, `public` first.
    pub schemas: Vec<SchemaStatus>,
    /// Entries of the directory that can be no schema's name, and why.
    pub refused: Vec<(String, String)>,
}

impl Fleet<'_> {
    /// Migrates `public`, and then every tenant that is listed, active or suspended.
    ///
    /// # Errors
    ///
    /// [`Error::RunInProgress`], or when `public` could not be migrated, so that no tenant was touched, or when
    /// there is no connection.
    /// A tenant's failure is a line of the report.
    pub fn migrate(&self, run: &Run<'_>, connect: &Connector<'_>) -> Result<Report, Error> {
        let mut conn = connect()?;
        lock::fleet(&mut conn, run.patience())?;
        let public = run.public(&mut conn)?;
        // The registry may have been made by that very migration.
        let listing = self.directory.list(&mut conn)?;
        let report = run.tenants(connect, &listing.schemas())?;
        // The lock was this connection's.
        drop(conn);
        Ok(complete(public, report, &listing))
    }

    /// Migrates everything on one connection, which may be inside a test transaction.
    ///
    /// # Errors
    ///
    /// As [`migrate`](Fleet::migrate).
    pub fn migrate_on(&self, run: &Run<'_>, conn: &mut PgConnection) -> Result<Report, Error> {
        let public = run.public(conn)?;
        let listing = self.directory.list(conn)?;
        let report = run.tenants_on(conn, &listing.schemas());
        Ok(complete(public, report, &listing))
    }

    /// Tells where every schema stands, and writes nothing: a role that may only SELECT is enough.
    ///
    /// # Errors
    ///
    /// [`Error::NoRegistry`], or those of the queries.
    pub fn status(&self, conn: &mut PgConnection) -> Result<Status, Error> {
        let listing = self.directory.list(conn)?;
        let mut schemas = vec![SchemaName::public()];
        schemas.extend(listing.schemas());
        let refused = listing.refused.iter().map(|(name, rule)| (name.clone(), rule.to_string())).collect();
        Ok(Status { schemas: survey(conn, &schemas, self.migrations)?, refused })
    }
}

impl Status {
    /// The schemas, and the directory's refused entries, that are not known to have this version.
    pub fn lacking(&self, version: &str) -> Vec<&str> {
        let has = |status: &&SchemaStatus| matches!(&status.state, State::Known { applied, .. } if applied.iter().any(|known| known == version));
        let schemas = self.schemas.iter().filter(|status| !has(status)).map(|status| status.schema.as_str());
        schemas.chain(self.refused.iter().map(|(name, _)| name.as_str())).collect()
    }

    /// Whether every schema is there, readable, known and up to date.
    pub fn is_healthy(&self) -> bool {
        let healthy = |status: &SchemaStatus| matches!(&status.state, State::Known { pending, unknown, .. } if pending.is_empty() && unknown.is_empty());
        self.refused.is_empty() && self.schemas.iter().all(healthy)
    }
}

fn complete(public: Line, mut report: Report, listing: &Listing) -> Report {
    report.elapsed += public.duration;
    report.lines.insert(0, public);
    report.lines.extend(listing.refused.iter().map(|(name, rule)| Line {
        schema: name.clone(),
        result: Err(Error::SchemaName { name: name.clone(), source: rule.clone() }),
        duration: Default::default(),
    }));
    report
}
