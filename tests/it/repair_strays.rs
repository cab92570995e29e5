//! A repair brings home what belongs to a tenant and is in `public`, and removes the originals if it is told to.

use tenantry::{
    domain::{self, Registry, models::Tenant},
    repair::{Copied, Reason, Repair, Undo},
    testing::TestDatabase,
};

use crate::{
    repairing::{only, propose, run, whole},
    support::{dump, migrated, tenant},
};

const B1: &str = "bd8f8654-0752-4843-b076-0d7b2dc2e6d7";
const U1: &str = "d59d21aa-6602-47f1-a91e-72bf6ddb8cab";
const U2: &str = "9f49879d-898b-4d2f-8b0f-d3cf8f4cca51";

fn fleet() -> (TestDatabase, [Tenant; 2]) {
    let db = migrated();
    let tenants = ["acme", "globex"].map(|name| tenant(&mut db.connect(), name).0);
    (db, tenants)
}

/// A business of `public` with details, and a profile of this tenant that refers to it.
fn stray(db: &TestDatabase, tenant: &Tenant, user: &str, business: &str) {
    db.execute(
        "public",
        &format!(
            "INSERT INTO business_business (id, name) VALUES ('{business}', 'Engines') ON CONFLICT DO NOTHING; \
             INSERT INTO business_business_details (business_id) VALUES ('{business}') ON CONFLICT DO NOTHING; \
             INSERT INTO users_userprofile (user_id, business_id, tenant_id) VALUES ('{user}', '{business}', '{}')",
            tenant.id
        ),
    );
}

fn counts(db: &TestDatabase, schema: &str) -> String {
    db.text(&format!(
        "SELECT concat_ws(' ', (SELECT count(*) FROM {schema}.business_business), \
         (SELECT count(*) FROM {schema}.business_business_details), (SELECT count(*) FROM {schema}.users_userprofile))"
    ))
}

fn one_each() -> Vec<Copied> {
    ["business_business", "business_business_details", "users_userprofile"]
        .map(|table| Copied { table: table.into(), rows: 1 })
        .into()
}

#[test]
fn what_belongs_to_a_tenant_is_brought_home_with_all_that_belongs_to_it() {
    let (db, [acme, _]) = fleet();
    stray(&db, &acme, U1, B1);
    let before = dump(&db);
    let foreseen = only(&propose(&mut db.connect(), whole()));
    assert_eq!(dump(&db), before);
    let report = run(&mut db.connect(), whole());
    assert_eq!(only(&report).copied, one_each());
    assert_eq!(foreseen, only(&report));
    assert_eq!((counts(&db, "acme"), counts(&db, "public")), ("1 1 1".into(), "1 1 1".into()));
    assert!(run(&mut db.connect(), whole()).tenants.is_empty(), "the second time there is nothing to do");
    Undo::new(report.repair.unwrap()).run(&mut db.connect()).unwrap();
    assert_eq!(dump(&db), before);
}

#[test]
fn what_two_tenants_refer_to_is_nobodys() {
    let (db, [acme, globex]) = fleet();
    stray(&db, &acme, U1, B1);
    stray(&db, &globex, U2, B1);
    let report = run(&mut db.connect(), whole());
    for tenant in &report.tenants {
        let outcome = tenant.result.as_ref().unwrap();
        assert_eq!(outcome.copied, [], "a profile cannot go where its business is not");
        let tables: Vec<&str> = outcome.left.iter().map(|left| left.table.as_str()).collect();
        assert_eq!(tables, ["business_business", "business_business_details", "users_userprofile"], "{outcome:?}");
    }
    assert_eq!((report.tenants.len(), counts(&db, "public")), (2, "1 1 2".into()));
}

#[test]
fn a_stray_that_another_tenant_refers_to_is_nobodys() {
    let (db, [acme, _]) = fleet();
    stray(&db, &acme, U1, B1);
    db.execute(
        "globex",
        &format!("SET session_replication_role = replica; INSERT INTO users_userprofile (user_id, business_id) VALUES ('{U2}', '{B1}')"),
    );
    let report = run(&mut db.connect(), whole());
    let contested = |tenant: &tenantry::repair::TenantReport| {
        let left = &tenant.result.as_ref().unwrap().left;
        left.iter().any(|left| matches!(&left.reason, Reason::Contested { tenants } if tenants.len() == 2))
    };
    assert!(report.tenants.len() == 2 && report.tenants.iter().all(contested), "{report:#?}");
    assert_eq!((counts(&db, "acme"), counts(&db, "globex")), ("0 0 0".into(), "0 0 1".into()));
}

