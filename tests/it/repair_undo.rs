//! A repair is remembered, and can be taken back.

use std::{thread, time::Duration};

use diesel::connection::SimpleConnection;
use tenantry::{
    Error,
    directory::{FixedList, TenantDirectory},
    doctor::{Fill, Rules},
    domain::{self, Registry},
    repair::{self, Kept, Repair, Undo, Undone},
    testing::TestDatabase,
};

use crate::{
    repairing::{self, propose, run, taken_back, two},
    support::dump,
};

const B1: &str = "bd8f8654-0752-4843-b076-0d7b2dc2e6d7";
const B2: &str = "d59d21aa-6602-47f1-a91e-72bf6ddb8cab";

/// Two tenants of which one refers to a business of `public`, with details and a profile, and has nulls; its
/// foreign key is NOT VALID, as it must be where such rows are.
fn ill() -> TestDatabase {
    let db = two();
    for schema in ["public", "acme"] {
        db.execute(
            schema,
            "CREATE TABLE odd (\"a b\" numeric(9,4), business_id uuid REFERENCES business_business, j json, b bytea, \
               f float8, t timestamptz, i interval, c char(4), r int4range, a text[], g int GENERATED ALWAYS AS (1 + 1) STORED)",
        );
    }
    db.execute(
        "public",
        &format!(
            "INSERT INTO business_business (id, name, business_num) VALUES ('{B1}', 'Engines', '000001'); \
             INSERT INTO business_business_details (business_id, date_founded) VALUES ('{B1}', '2001-02-03'); \
             INSERT INTO users_userprofile (user_id, business_id, metadata) VALUES ('{B2}', '{B1}', 'null'); \
             INSERT INTO odd VALUES (1.5000, '{B1}', '{{\"a\":  1, \"a\": 2}}', '\\x00ff', 'NaN', '2025-03-15 15:17:43.636354+00', '1 month 2 days', 'x', '[1,3)', '{{a,NULL,\"b c\"}}'), \
               (1.5000, '{B1}', NULL, NULL, 0.1, NULL, NULL, NULL, NULL, NULL), (1.5000, '{B1}', NULL, NULL, 0.1, NULL, NULL, NULL, NULL, NULL)"
        ),
    );
    db.execute(
        "acme",
        &format!(
            "ALTER TABLE users_userprofile DROP CONSTRAINT users_userprofile_business_id_fk, ALTER updated_at DROP NOT NULL, ALTER modified_at DROP NOT NULL; \
             INSERT INTO users_userprofile (user_id, business_id, created_at, modified_at, updated_at) VALUES (gen_random_uuid(), '{B1}', '2001-01-01', NULL, NULL); \
             ALTER TABLE users_userprofile ADD CONSTRAINT users_userprofile_business_id_fk FOREIGN KEY (business_id) \
               REFERENCES business_business ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED NOT VALID"
        ),
    );
    db
}

fn repair(db: &TestDatabase) -> i64 {
    run(&mut db.connect(), Repair::new(domain::rules())).repair.unwrap()
}

#[track_caller]
fn undo(db: &TestDatabase, id: i64) -> Undone {
    let conn = &mut db.connect();
    // Another session's settings do not change how values are read.
    conn.batch_execute("SET timezone = 'Asia/Tokyo'; SET intervalstyle = 'iso_8601'; SET datestyle = 'SQL, DMY'")
        .unwrap();
    repairing::undo(conn, id)
}

#[test]
fn an_undo_leaves_every_row_as_it_was_before() {
    let db = ill();
    let before = dump(&db);
    let id = repair(&db);
    let after = dump(&db);
    assert_ne!(before, after);
    let plan = Undo::new(id).dry_run(true).run(&mut db.connect()).unwrap();
    assert_eq!(dump(&db), after, "a dry run changes nothing");
    let undone = undo(&db, id);
    assert_eq!(plan.tenants[0].result.as_ref().unwrap(), &undone, "and tells what is done");
    assert_eq!((undone.removed.len(), undone.emptied.len(), undone.sequences.len()), (4, 2, 1));
    assert_eq!((undone.kept, undone.loosened), (vec![], vec![]));
    assert_eq!(dump(&db), before);
    // What was taken back can be repaired again, and a second undo finds nothing.
    assert!(Undo::new(id).run(&mut db.connect()).unwrap().tenants.is_empty());
    let again = repair(&db);
    assert_eq!(dump(&db).rows_of("acme."), after.rows_of("acme."));
    undo(&db, again);
    assert_eq!(dump(&db), before);
}

