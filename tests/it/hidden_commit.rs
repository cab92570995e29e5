//! Scripts that end the transaction they run in: seen before they are sent, refused by the server, or found out.

use diesel::{
    PgConnection,
    connection::{BoxableConnection, SimpleConnection},
    migration::{Migration, MigrationMetadata, MigrationName, MigrationSource, MigrationVersion},
    pg::Pg,
};
use tenantry::{
    Fleet, SchemaName,
    directory::FixedList,
    doctor::Doctor,
    domain,
    migrate::{Goal, MigrationSet, Migrations, Report, Run},
    pg, runs,
    structure::reference,
    testing::TestDatabase,
};

use crate::support::{Tenants, migrations, outcomes, set};

const FIRST: (&str, &str, &str) = ("1_first", "CREATE TABLE one (i int)", "DROP TABLE one");

/// Runs the script in four tenants that have the migration before it, and in a new one. It fails in all, with these
/// words, and nothing of it is left.
#[track_caller]
fn check(script: &str, words: &str) {
    let names = ["a", "b", "c", "d"];
    let tenants = Tenants::new(names);
    let first = migrations(&[FIRST]);
    assert_eq!(tenants.run(&Run::new(&first), &first).unwrap().count("migrated"), 5);
    tenants.db.execute("public", "DROP SCHEMA d CASCADE; CREATE SCHEMA d");
    let all = migrations(&[FIRST, ("2_ends", script, "SELECT 1")]);
    // Twice, since the second run must not take the first one's remains for done.
    for _ in 0..2 {
        let schemas: Vec<SchemaName> = names.iter().map(|name| name.parse().unwrap()).collect();
        let report = Run::new(&all).tenants(&|| pg::connect(tenants.db.config()), &schemas).unwrap();
        assert_eq!(outcomes(&report), ["a failed", "b failed", "c failed", "d failed"], "{script:?}");
        for (_, error) in report.failures() {
            assert!(error.chain().contains(words), "{script:?}: {}", error.chain());
        }
    }
    assert_eq!(
        tenants.db.texts("SELECT relname FROM pg_class WHERE relname IN ('half', 'other')"),
        Vec::<String>::new()
    );
    assert_eq!([tenants.db.versions("a"), tenants.db.versions("d")], [vec!["1".to_owned()], vec![]]);
}

#[test]
fn a_commit_behind_a_carriage_return_is_seen() {
    let script = "CREATE TABLE half (i int);\n-- keep it simple\rCOMMIT;\nCREATE TABLE other (i int);\nSELECT 1/0;\n";
    check(script, "it has a COMMIT of its own");
}

#[test]
fn a_commit_behind_a_continued_string_is_seen() {
    let script = "CREATE TABLE half (i int); SELECT E'what it'\n' isn\\'t'; COMMIT; SELECT 1/0; -- '";
    check(script, "it has a COMMIT of its own");
}

#[test]
fn a_commit_behind_odd_dollars_and_labels_is_seen() {
    check("CREATE TABLE half (i int); SELECT $😀$ ' $😀$; COMMIT; SELECT 1/0; -- '", "it has a COMMIT of its own");
    let labels = "CREATE TABLE half AS SELECT begin atomic FROM (SELECT 1 AS begin) q; COMMIT; SELECT 1/0";
    check(labels, "it has a COMMIT of its own");
}

#[test]
fn a_commit_in_a_body_or_in_a_procedure_is_refused_by_the_server() {
    check("CREATE TABLE half (i int); DO $$ BEGIN COMMIT; END $$", "invalid transaction termination");
    check(
        "CREATE TABLE half (i int); CREATE PROCEDURE other() LANGUAGE plpgsql AS 'BEGIN COMMIT; END'; CALL other()",
        "invalid transaction termination",
    );
}

