//! The repair of what the incident left behind.

use std::{thread, time::Duration};

use crate::{
    repairing::{only, propose, run},
    support::{migrated, tenant},
};
use diesel::{Connection, RunQueryDsl, connection::SimpleConnection};
use tenantry::{
    Error, SchemaName,
    directory::{SchemaPattern, TenantDirectory},
    doctor::{self, Problem},
    domain::{self, Registry, models::Tenant},
    repair::{Copied, Filled, Left, Outcome, Reason, Repair, Report},
    testing::TestDatabase,
};
use uuid::Uuid;

const B1: &str = "bd8f8654-0752-4843-b076-0d7b2dc2e6d7";
const B2: &str = "d59d21aa-6602-47f1-a91e-72bf6ddb8cab";
const B3: &str = "9f49879d-898b-4d2f-8b0f-d3cf8f4cca51";

fn fleet<const N: usize>(names: [&str; N]) -> (TestDatabase, [Tenant; N]) {
    let db = migrated();
    let tenants = names.map(|name| tenant(&mut db.connect(), name).0);
    (db, tenants)
}

fn repair(db: &TestDatabase) -> Report {
    run(&mut db.connect(), Repair::new(domain::rules()))
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

    let conn = &mut db.connect();
    let acme = &Registry.list(conn).unwrap().tenants[0];
    let found = doctor::examine(conn, acme, domain::rules()).unwrap().findings;
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
    let (db, [acme, _]) = fleet(["acme", "globex"]);
    let other = Uuid::new_v4();
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
            acme.id, other
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
        matches!(&outcome.left[..], [Left { reason: Reason::OfAnotherTenant { owner }, .. }] if *owner == other.to_string()),
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
    let report = Repair::new(domain::rules()).apply(conn, &listing).unwrap();
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
    // Nobody can see to what globex refers.
    let holder = &mut db.connect();
    holder.begin_test_transaction().unwrap();
    holder.batch_execute("LOCK TABLE globex.users_userprofile").unwrap();
    let report = run(&mut db.connect(), Repair::new(domain::rules()).lock_timeout(Duration::from_millis(50)));
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
    let dry = propose(conn, Repair::new(domain::rules()));
    assert!(!dry.rehearsed, "it could not be tried");
    assert_eq!((dump(&db, "acme"), dump(&db, "globex"), dump(&db, "public")), before);
    let outcomes = |report: &Report| {
        report.tenants.iter().map(|tenant| tenant.result.as_ref().unwrap().clone()).collect::<Vec<_>>()
    };
    assert_eq!(outcomes(&dry), outcomes(&repair(&db)));
}

#[test]
fn what_the_server_refuses_is_left_and_the_rest_is_repaired() {
    let (db, _) = fleet(["acme", "globex"]);
    for (id, name, number) in [(B1, "Engines", "000001"), (B2, "Mills", "000002"), (B3, "Wires", "000003")] {
        business(&db, "public", id, name, number);
    }
    db.execute("public", &format!("INSERT INTO business_business_details (business_id) VALUES ('{B1}')"));
    for (schema, id) in [("acme", B1), ("acme", B3), ("globex", B2)] {
        orphan(&db, schema, id);
    }
    // Something that the proposal cannot foresee: a check, and a unique index of an expression.
    db.execute(
        "acme",
        "ALTER TABLE business_business_details ADD CONSTRAINT not_us CHECK (country <> 'US'); \
         CREATE UNIQUE INDEX ON business_business (lower(name)) WHERE name <> ''",
    );
    let dry = propose(&mut db.connect(), Repair::new(domain::rules()));
    assert!(dry.rehearsed);
    let report = repair(&db);
    let outcomes =
        |report: &Report| report.tenants.iter().map(|t| t.result.as_ref().unwrap().clone()).collect::<Vec<_>>();
    assert_eq!(outcomes(&dry), outcomes(&report), "a dry run foresees it");
    let [acme, globex] = &outcomes(&report)[..] else { panic!("{report:?}") };
    assert_eq!((&acme.copied[..], &globex.copied[..]), (&[copied("business_business", 1)][..], &acme.copied[..]));
    assert!(
        matches!(&acme.left[..], [Left { key, rows: 1, reason: Reason::Refused { words }, .. }]
            if key == B1 && words.contains("not_us")),
        "{acme:?}"
    );
    assert_eq!(db.texts("SELECT name FROM acme.business_business"), ["Wires"]);
    assert_eq!(rows(&db, "globex.business_business"), "1");
    // It does not go away by trying again, and nothing else is done.
    let again = repair(&db);
    assert_eq!(only(&again), Outcome { left: acme.left.clone(), ..Outcome::default() });
}

