//! A repair has constraints and sequences be as the migrations make them.

use std::sync::atomic::{AtomicBool, Ordering};

use tenantry::{
    Error,
    directory::{FixedList, TenantDirectory},
    doctor::Rules,
    domain::{self, Registry},
    migrate::Run,
    pg,
    repair::{Advanced, Constrained, How, Reason, Repair, Undo},
};

use crate::{
    repairing::{only, propose, run, two, undo, whole},
    support::{Tenants, dump, migrations},
};

const B1: &str = "bd8f8654-0752-4843-b076-0d7b2dc2e6d7";
const DROP: &str = "ALTER TABLE users_userprofile DROP CONSTRAINT users_userprofile_business_id_fk";

fn done(table: &str, name: &str, how: How) -> Constrained {
    Constrained { table: table.into(), name: name.into(), how }
}

/// Repairs what this has spoilt, tells what was done for constraints, and holds that nothing is left to do, and that
/// all of it can be taken back.
#[track_caller]
fn check(spoil: &str, expected: &[Constrained]) {
    let db = two();
    db.execute("acme", spoil);
    let before = dump(&db);
    let foreseen = only(&propose(&mut db.connect(), whole()));
    assert_eq!(dump(&db), before, "a dry run keeps nothing");
    let report = run(&mut db.connect(), whole());
    assert_eq!(only(&report).constraints, expected);
    assert_eq!(foreseen, only(&report));
    assert!(run(&mut db.connect(), whole()).tenants.is_empty(), "the second time there is nothing to do");
    assert_eq!(
        db.texts("SELECT conname FROM pg_constraint WHERE connamespace = 'acme'::regnamespace AND NOT convalidated"),
        Vec::<String>::new()
    );
    Undo::new(report.repair.unwrap()).run(&mut db.connect()).unwrap();
    assert_eq!(dump(&db), before, "it can be taken back");
}

const KEY: &str = "users_userprofile_business_id_fk";

#[test]
fn a_lost_foreign_key_is_added_and_validated() {
    check(DROP, &[done("users_userprofile", KEY, How::Added)]);
}

#[test]
fn a_foreign_key_that_was_never_validated_is() {
    let spoil = format!(
        "{DROP}; ALTER TABLE users_userprofile ADD CONSTRAINT {KEY} FOREIGN KEY (business_id) REFERENCES business_business \
         ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED NOT VALID"
    );
    check(&spoil, &[done("users_userprofile", KEY, How::Validated)]);
}

#[test]
fn a_foreign_key_that_leads_into_public_is_replaced() {
    for name in [KEY, "users_userprofil_business_id_9f2_fk_business"] {
        let spoil = format!(
            "{DROP}; ALTER TABLE users_userprofile ADD CONSTRAINT {name} FOREIGN KEY (business_id) REFERENCES public.business_business"
        );
        check(&spoil, &[done("users_userprofile", KEY, How::Replaced)]);
    }
}

#[test]
fn a_foreign_key_that_does_something_else_is_replaced() {
    let spoil = format!(
        "{DROP}; ALTER TABLE users_userprofile ADD CONSTRAINT {KEY} FOREIGN KEY (business_id) REFERENCES business_business"
    );
    check(&spoil, &[done("users_userprofile", KEY, How::Replaced)]);
}

#[test]
fn a_lost_key_is_added_before_the_foreign_keys_that_need_it() {
    check(
        "ALTER TABLE business_business DROP CONSTRAINT business_business_pkey CASCADE",
        &[
            done("business_business", "business_business_pkey", How::Added),
            done("business_business_details", "business_business_details_business_id_fk", How::Added),
            done("users_userprofile", KEY, How::Added),
        ],
    );
}

#[test]
fn a_column_is_required_again_once_its_nulls_are_filled() {
    let spoil = "ALTER TABLE users_userprofile ALTER updated_at DROP NOT NULL; \
         INSERT INTO users_userprofile (user_id, updated_at) VALUES (gen_random_uuid(), NULL)";
    check(spoil, &[done("users_userprofile", "updated_at", How::Required)]);
}

#[test]
fn rows_come_first_and_their_foreign_key_after_them() {
    let db = two();
    db.execute("public", &format!("INSERT INTO business_business (id, name) VALUES ('{B1}', 'Engines')"));
    db.execute("acme", DROP);
    db.execute(
        "acme",
        &format!("INSERT INTO users_userprofile (user_id, business_id) VALUES (gen_random_uuid(), '{B1}')"),
    );
    let before = dump(&db);
    let report = run(&mut db.connect(), whole());
    let outcome = only(&report);
    assert_eq!(
        (outcome.copied.len(), &outcome.constraints[..]),
        (1, &[done("users_userprofile", KEY, How::Added)][..])
    );
    assert!(report.is_healthy());
    Undo::new(report.repair.unwrap()).run(&mut db.connect()).unwrap();
    assert_eq!(dump(&db), before);
}

