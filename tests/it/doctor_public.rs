//! What is in the way in `public` is told, and keeps nobody from looking at the tenants.

use diesel::connection::SimpleConnection;
use tenantry::{
    doctor::{Doctor, Report},
    domain::{self, Registry},
    pg,
    testing::TestDatabase,
};

use crate::{
    cli::{TENANTRY, run_with},
    support::{migrated, tenant},
};

const ILL: &str = "INSERT INTO users_userprofile (id, user_id) OVERRIDING SYSTEM VALUE VALUES (7, gen_random_uuid())";

/// A tenant with a sequence that is behind.
fn fleet() -> TestDatabase {
    let db = migrated();
    tenant(&mut db.connect(), "acme");
    db.execute("acme", ILL);
    db
}

fn examine(db: &TestDatabase) -> Report {
    let doctor = Doctor::new(domain::migrations().unwrap(), &Registry, domain::rules());
    doctor.run(&|| pg::connect(db.config())).unwrap()
}

#[test]
fn a_table_of_public_that_is_locked_is_named_and_the_tenants_are_examined() {
    for table in ["users_userprofile", "custom_auth_user"] {
        let db = fleet();
        let mut holder = db.connect();
        holder.batch_execute(&format!("BEGIN; LOCK TABLE public.{table} IN ACCESS EXCLUSIVE MODE")).unwrap();
        let report = examine(&db);
        assert!(report.findings.iter().any(|finding| finding.kind.id() == "sequence-behind"), "{report:#?}");
        let [note] = &report.not_compared[..] else { panic!("{report:#?}") };
        assert!(note.what.ends_with(table) && note.reason.contains("lock timeout"), "{note:?}");
    }
}

#[test]
fn a_table_of_public_that_the_role_sees_not_all_of_is_named_and_the_tenants_are_examined() {
    let db = fleet();
    let role = format!("reader_{}", uuid::Uuid::new_v4().simple());
    db.execute(
        "public",
        &format!(
            "CREATE ROLE {role} LOGIN PASSWORD 'x'; GRANT CREATE ON DATABASE {} TO {role}; \
             ALTER TABLE business_business ENABLE ROW LEVEL SECURITY; \
             GRANT USAGE ON SCHEMA public, acme TO {role}; GRANT SELECT ON ALL TABLES IN SCHEMA public, acme TO {role}; \
             GRANT SELECT ON ALL SEQUENCES IN SCHEMA acme TO {role}; REVOKE SELECT ON users_userprofile FROM {role}",
            db.text("SELECT current_database()")
        ),
    );
    let (_, server) = db.url().split_once('@').unwrap();
    let url = format!("postgres://{role}:x@{server}");
    let answer =
        run_with(TENANTRY, &["doctor", "--only", "sequence-behind", "--only", "stray"], &[("DATABASE_URL", &url)]);
    db.execute("public", &format!("DROP OWNED BY {role}; DROP ROLE {role}"));
    assert_eq!(answer.code, 2, "{answer:?}");
    let notes: Vec<&str> = answer.out.lines().filter(|line| line.contains("rows of public.")).map(str::trim).collect();
    insta::assert_snapshot!(notes.join("\n"), @r#"
    rows of public.business_business (1 schema): query would be affected by row-level security policy for table "business_business"
    rows of public.users_userprofile (1 schema): the role may not read it
    "#);
}