#[test]
fn a_collision_on_an_index_that_no_proposal_reads_is_left() {
    let (db, _) = fleet(["acme"]);
    db.execute("acme", "CREATE UNIQUE INDEX by_name ON business_business (lower(name))");
    business(&db, "public", B1, "Engines", "000001");
    business(&db, "acme", B2, "ENGINES", "000002");
    orphan(&db, "acme", B1);
    let report = repair(&db);
    assert!(
        matches!(&only(&report).left[..], [Left { rows: 1, reason: Reason::Refused { words }, .. }] if words.contains("by_name")),
        "{report:?}"
    );
}

#[test]
fn keys_of_another_type_are_compared_as_texts_and_rows_that_do_not_fit_are_left() {
    let (db, _) = fleet(["acme", "globex", "hooli"]);
    for (schema, id, number) in [("acme", B1, "000001"), ("globex", B2, "000002"), ("hooli", B3, "000003")] {
        business(&db, "public", id, "Engines", number);
        db.execute(schema, "ALTER TABLE users_userprofile DROP CONSTRAINT users_userprofile_business_id_fk");
        orphan(&db, schema, id);
    }
    db.execute("acme", "ALTER TABLE business_business_details DROP CONSTRAINT business_business_details_business_id_fk; ALTER TABLE business_business ALTER id TYPE text");
    db.execute("globex", "ALTER TABLE users_userprofile ALTER business_id TYPE text");
    // No name can be had of this type.
    db.execute("hooli", "ALTER TABLE business_business ALTER name TYPE int USING 0");
    let report = repair(&db);
    let [acme, globex, hooli] = report.tenants.as_slice() else { panic!("{report:?}") };
    assert_eq!(acme.result.as_ref().unwrap().copied, [copied("business_business", 1)]);
    assert_eq!(globex.result.as_ref().unwrap().copied, [copied("business_business", 1)]);
    let left = &hooli.result.as_ref().unwrap().left[..];
    assert!(matches!(left, [Left { rows: 1, reason: Reason::Refused { .. }, .. }]), "{hooli:?}");
    assert_eq!((rows(&db, "acme.business_business"), rows(&db, "globex.business_business")), ("1".into(), "1".into()));
}

#[test]
fn a_dependant_that_cannot_come_along_is_left_with_all_that_depends_on_it() {
    let (db, _) = fleet(["acme", "globex"]);
    for schema in ["public", "acme", "globex"] {
        db.execute(
            schema,
            "CREATE TABLE ledgers (id text PRIMARY KEY, tenant_id uuid); \
             CREATE TABLE needed (id text PRIMARY KEY); \
             CREATE TABLE bills (id text PRIMARY KEY, business_id uuid REFERENCES business_business, ledger text REFERENCES ledgers, needs text REFERENCES needed); \
             CREATE TABLE lines (id text PRIMARY KEY, bill text REFERENCES bills)",
        );
    }
    business(&db, "public", B1, "Engines", "000001");
    db.execute(
        "public",
        &format!(
            "INSERT INTO ledgers VALUES ('theirs', '{}'); INSERT INTO needed VALUES ('for b1'); \
             INSERT INTO bills VALUES ('b1', '{B1}', 'theirs', 'for b1'), ('b2', '{B1}', NULL, NULL); \
             INSERT INTO lines VALUES ('l1', 'b1'), ('l2', 'b2')",
            Uuid::new_v4()
        ),
    );
    orphan(&db, "acme", B1);
    let report = repair(&db);
    let outcome = only(&report);
    assert_eq!(outcome.copied, [copied("bills", 1), copied("business_business", 1), copied("lines", 1)]);
    let left: Vec<(&str, &str)> = outcome.left.iter().map(|left| (&*left.table, &*left.key)).collect();
    assert_eq!(left, [("bills", "b1"), ("ledgers", "theirs"), ("lines", "l1")]);
    assert_eq!(outcome.left[0].reason, Reason::NeedsAnother { table: "ledgers".into() });
    assert_eq!(db.texts("SELECT id FROM acme.lines"), ["l2"]);
    assert_eq!(rows(&db, "acme.needed"), "0", "what only a row that was left needs stays");
    assert!(repair(&db).tenants.is_empty());
}

