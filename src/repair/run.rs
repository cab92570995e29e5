use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use diesel::PgConnection;

use super::{
    Report, TenantReport,
    blueprint::Blueprints,
    claims::Claims,
    memory,
    proposal::Excluded,
    propose::Proposer,
    rows::primary_key,
    settings::{begin, keeping_settings},
    tenant::{Common, Turn},
    turns::{Looked, Taken, Turns},
};
use crate::{
    Error, SchemaName,
    directory::{Listing, TenantEntry},
    doctor::{Belongings, Crew, Examined, Finding, Kind, Problem, Rules, Symptom, telling_key},
    migrate::{Connector, Interrupt, Migrations},
    pg::{
        atomically, depth, scope,
        tables::{self, Tables},
    },
};

/// How many tenants' tables are read at once.
const CHUNK: usize = 25;

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
    interrupt: Option<&'a Interrupt>,
    jobs: Option<(usize, &'a Connector<'a>)>,
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
    /// removed, and those of which a foreign key is replaced.
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
    /// When `public` cannot be read, and [`Error::Record`]. One tenant's failure is a line of the report.
    pub fn apply(&self, conn: &mut PgConnection, listing: &Listing) -> Result<Report, Error> {
        keeping_settings(conn, |conn| self.carry_out(conn, listing, false))
    }

    fn carry_out(&self, conn: &mut PgConnection, listing: &Listing, dry_run: bool) -> Result<Report, Error> {
        let ill: Vec<&TenantEntry> = listing.tenants.iter().filter(|tenant| self.is_ill(tenant)).collect();
        let common = self.common(conn, listing, &ill)?;
        let (looked, mut claims) = self.look_at(conn, &ill, &common)?;
        let holders = self.holders(conn, listing, &common.public)?;
        claims.settle(conn, &common.public, &holders, self.remove_originals, self.lock_timeout);
        let is_chosen = |tenant: &TenantEntry| self.only.as_ref().is_none_or(|only| only.contains(&tenant.schema));
        let looked = looked.into_iter().filter(|(tenant, _)| is_chosen(tenant)).collect();
        let turns = Turns { repair: self, common: &common, claims: &claims, dry_run };
        let Taken { mut tenants, repair, rehearsed } = turns.take(conn, looked)?;
        let refused = listing.refused.iter().filter(|_| self.only.is_none());
        tenants.extend(refused.map(|(name, rule)| TenantReport {
            schema: name.clone(),
            result: Err(Error::SchemaName { name: name.clone(), source: rule.clone() }),
        }));
        Ok(Report {
            dry_run,
            repair,
            rehearsed,
            examined: listing.tenants.len(),
            not_compared: common.blueprints.not_compared,
            tenants,
        })
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.interrupt.is_some_and(Interrupt::is_stopped)
    }

    /// Has each of the items worked on, at most so many at once, and tells what came of them, in their order.
    pub(super) fn share<I: Sync, T: Send>(
        &self,
        conn: &mut PgConnection,
        items: &[I],
        most: usize,
        work: impl Fn(&mut PgConnection, &[&I]) -> Vec<T> + Sync,
    ) -> Result<Vec<T>, Error> {
        let numbered: Vec<(usize, &I)> = items.iter().enumerate().collect();
        let work = |conn: &mut PgConnection, some: &[&(usize, &I)]| -> Vec<(usize, T)> {
            let items: Vec<&I> = some.iter().map(|(_, item)| *item).collect();
            some.iter().map(|(at, _)| *at).zip(work(conn, &items)).collect()
        };
        // Other connections do not see what a caller's transaction has done.
        let mut made = match self.jobs.filter(|_| depth(conn) == 0) {
            Some((jobs, connect)) => {
                Crew { connect, jobs }.share(&numbered, most, |conn, some| Ok(work(conn, some)))?.0
            }
            None => numbered.chunks(most).flat_map(|some| work(conn, &some.iter().collect::<Vec<_>>())).collect(),
        };
        made.sort_by_key(|(at, _)| *at);
        Ok(made.into_iter().map(|(_, made)| made).collect())
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

    /// Looks at tenants without their locks: in which of them anything is to be done, and which rows of `public` they
    /// claim.
    fn look_at<'t>(
        &self,
        conn: &mut PgConnection,
        tenants: &'t [&'t TenantEntry],
        common: &Common,
    ) -> Result<(Vec<Looked<'t>>, Claims), Error> {
        let claims = Mutex::new(Claims::default());
        let looked = self.share(conn, tenants, CHUNK, |conn, some| {
            let names: Vec<&str> = some.iter().map(|tenant| tenant.schema.as_str()).collect();
            let mut known = atomically(conn, |conn| tables::read_many(conn, &names)).ok();
            let look = |tenant: &&'t TenantEntry| {
                let tables = known.as_mut().map(|known| known.remove(tenant.schema.as_str()).unwrap_or_default());
                (*tenant, self.look(conn, tenant, tables, common, &claims))
            };
            some.iter().copied().map(look).collect()
        })?;
        let mut claims = claims.into_inner().unwrap_or_else(PoisonError::into_inner);
        let is_unclear = |error: &Error| !matches!(error, Error::MissingSchema { .. });
        let unclear = looked.iter().filter(|(_, looked)| looked.as_ref().is_err_and(is_unclear));
        claims.unexamined.extend(unclear.map(|(tenant, _)| tenant.schema.clone()));
        claims.unexamined.sort();
        let to_do = |(tenant, looked)| match looked {
            Ok(false) => None,
            Ok(true) => Some((tenant, Ok(()))),
            Err(error) => Some((tenant, Err(error))),
        };
        Ok((looked.into_iter().filter_map(to_do).collect(), claims))
    }

    fn look(
        &self,
        conn: &mut PgConnection,
        tenant: &TenantEntry,
        tables: Option<Tables>,
        common: &Common,
        claims: &Mutex<Claims>,
    ) -> Result<bool, Error> {
        let nobody = Claims::default();
        let turn = Turn { repair: self, tenant, common, claims: &nobody, rehearsal: true };
        scope::transaction(conn, &tenant.schema, |scoped| {
            begin(scoped, self.lock_timeout)?;
            let tables = tables.map_or_else(|| tables::read(scoped, &tenant.schema), Ok)?;
            let examined = turn.examine_rows(scoped, tables)?;
            if is_claiming(&examined) {
                let proposer = Proposer { lock: false, spoken_for: None, ..turn.proposer(&examined) };
                let proposed = atomically::<_, Error>(scoped, |conn| {
                    let roots = proposer.roots(conn)?;
                    let own = proposer.walk(conn, &roots, &Excluded::new())?.claims;
                    Ok((own, proposer.strays(conn)?, proposer.with_strays(conn)?))
                });
                let mut claims = claims.lock().unwrap_or_else(PoisonError::into_inner);
                claims.follow(&examined.references);
                match proposed {
                    Ok((own, strays, with_strays)) => {
                        claims.add(&tenant.schema, own);
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
