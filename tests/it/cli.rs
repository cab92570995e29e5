//! The programs, as a user starts them.

use std::{
    process::{Command, Output},
    time::{Duration, Instant},
};

use tenantry::testing::TestDatabase;

use crate::{
    baseline::legacy,
    support::{migrated, tenant},
};

pub const TENANTRY: &str = env!("CARGO_BIN_EXE_tenantry");
pub const MIGRATE_ALL: &str = env!("CARGO_BIN_EXE_migrate-all-tenants");

/// What a program answered.
#[derive(Debug)]
pub struct Answer {
    pub code: i32,
    pub out: String,
    pub err: String,
}

/// Runs a program with nothing in its environment but this, in a folder without a `.env`.
pub fn run_with(program: &str, args: &[&str], environment: &[(&str, &str)]) -> Answer {
    let folder = std::env::temp_dir().join(format!("tenantry-{}", uuid::Uuid::new_v4()));
    std::fs::create_dir(&folder).unwrap();
    let output = Command::new(program)
        .args(args)
        .env_clear()
        .envs(environment.iter().copied())
        .current_dir(&folder)
        .output()
        .unwrap();
    std::fs::remove_dir_all(folder).unwrap();
    answer(output)
}

fn answer(output: Output) -> Answer {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Answer { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
}

pub fn run(program: &str, args: &[&str], db: &TestDatabase) -> Answer {
    run_with(program, args, &[("DATABASE_URL", db.url())])
}

/// Without what differs from run to run.
pub fn timeless(text: &str) -> String {
    let mut words: Vec<String> = Vec::new();
    let mut lines = Vec::new();
    for line in text.lines() {
        for word in line.split(' ') {
            let number = words.last().is_some_and(|last| last == "in") && word.parse::<f32>().is_ok();
            words.push(if number { "…".into() } else { word.into() });
        }
        lines.push(words.join(" "));
        words.clear();
    }
    lines.join("\n")
}

/// Two tenants with empty schemas, of which the second cannot be migrated.
fn acme_and_broken_globex() -> TestDatabase {
    let db = migrated();
    for schema in ["acme", "globex"] {
        db.execute(
            "public",
            &format!(
                "CREATE SCHEMA {schema}; \
                 INSERT INTO custom_auth_tenant (id, schema_name, name) VALUES (gen_random_uuid(), '{schema}', 'X')"
            ),
        );
    }
    db.execute("globex", "CREATE TABLE business_business ()");
    db
}

#[test]
fn the_deploy_job_migrates_and_reports() {
    let db = acme_and_broken_globex();
    let first = run(MIGRATE_ALL, &[], &db);
    assert_eq!(first.code, 2);
    insta::assert_snapshot!(timeless(&first.out), @r#"
    acme    migrated  0001, 0002 in … ms
    globex  failed    migration 0001 failed in schema `globex`: relation "business_business" already exists
    1 migrated, 1 up to date, 1 failed, in … s (run 1)
    "#);
    assert!(first.err.contains("globex failed") && first.err.contains("2 of 2 tenants done"), "{}", first.err);
    db.execute("globex", "DROP TABLE business_business");
    assert_eq!(run(TENANTRY, &["migrate", "--jobs", "1"], &db).code, 0);
    let third = run(MIGRATE_ALL, &[], &db);
    assert_eq!((third.code, timeless(&third.out).as_str()), (0, "0 migrated, 3 up to date, 0 failed, in … s (run 3)"));
}

#[test]
fn reports_are_json_on_request() {
    let db = acme_and_broken_globex();
    let answer = run(MIGRATE_ALL, &["--json"], &db);
    let events: Vec<serde_json::Value> =
        answer.out.lines().map(|line| serde_json::from_str(line).expect("a line is a value")).collect();
    let shown: Vec<String> = events
        .iter()
        .map(|event| match event["event"].as_str().unwrap() {
            "finished" => format!("{} {} {}", event["schema"], event["outcome"], event["applied"]),
            "summary" => format!("{} migrated, {} failed, run {}", event["migrated"], event["failed"], event["run"]),
            other => format!("{other} {}", event["tenants"]),
        })
        .collect();
    assert_eq!(
        shown,
        ["started 2", r#""acme" "migrated" ["0001","0002"]"#, r#""globex" "failed" []"#, "1 migrated, 1 failed, run 1"]
    );
    for args in [["status", "--json"], ["plan", "--json"], ["repair", "--json"]] {
        let answer = run(TENANTRY, &args, &db);
        assert!(serde_json::from_str::<serde_json::Value>(&answer.out).is_ok(), "{answer:?}");
    }
}

#[test]
fn status_and_plan_show_the_fleet_and_change_nothing() {
    let db = acme_and_broken_globex();
    db.execute(
        "public",
        "INSERT INTO custom_auth_tenant (id, schema_name, name) VALUES (gen_random_uuid(), 'ghost', 'X')",
    );
    let status = run(TENANTRY, &["status"], &db);
    assert_eq!(status.code, 2);
    insta::assert_snapshot!(status.out, @"
    4 schemas: 2 behind, 1 missing, 1 up to date

    SCHEMA  VERSION  PENDING  STATE
    public  0002     0        up to date
    acme    -        2        behind: nothing applied
    ghost   -        0        missing: in the registry, and no such schema
    globex  -        2        behind: nothing applied
    ");
    let plan = run(TENANTRY, &["plan"], &db);
    assert_eq!(plan.code, 2, "ghost could not be migrated");
    insta::assert_snapshot!(plan.out, @"
    ghost: no schema `ghost`: create the tenant first, or drop it from the registry
    2 migrations to apply in 2 schemas: acme, globex
        0001_initial
        0002_add_updated_at_to_userprofile
    ");
    let sql = run(TENANTRY, &["plan", "--sql"], &db).out;
    assert!(sql.contains("\n-- 0001_initial\n") && sql.contains("CREATE TABLE users_userprofile ("), "{sql}");
    assert_eq!(db.versions("acme"), Vec::<String>::new());
    let one = run(TENANTRY, &["status", "--tenant", "acme"], &db);
    assert!(one.out.contains("acme") && !one.out.contains("globex"), "{}", one.out);
}

#[test]
fn a_deploy_can_gate_on_a_version() {
    let db = acme_and_broken_globex();
    let gate = |version: &str| run(TENANTRY, &["status", "--gate", version], &db);
    let closed = gate("0001");
    assert_eq!((closed.code, closed.out.trim()), (2, "2 of 3 schemas without 0001: acme, globex"));
    db.execute("globex", "DROP TABLE business_business");
    assert_eq!(run(MIGRATE_ALL, &[], &db).code, 0);
    let open = gate("0002");
    assert_eq!((open.code, open.out.trim()), (0, "3 schemas at 0002 or later"));
    let unknown = gate("0003");
    assert_eq!((unknown.code, unknown.err.trim()), (1, "error: the tenants have no migration 0003"));
    db.execute("public", "DROP SCHEMA globex CASCADE");
    let behind = run(TENANTRY, &["status", "--behind"], &db);
    insta::assert_snapshot!(behind.out, @"
    3 schemas: 1 missing, 2 up to date

    SCHEMA  VERSION  PENDING  STATE
    globex  -        0        missing: in the registry, and no such schema
    ");
    assert_eq!(behind.code, 2);
}

#[test]
fn repair_shows_then_does_then_finds_nothing() {
    let db = migrated();
    tenant(&mut db.connect(), "acme");
    db.execute(
        "public",
        "INSERT INTO business_business (id, name) VALUES ('bd8f8654-0752-4843-b076-0d7b2dc2e6d7', 'Engines'); \
         SET session_replication_role = replica; \
         INSERT INTO acme.users_userprofile (user_id, business_id) VALUES \
            (gen_random_uuid(), 'bd8f8654-0752-4843-b076-0d7b2dc2e6d7'), (gen_random_uuid(), '00000000-0000-0000-0000-000000000000')",
    );
    let dry = run(TENANTRY, &["repair", "--dry-run"], &db);
    assert_eq!(dry.code, 2);
    insta::assert_snapshot!(dry.out, @"
    acme
        would copy 1 row of business_business from public
        left alone: business_business 00000000-0000-0000-0000-000000000000 is in neither the tenant's schema nor public; referred to by 1 row of the tenant
    1 tenant examined, 1 ill: would copy 1 row, would fill 0 nulls, left 1 alone, 0 failed
    ");
    assert_eq!(db.text("SELECT count(*) FROM acme.business_business"), "0");
    let done = run(TENANTRY, &["repair", "--tenant", "acme"], &db);
    assert_eq!(done.code, 2, "one is left for a person");
    assert_eq!(db.text("SELECT count(*) FROM acme.business_business"), "1");
    db.execute("acme", "DELETE FROM users_userprofile WHERE business_id = '00000000-0000-0000-0000-000000000000'");
    let last = run(TENANTRY, &["repair"], &db);
    assert_eq!(last.code, 0);
    insta::assert_snapshot!(last.out, @"
    nothing to repair
    1 tenant examined, 0 ill: copied 0 rows, filled 0 nulls, left 0 alone, 0 failed
    ");
}

#[test]
fn tenants_are_taken_by_the_pattern_of_their_schemas() {
    let db = TestDatabase::with_empty_schemas(["tenant_a", "tenant_b", "other"]);
    assert_eq!(run(MIGRATE_ALL, &["--schemas", "tenant_*"], &db).code, 0);
    assert_eq!((db.versions("tenant_b").len(), db.versions("other").len()), (2, 0));
    assert_eq!(run(TENANTRY, &["status", "--schemas", "tenant_*"], &db).code, 0);
}

#[track_caller]
fn check_refusal(args: &[&str], environment: &[(&str, &str)], words: &str) {
    let started = Instant::now();
    let answer = run_with(TENANTRY, args, environment);
    assert_eq!((answer.code, answer.out.as_str()), (1, ""), "{answer:?}");
    assert!(answer.err.contains(words) && answer.err.trim().lines().count() == 1, "{:?}", answer.err);
    assert!(!answer.err.contains("s3cret"), "{:?}", answer.err);
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}

#[test]
fn what_cannot_run_is_one_clear_line() {
    for verb in ["migrate", "status", "plan", "repair"] {
        let refused = |url: &str, words: &str| check_refusal(&[verb], &[("DATABASE_URL", url)], words);
        check_refusal(&[verb], &[], "DATABASE_URL is not set: export it");
        refused("", "DATABASE_URL is not set: export it");
        refused("postgres//app:s3cret@db/app", "expected postgres://user:password@host:port/database");
        refused("mysql://app:s3cret@db/app", "names another kind of database");
        refused("postgres://app:s3cret@127.0.0.1:1/app", "cannot connect to postgres://app:***@127.0.0.1:1/app");
    }
    let bad = [("DATABASE_URL", "postgres://localhost/app"), ("TENANTRY_POOL_SIZE", "many")];
    check_refusal(&["status"], &bad, "TENANTRY_POOL_SIZE is \"many\": it takes a whole number");
}

#[test]
fn a_wrong_password_a_missing_database_and_an_unknown_tenant_are_one_clear_line() {
    let db = migrated();
    let (before, after) = db.url().split_once('@').unwrap();
    let user = before.rsplit_once(':').unwrap().0;
    check_refusal(
        &["status"],
        &[("DATABASE_URL", &format!("{user}:s3cret@{after}"))],
        "password authentication failed",
    );
    check_refusal(&["status"], &[("DATABASE_URL", &db.url().replace("tenantry_test_", "no_such_"))], "does not exist");
    let known = [("DATABASE_URL", db.url())];
    check_refusal(&["repair", "--tenant", "ghost"], &known, "no tenant has schema `ghost`: `tenantry status` lists");
    check_refusal(&["status", "--tenant", &"x".repeat(300)], &known, "at most 63 bytes, this one has 300");
    check_refusal(&["status", "--tenant", "a\"; DROP SCHEMA public"], &known, "is made of letters, digits");
    let empty = TestDatabase::new();
    check_refusal(&["status"], &[("DATABASE_URL", empty.url())], "no registry of tenants");
    check_refusal(&["repair"], &[("DATABASE_URL", empty.url())], "run migrate-all-tenants to create it");
}

#[test]
fn a_role_without_rights_is_told_what_it_lacks_and_nothing_is_half_done() {
    let db = acme_and_broken_globex();
    let role = format!("limited_{}", uuid::Uuid::new_v4().simple());
    db.execute(
        "public",
        &format!("CREATE ROLE {role} LOGIN PASSWORD 's3cret'; REVOKE CREATE ON SCHEMA public FROM PUBLIC"),
    );
    let host = db.url().split_once('@').unwrap().1;
    let url = format!("postgres://{role}:s3cret@{host}");
    check_refusal(
        &["status"],
        &[("DATABASE_URL", &url)],
        "permission denied for table custom_auth_tenant; use a role that owns",
    );
    db.execute("public", &format!("GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}"));
    let status = run_with(TENANTRY, &["status"], &[("DATABASE_URL", &url)]);
    assert!(status.code == 2 && status.out.contains("unreadable: the role may not read its history"), "{status:?}");
    let migrate = run_with(MIGRATE_ALL, &[], &[("DATABASE_URL", &url)]);
    assert!(migrate.code == 1 && migrate.err.contains("permission denied"), "{migrate:?}");
    assert_eq!(db.versions("acme"), Vec::<String>::new());
    db.execute("public", &format!("DROP OWNED BY {role}; DROP ROLE {role}"));
}

#[test]
fn help_and_version_are_no_errors_and_a_wrong_option_is_one() {
    for program in [TENANTRY, MIGRATE_ALL] {
        for asked in ["--help", "--version"] {
            assert_eq!(run_with(program, &[asked], &[]).code, 0);
        }
        let wrong = run_with(program, &["--wrong"], &[]);
        assert!(wrong.code == 1 && wrong.err.contains("--wrong"), "{wrong:?}");
    }
}

#[test]
fn settings_are_read_from_a_dotenv_file() {
    let db = migrated();
    let folder = std::env::temp_dir().join(format!("tenantry-{}", uuid::Uuid::new_v4()));
    std::fs::create_dir(&folder).unwrap();
    let status = |text: &str| {
        std::fs::write(folder.join(".env"), text).unwrap();
        answer(Command::new(TENANTRY).arg("status").env_clear().current_dir(&folder).output().unwrap())
    };
    let found = status(&format!("DATABASE_URL={}\n", db.url()));
    let broken = status("DATABASE_URL=\"postgres://app:s3cret@db/app\n");
    std::fs::remove_dir_all(folder).unwrap();
    assert_eq!(found.code, 0, "{found:?}");
    assert!(
        broken.code == 1 && broken.err.contains(".env cannot be read") && !broken.err.contains("s3cret"),
        "{broken:?}"
    );
}

#[test]
fn a_legacy_database_is_taken_over_by_baseline_and_then_migrated() {
    let db = legacy(["acme", "globex", "hooli"]);
    db.execute("hooli", "ALTER TABLE business_business ALTER COLUMN created_at DROP NOT NULL, ADD COLUMN note text");
    let unknown = run(TENANTRY, &["baseline", "--at", "0003"], &db);
    assert_eq!(unknown.code, 1);
    insta::assert_snapshot!(unknown.err, @"error: the tenant migrations cannot be used: there is no version 0003, only 0001, 0002");
    let dry = run(TENANTRY, &["baseline", "--at", "0001", "--dry-run"], &db);
    assert_eq!(dry.code, 2);
    insta::assert_snapshot!(dry.out, @r#"
    public: would record p0001, 0001
        sequence django_migrations_id_seq is extra: integer OWNED BY django_migrations.id (no matter)
        table django_migrations is extra (no matter)
        table django_session is extra (no matter)
        column users_userprofile.updated_at is extra: timestamp with time zone (no matter)
        index business_business_business_num_a1b2c3d4_like of business_business is extra: business_business USING btree (business_num varchar_pattern_ops) (no matter)
        index custom_auth_user_email_5f1cf0d5_like of custom_auth_user is extra: custom_auth_user USING btree (email varchar_pattern_ops) (no matter)
        view active_users is extra (no matter)
        unique constraint business_business_business_num_key of business_business is called business_business_business_num_a1b2c3d4_uniq (no matter)
        foreign key business_business_details_business_id_fk of business_business_details is called business_business_de_business_id_0f3e2d1c_fk_business_ (no matter)
        foreign key custom_auth_tenant_owner_id_fk of custom_auth_tenant is called custom_auth_tenant_owner_id_2c9bbb37_fk_custom_auth_user_id (no matter)
        check custom_auth_tenant_setup_status_check of custom_auth_tenant is called custom_auth_tenant_setup_status_7f0c_check (no matter)
        unique constraint users_userprofile_user_id_key of users_userprofile is called users_userprofile_user_id_87251ef1_uniq (no matter)
        index users_userprofile_business_id_idx of users_userprofile is called users_userprofile_business_id_3d7a9c55 (no matter)
    acme, globex: would record 0001
        column users_userprofile.updated_at is extra: timestamp with time zone (no matter)
        index business_business_business_num_a1b2c3d4_like of business_business is extra: business_business USING btree (business_num varchar_pattern_ops) (no matter)
        unique constraint business_business_business_num_key of business_business is called business_business_business_num_a1b2c3d4_uniq (no matter)
        foreign key business_business_details_business_id_fk of business_business_details is called business_business_de_business_id_0f3e2d1c_fk_business_ (no matter)
        unique constraint users_userprofile_user_id_key of users_userprofile is called users_userprofile_user_id_87251ef1_uniq (no matter)
        index users_userprofile_business_id_idx of users_userprofile is called users_userprofile_business_id_3d7a9c55 (no matter)
    hooli: refused: its structure is not that of 0001
        column business_business.created_at lacks NOT NULL
            ALTER TABLE "business_business" ALTER COLUMN "created_at" SET NOT NULL
        column business_business.note is extra: text (no matter)
        column users_userprofile.updated_at is extra: timestamp with time zone (no matter)
        index business_business_business_num_a1b2c3d4_like of business_business is extra: business_business USING btree (business_num varchar_pattern_ops) (no matter)
        unique constraint business_business_business_num_key of business_business is called business_business_business_num_a1b2c3d4_uniq (no matter)
        foreign key business_business_details_business_id_fk of business_business_details is called business_business_de_business_id_0f3e2d1c_fk_business_ (no matter)
        unique constraint users_userprofile_user_id_key of users_userprofile is called users_userprofile_user_id_87251ef1_uniq (no matter)
        index users_userprofile_business_id_idx of users_userprofile is called users_userprofile_business_id_3d7a9c55 (no matter)
    the statements have bare names: run them with the schema alone on the search_path
    4 schemas at 0001: would record 3, 0 already there, 1 refused, 0 failed
    "#);
    assert_eq!(db.versions("acme"), Vec::<String>::new());
    let public = run(TENANTRY, &["baseline", "--at", "0001", "--public"], &db);
    assert_eq!((public.code, db.versions("public").len(), db.versions("acme").len()), (0, 2, 0), "{public:?}");
    let one = run(TENANTRY, &["baseline", "--at", "0001", "--tenant", "acme", "--json"], &db);
    let report: serde_json::Value = serde_json::from_str(&one.out).unwrap();
    assert_eq!((one.code, db.versions("acme").len(), db.versions("globex").len()), (0, 1, 0));
    assert_eq!(report["schemas"][0]["outcome"], "recorded");
    assert_eq!(report["schemas"][0]["differences"][0]["blocks"], false);
    // Nobody is there to answer.
    let asked = run(TENANTRY, &["baseline", "--at", "0001", "--force"], &db);
    assert_eq!((asked.code, asked.out.as_str(), db.versions("globex").len()), (1, "", 0));
    assert!(asked.err.contains("record 1 schema although what is there does not agree?"), "{}", asked.err);
    assert!(asked.err.contains("error: this takes a yes, and there is nobody to ask: pass --yes"), "{}", asked.err);
    let most = run(TENANTRY, &["baseline", "--at", "0001"], &db);
    assert_eq!(most.code, 2);
    insta::assert_snapshot!(most.out, @r#"
    public, acme: already there
    globex: recorded 0001
        column users_userprofile.updated_at is extra: timestamp with time zone (no matter)
        index business_business_business_num_a1b2c3d4_like of business_business is extra: business_business USING btree (business_num varchar_pattern_ops) (no matter)
        unique constraint business_business_business_num_key of business_business is called business_business_business_num_a1b2c3d4_uniq (no matter)
        foreign key business_business_details_business_id_fk of business_business_details is called business_business_de_business_id_0f3e2d1c_fk_business_ (no matter)
        unique constraint users_userprofile_user_id_key of users_userprofile is called users_userprofile_user_id_87251ef1_uniq (no matter)
        index users_userprofile_business_id_idx of users_userprofile is called users_userprofile_business_id_3d7a9c55 (no matter)
    hooli: refused: its structure is not that of 0001
        column business_business.created_at lacks NOT NULL
            ALTER TABLE "business_business" ALTER COLUMN "created_at" SET NOT NULL
        column business_business.note is extra: text (no matter)
        column users_userprofile.updated_at is extra: timestamp with time zone (no matter)
        index business_business_business_num_a1b2c3d4_like of business_business is extra: business_business USING btree (business_num varchar_pattern_ops) (no matter)
        unique constraint business_business_business_num_key of business_business is called business_business_business_num_a1b2c3d4_uniq (no matter)
        foreign key business_business_details_business_id_fk of business_business_details is called business_business_de_business_id_0f3e2d1c_fk_business_ (no matter)
        unique constraint users_userprofile_user_id_key of users_userprofile is called users_userprofile_user_id_87251ef1_uniq (no matter)
        index users_userprofile_business_id_idx of users_userprofile is called users_userprofile_business_id_3d7a9c55 (no matter)
    the statements have bare names: run them with the schema alone on the search_path
    4 schemas at 0001: recorded 1, 2 already there, 1 refused, 0 failed
    "#);
    db.execute("hooli", "ALTER TABLE business_business ALTER COLUMN created_at SET NOT NULL");
    let last = run(TENANTRY, &["baseline", "--at", "0001", "--force"], &db);
    assert_eq!((last.code, db.versions("hooli").len()), (0, 1), "nothing differs, so nobody is asked: {last:?}");
    assert_eq!(run(MIGRATE_ALL, &[], &db).code, 0);
    assert_eq!(run(TENANTRY, &["status"], &db).code, 0);
}

#[test]
fn no_password_is_in_an_error_or_a_log_whatever_the_url_looks_like() {
    let db = migrated();
    let (server, _) = db.url().rsplit_once('/').unwrap();
    let urls = [
        "postgres://u@127.0.0.1:1/nm?Password=s3cret".to_owned(),
        "postgres://u@127.0.0.1:1/nm?pass=s3cret&sslmode=disable".into(),
        "postgres://u@127.0.0.1:1/?dbname=postgres%3A%2F%2Fv:s3cret@h%2Fx".into(),
        "postgres://u%3As3cret@127.0.0.1:1/nm".into(),
        "host=127.0.0.1 port=1 password = 's3cret' user=u".into(),
        "host=127.0.0.1 port=1 dbname='x password=s3cret' user=u".into(),
        "host=127.0.0.1 port=1 Password=s3cret".into(),
        // What the server itself repeats.
        format!("{server}/?dbname=postgres%3A%2F%2Fv:s3cret@h%2Fx"),
        format!("{server}/postgres?options=-c%20app.token%20s3cret"),
        format!("{server}/postgres?options=-c%20s3cret%3D1"),
    ];
    for url in &urls {
        let environment = [("DATABASE_URL", &**url), ("TENANTRY_LOG", "trace")];
        let answer = run_with(TENANTRY, &["status"], &environment);
        assert!(answer.code == 1 && answer.err.contains("error: "), "{url}: {answer:?}");
        assert!(!format!("{answer:?}").contains("s3cret"), "{url}: {answer:?}");
    }
}