#[test]
fn a_row_is_not_attached_to_another_row_that_has_its_parents_number() {
    let (db, _) = fleet(["acme"]);
    for schema in ["public", "acme"] {
        db.execute(schema, "CREATE TABLE groups (id serial PRIMARY KEY, name text); ALTER TABLE business_business ADD group_id int REFERENCES groups");
    }
    db.execute("public", &format!("INSERT INTO groups (name) VALUES ('ours'); INSERT INTO business_business (id, name, group_id) VALUES ('{B1}', 'Engines', 1)"));
    db.execute("acme", "INSERT INTO groups (name) VALUES ('another')");
    orphan(&db, "acme", B1);
    let report = repair(&db);
    assert!(
        matches!(
            &only(&report).left[..],
            [
                Left { rows: 1, reason: Reason::NeedsAnother { .. }, .. },
                Left { rows: 0, reason: Reason::DifferentRecord { .. }, .. },
            ]
        ),
        "{report:?}"
    );
    assert_eq!(rows(&db, "acme.business_business"), "0");
}

#[test]
fn rows_of_a_table_without_a_key_are_not_copied_again() {
    let (db, _) = fleet(["acme"]);
    for schema in ["public", "acme"] {
        db.execute(schema, "CREATE TABLE notes (business_id uuid REFERENCES business_business, text json)");
    }
    business(&db, "public", B1, "Engines", "000001");
    db.execute("public", &format!("INSERT INTO notes VALUES ('{B1}', '1'), ('{B1}', '1'), ('{B1}', '2')"));
    // Two of the three came in an earlier time, without the business.
    force(&db, "acme", &format!("INSERT INTO notes VALUES ('{B1}', '1'), ('{B1}', '2')"));
    assert_eq!(only(&repair(&db)).copied, [copied("business_business", 1), copied("notes", 1)]);
    assert_eq!(db.texts("SELECT text::text FROM acme.notes ORDER BY 1"), ["1", "1", "2"]);
    force(&db, "acme", "DELETE FROM business_business");
    assert_eq!(only(&repair(&db)).copied, [copied("business_business", 1)]);
}

#[test]
fn a_record_that_may_have_been_edited_in_the_tenant_is_not_doubled() {
    let (db, _) = fleet(["acme"]);
    for schema in ["public", "acme"] {
        db.execute(
            schema,
            "CREATE TABLE visits (id serial PRIMARY KEY, business_id uuid REFERENCES business_business, note text)",
        );
    }
    business(&db, "public", B1, "Engines", "000001");
    db.execute("public", &format!("INSERT INTO visits (business_id, note) VALUES ('{B1}', 'as it was')"));
    force(&db, "acme", &format!("INSERT INTO visits (business_id, note) VALUES ('{B1}', 'edited')"));
    let report = repair(&db);
    let outcome = only(&report);
    assert_eq!(outcome.copied, [copied("business_business", 1)]);
    assert!(
        matches!(&outcome.left[..], [Left { table, key, reason: Reason::DifferentRecord { .. }, .. }] if table == "visits" && key == "1"),
        "{report:?}"
    );
    assert_eq!(db.texts("SELECT note FROM acme.visits"), ["edited"]);
}

#[test]
fn a_foreign_key_into_a_third_schema_says_nothing_of_the_tenants_own_tables() {
    let (db, _) = fleet(["acme"]);
    db.execute(
        "public",
        &format!(
            "CREATE SCHEMA shared; CREATE TABLE shared.business_business (id uuid PRIMARY KEY); \
             INSERT INTO shared.business_business VALUES ('{B1}'); \
             CREATE TABLE acme.links (id int, business_id uuid REFERENCES shared.business_business); \
             INSERT INTO acme.links VALUES (1, '{B1}')"
        ),
    );
    business(&db, "public", B1, "Engines", "000001");
    assert!(repair(&db).tenants.is_empty(), "the reference resolves where it leads");
    assert_eq!(rows(&db, "acme.business_business"), "0");
}

