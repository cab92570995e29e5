use std::{collections::BTreeMap, time::Duration};

use diesel::PgConnection;

use super::{
    Left, Outcome, Report, TenantReport,
    propose::{Contested, Proposal, Proposer},
};
use crate::{
    Error, SchemaName,
    directory::{Listing, TenantEntry},
    doctor::{self, Examined, Problem, Rules},
    pg::{
        lock, scope,
        tables::{self, Tables},
    },
};

/// A repair of the tenants it is handed: each in one transaction, under the tenant's lock.
///
/// It copies from `public` what rows of a tenant refer to and do not have beside them, together with every
/// row of `public` that refers to what is copied; fills the nulls that the [`Rules`] name; overwrites
/// nothing, deletes nothing, and is safe to run again.
#[derive(Debug, Clone)]
pub struct Repair<'a> {
    rules: &'a Rules,
    dry_run: bool,
    only: Option<Vec<SchemaName>>,
    lock_timeout: Duration,
}

impl<'a> Repair<'a> {
    /// A repair by these rules.
    pub fn new(rules: &'a Rules) -> Self {
        Self { rules, dry_run: false, only: None, lock_timeout: Duration::from_secs(5) }
    }

    /// Reports what would be done, and reads only. Defaults to false.
    pub fn dry_run(mut self, dry_run: bool) -> Self {
        self.dry_run = dry_run;
        self
    }

    /// Repairs these tenants and no others. All are examined, to see which rows several of them refer to.
    pub fn only(mut self, schemas: Vec<SchemaName>) -> Self {
        self.only = Some(schemas);
        self
    }

    /// Sets how long to wait for a tenant's lock, and for a row's. Defaults to 5 seconds.
    pub fn lock_timeout(mut self, timeout: Duration) -> Self {
        self.lock_timeout = timeout;
        self
    }

    /// Examines the tenants, and repairs those in which something is wrong.
    ///
    /// # Errors
    ///
    /// When `public` cannot be read. One tenant's failure is a line of the report.
    pub fn run(&self, conn: &mut PgConnection, listing: &Listing) -> Result<Report, Error> {
        let public = tables::read(conn, &SchemaName::public())?;
        let mut examined = Vec::new();
        let mut report = Report { dry_run: self.dry_run, examined: listing.tenants.len(), tenants: Vec::new() };
        for tenant in &listing.tenants {
            examined.push((tenant, self.examine(conn, tenant, &public)));
        }
        let claims = Claims { contested: contested(&examined), unexamined: unexamined(&examined) };
        for (tenant, result) in examined {
            if self.only.as_ref().is_some_and(|only| !only.contains(&tenant.schema)) {
                continue;
            }
            let result = match result {
                Ok(examined) if examined.findings.is_empty() => continue,
                Ok(examined) if self.dry_run => {
                    self.proposer(tenant, &public, &examined, &claims, false).propose(conn).map_err(Error::from)
                }
                Ok(_) => self.repair(conn, tenant, &public, &claims),
                Err(error) => Err(error),
            };
            report
                .tenants
                .push(TenantReport { schema: tenant.schema.to_string(), result: result.map(Proposal::into_outcome) });
        }
        let refused = listing.refused.iter().filter(|_| self.only.is_none());
        report.tenants.extend(refused.map(|(name, rule)| TenantReport {
            schema: name.clone(),
            result: Err(Error::SchemaName { name: name.clone(), source: rule.clone() }),
        }));
        Ok(report)
    }

    fn examine(&self, conn: &mut PgConnection, tenant: &TenantEntry, public: &Tables) -> Result<Examined, Error> {
        scope::transaction(conn, &tenant.schema, |scoped| {
            Ok(doctor::examine_beside(scoped, &tenant.schema, self.rules, public)?)
        })
    }

    fn proposer<'p>(
        &'p self,
        tenant: &'p TenantEntry,
        public: &'p Tables,
        examined: &'p Examined,
        claims: &'p Claims,
        lock: bool,
    ) -> Proposer<'p> {
        let Claims { contested, unexamined } = claims;
        Proposer { tenant, rules: self.rules, public, examined, contested, unexamined, lock }
    }

    fn repair(
        &self,
        conn: &mut PgConnection,
        tenant: &TenantEntry,
        public: &Tables,
        claims: &Claims,
    ) -> Result<Proposal, Error> {
        let schema = &tenant.schema;
        scope::transaction(conn, schema, |scoped| {
            lock::bound(scoped, self.lock_timeout, None)?;
            lock::schema(scoped, schema, self.lock_timeout)?;
            // What was seen before the lock was taken may have changed.
            let before = doctor::examine_beside(scoped, schema, self.rules, public)?;
            let proposer = self.proposer(tenant, public, &before, claims, true);
            let proposal = proposer.propose(scoped)?;
            proposer.apply(scoped, &proposal)?;
            let after = doctor::examine_beside(scoped, schema, self.rules, public)?;
            let proposer = self.proposer(tenant, public, &after, claims, true);
            let rest = proposer.propose(scoped)?;
            let Outcome { filled, copied, left } = rest.into_outcome();
            let orphaned = |left: &Left| {
                left.rows > 0
                    && !proposal.left.iter().any(|known| (&known.table, &known.key) == (&left.table, &left.key))
            };
            if left.iter().any(orphaned) {
                return Err(Error::Repair {
                    schema: schema.clone(),
                    reason: "a row would have been copied whose own reference has to be left: decide on that one first"
                        .into(),
                });
            }
            if !filled.is_empty() || !copied.is_empty() {
                return Err(Error::Repair {
                    schema: schema.clone(),
                    reason: "after it, there was still something to repair; somebody may be writing the same rows: try again".into(),
                });
            }
            tracing::info!(tenant.schema = %schema, "Repaired `{schema}`");
            Ok(proposal)
        })
    }
}

/// What is known of the other tenants' claims.
struct Claims {
    contested: Contested,
    unexamined: Vec<SchemaName>,
}

/// The tenants that exist and could not be examined.
fn unexamined(examined: &[(&TenantEntry, Result<Examined, Error>)]) -> Vec<SchemaName> {
    let failed = examined.iter().filter(|(_, result)| !matches!(result, Ok(_) | Err(Error::MissingSchema { .. })));
    failed.map(|(tenant, _)| tenant.schema.clone()).collect()
}

/// The rows of `public` to which rows of more than one tenant refer.
fn contested(examined: &[(&TenantEntry, Result<Examined, Error>)]) -> Contested {
    let mut claims = BTreeMap::<_, Vec<SchemaName>>::new();
    for (tenant, result) in examined {
        for finding in result.iter().flat_map(|examined| &examined.findings) {
            if let Problem::Orphans { parent, key, in_public: true, .. } = &finding.problem {
                let claimants = claims.entry((parent.clone(), key.clone())).or_default();
                if !claimants.contains(&tenant.schema) {
                    claimants.push(tenant.schema.clone());
                }
            }
        }
    }
    claims.retain(|_, claimants| claimants.len() > 1);
    claims
}
