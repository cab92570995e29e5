//! Rows of `public` that belong to several tenants, or to nobody.

use tenantry::{
    directory::{FixedList, Glob, Only, Selected},
    doctor::{Doctor, Finding, Fix, Kind, Report},
    domain::{self, Registry},
    pg,
    testing::TestDatabase,
};

use crate::support::{migrated, tenant};

const B1: &str = "bd8f8654-0752-4843-b076-0d7b2dc2e6d7";
const B2: &str = "d59d21aa-6602-47f1-a91e-72bf6ddb8cab";
const NOBODY: &str = "00000000-0000-4000-8000-00000000dead";

fn fleet() -> TestDatabase {
    let db = migrated();
    ["acme", "globex", "initech"].iter().for_each(|name| drop(tenant(&mut db.connect(), name)));
    db
}

fn examine(db: &TestDatabase) -> Report {
    run(db, &Doctor::new(domain::migrations().unwrap(), &Registry, domain::rules()))
}

fn run(db: &TestDatabase, doctor: &Doctor<'_>) -> Report {
    doctor.run(&|| pg::connect(db.config())).unwrap()
}

/// A business in `public`, and a profile of this tenant there that refers to it.
fn profile(db: &TestDatabase, owner: &str, business: &str) {
    db.execute(
        "public",
        &format!(
            "INSERT INTO business_business (id, name) VALUES ('{business}', 'X') ON CONFLICT DO NOTHING; \
             INSERT INTO users_userprofile (user_id, business_id, tenant_id) \
             VALUES (gen_random_uuid(), '{business}', coalesce((SELECT id FROM custom_auth_tenant WHERE schema_name = '{owner}'), '{NOBODY}'))"
        ),
    );
}

/// What is said of which tenant's rows of one table.
fn told(report: &Report, table: &str) -> Vec<String> {
    let findings = report.findings.iter().filter(|finding| finding.table.as_deref() == Some(table));
    findings.map(|finding| format!("{} {}: {}", finding.kind, finding.schema, finding.says)).collect()
}

fn is_for_a_person(finding: &Finding) -> bool {
    matches!(finding.fix, Fix::None(_))
}

#[test]
fn rows_that_several_tenants_own_by_references_are_left_to_a_person() {
    let db = fleet();
    ["acme", "globex"].iter().for_each(|owner| profile(&db, owner, B1));
    profile(&db, "acme", B2);
    let report = examine(&db);
    let shared = "1 row of public.business_business belongs to several tenants, by what refers to what: acme, globex";
    let expected = [
        "stray acme: 1 row of public.business_business belongs to it, and it does not have it".to_owned(),
        format!("stray acme: {shared}"),
        format!("stray globex: {shared}"),
    ];
    assert_eq!(told(&report, "business_business"), expected);
    for finding in report.findings.iter().filter(|finding| finding.table.as_deref() == Some("business_business")) {
        let is_shared = finding.says.ends_with("globex");
        assert_eq!(is_for_a_person(finding), is_shared, "{finding:?}");
        assert_eq!(finding.examples, [if is_shared { B1 } else { B2 }]);
    }
}

#[test]
fn one_of_several_owners_is_told_of_the_others_also_when_it_is_looked_at_alone() {
    let db = fleet();
    ["acme", "globex"].iter().for_each(|owner| profile(&db, owner, B1));
    db.execute("globex", &format!("UPDATE users_userprofile SET tenant_id = NULL; INSERT INTO users_userprofile (user_id, tenant_id) SELECT '{B2}', id FROM public.custom_auth_tenant WHERE schema_name = 'acme'"));
    let alone = |name: &'static str| Selected {
        directory: &Registry,
        globs: vec![Glob::new(name)],
        except: vec![],
        only: Only::All,
    };
    let (acme, globex) = (alone("acme"), alone("globex"));
    let report = run(&db, &Doctor::new(domain::migrations().unwrap(), &acme, domain::rules()));
    let shared = "stray acme: 1 row of public.business_business belongs to several tenants, by what refers to what: acme, globex";
    assert_eq!(told(&report, "business_business"), [shared]);
    let report = run(&db, &Doctor::new(domain::migrations().unwrap(), &globex, domain::rules()));
    let owner = told(&report, "users_userprofile").into_iter().find(|told| told.starts_with("wrong-owner"));
    assert_eq!(owner.unwrap(), "wrong-owner globex: 1 row of users_userprofile belongs to tenant acme by tenant_id");
}

#[test]
fn a_row_that_several_rows_of_one_tenant_refer_to_is_one_row() {
    let db = fleet();
    [B1, B1].iter().for_each(|business| profile(&db, "acme", business));
    let one = "stray acme: 1 row of public.business_business belongs to it, and it does not have it";
    assert_eq!(told(&examine(&db), "business_business"), [one]);
}

