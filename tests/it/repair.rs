//! The repair of what the incident left behind.

use std::{thread, time::Duration};

use crate::support::{migrated, tenant};
use diesel::{Connection, PgConnection, connection::SimpleConnection};
use tenantry::{
    Error, SchemaName,
    directory::{SchemaPattern, TenantDirectory},
    doctor::{self, Problem},
    domain::{self, Registry, models::Tenant},
    repair::{Copied, Filled, Left, Outcome, Reason, Repair, Report},
    testing::TestDatabase,
};

const B1: &str = "bd8f8654-0752-4843-b076-0d7b2dc2e6d7";
const B2: &str = "d59d21aa-6602-47f1-a91e-72bf6ddb8cab";

fn fleet<const N: usize>(names: [&str; N]) -> (TestDatabase, [Tenant; N]) {
    let db = migrated();
    let tenants = names.map(|name| tenant(&mut db.connect(), name).0);
    (db, tenants)
}

fn repair(db: &TestDatabase) -> Report {
    run(&mut db.connect(), Repair::new(domain::rules()))
}

fn run(conn: &mut PgConnection, repair: Repair<'_>) -> Report {
    let listing = Registry.list(conn).unwrap();
    repair.run(conn, &listing).unwrap()
}

/// What was done in the only tenant that was ill.
#[track_caller]
fn only(report: &Report) -> &Outcome {
    let [ill] = report.tenants.as_slice() else { panic!("{report:#?}") };
    ill.result.as_ref().unwrap()
}

/// Writes what foreign keys would forbid, as a superuser who has switched their triggers off.
fn force(db: &TestDatabase, schema: &str, sql: &str) {
    db.execute(schema, &format!("SET session_replication_role = replica; {sql}"));
}

fn business(db: &TestDatabase, schema: &str, id: &str, name: &str, number: &str) {
    db.execute(
        schema,
        &format!("INSERT INTO business_business (id, name, business_num) VALUES ('{id}', '{name}', '{number}')"),
    );
}

/// A profile that refers to a business of another schema, or of none.
fn orphan(db: &TestDatabase, schema: &str, business: &str) {
    force(
        db,
        schema,
        &format!("INSERT INTO users_userprofile (user_id, business_id) VALUES (gen_random_uuid(), '{business}')"),
    );
}

fn copied(table: &str, rows: i64) -> Copied {
    Copied { table: table.into(), rows }
}

fn rows(db: &TestDatabase, table: &str) -> String {
    db.text(&format!("SELECT count(*) FROM {table}"))
}

/// Every row of a schema's tables, for before and after.
fn dump(db: &TestDatabase, schema: &str) -> Vec<String> {
    ["business_business", "business_business_details", "users_userprofile"]
        .map(|table| db.texts(&format!("SELECT t FROM {schema}.{table} t ORDER BY t::text")))
        .concat()
}

#[test]
fn a_healthy_fleet_needs_nothing() {
    let (db, _) = fleet(["acme", "globex"]);
    business(&db, "acme", B1, "Engines", "000001");
    db.execute(
        "acme",
        &format!("INSERT INTO users_userprofile (user_id, business_id) VALUES (gen_random_uuid(), '{B1}')"),
    );
    let report = repair(&db);
    assert!(report.tenants.is_empty() && report.is_healthy() && report.examined == 2, "{report:?}");
}

#[test]
fn a_business_in_public_is_copied_with_its_details() {
    let (db, _) = fleet(["acme", "globex"]);
    business(&db, "public", B1, "Engines", "000001");
    business(&db, "public", B2, "Somebody''s", "000002");
    db.execute("public", &format!("INSERT INTO business_business_details (business_id, legal_structure) VALUES ('{B1}', 'LLC'), ('{B2}', 'LLC')"));
    orphan(&db, "acme", B1);
    let public = dump(&db, "public");

    let found = doctor::examine(&mut db.connect(), &"acme".parse().unwrap(), domain::rules()).unwrap().findings;
    assert!(
        matches!(&found[..], [finding] if matches!(&finding.problem, Problem::Orphans { rows: 1, in_public: true, .. })),
        "{found:?}"
    );

    let report = repair(&db);
    assert_eq!(only(&report).copied, [copied("business_business", 1), copied("business_business_details", 1)]);
    assert!(report.is_healthy());
    assert_eq!(
        db.text("SELECT concat_ws(' ', id, name, business_num) FROM acme.business_business"),
        format!("{B1} Engines 000001")
    );
    assert_eq!(db.text("SELECT legal_structure FROM acme.business_business_details"), "LLC");
    assert_eq!(dump(&db, "public"), public, "the originals stay");
    assert_eq!(rows(&db, "globex.business_business"), "0");
    // Every constraint holds again.
    db.execute("acme", "ALTER TABLE users_userprofile DROP CONSTRAINT users_userprofile_business_id_fk; \
        ALTER TABLE users_userprofile ADD CONSTRAINT users_userprofile_business_id_fk FOREIGN KEY (business_id) REFERENCES business_business (id)");
    assert!(repair(&db).tenants.is_empty(), "the second time there is nothing to do");
}