#[test]
fn what_needs_a_client_is_refused_by_name() {
    check("CREATE TABLE half (i int); COPY half FROM STDIN;\n1\n\\.\n", "it has COPY FROM STDIN");
    check("CREATE TABLE half (i int); COPY half TO STDOUT; SELECT 1/0", "it has COPY TO STDOUT");
    check("CREATE TABLE half (i int);\n\\i other.sql\n", "it has \\i, a command of psql");
}

/// What a migration may do that ends its transaction, and behind that.
const ENDINGS: &[&[&str]] = &[
    &["CREATE TABLE half (i int); COMMIT; SELECT 1/0"],
    &["CREATE TABLE half (i int); COMMIT AND CHAIN; SELECT 1/0"],
    &["CREATE TABLE half (i int)", "COMMIT; BEGIN", "SELECT 1/0"],
    // Tried again at once if it were taken for a passing error.
    &["CREATE TABLE half (i int); COMMIT", "DO $$ BEGIN RAISE 'deadlock detected'; END $$"],
    &["CREATE TABLE half (i int); COMMIT"],
    // So that no setting tells of it.
    &["CREATE TABLE half (i int)", "COMMIT", "RESET ALL", "SELECT 1/0"],
    &["CREATE TABLE half (i int)", "COMMIT AND CHAIN", "RESET ALL", "SELECT 1/0"],
    &["CREATE TABLE half (i int)", "COMMIT", "DISCARD ALL", "SELECT 1/0"],
];

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

fn in_rust(tenant: Vec<Hidden>) -> Migrations {
    let public = set("public", &[("p1_nothing", "SELECT 1", "SELECT 1")]).unwrap();
    Migrations::new(public, MigrationSet::new("tenant", Source(tenant)).unwrap()).unwrap()
}

const BEFORE: Hidden = Hidden { version: "1", up: &["CREATE TABLE first ()"], down: &["DROP TABLE first"] };
const AFTER: Hidden = Hidden { version: "3", up: &["CREATE TABLE last ()"], down: &["DROP TABLE last"] };

fn run_on_acme(db: &TestDatabase, migrations: &Migrations, goal: &Goal) -> Report {
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
        let migrations = in_rust(vec![BEFORE, Hidden { version: "2", up, down: &[] }, AFTER]);
        let report = run_on_acme(&db, &migrations, &Goal::Latest);
        let error = report.lines[0].result.as_ref().expect_err(ending).chain();
        assert!(
            error.starts_with("migration 2 failed in schema `acme`: it ended the transaction that it runs in"),
            "{ending}: {error}"
        );
        let expected: &[&str] = if ending.starts_with("COMMIT") { &["1"] } else { &[] };
        assert_eq!(db.versions("acme"), expected, "{ending}");
        assert_eq!(report.lines[0].applied, Vec::<String>::new(), "{ending}");
    }
}

#[test]
fn whatever_fails_behind_a_commit_it_is_pending_and_no_other_run_takes_it_for_done() {
    for up in ENDINGS {
        let db = TestDatabase::with_empty_schemas(["acme"]);
        let migrations = in_rust(vec![Hidden { version: "2", up, down: &[] }]);
        for _ in 0..2 {
            let report = run_on_acme(&db, &migrations, &Goal::Latest);
            assert_eq!(outcomes(&report), ["acme failed"], "{up:?}");
            assert_eq!(db.versions("acme"), Vec::<String>::new(), "{up:?}");
        }
    }
}

#[test]
fn on_the_way_back_it_is_applied_still() {
    let db = TestDatabase::with_empty_schemas(["acme"]);
    let hidden = Hidden { version: "2", up: &["CREATE TABLE two ()"], down: &["DROP TABLE two", "COMMIT", "SELECT 1"] };
    let migrations = in_rust(vec![BEFORE, hidden]);
    run_on_acme(&db, &migrations, &Goal::Latest);
    assert_eq!(db.versions("acme"), ["1", "2"]);
    let report = run_on_acme(&db, &migrations, &Goal::Redo { steps: 1 });
    assert!(report.lines[0].result.is_err());
    assert_eq!(db.versions("acme"), ["1", "2"]);
}

