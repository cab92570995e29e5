//! Going back.

use tenantry::{
    Error, Fleet,
    directory::{FixedList, Glob, Only, Selected},
    domain,
    migrate::{Goal, Migrations, Run, Set, Until},
    pg,
    testing::TestDatabase,
};

use crate::support::{Tenants, migrations, outcomes};

fn three() -> Migrations {
    migrations(&[
        ("1_a", "CREATE TABLE a (x int)", "DROP TABLE a"),
        ("2_b", "CREATE TABLE b (x int)", "DROP TABLE b"),
        ("3_c", "CREATE TABLE c (x int)", "DROP TABLE c"),
    ])
}

fn steps(steps: usize) -> Goal {
    Goal::Revert { set: Set::Tenant, until: Until::Steps(steps) }
}

fn to(version: &str) -> Goal {
    Goal::Revert { set: Set::Tenant, until: Until::Version(version.into()) }
}

/// Two tenants with everything.
fn whole(migrations: &Migrations) -> Tenants {
    let tenants = Tenants::new(["acme", "globex"]);
    assert_eq!(tenants.run(&Run::new(migrations), migrations).unwrap().count("migrated"), 3);
    tenants
}

fn tables(db: &TestDatabase, schema: &str) -> String {
    db.texts(&format!(
        "SELECT relname FROM pg_class WHERE relnamespace = '{schema}'::regnamespace AND relkind = 'r' \
         AND relname !~ '^__' ORDER BY 1"
    ))
    .join(" ")
}

#[test]
fn every_schema_goes_back_and_public_last() {
    let three = three();
    let tenants = whole(&three);
    let report = tenants.run(&Run::new(&three).goal(&steps(2)), &three).unwrap();
    assert_eq!(outcomes(&report), ["public reverted", "acme reverted", "globex reverted"]);
    assert_eq!(report.lines[1].reverted, ["3", "2"]);
    for schema in ["public", "acme", "globex"] {
        assert_eq!(tables(&tenants.db, schema), "a");
    }
    assert_eq!(tenants.db.versions("public"), ["1", "p1"]);
    let last = tenants.db.text("SELECT schema FROM tenantry.run_step ORDER BY id DESC LIMIT 1");
    assert_eq!(last, "public");
    // And forth again.
    assert_eq!(tenants.run(&Run::new(&three), &three).unwrap().count("migrated"), 3);
}

#[test]
fn going_back_to_a_version_stops_there_and_again_does_nothing() {
    let three = three();
    let tenants = whole(&three);
    tenants.run(&Run::new(&three).goal(&to("1")), &three).unwrap();
    assert_eq!((tables(&tenants.db, "acme"), tenants.db.versions("acme")), ("a".into(), vec!["1".into()]));
    let again = tenants.run(&Run::new(&three).goal(&to("1")), &three).unwrap();
    assert_eq!(again.count("up to date"), 3);
}

#[test]
fn public_stays_when_a_tenant_could_not_go_back() {
    let three = three();
    let tenants = whole(&three);
    tenants.db.execute("acme", "DROP TABLE c");
    let report = tenants.run(&Run::new(&three).goal(&steps(1)), &three).unwrap();
    assert_eq!(outcomes(&report), ["public not reached", "acme failed", "globex reverted"]);
    assert_eq!(
        report.lines[1].result.as_ref().unwrap_err().chain(),
        "migration 3 failed in schema `acme`: table \"c\" does not exist"
    );
    assert_eq!((tables(&tenants.db, "public"), tenants.db.versions("acme").len()), ("a b c".into(), 3));
}

#[test]
fn the_public_set_goes_back_by_itself() {
    let three = three();
    let tenants = whole(&three);
    let goal = Goal::Revert { set: Set::Public, until: Until::Steps(1) };
    let report = tenants.run(&Run::new(&three).goal(&goal), &three).unwrap();
    assert_eq!(outcomes(&report), ["public reverted"]);
    assert_eq!(tenants.db.versions("public"), ["1", "2", "3"]);
}

