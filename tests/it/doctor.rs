//! The doctor: every kind of finding planted, found in the right tenant and nowhere else, cured, and gone.

use diesel::connection::SimpleConnection;
use tenantry::{
    Fleet, SchemaName,
    directory::{FixedList, Named, TenantDirectory},
    doctor::{Doctor, Finding, Fix, Kind, Report, Rules, Severity},
    domain::{self, Registry},
    migrate::{Migrations, Run},
    pg,
    repair::Repair,
    testing::TestDatabase,
};

use crate::{
    cli::{TENANTRY, run_with},
    support::{migrated, migrations, tenant},
};

const B1: &str = "bd8f8654-0752-4843-b076-0d7b2dc2e6d7";
const B2: &str = "d59d21aa-6602-47f1-a91e-72bf6ddb8cab";
const T_ACME: &str = "(SELECT id FROM public.custom_auth_tenant WHERE schema_name = 'acme')";
const USER: &str = "(SELECT id FROM public.custom_auth_user LIMIT 1)";

/// Three tenants with a user, and a business and a profile each.
fn fleet() -> TestDatabase {
    let db = migrated();
    crate::support::user(&mut db.connect());
    for name in ["acme", "globex", "initech"] {
        tenant(&mut db.connect(), name);
        db.execute(
            name,
            &format!(
                "WITH b AS (INSERT INTO business_business (id, name) VALUES (gen_random_uuid(), 'X') RETURNING id), \
                 d AS (INSERT INTO business_business_details (business_id) SELECT id FROM b) \
                 INSERT INTO users_userprofile (user_id, business_id, tenant_id) SELECT {USER}, b.id, t.id \
                 FROM b, public.custom_auth_tenant t WHERE t.schema_name = '{name}'"
            ),
        );
    }
    db
}

fn doctor() -> Doctor<'static> {
    Doctor::new(domain::migrations().unwrap(), &Registry, domain::rules())
}

fn examine(db: &TestDatabase, doctor: &Doctor<'_>) -> Report {
    doctor.run(&|| pg::connect(db.config())).unwrap()
}

/// Kind, tenant, table and count of each finding, in order.
fn told(report: &Report) -> Vec<String> {
    let one = |finding: &Finding| {
        let table = finding.table.as_deref().unwrap_or("-");
        format!("{} {} {table} {}", finding.kind, finding.schema, finding.count)
    };
    report.findings.iter().map(one).collect()
}

fn found(db: &TestDatabase) -> Vec<String> {
    told(&examine(db, &doctor()))
}

/// Plants an illness in a healthy fleet, has exactly it found, cures it, and has nothing found.
#[track_caller]
fn check(plant: (&str, &str), expected: &[&str], cure: (&str, &str)) -> Report {
    let db = fleet();
    assert_eq!(found(&db), Vec::<String>::new(), "healthy");
    force(&db, plant.0, plant.1);
    let report = examine(&db, &doctor());
    assert_eq!(told(&report), expected, "{:#?}", report.findings);
    force(&db, cure.0, cure.1);
    assert_eq!(found(&db), Vec::<String>::new(), "cured");
    report
}

/// Writes what foreign keys would forbid, as a superuser who has switched their triggers off.
fn force(db: &TestDatabase, schema: &str, sql: &str) {
    db.execute(schema, &format!("SET session_replication_role = replica; {sql}"));
}

#[test]
fn a_healthy_fleet_of_a_thousand_has_no_findings() {
    let db = migrated();
    // With a user, a business and a profile each, so that there is something to look at.
    let names: Vec<String> = (0..1000).map(|n| format!("tenant_{n:03}")).collect();
    let create: String = names.iter().map(|name| format!("CREATE SCHEMA {name};")).collect();
    db.execute("public", &create);
    db.execute(
        "public",
        "INSERT INTO custom_auth_tenant (id, schema_name, name) \
             SELECT md5('t' || n)::uuid, 'tenant_' || lpad(n::text, 3, '0'), 'X' FROM generate_series(0, 999) n; \
         INSERT INTO custom_auth_user (id, email) SELECT md5('u' || n)::uuid, n || '@example.com' FROM generate_series(0, 999) n",
    );
    let fleet = domain::fleet().unwrap();
    let migrated = fleet.run(&Run::new(fleet.migrations), &|| pg::connect(db.config())).unwrap();
    assert_eq!(migrated.count("migrated"), 1000);
    for (at, chunk) in names.chunks(100).enumerate() {
        let rows = |(n, name): (usize, &String)| {
            let n = at * 100 + n;
            format!(
                "INSERT INTO {name}.business_business (id, name) VALUES (md5('b{n}')::uuid, 'X'); \
                 INSERT INTO {name}.users_userprofile (user_id, business_id, tenant_id) \
                     VALUES (md5('u{n}')::uuid, md5('b{n}')::uuid, md5('t{n}')::uuid);"
            )
        };
        db.execute("public", &chunk.iter().enumerate().map(rows).collect::<String>());
    }
    let report = examine(&db, &doctor());
    assert_eq!((told(&report), report.tenants), (vec![], 1000));
    assert!(report.is_healthy() && report.not_compared.is_empty(), "{report:#?}");
}

#[test]
fn rows_that_refer_to_nothing_are_found() {
    let plant = format!("UPDATE users_userprofile SET business_id = '{B1}'");
    let cure = "UPDATE users_userprofile SET business_id = (SELECT id FROM business_business)";
    let report = check(("acme", &plant), &["orphan acme users_userprofile 1"], ("acme", cure));
    let [orphan] = &report.findings[..] else { panic!("{report:?}") };
    assert_eq!((orphan.examples.as_slice(), orphan.severity), ([B1.to_owned()].as_slice(), Severity::Error));
    insta::assert_snapshot!(orphan.says, @"1 row of users_userprofile refers by business_id to business_business that is not there, nor in public");
    assert!(matches!(orphan.fix, Fix::None(_)));
}

