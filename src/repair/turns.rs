//! The turns of all tenants in which something is to be done.

use diesel::PgConnection;

use super::{
    Outcome, TenantReport,
    claims::Claims,
    run::Repair,
    tenant::{Common, Turn},
};
use crate::{Error, directory::TenantEntry};

/// A tenant in which something is to be done, or what was in the way of looking at it.
pub(super) type Looked<'t> = (&'t TenantEntry, Result<(), Error>);

/// All that is known when the first turn comes.
pub(super) struct Turns<'a> {
    pub(super) repair: &'a Repair<'a>,
    pub(super) common: &'a Common,
    pub(super) claims: &'a Claims,
    pub(super) dry_run: bool,
}

/// What has come of them.
#[derive(Debug)]
pub(super) struct Taken {
    /// Those to whom anything happened, or would.
    pub(super) tenants: Vec<TenantReport>,
    /// The number under which it is remembered.
    pub(super) repair: Option<i64>,
    /// Whether all was tried, and rolled back.
    pub(super) rehearsed: bool,
}

/// A tenant's turn: its place in the report, what came of it, under which number, and whether that was tried.
type One = (usize, Result<Outcome, Error>, Option<i64>, bool);

impl Turns<'_> {
    /// Has each tenant take its turn, unless it could not even be looked at.
    pub(super) fn take(&self, conn: &mut PgConnection, looked: Vec<Looked<'_>>) -> Result<Taken, Error> {
        let names: Vec<String> = looked.iter().map(|(tenant, _)| tenant.schema.to_string()).collect();
        let (mut waiting, mut ones) = (Vec::<(usize, &TenantEntry)>::new(), Vec::<One>::new());
        for (at, (tenant, looked)) in looked.into_iter().enumerate() {
            match looked {
                Ok(()) => waiting.push((at, tenant)),
                Err(error) => ones.push((at, Err(error), None, true)),
            }
        }
        waiting.sort_by_key(|(_, tenant)| !self.is_alone(tenant));
        let mut waiting = waiting.as_slice();
        let mut repair = None;
        // The first one to do anything begins the repair, and the others go on with it.
        let begins = |repair: Option<i64>| repair.is_none() && self.repair.record && !self.dry_run;
        while let Some(((at, tenant), rest)) = waiting.split_first()
            && (begins(repair) || self.is_alone(tenant))
        {
            let one = self.one(conn, *at, tenant, repair);
            repair = one.2.or(repair);
            if let (_, Err(error @ (Error::Record(_) | Error::RecordDenied(_))), ..) = one {
                // It would be the same for every other tenant.
                return Err(error);
            }
            ones.push(one);
            waiting = rest;
        }
        ones.extend(self.repair.share(conn, waiting, 1, |conn, some| {
            some.iter().map(|(at, tenant)| self.one(conn, *at, tenant, repair)).collect()
        })?);
        ones.sort_by_key(|(at, ..)| *at);
        let rehearsed = self.dry_run && ones.iter().all(|(.., rehearsed)| *rehearsed);
        let report = |(at, result, ..): One| TenantReport { schema: names[at].clone(), result };
        let mut tenants: Vec<TenantReport> = ones.into_iter().map(report).collect();
        tenants.retain(|tenant| !tenant.result.as_ref().is_ok_and(|outcome| *outcome == Outcome::default()));
        Ok(Taken { tenants, repair, rehearsed })
    }

    fn one(&self, conn: &mut PgConnection, at: usize, tenant: &TenantEntry, repair: Option<i64>) -> One {
        if self.repair.is_stopped() {
            return (at, Err(Error::NotReached { reason: "the repair was stopped".into() }), None, true);
        }
        let Self { repair: by, common, claims, dry_run } = *self;
        let turn = Turn { repair: by, tenant, common, claims, rehearsal: dry_run };
        let done = match dry_run {
            true => turn.rehearse(conn).map(|(outcome, rehearsed)| (outcome, None, rehearsed)),
            false => turn.take(conn, repair).map(|(outcome, repair)| (outcome, repair, true)),
        };
        match done {
            Ok((outcome, repair, rehearsed)) => (at, Ok(outcome), repair, rehearsed),
            Err(error) => {
                self.repair.renew(conn, &error);
                (at, Err(error), None, true)
            }
        }
    }

    /// Whether others would have to wait for this tenant, or it for them: to add a foreign key or to take one away locks
    /// the table of `public` that it leads to, and so does removing rows of it.
    fn is_alone(&self, tenant: &TenantEntry) -> bool {
        self.repair.remove_originals || self.common.blueprints.locks_public(&tenant.schema)
    }
}
