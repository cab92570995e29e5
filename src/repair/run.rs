use std::{collections::BTreeSet, time::Duration};

use diesel::PgConnection;

use super::{
    Outcome, Report, TenantReport,
    blueprint::Blueprints,
    claims::Claims,
    memory,
    proposal::Excluded,
    propose::Proposer,
    rows::primary_key,
    settings::{begin, keeping_settings},
    tenant::{Common, Turn},
};
use crate::{
    Error, SchemaName,
    directory::{Listing, TenantEntry},
    doctor::{Belongings, Examined, Finding, Kind, Problem, Rules, Symptom, telling_key},
    migrate::{Interrupt, Migrations},
    pg::{
        atomically, scope,
        tables::{self, Tables},
    },
};

/// A repair of the tenants it is handed: each in one transaction, under the tenant's lock.
///
/// It copies from `public` what rows of a tenant refer to and do not have beside them, and what belongs to the tenant,
/// together with every row of `public` that refers to what is copied; fills the nulls that the [`Rules`] name; moves
/// sequences on, and puts constraints right by its [`migrations`](Repair::migrations). It overwrites nothing, deletes
/// only [originals](Repair::remove_originals), and is safe to run again. What it does is remembered, and can be [taken
/// back](super::Undo).
#[derive(Debug, Clone)]
pub struct Repair<'a> {
    pub(super) rules: &'a Rules,
    pub(super) migrations: Option<&'a Migrations>,
    pub(super) record: bool,
    pub(super) lock_timeout: Duration,
    pub(super) remove_originals: bool,
    interrupt: Option<&'a Interrupt>,
    only: Option<Vec<SchemaName>>,
    found: Option<Found>,
}

/// Whom findings are about.
#[derive(Debug, Clone, Default)]
struct Found {
    /// Those in whom something can be repaired.
    ill: BTreeSet<String>,
    /// Those who have rows under keys that `public` has too.
    twins: BTreeSet<String>,
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
    /// When `public` cannot be read, and [`Error::Record`]. One tenant's failure is a line of the report.
    pub fn apply(&self, conn: &mut PgConnection, listing: &Listing) -> Result<Report, Error> {
        keeping_settings(conn, |conn| self.carry_out(conn, listing, false))
    }

    fn carry_out(&self, conn: &mut PgConnection, listing: &Listing, dry_run: bool) -> Result<Report, Error> {
        let ill: Vec<&TenantEntry> = listing.tenants.iter().filter(|tenant| self.is_ill(tenant)).collect();
        let common = self.common(conn, listing, &ill)?;
        let mut claims = Claims::default();
        let mut turns = Vec::new();
        for tenant in ill {
            match self.look(conn, tenant, &common, &mut claims) {
                Ok(false) => {}
                Ok(true) => turns.push((tenant, Ok(()))),
                Err(error) => {
                    if !matches!(error, Error::MissingSchema { .. }) {
                        claims.unexamined.push(tenant.schema.clone());
                    }
                    turns.push((tenant, Err(error)));
                }
            }
        }
        let holders = self.holders(conn, listing, &common.public)?;
        claims.settle(conn, &common.public, &holders, self.remove_originals, self.lock_timeout);
        let mut report = Report {
            dry_run,
            examined: listing.tenants.len(),
            not_compared: common.blueprints.not_compared.clone(),
            repair: None,
            rehearsed: dry_run,
            tenants: Vec::new(),
        };
        for (tenant, result) in turns {
            if self.only.as_ref().is_some_and(|only| !only.contains(&tenant.schema)) {
                continue;
            }
            let turn = Turn { repair: self, tenant, common: &common, claims: &claims, rehearsal: dry_run };
            let result = match result {
                _ if self.interrupt.is_some_and(Interrupt::is_stopped) => {
                    Err(Error::NotReached { reason: "the repair was stopped".into() })
                }
                Ok(()) if dry_run => turn.rehearse(conn).map(|(outcome, rehearsed)| {
                    report.rehearsed &= rehearsed;
                    outcome
                }),
                Ok(()) => turn.take(conn, report.repair).map(|(outcome, repair)| {
                    report.repair = repair;
                    outcome
                }),
                Err(error) => Err(error),
            };
            match result {
                // It would be the same for every other tenant.
                Err(error @ Error::Record(_)) => return Err(error),
                Ok(outcome) if outcome == Outcome::default() => {}
                result => report.tenants.push(TenantReport { schema: tenant.schema.to_string(), result }),
            }
        }
        let refused = listing.refused.iter().filter(|_| self.only.is_none());
        report.tenants.extend(refused.map(|(name, rule)| TenantReport {
            schema: name.clone(),
            result: Err(Error::SchemaName { name: name.clone(), source: rule.clone() }),
        }));
        Ok(report)
    }