#[test]
fn rows_that_refer_to_public_are_found_and_can_be_repaired() {
    let db = fleet();
    db.execute("public", &format!("INSERT INTO business_business (id, name) VALUES ('{B1}', 'Engines')"));
    force(&db, "acme", &format!("UPDATE users_userprofile SET business_id = '{B1}'"));
    let report = examine(&db, &doctor());
    assert_eq!(told(&report), ["orphan acme users_userprofile 1"]);
    assert_eq!(report.findings[0].fix, Fix::Command("tenantry repair".into()));
    let listing = Registry.list(&mut db.connect()).unwrap();
    Repair::new(domain::rules()).apply(&mut db.connect(), &listing).unwrap();
    // The original stays in public, which is no illness.
    let report = examine(&db, &doctor());
    assert_eq!(told(&report), ["copy acme business_business 1"]);
    assert!(report.is_healthy());
}

#[test]
fn orphans_are_found_where_the_foreign_key_is_gone() {
    let plant = format!(
        "ALTER TABLE users_userprofile DROP CONSTRAINT users_userprofile_business_id_fk; \
         UPDATE users_userprofile SET business_id = '{B1}'"
    );
    let cure = "UPDATE users_userprofile SET business_id = (SELECT id FROM business_business); \
        ALTER TABLE users_userprofile ADD CONSTRAINT users_userprofile_business_id_fk FOREIGN KEY (business_id) \
        REFERENCES business_business (id) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED";
    check(("acme", &plant), &["orphan acme users_userprofile 1", "missing acme users_userprofile 1"], ("acme", cure));
}

#[test]
fn a_foreign_key_may_be_taken_at_its_word_unless_it_is_none() {
    let db = fleet();
    let trusting = doctor().trust_foreign_keys(true);
    force(&db, "acme", &format!("UPDATE users_userprofile SET business_id = '{B1}'"));
    assert_eq!(told(&examine(&db, &trusting)), Vec::<String>::new());
    db.execute("acme", "ALTER TABLE users_userprofile DROP CONSTRAINT users_userprofile_business_id_fk");
    let lost = ["orphan acme users_userprofile 1", "missing acme users_userprofile 1"];
    assert_eq!(told(&examine(&db, &trusting)), lost);
}

#[test]
fn rows_of_a_tenant_in_public_are_found_with_all_that_hangs_on_them() {
    let plant = format!(
        "INSERT INTO business_business (id, name) VALUES ('{B1}', 'Engines'), ('{B2}', 'Nobody''s'); \
         INSERT INTO business_business_details (business_id) VALUES ('{B1}'); \
         INSERT INTO users_userprofile (user_id, business_id, tenant_id) VALUES (gen_random_uuid(), '{B1}', {T_ACME})"
    );
    let cure = "DELETE FROM users_userprofile; DELETE FROM business_business_details; DELETE FROM business_business";
    check(
        ("public", &plant),
        &["stray acme business_business 1", "stray acme business_business_details 1", "stray acme users_userprofile 1"],
        ("public", cure),
    );
}

#[test]
fn rows_of_another_tenant_are_found() {
    let plant = format!("UPDATE users_userprofile SET tenant_id = {T_ACME}");
    let cure = "UPDATE users_userprofile SET tenant_id = NULL";
    let report = check(("globex", &plant), &["wrong-owner globex users_userprofile 1"], ("globex", cure));
    insta::assert_snapshot!(report.findings[0].says, @"1 row of users_userprofile belongs to tenant acme by tenant_id");
    let plant = format!("UPDATE users_userprofile SET tenant_id = '{B1}'");
    check(("globex", &plant), &["wrong-owner globex users_userprofile 1"], ("globex", cure));
}

#[test]
fn rows_of_users_that_do_not_exist_are_found() {
    let plant = format!("UPDATE users_userprofile SET user_id = '{B1}'");
    let cure = format!("UPDATE users_userprofile SET user_id = {USER}");
    let report = check(("acme", &plant), &["dangling acme users_userprofile 1"], ("acme", &cure));
    assert_eq!(report.findings[0].examples, [B1]);
}

#[test]
fn tenants_without_an_id_are_told_of_owners_that_do_not_exist() {
    let db = fleet();
    db.execute("acme", &format!("UPDATE users_userprofile SET tenant_id = '{B1}'"));
    let directory = FixedList(vec!["acme".parse().unwrap(), "globex".parse().unwrap(), "initech".parse().unwrap()]);
    let report = examine(&db, &Doctor::new(domain::migrations().unwrap(), &directory, domain::rules()));
    assert_eq!(told(&report), ["dangling acme users_userprofile 1"]);
}

#[test]
fn nulls_that_are_forbidden_are_found_once() {
    let plant = "ALTER TABLE users_userprofile ALTER updated_at DROP NOT NULL; \
        UPDATE users_userprofile SET updated_at = NULL";
    let cure = "UPDATE users_userprofile SET updated_at = now(); \
        ALTER TABLE users_userprofile ALTER updated_at SET NOT NULL";
    let report = check(("acme", plant), &["nulls acme users_userprofile 1"], ("acme", cure));
    assert_eq!(report.findings[0].fix, Fix::Command("tenantry repair".into()));
    // No rule tells what to fill this one with.
    let plant = "ALTER TABLE business_business ALTER name DROP NOT NULL; UPDATE business_business SET name = NULL";
    let cure = "UPDATE business_business SET name = 'X'; ALTER TABLE business_business ALTER name SET NOT NULL";
    let report = check(("acme", plant), &["nulls acme business_business 1"], ("acme", cure));
    assert!(matches!(report.findings[0].fix, Fix::None(_)));
}

