//! Originals that were removed from `public` come back, but for those that it does not take any more.

use tenantry::{repair::Undone, testing::TestDatabase};

use crate::{
    repairing::{NAMES, registered, run, two, undo, whole},
    support::{Dump, dump},
};

const B1: &str = "bd8f8654-0752-4843-b076-0d7b2dc2e6d7";
const B2: &str = "9f49879d-898b-4d2f-8b0f-d3cf8f4cca51";

/// A repair that has removed originals, and what was there before.
struct Repaired {
    db: TestDatabase,
    before: Dump,
    id: i64,
}

/// Two businesses of `public` that are acme's, each with details and a profile; of one, the business and the profile
/// name a plan that `public` alone has.
fn repaired() -> Repaired {
    let db = two();
    for schema in NAMES.into_iter().chain(["public"]) {
        db.execute(schema, "ALTER TABLE business_business ADD plan int; ALTER TABLE users_userprofile ADD plan int");
    }
    let acme = registered(&db, "acme");
    db.execute(
        "public",
        &format!(
            "CREATE TABLE plans (id int PRIMARY KEY); INSERT INTO plans VALUES (1), (2); \
             ALTER TABLE business_business ADD CONSTRAINT plan_of_business FOREIGN KEY (plan) REFERENCES plans; \
             ALTER TABLE users_userprofile ADD CONSTRAINT plan_of_profile FOREIGN KEY (plan) REFERENCES plans DEFERRABLE; \
             INSERT INTO business_business (id, name, business_num, plan) VALUES ('{B1}', 'Engines', '000001', 1), ('{B2}', 'Wheels', '000002', NULL); \
             INSERT INTO business_business_details (business_id) VALUES ('{B1}'), ('{B2}'); \
             INSERT INTO users_userprofile (user_id, business_id, tenant_id, plan) VALUES ('{B1}', '{B1}', '{acme}', NULL), ('{B2}', '{B2}', '{acme}', 2)",
            acme = acme.id
        ),
    );
    let before = dump(&db);
    let report = run(&mut db.connect(), whole().remove_originals(true));
    assert_eq!(counts(&db, "public"), "0 0 0", "{report:#?}");
    Repaired { db, before, id: report.repair.unwrap() }
}

fn counts(db: &TestDatabase, schema: &str) -> String {
    db.text(&format!(
        "SELECT concat_ws(' ', (SELECT count(*) FROM {schema}.business_business), \
         (SELECT count(*) FROM {schema}.business_business_details), (SELECT count(*) FROM {schema}.users_userprofile))"
    ))
}

fn kept(undone: &Undone) -> Vec<String> {
    undone.kept.iter().map(|kept| format!("{} {}", kept.table, kept.why)).collect()
}

#[test]
fn an_original_whose_own_foreign_key_is_broken_is_kept_out_and_the_rest_comes_back() {
    let Repaired { db, before, id } = repaired();
    db.execute("public", "DELETE FROM plans WHERE id = 2");
    let words = "cannot come back: insert or update on table \"users_userprofile\" violates foreign key constraint \"plan_of_profile\"";
    let expected = [
        "business_business is referred to by rows of users_userprofile that are newer, or were kept".into(),
        format!("public.users_userprofile {words}"),
        "users_userprofile numbers rows that were kept".into(),
        "users_userprofile has no original in public any more".into(),
    ];
    assert_eq!(kept(&undo(&mut db.connect(), id)), expected);
    assert_eq!((counts(&db, "public"), counts(&db, "acme")), ("2 2 1".into(), "1 0 1".into()));
    // Nothing is lost: when the plan is there again, the rest comes back too.
    assert_eq!(kept(&undo(&mut db.connect(), id)), expected);
    db.execute("public", "INSERT INTO plans VALUES (2)");
    assert_eq!(kept(&undo(&mut db.connect(), id)), Vec::<String>::new());
    assert_eq!(dump(&db), before);
}

#[test]
fn what_refers_to_an_original_that_cannot_come_back_stays_with_it() {
    let Repaired { db, before, id } = repaired();
    db.execute("public", "DELETE FROM plans WHERE id = 1");
    let undone = undo(&mut db.connect(), id);
    let public: Vec<String> = kept(&undone).into_iter().filter(|kept| kept.starts_with("public.")).collect();
    assert_eq!(
        public,
        [
            "public.business_business cannot come back: insert or update on table \"business_business\" violates foreign key constraint \"plan_of_business\"",
            "public.business_business_details refers to a row of public.business_business that cannot come back",
            "public.users_userprofile refers to a row of public.business_business that cannot come back",
        ]
    );
    assert_eq!((counts(&db, "public"), counts(&db, "acme")), ("1 1 1".into(), "1 1 1".into()));
    db.execute("public", "INSERT INTO plans VALUES (1)");
    assert_eq!(kept(&undo(&mut db.connect(), id)), Vec::<String>::new());
    assert_eq!(dump(&db), before);
}

#[test]
fn an_original_whose_place_was_taken_since_is_kept_out() {
    let Repaired { db, id, .. } = repaired();
    db.execute(
        "public",
        "INSERT INTO business_business (id, name, business_num) VALUES (gen_random_uuid(), 'Pumps', '000002')",
    );
    let undone = undo(&mut db.connect(), id);
    assert!(kept(&undone)[2].contains("business_business_business_num_key"), "{undone:#?}");
    assert_eq!((counts(&db, "public"), counts(&db, "acme")), ("2 1 1".into(), "1 1 1".into()));
}

#[test]
fn a_copy_whose_originals_place_was_taken_by_another_row_is_the_last_one_and_stays() {
    let Repaired { db, id, .. } = repaired();
    db.execute("acme", &format!("DELETE FROM business_business_details WHERE business_id = '{B2}'; DELETE FROM users_userprofile WHERE user_id = '{B2}'"));
    db.execute(
        "public",
        "INSERT INTO business_business (id, name, business_num) VALUES (gen_random_uuid(), 'Pumps', '000002')",
    );
    let undone = undo(&mut db.connect(), id);
    assert_eq!(db.texts("SELECT name FROM acme.business_business"), ["Wheels"], "{undone:#?}");
}

#[test]
fn an_original_that_a_trigger_keeps_out_has_its_copy_left() {
    let Repaired { db, id, .. } = repaired();
    db.execute(
        "public",
        "CREATE FUNCTION keep_out() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'; \
         CREATE TRIGGER keep_out BEFORE INSERT ON business_business_details FOR EACH ROW EXECUTE FUNCTION keep_out()",
    );
    let undone = undo(&mut db.connect(), id);
    assert_eq!((counts(&db, "public"), counts(&db, "acme")), ("2 0 2".into(), "2 2 0".into()), "{undone:#?}");
}

#[test]
fn a_dry_run_draws_no_number_for_a_column_that_is_new_in_public() {
    let Repaired { db, id, .. } = repaired();
    db.execute("public", "ALTER TABLE business_business_details ADD number serial");
    undo(&mut db.connect(), id);
    assert_eq!(db.text("SELECT max(number) FROM public.business_business_details"), "2");
}