    fn is_ill(&self, tenant: &TenantEntry) -> bool {
        let is_twin = |found: &Found| self.remove_originals && found.twins.contains(tenant.schema.as_str());
        self.found.as_ref().is_none_or(|found| found.ill.contains(tenant.schema.as_str()) || is_twin(found))
    }

    /// The tenants that may have rows of `public`: those that are found to, and those that earlier repairs gave some.
    /// All, if originals are to be removed that the doctor does not know again in a tenant.
    fn holders(&self, conn: &mut PgConnection, listing: &Listing, public: &Tables) -> Result<Vec<TenantEntry>, Error> {
        let is_told = || {
            let mut tables = public.tables.iter().filter(|(_, table)| primary_key(table).is_some());
            tables.all(|(name, table)| telling_key(name, table, &public.references, public, public).is_some())
        };
        let Some(found) = self.found.as_ref().filter(|_| !self.remove_originals || is_told()) else {
            return Ok(listing.tenants.clone());
        };
        let given: BTreeSet<String> = memory::schemas_given(conn)?.into_iter().collect();
        let holds = |tenant: &&TenantEntry| {
            let name = tenant.schema.as_str();
            self.is_ill(tenant) || found.twins.contains(name) || given.contains(name)
        };
        Ok(listing.tenants.iter().filter(holds).cloned().collect())
    }

    fn common(&self, conn: &mut PgConnection, listing: &Listing, ill: &[&TenantEntry]) -> Result<Common, Error> {
        let schemas: Vec<SchemaName> = ill.iter().map(|tenant| tenant.schema.clone()).collect();
        let (public, belongings) = atomically::<_, Error>(conn, |conn| {
            begin(conn, self.lock_timeout)?;
            let public = tables::read(conn, &SchemaName::public())?;
            let names = tables::names(conn, &schemas.iter().map(SchemaName::as_str).collect::<Vec<_>>())?;
            let belongings = Belongings::look(conn, &public, self.rules, &listing.tenants, &names)?;
            Ok((public, belongings))
        })?;
        let blueprints = match self.migrations {
            Some(migrations) => Blueprints::draw(conn, migrations, &schemas, self.lock_timeout)?,
            None => Blueprints::default(),
        };
        Ok(Common { public, belongings, blueprints })
    }

    /// Looks at a tenant without its lock: whether anything is to be done there, and which rows of `public` it claims.
    fn look(
        &self,
        conn: &mut PgConnection,
        tenant: &TenantEntry,
        common: &Common,
        claims: &mut Claims,
    ) -> Result<bool, Error> {
        let nobody = Claims::default();
        let turn = Turn { repair: self, tenant, common, claims: &nobody, rehearsal: true };
        scope::transaction(conn, &tenant.schema, |scoped| {
            begin(scoped, self.lock_timeout)?;
            let examined = turn.examine(scoped)?;
            if is_claiming(&examined) {
                let proposer = Proposer { lock: false, spoken_for: None, ..turn.proposer(&examined) };
                let proposed = atomically::<_, Error>(scoped, |conn| {
                    let proposal = proposer.propose(conn, &Excluded::new())?;
                    Ok((proposal, proposer.strays(conn)?, proposer.with_strays(conn)?))
                });
                match proposed {
                    Ok((proposal, strays, with_strays)) => {
                        claims.add(&tenant.schema, proposal.claims);
                        strays.into_iter().for_each(|(table, row, _)| claims.ask(&tenant.schema, table, row));
                        for (table, rows) in with_strays {
                            rows.into_iter().for_each(|row| claims.ask(&tenant.schema, table.clone(), row));
                        }
                    }
                    Err(error) => {
                        tracing::warn!(tenant.schema = %tenant.schema, %error, "Could not follow what it refers to");
                        claims.unexamined.push(tenant.schema.clone());
                    }
                }
            }
            Ok(self.remove_originals || !examined.findings.is_empty() || common.blueprints.differs(&tenant.schema))
        })
    }
}

/// Whether rows of `public` may be this tenant's.
fn is_claiming(examined: &Examined) -> bool {
    let claims =
        |one: &Symptom| matches!(one.problem, Problem::Orphans { in_public: true, .. } | Problem::Strays { .. });
    examined.findings.iter().any(claims)
}
