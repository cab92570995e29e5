//! The repair of tables, rows and sessions as they should not be.

use std::{thread, time::Duration};

use diesel::{Connection, PgConnection, connection::SimpleConnection};
use tenantry::{
    directory::{FixedList, Listing, TenantDirectory},
    doctor::{Fill, Rules},
    repair::{Copied, Left, Outcome, Reason, Repair, Report, Undo, UndoReport, Undone},
    testing::TestDatabase,
};

use crate::support::dump;

/// `public`, `acme` and `globex`, each with firms that `links` refer to, and with these tables.
fn fleet(tables: &str) -> TestDatabase {
    let db = TestDatabase::with_empty_schemas(["acme", "globex"]);
    for schema in ["public", "acme", "globex"] {
        db.execute(
            schema,
            &format!(
                "CREATE TABLE firms (id text PRIMARY KEY, name text); \
                 CREATE TABLE links (firm text); ALTER TABLE links ADD CONSTRAINT links_firm FOREIGN KEY (firm) REFERENCES firms ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED NOT VALID; \
                 {tables}"
            ),
        );
    }
    db
}

/// Lets tenants refer to firms of `public`.
fn misplace<const N: usize>(db: &TestDatabase, firms: [(&str, &str); N]) {
    for (schema, firm) in firms {
        db.execute("public", &format!("INSERT INTO firms VALUES ('{firm}', 'of {schema}') ON CONFLICT DO NOTHING"));
        plant(db, schema, &format!("INSERT INTO links VALUES ('{firm}')"));
    }
}

/// Runs statements that foreign keys would forbid.
fn plant(db: &TestDatabase, schema: &str, sql: &str) {
    db.execute(schema, &format!("SET session_replication_role = replica; {sql}"));
}

fn listing(conn: &mut PgConnection) -> Listing {
    FixedList(vec!["acme".parse().unwrap(), "globex".parse().unwrap()]).list(conn).unwrap()
}

fn run(conn: &mut PgConnection, repair: Repair<'_>) -> Report {
    let listing = listing(conn);
    repair.apply(conn, &listing).unwrap()
}

fn repair(db: &TestDatabase) -> Report {
    run(&mut db.connect(), Repair::new(&Rules::default()))
}

/// What was done in one tenant.
#[track_caller]
fn of<'r>(report: &'r Report, schema: &str) -> &'r Outcome {
    let tenant = report.tenants.iter().find(|tenant| tenant.schema == schema);
    tenant.unwrap_or_else(|| panic!("{report:#?}")).result.as_ref().unwrap()
}

#[track_caller]
fn copied(report: &Report, schema: &str) -> Vec<(String, i64)> {
    of(report, schema).copied.iter().map(|Copied { table, rows }| (table.clone(), *rows)).collect()
}

/// The rows that were left, each with the words for why.
#[track_caller]
fn left(report: &Report, schema: &str) -> Vec<(String, String, String)> {
    let left = |left: &Left| (left.table.clone(), left.key.clone(), left.reason.to_string());
    of(report, schema).left.iter().map(left).collect()
}

/// Repairs, takes it back, and makes sure that all is as it was; what is repaired then is the same again.
#[track_caller]
fn there_and_back(db: &TestDatabase) -> Report {
    let before = dump(db);
    let report = repair(db);
    let after = dump(db);
    let again = repair(db);
    assert!(again.tenants.iter().all(|tenant| !tenant.result.as_ref().unwrap().changes()), "{again:#?}");
    if let Some(id) = report.repair {
        let [foreseen, undone] =
            [true, false].map(|dry_run| Undo::new(id).dry_run(dry_run).run(&mut db.connect()).unwrap());
        assert!(undone.is_healthy(), "{undone:#?}");
        assert_eq!(told(&foreseen), told(&undone), "a dry run foresees it");
        assert_eq!(dump(db), before, "an undo leaves all as it was");
        assert!(repair(db).repair.is_some());
    }
    assert_eq!(dump(db).rows_of("acme."), after.rows_of("acme."));
    report
}

fn told(report: &UndoReport) -> Vec<&Undone> {
    report.tenants.iter().map(|tenant| tenant.result.as_ref().unwrap()).collect()
}

fn rows(table: &str, rows: i64) -> (String, i64) {
    (table.into(), rows)
}

