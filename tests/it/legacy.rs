//! From the incident's database to health, with the programs alone.

use tenantry::testing::TestDatabase;

use crate::{
    baseline::legacy,
    cli::{MIGRATE_ALL, TENANTRY, run, timeless},
};

const B1: &str = "bd8f8654-0752-4843-b076-0d7b2dc2e6d7";
const B2: &str = "9f49879d-898b-4d2f-8b0f-d3cf8f4cca51";
const B3: &str = "a60de554-2af0-48e1-979f-c36237a3feac";
const U1: &str = "d59d21aa-6602-47f1-a91e-72bf6ddb8cab";
const U2: &str = "0e9a4f0c-53a1-4c0e-8a35-6a6b5d1f2f10";

/// Made by Django, without a history; `updated_at` is null everywhere. acme has lost a foreign key, and its profile's
/// business is in `public`; so are a profile of hooli and its business.
fn incident() -> TestDatabase {
    let db = legacy(["acme", "globex", "hooli"]);
    db.execute(
        "public",
        &format!(
            "DELETE FROM users_userprofile; DELETE FROM business_business; \
             INSERT INTO custom_auth_user (id, email) VALUES ('{U1}', 'ada@example.com'), ('{U2}', 'bob@example.com'); \
             INSERT INTO business_business (id, name) VALUES ('{B2}', 'Of acme'), ('{B3}', 'Of hooli'); \
             INSERT INTO business_business_details (business_id, legal_structure) VALUES ('{B2}', 'LLC'), ('{B3}', 'LLC'); \
             INSERT INTO users_userprofile (user_id, business_id, tenant_id) \
                 SELECT '{U2}', '{B3}', id FROM custom_auth_tenant WHERE schema_name = 'hooli'"
        ),
    );
    db.execute(
        "acme",
        &format!(
            "ALTER TABLE users_userprofile DROP CONSTRAINT users_userprofile_business_id_fk; \
             UPDATE users_userprofile SET business_id = '{B2}'; DELETE FROM business_business WHERE id = '{B1}'"
        ),
    );
    db
}