#[test]
fn every_other_record_that_belongs_to_it_comes_along() {
    let (db, [acme, globex]) = fleet(["acme", "globex"]);
    for schema in ["public", "acme", "globex"] {
        db.execute(schema,
            "CREATE TABLE \"Order lines\" (\"No\" int, business_id uuid REFERENCES business_business, parent int, total int GENERATED ALWAYS AS (\"No\" * 2) STORED, \
               PRIMARY KEY (\"No\", business_id), FOREIGN KEY (parent, business_id) REFERENCES \"Order lines\"); \
             CREATE TABLE notes (no int, business_id uuid, text text, FOREIGN KEY (no, business_id) REFERENCES \"Order lines\")");
    }
    business(&db, "public", B1, "Engines", "000001");
    db.execute(
        "public",
        &format!(
            "INSERT INTO \"Order lines\" VALUES (1, '{B1}', NULL), (2, '{B1}', 1); \
         INSERT INTO notes VALUES (2, '{B1}', 'a'), (2, '{B1}', 'a'), (NULL, '{B1}', 'unrelated'); \
         INSERT INTO users_userprofile (user_id, business_id, tenant_id) VALUES \
            ('{B1}', '{B1}', '{}'), ('{B2}', '{B1}', NULL), (gen_random_uuid(), '{B1}', '{}')",
            acme.id, globex.id
        ),
    );
    orphan(&db, "acme", B1);
    let report = repair(&db);
    let outcome = only(&report);
    assert_eq!(
        outcome.copied,
        [copied("Order lines", 2), copied("business_business", 1), copied("notes", 2), copied("users_userprofile", 2)]
    );
    assert!(
        matches!(&outcome.left[..], [Left { reason: Reason::OfAnotherTenant { owner }, .. }] if *owner == globex.id.to_string()),
        "{outcome:?}"
    );
    assert_eq!(db.texts("SELECT total FROM acme.\"Order lines\" ORDER BY 1"), ["2", "4"]);
    assert_eq!(
        db.text("SELECT count(DISTINCT id) FROM acme.users_userprofile"),
        "3",
        "numbers that the tenant uses are given anew"
    );
    // The next number that the tenant draws is free.
    db.execute("acme", "INSERT INTO users_userprofile (user_id) VALUES (gen_random_uuid())");
    assert!(repair(&db).tenants.is_empty());
}

#[test]
fn what_a_copied_row_refers_to_is_copied_first() {
    let (db, _) = fleet(["acme"]);
    for schema in ["public", "acme"] {
        db.execute(schema,
            "CREATE TABLE groups (id int PRIMARY KEY, leader uuid); ALTER TABLE business_business ADD group_id int REFERENCES groups; \
             ALTER TABLE groups ADD FOREIGN KEY (leader) REFERENCES business_business DEFERRABLE INITIALLY DEFERRED");
    }
    // A cycle: the group is led by one of its businesses.
    db.execute("public", &format!(
        "INSERT INTO groups VALUES (1, NULL); INSERT INTO business_business (id, name, group_id) VALUES ('{B1}', 'Led', 1), ('{B2}', 'Leader', 1); \
         UPDATE groups SET leader = '{B2}'"));
    orphan(&db, "acme", B1);
    let report = repair(&db);
    assert_eq!(only(&report).copied, [copied("business_business", 2), copied("groups", 1)]);
    assert_eq!(db.texts("SELECT name FROM acme.business_business ORDER BY 1"), ["Leader", "Led"]);
}

