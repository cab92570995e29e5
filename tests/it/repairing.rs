//! What the tests of repairs need.

use diesel::PgConnection;
use tenantry::{
    directory::TenantDirectory,
    domain::{self, Registry, models::Tenant},
    repair::{Outcome, Repair, Report, Undo, UndoReport, Undone},
    testing::TestDatabase,
};

use crate::support::{migrated, tenant};

/// The schemas of [`two`].
pub const NAMES: [&str; 2] = ["acme", "globex"];

/// A database with two registered tenants.
pub fn two() -> TestDatabase {
    let db = migrated();
    NAMES.iter().for_each(|name| drop(tenant(&mut db.connect(), name)));
    db
}

/// The registered tenant of this schema.
pub fn registered(db: &TestDatabase, schema: &str) -> Tenant {
    let all = Tenant::all(&mut db.connect()).unwrap();
    all.into_iter().find(|tenant| tenant.schema_name == schema).unwrap()
}

/// A repair by the domain's rules and migrations.
pub fn whole() -> Repair<'static> {
    Repair::new(domain::rules()).migrations(domain::migrations().unwrap())
}

/// Repairs the tenants of the registry.
#[track_caller]
pub fn run(conn: &mut PgConnection, repair: Repair<'_>) -> Report {
    let listing = Registry.list(conn).unwrap();
    repair.apply(conn, &listing).unwrap()
}

/// What that would do.
#[track_caller]
pub fn propose(conn: &mut PgConnection, repair: Repair<'_>) -> Report {
    let listing = Registry.list(conn).unwrap();
    repair.propose(conn, &listing).unwrap()
}

/// What was done in the only tenant that was ill.
#[track_caller]
pub fn only(report: &Report) -> Outcome {
    let [ill] = report.tenants.as_slice() else { panic!("{report:#?}") };
    ill.result.as_ref().unwrap().clone()
}

/// What was taken back in the only tenant that was repaired, which is what a dry run has foreseen.
#[track_caller]
pub fn undo(conn: &mut PgConnection, repair: i64) -> Undone {
    let foreseen = taken_back(&Undo::new(repair).dry_run(true).run(conn).unwrap());
    let undone = taken_back(&Undo::new(repair).run(conn).unwrap());
    assert_eq!(foreseen, undone, "a dry run foresees it");
    undone
}

/// What was taken back in the only tenant that was repaired.
#[track_caller]
pub fn taken_back(report: &UndoReport) -> Undone {
    let [tenant] = report.tenants.as_slice() else { panic!("{report:#?}") };
    tenant.result.as_ref().unwrap().clone()
}