#[test]
fn a_sequence_behind_its_numbers_is_found_with_the_statement_that_helps() {
    let db = fleet();
    db.execute("acme", "UPDATE users_userprofile SET id = 7");
    let report = examine(&db, &doctor());
    assert_eq!(told(&report), ["sequence-behind acme users_userprofile 1"]);
    let Fix::Sql(cure) = &report.findings[0].fix else { panic!("{report:?}") };
    db.execute("acme", cure);
    assert_eq!(found(&db), Vec::<String>::new());
    db.execute("acme", "ALTER SEQUENCE users_userprofile_id_seq RESTART; UPDATE users_userprofile SET id = 1");
    assert_eq!(found(&db), ["sequence-behind acme users_userprofile 1"], "the first number is as good as taken");
}

#[test]
fn the_same_key_on_both_sides_is_told_apart_by_whether_the_rows_are_equal() {
    let plant = "INSERT INTO business_business SELECT * FROM acme.business_business";
    let report =
        check(("public", plant), &["copy acme business_business 1"], ("public", "DELETE FROM business_business"));
    assert!(report.is_healthy());
    let plant = format!("{plant}; UPDATE business_business SET name = 'Other'");
    let report =
        check(("public", &plant), &["conflict acme business_business 1"], ("public", "DELETE FROM business_business"));
    assert!(!report.is_healthy());
}

#[test]
fn a_registered_tenant_without_a_schema_is_found() {
    check(
        ("public", "ALTER SCHEMA acme RENAME TO elsewhere"),
        &["missing-schema acme - 1", "unregistered elsewhere - 1"],
        ("public", "ALTER SCHEMA elsewhere RENAME TO acme"),
    );
    check(
        (
            "public",
            "INSERT INTO custom_auth_tenant (id, schema_name, name) VALUES (gen_random_uuid(), 'ghost', 'Ghost')",
        ),
        &["missing-schema ghost - 1"],
        ("public", "DELETE FROM custom_auth_tenant WHERE schema_name = 'ghost'"),
    );
}

#[test]
fn a_name_that_no_schema_may_have_is_found() {
    check(
        ("public", "INSERT INTO custom_auth_tenant (id, schema_name, name) VALUES (gen_random_uuid(), 'pg_x', 'X')"),
        &["refused-name pg_x - 1"],
        ("public", "DELETE FROM custom_auth_tenant WHERE schema_name = 'pg_x'"),
    );
}

#[test]
fn a_schema_like_a_tenants_that_is_not_registered_is_found_and_others_are_left_alone() {
    let db = fleet();
    // Another application's, with a history of its own, an extension's, and an empty one.
    db.execute(
        "public",
        "CREATE SCHEMA other CREATE TABLE __diesel_schema_migrations (version varchar(50) PRIMARY KEY); \
         INSERT INTO other.__diesel_schema_migrations VALUES ('20200101000000'); CREATE TABLE other.things (id int); \
         CREATE SCHEMA empty; CREATE SCHEMA crypt; CREATE EXTENSION citext SCHEMA crypt",
    );
    assert_eq!(found(&db), Vec::<String>::new());
    db.execute("public", "DELETE FROM custom_auth_tenant WHERE schema_name = 'acme'");
    assert_eq!(found(&db), ["unregistered acme - 1"]);
    let some = Named { directory: &Registry, names: ["globex".to_owned()].into() };
    let only_globex = Doctor::new(domain::migrations().unwrap(), &some, domain::rules());
    assert_eq!(told(&examine(&db, &only_globex)), Vec::<String>::new(), "nobody asked for all");
}

#[test]
fn names_that_differ_only_by_case_are_found() {
    check(("public", "CREATE SCHEMA \"ACME\""), &["case-twin acme - 1"], ("public", "DROP SCHEMA \"ACME\""));
}

#[test]
fn half_provisioned_tenants_are_found() {
    let report = check(
        (
            "public",
            "INSERT INTO custom_auth_tenant (id, schema_name, name) VALUES (gen_random_uuid(), 'fresh', 'F'); CREATE SCHEMA fresh",
        ),
        &["half-provisioned fresh - 1"],
        ("public", "DELETE FROM custom_auth_tenant WHERE schema_name = 'fresh'"),
    );
    assert_eq!(report.findings[0].fix, Fix::Command("tenantry migrate".into()));
    let db = fleet();
    db.execute("acme", "DROP TABLE users_userprofile, business_business_details, business_business");
    assert_eq!(found(&db), ["half-provisioned acme - 2"]);
    db.execute("acme", "CREATE TABLE something_else (id int)");
    assert_eq!(found(&db), ["half-provisioned acme - 2"]);
}

#[test]
fn a_tenant_without_a_history_is_found() {
    check(
        ("acme", "DROP TABLE __diesel_schema_migrations"),
        &["no-history acme - 1"],
        ("acme", "CREATE TABLE __diesel_schema_migrations AS SELECT * FROM globex.__diesel_schema_migrations"),
    );
}

#[test]
fn a_database_of_the_incidents_time_is_examined_before_it_is_taken_over() {
    let db = crate::baseline::legacy(["acme", "globex"]);
    db.execute("globex", "DELETE FROM users_userprofile");
    let expected = [
        "no-history public - 1",
        "no-history acme - 1",
        "no-history globex - 1",
        "dangling acme users_userprofile 1",
        "nulls acme users_userprofile 1",
        // Each was made for itself, at another time.
        "conflict acme business_business 1",
        "conflict acme users_userprofile 1",
        "conflict globex business_business 1",
    ];
    assert_eq!(found(&db), expected);
}

