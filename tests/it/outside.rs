//! Migrations that no transaction can hold.

use diesel::{Connection, connection::SimpleConnection};
use tenantry::{
    migrate::{Event, Interrupt, Migrations, Observer, Run, apply},
    provision,
    testing::TestDatabase,
};

use crate::support::{Tenants, migrations, outcomes};

const TABLE: (&str, &str, &str) = ("1_table", "CREATE TABLE t (a int)", "DROP TABLE t");
const INDEX: (&str, &str, &str) =
    ("2_index", "CREATE UNIQUE INDEX CONCURRENTLY t_a ON t (a)", "DROP INDEX CONCURRENTLY t_a");
const COLUMN: (&str, &str, &str) = ("3_column", "ALTER TABLE t ADD b int", "ALTER TABLE t DROP b");

fn all() -> Migrations {
    migrations(&[TABLE, INDEX, COLUMN])
}

/// Schemas in which the table is there, with two equal rows in `duplicate`.
fn with_table<'n>(names: impl IntoIterator<Item = &'n str> + Clone) -> Tenants {
    let tenants = Tenants::new(names);
    let first = migrations(&[TABLE]);
    assert_eq!(tenants.run(&Run::new(&first), &first).unwrap().count("failed"), 0);
    tenants
}

fn indexes(db: &TestDatabase) -> Vec<String> {
    db.texts(
        "SELECT relnamespace::regnamespace || ' ' || indisvalid FROM pg_class c JOIN pg_index i ON indexrelid = c.oid \
         WHERE relname = 't_a' ORDER BY 1",
    )
}

#[test]
fn an_index_is_made_concurrently_between_two_transactions() {
    let tenants = with_table(["acme", "globex", "hooli"]);
    let all = all();
    let report = tenants.run(&Run::new(&all).jobs(3), &all).unwrap();
    assert_eq!(report.count("migrated"), 4, "{:?}", outcomes(&report));
    assert_eq!(indexes(&tenants.db), ["acme true", "globex true", "hooli true", "public true"]);
    assert_eq!(report.lines[1].applied, ["2", "3"]);
    assert_eq!(tenants.db.versions("globex"), ["1", "2", "3"]);
    // Three transactions: before, for the record of the index alone, and after.
    assert_eq!(tenants.db.text("SELECT count(DISTINCT xmin::text) FROM acme.__diesel_schema_migrations"), "3");
}

#[test]
fn a_schema_without_anything_gets_it_in_one_transaction() {
    let tenants = Tenants::new(["acme"]);
    let all = all();
    tenants.run(&Run::new(&all), &all).unwrap();
    assert_eq!(tenants.db.text("SELECT count(DISTINCT xmin::text) FROM acme.__diesel_schema_migrations"), "1");
    assert_eq!(indexes(&tenants.db), ["acme true", "public true"]);
    // And so does one that is made in a test's transaction.
    let conn = &mut tenants.db.connect();
    conn.begin_test_transaction().unwrap();
    provision::create(conn, &"globex".parse().unwrap(), &all, tenants.db.config().lock_timeout).unwrap();
}

#[test]
fn a_failed_index_leaves_none_behind_and_costs_only_its_tenant() {
    let tenants = with_table(["acme", "globex"]);
    tenants.db.execute("acme", "INSERT INTO t VALUES (1), (1)");
    let all = all();
    let report = tenants.run(&Run::new(&all), &all).unwrap();
    assert_eq!(outcomes(&report), ["public migrated", "acme failed", "globex migrated"]);
    let error = report.lines[1].result.as_ref().unwrap_err().chain();
    assert_eq!(error, "migration 2 failed in schema `acme`: could not create unique index \"t_a\"");
    assert_eq!(report.lines[1].attempts, 1, "it would fail again");
    assert_eq!(indexes(&tenants.db), ["globex true", "public true"]);
    assert_eq!(tenants.db.versions("acme"), ["1"]);
    tenants.db.execute("acme", "TRUNCATE t");
    assert_eq!(tenants.run(&Run::new(&all), &all).unwrap().count("migrated"), 1);
}

#[test]
fn an_index_that_a_killed_run_left_invalid_is_made_again() {
    let tenants = with_table(["acme"]);
    tenants.db.execute("acme", "INSERT INTO t VALUES (1), (1)");
    tenants.db.connect().batch_execute("CREATE UNIQUE INDEX CONCURRENTLY t_a ON acme.t (a)").unwrap_err();
    assert_eq!(indexes(&tenants.db), ["acme false"]);
    tenants.db.execute("acme", "TRUNCATE t");
    let all = all();
    assert_eq!(tenants.run(&Run::new(&all), &all).unwrap().count("failed"), 0);
    assert_eq!(indexes(&tenants.db), ["acme true", "public true"]);
}

#[test]
fn what_was_applied_before_it_failed_is_told() {
    let tenants = with_table(["acme"]);
    tenants.db.execute("acme", "INSERT INTO t VALUES (1), (1)");
    let between = migrations(&[TABLE, ("15_column", "ALTER TABLE t ADD c int", "ALTER TABLE t DROP c"), INDEX]);
    let report = tenants.run(&Run::new(&between), &between).unwrap();
    assert_eq!(outcomes(&report), ["public migrated", "acme failed"]);
    assert_eq!(report.lines[1].applied, ["15"]);
    assert_eq!(tenants.db.versions("acme"), ["1", "15"]);
    assert_eq!(
        tenants.db.texts("SELECT version FROM tenantry.run_step WHERE schema = 'acme' ORDER BY id"),
        ["1", "15"]
    );
}

