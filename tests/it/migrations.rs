//! The migrations of this crate, and what they make.

use std::{collections::BTreeMap, fs, path::Path};

use diesel::{Connection, RunQueryDsl, connection::SimpleConnection, sql_query};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};
use tenantry::{
    Error,
    domain::{self, models::NewUserProfile},
    migrate::{MigrationSet, Migrations, Run, apply},
    pg::{self, scope},
    provision, structure,
    testing::TestDatabase,
};
use uuid::Uuid;

use crate::support::{self, migrated, tenant};

const PUBLIC: EmbeddedMigrations = embed_migrations!("migrations/public");
const TENANT: EmbeddedMigrations = embed_migrations!("migrations/tenant");

/// Every column, constraint, index and comment of a schema, without the schema's name.
fn structure(db: &TestDatabase, schema: &str) -> Vec<String> {
    let mut lines = db.texts(&format!(
        "SELECT concat_ws(' ', c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity, \
                pg_get_expr(d.adbin, d.adrelid), col_description(c.oid, a.attnum)) \
         FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped \
         LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum \
         WHERE c.relnamespace = '{schema}'::regnamespace AND c.relkind = 'r' AND c.relname !~ '^__' \
         UNION ALL SELECT conname || ' ' || pg_get_constraintdef(oid) FROM pg_constraint WHERE connamespace = '{schema}'::regnamespace AND conname !~ '^__' \
         UNION ALL SELECT indexdef FROM pg_indexes WHERE schemaname = '{schema}' AND tablename !~ '^__'"
    ));
    lines.iter_mut().for_each(|line| *line = line.replace(&format!("{schema}."), "").replace("public.", ""));
    lines.sort();
    lines
}

#[test]
fn every_migration_survives_up_down_up() {
    let db = TestDatabase::with_empty_schemas(["acme"]);
    for (schema, migrations) in [("public", PUBLIC), ("acme", TENANT)] {
        let conn = &mut db.connect();
        conn.batch_execute(&format!("SET search_path = {schema}")).unwrap();
        conn.run_pending_migrations(migrations).unwrap();
        let first = structure(&db, schema);
        let migrations = if schema == "public" { PUBLIC } else { TENANT };
        conn.revert_all_migrations(migrations).unwrap();
        assert_eq!(structure(&db, schema), Vec::<String>::new());
        let migrations = if schema == "public" { PUBLIC } else { TENANT };
        conn.run_pending_migrations(migrations).unwrap();
        assert_eq!(structure(&db, schema), first);
    }
}

#[test]
fn every_foreign_key_has_an_index() {
    let db = migrated();
    let lacking = db.texts(
        "SELECT conname FROM pg_constraint k WHERE contype = 'f' AND connamespace = 'public'::regnamespace AND NOT EXISTS ( \
           SELECT FROM pg_index i WHERE i.indrelid = k.conrelid AND (i.indkey::int2[])[0:cardinality(k.conkey) - 1] = k.conkey)",
    );
    assert_eq!(lacking, Vec::<String>::new());
}

#[test]
fn every_table_is_commented() {
    let db = migrated();
    let silent = db.texts(
        "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' \
         AND relname !~ '^__' AND obj_description(oid) IS NULL",
    );
    assert_eq!(silent, Vec::<String>::new());
}

#[test]
fn a_tenant_refers_to_nothing_outside_itself() {
    let db = migrated();
    tenant(&mut db.connect(), "acme");
    let leaving = db.texts(
        "SELECT conname FROM pg_constraint k JOIN pg_class p ON p.oid = k.confrelid \
         WHERE k.connamespace = 'acme'::regnamespace AND p.relnamespace <> k.connamespace",
    );
    assert_eq!(leaving, Vec::<String>::new());
}

#[test]
fn public_and_tenants_have_the_same_tenant_tables() {
    let db = migrated();
    tenant(&mut db.connect(), "acme");
    let public = structure(&db, "public")
        .into_iter()
        .filter(|line| {
            !line.contains("custom_auth_user ")
                && !line.contains("custom_auth_tenant ")
                && !line.starts_with("custom_auth")
        })
        .collect::<Vec<_>>();
    assert_eq!(structure(&db, "acme"), public);
}