#[test]
fn values_of_every_type_are_copied_and_come_back_as_they_were() {
    let db = fleet("");
    db.execute("public", "CREATE TYPE mood AS ENUM ('sad', 'it''s, fine'); CREATE DOMAIN even AS int CHECK (VALUE % 2 = 0); CREATE TYPE pair AS (a int, b text)");
    for schema in ["public", "acme", "globex"] {
        db.execute(schema,
            "CREATE TABLE odd (firm text REFERENCES firms, a public.mood, b public.even, c public.mood[], d bytea, e int4range, f interval, g json, h jsonb, i numeric, \
               j float4, k float8, l timestamptz, m date, n bit(3), o inet, p char(5), q \"char\", r tsvector, s point, t public.pair, u text[][], v xml, w time with time zone, x int8range, \
               y public.even[], z varbit, \"it's \"\"odd\"\"\" text, place text, \"key\" text, before text, after text, u2 text, content text)");
    }
    misplace(&db, [("acme", "a")]);
    db.execute("public",
        "INSERT INTO odd VALUES ('a', 'it''s, fine', 4, '{sad,NULL}', '\\x00ff5c', '[1,3)', '1 mon -2 days 03:04:05.6', '{\"a\":  1, \"a\": 2}', '{\"b\": null}', 1.5000, \
           0.1, '-Infinity', '2025-03-15 15:17:43.636354+00', '0044-03-15 BC', '101', '10.0.0.1/8', 'x', 'y', 'a:1 b:2', '(0.1,2)', '(1,\"x, \"\"y\")', '{{a,\"\"},{NULL,\"b c\"}}', '<a/>', '03:04:05+02', '[1,)', \
           '{2,4}', '10', 'it''s', '(0,1)', '\\', '', E'\\n\\t', NULL, 'NULL'), \
         ('a', 'sad', NULL, '{}', '', 'empty', '-1 year', 'null', 'null', 'NaN', '-0', 'NaN', 'infinity', 'infinity', NULL, NULL, '', '', '', NULL, NULL, '{}', NULL, NULL, 'empty', '{}', '', '', '', '', '', '', '', '')");
    let conn = &mut db.connect();
    conn.batch_execute("SET datestyle = 'SQL, DMY'; SET timezone = 'Asia/Tokyo'; SET intervalstyle = 'iso_8601'; SET bytea_output = 'escape'; SET extra_float_digits = 0; SET xmloption = 'document'").unwrap();
    let before = dump(&db);
    let report = run(conn, Repair::new(&Rules::default()));
    assert_eq!(copied(&report, "acme"), [rows("firms", 1), rows("odd", 2)]);
    let all = |schema: &str| db.texts(&format!("SELECT o::text FROM {schema}.odd o ORDER BY 1"));
    assert_eq!(all("acme"), all("public"));
    assert!(run(conn, Repair::new(&Rules::default())).tenants.is_empty());
    let undone = Undo::new(report.repair.unwrap()).run(conn).unwrap();
    assert!(undone.is_healthy(), "{undone:#?}");
    assert_eq!(dump(&db), before);
}

#[test]
fn a_type_that_each_tenant_has_of_its_own_is_known_by_its_texts() {
    let db = fleet(
        "CREATE TYPE mood AS ENUM ('sad', 'fine'); CREATE TABLE days (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), firm text REFERENCES firms, mood mood)",
    );
    misplace(&db, [("acme", "a")]);
    db.execute("public", "INSERT INTO days (firm, mood) VALUES ('a', 'sad'), ('a', NULL)");
    let report = there_and_back(&db);
    assert_eq!(copied(&report, "acme"), [rows("days", 2), rows("firms", 1)]);
    assert_eq!(db.texts("SELECT mood FROM acme.days ORDER BY 1"), ["sad", "NULL"]);
}

#[test]
fn a_row_that_would_be_changed_by_the_tenants_types_is_left() {
    let db = fleet("CREATE TABLE prices (id text PRIMARY KEY, firm text REFERENCES firms, price numeric(9,4))");
    db.execute("acme", "ALTER TABLE prices ALTER price TYPE numeric(9,2)");
    db.execute("globex", "ALTER TABLE prices ALTER price TYPE int");
    misplace(&db, [("acme", "a"), ("acme", "b"), ("globex", "g")]);
    db.execute("public", "INSERT INTO prices VALUES ('1', 'a', 1.2345), ('2', 'b', 1.2500), ('3', 'g', 1.5)");
    let report = there_and_back(&db);
    assert_eq!(copied(&report, "acme"), [rows("firms", 1), rows("prices", 1)]);
    assert_eq!(db.texts("SELECT id || ' ' || price FROM acme.prices"), ["2 1.25"]);
    assert!(matches!(&left(&report, "acme")[..], [(table, key, _)] if table == "firms" && key == "a"), "{report:#?}");
    assert!(matches!(&left(&report, "globex")[..], [(table, key, _)] if table == "firms" && key == "g"), "{report:#?}");
}

#[test]
fn a_table_of_1500_columns_is_repaired_like_any_other() {
    let columns: Vec<String> = (0..1500).map(|at| format!("c{at} int DEFAULT {at}")).collect();
    let columns = columns.join(", ");
    // With a key and without.
    let db = fleet(&format!(
        "CREATE TABLE wide (id text PRIMARY KEY, firm text REFERENCES firms, {columns}); \
         CREATE TABLE loose (firm text REFERENCES firms, {columns})"
    ));
    misplace(&db, [("acme", "a")]);
    db.execute("public", "INSERT INTO wide (id, firm, c7) VALUES ('w', 'a', NULL); INSERT INTO loose (firm, c7) VALUES ('a', NULL), ('a', 8)");
    let report = there_and_back(&db);
    assert_eq!(copied(&report, "acme"), [rows("firms", 1), rows("loose", 2), rows("wide", 1)]);
    assert_eq!(db.texts("SELECT c1499 FROM acme.wide WHERE c7 IS NULL"), ["1499"]);
}

