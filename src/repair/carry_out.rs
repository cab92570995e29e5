//! A whole repair, from the first look to the report.

use std::collections::BTreeSet;

use diesel::PgConnection;

use super::{
    Repair, Report, TenantReport,
    blueprint::Blueprints,
    memory,
    rows::primary_key,
    run::Found,
    settings::begin,
    tenant::Common,
    turns::{Taken, Turns},
};
use crate::{
    Error, SchemaName,
    directory::{Listing, TenantEntry},
    doctor::{Belongings, Crew, telling_key},
    migrate::Interrupt,
    pg::{
        atomically, depth,
        tables::{self, Tables},
        transient::{self, Transient},
        untrusted,
    },
};

impl Repair<'_> {
    pub(super) fn carry_out(&self, conn: &mut PgConnection, listing: &Listing, dry_run: bool) -> Result<Report, Error> {
        if self.jobs.is_some() && depth(conn) > 0 {
            // Other connections do not see what a caller's transaction has done.
            return Self { jobs: None, ..self.clone() }.carry_out(conn, listing, dry_run);
        }
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
        let (mut made, mut left) = (Vec::new(), numbered.iter().collect::<Vec<_>>());
        if let Some((jobs, connect)) = self.jobs {
            let crew = Crew { connect, jobs };
            ((made, _), (left, _)) = crew.share_what_can_be(&numbered, most, |conn, some| Ok(work(conn, some)))?;
        }
        // Where no other connection can be had, this one will do.
        left.chunks(most).for_each(|some| made.extend(work(conn, some)));
        made.sort_by_key(|(at, _)| *at);
        Ok(made.into_iter().map(|(_, made)| made).collect())
    }

    /// Has a new connection in place of one that was lost, where there are others: for whose turn is next.
    pub(super) fn renew(&self, conn: &mut PgConnection, error: &Error) {
        if let Some((_, connect)) = self.jobs
            && transient::of(error) == Some(Transient::Lost)
            && let Ok(new) = connect()
        {
            *conn = new;
        }
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.interrupt.is_some_and(Interrupt::is_stopped)
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
            untrusted::refuse(conn, &["public"])?;
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
}