#[test]
fn a_writer_waits_for_nobody_while_a_fleet_is_examined() {
    let db = fleet();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|threads| {
        threads.spawn(|| {
            let conn = &mut db.connect();
            conn.batch_execute("SET lock_timeout = 100; SET deadlock_timeout = '10s'").unwrap();
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                for schema in ["acme", "globex", "initech"] {
                    conn.batch_execute(&format!(
                        "UPDATE {schema}.users_userprofile SET city = 'X'; UPDATE public.custom_auth_user SET first_name = 'Y'"
                    ))
                    .unwrap();
                }
            }
        });
        let reports: Vec<Report> = (0..6).map(|_| examine(&db, &doctor())).collect();
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(reports.iter().all(|report| told(report).is_empty()), "{reports:#?}");
    });
}

#[test]
fn versions_of_nobody_are_found_in_a_tenant_and_in_public() {
    for schema in ["acme", "public"] {
        check(
            (schema, "INSERT INTO __diesel_schema_migrations (version) VALUES ('0099')"),
            &[&format!("unknown-version {schema} - 1")],
            (schema, "DELETE FROM __diesel_schema_migrations WHERE version = '0099'"),
        );
    }
}

#[test]
fn a_history_in_the_wrong_schema_is_found() {
    check(
        ("acme", "INSERT INTO __diesel_schema_migrations (version) VALUES ('p0001')"),
        &["misplaced-history acme - 1"],
        ("acme", "DELETE FROM __diesel_schema_migrations WHERE version = 'p0001'"),
    );
    let report = check(
        ("acme", "DELETE FROM __diesel_schema_migrations WHERE version = '0002'"),
        &["misplaced-history acme - 1"],
        ("acme", "INSERT INTO __diesel_schema_migrations (version) VALUES ('0002')"),
    );
    insta::assert_snapshot!(report.findings[0].says, @"its history ends at 0001, and its structure is that of 0002");
}

#[test]
fn versions_that_are_missing_below_others_are_found() {
    let report = check(
        ("acme", "DELETE FROM __diesel_schema_migrations WHERE version = '0001'"),
        &["out-of-order acme - 1"],
        ("acme", "INSERT INTO __diesel_schema_migrations (version) VALUES ('0001')"),
    );
    assert_eq!(report.not_compared.len(), 1);
}

#[test]
fn tenants_are_compared_with_what_their_own_version_makes() {
    let db = fleet();
    let first = domain::migrations().unwrap().with_tenant_up_to("0001").unwrap();
    db.create_tenant("late", &first);
    db.execute(
        "public",
        "INSERT INTO custom_auth_tenant (id, schema_name, name) VALUES (gen_random_uuid(), 'late', 'L')",
    );
    let report = examine(&db, &doctor());
    assert_eq!(told(&report), ["behind late - 1"]);
    assert!(report.is_healthy() && report.not_compared.is_empty(), "to be behind is no illness: {report:?}");
    db.execute("late", "ALTER TABLE business_business DROP COLUMN created_at");
    assert_eq!(found(&db), ["behind late - 1", "missing late business_business 1"]);
}

#[test]
fn what_is_missing_changed_extra_or_renamed_is_found_with_its_cure() {
    let cured = |plant: &str, expected: &[&str]| {
        let db = fleet();
        db.execute("acme", plant);
        let report = examine(&db, &doctor());
        assert_eq!(told(&report), expected, "{:#?}", report.findings);
        for finding in &report.findings {
            let Fix::Sql(cure) = &finding.fix else { panic!("{finding:?}") };
            db.execute("acme", cure);
        }
        assert_eq!(found(&db), Vec::<String>::new());
    };
    cured("DROP INDEX users_userprofile_business_id_idx", &["missing acme users_userprofile 1"]);
    cured("ALTER TABLE users_userprofile DROP COLUMN city", &["missing acme users_userprofile 1"]);
    cured("ALTER TABLE users_userprofile ALTER country DROP DEFAULT", &["changed acme users_userprofile 1"]);
    cured("DROP TABLE users_userprofile", &["missing acme users_userprofile 1"]);
    cured("ALTER INDEX users_userprofile_business_id_idx RENAME TO other", &["renamed acme users_userprofile 1"]);
    let report = check(
        ("acme", "CREATE UNIQUE INDEX only_one ON business_business (name)"),
        &["extra acme business_business 1"],
        ("acme", "DROP INDEX only_one"),
    );
    assert!(!report.is_healthy());
    let report = check(("acme", "CREATE TABLE notes (id int)"), &["extra acme notes 1"], ("acme", "DROP TABLE notes"));
    assert!(report.is_healthy(), "it is in nobody's way");
}

#[test]
fn foreign_keys_out_of_a_tenant_and_into_one_are_found() {
    let key = "ALTER TABLE users_userprofile ADD CONSTRAINT out FOREIGN KEY (user_id) REFERENCES public.custom_auth_user (id)";
    check(
        ("acme", key),
        &["foreign-key-leak acme users_userprofile 1"],
        ("acme", "ALTER TABLE users_userprofile DROP CONSTRAINT out"),
    );
    let report = check(
        ("public", "CREATE TABLE invoices (business_id uuid REFERENCES acme.business_business (id))"),
        &["foreign-key-leak acme business_business 1"],
        ("public", "DROP TABLE invoices"),
    );
    insta::assert_snapshot!(report.findings[0].says, @"foreign key invoices_business_id_fkey of public.invoices refers to its business_business");
    // The incident's: made while the tenant had no such table.
    check(
        (
            "acme",
            "ALTER TABLE users_userprofile DROP CONSTRAINT users_userprofile_business_id_fk; \
            ALTER TABLE users_userprofile ADD CONSTRAINT users_userprofile_business_id_fk FOREIGN KEY (business_id) \
            REFERENCES public.business_business (id) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED NOT VALID",
        ),
        &["foreign-key-leak acme users_userprofile 1", "not-valid acme users_userprofile 1"],
        (
            "acme",
            "ALTER TABLE users_userprofile DROP CONSTRAINT users_userprofile_business_id_fk; \
            ALTER TABLE users_userprofile ADD CONSTRAINT users_userprofile_business_id_fk FOREIGN KEY (business_id) \
            REFERENCES business_business (id) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED",
        ),
    );
}