#[test]
fn a_recorded_run_does_not_claim_it() {
    let db = TestDatabase::with_empty_schemas(["acme"]);
    let hidden = Hidden { version: "2", up: &["CREATE TABLE half ()", "COMMIT", "SELECT 1"], down: &[] };
    let migrations = in_rust(vec![BEFORE, hidden, AFTER]);
    let directory = FixedList(vec!["acme".parse().unwrap()]);
    let fleet = Fleet { migrations: &migrations, directory: &directory, rules: domain::rules() };
    // The set is applied to `public` first, where it fails in the same way.
    fleet.run(&Run::new(&migrations), &|| pg::connect(db.config())).unwrap_err();
    let conn = &mut db.connect();
    let steps = runs::steps(conn, 1).unwrap();
    assert_eq!(steps.iter().map(|step| step.version.as_str()).collect::<Vec<_>>(), ["p1", "1"]);
    assert_eq!(db.versions("public"), ["1", "p1"]);
}

#[test]
fn no_scratch_schema_is_left_by_a_migration_that_ends_the_transaction() {
    for sends in ENDINGS {
        let db = TestDatabase::with_empty_schemas(["acme"]);
        let (conn, acme) = (&mut db.connect(), "acme".parse().unwrap());
        let error = reference(
            conn,
            &in_rust(vec![Hidden { version: "2", up: sends, down: &[] }]),
            &acme,
            db.config().lock_timeout,
        )
        .unwrap_err()
        .chain();
        assert!(
            error.ends_with("migration 2 ends the transaction that it runs in: take its COMMIT or ROLLBACK out"),
            "{error}"
        );
        assert_eq!(db.texts("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'tenantry%'"), Vec::<String>::new());
        conn.batch_execute("SELECT 1").unwrap();
    }
}

#[test]
fn the_doctor_says_which_migration_ends_the_transaction() {
    let db = TestDatabase::with_empty_schemas(["acme"]);
    let history =
        "CREATE TABLE __diesel_schema_migrations (version varchar(50) PRIMARY KEY, run_on timestamp DEFAULT now())";
    db.execute("acme", &format!("{history}; INSERT INTO __diesel_schema_migrations VALUES ('2')"));
    let all = in_rust(vec![Hidden { version: "2", up: ENDINGS[0], down: &[] }]);
    let directory = FixedList(vec!["acme".parse().unwrap()]);
    let doctor = Doctor::new(&all, &directory, domain::rules());
    let report = doctor.run(&|| pg::connect(db.config())).unwrap();
    let reason = &report.not_compared[0].reason;
    assert!(reason.starts_with("migration 2 ends the transaction that it runs in: take its COMMIT"), "{reason}");
    assert_eq!(db.texts("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'tenantry%'"), Vec::<String>::new());
}

#[test]
fn a_commit_that_no_splitter_sees_is_found_out_among_many_tenants_too() {
    // Once strings have backslash escapes, what looks like a second string is a COMMIT.
    let hidden = r"CREATE TABLE half (i int); SELECT 'it\' , '; COMMIT; SELECT 1/0; --'";
    let escapes = "DO $$ BEGIN PERFORM set_config('standard_conforming_strings', 'off', false); END $$";
    let tenants = Tenants::new(["a", "b", "c", "d"]);
    let all = migrations(&[FIRST, ("2_escapes", escapes, ""), ("3_hidden", hidden, "")]);
    let schemas: Vec<SchemaName> = ["a", "b", "c", "d"].map(|name| name.parse().unwrap()).into();
    let report = Run::new(&all).jobs(1).tenants(&|| pg::connect(tenants.db.config()), &schemas).unwrap();
    assert_eq!(outcomes(&report), ["a migrated", "b failed", "c failed", "d failed"]);
    for schema in ["b", "c", "d"] {
        assert_eq!(tenants.db.versions(schema), ["1", "2"], "{schema}");
    }
}