#[test]
fn originals_are_removed_only_when_asked_and_can_be_put_back() {
    let (db, [acme, _]) = fleet();
    stray(&db, &acme, U1, B1);
    db.execute("public", "INSERT INTO business_business (id, name) VALUES (gen_random_uuid(), 'of public itself')");
    let before = dump(&db);
    let foreseen = only(&propose(&mut db.connect(), whole().remove_originals(true)));
    assert_eq!(dump(&db), before);
    let report = run(&mut db.connect(), whole().remove_originals(true));
    let outcome = only(&report);
    assert_eq!(foreseen, outcome);
    let mut removed = outcome.removed.clone();
    removed.sort_by(|one, other| one.table.cmp(&other.table));
    assert_eq!((outcome.copied, removed), (one_each(), one_each()));
    assert_eq!((counts(&db, "acme"), counts(&db, "public")), ("1 1 1".into(), "1 0 0".into()));
    assert!(run(&mut db.connect(), whole().remove_originals(true)).tenants.is_empty());
    Undo::new(report.repair.unwrap()).run(&mut db.connect()).unwrap();
    assert_eq!(dump(&db), before);
}

#[test]
fn originals_of_an_earlier_repair_are_removed_later() {
    let (db, [acme, _]) = fleet();
    stray(&db, &acme, U1, B1);
    run(&mut db.connect(), whole());
    let outcome = only(&run(&mut db.connect(), whole().remove_originals(true)));
    assert_eq!((outcome.copied.len(), outcome.removed.len()), (0, 3));
    assert_eq!((counts(&db, "acme"), counts(&db, "public")), ("1 1 1".into(), "0 0 0".into()));
}

#[test]
fn an_original_that_says_something_else_stays_with_what_it_refers_to() {
    let (db, [acme, _]) = fleet();
    stray(&db, &acme, U1, B1);
    run(&mut db.connect(), whole());
    db.execute("acme", "UPDATE users_userprofile SET city = 'Turin'");
    let outcome = only(&run(&mut db.connect(), whole().remove_originals(true)));
    assert_eq!(outcome.removed, [Copied { table: "business_business_details".into(), rows: 1 }]);
    let [left] = &outcome.left[..] else { panic!("{outcome:?}") };
    assert_eq!(
        (&*left.table, &left.reason),
        ("business_business", &Reason::OriginalNeeded { by: "users_userprofile".into() })
    );
    assert_eq!(counts(&db, "public"), "1 0 1");
}

#[test]
fn an_original_that_a_foreign_key_from_elsewhere_refers_to_stays() {
    let (db, [acme, _]) = fleet();
    stray(&db, &acme, U1, B1);
    run(&mut db.connect(), whole());
    db.execute(
        "public",
        &format!(
            "CREATE SCHEMA billing; CREATE TABLE billing.invoice (business uuid REFERENCES public.business_business ON DELETE CASCADE); \
             INSERT INTO billing.invoice VALUES ('{B1}')"
        ),
    );
    let outcome = only(&run(&mut db.connect(), whole().remove_originals(true)));
    assert_eq!(outcome.left[0].reason, Reason::OriginalNeeded { by: "billing.invoice".into() });
    assert_eq!((counts(&db, "public"), db.text("SELECT count(*) FROM billing.invoice")), ("1 0 0".into(), "1".into()));
}

#[test]
fn rows_that_several_tenants_and_public_have_alike_are_not_originals() {
    let (db, _) = fleet();
    for schema in ["public", "acme", "globex"] {
        db.execute(
            schema,
            "CREATE TABLE country (id int PRIMARY KEY, name text); INSERT INTO country VALUES (1, 'Italy')",
        );
    }
    // A number alone proves nothing, though nobody else has this row.
    for schema in ["public", "acme"] {
        db.execute(schema, "INSERT INTO country VALUES (2, 'France')");
    }
    let report = run(&mut db.connect(), Repair::new(domain::rules()).remove_originals(true));
    assert!(report.tenants.is_empty(), "{report:#?}");
    assert_eq!(db.text("SELECT count(*) FROM public.country"), "2");
}

#[test]
fn an_original_that_a_table_of_public_alone_refers_to_stays() {
    let (db, [acme, _]) = fleet();
    stray(&db, &acme, U1, B1);
    db.execute(
        "public",
        &format!(
            "CREATE TABLE invoice (business uuid REFERENCES business_business ON DELETE CASCADE); \
             INSERT INTO invoice VALUES ('{B1}')"
        ),
    );
    let outcome = only(&run(&mut db.connect(), whole().remove_originals(true)));
    assert_eq!((db.text("SELECT count(*) FROM public.invoice"), counts(&db, "public")), ("1".into(), "1 0 0".into()));
    assert_eq!(outcome.left[0].reason, Reason::OriginalNeeded { by: "invoice".into() });
}