#[test]
fn defaults_from_another_schema_are_found() {
    check(
        (
            "acme",
            "CREATE SEQUENCE globex.shared; ALTER TABLE business_business_details ALTER business_type SET DEFAULT nextval('globex.shared')::text",
        ),
        &["default-leak acme business_business_details 1", "extra globex - 1"],
        ("acme", "ALTER TABLE business_business_details ALTER business_type DROP DEFAULT; DROP SEQUENCE globex.shared"),
    );
}

#[test]
fn views_of_another_schema_are_found() {
    check(
        ("acme", "CREATE VIEW spying AS SELECT name FROM globex.business_business"),
        &["view-leak acme spying 1"],
        ("acme", "DROP VIEW spying"),
    );
    check(
        ("public", "CREATE VIEW all_businesses AS SELECT name FROM globex.business_business"),
        &["view-leak globex business_business 1"],
        ("public", "DROP VIEW all_businesses"),
    );
}

#[test]
fn functions_that_name_another_schema_are_found() {
    check(
        (
            "acme",
            "CREATE FUNCTION spy() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM globex.business_business'",
        ),
        &["function-leak acme - 1"],
        ("acme", "DROP FUNCTION spy()"),
    );
    check(
        ("acme", "CREATE FUNCTION pinned() RETURNS int LANGUAGE sql SET search_path = globex AS 'SELECT 1'"),
        &["function-leak acme - 1"],
        ("acme", "DROP FUNCTION pinned()"),
    );
}

#[test]
fn triggers_that_call_another_schema_are_found() {
    check(
        (
            "acme",
            "CREATE FUNCTION public.touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'; \
            CREATE TRIGGER touch BEFORE UPDATE ON business_business FOR EACH ROW EXECUTE FUNCTION public.touch()",
        ),
        &["trigger-leak acme business_business 1"],
        ("acme", "DROP FUNCTION public.touch() CASCADE"),
    );
}

#[test]
fn tables_that_inherit_from_another_schema_are_found() {
    check(
        ("acme", "ALTER TABLE business_business INHERIT public.business_business"),
        &["inheritance-leak acme business_business 1"],
        ("acme", "ALTER TABLE business_business NO INHERIT public.business_business"),
    );
}

#[test]
fn types_and_extensions_in_a_tenant_are_found() {
    check(("acme", "CREATE TYPE mood AS ENUM ('glad')"), &["type-in-tenant acme - 1"], ("acme", "DROP TYPE mood"));
    check(
        ("acme", "CREATE EXTENSION citext SCHEMA acme"),
        &["extension-in-tenant acme - 1"],
        ("acme", "DROP EXTENSION citext"),
    );
}

#[test]
fn invalid_indexes_are_found() {
    let db = fleet();
    db.execute("acme", "INSERT INTO business_business (id, name) VALUES (gen_random_uuid(), 'X')");
    let failed = db.connect().batch_execute("CREATE UNIQUE INDEX CONCURRENTLY twice ON acme.business_business (name)");
    assert!(failed.is_err());
    assert_eq!(found(&db), ["invalid-index acme business_business 1"]);
    db.execute("acme", "DROP INDEX twice");
    assert_eq!(found(&db), Vec::<String>::new());
}

#[test]
fn constraints_that_were_never_validated_are_found_with_their_cure() {
    let db = fleet();
    db.execute(
        "acme",
        "ALTER TABLE users_userprofile DROP CONSTRAINT users_userprofile_business_id_fk; \
        ALTER TABLE users_userprofile ADD CONSTRAINT users_userprofile_business_id_fk FOREIGN KEY (business_id) \
        REFERENCES business_business (id) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED NOT VALID",
    );
    let report = examine(&db, &doctor());
    assert_eq!(told(&report), ["not-valid acme users_userprofile 1"]);
    let Fix::Sql(cure) = &report.findings[0].fix else { panic!("{report:?}") };
    db.execute("acme", cure);
    assert_eq!(found(&db), Vec::<String>::new());
}

/// A role of this test alone, which may SELECT everything that is there now.
fn reader(db: &TestDatabase) -> String {
    let role = format!("reader_{}", uuid::Uuid::new_v4().simple());
    db.execute(
        "public",
        &format!("CREATE ROLE {role} LOGIN PASSWORD 'x'; ALTER ROLE {role} SET default_transaction_read_only = on"),
    );
    for schema in ["public", "acme", "globex", "initech"] {
        db.execute("public", &format!("GRANT USAGE ON SCHEMA {schema} TO {role}; \
            GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO {role}; GRANT SELECT ON ALL SEQUENCES IN SCHEMA {schema} TO {role}"));
    }
    role
}

fn drop_role(db: &TestDatabase, role: &str) {
    db.execute("public", &format!("DROP OWNED BY {role}; DROP ROLE {role}"));
}

fn url_of(db: &TestDatabase, role: &str) -> String {
    let (_, server) = db.url().split_once('@').unwrap();
    format!("postgres://{role}:x@{server}")
}