#[test]
fn only_keys_names_emails_and_the_users_id_must_be_given() {
    let db = migrated();
    tenant(&mut db.connect(), "acme");
    db.execute("public", "INSERT INTO custom_auth_user (id, email) VALUES (gen_random_uuid(), 'a@b.c')");
    db.execute("public", "INSERT INTO custom_auth_tenant (id, schema_name, name) VALUES (gen_random_uuid(), 'x', 'X')");
    db.execute(
        "acme",
        "INSERT INTO business_business (id, name) VALUES ('bd8f8654-0752-4843-b076-0d7b2dc2e6d7', 'B'); \
         INSERT INTO business_business_details (business_id) VALUES ('bd8f8654-0752-4843-b076-0d7b2dc2e6d7'); \
         INSERT INTO users_userprofile (user_id) VALUES (gen_random_uuid())",
    );
    assert_eq!(
        db.text("SELECT concat_ws(' ', legal_structure, country, business_subtype_selections) FROM acme.business_business_details"),
        "SOLE_PROPRIETORSHIP US {}"
    );
}

/// `src/domain/schema.rs` against the catalog, without the Diesel CLI that writes it.
#[test]
fn the_table_definitions_are_up_to_date() {
    let db = migrated();
    let file = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/domain/schema.rs")).unwrap();
    let mut written = BTreeMap::<String, Vec<String>>::new();
    let mut table = String::new();
    let mut length = None;
    for line in file.lines().map(str::trim) {
        if let Some((name, _)) = line.split_once(" (").filter(|_| line.ends_with(") {")) {
            assert_eq!(
                name.starts_with("public."),
                name.contains("custom_auth"),
                "{name}: public tables qualified, tenant tables bare"
            );
            table = name.trim_start_matches("public.").into();
        } else if let Some(max) = line.strip_prefix("#[max_length = ") {
            length = Some(max.trim_end_matches(']').to_owned());
        } else if let Some((column, kind)) = line.split_once(" -> ").filter(|_| line.ends_with(',')) {
            let length = length.take().map(|length| format!("({length})")).unwrap_or_default();
            written.entry(table.clone()).or_default().push(format!("{column} {}{length}", kind.trim_end_matches(',')));
        }
    }
    let mut found = BTreeMap::<String, Vec<String>>::new();
    let rows = db.texts(
        "SELECT concat_ws(' ', c.relname, a.attname, a.attnotnull, t.typname, nullif(a.atttypmod, -1) - 4) \
         FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped \
         JOIN pg_type t ON t.oid = a.atttypid \
         WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND c.relname !~ '^__' ORDER BY c.relname, a.attnum",
    );
    for row in rows {
        let words: Vec<&str> = row.split(' ').collect();
        let mut kind = words[3][..1].to_uppercase() + &words[3][1..];
        if words[2] == "f" {
            kind = format!("Nullable<{kind}>");
        }
        let length = words.get(4).map(|length| format!("({length})")).unwrap_or_default();
        found.entry(words[0].into()).or_default().push(format!("{} {kind}{length}", words[1]));
    }
    assert_eq!(written, found, "run: diesel print-schema > src/domain/schema.rs");
}

#[test]
fn diesel_understands_what_is_recorded() {
    let db = migrated();
    tenant(&mut db.connect(), "acme");
    let conn = &mut db.connect();
    for (path, set, versions) in [("public", PUBLIC, "p0001"), ("public", TENANT, "0002"), ("acme", TENANT, "0002")] {
        conn.batch_execute(&format!("SET search_path = {path}")).unwrap();
        let applied = conn.applied_migrations().unwrap();
        assert!(applied.iter().any(|version| version.to_string() == versions), "{applied:?}");
        assert!(!conn.has_pending_migration(set).unwrap());
    }
    // And it can go on from there.
    assert_eq!(conn.revert_last_migration(TENANT).unwrap().to_string(), "0002");
    let run = Run::new(domain::migrations().unwrap());
    let report = run.tenants_on(conn, &["acme".parse().unwrap()]);
    assert_eq!((report.lines[0].outcome(), &*report.lines[0].applied), ("migrated", &["0002".to_owned()][..]));
    let text = "SELECT column_default || ' ' || data_type FROM information_schema.columns WHERE table_schema = 'acme' \
                AND table_name = '__diesel_schema_migrations' AND column_name = 'run_on'";
    assert_eq!(db.text(text), "CURRENT_TIMESTAMP timestamp without time zone");
}

#[test]
fn what_diesel_applied_is_not_applied_again() {
    let db = TestDatabase::with_empty_schemas(["acme"]);
    let conn = &mut db.connect();
    conn.batch_execute("SET search_path = acme").unwrap();
    conn.run_next_migration(TENANT).unwrap();
    let applied =
        apply(conn, &"acme".parse().unwrap(), domain::migrations().unwrap(), db.config().lock_timeout).unwrap();
    assert_eq!(applied, ["0002"]);
    assert_eq!(db.versions("acme"), ["0001", "0002"]);
}

