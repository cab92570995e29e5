//! A dry run of an undo tries what it tells, and rolls it back.

use diesel::connection::SimpleConnection;
use tenantry::{
    domain,
    repair::{Repair, Undo},
    testing::TestDatabase,
};

use crate::{
    repairing::{run, taken_back, two, undo},
    support::dump,
};

const B1: &str = "bd8f8654-0752-4843-b076-0d7b2dc2e6d7";

/// Two tenants that had a profile of a business of `public` each, and nulls, and were repaired.
fn repaired() -> (TestDatabase, i64) {
    let db = two();
    db.execute("public", &format!("INSERT INTO business_business (id, name) VALUES ('{B1}', 'Engines')"));
    db.execute(
        "acme",
        &format!(
            "SET session_replication_role = replica; ALTER TABLE users_userprofile ALTER updated_at DROP NOT NULL; \
             INSERT INTO users_userprofile (user_id, business_id, updated_at) VALUES (gen_random_uuid(), '{B1}', NULL)"
        ),
    );
    let id = run(&mut db.connect(), Repair::new(domain::rules())).repair.unwrap();
    (db, id)
}

#[test]
fn a_dry_run_of_an_undo_foresees_that_a_tenant_fails() {
    let (db, id) = repaired();
    db.execute(
        "acme",
        "CREATE FUNCTION stay() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE ''rows stay here''; END'; \
         CREATE TRIGGER stay BEFORE DELETE ON business_business FOR EACH ROW EXECUTE FUNCTION stay()",
    );
    let before = dump(&db);
    let [foreseen, done] = [true, false].map(|dry_run| {
        let report = Undo::new(id).dry_run(dry_run).run(&mut db.connect()).unwrap();
        assert_eq!(report.rehearsed, dry_run);
        report.tenants[0].result.as_ref().unwrap_err().chain()
    });
    assert!(foreseen.ends_with("rows stay here"), "{foreseen}");
    assert_eq!(foreseen, done);
    assert_eq!(dump(&db), before);
}

#[test]
fn a_dry_run_of_an_undo_waits_for_whoever_works_on_the_tenant() {
    let (db, id) = repaired();
    let conn = &mut db.connect();
    conn.batch_execute("BEGIN; SELECT pg_advisory_xact_lock(hashtextextended('tenantry:acme', 0))").unwrap();
    let undo = Undo::new(id).lock_timeout(std::time::Duration::from_millis(100));
    let report = undo.dry_run(true).run(&mut db.connect()).unwrap();
    assert!(matches!(report.tenants[0].result, Err(tenantry::Error::Locked { .. })), "{report:#?}");
}

#[test]
fn a_column_that_a_trigger_fills_again_is_not_called_empty() {
    let (db, id) = repaired();
    db.execute(
        "acme",
        "CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.updated_at = now(); RETURN NEW; END'; \
         CREATE TRIGGER touch BEFORE UPDATE ON users_userprofile FOR EACH ROW EXECUTE FUNCTION touch()",
    );
    let filled = "SELECT updated_at FROM acme.users_userprofile";
    let before = db.text(filled);
    let undone = undo(&mut db.connect(), id);
    assert_eq!((db.text(filled), undone.emptied), (before, vec![]));
    let [kept] = undone.kept.as_slice() else { panic!("{:#?}", undone.kept) };
    assert!(kept.why.ends_with("a trigger of users_userprofile fills updated_at again"), "{kept:?}");
}

#[test]
fn a_role_that_may_only_read_is_told_what_would_be_tried_and_that_it_was_not() {
    let (db, id) = repaired();
    let role = format!("clerk_{}", uuid::Uuid::new_v4().simple());
    db.execute(
        "public",
        &format!(
            "CREATE ROLE {role}; GRANT USAGE ON SCHEMA public, acme, globex, tenantry TO {role}; \
             GRANT SELECT ON ALL TABLES IN SCHEMA public, acme, globex, tenantry TO {role}; \
             GRANT SELECT ON ALL SEQUENCES IN SCHEMA acme TO {role}"
        ),
    );
    let undo = Undo::new(id).dry_run(true);
    let whole = undo.run(&mut db.connect()).unwrap();
    let conn = &mut db.connect();
    for (before, after) in [
        (format!("SET ROLE {role}"), "RESET ROLE"),
        ("SET default_transaction_read_only = on".into(), "RESET default_transaction_read_only"),
    ] {
        conn.batch_execute(&before).unwrap();
        let report = undo.run(conn).unwrap();
        conn.batch_execute(after).unwrap();
        assert!(!report.rehearsed && whole.rehearsed, "{report:#?}");
        let (told, tried) = (taken_back(&report), taken_back(&whole));
        assert_eq!((told.removed, told.emptied), (tried.removed, tried.emptied));
    }
    conn.batch_execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).unwrap();
}
