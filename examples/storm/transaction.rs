//! Carries out what is planned inside of one outermost scope, and says of its rows what its result says.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use diesel::connection::SimpleConnection;

use super::{
    Storm,
    fault::Fault,
    ledger::{Key, Place, Reported},
    plan::{Act, Tenant},
    scope::{Entered, Work},
    writer::{KNOWN, UNKNOWN, Writer},
};

/// A panic that belongs to the storm.
pub struct Planned;

/// An outermost scope and all that is inside.
pub struct Transaction<'t, 's> {
    storm: &'s Storm<'s>,
    writer: &'t mut Writer<'s>,
    /// Whether a COMMIT or ROLLBACK was sent inside.
    ended_by_hand: bool,
}

impl<'t, 's> Transaction<'t, 's> {
    pub fn new(storm: &'s Storm<'s>, writer: &'t mut Writer<'s>) -> Self {
        Self { storm, writer, ended_by_hand: false }
    }

    /// Runs the acts in the scope that `open` opens.
    pub fn run(mut self, tenant: Tenant, acts: &[Act], open: impl FnOnce(Work<'_>) -> Result<(), Fault>) {
        let mut rows = Vec::new();
        if self.enclosed("scope", tenant, acts, &mut rows, open).is_ok() {
            self.storm.ledger.settle(&rows, Reported::Acknowledged, None);
        }
    }

    /// Runs the acts in a scope or savepoint. When it succeeds, its rows are handed to what is around it.
    fn enclosed(
        &mut self,
        what: &'static str,
        tenant: Tenant,
        acts: &[Act],
        around: &mut Vec<Key>,
        open: impl FnOnce(Work<'_>) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let mut rows = Vec::new();
        let mut succeeded = false;
        let result = catch_unwind(AssertUnwindSafe(|| {
            open(&mut |entered| {
                acts.iter().try_for_each(|act| self.act(entered, tenant, act, &mut rows))?;
                succeeded = true;
                Ok(())
            })
        }));
        let settle = |fault: &Fault, kind: &str| {
            self.storm.ledger.settle(&rows, fault.reported(succeeded, self.ended_by_hand), Some(kind));
        };
        match result {
            Ok(result) => {
                self.storm.tally.result(what, &result);
                match &result {
                    Ok(()) => around.append(&mut rows),
                    Err(fault) => settle(fault, &fault.kind()),
                }
                result
            }
            Err(panic) => {
                self.storm.tally.add(what, "a panic");
                settle(&Fault::Own, "a panic");
                resume_unwind(panic)
            }
        }
    }

    fn act(
        &mut self,
        entered: &mut Entered<'_, '_>,
        tenant: Tenant,
        act: &Act,
        rows: &mut Vec<Key>,
    ) -> Result<(), Fault> {
        let (scope, tenants, tally) = (self.storm.scope, self.storm.tenants, self.storm.tally);
        match act {
            Act::Row | Act::DanglingRow => {
                let author = if matches!(act, Act::Row) { KNOWN } else { UNKNOWN };
                rows.push(self.writer.within(entered.conn(), Place::Tenant(tenant), author, self.ended_by_hand)?);
                Ok(())
            }
            Act::Scope { tenant: inner, acts, caught } => {
                let what = if *inner == tenant { "scope in a scope" } else { "scope in another tenant's scope" };
                caught_if(*caught, || {
                    let open = |work: Work<'_>| scope.transaction(entered.conn(), tenants.schema(*inner), work);
                    self.enclosed(what, *inner, acts, rows, open)
                })
            }
            Act::Savepoint { acts, caught } => {
                caught_if(*caught, || self.enclosed("savepoint", tenant, acts, rows, |work| entered.savepoint(work)))
            }
            Act::Swallow => {
                let result = entered.conn().batch_execute("SELECT 1/0").map_err(Fault::from);
                tally.result("error swallowed", &result);
                Ok(())
            }
            Act::Fail => Err(Fault::Own),
            Act::Panic => resume_unwind(Box::new(Planned)),
            Act::ByHand(sql) => {
                // Even if its answer is lost, it may have been done.
                self.ended_by_hand |= *sql != "BEGIN";
                tally.add("sent by hand", *sql);
                Ok(entered.conn().batch_execute(sql)?)
            }
            Act::SetPath { tenant, local } => {
                let result = entered.conn().batch_execute(&tenants.set_path(*tenant, *local)).map_err(Fault::from);
                tally.result("path set in a scope", &result);
                result
            }
        }
    }
}

/// Where it is to be caught, drops an error or a panic, as code around a savepoint may.
fn caught_if(caught: bool, work: impl FnOnce() -> Result<(), Fault>) -> Result<(), Fault> {
    if !caught {
        return work();
    }
    match catch_unwind(AssertUnwindSafe(work)) {
        Err(panic) if !panic.is::<Planned>() => resume_unwind(panic),
        _ => Ok(()),
    }
}