#[test]
fn a_row_that_all_tenants_share_is_no_original() {
    let (db, _) = fleet();
    db.execute(
        "public",
        &format!("INSERT INTO custom_auth_user (id, email, first_name, last_name) VALUES ('{U1}', 'ada@example.com', 'Ada', 'L')"),
    );
    db.execute(
        "acme",
        "CREATE TABLE custom_auth_user AS SELECT * FROM public.custom_auth_user; ALTER TABLE custom_auth_user ADD PRIMARY KEY (id)",
    );
    db.execute("globex", &format!("INSERT INTO users_userprofile (user_id) VALUES ('{U1}')"));
    let report = run(&mut db.connect(), Repair::new(domain::rules()).remove_originals(true));
    assert_eq!(db.text("SELECT count(*) FROM public.custom_auth_user"), "1", "{report:#?}");
}

#[test]
fn what_another_tenant_refers_to_is_not_taken_along_with_a_row_that_both_need() {
    let (db, [acme, _]) = fleet();
    for schema in ["public", "acme", "globex"] {
        db.execute(
            schema,
            "CREATE TABLE region (id uuid PRIMARY KEY DEFAULT gen_random_uuid()); \
             CREATE TABLE site (id uuid PRIMARY KEY, region uuid REFERENCES region); \
             CREATE TABLE visit (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), site uuid REFERENCES site, tenant_id uuid); \
             CREATE TABLE note (site uuid REFERENCES site)",
        );
    }
    db.execute(
        "public",
        &format!(
            "INSERT INTO region DEFAULT VALUES; \
             INSERT INTO site SELECT '{U1}', id FROM region; INSERT INTO site SELECT '{U2}', id FROM region; \
             INSERT INTO visit (site, tenant_id) VALUES ('{U1}', '{}')",
            acme.id
        ),
    );
    db.execute("globex", &format!("SET session_replication_role = replica; INSERT INTO note VALUES ('{U2}')"));
    let report = run(&mut db.connect(), Repair::new(domain::rules()));
    let sites =
        ["acme", "globex"].map(|schema| db.text(&format!("SELECT string_agg(id::text, ' ') FROM {schema}.site")));
    assert_eq!(sites, [U1, U2], "{report:#?}");
}

#[test]
fn originals_come_back_with_the_defaults_of_columns_that_are_new() {
    let (db, [acme, _]) = fleet();
    stray(&db, &acme, U1, B1);
    let report = run(&mut db.connect(), whole().remove_originals(true));
    db.execute("public", "ALTER TABLE business_business ADD COLUMN stars int NOT NULL DEFAULT 3");
    let undo = Undo::new(report.repair.unwrap());
    let [foreseen, done] = [true, false].map(|dry_run| {
        let report = undo.clone().dry_run(dry_run).run(&mut db.connect()).unwrap();
        report.tenants[0].result.as_ref().unwrap().clone()
    });
    assert_eq!((foreseen, done.kept.len()), (done.clone(), 0));
    assert_eq!(db.text("SELECT stars FROM public.business_business"), "3");
}

#[test]
fn a_copy_whose_original_is_gone_is_not_taken_back() {
    let (db, [acme, _]) = fleet();
    stray(&db, &acme, U1, B1);
    let before = dump(&db);
    let [copies, originals] =
        [false, true].map(|remove| run(&mut db.connect(), whole().remove_originals(remove)).repair.unwrap());
    let undo = |id| Undo::new(id).run(&mut db.connect()).unwrap();
    let report = undo(copies);
    assert_eq!(counts(&db, "acme"), "1 1 1", "{report:#?}");
    let kept = &report.tenants[0].result.as_ref().unwrap().kept;
    assert_eq!(kept[0].why, "has no original in public any more");
    undo(originals);
    undo(copies);
    assert_eq!(dump(&db), before);
}

#[test]
fn a_numbered_row_that_another_tenant_has_too_is_no_original_whatever_the_findings_say() {
    let (db, _) = fleet();
    for schema in ["public", "acme", "globex"] {
        db.execute(
            schema,
            "CREATE TABLE grade (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text); \
             INSERT INTO grade (name) VALUES ('gold'); CREATE TABLE member (grade int REFERENCES grade)",
        );
    }
    db.execute("acme", "SET session_replication_role = replica; DELETE FROM grade; INSERT INTO member VALUES (1)");
    let migrations = domain::migrations().unwrap();
    let doctor = tenantry::doctor::Doctor::new(migrations, &Registry, domain::rules());
    let found = doctor.only(tenantry::repair::KINDS.iter().copied());
    let found = found.run(&|| tenantry::pg::connect(db.config())).unwrap();
    let report = run(&mut db.connect(), Repair::new(domain::rules()).findings(&found.findings).remove_originals(true));
    assert_eq!(db.text("SELECT count(*) FROM public.grade"), "1", "{report:#?}");
}
