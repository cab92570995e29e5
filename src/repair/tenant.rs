//! The repair of one tenant, in one transaction.

use std::collections::{BTreeMap, BTreeSet};

use diesel::{PgConnection, QueryResult};

use super::{
    Filled, Left, Outcome, Reason,
    attempt::{attempt, may_not_write},
    blueprint::Blueprints,
    claims::Claims,
    constraints::{self, Cure},
    memory::Recorder,
    proposal::{Excluded, Proposal, Roots},
    propose::Proposer,
    rows::Row,
    run::Repair,
    sequences,
    settings::begin,
    walk::left,
};
use crate::{
    Error,
    directory::TenantEntry,
    doctor::{self, Belongings, Examined, Problem, Symptom},
    pg::{
        lock, scope,
        scope::TenantConn,
        tables::{self, Tables},
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
            Err(Rehearsed::Failed(error)) if may_not_write(&error) => {
                let proposal = scope::transaction::<_, Error>(conn, &self.tenant.schema, |scoped| {
                    begin(scoped, self.repair.lock_timeout)?;
                    let examined = self.examine(scoped)?;
                    let proposer = Proposer { lock: false, ..self.proposer(&examined) };
                    Ok(proposer.propose(scoped, &Excluded::new())?)
                })?;
                Ok((proposal.outcome(), false))
            }
            Err(Rehearsed::Failed(error)) => Err(error),
            Ok(()) => Ok((Outcome::default(), true)),
        }
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
        Ok((outcome, number.or(repair)))
    }

    fn examine(&self, conn: &mut PgConnection) -> QueryResult<Examined> {
        let tables = tables::read(conn, &self.tenant.schema)?;
        self.examine_rows(conn, tables)
    }

    /// Examines the tenant, of which these are the tables.
    pub(super) fn examine_rows(&self, conn: &mut PgConnection, tables: Tables) -> QueryResult<Examined> {
        let Common { public, belongings, .. } = self.common;
        doctor::examine_rows(conn, self.tenant, self.repair.rules, tables, public, belongings.as_ref())
    }

    /// Copies rows: all at once or, where the server refuses something of it, what belongs to each row by itself.
    fn copy(
        &self,
        conn: &mut PgConnection,
        proposer: &Proposer<'_>,
        proposal: &Proposal,
        recorder: &Recorder<'_>,
        outcome: &mut Outcome,
    ) -> Result<Excluded, Error> {
        let mut refused = Excluded::new();
        if proposal.tables().is_empty() || attempt(conn, |conn| proposer.copy_all(conn, proposal, recorder))?.is_ok() {
            return Ok(refused);
        }
        let mut whole = Proposal::default();
        for ((table, place), (row, rows)) in proposer.roots(conn)? {
            if whole.has(&table, &place) {
                continue;
            }
            let root = Roots::from([((table.clone(), place.clone()), (row.clone(), rows))]);
            let mut part = proposer.closed(conn, &root, refused.clone())?;
            part.left.retain(|left| !is_done(&part.claims, &whole, left));
            match attempt(conn, |conn| proposer.copy_all(conn, &part, recorder))? {
                Ok(()) => {
                    for (rows, all) in [(part.copies, &mut whole.copies), (part.renumbered, &mut whole.renumbered)] {
                        rows.into_iter().for_each(|(table, rows)| all.entry(table).or_default().extend(rows));
                    }
                }
                Err(words) => {
                    let why = left(&table, &row, Reason::Refused { words }, &root);
                    outcome.left.push(why.clone());
                    refused.insert((table, place), why);
                }
            }
            for left in part.left {
                if !outcome.left.contains(&left) {
                    outcome.left.push(left);
                }
            }
        }
        outcome.copied = whole.outcome().copied;
        outcome.left.sort();
        Ok(refused)
    }

    fn fill(
        &self,
        conn: &mut PgConnection,
        proposer: &Proposer<'_>,
        recorder: &Recorder<'_>,
        outcome: &mut Outcome,
    ) -> Result<(), Error> {
        for filled in std::mem::take(&mut outcome.filled) {
            let rule = proposer
                .examined
                .fills(self.repair.rules)
                .find(|fill| (&fill.table, &fill.column) == (&filled.table, &filled.column));
            let Some(rule) = rule else { continue };
            match attempt(conn, |conn| proposer.fill(conn, rule, recorder))? {
                // Somebody else has been faster.
                Ok(0) => {}
                Ok(rows) => outcome.filled.push(Filled { rows, ..filled }),
                Err(words) => {
                    let reason = Reason::Refused { words };
                    outcome.left.push(Left { table: filled.table, key: filled.column, rows: 0, reason });
                }
            }
        }
        Ok(())
    }

    /// Runs the checks again that had found what was repaired.
    fn look_again(
        &self,
        conn: &mut PgConnection,
        before: &Examined,
        refused: &Excluded,
        done: &Outcome,
    ) -> Result<(), Error> {
        let schema = &self.tenant.schema;
        // The tables and their columns are the same.
        let after = self.examine_rows(conn, before.tenant.clone())?;
        let Outcome { filled, copied, left, .. } = self.proposer(&after).propose(conn, refused)?.outcome();
        let is_new = |one: &&Left| {
            one.rows > 0 && !done.left.iter().any(|known| (&known.table, &known.key) == (&one.table, &one.key))
        };
        if let Some(left) = left.iter().find(is_new) {
            let reason = format!("after it, rows refer in vain to {} {}, which {}", left.table, left.key, left.reason);
            return Err(Error::Repair { schema: schema.clone(), reason });
        }
        let is_left = |one: &Filled| done.left.iter().any(|left| (&left.table, &left.key) == (&one.table, &one.column));
        let is_behind = |one: &Symptom| matches!(one.problem, Problem::SequenceBehind { .. });
        // A rehearsal moves no sequence.
        match copied.is_empty()
            && filled.iter().all(is_left)
            && (self.rehearsal || !after.findings.iter().any(is_behind))
        {
            true => Ok(()),
            false => Err(self.still_ill()),
        }
    }

    /// Compares the constraints again with what the migrations make.
    fn look_again_at_constraints(
        &self,
        conn: &mut PgConnection,
        tables: &Tables,
        done: &mut Outcome,
        cures: &[Cure],
    ) -> Result<(), Error> {
        let wanting = self.common.blueprints.cures_left(conn, &self.tenant.schema, tables)?;
        let is_of = |left: &Left, cure: &Cure| (&left.table, &left.key) == (&cure.what.table, &cure.what.name);
        if wanting.iter().any(|cure| !done.left.iter().any(|left| is_of(left, cure))) {
            return Err(self.still_ill());
        }
        // What somebody else has put right since that was looked at could not be done again.
        let is_one = |left: &Left, cures: &[Cure]| cures.iter().any(|cure| is_of(left, cure));
        done.left.retain(|left| is_one(left, &wanting) || !is_one(left, cures));
        Ok(())
    }

    fn still_ill(&self) -> Error {
        Error::Repair {
            schema: self.tenant.schema.clone(),
            reason: "after it, there was still something to repair; somebody may be writing the same rows: try again"
                .into(),
        }
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

/// Whether the row was copied a moment ago, maybe under another number.
fn is_done(known: &BTreeMap<String, BTreeSet<Row>>, done: &Proposal, left: &Left) -> bool {
    let mut rows = known.get(&left.table).into_iter().flatten().filter(|row| row.key == left.key);
    rows.any(|row| done.has(&left.table, &row.place))
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