#[test]
fn what_was_changed_since_is_kept_with_all_it_refers_to() {
    let db = ill();
    let id = repair(&db);
    db.execute("acme", "UPDATE business_business_details SET country = 'DE'");
    let undone = undo(&db, id);
    let kept: Vec<(&str, &str)> = undone.kept.iter().map(|kept| (&*kept.table, &*kept.why)).collect();
    assert_eq!(
        kept,
        [
            ("business_business", "is referred to by rows of business_business_details that are newer, or were kept"),
            ("business_business_details", "was changed since"),
        ]
    );
    assert_eq!(db.text("SELECT country FROM acme.business_business_details"), "DE");
    assert_eq!(db.text("SELECT count(*) FROM acme.odd"), "0", "the rest is taken back");
    // When the change is gone, the rest can be taken back too.
    db.execute("acme", "UPDATE business_business_details SET country = 'US'");
    assert_eq!(undo(&db, id).kept, vec![]);
    assert_eq!(db.text("SELECT count(*) FROM acme.business_business"), "0");
}

#[test]
fn rows_that_were_written_since_are_never_deleted_with_a_copy() {
    let db = ill();
    let id = repair(&db);
    db.execute(
        "acme",
        &format!("INSERT INTO users_userprofile (user_id, business_id) VALUES (gen_random_uuid(), '{B1}')"),
    );
    let profiles = "SELECT count(*) FROM acme.users_userprofile";
    assert_eq!(db.text(profiles), "3");
    let undone = undo(&db, id);
    let kept: Vec<(&str, &str)> = undone.kept.iter().map(|kept| (&*kept.table, &*kept.why)).collect();
    let newer = "is referred to by rows of users_userprofile that are newer, or were kept";
    assert_eq!(kept, [("business_business", newer), ("users_userprofile", "was drawn from since")]);
    // The copied profile is gone; the orphan, and the one that was written since, are not: the key cascades.
    assert_eq!(db.text(profiles), "2");
    db.execute("acme", "DELETE FROM users_userprofile WHERE id = (SELECT max(id) FROM users_userprofile)");
    // A number that was drawn is not drawn again.
    assert_eq!(undo(&db, id).kept.len(), 1);
    assert_eq!(db.text("SELECT count(*) FROM acme.business_business"), "0");
    assert_eq!(db.text(profiles), "1", "the one that referred in vain is as it was");
}

#[test]
fn a_valid_foreign_key_that_had_been_switched_off_is_not_valid_afterwards() {
    let db = ill();
    db.execute(
        "acme",
        "SET session_replication_role = replica; UPDATE pg_constraint SET convalidated = true WHERE conname = 'users_userprofile_business_id_fk'; \
         COMMENT ON CONSTRAINT users_userprofile_business_id_fk ON users_userprofile IS 'It''s new'",
    );
    let id = repair(&db);
    assert_eq!(undo(&db, id).loosened, ["users_userprofile_business_id_fk"]);
    assert_eq!(
        db.text("SELECT convalidated FROM pg_constraint WHERE conrelid = 'acme.users_userprofile'::regclass AND contype = 'f'"),
        "false"
    );
    let comment = "SELECT obj_description(oid) FROM pg_constraint WHERE conrelid = 'acme.users_userprofile'::regclass AND contype = 'f'";
    assert_eq!(db.text(comment), "It's new");
}