#[test]
fn names_may_have_spaces_quotes_and_the_names_that_queries_use() {
    let db = TestDatabase::with_empty_schemas(["Ac-me.1$"]);
    for schema in ["public", "Ac-me.1$"] {
        db.execute(schema,
            "CREATE TABLE \"it's \"\"the\"\" p\" (\"a\"\"b's\" text PRIMARY KEY, p text, t text, place text, \"select\" text); \
             CREATE TABLE t (\"c c\" text, \"Key\" serial, p text); ALTER TABLE t ADD CONSTRAINT \"it's \"\"a\"\" key\" FOREIGN KEY (\"c c\") REFERENCES \"it's \"\"the\"\" p\" ON DELETE CASCADE NOT VALID");
    }
    db.execute("public", "INSERT INTO \"it's \"\"the\"\" p\" VALUES ('it''s \"1\"', 'p', 't', 'place', '\\'); INSERT INTO t VALUES ('it''s \"1\"', 7, 'p')");
    plant(&db, "Ac-me.1$", "INSERT INTO t VALUES ('it''s \"1\"', 3, 'p')");
    let before = dump(&db);
    let conn = &mut db.connect();
    let listing = FixedList(vec!["Ac-me.1$".parse().unwrap()]).list(conn).unwrap();
    let report = Repair::new(&Rules::default()).apply(conn, &listing).unwrap();
    assert_eq!(copied(&report, "Ac-me.1$"), [rows("it's \"the\" p", 1), rows("t", 1)]);
    assert!(Repair::new(&Rules::default()).apply(conn, &listing).unwrap().tenants.is_empty());
    let undone = Undo::new(report.repair.unwrap()).run(conn).unwrap();
    assert!(undone.is_healthy(), "{undone:#?}");
    assert_eq!(dump(&db), before);
}

#[test]
fn a_row_that_an_exclusion_constraint_refuses_is_left_and_the_rest_is_repaired() {
    let db = fleet(
        "CREATE TABLE bookings (id text PRIMARY KEY, firm text REFERENCES firms, days int4range, CONSTRAINT once EXCLUDE USING gist (days WITH &&))",
    );
    misplace(&db, [("acme", "a"), ("acme", "b")]);
    db.execute("public", "INSERT INTO bookings VALUES ('1', 'a', '[1,5)'), ('2', 'b', '[7,9)')");
    db.execute("acme", "INSERT INTO bookings VALUES ('3', NULL, '[4,6)')");
    let report = there_and_back(&db);
    assert_eq!(copied(&report, "acme"), [rows("bookings", 1), rows("firms", 1)]);
    assert!(
        matches!(&left(&report, "acme")[..], [(table, key, why)] if table == "firms" && key == "a" && why.contains("once")),
        "{report:#?}"
    );
}

const DROPS: &str = "CREATE FUNCTION drops() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';";

#[test]
fn a_row_that_a_trigger_does_not_let_in_is_left_and_the_rest_is_repaired() {
    let db = fleet(
        "CREATE TABLE notes (id text PRIMARY KEY, firm text REFERENCES firms); CREATE TABLE loose (firm text REFERENCES firms)",
    );
    db.execute("acme", &format!("{DROPS} CREATE TRIGGER drops BEFORE INSERT ON firms FOR EACH ROW WHEN (NEW.id = 'a') EXECUTE FUNCTION drops(); \
        CREATE TRIGGER drops BEFORE INSERT ON notes FOR EACH ROW WHEN (NEW.id = '2') EXECUTE FUNCTION drops(); \
        CREATE TRIGGER drops BEFORE INSERT ON loose FOR EACH ROW EXECUTE FUNCTION drops()"));
    misplace(&db, [("acme", "a"), ("acme", "b"), ("acme", "c"), ("acme", "d")]);
    // The firm itself; what belongs to it; what belongs to it and has no key.
    db.execute("public", "INSERT INTO notes VALUES ('1', 'a'), ('2', 'b'), ('3', 'c'); INSERT INTO loose VALUES ('d')");
    let report = there_and_back(&db);
    assert_eq!(copied(&report, "acme"), [rows("firms", 1), rows("notes", 1)]);
    let keys: Vec<String> = left(&report, "acme").into_iter().map(|(_, key, _)| key).collect();
    assert_eq!(keys, ["a", "b", "d"], "{report:#?}");
}

#[test]
fn a_row_that_a_trigger_changes_is_copied_as_the_trigger_wants_it() {
    let db = fleet("");
    db.execute("acme",
        "CREATE FUNCTION shout() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.name = upper(NEW.name); RETURN NEW; END'; \
         CREATE TRIGGER shout BEFORE INSERT ON firms FOR EACH ROW EXECUTE FUNCTION shout()");
    misplace(&db, [("acme", "a")]);
    let report = there_and_back(&db);
    assert_eq!((copied(&report, "acme"), report.is_healthy()), (vec![rows("firms", 1)], true));
    assert_eq!(db.text("SELECT name FROM acme.firms"), "OF ACME");
}

#[test]
fn a_row_whose_key_a_trigger_changes_is_left_and_the_rest_is_repaired() {
    let db = fleet("");
    db.execute(
        "acme",
        "CREATE FUNCTION other() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.id = ''new''; RETURN NEW; END'; \
         CREATE TRIGGER other BEFORE INSERT ON firms FOR EACH ROW WHEN (NEW.id = 'a') EXECUTE FUNCTION other()",
    );
    misplace(&db, [("acme", "a"), ("acme", "b")]);
    let report = there_and_back(&db);
    assert_eq!(copied(&report, "acme"), [rows("firms", 1)]);
    assert!(matches!(&left(&report, "acme")[..], [(_, key, _)] if key == "a"), "{report:#?}");
}