#[test]
fn many_owners_of_one_row_are_counted() {
    let db = fleet();
    ["a", "b", "c", "d"].iter().for_each(|name| drop(tenant(&mut db.connect(), name)));
    ["acme", "globex", "initech", "a", "b", "c", "d"].iter().for_each(|owner| profile(&db, owner, B1));
    let report = examine(&db);
    let several = told(&report, "business_business");
    assert_eq!(several.len(), 7, "{several:#?}");
    assert!(several.iter().all(|told| told.ends_with(": a, acme, b, c, d and 2 others")), "{several:#?}");
}

#[test]
fn rows_of_public_whose_owner_is_no_tenant_are_told_once() {
    let db = fleet();
    assert!(examine(&db).findings.is_empty());
    [B1, B2].iter().for_each(|business| profile(&db, "nobody", business));
    let report = examine(&db);
    assert_eq!(
        told(&report, "users_userprofile"),
        ["dangling public: 2 rows of users_userprofile belong by tenant_id to nobody who is registered"]
    );
    assert!(report.findings.len() == 1 && is_for_a_person(&report.findings[0]), "{report:#?}");
    assert_eq!((&*report.findings[0].examples, report.findings[0].count), (&[NOBODY.to_owned()][..], 2));
}

#[test]
fn a_tenant_whose_name_is_refused_owns_its_rows_all_the_same() {
    let db = fleet();
    db.execute(
        "public",
        &format!("INSERT INTO custom_auth_tenant (id, schema_name, name) VALUES ('{NOBODY}', 'pg_x', 'X')"),
    );
    profile(&db, "nobody", B1);
    assert_eq!(told(&examine(&db), "users_userprofile"), Vec::<String>::new());
}

#[test]
fn where_the_directory_knows_no_ids_the_rules_tell_who_is_a_tenant() {
    let db = fleet();
    let directory = FixedList(["acme", "globex", "initech"].map(|name| name.parse().unwrap()).into());
    profile(&db, "acme", B1);
    let doctor = Doctor::new(domain::migrations().unwrap(), &directory, domain::rules());
    assert_eq!(told(&run(&db, &doctor), "users_userprofile"), Vec::<String>::new());
    profile(&db, "nobody", B2);
    let doctor = Doctor::new(domain::migrations().unwrap(), &directory, domain::rules());
    assert_eq!(told(&run(&db, &doctor), "users_userprofile").len(), 1);
    let mut rules = domain::rules().clone();
    rules.shared.clear();
    let doctor = Doctor::new(domain::migrations().unwrap(), &directory, &rules);
    assert_eq!(told(&run(&db, &doctor), "users_userprofile"), Vec::<String>::new(), "nobody can be certain");
}

#[test]
fn columns_may_have_collations_of_their_own() {
    let db = fleet();
    for schema in ["public", "acme", "globex", "initech"] {
        db.execute(
            schema,
            "ALTER TABLE business_business ADD tenant_id text COLLATE \"C\"; \
             ALTER TABLE users_userprofile ALTER tenant_id TYPE text COLLATE \"POSIX\"; \
             CREATE TABLE towns ( \
                 country text COLLATE \"C\", name text COLLATE \"POSIX\", tenant_id text, PRIMARY KEY (country, name)); \
             CREATE TABLE shops ( \
                 country text COLLATE \"POSIX\", town text COLLATE \"C\", FOREIGN KEY (country, town) REFERENCES towns)",
        );
    }
    profile(&db, "acme", B1);
    db.execute(
        "public",
        "UPDATE business_business SET tenant_id = (SELECT tenant_id FROM users_userprofile); \
         INSERT INTO towns VALUES ('AT', 'Wien')",
    );
    db.execute(
        "acme",
        "SET session_replication_role = replica; INSERT INTO shops VALUES ('AT', 'Wien'), ('BE', 'Gent')",
    );
    db.execute("globex", "INSERT INTO towns VALUES ('AT', 'Wien', (SELECT tenant_id FROM public.users_userprofile))");
    let kinds = [Kind::Unreadable, Kind::Orphan, Kind::Stray, Kind::WrongOwner];
    let report = run(&db, &Doctor::new(domain::migrations().unwrap(), &Registry, domain::rules()).only(kinds));
    assert_eq!(report.not_compared, []);
    let tables = ["business_business", "users_userprofile", "shops", "towns"];
    insta::assert_snapshot!(tables.map(|table| told(&report, table).join("\n")).join("\n"), @r"
    stray acme: 1 row of public.business_business belongs to it, and it does not have it
    stray acme: 1 row of public.users_userprofile belongs to it, and it does not have it
    orphan acme: 2 rows of shops refer by country, town to towns that is not there, 1 of them in public
    wrong-owner globex: 1 row of towns belongs to tenant acme by tenant_id
    ");
}