#[test]
fn a_sequence_is_set_back_unless_it_was_drawn_from() {
    let db = ill();
    for schema in ["public", "acme"] {
        db.execute(schema, "CREATE TABLE tags (id serial PRIMARY KEY, business_id uuid REFERENCES business_business)");
    }
    db.execute("public", &format!("INSERT INTO tags (business_id) SELECT '{B1}' FROM generate_series(1, 5)"));
    let standing = "SELECT last_value || ' ' || is_called FROM acme.tags_id_seq";
    let id = repair(&db);
    assert_eq!(db.text(standing), "5 true");
    assert_eq!(undo(&db, id).sequences, ["\"acme\".\"tags_id_seq\"", "\"acme\".\"users_userprofile_id_seq\""]);
    assert_eq!(db.text(standing), "1 false");
    let id = repair(&db);
    db.execute("acme", "SELECT nextval('tags_id_seq')");
    assert!(
        matches!(&undo(&db, id).kept[..], [Kept { table, why, .. }] if table == "tags" && why == "was drawn from since")
    );
    assert_eq!(db.text(standing), "6 true");
}

#[test]
fn a_repair_that_did_nothing_is_not_remembered() {
    let db = ill();
    let conn = &mut db.connect();
    propose(&mut db.connect(), Repair::new(domain::rules()));
    assert!(repair::list(conn, 9).unwrap().is_empty());
    let id = repair(&db);
    assert_eq!(run(&mut db.connect(), Repair::new(domain::rules())).repair, None);
    let [only] = &repair::list(conn, 9).unwrap()[..] else { panic!() };
    assert_eq!((only.id, only.tenants, only.undone), (id, 1, 0));
    assert_eq!(only.changes as usize, repair::changes(conn, id).unwrap().len());
    assert!(matches!(repair::find(conn, 99), Err(Error::NoSuchRepair { id: 99 })));
}

#[test]
fn a_role_that_may_not_remember_repairs_without() {
    let db = ill();
    let role = format!("clerk_{}", uuid::Uuid::new_v4().simple());
    db.execute(
        "public",
        &format!(
            "CREATE ROLE {role}; GRANT USAGE ON SCHEMA public, acme, globex TO {role}; \
             GRANT SELECT, UPDATE ON ALL TABLES IN SCHEMA public TO {role}; \
             GRANT ALL ON ALL TABLES IN SCHEMA acme, globex TO {role}; GRANT ALL ON ALL SEQUENCES IN SCHEMA acme TO {role}"
        ),
    );
    let conn = &mut db.connect();
    let listing = Registry.list(conn).unwrap();
    conn.batch_execute(&format!("SET ROLE {role}")).unwrap();
    let before = dump(&db);
    let error = Repair::new(domain::rules()).apply(conn, &listing).unwrap_err();
    assert!(matches!(error, Error::Record(_)), "{error}");
    assert_eq!(dump(&db), before);
    let report = Repair::new(domain::rules()).record(false).apply(conn, &listing).unwrap();
    assert!(report.repair.is_none() && report.is_healthy(), "{report:?}");
    conn.batch_execute(&format!("RESET ROLE; DROP OWNED BY {role}; DROP ROLE {role}")).unwrap();
}

#[test]
fn a_null_that_was_forbidden_since_stays_filled_and_the_rest_is_taken_back() {
    let db = ill();
    let id = repair(&db);
    db.execute("acme", "ALTER TABLE users_userprofile ALTER updated_at SET NOT NULL");
    let undone = undo(&db, id);
    assert!(undone.kept.iter().any(|kept| kept.why.starts_with("may not be null again: ")), "{undone:#?}");
    assert_eq!(undone.emptied.len(), 1, "{undone:#?}");
    assert_eq!(db.text("SELECT count(*) FROM acme.business_business"), "0");
}

#[test]
fn of_rows_that_are_alike_those_that_were_not_filled_stay_as_they_are() {
    let db = ill();
    db.execute(
        "acme",
        "ALTER TABLE users_userprofile DROP CONSTRAINT users_userprofile_pkey; \
         CREATE TABLE twin AS SELECT * FROM users_userprofile",
    );
    let rules = Rules {
        fills: vec![Fill { table: "twin".into(), column: "updated_at".into(), from: vec!["created_at".into()] }],
        ..Rules::default()
    };
    db.execute("acme", "TRUNCATE twin; ALTER TABLE twin DROP COLUMN modified_at; \
        INSERT INTO twin (created_at, updated_at) VALUES ('2001-01-01', NULL), ('2001-01-01', NULL), ('2001-01-01', '2001-01-01')");
    let id = run(&mut db.connect(), Repair::new(&rules)).repair.unwrap();
    assert_eq!(db.text("SELECT count(*) FROM acme.twin WHERE updated_at IS NULL"), "0");
    let undone = undo(&db, id);
    assert_eq!(db.text("SELECT count(*) FROM acme.twin WHERE updated_at IS NULL"), "2", "{undone:#?}");
    assert_eq!(undone.kept, vec![]);
}