#[test]
fn a_row_that_a_trigger_calls_a_violation_is_left_and_the_rest_is_repaired() {
    let db = fleet("");
    db.execute("acme",
        "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''not %'', NEW.id USING ERRCODE = ''check_violation''; END'; \
         CREATE CONSTRAINT TRIGGER no AFTER INSERT ON firms DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (NEW.id = 'a') EXECUTE FUNCTION no()");
    misplace(&db, [("acme", "a"), ("acme", "b")]);
    let report = there_and_back(&db);
    assert_eq!(copied(&report, "acme"), [rows("firms", 1)]);
    assert!(
        matches!(&left(&report, "acme")[..], [(_, key, why)] if key == "a" && why.contains("not a")),
        "{report:#?}"
    );
}

#[test]
fn any_other_error_of_a_trigger_fails_the_tenant_and_nothing_of_it_is_kept() {
    // A full disk, and what an application says in its own words.
    for code in ["disk_full", "raise_exception"] {
        let db = fleet("");
        db.execute("acme", &format!(
            "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''not %'', NEW.id USING ERRCODE = ''{code}''; END'; \
             CREATE TRIGGER no BEFORE INSERT ON firms FOR EACH ROW WHEN (NEW.id = 'a') EXECUTE FUNCTION no()"));
        misplace(&db, [("acme", "a"), ("acme", "b"), ("globex", "g")]);
        let report = repair(&db);
        let [acme, _] = report.tenants.as_slice() else { panic!("{report:#?}") };
        assert_eq!(acme.result.as_ref().unwrap_err().chain(), "not a");
        assert_eq!(copied(&report, "globex"), [rows("firms", 1)]);
        assert_eq!(db.text("SELECT count(*) FROM acme.firms"), "0");
    }
}

#[test]
fn a_null_that_a_trigger_does_not_let_go_is_left_and_the_rest_is_repaired() {
    let db = fleet("CREATE TABLE dated (id text PRIMARY KEY, made timestamptz, seen timestamptz)");
    db.execute(
        "acme",
        &format!(
            "{DROPS} INSERT INTO dated VALUES ('a', '2001-01-01', NULL); \
        CREATE TRIGGER drops BEFORE UPDATE ON dated FOR EACH ROW EXECUTE FUNCTION drops()"
        ),
    );
    misplace(&db, [("acme", "a")]);
    let rules = Rules {
        fills: vec![Fill { table: "dated".into(), column: "seen".into(), from: vec!["made".into()] }],
        ..Rules::default()
    };
    let report = run(&mut db.connect(), Repair::new(&rules));
    assert_eq!(copied(&report, "acme"), [rows("firms", 1)]);
    assert!(
        matches!(&left(&report, "acme")[..], [(table, key, _)] if table == "dated" && key == "seen"),
        "{report:#?}"
    );
}

#[test]
fn a_column_that_public_lacks_is_filled_by_its_rule() {
    // The incident's second script added the column to the tenants alone.
    let db = fleet("CREATE TABLE dated (id text PRIMARY KEY, firm text REFERENCES firms, made timestamptz)");
    db.execute("acme", "ALTER TABLE dated ADD seen timestamptz NOT NULL");
    db.execute("globex", "ALTER TABLE dated ADD seen timestamptz");
    misplace(&db, [("acme", "a"), ("globex", "g")]);
    db.execute("public", "INSERT INTO dated VALUES ('1', 'a', '2001-01-01'), ('2', 'g', '2002-01-01')");
    let rules = Rules {
        fills: vec![Fill { table: "dated".into(), column: "seen".into(), from: vec!["made".into()] }],
        ..Rules::default()
    };
    let report = run(&mut db.connect(), Repair::new(&rules));
    assert!(report.is_healthy(), "{report:#?}");
    let years =
        "SELECT extract(year FROM seen) FROM acme.dated UNION ALL SELECT extract(year FROM seen) FROM globex.dated";
    assert_eq!(db.texts(years), ["2001", "2002"]);
}

#[test]
fn tenants_at_other_versions_are_repaired_as_far_as_their_tables_go() {
    let db = fleet(
        "CREATE TABLE notes (id text PRIMARY KEY, firm text REFERENCES firms, body text); CREATE TABLE more (id text PRIMARY KEY, note text REFERENCES notes)",
    );
    // Behind: a table and a column are missing. Ahead: a column that public lacks and none knows a value for.
    db.execute("acme", "DROP TABLE more; ALTER TABLE notes DROP body");
    db.execute("globex", "ALTER TABLE notes ADD needed text NOT NULL");
    misplace(&db, [("acme", "a"), ("acme", "b"), ("globex", "g"), ("globex", "h")]);
    // A table that public lacks, though it has the column that refers to it.
    db.execute(
        "public",
        "ALTER TABLE firms ADD kind text; UPDATE firms SET kind = CASE id WHEN 'a' THEN 'k' WHEN 'b' THEN 'l' END",
    );
    db.execute("acme", "CREATE TABLE kinds (id text PRIMARY KEY); INSERT INTO kinds VALUES ('k'); ALTER TABLE firms ADD kind text REFERENCES kinds");
    db.execute(
        "public",
        "INSERT INTO notes VALUES ('1', 'a', 'b'), ('2', 'g', 'b'); INSERT INTO more VALUES ('1', '1'), ('2', '2')",
    );
    let report = there_and_back(&db);
    assert_eq!(copied(&report, "acme"), [rows("firms", 1), rows("notes", 1)]);
    assert!(matches!(&left(&report, "acme")[..], [(_, key, _)] if key == "b"), "{report:#?}");
    assert_eq!(copied(&report, "globex"), [rows("firms", 1)]);
    assert!(
        matches!(&left(&report, "globex")[..], [(_, key, why)] if key == "g" && why.contains("needed")),
        "{report:#?}"
    );
}