#[test]
fn what_is_only_referred_to_does_not_bring_the_rows_of_others() {
    let (db, _) = fleet(["acme"]);
    for schema in ["public", "acme"] {
        db.execute(
            schema,
            "CREATE TABLE groups (id int PRIMARY KEY); ALTER TABLE business_business ADD group_id int REFERENCES groups",
        );
    }
    db.execute(
        "public",
        &format!(
            "INSERT INTO groups VALUES (1); \
             INSERT INTO business_business (id, name, group_id) VALUES ('{B1}', 'Ours', 1), ('{B2}', 'Another tenant''s', 1)"
        ),
    );
    orphan(&db, "acme", B1);
    assert_eq!(only(&repair(&db)).copied, [copied("business_business", 1), copied("groups", 1)]);
    assert_eq!(db.texts("SELECT name FROM acme.business_business"), ["Ours"]);
}

#[test]
fn rows_of_partitions_are_told_apart() {
    let (db, _) = fleet(["acme"]);
    db.execute(
        "public",
        "CREATE TABLE orders (id int, business_id uuid REFERENCES business_business) PARTITION BY LIST (id); \
         CREATE TABLE orders_1 PARTITION OF orders FOR VALUES IN (1); \
         CREATE TABLE orders_2 PARTITION OF orders FOR VALUES IN (2)",
    );
    db.execute("acme", "CREATE TABLE orders (id int, business_id uuid REFERENCES business_business)");
    business(&db, "public", B1, "Ours", "000001");
    business(&db, "public", B2, "Another", "000002");
    // Both are the first row of their partition.
    db.execute("public", &format!("INSERT INTO orders VALUES (1, '{B1}'), (2, '{B2}')"));
    orphan(&db, "acme", B1);
    assert_eq!(only(&repair(&db)).copied, [copied("business_business", 1), copied("orders", 1)]);
    assert_eq!(db.texts("SELECT id FROM acme.orders"), ["1"]);
}

#[test]
fn a_row_that_names_an_owner_is_not_copied_to_a_tenant_whose_id_is_unknown() {
    let (db, [_, globex]) = fleet(["acme", "globex"]);
    business(&db, "public", B1, "Engines", "000001");
    db.execute(
        "public",
        &format!(
            "INSERT INTO users_userprofile (user_id, business_id, tenant_id) VALUES ('{B2}', '{B1}', '{}')",
            globex.id
        ),
    );
    orphan(&db, "acme", B1);
    let conn = &mut db.connect();
    let listing = SchemaPattern::new("acme").list(conn).unwrap();
    let report = Repair::new(domain::rules()).run(conn, &listing).unwrap();
    assert_eq!(only(&report).copied, [copied("business_business", 1)]);
    assert!(matches!(&only(&report).left[..], [Left { reason: Reason::OfAnotherTenant { .. }, .. }]), "{report:?}");
}

#[test]
fn nulls_are_filled_from_the_row_itself() {
    let (db, _) = fleet(["acme"]);
    db.execute("acme",
        "ALTER TABLE users_userprofile ALTER updated_at DROP NOT NULL, ALTER modified_at DROP NOT NULL, ALTER created_at DROP NOT NULL; \
         ALTER TABLE business_business ALTER updated_at DROP NOT NULL; \
         INSERT INTO users_userprofile (user_id, created_at, modified_at, updated_at) VALUES \
            (gen_random_uuid(), '2001-01-01', '2002-02-02', NULL), (gen_random_uuid(), '2001-01-01', NULL, '2003-03-03'), \
            (gen_random_uuid(), '2001-01-01', NULL, NULL), (gen_random_uuid(), NULL, NULL, NULL), (gen_random_uuid(), '2001-01-01', '2002-02-02', '2003-03-03')");
    db.execute(
        "acme",
        &format!(
            "INSERT INTO business_business (id, name, created_at, updated_at) VALUES ('{B1}', 'E', '2001-01-01', NULL)"
        ),
    );
    let report = repair(&db);
    let filled = |table: &str, column: &str, rows| Filled { table: table.into(), column: column.into(), rows };
    assert_eq!(
        only(&report).filled,
        [
            filled("users_userprofile", "modified_at", 3),
            filled("users_userprofile", "updated_at", 3),
            filled("business_business", "updated_at", 1),
        ]
    );
    let years = db.texts("SELECT extract(year FROM modified_at) || ' ' || extract(year FROM updated_at) FROM acme.users_userprofile ORDER BY id");
    let now = db.text("SELECT extract(year FROM now())");
    assert_eq!(years, ["2002 2002", "2003 2003", "2001 2001", &format!("{now} {now}"), "2002 2003"]);
    assert_eq!(db.text("SELECT extract(year FROM updated_at) FROM acme.business_business"), "2001");
    assert!(repair(&db).tenants.is_empty());
}