#[test]
fn what_was_written_into_a_new_column_is_not_destroyed() {
    let db = ill();
    let id = repair(&db);
    db.execute("acme", "ALTER TABLE users_userprofile ADD COLUMN seen_at timestamptz DEFAULT now(); ALTER TABLE business_business ADD COLUMN logo text");
    db.execute("acme", "UPDATE business_business SET logo = 'a wheel'");
    let undone = undo(&db, id);
    assert_eq!(db.text("SELECT logo FROM acme.business_business"), "a wheel", "{undone:#?}");
    assert_eq!(db.text("SELECT count(*) FROM acme.users_userprofile"), "1", "what nobody has written is no reason");
}

#[test]
fn a_row_that_refers_to_another_copy_since_keeps_it() {
    let db = ill();
    let other = "9f49879d-898b-4d2f-8b0f-d3cf8f4cca51";
    db.execute("public", &format!("INSERT INTO business_business (id, name) VALUES ('{other}', 'Wheels')"));
    db.execute(
        "acme",
        &format!(
            "SET session_replication_role = replica; INSERT INTO users_userprofile (user_id, business_id) VALUES (gen_random_uuid(), '{other}')"
        ),
    );
    let id = repair(&db);
    db.execute("acme", &format!("UPDATE users_userprofile SET business_id = '{other}' WHERE id = 1"));
    let undone = undo(&db, id);
    assert_eq!(db.text("SELECT string_agg(name, ' ') FROM acme.business_business"), "Wheels", "{undone:#?}");
}

#[test]
fn a_copy_whose_original_is_being_deleted_is_the_last_one_and_stays() {
    let db = ill();
    let id = repair(&db);
    let conn = &mut db.connect();
    conn.batch_execute("BEGIN; DELETE FROM public.odd; DELETE FROM public.business_business").unwrap();
    let undone = thread::scope(|threads| {
        let undo =
            threads.spawn(|| Undo::new(id).lock_timeout(Duration::from_secs(20)).run(&mut db.connect()).unwrap());
        thread::sleep(Duration::from_millis(1500));
        conn.batch_execute("COMMIT").unwrap();
        taken_back(&undo.join().unwrap())
    });
    assert_eq!(db.text("SELECT count(*) FROM acme.business_business"), "1", "{undone:#?}");
    assert!(undone.kept.iter().any(|kept| kept.why == "has no original in public any more"), "{undone:#?}");
}

#[test]
fn copies_in_a_table_with_a_rule_for_deletions_are_removed_all_the_same() {
    let db = TestDatabase::with_empty_schemas(["acme"]);
    for schema in ["public", "acme"] {
        db.execute(
            schema,
            "CREATE TABLE firms (id uuid PRIMARY KEY); CREATE TABLE notes (firm uuid REFERENCES firms); \
             CREATE TABLE links (firm uuid REFERENCES firms)",
        );
    }
    db.execute("acme", "CREATE RULE told AS ON DELETE TO notes DO ALSO NOTIFY notes");
    db.execute("public", "INSERT INTO firms VALUES (md5('f')::uuid); INSERT INTO notes VALUES (md5('f')::uuid)");
    db.execute("acme", "SET session_replication_role = replica; INSERT INTO links VALUES (md5('f')::uuid)");
    let conn = &mut db.connect();
    let listing = FixedList(vec!["acme".parse().unwrap()]).list(conn).unwrap();
    let report = Repair::new(&Rules::default()).apply(conn, &listing).unwrap();
    assert_eq!(db.text("SELECT count(*) FROM acme.firms, acme.notes"), "1");
    let undone = Undo::new(report.repair.unwrap()).run(conn).unwrap();
    assert!(undone.is_healthy(), "{undone:?}");
    assert_eq!(db.text("SELECT concat((SELECT count(*) FROM acme.firms), (SELECT count(*) FROM acme.notes))"), "00");
}