#[test]
fn what_the_rows_do_not_allow_is_left_as_it_was_and_named() {
    let db = two();
    db.execute(
        "acme",
        &format!(
            "{DROP}; ALTER TABLE business_business DROP CONSTRAINT business_business_business_num_key; \
             INSERT INTO users_userprofile (user_id, business_id) VALUES (gen_random_uuid(), '{B1}'); \
             INSERT INTO business_business (id, name, business_num) VALUES (gen_random_uuid(), 'A', '1'), (gen_random_uuid(), 'B', '1')"
        ),
    );
    let before = dump(&db);
    for _ in 0..2 {
        let report = run(&mut db.connect(), whole());
        let left = only(&report).left;
        let names: Vec<&str> = left.iter().map(|left| left.key.as_str()).collect();
        assert_eq!(names, [B1, "business_business_business_num_key", KEY]);
        assert!(
            matches!(&left[1].reason, Reason::Refused { words } if words.contains("could not create unique index"))
        );
        assert!(
            matches!(&left[2].reason, Reason::Refused { words } if words.contains("violates foreign key")),
            "{left:?}"
        );
        assert_eq!((report.repair, report.is_healthy()), (None, false), "nothing was done");
    }
    assert_eq!(dump(&db), before);
}

#[test]
fn a_tenant_is_compared_with_what_its_own_version_makes() {
    let db = two();
    db.execute("globex", "ALTER TABLE users_userprofile DROP COLUMN updated_at; DELETE FROM __diesel_schema_migrations WHERE version = '0002'");
    db.execute("acme", DROP);
    assert_eq!(only(&run(&mut db.connect(), whole())).constraints, [done("users_userprofile", KEY, How::Added)]);
    // One whose history is odd is built as nobody knows.
    db.execute("globex", &format!("{DROP}; INSERT INTO __diesel_schema_migrations VALUES ('0099')"));
    assert!(run(&mut db.connect(), whole()).tenants.is_empty());
}

#[test]
fn a_role_that_may_make_no_scratch_schema_repairs_the_rows_alone() {
    let db = two();
    db.execute("acme", &format!("{DROP}; ALTER TABLE users_userprofile ALTER updated_at DROP NOT NULL; INSERT INTO users_userprofile (user_id, updated_at) VALUES (gen_random_uuid(), NULL)"));
    let role = db.text("SELECT 'clerk_' || pg_backend_pid()");
    db.execute(
        "public",
        &format!(
            "CREATE ROLE {role}; GRANT USAGE ON SCHEMA acme, globex TO {role}; \
             GRANT ALL ON ALL TABLES IN SCHEMA acme, globex, public TO {role}; GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA acme, globex TO {role}"
        ),
    );
    let conn = &mut db.connect();
    diesel::connection::SimpleConnection::batch_execute(conn, &format!("SET ROLE {role}")).unwrap();
    let listing = Registry.list(conn).unwrap();
    let report = whole().record(false).apply(conn, &listing).unwrap();
    let outcome = only(&report);
    assert_eq!((outcome.filled.len(), outcome.constraints.len()), (1, 0));
    assert!(report.not_compared.unwrap().contains("GRANT CREATE ON DATABASE"));
    db.execute("public", &format!("DROP OWNED BY {role}; DROP ROLE {role}"));
}

#[test]
fn a_sequence_that_is_behind_is_moved_on_and_back() {
    let db = two();
    db.execute("acme", "INSERT INTO users_userprofile (id, user_id) VALUES (41, gen_random_uuid())");
    let before = dump(&db);
    let moved = Advanced { table: "users_userprofile".into(), column: "id".into(), last_value: 41 };
    assert_eq!(only(&propose(&mut db.connect(), whole())).sequences, std::slice::from_ref(&moved));
    assert_eq!(dump(&db), before);
    let report = run(&mut db.connect(), whole());
    assert_eq!(only(&report).sequences, [moved]);
    db.execute("acme", "INSERT INTO users_userprofile (user_id) VALUES (gen_random_uuid())");
    assert_eq!(db.text("SELECT max(id) FROM acme.users_userprofile"), "42");
    db.execute("acme", "DELETE FROM users_userprofile WHERE id = 42");
    assert!(run(&mut db.connect(), whole()).tenants.is_empty());
    // A number was drawn: the sequence stays where it is.
    let undone = Undo::new(report.repair.unwrap()).run(&mut db.connect()).unwrap();
    assert_eq!(undone.tenants[0].result.as_ref().unwrap().kept.len(), 1);
}