#[test]
fn rows_that_a_policy_hides_are_an_error_and_not_taken_for_missing() {
    let db = fleet("");
    misplace(&db, [("acme", "a"), ("globex", "a")]);
    let role = format!("clerk_{}", uuid::Uuid::new_v4().simple());
    // The role does not see that globex refers to the firm as well.
    db.execute("globex", &format!(
        "CREATE ROLE {role}; GRANT USAGE ON SCHEMA public, acme, globex TO {role}; GRANT ALL ON ALL TABLES IN SCHEMA public, acme, globex TO {role}; \
         ALTER TABLE links ENABLE ROW LEVEL SECURITY"));
    let conn = &mut db.connect();
    conn.batch_execute(&format!("SET ROLE {role}")).unwrap();
    let report = run(conn, Repair::new(&Rules::default()).record(false));
    conn.batch_execute(&format!("RESET ROLE; DROP OWNED BY {role}; DROP ROLE {role}")).unwrap();
    assert_eq!(db.text("SELECT count(*) FROM acme.firms"), "0", "{report:#?}");
    assert!(report.tenants.iter().any(|tenant| tenant.schema == "globex" && tenant.result.is_err()), "{report:#?}");
    assert!(left(&report, "acme").iter().any(|(_, _, why)| why.contains("globex")), "{report:#?}");
}

#[test]
fn a_row_that_somebody_else_inserts_meanwhile_is_there_once() {
    let db = fleet("CREATE TABLE notes (id text PRIMARY KEY, firm text REFERENCES firms)");
    misplace(&db, [("acme", "a"), ("acme", "b")]);
    db.execute("public", "INSERT INTO notes VALUES ('1', 'a')");
    let other = &mut db.connect();
    other.begin_test_transaction().unwrap();
    other.batch_execute("INSERT INTO acme.firms VALUES ('a', 'of acme')").unwrap();
    thread::scope(|threads| {
        let repair = threads.spawn(|| repair(&db));
        thread::sleep(Duration::from_millis(300));
        other.batch_execute("COMMIT").unwrap();
        let report = repair.join().unwrap();
        assert!(report.is_healthy(), "{report:#?}");
        assert_eq!(copied(&report, "acme"), [rows("firms", 1)]);
    });
    assert_eq!(db.texts("SELECT id FROM acme.firms ORDER BY 1"), ["a", "b"]);
}

#[test]
fn a_row_that_somebody_holds_fails_its_tenant_and_no_other() {
    let db = fleet("");
    misplace(&db, [("acme", "a"), ("globex", "g")]);
    let other = &mut db.connect();
    other.begin_test_transaction().unwrap();
    other.batch_execute("SELECT FROM public.firms WHERE id = 'a' FOR UPDATE").unwrap();
    let rules = Rules::default();
    let report = run(&mut db.connect(), Repair::new(&rules).lock_timeout(Duration::from_millis(100)));
    assert!(report.tenants[0].result.is_err(), "{report:#?}");
    assert_eq!(copied(&report, "globex"), [rows("firms", 1)]);
    assert_eq!(db.text("SELECT count(*) FROM acme.firms"), "0");
}

#[test]
fn a_row_that_somebody_writes_in_the_tenant_waits_and_is_kept() {
    let db = fleet("CREATE TABLE dated (id text PRIMARY KEY, made timestamptz, seen timestamptz)");
    db.execute("acme", "INSERT INTO dated VALUES ('a', '2001-01-01', NULL)");
    let rules = Rules {
        fills: vec![Fill { table: "dated".into(), column: "seen".into(), from: vec!["made".into()] }],
        ..Rules::default()
    };
    let other = &mut db.connect();
    other.begin_test_transaction().unwrap();
    other.batch_execute("UPDATE acme.dated SET seen = '2009-01-01'").unwrap();
    thread::scope(|threads| {
        let repair = threads.spawn(|| run(&mut db.connect(), Repair::new(&rules)));
        thread::sleep(Duration::from_millis(300));
        other.batch_execute("COMMIT").unwrap();
        let report = repair.join().unwrap();
        assert!(report.is_healthy(), "{report:#?}");
    });
    assert_eq!(db.text("SELECT extract(year FROM seen) FROM acme.dated"), "2009");
}