#[test]
fn it_waits_for_older_transactions_and_never_for_the_runs_own_workers() {
    let names: Vec<String> = (0..12).map(|number| format!("t{number}")).collect();
    let tenants = with_table(names.iter().map(String::as_str));
    let all = all();
    let report = tenants.run(&Run::new(&all).jobs(4), &all).unwrap();
    assert_eq!((report.count("migrated"), report.count("failed")), (13, 0), "{:?}", outcomes(&report));
}

#[test]
fn a_script_outside_of_a_transaction_must_keep_the_path_too() {
    let db = TestDatabase::with_empty_schemas(["acme"]);
    let strays = migrations(&[TABLE, ("2_strays", "SET search_path = public; SELECT 'CONCURRENTLY'", "")]);
    let (conn, schema) = (&mut db.connect(), "acme".parse().unwrap());
    let first = migrations(&[TABLE]);
    apply(conn, &schema, &first, db.config().lock_timeout).unwrap();
    let error = apply(conn, &schema, &strays, db.config().lock_timeout).unwrap_err().chain();
    assert!(error.contains("it leaves search_path at \"public\""), "{error}");
    assert_eq!(db.versions("acme"), ["1"]);
    assert_eq!(tenantry::pg::scope::current(conn).unwrap().path, "pg_catalog, pg_temp", "the connection is as it was");
}

#[test]
fn an_index_that_a_killed_run_had_finished_is_taken_up_if_it_is_the_same() {
    for (made, error) in [
        ("CREATE UNIQUE INDEX t_a ON acme.t (a)", None),
        (
            "CREATE INDEX t_a ON acme.t (a)",
            Some("migration 2 failed in schema `acme`: relation \"t_a\" already exists"),
        ),
    ] {
        let tenants = with_table(["acme"]);
        tenants.db.connect().batch_execute(made).unwrap();
        let before = tenants.db.text("SELECT 'acme.t_a'::regclass::oid");
        let all = all();
        let report = tenants.run(&Run::new(&all), &all).unwrap();
        assert_eq!(report.failures().map(|(_, error)| error.chain()).next().as_deref(), error);
        assert_eq!(tenants.db.text("SELECT 'acme.t_a'::regclass::oid"), before);
        assert_eq!(tenants.db.versions("acme").len(), if error.is_none() { 3 } else { 1 });
    }
}

#[test]
fn a_script_that_commits_by_itself_runs_in_a_schema_without_anything_too() {
    let tenants = Tenants::new(["acme", "globex"]);
    let fill = "DO $$ BEGIN FOR i IN 1..3 LOOP INSERT INTO t VALUES (i); COMMIT; END LOOP; END $$; -- not CONCURRENTLY";
    let all = migrations(&[TABLE, ("2_fill", fill, "TRUNCATE t"), COLUMN]);
    let report = tenants.run(&Run::new(&all), &all).unwrap();
    assert_eq!(outcomes(&report), ["public migrated", "acme migrated", "globex migrated"]);
    assert_eq!((tenants.db.text("SELECT count(*) FROM acme.t").as_str(), tenants.db.versions("acme").len()), ("3", 3));
}

#[test]
fn a_connection_keeps_its_own_bounds() {
    let tenants = with_table(["acme"]);
    let conn = &mut tenants.db.connect();
    conn.batch_execute("SET lock_timeout = '7s'; SET statement_timeout = '8s'").unwrap();
    apply(conn, &"acme".parse().unwrap(), &all(), tenants.db.config().lock_timeout).unwrap();
    conn.batch_execute(
        "DO $$ BEGIN ASSERT (current_setting('lock_timeout'), current_setting('statement_timeout')) = ('7s', '8s'); END $$",
    )
    .unwrap();
}

#[test]
fn an_index_without_a_name_leaves_none_behind_either() {
    let tenants = with_table(["acme"]);
    tenants.db.execute("acme", "INSERT INTO t VALUES (1), (1)");
    let all = migrations(&[TABLE, ("2_index", "CREATE UNIQUE INDEX CONCURRENTLY ON t (a)", "SELECT 1")]);
    assert_eq!(tenants.run(&Run::new(&all), &all).unwrap().count("failed"), 1);
    tenants.db.execute("acme", "TRUNCATE t");
    assert_eq!(tenants.run(&Run::new(&all), &all).unwrap().count("failed"), 0);
    let indexes =
        "SELECT relname FROM pg_class WHERE relkind = 'i' AND relnamespace = 'acme'::regnamespace AND relname ~ '^t_' ";
    assert_eq!(tenants.db.texts(indexes), ["t_a_idx"]);
}

#[test]
fn when_the_run_is_stopped_nobody_else_enters_the_lane() {
    struct StopLater<'i>(&'i Interrupt, std::sync::Once);
    impl Observer for StopLater<'_> {
        fn on(&self, event: &Event<'_>) {
            if let Event::Finished(_) = event {
                self.1.call_once(|| self.0.stop());
            }
        }
    }
    let names: Vec<String> = (0..30).map(|number| format!("t{number:02}")).collect();
    let tenants = with_table(names.iter().map(String::as_str));
    let slow = ("2_slow", "SELECT pg_sleep(0.5) WHERE current_schema() <> 'public'; SELECT 'CONCURRENTLY'", "SELECT 1");
    let (all, interrupt) = (migrations(&[TABLE, slow]), Interrupt::new());
    let stop = StopLater(&interrupt, std::sync::Once::new());
    let report = tenants.run(&Run::new(&all).jobs(4).observer(&stop).interrupt(&interrupt), &all).unwrap();
    // The one that ended first, and the one that had entered when it was told.
    assert!((1..=2).contains(&(report.count("migrated") - 1)), "{:?}", outcomes(&report));
    assert_eq!(report.count("failed"), 0);
}