#[test]
fn only_the_tenants_of_findings_are_looked_at() {
    let db = two();
    db.execute("acme", DROP);
    db.execute("globex", DROP);
    let doctor = tenantry::doctor::Doctor::new(domain::migrations().unwrap(), &Registry, domain::rules());
    let found = doctor.only(tenantry::repair::KINDS.iter().copied());
    let found = found.run(&|| tenantry::pg::connect(db.config())).unwrap();
    let of_acme = found.findings.iter().filter(|finding| finding.schema == "acme");
    assert_eq!(only(&run(&mut db.connect(), whole().findings(of_acme))).constraints.len(), 1);
    assert_eq!(run(&mut db.connect(), whole().findings(&found.findings)).tenants[0].schema, "globex");
}

#[test]
fn a_repair_that_is_stopped_reaches_nobody_else() {
    let db = two();
    db.execute("acme", DROP);
    db.execute("globex", DROP);
    let interrupt = tenantry::migrate::Interrupt::new();
    interrupt.stop();
    let report = run(&mut db.connect(), whole().interrupt(&interrupt));
    let [acme, globex] = &report.tenants[..] else { panic!("{report:?}") };
    assert!(matches!((&acme.result, &globex.result), (Err(Error::NotReached { .. }), Err(Error::NotReached { .. }))));
    assert!(!report.is_healthy());
    assert_eq!(run(&mut db.connect(), whole()).tenants.len(), 2);
    assert!(run(&mut db.connect(), whole()).tenants.is_empty());
}

#[test]
fn a_constraint_that_rows_written_since_do_not_allow_is_kept_and_the_rest_is_taken_back() {
    let db = two();
    db.execute(
        "acme",
        &format!(
            "{DROP}; ALTER TABLE users_userprofile ADD CONSTRAINT {KEY} FOREIGN KEY (business_id) REFERENCES public.business_business; \
             ALTER TABLE users_userprofile ALTER updated_at DROP NOT NULL"
        ),
    );
    let report = run(&mut db.connect(), whole());
    assert_eq!(only(&report).constraints.len(), 2);
    db.execute(
        "acme",
        &format!(
            "INSERT INTO business_business (id, name) VALUES ('{B1}', 'Engines'); \
             INSERT INTO users_userprofile (user_id, business_id) VALUES (gen_random_uuid(), '{B1}')"
        ),
    );
    let undone = Undo::new(report.repair.unwrap()).run(&mut db.connect()).unwrap();
    let undone = undone.tenants[0].result.as_ref().unwrap();
    assert_eq!((undone.constraints.len(), undone.kept.len()), (1, 1), "{undone:#?}");
    assert_eq!(db.text("SELECT count(*) FROM acme.users_userprofile"), "1");
}

#[test]
fn a_dry_run_draws_no_number_for_a_column_that_public_lacks() {
    let db = two();
    db.execute("acme", "ALTER TABLE business_business ADD COLUMN number serial");
    db.execute("public", &format!("INSERT INTO business_business (id, name) VALUES ('{B1}', 'Engines')"));
    db.execute(
        "acme",
        &format!("SET session_replication_role = replica; INSERT INTO users_userprofile (user_id, business_id) VALUES (gen_random_uuid(), '{B1}')"),
    );
    let before = dump(&db);
    assert_eq!(only(&propose(&mut db.connect(), Repair::new(domain::rules()))).copied.len(), 1);
    assert_eq!(dump(&db), before);
}

#[test]
fn a_constraint_that_is_as_it_was_keeps_its_comment() {
    let db = two();
    db.execute(
        "acme",
        &format!(
            "{DROP}; ALTER TABLE users_userprofile ADD CONSTRAINT {KEY} FOREIGN KEY (business_id) REFERENCES business_business \
             ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED NOT VALID; COMMENT ON CONSTRAINT {KEY} ON users_userprofile IS 'It''s new'"
        ),
    );
    let report = run(&mut db.connect(), whole());
    assert_eq!(undo(&mut db.connect(), report.repair.unwrap()).constraints.len(), 1);
    let comment = "SELECT obj_description(oid) || convalidated FROM pg_constraint WHERE conrelid = 'acme.users_userprofile'::regclass AND contype = 'f'";
    assert_eq!(db.text(comment), "It's newfalse");
}