#[test]
fn partitioned_tables_are_repaired_and_put_back() {
    let db = fleet(
        "CREATE TABLE orders (id int, region text, firm text REFERENCES firms ON DELETE CASCADE, PRIMARY KEY (id, region)) PARTITION BY LIST (region); \
         CREATE TABLE \"orders north\" PARTITION OF orders FOR VALUES IN ('n'); CREATE TABLE orders_rest PARTITION OF orders DEFAULT; \
         CREATE TABLE lines (id text PRIMARY KEY, \"order\" int, region text, FOREIGN KEY (\"order\", region) REFERENCES orders)",
    );
    // A tenant that lacks a partition.
    db.execute("globex", "ALTER TABLE orders DETACH PARTITION orders_rest; DROP TABLE orders_rest");
    misplace(&db, [("acme", "a"), ("globex", "g"), ("globex", "h")]);
    db.execute(
        "public",
        "INSERT INTO orders VALUES (1, 'n', 'a'), (2, 's', 'a'), (1, 's', 'g'), (2, 'n', 'h'); \
        INSERT INTO lines VALUES ('1', 1, 'n'), ('2', 2, 's'), ('3', 1, 's'), ('4', 2, 'n')",
    );
    let report = there_and_back(&db);
    assert_eq!(copied(&report, "acme"), [rows("firms", 1), rows("lines", 2), rows("orders", 2)]);
    assert_eq!(copied(&report, "globex"), [rows("firms", 1), rows("lines", 1), rows("orders", 1)]);
    assert!(matches!(&left(&report, "globex")[..], [(_, key, _)] if key == "g"), "{report:#?}");
}

#[test]
fn rows_of_inherited_tables_are_copied_to_the_tables_they_are_in() {
    let db = fleet(
        "CREATE TABLE notes (id text PRIMARY KEY, firm text REFERENCES firms); \
        CREATE TABLE letters (stamp text, PRIMARY KEY (id), FOREIGN KEY (firm) REFERENCES firms) INHERITS (notes)",
    );
    misplace(&db, [("acme", "a")]);
    db.execute("public", "INSERT INTO notes VALUES ('1', 'a'); INSERT INTO letters VALUES ('2', 'a', 'red')");
    let report = there_and_back(&db);
    assert_eq!(copied(&report, "acme"), [rows("firms", 1), rows("letters", 1), rows("notes", 1)]);
    assert_eq!(db.texts("SELECT id FROM ONLY acme.notes"), ["1"]);
    assert_eq!(db.texts("SELECT id || stamp FROM acme.letters"), ["2red"]);
}

#[test]
fn a_row_of_an_inherited_table_is_not_what_a_foreign_key_means() {
    let db = fleet("CREATE TABLE companies () INHERITS (firms)");
    misplace(&db, [("acme", "a")]);
    db.execute("acme", "INSERT INTO companies VALUES ('a', 'another')");
    let report = there_and_back(&db);
    assert_eq!(copied(&report, "acme"), [rows("firms", 1)]);
}

#[test]
fn an_undo_removes_rows_that_hang_on_each_other_by_cascade() {
    for more in ["", "DEFERRABLE INITIALLY DEFERRED"] {
        for action in ["NO ACTION", "CASCADE", "RESTRICT", "SET NULL"] {
            let db = fleet(&format!(
                "CREATE TABLE acts (id text PRIMARY KEY, firm text REFERENCES firms ON DELETE {action} {more}, answers text REFERENCES acts ON DELETE {action} {more}); \
                 CREATE TABLE a_zones (id text PRIMARY KEY, note text REFERENCES acts ON DELETE {action} {more})"
            ));
            misplace(&db, [("acme", "a")]);
            db.execute("public", "INSERT INTO acts VALUES ('1', 'a', NULL), ('2', 'a', '1'), ('3', NULL, '2'); INSERT INTO a_zones VALUES ('z', '3')");
            let report = there_and_back(&db);
            assert_eq!(copied(&report, "acme"), [rows("a_zones", 1), rows("acts", 3), rows("firms", 1)]);
        }
    }
}

#[test]
fn an_undo_does_not_reach_into_other_schemas() {
    let db = fleet("");
    misplace(&db, [("acme", "a")]);
    let id = repair(&db).repair.unwrap();
    db.execute("public", "CREATE SCHEMA archive; CREATE TABLE archive.files (firm text REFERENCES acme.firms ON DELETE CASCADE); INSERT INTO archive.files VALUES ('a')");
    let undone = Undo::new(id).run(&mut db.connect()).unwrap();
    assert_eq!(db.text("SELECT count(*) FROM archive.files"), "1", "{undone:#?}");
    assert_eq!(db.text("SELECT count(*) FROM acme.firms"), "1", "{undone:#?}");
    let Undone { kept, .. } = undone.tenants[0].result.as_ref().unwrap();
    assert!(matches!(&kept[..], [kept] if kept.table == "firms" && kept.why.contains("archive.files")), "{undone:#?}");
}

#[test]
fn a_partitioned_tables_foreign_key_that_rows_break_is_put_back_or_the_undo_says_why_not() {
    let db = fleet(
        "CREATE TABLE orders (id int PRIMARY KEY, firm text REFERENCES firms ON DELETE CASCADE) PARTITION BY LIST (id); CREATE TABLE orders_all PARTITION OF orders DEFAULT",
    );
    misplace(&db, [("acme", "a")]);
    plant(&db, "acme", "DELETE FROM links; INSERT INTO orders VALUES (1, 'a')");
    let before = dump(&db);
    let report = repair(&db);
    assert_eq!(copied(&report, "acme"), [rows("firms", 1)]);
    let after = dump(&db);
    let undone = Undo::new(report.repair.unwrap()).run(&mut db.connect()).unwrap();
    match &undone.tenants[0].result {
        // PostgreSQL 18 has them NOT VALID, as rows refer in vain again.
        Ok(undone) => {
            let loosened = undone.loosened.iter().map(|name| ("acme".to_owned(), name.clone()));
            assert_eq!(dump(&db), before.not_valid(&loosened.collect::<Vec<_>>()));
        }
        Err(error) => assert_eq!(dump(&db), after, "{error:?}"),
    }
}