#[test]
fn a_row_that_an_earlier_repair_has_placed_is_that_tenants() {
    let (db, _) = fleet(["acme", "globex"]);
    business(&db, "public", B1, "Engines", "000001");
    orphan(&db, "acme", B1);
    assert_eq!(only(&repair(&db)).copied, [copied("business_business", 1)]);
    db.execute("acme", "UPDATE business_business SET name = 'Renamed since'");
    orphan(&db, "globex", B1);
    let report = repair(&db);
    assert!(
        matches!(&only(&report).left[..], [Left { reason: Reason::Contested { tenants }, .. }] if tenants.len() == 2),
        "{report:?}"
    );
    assert_eq!(rows(&db, "globex.business_business"), "0");
}

#[test]
fn what_depends_on_rows_of_two_tenants_is_nobodys() {
    let (db, _) = fleet(["acme", "globex"]);
    for schema in ["public", "acme", "globex"] {
        db.execute(schema, "CREATE TABLE deals (id uuid PRIMARY KEY, seller uuid REFERENCES business_business, buyer uuid REFERENCES business_business)");
    }
    business(&db, "public", B1, "Engines", "000001");
    business(&db, "public", B2, "Mills", "000002");
    db.execute(
        "public",
        &format!("INSERT INTO deals VALUES ('{B3}', '{B1}', '{B2}'), (gen_random_uuid(), '{B1}', NULL)"),
    );
    orphan(&db, "acme", B1);
    orphan(&db, "globex", B2);
    let report = repair(&db);
    for tenant in &report.tenants {
        let left = &tenant.result.as_ref().unwrap().left[..];
        assert!(
            matches!(left, [Left { key, reason: Reason::Contested { tenants }, .. }] if key == B3 && tenants.len() == 2),
            "{report:?}"
        );
    }
    assert_eq!((rows(&db, "acme.deals"), rows(&db, "globex.deals")), ("1".into(), "0".into()));
    assert_eq!(rows(&db, "acme.business_business"), "1");
}

#[test]
fn one_tenants_failure_is_rolled_back_and_the_others_are_repaired() {
    let (db, _) = fleet(["acme", "globex"]);
    business(&db, "public", B1, "Engines", "000001");
    business(&db, "public", B2, "Mills", "000002");
    orphan(&db, "acme", B1);
    orphan(&db, "globex", B2);
    // A trigger of the tenant undoes what was repaired.
    db.execute(
        "acme",
        "CREATE FUNCTION forget() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN UPDATE users_userprofile SET updated_at = NULL; RETURN NEW; END'; \
         ALTER TABLE users_userprofile ALTER updated_at DROP NOT NULL; \
         CREATE TRIGGER forget AFTER INSERT ON business_business FOR EACH ROW EXECUTE FUNCTION forget()",
    );
    let before = dump(&db, "acme");
    let report = repair(&db);
    assert!(matches!(&report.tenants[0].result, Err(Error::Repair { .. })), "{report:?}");
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
    let report = Repair::new(domain::rules()).apply(conn, &listing).unwrap();
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
    conn.batch_execute(
        "SET LOCAL timezone = 'Asia/Tokyo'; SET LOCAL datestyle = 'SQL, DMY'; SET LOCAL lock_timeout = 7",
    )
    .unwrap();
    assert!(run(conn, Repair::new(domain::rules())).is_healthy());
    assert!(run(conn, Repair::new(domain::rules())).tenants.is_empty());
    // The transaction is the caller's, and so are its settings.
    let settings = "current_setting('timezone') || ', ' || current_setting('datestyle') || ', ' \
        || current_setting('lock_timeout') || ', ' || current_setting('enable_seqscan')";
    let settings: String =
        diesel::select(diesel::dsl::sql::<diesel::sql_types::Text>(settings)).get_result(conn).unwrap();
    assert_eq!(settings, "Asia/Tokyo, SQL, DMY, 7ms, on");
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
