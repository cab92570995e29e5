//! A server that speaks German, to a role that may not choose another language: decisions are the same as in English.

use std::{sync::mpsc, thread, time::Duration};

use diesel::{Connection, PgConnection, connection::SimpleConnection};
use tenantry::{
    Config, Fleet,
    directory::{FixedList, TenantDirectory},
    doctor::Rules,
    domain::{self, Registry},
    migrate::{Migrations, Report, Run},
    pg,
    repair::{self, Repair, Undo},
    testing::TestDatabase,
};
use uuid::Uuid;

use crate::{
    cli::{TENANTRY, run_with},
    repairing::{run, two},
    support::{migrations, outcomes},
};

/// A role without privileges but those that it is given, for as long as this is there.
struct Clerk<'d> {
    db: &'d TestDatabase,
    role: String,
}

impl<'d> Clerk<'d> {
    /// One to whom the server of this database speaks German. `{role}` stands for its name.
    fn new(db: &'d TestDatabase, grants: &str) -> Self {
        let role = format!("clerk_{}", Uuid::new_v4().simple());
        let database = db.text("SELECT current_database()");
        db.execute(
            "public",
            &format!(
                "CREATE ROLE {role} LOGIN PASSWORD 'x'; ALTER DATABASE {database} SET lc_messages = 'de_DE.UTF-8'; {}",
                grants.replace("{role}", &role)
            ),
        );
        let clerk = Self { db, role };
        // A server that was built without translations speaks English, and says nevertheless that it does not.
        if db.text("SELECT bool_or(setting LIKE '%--enable-nls%') FROM pg_config WHERE name = 'CONFIGURE'") == "true" {
            let words = clerk.connect().batch_execute("SELECT FROM nowhere").unwrap_err().to_string();
            assert!(
                words.contains("existiert nicht"),
                "the server has no German messages: run script/bootstrap: {words}"
            );
        }
        clerk
    }

    fn url(&self) -> String {
        format!("postgres://{}:x@{}", self.role, self.db.url().split_once('@').unwrap().1)
    }

    fn config(&self) -> Config {
        Config::new(self.url().parse().unwrap())
    }

    fn connect(&self) -> PgConnection {
        pg::connect(&self.config()).unwrap()
    }
}

impl Drop for Clerk<'_> {
    fn drop(&mut self) {
        let role = &self.role;
        self.db.execute(
            "public",
            &format!("REASSIGN OWNED BY {role} TO CURRENT_USER; DROP OWNED BY {role}; DROP ROLE {role}"),
        );
    }
}

/// Two tenants, the first of which refers to two firms of `public`.
fn misplaced() -> TestDatabase {
    let db = TestDatabase::with_empty_schemas(["acme", "globex"]);
    for schema in ["public", "acme", "globex"] {
        db.execute(
            schema,
            "CREATE TABLE firms (id text PRIMARY KEY, name text); \
             CREATE TABLE links (firm text REFERENCES firms DEFERRABLE INITIALLY DEFERRED)",
        );
    }
    db.execute("public", "INSERT INTO firms VALUES ('a', 'A'), ('b', 'B')");
    db.execute("acme", "SET session_replication_role = replica; INSERT INTO links VALUES ('a'), ('b')");
    db
}

const ALL: &str = "GRANT USAGE ON SCHEMA public, acme, globex TO {role}; \
    GRANT ALL ON ALL TABLES IN SCHEMA public, acme, globex TO {role}";

const READ: &str = "GRANT USAGE ON SCHEMA public, acme, globex TO {role}; \
    GRANT SELECT ON ALL TABLES IN SCHEMA public, acme, globex TO {role}; \
    GRANT SELECT ON ALL SEQUENCES IN SCHEMA acme, globex TO {role}";

fn tenants() -> FixedList {
    FixedList(["acme", "globex"].map(|name| name.parse().unwrap()).into())
}