#[test]
fn other_applications_schemas_are_left_alone() {
    let db = fleet("");
    db.execute("public", "CREATE SCHEMA other; CREATE TABLE other.firms (LIKE firms INCLUDING ALL); CREATE TABLE other.links (firm text REFERENCES other.firms DEFERRABLE INITIALLY DEFERRED)");
    misplace(&db, [("acme", "a")]);
    // Large values lie in pg_toast.
    db.execute(
        "public",
        "UPDATE firms SET name = (SELECT string_agg(md5(n::text), '') FROM generate_series(1, 9000) n)",
    );
    plant(&db, "other", "INSERT INTO links VALUES ('a'), ('b')");
    let others = dump(&db).rows_of("other.").into_iter().cloned().collect::<Vec<_>>();
    let report = there_and_back(&db);
    assert_eq!(copied(&report, "acme"), [rows("firms", 1)]);
    assert_eq!(db.text("SELECT a.name = p.name FROM acme.firms a, public.firms p"), "true");
    assert_eq!(dump(&db).rows_of("other."), others.iter().collect::<Vec<_>>());
}

#[test]
fn what_belongs_to_two_tenants_is_known_whatever_the_session_writes_dates_like() {
    // Without a key, and with one that is a time.
    let db = fleet(
        "CREATE TABLE deals (seller text REFERENCES firms, buyer text REFERENCES firms, at timestamptz); \
        CREATE TABLE hours (at timestamptz PRIMARY KEY, one text REFERENCES firms, other text REFERENCES firms)",
    );
    misplace(&db, [("acme", "a"), ("globex", "g")]);
    db.execute("public", "INSERT INTO deals VALUES ('a', 'g', '2024-03-15 12:00+00'); INSERT INTO hours VALUES ('2024-03-15 12:00+00', 'a', 'g')");
    let conn = &mut db.connect();
    conn.batch_execute("SET timezone = 'Asia/Tokyo'; SET datestyle = 'SQL, DMY'").unwrap();
    let report = run(conn, Repair::new(&Rules::default()));
    for schema in ["acme", "globex"] {
        assert_eq!(copied(&report, schema), [rows("firms", 1)]);
        assert_eq!(left(&report, schema).len(), 2, "{report:#?}");
    }
}

#[test]
fn a_row_that_two_tenants_refer_to_is_nobodys_even_where_one_could_not_have_it() {
    let db = fleet(
        "CREATE TABLE groups (id serial PRIMARY KEY, name text); ALTER TABLE firms ADD \"group\" int REFERENCES groups",
    );
    // The number of the firm's group is another group's at globex.
    db.execute("public", "INSERT INTO groups (name) VALUES ('ours'); INSERT INTO firms VALUES ('a', 'A', 1)");
    db.execute("globex", "INSERT INTO groups (name) VALUES ('another')");
    for schema in ["acme", "globex"] {
        plant(&db, schema, "INSERT INTO links VALUES ('a')");
    }
    let report = repair(&db);
    assert_eq!(copied(&report, "acme"), []);
    let contested = |left: &Left| matches!(&left.reason, Reason::Contested { tenants } if tenants.len() == 2);
    assert!(of(&report, "acme").left.iter().any(contested), "{report:#?}");
}

#[test]
fn keys_that_read_alike_are_told_apart() {
    let db = fleet(
        "CREATE TABLE deals (id text, no text, firm text REFERENCES firms, other text REFERENCES firms, PRIMARY KEY (id, no))",
    );
    misplace(&db, [("acme", "a"), ("globex", "g")]);
    db.execute("public", "INSERT INTO deals VALUES ('x, y', 'z', 'a', 'g'), ('x', 'y, z', 'a', NULL)");
    let report = repair(&db);
    assert_eq!(copied(&report, "acme"), [rows("deals", 1), rows("firms", 1)]);
    assert_eq!(db.texts("SELECT no FROM acme.deals"), ["y, z"]);
}

#[test]
fn a_key_that_the_tenant_has_lost_still_tells_rows_apart() {
    let db = fleet("CREATE TABLE details (firm text PRIMARY KEY REFERENCES firms, country text)");
    db.execute("acme", "ALTER TABLE details DROP CONSTRAINT details_pkey, DROP CONSTRAINT details_firm_fkey");
    misplace(&db, [("acme", "a"), ("acme", "b")]);
    db.execute("public", "INSERT INTO details VALUES ('a', 'DE'), ('b', 'FR')");
    plant(&db, "acme", "INSERT INTO details VALUES ('a', 'edited')");
    let report = there_and_back(&db);
    assert_eq!(copied(&report, "acme"), [rows("details", 1), rows("firms", 2)]);
    assert!(matches!(&left(&report, "acme")[..], [(table, key, _)] if table == "details" && key == "a"), "{report:#?}");
    assert_eq!(db.texts("SELECT country FROM acme.details ORDER BY 1"), ["FR", "edited"]);
}

