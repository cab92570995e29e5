//! The repair of one tenant, in one transaction.

use diesel::{PgConnection, QueryResult};

use super::{
    Outcome,
    blueprint::Blueprints,
    claims::Claims,
    constraints,
    memory::Recorder,
    proposal::Excluded,
    propose::Proposer,
    rights::{may_be_of_rights, may_not_write},
    run::Repair,
    sequences,
    settings::{begin, open},
};
use crate::{
    Error,
    directory::TenantEntry,
    doctor::{self, Belongings, Examined, Problem, Symptom},
    pg::{
        lock, scope,
        scope::TenantConn,
        tables::{self, Tables},
        untrusted,
    },
};

/// All that is known when a tenant's turn comes.
pub(super) struct Turn<'a> {
    pub(super) repair: &'a Repair<'a>,
    pub(super) tenant: &'a TenantEntry,
    pub(super) common: &'a Common,
    pub(super) claims: &'a Claims,
    /// Whether all of it will be rolled back.
    pub(super) rehearsal: bool,
}

/// What all tenants have in common.
#[derive(Debug)]
pub(super) struct Common {
    pub(super) public: Tables,
    pub(super) belongings: Option<Belongings>,
    pub(super) blueprints: Blueprints,
}

/// What was done, and under which number.
pub(super) type Done = (Outcome, Option<i64>);

impl Turn<'_> {
    /// Repairs the tenant.
    pub(super) fn take(&self, conn: &mut PgConnection, repair: Option<i64>) -> Result<Done, Error> {
        let schema = &self.tenant.schema;
        let done = scope::transaction(conn, schema, |scoped| self.work(scoped, repair))?;
        tracing::info!(tenant.schema = %schema, "Repaired `{schema}`");
        Ok(done)
    }

    /// Does what a repair would do, and rolls it back. A role that may not write is told what would be tried, and
    /// that it was not.
    pub(super) fn rehearse(&self, conn: &mut PgConnection) -> Result<(Outcome, bool), Error> {
        let tried = scope::transaction(conn, &self.tenant.schema, |scoped| {
            let (outcome, _) = self.work(scoped, None).map_err(Rehearsed::Failed)?;
            Err::<(), _>(Rehearsed::Done(Box::new(outcome)))
        });
        match tried {
            Err(Rehearsed::Done(outcome)) => Ok((*outcome, true)),
            Err(Rehearsed::Failed(error)) if may_be_of_rights(&error) => match self.read(conn)? {
                (outcome, true) => Ok((outcome, false)),
                (_, false) => Err(error),
            },
            Err(Rehearsed::Failed(error)) => Err(error),
            Ok(()) => Ok((Outcome::default(), true)),
        }
    }

    /// Reads what would be tried, and whether the role lacks the privilege to try it.
    fn read(&self, conn: &mut PgConnection) -> Result<(Outcome, bool), Error> {
        scope::transaction(conn, &self.tenant.schema, |scoped| {
            begin(scoped, self.repair.lock_timeout)?;
            let examined = self.examine(scoped)?;
            let proposer = Proposer { lock: false, ..self.proposer(&examined) };
            let outcome = proposer.propose(scoped, &Excluded::new())?.outcome();
            let forbidden = may_not_write(scoped, &self.tenant.schema, &outcome)?;
            open(scoped, &self.tenant.schema)?;
            Ok((outcome, forbidden))
        })
    }

    fn work(&self, conn: &mut TenantConn<'_>, repair: Option<i64>) -> Result<Done, Error> {
        let lock_timeout = self.repair.lock_timeout;
        let schema = &self.tenant.schema;
        begin(conn, lock_timeout)?;
        lock::schema(conn, schema, lock_timeout)?;
        // What was seen before the lock was taken may have changed.
        let before = self.examine(conn)?;
        let cures = self.common.blueprints.cures(conn, schema)?;
        let proposer = self.proposer(&before);
        let proposal = proposer.propose(conn, &Excluded::new())?;
        let remembers = self.repair.record && !self.rehearsal;
        let recorder =
            match remembers && !(before.findings.is_empty() && cures.is_empty() && !self.repair.remove_originals) {
                true => Recorder::begin(conn, schema, repair)?,
                false => Recorder::silent(schema),
            };
        let mut outcome = proposal.outcome();
        let numbered = before.tenant.tables.keys().filter(|table| {
            let is_behind =
                |one: &Symptom| one.table == **table && matches!(one.problem, Problem::SequenceBehind { .. });
            proposal.tables().contains(table) || before.findings.iter().any(is_behind)
        });
        let numbering = sequences::look(conn, schema, &before.tenant, numbered)?;
        let refused = self.copy(conn, &proposer, &proposal, &recorder, &mut outcome)?;
        self.fill(conn, &proposer, &recorder, &mut outcome)?;
        outcome.sequences = sequences::advance(conn, schema, numbering, self.rehearsal, &recorder)?;
        constraints::put_right(conn, schema, cures, &recorder, &mut outcome)?;
        self.look_again(conn, &before, &refused, &outcome)?;
        if !cures.is_empty() {
            self.look_again_at_constraints(conn, &before.tenant, &mut outcome, cures)?;
        }
        if self.repair.remove_originals && self.claims.unexamined.is_empty() {
            let held = self.claims.held.get(schema);
            proposer.remove_originals(conn, &proposal, held, &recorder, &mut outcome)?;
        }
        outcome.left.sort();
        let number = recorder.end(conn, outcome.changes())?;
        open(conn, schema)?;
        Ok((outcome, number.or(repair)))
    }

    fn examine(&self, conn: &mut PgConnection) -> QueryResult<Examined> {
        untrusted::refuse(conn, &["public", self.tenant.schema.as_str()])?;
        let tables = tables::read(conn, &self.tenant.schema)?;
        self.examine_rows(conn, tables)
    }

    /// Examines the tenant, of which these are the tables.
    pub(super) fn examine_rows(&self, conn: &mut PgConnection, tables: Tables) -> QueryResult<Examined> {
        let Common { public, belongings, .. } = self.common;
        doctor::examine_rows(conn, self.tenant, self.repair.rules, tables, public, belongings.as_ref())
    }

    pub(super) fn proposer<'p>(&'p self, examined: &'p Examined) -> Proposer<'p> {
        Proposer {
            tenant: self.tenant,
            rules: self.repair.rules,
            public: &self.common.public,
            examined,
            contested: &self.claims.contested,
            spoken_for: Some(&self.claims.spoken_for),
            unexamined: &self.claims.unexamined,
            lock: true,
            rehearsal: self.rehearsal,
        }
    }
}

/// Why a rehearsal was rolled back.
enum Rehearsed {
    Done(Box<Outcome>),
    Failed(Error),
}

impl From<Error> for Rehearsed {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}
