//! Runs the checks again that had found what was repaired.

use diesel::PgConnection;

use super::{Filled, Left, Outcome, constraints::Cure, proposal::Excluded, tenant::Turn};
use crate::{
    Error,
    doctor::{Examined, Problem, Symptom},
    pg::tables::Tables,
};

impl Turn<'_> {
    /// Runs the checks again that had found what was repaired.
    pub(super) fn look_again(
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
    pub(super) fn look_again_at_constraints(
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
}
