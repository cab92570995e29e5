//! What a finding says to do can be done, in the order in which it is told.

use tenantry::{
    directory::FixedList,
    doctor::{Doctor, Finding, Fix, Kind, Report, Severity},
    domain::{self, Registry},
    migrate::{Migrations, Run},
    pg,
    testing::TestDatabase,
};

use crate::{
    cli::{TENANTRY, run, run_with},
    support::{self, Tenants, migrated, migrations},
};

fn examine(db: &TestDatabase) -> Report {
    let doctor = Doctor::new(domain::migrations().unwrap(), &Registry, domain::rules());
    doctor.run(&|| pg::connect(db.config())).unwrap()
}

/// Two tenants of one migration.
struct Own {
    tenants: Tenants,
    migrations: Migrations,
}

impl Own {
    fn new(up: &str) -> Self {
        let (tenants, migrations) = (Tenants::new(["acme", "globex"]), migrations(&[("0001_own", up, "SELECT 1")]));
        tenants.run(&Run::new(&migrations), &migrations).unwrap();
        Self { tenants, migrations }
    }

    fn examine(&self) -> Report {
        let directory = FixedList(["acme", "globex"].map(|name| name.parse().unwrap()).into());
        let doctor = Doctor::new(&self.migrations, &directory, domain::rules());
        doctor.run(&|| pg::connect(self.tenants.db.config())).unwrap()
    }
}

/// Two tenants, and this done in the first.
fn with(sql: &str) -> TestDatabase {
    let db = migrated();
    ["acme", "globex"].iter().for_each(|name| drop(support::tenant(&mut db.connect(), name)));
    db.execute("acme", &format!("SET session_replication_role = replica; {sql}"));
    db
}

fn only(report: &Report, kind: Kind) -> &Finding {
    let found: Vec<&Finding> = report.of(kind).collect();
    let [one] = found[..] else { panic!("{report:#?}") };
    one
}

const ORPHAN: &str = "ALTER TABLE users_userprofile DROP CONSTRAINT users_userprofile_business_id_fk; \
    INSERT INTO users_userprofile (user_id, business_id) VALUES (gen_random_uuid(), 'bd8f8654-0752-4843-b076-0d7b2dc2e6d7'); \
    ALTER TABLE users_userprofile ADD CONSTRAINT users_userprofile_business_id_fk FOREIGN KEY (business_id) \
        REFERENCES business_business ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED NOT VALID;";

#[test]
fn a_constraint_is_not_to_be_validated_while_rows_are_in_its_way() {
    let db = with(ORPHAN);
    let report = examine(&db);
    let finding = only(&report, Kind::NotValid);
    assert!(matches!(&finding.fix, Fix::None(why) if why.contains("refer to nothing")), "{finding:?}");
    assert_eq!(finding.columns, ["business_id"]);
    db.execute(
        "public",
        "INSERT INTO business_business (id, name) VALUES ('bd8f8654-0752-4843-b076-0d7b2dc2e6d7', 'X')",
    );
    let report = examine(&db);
    assert_eq!(only(&report, Kind::NotValid).fix, Fix::Command("tenantry repair".into()));
    db.execute("acme", "SET session_replication_role = replica; DELETE FROM users_userprofile");
    let report = examine(&db);
    assert!(matches!(&only(&report, Kind::NotValid).fix, Fix::Sql(sql) if sql.contains("VALIDATE")), "{report:#?}");
}

#[test]
fn what_is_missing_is_told_in_the_order_in_which_it_can_be_made() {
    let made = "CREATE TABLE z_parents (a int, CONSTRAINT z_key UNIQUE (a)); \
         CREATE TABLE a_children (b int CHECK (b > 0), note text, \
             CONSTRAINT a_fk FOREIGN KEY (b) REFERENCES z_parents (a)); \
         CREATE INDEX a_note ON a_children (note); CREATE TABLE stays (c int)";
    let break_it = [
        "ALTER TABLE a_children DROP COLUMN b, DROP COLUMN note; ALTER TABLE z_parents DROP CONSTRAINT z_key",
        "DROP TABLE a_children, z_parents",
    ];
    for sql in break_it {
        let own = Own::new(made);
        own.tenants.db.execute("acme", sql);
        for round in 0.. {
            let report = own.examine();
            let fixes: Vec<&Fix> = report.findings.iter().map(|finding| &finding.fix).collect();
            if fixes.is_empty() {
                break;
            }
            // What is added NOT VALID is validated in the second round.
            assert!(round < 2, "{report:#?}");
            for fix in fixes {
                let Fix::Sql(statements) = fix else { panic!("{fix:?}") };
                own.tenants.db.execute("acme", statements);
            }
        }
    }
}