#[test]
fn numbers_are_given_anew_where_the_sequence_is_behind() {
    let db = fleet(
        "CREATE TABLE notes (id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, code text UNIQUE, firm text REFERENCES firms)",
    );
    misplace(&db, [("acme", "a")]);
    db.execute("public", "INSERT INTO notes (code, firm) VALUES ('p1', 'a'), ('p2', 'a')");
    db.execute("acme", "INSERT INTO notes (id, code) VALUES (1, 'a1'), (2, 'a2'), (3, 'a3')");
    let report = repair(&db);
    assert_eq!(
        (copied(&report, "acme"), report.is_healthy()),
        (vec![rows("firms", 1), rows("notes", 2)], true),
        "{report:#?}"
    );
    db.execute("acme", "INSERT INTO notes (code) VALUES ('a6')");
    assert!(Undo::new(report.repair.unwrap()).run(&mut db.connect()).is_ok());
    assert_eq!(db.texts("SELECT code FROM acme.notes ORDER BY 1"), ["a1", "a2", "a3", "a6"]);
}

#[test]
fn a_number_that_the_sequence_cannot_reach_is_copied_all_the_same() {
    let db = fleet(
        "CREATE TABLE notes (id int GENERATED BY DEFAULT AS IDENTITY (MAXVALUE 100) PRIMARY KEY, firm text REFERENCES firms)",
    );
    misplace(&db, [("acme", "a")]);
    db.execute("public", "INSERT INTO notes (id, firm) VALUES (1000, 'a')");
    let report = there_and_back(&db);
    assert_eq!(copied(&report, "acme"), [rows("firms", 1), rows("notes", 1)]);
}

#[test]
fn tables_that_refer_to_each_other_at_once_are_filled_row_by_row() {
    let db = fleet(
        "CREATE TABLE boxes (id text PRIMARY KEY, firm text REFERENCES firms); \
        CREATE TABLE rooms (id text PRIMARY KEY, box text REFERENCES boxes); ALTER TABLE boxes ADD room text REFERENCES rooms",
    );
    misplace(&db, [("acme", "a")]);
    // No row refers to itself by way of others, though the tables do.
    db.execute("public", "INSERT INTO boxes VALUES ('b1', 'a'); INSERT INTO rooms VALUES ('r1', 'b1'); INSERT INTO boxes VALUES ('b2', 'a', 'r1'); INSERT INTO rooms VALUES ('r2', 'b2')");
    let report = there_and_back(&db);
    assert_eq!(copied(&report, "acme"), [rows("boxes", 2), rows("firms", 1), rows("rooms", 2)]);
}

#[test]
fn columns_of_one_key_may_have_collations_of_their_own() {
    let db = fleet(
        "CREATE TABLE towns (land text COLLATE \"C\", name text COLLATE \"POSIX\", PRIMARY KEY (land, name)); \
         CREATE TABLE shops (land text COLLATE \"C\", town text COLLATE \"POSIX\", \
                             FOREIGN KEY (land, town) REFERENCES towns)",
    );
    db.execute("public", "INSERT INTO towns VALUES ('A', 'Wien'), ('B', 'Gent')");
    plant(&db, "acme", "INSERT INTO shops VALUES ('A', 'Wien')");
    plant(&db, "globex", "INSERT INTO shops VALUES ('B', 'Gent')");
    let report = repair(&db);
    for schema in ["acme", "globex"] {
        assert_eq!(copied(&report, schema), [("towns".to_owned(), 1)]);
    }
}

#[test]
fn a_column_may_refer_to_one_of_another_collation() {
    let db = fleet(
        "CREATE TABLE towns (name text COLLATE \"C\" PRIMARY KEY); \
         CREATE TABLE shops (town text COLLATE \"POSIX\" REFERENCES towns)",
    );
    db.execute("public", "INSERT INTO towns VALUES ('Wien')");
    plant(&db, "acme", "INSERT INTO shops VALUES ('Wien')");
    let report = run(&mut db.connect(), Repair::new(&Rules::default()).remove_originals(true));
    assert_eq!(copied(&report, "acme"), [("towns".to_owned(), 1)]);
    assert_eq!(of(&report, "acme").removed, [Copied { table: "towns".into(), rows: 1 }]);
    let undone = Undo::new(report.repair.unwrap()).run(&mut db.connect()).unwrap();
    assert_eq!(undone.tenants[0].result.as_ref().unwrap().removed, [Copied { table: "towns".into(), rows: 1 }]);
}

#[test]
fn to_see_which_of_many_originals_are_needed_takes_no_longer_for_each_the_more_there_are() {
    let db = fleet("CREATE TABLE notes (id uuid PRIMARY KEY, answers uuid REFERENCES notes)");
    for schema in ["public", "acme"] {
        db.execute(
            schema,
            "INSERT INTO notes SELECT md5(n::text)::uuid, CASE WHEN n > 1 THEN md5((n - 1)::text)::uuid END \
             FROM generate_series(1, 30000) n; CREATE INDEX ON notes (answers); ANALYZE notes",
        );
    }
    let conn = &mut db.connect();
    conn.batch_execute("SET statement_timeout = '4s'").unwrap();
    let report = run(conn, Repair::new(&Rules::default()).remove_originals(true));
    assert_eq!(of(&report, "acme").removed, [Copied { table: "notes".into(), rows: 30000 }]);
    let undone = Undo::new(report.repair.unwrap()).run(conn).unwrap();
    assert_eq!(undone.tenants[0].result.as_ref().unwrap().returned, [Copied { table: "notes".into(), rows: 30000 }]);
}