#[test]
fn the_added_column_is_filled_where_somebody_had_added_it_by_hand() {
    let db = TestDatabase::new();
    let migrations = domain::migrations().unwrap();
    let acme = db.create_tenant("acme", &migrations.with_tenant_up_to("0001").unwrap());
    db.execute(
        "acme",
        "ALTER TABLE users_userprofile ADD COLUMN updated_at timestamptz; \
         INSERT INTO users_userprofile (user_id, created_at, modified_at) VALUES (gen_random_uuid(), '2025-03-15 15:17:43+00', '2025-03-16 00:00:00+00'); \
         INSERT INTO users_userprofile (user_id, updated_at) VALUES (gen_random_uuid(), '2020-01-01 00:00:00+00')",
    );
    apply(&mut db.connect(), &acme, migrations, db.config().lock_timeout).unwrap();
    let moments = db.texts("SELECT extract(year FROM updated_at) || ' ' || (updated_at = modified_at) FROM acme.users_userprofile ORDER BY id");
    assert_eq!(moments, ["2025 true", "2020 false"]);
    let fresh = db.create_tenant("fresh", migrations);
    assert_eq!(structure(&db, "acme"), structure(&db, fresh.as_str()));
}

#[test]
fn the_column_is_added_in_the_transaction_that_wrote_the_rows() {
    let db = TestDatabase::new();
    let migrations = domain::migrations().unwrap();
    let conn = &mut db.connect();
    let acme = "acme".parse().unwrap();
    conn.begin_test_transaction().unwrap();
    provision::create(conn, &acme, &migrations.with_tenant_up_to("0001").unwrap(), db.config().lock_timeout).unwrap();
    sql_query("INSERT INTO acme.business_business (id, name) VALUES ('bd8f8654-0752-4843-b076-0d7b2dc2e6d7', 'B')")
        .execute(conn)
        .unwrap();
    sql_query("INSERT INTO acme.users_userprofile (user_id, business_id) VALUES (gen_random_uuid(), 'bd8f8654-0752-4843-b076-0d7b2dc2e6d7')").execute(conn).unwrap();
    assert_eq!(apply(conn, &acme, migrations, db.config().lock_timeout).unwrap(), ["0002"]);
    let profile = NewUserProfile { user_id: Uuid::new_v4(), ..Default::default() };
    scope::transaction(conn, &acme, |tenant| profile.insert(tenant)).unwrap();
}

pub fn set(name: &str, migrations: &[(&str, &str)]) -> Result<MigrationSet, Error> {
    let scripts: Vec<(&str, &str, &str)> = migrations.iter().map(|(name, up)| (*name, *up, "SELECT 1")).collect();
    support::set(name, &scripts)
}

/// Migrations with nothing for `public` and these for the tenants.
fn tenant_migrations(migrations: &[(&str, &str)]) -> Migrations {
    Migrations::new(set("public", &[("p1_nothing", "SELECT 1")]).unwrap(), set("tenant", migrations).unwrap()).unwrap()
}

#[test]
fn versions_that_both_sets_have_are_refused() {
    let public = set("public", &[("0001_users", "SELECT 1")]).unwrap();
    let tenant = set("tenant", &[("0001_projects", "SELECT 1")]).unwrap();
    insta::assert_snapshot!(
        Migrations::new(public, tenant).unwrap_err(),
        @"the tenant migrations cannot be used: version 0001 is in the public set too, and both record it in public: rename one of the two folders"
    );
}

#[test]
fn two_folders_of_one_version_are_refused() {
    let error = set("tenant", &[("0001_a", "SELECT 1"), ("00-01_b", "SELECT 2")]).unwrap_err().to_string();
    assert!(error.contains("have the same version"), "{error}");
}

#[test]
fn a_migration_that_changes_the_path_is_refused_and_leaves_nothing() {
    let db = TestDatabase::with_empty_schemas(["acme"]);
    let migrations = tenant_migrations(&[
        ("1_ok", "CREATE TABLE a ()"),
        ("2_strays", "SET search_path = public; CREATE TABLE b ()"),
    ]);
    let error = apply(&mut db.connect(), &"acme".parse().unwrap(), &migrations, db.config().lock_timeout).unwrap_err();
    assert!(
        error.chain().starts_with("migration 2 failed in schema `acme`: it leaves search_path at \"public\""),
        "{}",
        error.chain()
    );
    assert_eq!(
        db.texts("SELECT relname FROM pg_class WHERE relname IN ('a', 'b', '__diesel_schema_migrations')"),
        Vec::<String>::new()
    );
}