#[test]
fn a_null_is_filled_on_the_way_into_a_column_that_forbids_it() {
    let (db, _) = fleet(["acme"]);
    db.execute("public", "ALTER TABLE business_business ALTER updated_at DROP NOT NULL");
    db.execute(
        "public",
        &format!(
            "INSERT INTO business_business (id, name, created_at, updated_at) VALUES ('{B1}', 'E', '2001-01-01', NULL)"
        ),
    );
    orphan(&db, "acme", B1);
    assert!(repair(&db).is_healthy());
    assert_eq!(db.text("SELECT extract(year FROM updated_at) FROM acme.business_business"), "2001");
}

#[test]
fn a_foreign_key_that_is_missing_in_the_tenant_is_taken_from_public() {
    let (db, _) = fleet(["acme"]);
    db.execute("acme", "ALTER TABLE users_userprofile DROP CONSTRAINT users_userprofile_business_id_fk");
    business(&db, "public", B1, "Engines", "000001");
    orphan(&db, "acme", B1);
    assert_eq!(only(&repair(&db)).copied, [copied("business_business", 1)]);
}

#[test]
fn a_foreign_key_that_reaches_into_public_counts_as_the_tenants_own() {
    let (db, _) = fleet(["acme"]);
    business(&db, "public", B1, "Engines", "000001");
    db.execute(
        "acme",
        &format!(
            "ALTER TABLE users_userprofile DROP CONSTRAINT users_userprofile_business_id_fk; \
         ALTER TABLE users_userprofile ADD FOREIGN KEY (business_id) REFERENCES public.business_business; \
         INSERT INTO users_userprofile (user_id, business_id) VALUES (gen_random_uuid(), '{B1}')"
        ),
    );
    assert_eq!(only(&repair(&db)).copied, [copied("business_business", 1)]);
}

#[test]
fn what_cannot_be_decided_is_left_alone_and_named() {
    let (db, _) = fleet(["acme", "globex", "hooli"]);
    // In neither schema.
    orphan(&db, "acme", B2);
    // A different record under the same number, and its details with it.
    business(&db, "public", B1, "Engines", "000001");
    db.execute("public", &format!("INSERT INTO business_business_details (business_id) VALUES ('{B1}')"));
    business(&db, "globex", "00000000-0000-0000-0000-000000000001", "Mills", "000001");
    orphan(&db, "globex", B1);
    let before = (dump(&db, "acme"), dump(&db, "globex"));
    let report = repair(&db);
    let left: Vec<_> = report
        .tenants
        .iter()
        .map(|tenant| (tenant.schema.as_str(), tenant.result.as_ref().unwrap().left.clone()))
        .collect();
    let expected =
        |key: &str, reason| vec![Left { table: "business_business".into(), key: key.into(), rows: 1, reason }];
    assert_eq!(
        left,
        [
            ("acme", expected(B2, Reason::InNeitherSchema)),
            ("globex", expected(B1, Reason::DifferentRecord { index: "business_business_business_num_key".into() })),
        ]
    );
    assert!(!report.is_healthy());
    assert_eq!((dump(&db, "acme"), dump(&db, "globex")), before);
}

#[test]
fn a_row_that_two_tenants_refer_to_is_nobodys() {
    let (db, _) = fleet(["acme", "globex"]);
    business(&db, "public", B1, "Engines", "000001");
    orphan(&db, "acme", B1);
    orphan(&db, "globex", B1);
    let only_acme = Repair::new(domain::rules()).only(vec!["acme".parse().unwrap()]);
    let report = run(&mut db.connect(), only_acme);
    assert!(
        matches!(&only(&report).left[..], [Left { reason: Reason::Contested { tenants }, .. }] if tenants.len() == 2),
        "{report:?}"
    );
    assert_eq!(rows(&db, "acme.business_business"), "0");
}

#[test]
fn nothing_is_copied_while_another_tenants_claims_are_unknown() {
    let (db, _) = fleet(["acme", "globex"]);
    business(&db, "public", B1, "Engines", "000001");
    orphan(&db, "acme", B1);
    // A key of another type cannot be compared with public's, so that nobody knows to what globex refers.
    db.execute("globex", "DROP TABLE business_business CASCADE; CREATE TABLE business_business (id text PRIMARY KEY)");
    let report = repair(&db);
    let [acme, globex] = report.tenants.as_slice() else { panic!("{report:?}") };
    assert!(
        matches!(&acme.result.as_ref().unwrap().left[..], [Left { reason: Reason::Unclear { .. }, .. }]),
        "{acme:?}"
    );
    assert!(globex.result.is_err());
    assert_eq!(rows(&db, "acme.business_business"), "0");
}