#[test]
fn a_lock_timeout_fails_the_tenant_and_is_no_refusal_of_a_row() {
    let db = misplaced();
    let clerk = Clerk::new(&db, ALL);
    let conn = &mut clerk.connect();
    let listing = tenants().list(conn).unwrap();
    let other = &mut db.connect();
    other.batch_execute("BEGIN; INSERT INTO acme.firms VALUES ('a', 'A')").unwrap();
    let rules = Rules::default();
    let repair = Repair::new(&rules).record(false).lock_timeout(Duration::from_millis(50));
    let report = repair.apply(conn, &listing).unwrap();
    other.batch_execute("ROLLBACK").unwrap();
    let [acme] = report.tenants.as_slice() else { panic!("{report:#?}") };
    assert!(acme.result.is_err(), "{report:#?}");
    assert_eq!(db.text("SELECT count(*) FROM acme.firms"), "0");
    assert!(repair.apply(conn, &listing).unwrap().is_healthy());
    assert_eq!(db.text("SELECT count(*) FROM acme.firms"), "2");
}

#[test]
fn a_row_that_violates_a_constraint_is_left_and_the_rest_is_repaired() {
    let db = misplaced();
    db.execute("acme", "ALTER TABLE firms ADD CONSTRAINT no_a CHECK (name <> 'A')");
    let clerk = Clerk::new(&db, ALL);
    let conn = &mut clerk.connect();
    let listing = tenants().list(conn).unwrap();
    let report = Repair::new(&Rules::default()).record(false).apply(conn, &listing).unwrap();
    let [acme] = report.tenants.as_slice() else { panic!("{report:#?}") };
    let outcome = acme.result.as_ref().unwrap();
    assert_eq!((outcome.copied[0].rows, outcome.left.len()), (1, 1), "{outcome:#?}");
}

#[test]
fn a_role_that_may_only_read_gets_the_proposal() {
    let db = misplaced();
    let clerk = Clerk::new(&db, READ);
    let conn = &mut clerk.connect();
    let listing = tenants().list(conn).unwrap();
    let report = Repair::new(&Rules::default()).propose(conn, &listing).unwrap();
    let [acme] = report.tenants.as_slice() else { panic!("{report:#?}") };
    assert_eq!((report.rehearsed, acme.result.as_ref().unwrap().copied[0].rows), (false, 2), "{report:#?}");
}

#[test]
fn a_constraint_of_anothers_table_is_left_and_the_rows_are_repaired() {
    let db = two();
    let id = Uuid::new_v4();
    db.execute("public", &format!("INSERT INTO business_business (id, name) VALUES ('{id}', 'Engines')"));
    db.execute(
        "acme",
        &format!(
            "ALTER TABLE users_userprofile DROP CONSTRAINT users_userprofile_business_id_fk; \
             INSERT INTO users_userprofile (user_id, business_id) VALUES ('{id}', '{id}')"
        ),
    );
    let database = db.text("SELECT current_database()");
    let grants =
        format!("GRANT CREATE ON DATABASE {database} TO {{role}}; GRANT ALL ON SCHEMA public TO {{role}}; {ALL}");
    let clerk = Clerk::new(&db, &grants);
    let report = run(&mut clerk.connect(), Repair::new(domain::rules()).migrations(domain::migrations().unwrap()));
    let [acme] = report.tenants.as_slice() else { panic!("{report:#?}") };
    let outcome = acme.result.as_ref().unwrap();
    assert_eq!((outcome.copied.len(), outcome.constraints.len(), outcome.left.len()), (1, 0, 1), "{report:#?}");
    Undo::new(report.repair.unwrap()).run(&mut clerk.connect()).unwrap();
}

/// A run as a role that owns all of it, over tenants that have the first of two migrations.
fn migrate(clerk: &Clerk<'_>, all: &Migrations, run: &Run<'_>) -> Report {
    let directory = tenants();
    let fleet = Fleet { migrations: all, directory: &directory, rules: domain::rules() };
    fleet.run(run, &|| pg::connect(&clerk.config())).unwrap()
}