#[test]
fn a_migration_that_ends_the_transaction_is_refused_before_it_is_sent() {
    for script in ["CREATE TABLE a (); COMMIT; CREATE TABLE b ()", "BEGIN; CREATE TABLE a (); COMMIT;"] {
        let db = TestDatabase::with_empty_schemas(["acme"]);
        let migrations = tenant_migrations(&[("1_ends", script)]);
        let connect = || pg::connect(db.config());
        let report = Run::new(&migrations).tenants(&connect, &["acme".parse().unwrap()]).unwrap();
        let error = report.lines[0].result.as_ref().unwrap_err().chain();
        assert!(error.contains("of its own, and runs in a transaction with its record"), "{error}");
        assert_eq!(db.texts("SELECT relname FROM pg_class WHERE relname IN ('a', 'b')"), Vec::<String>::new());
    }
}

#[test]
fn a_script_may_end_in_a_comment_or_hold_semicolons_in_quotes() {
    let db = TestDatabase::with_empty_schemas(["acme"]);
    let migrations = tenant_migrations(&[
        ("1_comment", "CREATE TABLE a (t text) -- the end"),
        (
            "2_body",
            "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS $$ SELECT 1; SELECT 2 $$; INSERT INTO a VALUES (';')",
        ),
    ]);
    let applied = apply(&mut db.connect(), &"acme".parse().unwrap(), &migrations, db.config().lock_timeout).unwrap();
    assert_eq!(applied, ["1", "2"]);
    assert_eq!(db.text("SELECT t FROM acme.a"), ";");
}

#[test]
fn a_migration_written_in_rust_runs_on_the_real_connection() {
    use diesel::{
        connection::BoxableConnection,
        migration::{Migration, MigrationMetadata, MigrationName, MigrationSource, MigrationVersion},
        pg::Pg,
    };
    struct InRust;
    impl std::fmt::Display for InRust {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("9_in_rust")
        }
    }
    impl MigrationName for InRust {
        fn version(&self) -> MigrationVersion<'_> {
            MigrationVersion::from("9")
        }
    }
    impl MigrationMetadata for InRust {}
    impl Migration<Pg> for InRust {
        fn run(&self, conn: &mut dyn BoxableConnection<Pg>) -> diesel::migration::Result<()> {
            conn.batch_execute("CREATE TABLE made (in_rust int)")?;
            let conn = conn.downcast_mut::<diesel::PgConnection>().ok_or("needs the real connection")?;
            sql_query("INSERT INTO made VALUES (1)").execute(conn)?;
            assert_ne!(scope::current(conn)?.visible, ["globex"], "a fault of its own");
            Ok(())
        }
        fn revert(&self, conn: &mut dyn BoxableConnection<Pg>) -> diesel::migration::Result<()> {
            let conn = conn.downcast_mut::<diesel::PgConnection>().expect("the real connection");
            conn.batch_execute("DROP TABLE made")?;
            Ok(())
        }
        fn metadata(&self) -> &dyn MigrationMetadata {
            self
        }
        fn name(&self) -> &dyn MigrationName {
            self
        }
    }
    struct Source;
    impl MigrationSource<Pg> for Source {
        fn migrations(&self) -> diesel::migration::Result<Vec<Box<dyn Migration<Pg>>>> {
            Ok(vec![Box::new(InRust)])
        }
    }
    let db = TestDatabase::with_empty_schemas(["acme"]);
    let public = set("public", &[("p1_nothing", "SELECT 1")]).unwrap();
    let migrations = Migrations::new(public, MigrationSet::new("tenant", Source).unwrap()).unwrap();
    let applied = apply(&mut db.connect(), &"acme".parse().unwrap(), &migrations, db.config().lock_timeout).unwrap();
    assert_eq!(
        (applied, db.text("SELECT in_rust FROM acme.made"), db.versions("acme")),
        (vec!["9".into()], "1".into(), vec!["9".into()])
    );
    // Its panic is one tenant's failure.
    db.execute("public", "CREATE SCHEMA globex; DROP SCHEMA acme CASCADE; CREATE SCHEMA acme");
    let schemas = ["globex", "acme"].map(|name| name.parse().unwrap());
    let report = Run::new(&migrations).jobs(1).tenants(&|| pg::connect(db.config()), &schemas).unwrap();
    assert_eq!(support::outcomes(&report), ["globex failed", "acme migrated"]);
    let error = report.lines[0].result.as_ref().unwrap_err().chain();
    assert!(
        error.starts_with("migration 9 failed in schema `globex`: it panicked: ")
            && error.contains("a fault of its own"),
        "{error}"
    );
    let (conn, acme) = (&mut db.connect(), "acme".parse().unwrap());
    let wanted = structure::reference(conn, &migrations, &acme, db.config().lock_timeout).unwrap();
    let found = structure::Reader::new().read(conn, std::slice::from_ref(&acme)).unwrap();
    assert_eq!((structure::compare(&wanted.structure, &found[&acme]), found[&acme].objects.len()), (vec![], 2));
}
