//! Carries out the plan of a visit.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use diesel::{PgConnection, connection::SimpleConnection};

use super::{
    Storm,
    fault::Fault,
    ledger::Place,
    left_behind::LEFT_BEHIND,
    plan::{Act, InSession, Step, Tenant, Visit},
    scope::Entered,
    transaction::{Planned, Transaction},
    writer::Writer,
};

/// One visit of a thread to the pool.
pub struct Borrower<'s> {
    storm: &'s Storm<'s>,
    writer: Writer<'s>,
    /// The tenant that is named by what it leaves behind.
    own: Tenant,
}

impl<'s> Borrower<'s> {
    pub fn new(storm: &'s Storm<'s>, thread: u16, visit: u32) -> Self {
        let own = usize::from(thread) % storm.settings.tenants;
        Self { storm, writer: Writer::new(storm, thread, visit), own }
    }

    pub fn visit(&mut self, visit: &Visit) {
        let mut conn = match self.storm.scope.get() {
            Ok(conn) => conn,
            Err(fault) => return self.storm.tally.add("checkout", fault.kind()),
        };
        self.look_at(&mut conn);
        for step in &visit.steps {
            match catch_unwind(AssertUnwindSafe(|| self.step(&mut conn, step))) {
                Err(panic) if visit.ends_by_panic || !panic.is::<Planned>() => resume_unwind(panic),
                _ => {}
            }
        }
        if let Some(number) = visit.left_behind {
            self.leave_behind(&mut conn, LEFT_BEHIND[number]);
        }
    }

    /// Compares the connection with a fresh one.
    fn look_at(&self, conn: &mut PgConnection) {
        let tally = self.storm.tally;
        match self.storm.fresh.differences(conn) {
            Ok(differences) => {
                tally.add("checkout", if differences.is_empty() { "clean" } else { "unclean" });
                differences.into_iter().for_each(|difference| tally.add("unclean at checkout", difference));
            }
            Err(fault) => tally.add("checkout", fault.kind()),
        }
    }

    // What goes wrong in a step is in the ledger, and the next step is tried.
    fn step(&mut self, conn: &mut PgConnection, step: &Step) {
        match step {
            Step::Transaction { tenant, acts } => self.transaction(conn, *tenant, acts),
            Step::Session { tenant, steps } => self.session(conn, *tenant, steps),
            Step::SharedRow => drop(self.writer.alone(conn, Place::Public)),
            Step::BareRow => drop(self.writer.alone(conn, Place::Nowhere)),
            Step::SetPath { tenant, local } => {
                let result = conn.batch_execute(&self.storm.tenants.set_path(*tenant, *local)).map_err(Fault::from);
                self.storm.tally.result("path set outside of a scope", &result);
            }
        }
    }

    fn transaction(&mut self, conn: &mut PgConnection, tenant: Tenant, acts: &[Act]) {
        let (scope, schema) = (self.storm.scope, self.storm.tenants.schema(tenant));
        Transaction::new(self.storm, &mut self.writer).run(tenant, acts, |work| scope.transaction(conn, schema, work));
    }

    fn session(&mut self, conn: &mut PgConnection, tenant: Tenant, steps: &[InSession]) {
        let (scope, schema) = (self.storm.scope, self.storm.tenants.schema(tenant));
        let result = scope.session(conn, schema, &mut |entered| {
            steps.iter().try_for_each(|step| self.in_session(entered, tenant, step))
        });
        self.storm.tally.result("session", &result);
    }

    fn in_session(&mut self, entered: &mut Entered<'_, '_>, tenant: Tenant, step: &InSession) -> Result<(), Fault> {
        match step {
            InSession::Row => return self.writer.alone(entered.conn(), Place::Tenant(tenant)),
            InSession::Savepoint(acts) => {
                Transaction::new(self.storm, &mut self.writer).run(tenant, acts, |work| entered.savepoint(work));
            }
            InSession::Transaction { tenant, acts } => self.transaction(entered.conn(), *tenant, acts),
            InSession::SetPath { tenant: other } => {
                entered.conn().batch_execute(&self.storm.tenants.set_path(*other, false))?;
                let result = entered.ensure_current();
                self.storm.tally.result("path set in a session", &result);
                result?;
                return self.writer.alone(entered.conn(), Place::Tenant(tenant));
            }
        }
        Ok(())
    }

    fn leave_behind(&mut self, conn: &mut PgConnection, sql: &'static str) {
        let place = if sql.contains("public.") { Place::Public } else { Place::Tenant(self.own) };
        let text = sql.replace("{tenant}", self.storm.tenants.schema(self.own).as_str());
        // Some of it fails, and leaves a failed transaction behind.
        let text = match sql.contains("{key}") {
            true => text.replace("{key}", &self.writer.abandon(place).0.to_string()),
            false => text,
        };
        let outcome = if conn.batch_execute(&text).is_ok() { "" } else { ": failed" };
        self.storm.tally.add("left behind", format!("{sql}{outcome}"));
    }
}