#[test]
fn the_incidents_database_is_taken_over_migrated_examined_repaired_and_healthy() {
    let db = incident();
    let refused = run(TENANTRY, &["baseline", "--at", "0001", "--public"], &db);
    assert_eq!(refused.code, 0, "{refused:?}");
    let refused = run(TENANTRY, &["baseline", "--at", "0001"], &db);
    assert_eq!((refused.code, db.versions("acme").len(), db.versions("globex").len()), (2, 0, 1), "{refused:?}");
    assert!(refused.out.contains("foreign key users_userprofile_business_id_fk of users_userprofile is missing"));
    let forced = run(TENANTRY, &["baseline", "--at", "0001", "--force", "--yes"], &db);
    assert_eq!((forced.code, db.versions("acme").len()), (0, 1), "{forced:?}");

    let migrated = run(MIGRATE_ALL, &[], &db);
    assert_eq!(migrated.code, 0, "{migrated:?}");
    assert_eq!(db.text("SELECT count(*) FROM acme.users_userprofile WHERE updated_at = modified_at"), "1");

    let ill = run(TENANTRY, &["doctor", "--skip", "extra", "--skip", "renamed"], &db);
    assert_eq!(ill.code, 2);
    insta::assert_snapshot!(timeless(&ill.out), @r#"
    3 tenants examined in … s: 5 errors, 0 warnings, 0 notices

    orphan: rows refer to rows that are not in their schema (1 error)
        acme: 1 row of users_userprofile refers by business_id to business_business that is not there, but in public (9f49879d-898b-4d2f-8b0f-d3cf8f4cca51)
            fix: tenantry repair

    stray: rows of a tenant are in public and not in its schema (3 errors)
        hooli: 1 row of public.business_business belongs to it, and it does not have it (a60de554-2af0-48e1-979f-c36237a3feac)
        hooli: 1 row of public.business_business_details belongs to it, and it does not have it (a60de554-2af0-48e1-979f-c36237a3feac)
        hooli: 1 row of public.users_userprofile belongs to it, and it does not have it (2)
            fix: tenantry repair

    missing: something that the migrations make is missing (1 error)
        acme: foreign key users_userprofile_business_id_fk of users_userprofile is missing: FOREIGN KEY (business_id) REFERENCES business_business(id) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED
            fix: ALTER TABLE "users_userprofile" ADD CONSTRAINT "users_userprofile_business_id_fk" FOREIGN KEY (business_id) REFERENCES business_business(id) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED NOT VALID

    the statements may have bare names: run them with the schema alone on the search_path
    "#);

    let repaired = run(TENANTRY, &["repair"], &db);
    assert_eq!(repaired.code, 0, "{repaired:?}");
    insta::assert_snapshot!(repaired.out, @r"
    acme
        copied 1 row of business_business from public
        copied 1 row of business_business_details from public
        added users_userprofile_business_id_fk of users_userprofile
    hooli
        copied 1 row of business_business from public
        copied 1 row of business_business_details from public
        copied 1 row of users_userprofile from public
        moved the sequence of users_userprofile.id to 2
    3 tenants examined, 2 ill: copied 5 rows, filled 0 nulls, put 1 constraint right, left 0 alone, 0 failed
    remembered as repair 1: `tenantry repair undo 1` takes it back
    ");

    let healthy = run(TENANTRY, &["doctor", "--skip", "extra", "--skip", "renamed"], &db);
    assert_eq!(healthy.code, 0, "{healthy:?}");
    insta::assert_snapshot!(timeless(&healthy.out), @r"
    3 tenants examined in … s: 0 errors, 0 warnings, 5 notices

    copy: public has the same rows as a tenant (5 notices)
        acme: 1 row of business_business is in public too, just the same (9f49879d-898b-4d2f-8b0f-d3cf8f4cca51)
        acme: 1 row of business_business_details is in public too, just the same (9f49879d-898b-4d2f-8b0f-d3cf8f4cca51)
        hooli: 1 row of business_business is in public too, just the same (a60de554-2af0-48e1-979f-c36237a3feac)
        hooli: 1 row of business_business_details is in public too, just the same (a60de554-2af0-48e1-979f-c36237a3feac)
        hooli: 1 row of users_userprofile is in public too, just the same (2)
            fix: tenantry repair --remove-originals
    ");
    assert_eq!(run(TENANTRY, &["doctor"], &db).code, 0, "what Django has named otherwise is no illness");

    // The originals go when somebody says so, and not before.
    let asked = run(TENANTRY, &["repair", "--remove-originals"], &db);
    assert_eq!((asked.code, db.text("SELECT count(*) FROM public.business_business")), (1, "2".into()), "{asked:?}");
    let removed = run(TENANTRY, &["repair", "--remove-originals", "--yes"], &db);
    assert_eq!(removed.code, 0, "{removed:?}");
    insta::assert_snapshot!(removed.out, @r"
    acme
        removed 1 original of public.business_business_details
        removed 1 original of public.business_business
    hooli
        removed 1 original of public.users_userprofile
        removed 1 original of public.business_business_details
        removed 1 original of public.business_business
    3 tenants examined, 2 ill: copied 0 rows, filled 0 nulls, removed 5 originals, left 0 alone, 0 failed
    remembered as repair 2: `tenantry repair undo 2` takes it back
    ");
    let rows =
        "SELECT (SELECT count(*) FROM public.business_business) + (SELECT count(*) FROM public.users_userprofile)";
    assert_eq!(db.text(rows), "0");
    let list = run(TENANTRY, &["repair", "list"], &db);
    assert_eq!((list.code, list.out.lines().count()), (0, 3), "{list:?}");

    // And come back when somebody says so.
    let undone = run(TENANTRY, &["repair", "undo", "2", "--yes"], &db);
    assert_eq!((undone.code, db.text(rows)), (0, "3".into()), "{undone:?}");
    let chosen = run(TENANTRY, &["repair", "undo", "1", "--dry-run", "--tenant", "acme"], &db);
    assert!(chosen.code == 0 && chosen.out.contains("acme") && !chosen.out.contains("hooli"), "{chosen:?}");
    let undone = run(TENANTRY, &["repair", "undo", "1", "--yes"], &db);
    assert_eq!(undone.code, 0, "{undone:?}");
    insta::assert_snapshot!(undone.out, @r#"
    acme
        users_userprofile_business_id_fk of users_userprofile as it was
        1 copied row of business_business removed
        1 copied row of business_business_details removed
    hooli
        1 copied row of business_business removed
        1 copied row of business_business_details removed
        1 copied row of users_userprofile removed
        "hooli"."users_userprofile_id_seq" set back
    repair 1 taken back in 2 tenants, kept 0, 0 failed
    "#);
    assert_eq!(db.text("SELECT count(*) FROM acme.business_business"), "0");
}
