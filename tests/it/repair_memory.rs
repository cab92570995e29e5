//! What repairs remember, when several of them begin to at once.

use std::{thread, time::Duration};

use diesel::{Connection, PgConnection};
use tenantry::{
    Fleet,
    domain::{self, Registry},
    migrate::Run,
    pg,
    repair::{self, Repair, Report},
    testing::TestDatabase,
};
use uuid::Uuid;

use crate::repairing::{run, two};

/// Two tenants that refer to a business of `public` each.
fn ill() -> TestDatabase {
    let db = two();
    for schema in ["acme", "globex"] {
        let id = Uuid::new_v4();
        db.execute("public", &format!("INSERT INTO business_business (id, name) VALUES ('{id}', 'Engines')"));
        db.execute(
            schema,
            &format!("SET session_replication_role = replica; INSERT INTO users_userprofile (user_id, business_id) VALUES ('{id}', '{id}')"),
        );
    }
    db
}

fn only(schema: &str) -> Repair<'static> {
    Repair::new(domain::rules()).only(vec![schema.parse().unwrap()])
}

/// Repairs acme, and meanwhile globex, of which the second finds the first not yet ended and waits this long for it.
fn both(db: &TestDatabase, patience: Duration, hold: Duration) -> [Report; 2] {
    thread::scope(|threads| {
        let conn: &mut PgConnection = &mut db.connect();
        conn.begin_test_transaction().unwrap();
        let first = run(conn, only("acme"));
        let second = threads.spawn(|| run(&mut db.connect(), only("globex").lock_timeout(patience)));
        thread::sleep(hold);
        diesel::connection::SimpleConnection::batch_execute(conn, "COMMIT").unwrap();
        [first, second.join().unwrap()]
    })
}

#[test]
fn two_first_repairs_at_the_same_time_are_both_remembered() {
    let db = ill();
    let [first, second] = both(&db, Duration::from_secs(20), Duration::from_millis(1500));
    assert!(first.is_healthy() && second.is_healthy(), "{first:?} {second:?}");
    let numbers = [first.repair.unwrap(), second.repair.unwrap()];
    let conn = &mut db.connect();
    let remembered: Vec<(i64, i64)> =
        repair::list(conn, 9).unwrap().iter().map(|past| (past.id, past.tenants)).rev().collect();
    assert_eq!(remembered, numbers.map(|id| (id, 1)));
}

#[test]
fn a_first_repair_that_takes_long_fails_a_tenant_of_the_other_and_not_all_of_it() {
    let db = ill();
    let [first, second] = both(&db, Duration::from_millis(100), Duration::from_millis(2500));
    assert!(first.is_healthy(), "{first:?}");
    let [globex] = second.tenants.as_slice() else { panic!("{second:#?}") };
    let error = globex.result.as_ref().unwrap_err().chain();
    assert!(error.contains("lock timeout"), "{error}");
    assert!(run(&mut db.connect(), only("globex")).is_healthy());
}

#[test]
fn a_first_run_waits_for_a_first_repair_and_is_remembered_too() {
    let db = ill();
    let migrations = domain::migrations().unwrap();
    thread::scope(|threads| {
        let conn: &mut PgConnection = &mut db.connect();
        conn.begin_test_transaction().unwrap();
        run(conn, only("acme"));
        let second = threads.spawn(|| {
            let fleet = Fleet { migrations, directory: &Registry, rules: domain::rules() };
            fleet.run(&Run::new(migrations), &|| pg::connect(db.config()))
        });
        thread::sleep(Duration::from_millis(1500));
        diesel::connection::SimpleConnection::batch_execute(conn, "COMMIT").unwrap();
        assert!(second.join().unwrap().is_ok());
    });
    assert_eq!(
        db.text("SELECT concat((SELECT count(*) FROM tenantry.repair), (SELECT count(*) FROM tenantry.run))"),
        "11"
    );
}