#[test]
fn what_cannot_be_taken_back_is_refused_before_anything_is_done() {
    let three = migrations(&[
        ("1_a", "CREATE TABLE a (x int)", "-- There is no way back."),
        ("2_b", "CREATE TABLE b (x int)", "DROP TABLE b"),
    ]);
    let tenants = whole(&three);
    let report = tenants.run(&Run::new(&three).goal(&steps(2)), &three).unwrap();
    assert!(
        matches!(&report.lines[1].result, Err(Error::Irreversible { version, .. }) if version == "1"),
        "{report:?}"
    );
    assert_eq!(tables(&tenants.db, "acme"), "a b");
    // Neither is what a newer program's migration is built on.
    tenants.db.execute("globex", "INSERT INTO __diesel_schema_migrations VALUES ('9')");
    let report = tenants.run(&Run::new(&three).goal(&steps(1)), &three).unwrap();
    assert_eq!(outcomes(&report), ["public not reached", "acme reverted", "globex failed"]);
    assert!(
        matches!(&report.lines[2].result, Err(Error::LaterVersions { later, .. }) if later == &["9"]),
        "{report:?}"
    );
}

#[test]
fn redoing_is_one_transaction() {
    let three = three();
    let tenants = whole(&three);
    tenants.db.execute("acme", "INSERT INTO c VALUES (1); INSERT INTO b VALUES (1)");
    let goal = Goal::Redo { steps: 1 };
    let report = tenants.run(&Run::new(&three).goal(&goal), &three).unwrap();
    assert_eq!(outcomes(&report), ["public redone", "acme redone", "globex redone"]);
    assert_eq!(
        (tenants.db.text("SELECT count(*) FROM acme.c"), tenants.db.text("SELECT count(*) FROM acme.b")),
        ("0".into(), "1".into())
    );
    assert_eq!(tenants.db.versions("acme"), ["1", "2", "3"]);
    tenants.db.execute("acme", "CREATE VIEW v AS SELECT * FROM c");
    let report = tenants.run(&Run::new(&three).goal(&goal), &three).unwrap();
    assert_eq!(report.lines[1].outcome(), "failed");
    assert_eq!(tenants.db.versions("acme"), ["1", "2", "3"], "nothing is half done");
}

#[test]
fn some_tenants_go_back_alone() {
    let three = three();
    let tenants = whole(&three);
    let all = FixedList(vec!["acme".parse().unwrap(), "globex".parse().unwrap()]);
    let some = Selected { directory: &all, globs: vec![Glob::new("acme")], except: vec![], only: Only::All };
    let fleet = Fleet { migrations: &three, directory: &some, rules: domain::rules() };
    let goal = steps(1);
    let report = fleet.run(&Run::new(&three).goal(&goal), &|| pg::connect(tenants.db.config())).unwrap();
    assert_eq!(outcomes(&report), ["acme reverted"]);
    assert_eq!((tenants.db.versions("globex").len(), tenants.db.versions("public").len()), (3, 4));
    let plan = fleet.plan(&goal, &mut tenants.db.connect()).unwrap();
    assert_eq!(plan.schemas.iter().map(|planned| planned.steps[0].name).collect::<Vec<_>>(), ["2_b"]);
}

#[test]
fn an_index_goes_back_without_blocking_writers() {
    let two = migrations(&[
        ("1_a", "CREATE TABLE a (x int)", "DROP TABLE a"),
        ("2_i", "CREATE INDEX CONCURRENTLY a_x ON a (x)", "DROP INDEX CONCURRENTLY a_x"),
    ]);
    let tenants = whole(&two);
    let report = tenants.run(&Run::new(&two).goal(&steps(2)), &two).unwrap();
    assert_eq!(report.count("reverted"), 3, "{report:?}");
    assert_eq!((tables(&tenants.db, "acme"), tenants.db.versions("acme")), (String::new(), vec![]));
}