#[test]
fn a_tenant_that_is_locked_is_tried_again() {
    let db = TestDatabase::with_empty_schemas(["acme", "globex"]);
    let database = db.text("SELECT current_database()");
    let clerk = Clerk::new(
        &db,
        &format!(
            "GRANT CREATE ON DATABASE {database} TO {{role}}; GRANT ALL ON SCHEMA public TO {{role}}; \
             ALTER SCHEMA acme OWNER TO {{role}}; ALTER SCHEMA globex OWNER TO {{role}}"
        ),
    );
    let one = migrations(&[("1_t", "CREATE TABLE t (id int)", "DROP TABLE t")]);
    assert_eq!(migrate(&clerk, &one, &Run::new(&one)).count("migrated"), 3);
    let all = migrations(&[
        ("1_t", "CREATE TABLE t (id int)", "DROP TABLE t"),
        ("2_x", "ALTER TABLE t ADD x int", "ALTER TABLE t DROP x"),
    ]);
    let holder = &mut db.connect();
    holder.batch_execute("BEGIN; LOCK TABLE acme.t IN ACCESS SHARE MODE").unwrap();
    let run = Run::new(&all).lock_timeout(Duration::from_millis(20)).attempts(2);
    let report = migrate(&clerk, &all, &run);
    assert_eq!(outcomes(&report), ["public migrated", "acme failed", "globex migrated"]);
    assert_eq!(report.lines[1].attempts, 2, "{report:#?}");
    holder.batch_execute("ROLLBACK").unwrap();
    assert_eq!(migrate(&clerk, &all, &run).count("migrated"), 1);
}

#[test]
fn two_first_repairs_at_the_same_time_are_both_recorded() {
    let db = two();
    for schema in ["acme", "globex"] {
        let id = Uuid::new_v4();
        db.execute("public", &format!("INSERT INTO business_business (id, name) VALUES ('{id}', 'Engines')"));
        db.execute(
            schema,
            &format!("SET session_replication_role = replica; INSERT INTO users_userprofile (user_id, business_id) VALUES ('{id}', '{id}')"),
        );
    }
    let database = db.text("SELECT current_database()");
    let clerk = Clerk::new(&db, &format!("GRANT CREATE ON DATABASE {database} TO {{role}}; {ALL}"));
    let only = |schema: &str| Repair::new(domain::rules()).only(vec![schema.parse().unwrap()]);
    let conn = &mut clerk.connect();
    conn.begin_test_transaction().unwrap();
    run(conn, only("acme"));
    let (sender, receiver) = mpsc::channel();
    thread::scope(|threads| {
        let second = threads.spawn(|| {
            let conn = &mut clerk.connect();
            sender.send(()).unwrap();
            run(conn, only("globex").lock_timeout(Duration::from_secs(20)))
        });
        receiver.recv().unwrap();
        // The second waits for the first, which is making the tables.
        let waits = "SELECT count(*) FROM pg_stat_activity \
                     WHERE datname = current_database() AND wait_event_type = 'Lock' AND state = 'active'";
        while db.text(waits) != "1" {
            thread::sleep(Duration::from_millis(10));
        }
        conn.batch_execute("COMMIT").unwrap();
        assert!(second.join().unwrap().is_healthy());
    });
    assert_eq!(repair::list(&mut clerk.connect(), 9).unwrap().len(), 2);
}

#[test]
fn a_missing_privilege_to_record_is_known_without_its_words() {
    let db = two();
    let clerk = Clerk::new(&db, ALL);
    let refused = run_with(TENANTRY, &["migrate"], &[("DATABASE_URL", &clerk.url())]);
    assert_eq!(refused.code, 1);
    assert!(refused.err.contains("grant the role CREATE on the database"), "{refused:?}");
    let listing = Registry.list(&mut clerk.connect()).unwrap();
    assert_eq!(listing.tenants.len(), 2);
}

#[test]
fn connections_of_ours_ask_for_english_where_the_role_may_choose() {
    let db = two();
    let clerk = Clerk::new(&db, "");
    let language = |mut conn: PgConnection| conn.batch_execute("SELECT FROM nowhere").unwrap_err().to_string();
    assert_eq!(language(db.connect()), "relation \"nowhere\" does not exist");
    if db.text("SELECT current_setting('server_version_num')::int >= 150000") == "true" {
        db.execute("public", &format!("GRANT SET ON PARAMETER lc_messages TO {}", clerk.role));
        assert_eq!(language(clerk.connect()), "relation \"nowhere\" does not exist");
    }
}
