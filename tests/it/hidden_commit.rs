//! A migration that ends its own transaction has failed, and is pending again.

use diesel::{
    PgConnection,
    connection::{BoxableConnection, SimpleConnection},
    migration::{Migration, MigrationMetadata, MigrationName, MigrationSource, MigrationVersion},
    pg::Pg,
};
use tenantry::{
    Fleet,
    directory::FixedList,
    domain,
    migrate::{Goal, MigrationSet, Migrations, Run},
    pg, runs,
    testing::TestDatabase,
};

use crate::support::set;

/// A migration that sends these statements, one after the other, by code of which nothing can be seen beforehand.
#[derive(Clone, Copy)]
struct Hidden {
    version: &'static str,
    up: &'static [&'static str],
    down: &'static [&'static str],
}

fn send(conn: &mut dyn BoxableConnection<Pg>, statements: &[&str]) -> diesel::migration::Result<()> {
    let conn = conn.downcast_mut::<PgConnection>().ok_or("needs the real connection")?;
    Ok(statements.iter().try_for_each(|statement| conn.batch_execute(statement))?)
}

impl std::fmt::Display for Hidden {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}_hidden", self.version)
    }
}

impl MigrationName for Hidden {
    fn version(&self) -> MigrationVersion<'_> {
        MigrationVersion::from(self.version)
    }
}

impl MigrationMetadata for Hidden {}

impl Migration<Pg> for Hidden {
    fn run(&self, conn: &mut dyn BoxableConnection<Pg>) -> diesel::migration::Result<()> {
        send(conn, self.up)
    }
    fn revert(&self, conn: &mut dyn BoxableConnection<Pg>) -> diesel::migration::Result<()> {
        send(conn, self.down)
    }
    fn metadata(&self) -> &dyn MigrationMetadata {
        self
    }
    fn name(&self) -> &dyn MigrationName {
        self
    }
}

struct Source(Vec<Hidden>);

impl MigrationSource<Pg> for Source {
    fn migrations(&self) -> diesel::migration::Result<Vec<Box<dyn Migration<Pg>>>> {
        Ok(self.0.iter().map(|migration| Box::new(*migration) as Box<dyn Migration<Pg>>).collect())
    }
}

fn migrations(tenant: Vec<Hidden>) -> Migrations {
    let public = set("public", &[("p1_nothing", "SELECT 1", "SELECT 1")]).unwrap();
    Migrations::new(public, MigrationSet::new("tenant", Source(tenant)).unwrap()).unwrap()
}

const FIRST: Hidden = Hidden { version: "1", up: &["CREATE TABLE first ()"], down: &["DROP TABLE first"] };
const LAST: Hidden = Hidden { version: "3", up: &["CREATE TABLE last ()"], down: &["DROP TABLE last"] };

fn run(db: &TestDatabase, migrations: &Migrations, goal: &Goal) -> tenantry::migrate::Report {
    // The set is public's, too; only the tenants are looked at here.
    let fleet = Fleet { migrations, directory: &FixedList(vec!["acme".parse().unwrap()]), rules: domain::rules() };
    let run = Run::new(migrations).goal(goal);
    run.tenants(&|| pg::connect(db.config()), &fleet.directory.list(&mut db.connect()).unwrap().schemas()).unwrap()
}

#[test]
fn what_came_before_it_is_done_and_it_is_pending_itself() {
    for ending in ["COMMIT", "COMMIT AND CHAIN", "COMMIT; BEGIN", "ROLLBACK", "ROLLBACK AND CHAIN", "ROLLBACK; BEGIN"] {
        let db = TestDatabase::with_empty_schemas(["acme"]);
        let up: &'static [&'static str] = Box::leak(Box::new(["CREATE TABLE half ()", ending, "SELECT 1"]));
        let migrations = migrations(vec![FIRST, Hidden { version: "2", up, down: &[] }, LAST]);
        let report = run(&db, &migrations, &Goal::Latest);
        let error = report.lines[0].result.as_ref().expect_err(ending).chain();
        assert!(
            error.starts_with("migration 2 failed in schema `acme`: the transaction in schema `acme` was ended inside"),
            "{ending}: {error}"
        );
        let expected: &[&str] = if ending.starts_with("COMMIT") { &["1"] } else { &[] };
        assert_eq!(db.versions("acme"), expected, "{ending}");
        assert_eq!(report.lines[0].applied, Vec::<String>::new(), "{ending}");
    }
}

#[test]
fn on_the_way_back_it_is_applied_still() {
    let db = TestDatabase::with_empty_schemas(["acme"]);
    let hidden = Hidden { version: "2", up: &["CREATE TABLE two ()"], down: &["DROP TABLE two", "COMMIT", "SELECT 1"] };
    let migrations = migrations(vec![FIRST, hidden]);
    run(&db, &migrations, &Goal::Latest);
    assert_eq!(db.versions("acme"), ["1", "2"]);
    let report = run(&db, &migrations, &Goal::Redo { steps: 1 });
    assert!(report.lines[0].result.is_err());
    assert_eq!(db.versions("acme"), ["1", "2"]);
}

#[test]
fn a_recorded_run_does_not_claim_it() {
    let db = TestDatabase::with_empty_schemas(["acme"]);
    let hidden = Hidden { version: "2", up: &["CREATE TABLE half ()", "COMMIT", "SELECT 1"], down: &[] };
    let migrations = migrations(vec![FIRST, hidden, LAST]);
    let directory = FixedList(vec!["acme".parse().unwrap()]);
    let fleet = Fleet { migrations: &migrations, directory: &directory, rules: domain::rules() };
    // The set is applied to `public` first, where it fails in the same way.
    fleet.run(&Run::new(&migrations), &|| pg::connect(db.config())).unwrap_err();
    let conn = &mut db.connect();
    let steps = runs::steps(conn, 1).unwrap();
    assert_eq!(steps.iter().map(|step| step.version.as_str()).collect::<Vec<_>>(), ["p1", "1"]);
    assert_eq!(db.versions("public"), ["1", "p1"]);
}
