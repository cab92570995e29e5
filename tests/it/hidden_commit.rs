//! Scripts that end the transaction they run in: seen before they are sent, refused by the server, or found out.

use diesel::{
    connection::{BoxableConnection, SimpleConnection},
    migration::{Migration, MigrationMetadata, MigrationName, MigrationSource, MigrationVersion},
    pg::Pg,
};
use tenantry::{
    SchemaName,
    directory::FixedList,
    doctor::Doctor,
    domain,
    migrate::{MigrationSet, Migrations, Run},
    pg,
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

/// A migration written in Rust that sends these texts, one by one.
#[derive(Clone, Copy)]
struct Sends(&'static [&'static str]);

impl std::fmt::Display for Sends {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("2_sends")
    }
}

impl MigrationName for Sends {
    fn version(&self) -> MigrationVersion<'_> {
        MigrationVersion::from("2")
    }
}

impl MigrationMetadata for Sends {}

impl Migration<Pg> for Sends {
    fn run(&self, conn: &mut dyn BoxableConnection<Pg>) -> diesel::migration::Result<()> {
        let conn = conn.downcast_mut::<diesel::PgConnection>().ok_or("needs the real connection")?;
        Ok(self.0.iter().try_for_each(|text| conn.batch_execute(text))?)
    }

    fn revert(&self, _: &mut dyn BoxableConnection<Pg>) -> diesel::migration::Result<()> {
        Ok(())
    }

    fn metadata(&self) -> &dyn MigrationMetadata {
        self
    }

    fn name(&self) -> &dyn MigrationName {
        self
    }
}

impl MigrationSource<Pg> for Sends {
    fn migrations(&self) -> diesel::migration::Result<Vec<Box<dyn Migration<Pg>>>> {
        Ok(vec![Box::new(*self)])
    }
}

fn in_rust(sends: Sends) -> Migrations {
    let public = set("public", &[("p1_nothing", "SELECT 1", "SELECT 1")]).unwrap();
    Migrations::new(public, MigrationSet::new("tenant", sends).unwrap()).unwrap()
}

/// What a script that ends its transaction may do behind that.
const ENDINGS: &[&[&str]] = &[
    &["CREATE TABLE half (i int); COMMIT; SELECT 1/0"],
    &["CREATE TABLE half (i int); COMMIT AND CHAIN; SELECT 1/0"],
    &["CREATE TABLE half (i int)", "COMMIT; BEGIN", "SELECT 1/0"],
    // Tried again at once if it were taken for a passing error.
    &["CREATE TABLE half (i int); COMMIT", "DO $$ BEGIN RAISE 'deadlock detected'; END $$"],
    &["CREATE TABLE half (i int); COMMIT"],
];

#[test]
fn what_was_half_committed_is_a_failure_and_not_recorded() {
    for sends in ENDINGS {
        let tenants = Tenants::new(["acme"]);
        let all = in_rust(Sends(sends));
        let connect = || pg::connect(tenants.db.config());
        let report = Run::new(&all).tenants(&connect, &["acme".parse().unwrap()]).unwrap();
        assert_eq!(outcomes(&report), ["acme failed"], "{sends:?}");
        let error = report.lines[0].result.as_ref().unwrap_err().chain();
        assert!(
            error.starts_with("migration 2 failed in schema `acme`: it ended the transaction"),
            "{sends:?}: {error}"
        );
        assert_eq!(tenants.db.versions("acme"), Vec::<String>::new(), "{sends:?}");
        // Another run does not take it for done, either.
        assert_eq!(outcomes(&Run::new(&all).tenants(&connect, &["acme".parse().unwrap()]).unwrap()), ["acme failed"]);
    }
}

#[test]
fn a_run_does_not_record_what_was_half_committed_as_done() {
    let tenants = Tenants::new(["acme"]);
    let all = in_rust(Sends(ENDINGS[0]));
    let error = tenants.run(&Run::new(&all), &all).unwrap_err().chain();
    assert!(error.contains("it ended the transaction") && error.contains("its record is undone"), "{error}");
    let steps = tenants.db.texts("SELECT up FROM tenantry.run_step WHERE version = '2' ORDER BY id");
    assert_eq!(steps, ["true", "false"]);
}

#[test]
fn no_scratch_schema_is_left_by_a_migration_that_ends_the_transaction() {
    for sends in ENDINGS {
        let db = TestDatabase::with_empty_schemas(["acme"]);
        let (conn, acme) = (&mut db.connect(), "acme".parse().unwrap());
        let error = reference(conn, &in_rust(Sends(sends)), &acme, db.config().lock_timeout).unwrap_err().chain();
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
    let all = in_rust(Sends(&["CREATE TABLE half (i int); COMMIT"]));
    let directory = FixedList(vec!["acme".parse().unwrap()]);
    let doctor = Doctor::new(&all, &directory, domain::rules());
    let report = doctor.run(&|| pg::connect(db.config())).unwrap();
    let reason = &report.not_compared[0].reason;
    assert!(reason.starts_with("migration 2 ends the transaction that it runs in: take its COMMIT"), "{reason}");
    assert_eq!(db.texts("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'tenantry%'"), Vec::<String>::new());
}