#[test]
fn a_row_that_the_tenant_has_already_is_not_copied_twice() {
    let (db, _) = fleet(["acme"]);
    business(&db, "public", B1, "Engines", "000001");
    let details = format!("INSERT INTO business_business_details (business_id, country) VALUES ('{B1}', 'DE')");
    db.execute("public", &details);
    force(&db, "acme", &details);
    orphan(&db, "acme", B1);
    assert_eq!(only(&repair(&db)).copied, [copied("business_business", 1)]);

    // One that differs stays as the tenant has it, and is named.
    let (db, _) = fleet(["acme"]);
    business(&db, "public", B1, "Engines", "000001");
    db.execute("public", &details);
    force(&db, "acme", &details.replace("DE", "FR"));
    orphan(&db, "acme", B1);
    let report = repair(&db);
    assert!(matches!(&only(&report).left[..], [Left { reason: Reason::DifferentRecord { .. }, .. }]), "{report:?}");
    assert_eq!(db.text("SELECT country FROM acme.business_business_details"), "FR");
}

#[test]
fn a_dry_run_says_the_same_and_writes_nothing() {
    let (db, _) = fleet(["acme", "globex"]);
    business(&db, "public", B1, "Engines", "000001");
    orphan(&db, "acme", B1);
    orphan(&db, "globex", B2);
    let before = (dump(&db, "acme"), dump(&db, "globex"), dump(&db, "public"));
    let conn = &mut db.connect();
    conn.batch_execute("SET default_transaction_read_only = on").unwrap();
    let dry = run(conn, Repair::new(domain::rules()).dry_run(true));
    assert_eq!((dump(&db, "acme"), dump(&db, "globex"), dump(&db, "public")), before);
    let outcomes = |report: &Report| {
        report.tenants.iter().map(|tenant| tenant.result.as_ref().unwrap().clone()).collect::<Vec<_>>()
    };
    assert_eq!(outcomes(&dry), outcomes(&repair(&db)));
}

#[test]
fn one_tenants_failure_is_rolled_back_and_the_others_are_repaired() {
    let (db, _) = fleet(["acme", "globex"]);
    business(&db, "public", B1, "Engines", "000001");
    db.execute("public", &format!("INSERT INTO business_business_details (business_id) VALUES ('{B1}')"));
    business(&db, "public", B2, "Mills", "000002");
    orphan(&db, "acme", B1);
    orphan(&db, "globex", B2);
    // Something that the proposal cannot foresee.
    db.execute("acme", "ALTER TABLE business_business_details ADD CHECK (country <> 'US')");
    let before = dump(&db, "acme");
    let report = repair(&db);
    assert!(
        matches!(&report.tenants[0].result, Err(Error::Query(_))) && report.tenants[1].result.is_ok(),
        "{report:?}"
    );
    assert_eq!(dump(&db, "acme"), before);
    assert_eq!(rows(&db, "globex.business_business"), "1");
}

#[test]
fn a_tenant_that_is_being_migrated_is_left_for_later() {
    let (db, _) = fleet(["acme"]);
    business(&db, "public", B1, "Engines", "000001");
    orphan(&db, "acme", B1);
    let holder = &mut db.connect();
    holder.begin_test_transaction().unwrap();
    holder.batch_execute("SELECT pg_advisory_xact_lock(hashtextextended('tenantry:acme', 0))").unwrap();
    let report = run(&mut db.connect(), Repair::new(domain::rules()).lock_timeout(Duration::from_millis(50)));
    assert!(matches!(&report.tenants[0].result, Err(Error::Locked { .. })), "{report:?}");
}

#[test]
fn repairs_at_the_same_time_copy_once() {
    let (db, _) = fleet(["acme"]);
    business(&db, "public", B1, "Engines", "000001");
    orphan(&db, "acme", B1);
    thread::scope(|threads| {
        for _ in 0..4 {
            threads.spawn(|| assert!(repair(&db).is_healthy()));
        }
    });
    assert_eq!(rows(&db, "acme.business_business"), "1");
}