#[test]
fn owners_and_grants_that_differ_from_most_are_found() {
    let db = fleet();
    let role = reader(&db);
    assert_eq!(found(&db), Vec::<String>::new());
    db.execute(
        "acme",
        &format!("REVOKE SELECT ON business_business FROM {role}; ALTER TABLE users_userprofile OWNER TO {role}"),
    );
    let told = found(&db);
    db.execute("acme", &format!("ALTER TABLE users_userprofile OWNER TO postgres; GRANT SELECT ON users_userprofile, business_business TO {role}"));
    let cured = found(&db);
    drop_role(&db, &role);
    assert_eq!(
        told.iter().filter(|line| line.starts_with("owner acme")).count(),
        2,
        "the table and its sequence: {told:?}"
    );
    assert!(told.iter().all(|line| line.starts_with("owner acme") || line.starts_with("grant acme")), "{told:?}");
    assert!(told.iter().any(|line| line.starts_with("grant acme")), "{told:?}");
    assert!(cured.iter().all(|line| !line.starts_with("owner")), "{cured:?}");
}

#[test]
fn a_role_that_may_only_select_finds_the_same_and_leaves_no_trace() {
    let db = fleet();
    let role = reader(&db);
    db.execute("acme", "UPDATE users_userprofile SET id = 7; ALTER TABLE users_userprofile DROP COLUMN city");
    let everything = "SELECT nspname FROM pg_namespace UNION ALL SELECT oid::text FROM pg_class UNION ALL SELECT 'x' || sum(n_tup_ins + n_tup_upd + n_tup_del) FROM pg_stat_user_tables ORDER BY 1";
    let before = db.texts(everything);
    let answer = run_with(TENANTRY, &["doctor"], &[("DATABASE_URL", &url_of(&db, &role))]);
    let after = db.texts(everything);
    drop_role(&db, &role);
    assert_eq!(answer.code, 2, "{answer:?}");
    insta::assert_snapshot!(crate::cli::timeless(&answer.out).replace(&role, "reader"), @r##"
    3 tenants examined in … s: 2 errors, 0 warnings, 0 notices

    sequence-behind: a sequence would hand out numbers that are taken (1 error)
        acme: sequence users_userprofile_id_seq is at 1, and 1 row of users_userprofile has a larger id (7)
            fix: SELECT setval('"acme"."users_userprofile_id_seq"'::regclass, (SELECT max("id") FROM "acme"."users_userprofile"))

    missing: something that the migrations make is missing (1 error)
        acme: column users_userprofile.city is missing: character varying(200) (by the majority)
            fix: ALTER TABLE "users_userprofile" ADD COLUMN "city" character varying(200)

    the statements may have bare names: run them with the schema alone on the search_path

    not looked at, or less closely:
        the structure at 0002 (3 schemas): role reader may not create a scratch schema: GRANT CREATE ON DATABASE to it, or use a role that has it; compared with the majority of the tenants instead
        the structure of public (1 schema): role reader may not create a scratch schema: GRANT CREATE ON DATABASE to it, or use a role that has it
    
    "##);
    assert_eq!(before, after);
}

#[test]
fn the_findings_as_a_person_sees_them() {
    let db = fleet();
    db.execute("public", &format!("INSERT INTO business_business (id, name) VALUES ('{B1}', 'Engines')"));
    force(
        &db,
        "acme",
        &format!("UPDATE users_userprofile SET business_id = '{B1}'; DROP INDEX users_userprofile_business_id_idx"),
    );
    db.execute("globex", "DROP INDEX users_userprofile_business_id_idx; UPDATE users_userprofile SET id = 7");
    db.execute("initech", "CREATE VIEW v AS SELECT 1 AS one");
    let answer = crate::cli::run(TENANTRY, &["doctor"], &db);
    assert_eq!(answer.code, 2);
    insta::assert_snapshot!(crate::cli::timeless(&answer.out), @r##"
    3 tenants examined in … s: 4 errors, 0 warnings, 1 notice

    orphan: rows refer to rows that are not in their schema (1 error)
        acme: 1 row of users_userprofile refers by business_id to business_business that is not there, but in public (bd8f8654-0752-4843-b076-0d7b2dc2e6d7)
            fix: tenantry repair

    sequence-behind: a sequence would hand out numbers that are taken (1 error)
        globex: sequence users_userprofile_id_seq is at 1, and 1 row of users_userprofile has a larger id (7)
            fix: SELECT setval('"globex"."users_userprofile_id_seq"'::regclass, (SELECT max("id") FROM "globex"."users_userprofile"))

    missing: something that the migrations make is missing (2 errors)
        acme, globex: index users_userprofile_business_id_idx of users_userprofile is missing: users_userprofile USING btree (business_id)
            fix: CREATE INDEX "users_userprofile_business_id_idx" ON users_userprofile USING btree (business_id)

    extra: something is there that the migrations do not make (1 notice)
        initech: view v is extra
            no fix: drop it, or have a migration make it everywhere

    the statements may have bare names: run them with the schema alone on the search_path
    
    "##);
    let answer = crate::cli::run(TENANTRY, &["doctor", "--only", "extra"], &db);
    assert_eq!(answer.code, 0, "a notice is no illness: {answer:?}");
    let answer =
        crate::cli::run(TENANTRY, &["doctor", "--tenant", "globex", "--skip", "missing", "--jobs", "1", "--json"], &db);
    assert_eq!(answer.code, 2);
    insta::assert_snapshot!(without_times(&answer.out), @r##"
    {
      "healthy": false,
      "tenants": 1,
      "counts": {
        "sequence-behind": 1
      },
      "findings": [
        {
          "kind": "sequence-behind",
          "severity": "error",
          "schema": "globex",
          "table": "users_userprofile",
          "columns": [
            "id"
          ],
          "count": 1,
          "examples": [
            "7"
          ],
          "says": "sequence users_userprofile_id_seq is at 1, and 1 row of users_userprofile has a larger id",
          "fix": {
            "sql": "SELECT setval('\"globex\".\"users_userprofile_id_seq\"'::regclass, (SELECT max(\"id\") FROM \"globex\".\"users_userprofile\"))"
          }
        }
      ],
      "not_compared": [],
    }
    "##);
    assert_eq!(crate::cli::run(TENANTRY, &["doctor", "--only", "nonsense"], &db).code, 1);
    assert!(crate::cli::run_with(TENANTRY, &["doctor", "--kinds"], &[]).out.lines().count() == Kind::ALL.len());
}

fn without_times(json: &str) -> String {
    let lines = json.lines().filter(|line| !line.contains("elapsed_ms"));
    lines.collect::<Vec<_>>().join("\n")
}

/// Odd names, composite keys, a table without a key, generated columns, and a partitioned table.
const ODD: &str = r#"
    CREATE TABLE "odd ""table"" x" ("the id" int, "it's" text, twice int GENERATED ALWAYS AS ("the id" * 2) STORED, "tenant id" uuid,
        PRIMARY KEY ("the id", "it's"));
    CREATE TABLE keyless (a int, b text, note text, "tenant id" uuid, FOREIGN KEY (a, b) REFERENCES "odd ""table"" x" ("the id", "it's"));
    CREATE TABLE parted (id bigint GENERATED ALWAYS AS IDENTITY, made date NOT NULL, a int, b text, PRIMARY KEY (id, made),
        FOREIGN KEY (a, b) REFERENCES "odd ""table"" x" ("the id", "it's")) PARTITION BY RANGE (made);
    CREATE TABLE parted_2026 PARTITION OF parted FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
    CREATE TABLE "down" (id int PRIMARY KEY DEFAULT 0);
    CREATE SEQUENCE falling INCREMENT BY -1 MINVALUE -100 MAXVALUE -1 OWNED BY "down".id;
    ALTER TABLE "down" ALTER id SET DEFAULT nextval('falling');
"#;

fn odd_fleet() -> (TestDatabase, Migrations, FixedList) {
    let migrations = migrations(&[("0001_odd", ODD, "SELECT 1")]);
    let db = TestDatabase::with_empty_schemas(["Odd-Tenant", "acme"]);
    let directory = FixedList(vec!["Odd-Tenant".parse().unwrap(), "acme".parse().unwrap()]);
    let fleet = Fleet { migrations: &migrations, directory: &directory, rules: domain::rules() };
    fleet.run(&Run::new(&migrations), &|| pg::connect(db.config())).unwrap();
    (db, migrations, directory)
}

#[test]
fn odd_names_keys_and_tables_are_looked_at_like_any_other() {
    let (db, migrations, directory) = odd_fleet();
    let rules = Rules { owner_column: Some("tenant id".into()), ..Rules::default() };
    let doctor = Doctor::new(&migrations, &directory, &rules);
    let report = examine(&db, &doctor);
    assert_eq!(told(&report), Vec::<String>::new(), "{report:#?}");
    force(
        &db,
        "Odd-Tenant",
        r#"INSERT INTO "odd ""table"" x" VALUES (1, 'one');
           INSERT INTO keyless VALUES (1, 'one'), (1, 'it''s "2"'), (NULL, 'nothing');
           INSERT INTO parted (made, a, b) VALUES ('2026-02-02', 3, 'three'), ('2026-02-02', 1, 'one');
           INSERT INTO parted (id, made) OVERRIDING SYSTEM VALUE VALUES (9, '2026-03-03'); INSERT INTO "down" VALUES (-5)"#,
    );
    let report = examine(&db, &doctor);
    assert_eq!(
        told(&report),
        [
            "orphan Odd-Tenant keyless 1",
            "orphan Odd-Tenant parted 1",
            "sequence-behind Odd-Tenant down 1",
            "sequence-behind Odd-Tenant parted 1"
        ],
        "{report:#?}"
    );
    assert_eq!(report.findings[0].examples, ["(1, it's \"2\")"]);
    for finding in report.of(Kind::SequenceBehind) {
        let Fix::Sql(cure) = &finding.fix else { panic!("{finding:?}") };
        db.execute("Odd-Tenant", cure);
    }
    force(&db, "Odd-Tenant", "DELETE FROM keyless; DELETE FROM parted WHERE a = 3");
    assert_eq!(told(&examine(&db, &doctor)), Vec::<String>::new());
    // In public, a row without a key that both have is the same only if all of it is.
    db.execute("public", "INSERT INTO keyless (note) VALUES ('left behind')");
    assert_eq!(told(&examine(&db, &doctor)), Vec::<String>::new());
}

#[test]
fn a_migration_that_makes_a_type_or_reaches_out_is_noted_and_no_illness() {
    let migrations = migrations(&[(
        "0001_reaching",
        "CREATE TYPE mood AS ENUM ('glad'); CREATE TABLE t (id int PRIMARY KEY, how mood); \
         CREATE VIEW v AS SELECT id FROM public.shared",
        "SELECT 1",
    )]);
    let db = TestDatabase::with_empty_schemas(["acme", "globex"]);
    let directory = FixedList(vec!["acme".parse().unwrap(), "globex".parse().unwrap()]);
    let rules = Rules::default();
    let fleet = Fleet { migrations: &migrations, directory: &directory, rules: &rules };
    db.execute("public", "CREATE TABLE shared (id int)");
    fleet.run(&Run::new(&migrations), &|| pg::connect(db.config())).unwrap();
    let report = examine(&db, &Doctor::new(&migrations, &directory, &rules));
    assert_eq!(
        told(&report),
        ["view-leak acme v 1", "view-leak globex v 1", "type-in-tenant acme - 1", "type-in-tenant globex - 1"]
    );
    assert!(report.is_healthy(), "{report:#?}");
}

#[test]
fn a_tenant_that_is_locked_is_named_and_the_others_are_examined() {
    let db = fleet();
    db.execute("globex", "UPDATE users_userprofile SET id = 7");
    let mut holder = db.connect();
    holder.batch_execute("BEGIN; LOCK TABLE acme.users_userprofile IN ACCESS EXCLUSIVE MODE").unwrap();
    let report = examine(&db, &doctor());
    let told = told(&report);
    assert_eq!(told, ["unreadable acme - 1", "sequence-behind globex users_userprofile 1"], "{report:#?}");
    assert!(report.findings[0].says.contains("lock timeout"), "{:?}", report.findings[0]);
    drop(holder);
}

#[test]
fn tenants_that_come_and_go_and_change_meanwhile_are_no_findings() {
    let db = fleet();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|threads| {
        threads.spawn(|| {
            let (mut n, conn) = (0, &mut db.connect());
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                n += 1;
                let name = format!("passing_{n}");
                let schema: SchemaName = tenant(conn, &name).1;
                conn.batch_execute(&format!(
                    "UPDATE acme.users_userprofile SET city = '{n}'; BEGIN; DROP SCHEMA {schema} CASCADE; \
                     DELETE FROM public.custom_auth_tenant WHERE schema_name = '{schema}'; COMMIT"
                ))
                .unwrap();
            }
        });
        let reports: Vec<Report> = (0..8).map(|_| examine(&db, &doctor())).collect();
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        for report in reports {
            assert_eq!(told(&report), Vec::<String>::new(), "{:#?}", report.findings);
        }
    });
}

/// Plants an illness in acme, has exactly it found, repaired, and nothing found.
#[track_caller]
fn check_repair(plant: &str, expected: &[&str]) {
    let db = fleet();
    force(&db, "acme", plant);
    let report = examine(&db, &doctor());
    assert_eq!(told(&report), expected, "{:#?}", report.findings);
    let conn = &mut db.connect();
    let listing = Registry.list(conn).unwrap();
    let migrations = domain::migrations().unwrap();
    let repair = Repair::new(domain::rules()).migrations(migrations).findings(&report.findings).remove_originals(true);
    let repaired = repair.apply(conn, &listing).unwrap();
    assert!(repaired.is_healthy(), "{repaired:#?}");
    assert_eq!(found(&db), Vec::<String>::new(), "repaired: {repaired:#?}");
}

#[test]
fn what_a_repair_can_put_right_is_not_found_again() {
    let drop = "ALTER TABLE users_userprofile DROP CONSTRAINT users_userprofile_business_id_fk";
    let add = "ALTER TABLE users_userprofile ADD CONSTRAINT users_userprofile_business_id_fk FOREIGN KEY (business_id) REFERENCES";
    check_repair(
        &format!(
            "INSERT INTO public.business_business (id, name) VALUES ('{B1}', 'X'); UPDATE users_userprofile SET business_id = '{B1}'"
        ),
        &["orphan acme users_userprofile 1"],
    );
    check_repair(
        &format!(
            "INSERT INTO public.users_userprofile (id, user_id, tenant_id) VALUES (9, '{B2}', {T_ACME}); INSERT INTO public.custom_auth_user (id, email) VALUES ('{B2}', 'b@example.com')"
        ),
        &["stray acme users_userprofile 1"],
    );
    check_repair(
        "ALTER TABLE users_userprofile ALTER updated_at DROP NOT NULL; UPDATE users_userprofile SET updated_at = NULL",
        &["nulls acme users_userprofile 1"],
    );
    check_repair("UPDATE users_userprofile SET id = 7", &["sequence-behind acme users_userprofile 1"]);
    check_repair(
        "INSERT INTO public.business_business SELECT * FROM business_business",
        &["copy acme business_business 1"],
    );
    check_repair(
        &format!(
            "INSERT INTO public.business_business SELECT * FROM business_business; {drop}; {add} public.business_business ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED"
        ),
        &["copy acme business_business 1", "foreign-key-leak acme users_userprofile 1"],
    );
    check_repair(
        &format!("{drop}; {add} business_business ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED NOT VALID"),
        &["not-valid acme users_userprofile 1"],
    );
    check_repair(drop, &["missing acme users_userprofile 1"]);
    check_repair(&format!("{drop}; {add} business_business"), &["changed acme users_userprofile 1"]);
}

#[test]
fn values_of_an_extensions_type_are_compared_as_the_extension_does() {
    let db = migrated();
    tenant(&mut db.connect(), "acme");
    db.execute("public", "CREATE EXTENSION citext SCHEMA public");
    db.execute(
        "acme",
        "CREATE TABLE parents (id public.citext PRIMARY KEY); INSERT INTO parents VALUES ('A'); \
         CREATE TABLE children (id int PRIMARY KEY, parent_id public.citext REFERENCES parents); \
         INSERT INTO children VALUES (1, 'a')",
    );
    assert_eq!(told(&examine(&db, &doctor().only([Kind::Orphan]))), Vec::<String>::new());
    let conn = &mut db.connect();
    let listing = Registry.list(conn).unwrap();
    assert_eq!(tenantry::doctor::examine(conn, &listing.tenants[0], domain::rules()).unwrap().findings, []);
}
