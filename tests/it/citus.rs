//! What holds on Citus, schema by schema. These run where `CITUS_DATABASE_URL` is set, as
//! `cargo test citus -- --ignored`, and `script/test` does so by itself.

use diesel::connection::SimpleConnection;
use tenantry::{domain, migrate::Run, pg, provision, testing::TestDatabase};

/// A database with the extension, on the coordinator.
fn database() -> TestDatabase {
    let url =
        std::env::var("CITUS_DATABASE_URL").expect("CITUS_DATABASE_URL: a coordinator in which to make databases");
    let db = TestDatabase::on(&url);
    db.connect().batch_execute("CREATE EXTENSION citus").expect("CREATE EXTENSION citus");
    db
}

#[test]
#[ignore = "needs CITUS_DATABASE_URL"]
fn a_fleet_is_migrated_statement_by_statement_into_distributed_schemas() {
    let db = database();
    let migrations = domain::migrations().unwrap();
    let first = migrations.with_tenant_up_to("0001").unwrap();
    let names = ["acme", "globex", "hooli"].map(|name| name.parse().unwrap());
    for name in &names {
        provision::create(&mut db.connect(), name, &first, db.config().lock_timeout).unwrap();
    }
    let report = Run::new(migrations).jobs(2).tenants(&|| pg::connect(db.config()), &names).unwrap();
    assert_eq!(report.failures().map(|(_, error)| error.chain()).collect::<Vec<_>>(), Vec::<String>::new());
    assert_eq!(db.text("SELECT count(*) FROM pg_dist_schema"), "3");
    assert_eq!(db.versions("globex"), ["0001", "0002"]);
}