#[test]
fn a_registry_row_without_a_schema_does_not_stop_the_others() {
    let (db, [acme, _]) = fleet(["acme", "globex"]);
    db.execute("public", &format!("DROP SCHEMA {} CASCADE", acme.schema_name));
    business(&db, "public", B1, "Engines", "000001");
    orphan(&db, "globex", B1);
    let report = repair(&db);
    assert!(matches!(&report.tenants[0].result, Err(Error::MissingSchema { .. })), "{report:?}");
    assert_eq!(rows(&db, "globex.business_business"), "1");
}

#[test]
fn a_database_without_a_registry_is_repaired_by_the_pattern_of_its_schemas() {
    let db = TestDatabase::new();
    // As Django's: no history of Diesel's, serial numbers, names of its own.
    for schema in ["public", "tenant_a", "tenant_b"] {
        db.execute("public", &format!("CREATE SCHEMA IF NOT EXISTS {schema}"));
        db.execute(schema,
            "CREATE TABLE business_business (id uuid PRIMARY KEY, name varchar(255) NOT NULL); \
             CREATE TABLE users_userprofile (id bigserial PRIMARY KEY, user_id uuid NOT NULL UNIQUE, created_at timestamptz, modified_at timestamptz, updated_at timestamptz, \
               business_id uuid CONSTRAINT users_userprofile_business_id_c1a7_fk REFERENCES business_business DEFERRABLE INITIALLY DEFERRED)");
    }
    db.execute("public", &format!("INSERT INTO business_business VALUES ('{B1}', 'Engines')"));
    force(
        &db,
        "tenant_a",
        &format!(
            "INSERT INTO users_userprofile (user_id, business_id, modified_at) VALUES (gen_random_uuid(), '{B1}', '2025-03-15')"
        ),
    );
    let conn = &mut db.connect();
    let listing = SchemaPattern::new("tenant_*").list(conn).unwrap();
    let report = Repair::new(domain::rules()).run(conn, &listing).unwrap();
    let outcome = only(&report);
    assert_eq!((outcome.copied.as_slice(), outcome.filled.len()), ([copied("business_business", 1)].as_slice(), 1));
    assert_eq!(db.text("SELECT extract(year FROM updated_at) FROM tenant_a.users_userprofile"), "2025");
}

#[test]
fn a_repair_works_inside_a_test_transaction() {
    let (db, _) = fleet(["acme"]);
    business(&db, "public", B1, "Engines", "000001");
    orphan(&db, "acme", B1);
    let conn = &mut db.connect();
    conn.begin_test_transaction().unwrap();
    assert!(run(conn, Repair::new(domain::rules())).is_healthy());
    assert!(run(conn, Repair::new(domain::rules())).tenants.is_empty());
    assert_eq!(rows(&db, "acme.business_business"), "0");
}

#[test]
fn numbers_that_are_always_generated_are_kept_and_the_sequence_follows() {
    let (db, _) = fleet(["acme"]);
    for schema in ["public", "acme"] {
        db.execute(schema, "CREATE TABLE tags (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, business_id uuid REFERENCES business_business, parent int REFERENCES tags)");
    }
    business(&db, "public", B1, "Engines", "000001");
    db.execute(
        "public",
        &format!("INSERT INTO tags (business_id) SELECT '{B1}' FROM generate_series(1, 5); UPDATE tags SET parent = 1"),
    );
    orphan(&db, "acme", B1);
    assert!(repair(&db).is_healthy());
    assert_eq!(db.text("SELECT string_agg(id::text, ',' ORDER BY id) FROM acme.tags"), "1,2,3,4,5");
    db.execute("acme", "INSERT INTO tags (parent) VALUES (3)");
    assert_eq!(db.text("SELECT max(id) FROM acme.tags"), "6");
}

#[test]
fn a_repair_of_one_tenant_leaves_the_others() {
    let (db, _) = fleet(["acme", "globex"]);
    business(&db, "public", B1, "Engines", "000001");
    business(&db, "public", B2, "Mills", "000002");
    orphan(&db, "acme", B1);
    orphan(&db, "globex", B2);
    let schema: SchemaName = "globex".parse().unwrap();
    let report = run(&mut db.connect(), Repair::new(domain::rules()).only(vec![schema]));
    assert_eq!(only(&report).copied, [copied("business_business", 1)]);
    assert_eq!((rows(&db, "acme.business_business"), rows(&db, "globex.business_business")), ("0".into(), "1".into()));
}