#[test]
fn a_constraint_that_a_repair_makes_again_is_told_with_that() {
    let drop = "ALTER TABLE users_userprofile DROP CONSTRAINT users_userprofile_business_id_fk";
    let add = "ALTER TABLE users_userprofile ADD CONSTRAINT";
    let repair = Fix::Command("tenantry repair".into());
    let db = with(&format!(
        "{drop}; {add} users_userprofile_business_id_fk FOREIGN KEY (business_id) REFERENCES business_business"
    ));
    assert_eq!(only(&examine(&db), Kind::Changed).fix, repair);
    // Not so in public, which is no tenant.
    db.execute(
        "public",
        "ALTER TABLE users_userprofile ALTER CONSTRAINT users_userprofile_business_id_fk NOT DEFERRABLE",
    );
    let fixes: Vec<Fix> = examine(&db).of(Kind::Changed).map(|changed| changed.fix.clone()).collect();
    assert!(matches!(&fixes[..], [Fix::None(_), Fix::Command(_)]), "{fixes:?}");
    for name in ["users_userprofile_business_id_fk", "another"] {
        let db = with(&format!("{drop}; {add} {name} FOREIGN KEY (business_id) REFERENCES public.business_business"));
        assert_eq!(only(&examine(&db), Kind::ForeignKeyLeak).fix, repair, "{name}");
        run(TENANTRY, &["repair"], &db);
        let report = examine(&db);
        assert!(report.findings.is_empty(), "{report:#?}");
    }
    // So is a check, unless it is another only because its column is: the repair would never be done with that.
    let own = Own::new("CREATE TABLE t (a text CONSTRAINT c CHECK (a <> ''), b text CONSTRAINT d CHECK (b <> ''))");
    own.tenants.db.execute("acme", "ALTER TABLE t DROP CONSTRAINT c, ADD CONSTRAINT c CHECK (a <> 'x')");
    assert_eq!(only(&own.examine(), Kind::Changed).fix, repair);
    own.tenants.db.execute("acme", "ALTER TABLE t ALTER b TYPE varchar(9)");
    let report = own.examine();
    assert!(report.of(Kind::Changed).all(|changed| matches!(changed.fix, Fix::None(_))), "{report:#?}");
    // Of one that the migrations do not make, only a person knows.
    let db = with("ALTER TABLE business_business_details ADD also uuid REFERENCES public.business_business");
    assert!(matches!(only(&examine(&db), Kind::ForeignKeyLeak).fix, Fix::None(_)));
}

#[test]
fn a_type_that_is_not_as_the_migrations_make_it_is_told_as_changed() {
    let own = Own::new("CREATE TYPE mood AS ENUM ('glad'); CREATE TABLE t (how mood)");
    own.tenants.db.execute("acme", "ALTER TYPE mood ADD VALUE 'sad'");
    let report = own.examine();
    assert_eq!(only(&report, Kind::Changed).says, "type mood is ENUM ('glad', 'sad') instead of ENUM ('glad')");
    assert_eq!(report.of(Kind::TypeInTenant).map(|finding| finding.severity).max(), Some(Severity::Notice));
    own.tenants.db.execute("public", "ALTER TYPE mood ADD VALUE 'sad'");
    let report = own.examine();
    let changed: Vec<&str> = report.of(Kind::Changed).map(|finding| finding.schema.as_str()).collect();
    assert_eq!(changed, ["public", "acme"]);
}

#[test]
fn a_view_is_told_by_its_name_and_not_by_its_rule() {
    let db = with("CREATE VIEW mine AS SELECT id FROM globex.business_business");
    db.execute("public", "CREATE SCHEMA other; CREATE VIEW other.mine AS SELECT id FROM globex.business_business");
    let report = examine(&db);
    let told: Vec<&str> = report.of(Kind::ViewLeak).flat_map(|leak| &leak.examples).map(String::as_str).collect();
    assert_eq!(told, ["mine", "other.mine"]);
}

#[test]
fn a_key_is_shown_also_where_the_sentence_has_the_same_digit() {
    let db = with(
        "INSERT INTO users_userprofile (user_id) VALUES (gen_random_uuid()); \
         ALTER TABLE users_userprofile ALTER updated_at DROP NOT NULL; UPDATE users_userprofile SET updated_at = NULL",
    );
    let answer = run(TENANTRY, &["doctor", "--only", "nulls"], &db);
    assert!(answer.out.contains("acme: updated_at is null in 1 row of users_userprofile (1)"), "{answer:?}");
}

#[test]
fn a_doctor_with_nothing_to_look_for_finds_nothing_healthy() {
    let db = with("");
    let answer = run(TENANTRY, &["doctor", "--only", "orphan", "--skip", "orphan"], &db);
    assert_eq!((answer.code, answer.out.as_str()), (1, ""), "{answer:?}");
    assert!(answer.err.contains("leave no kind to look for"), "{answer:?}");
}

#[test]
fn the_kinds_are_listed_for_machines_without_a_database() {
    let answer = run_with(TENANTRY, &["doctor", "--kinds", "--json"], &[("DATABASE_URL", "")]);
    let kinds: serde_json::Value = serde_json::from_str(&answer.out).unwrap();
    assert_eq!(kinds.as_array().map(Vec::len), Some(Kind::ALL.len()));
    let first = serde_json::json!({
        "kind": "missing-schema", "severity": "error", "says": "a tenant is registered and has no schema",
    });
    assert_eq!(kinds[0], first);
}
