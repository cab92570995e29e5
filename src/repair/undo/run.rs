use std::time::Duration;

use diesel::PgConnection;

use super::{UndoReport, UndoneTenant, tenant::Turn};
use crate::{
    Error, SchemaName,
    repair::{memory, settings::keeping_settings},
};

/// Takes back what a repair did: each tenant in one transaction, under its lock, the last change first.
///
/// What somebody has changed since is kept, and named.
#[derive(Debug, Clone)]
pub struct Undo {
    repair: i64,
    dry_run: bool,
    lock_timeout: Duration,
    only: Option<Vec<SchemaName>>,
}

impl Undo {
    /// Of the repair with this number.
    pub fn new(repair: i64) -> Self {
        Self { repair, dry_run: false, lock_timeout: Duration::from_secs(5), only: None }
    }

    /// Reports what would be taken back, and keeps nothing of it. Defaults to false.
    ///
    /// What it reports it has tried, tenant by tenant, and rolled back, so that it foresees what is kept and what fails;
    /// for a role that may only read, it [reports](UndoReport::rehearsed) what would be tried.
    pub fn dry_run(mut self, dry_run: bool) -> Self {
        self.dry_run = dry_run;
        self
    }

    /// Takes it back in these tenants and no others. Defaults to all that it changed.
    pub fn only(mut self, schemas: Vec<SchemaName>) -> Self {
        self.only = Some(schemas);
        self
    }

    /// Sets how long to wait for a tenant's lock, and for a row's or a table's. Defaults to 5 seconds.
    pub fn lock_timeout(mut self, timeout: Duration) -> Self {
        self.lock_timeout = timeout;
        self
    }

    /// Undoes the repair. What was undone before, or by another undo meanwhile, is not reported.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchRepair`]. One tenant's failure is a line of the report.
    pub fn run(&self, conn: &mut PgConnection) -> Result<UndoReport, Error> {
        keeping_settings(conn, |conn| self.carry_out(conn))
    }

    fn carry_out(&self, conn: &mut PgConnection) -> Result<UndoReport, Error> {
        memory::find(conn, self.repair)?;
        let mut report =
            UndoReport { repair: self.repair, dry_run: self.dry_run, rehearsed: self.dry_run, tenants: Vec::new() };
        let is_wanted =
            |name: &String| self.only.as_ref().is_none_or(|only| only.iter().any(|one| one.as_str() == name));
        for name in memory::schemas(conn, self.repair)?.into_iter().filter(is_wanted) {
            let schema: Result<SchemaName, _> = name.parse();
            let result = match schema {
                Ok(schema) => {
                    let turn = Turn { schema: &schema, repair: self.repair, patience: self.lock_timeout };
                    match self.dry_run {
                        true => turn.rehearse(conn).map(|(undone, rehearsed)| {
                            report.rehearsed &= rehearsed;
                            undone
                        }),
                        false => turn.take(conn),
                    }
                }
                Err(source) => Err(Error::SchemaName { name: name.clone(), source }),
            };
            // Where another undo has done it all, this one has done nothing.
            if let Some(result) = result.transpose() {
                report.tenants.push(UndoneTenant { schema: name, result });
            }
        }
        Ok(report)
    }
}