#[test]
fn what_somebody_else_has_put_right_meanwhile_was_not_done_and_is_not_undone() {
    let leak =
        format!("{DROP}; ALTER TABLE users_userprofile ADD CONSTRAINT {KEY} FOREIGN KEY (business_id) REFERENCES");
    for spoil in [
        "ALTER TABLE users_userprofile ALTER COLUMN updated_at DROP NOT NULL",
        &format!("{leak} business_business ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED NOT VALID"),
        &format!("{leak} public.business_business"),
        DROP,
    ] {
        let db = two();
        let right = dump(&db);
        db.execute("acme", spoil);
        let first = AtomicBool::new(true);
        // Once it is known what to do, another repair does it.
        let connect = || {
            if first.swap(false, Ordering::Relaxed) {
                assert_eq!(run(&mut db.connect(), whole().record(false)).tenants.len(), 1);
            }
            pg::connect(db.config())
        };
        let report = run(&mut db.connect(), whole().jobs(2, &connect));
        assert!(report.tenants.is_empty() && report.repair.is_none(), "{spoil}: {report:?}");
        assert_eq!(dump(&db), right, "{spoil}");
    }
}

#[test]
fn a_check_of_a_column_of_another_type_is_left_to_a_person_and_the_rest_is_repaired() {
    let tenants = Tenants::new(["acme", "globex", "initech"]);
    let up = "CREATE TABLE t (a text NOT NULL, b text CONSTRAINT given CHECK (b <> ''))";
    let migrations = migrations(&[("0001_own", up, "SELECT 1")]);
    tenants.run(&Run::new(&migrations), &migrations).unwrap();
    tenants.db.execute("acme", "ALTER TABLE t ALTER b TYPE varchar(30), ALTER a DROP NOT NULL");
    tenants
        .db
        .execute("globex", "ALTER TABLE t DROP CONSTRAINT given, ALTER b TYPE varchar(30), ALTER a DROP NOT NULL");
    tenants.db.execute("initech", "ALTER TABLE t DROP CONSTRAINT given");
    let conn = &mut tenants.db.connect();
    let directory = FixedList(["acme", "globex", "initech"].map(|name| name.parse().unwrap()).into());
    let rules = Rules::default();
    let listing = directory.list(conn).unwrap();
    let report = Repair::new(&rules).migrations(&migrations).apply(conn, &listing).unwrap();
    let constraints: Vec<_> =
        report.tenants.iter().map(|tenant| tenant.result.as_ref().unwrap().constraints.clone()).collect();
    let required = vec![done("t", "a", How::Required)];
    assert_eq!(constraints, [required.clone(), required, vec![done("t", "given", How::Added)]]);
}

#[test]
fn a_key_that_rows_do_not_allow_and_what_needs_it_are_left_and_the_rest_is_repaired() {
    let db = two();
    db.execute(
        "acme",
        &format!(
            "ALTER TABLE business_business DROP CONSTRAINT business_business_pkey CASCADE; \
             ALTER TABLE users_userprofile ALTER updated_at DROP NOT NULL; \
             INSERT INTO users_userprofile (user_id, updated_at) VALUES (gen_random_uuid(), NULL); \
             INSERT INTO business_business (id, name, business_num) VALUES ('{B1}', 'A', '1'), ('{B1}', 'B', '2')"
        ),
    );
    let report = run(&mut db.connect(), whole());
    let outcome = only(&report);
    let left: Vec<(&str, String)> =
        outcome.left.iter().map(|left| (left.key.as_str(), left.reason.to_string())).collect();
    assert!(left.iter().any(|(key, _)| *key == "business_business_pkey"), "{left:#?}");
    assert!(left.iter().any(|(key, why)| *key == KEY && why.contains("there is no unique constraint")), "{left:#?}");
    assert_eq!(outcome.filled.len(), 1, "{report:#?}");
}

#[test]
fn a_key_on_which_others_were_built_since_is_kept_by_an_undo_and_the_rest_is_taken_back() {
    let db = two();
    db.execute(
        "acme",
        &format!("{DROP}; ALTER TABLE business_business DROP CONSTRAINT business_business_business_num_key"),
    );
    let report = run(&mut db.connect(), whole());
    assert_eq!(only(&report).constraints.len(), 2);
    db.execute("acme", "CREATE TABLE ours (num varchar(6) REFERENCES business_business (business_num))");
    let report = Undo::new(report.repair.unwrap()).run(&mut db.connect()).unwrap();
    let undone = report.tenants[0].result.as_ref().unwrap();
    assert_eq!(undone.constraints.len(), 1, "{undone:#?}");
    let [kept] = undone.kept.as_slice() else { panic!("{undone:#?}") };
    assert!(
        kept.key == "business_business_business_num_key" && kept.why.starts_with("cannot be as it was: "),
        "{kept:?}"
    );
}
