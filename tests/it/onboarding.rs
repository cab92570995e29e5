//! The onboarding service.

use std::{thread, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use diesel::{Connection, PgConnection, RunQueryDsl, sql_query};
use tenantry::{
    Error,
    domain::{
        self,
        models::{
            Business, BusinessChanges, BusinessDetails, NewBusiness, NewTenant, NewUserProfile, ProfileChanges,
            SetupStatus, Tenant, User, UserProfile,
        },
        onboarding::{self, BusinessInfo, Onboarded, OnboardingError},
    },
    migrate::Migrations,
    pg::{pool, scope},
    testing::{self, TestDatabase},
};
use uuid::Uuid;

use crate::support::{migrated, tenant, user};

fn migrations() -> &'static Migrations {
    domain::migrations().unwrap()
}

fn save(conn: &mut PgConnection, schema: &str, info: &BusinessInfo) -> Result<Onboarded, OnboardingError> {
    scope::transaction(conn, &schema.parse().unwrap(), |tenant| onboarding::save_business_info(tenant, info))
}

fn count(db: &TestDatabase, table: &str) -> String {
    db.text(&format!("SELECT count(*) FROM {table}"))
}

#[test]
fn a_tenant_is_registered_with_its_schema_and_every_migration() {
    let db = migrated();
    let conn = &mut db.connect();
    let owner = user(conn);
    let request = NewTenant { owner_id: Some(owner.id), ..NewTenant::new(Uuid::new_v4(), "Engines Ltd") };
    let tenant = onboarding::register_tenant(conn, migrations(), &request).unwrap();
    assert_eq!(tenant.schema_name, format!("tenant_{}", tenant.id.to_string().replace('-', "_")));
    assert_eq!((tenant.setup_status, tenant.is_active, tenant.owner_id), (SetupStatus::Complete, true, Some(owner.id)));
    assert_eq!(db.versions(&tenant.schema_name), ["0001", "0002"]);
    assert_eq!(
        onboarding::register_tenant(conn, migrations(), &request).unwrap(),
        tenant,
        "sent again, it is the same tenant"
    );
}

#[test]
fn nothing_is_left_behind_when_registering_fails() {
    let db = migrated();
    let conn = &mut db.connect();
    let owner = user(conn);
    let request = NewTenant { owner_id: Some(owner.id), ..NewTenant::new(Uuid::new_v4(), "Engines Ltd") };
    db.execute("public", &format!("CREATE SCHEMA {}", request.schema()));
    let failed = onboarding::register_tenant(conn, migrations(), &request);
    assert!(matches!(failed, Err(OnboardingError::Tenantry(Error::SchemaExists { .. }))), "{failed:?}");
    assert_eq!(count(&db, "public.custom_auth_tenant"), "0");

    db.execute("public", &format!("DROP SCHEMA {}", request.schema()));
    let broken = Migrations::new(set("p1", "SELECT 1"), set("t1", "CREATE TABLE a (); CREATE TABLE a ()")).unwrap();
    assert!(onboarding::register_tenant(conn, &broken, &request).is_err());
    assert_eq!(count(&db, "public.custom_auth_tenant"), "0");
    assert_eq!(db.text(&format!("SELECT count(*) FROM pg_namespace WHERE nspname = '{}'", request.schema())), "0");
    onboarding::register_tenant(conn, migrations(), &request).unwrap();
}

fn set(version: &str, up: &str) -> tenantry::migrate::MigrationSet {
    let path = std::env::temp_dir().join(format!("tenantry-{}", Uuid::new_v4()));
    let inside = path.join(format!("{version}_test"));
    std::fs::create_dir_all(&inside).unwrap();
    std::fs::write(inside.join("up.sql"), up).unwrap();
    let set = tenantry::migrate::MigrationSet::new(
        "tenant",
        diesel_migrations::FileBasedMigrations::from_path(&path).unwrap(),
    );
    std::fs::remove_dir_all(path).unwrap();
    set.unwrap()
}

#[test]
fn what_cannot_be_registered_is_told_by_kind() {
    let db = migrated();
    let conn = &mut db.connect();
    let owner = user(conn);
    let first = NewTenant { owner_id: Some(owner.id), ..NewTenant::new(Uuid::new_v4(), "First") };
    onboarding::register_tenant(conn, migrations(), &first).unwrap();
    let mut register = |request: NewTenant| onboarding::register_tenant(conn, migrations(), &request).unwrap_err();
    let id = Uuid::new_v4();
    let second = NewTenant::new(id, "Second");
    assert!(matches!(register(NewTenant { name: " ".into(), ..second.clone() }), OnboardingError::InvalidFields(_)));
    assert!(matches!(
        register(NewTenant { name: "x".repeat(300), ..second.clone() }),
        OnboardingError::InvalidFields(_)
    ));
    assert!(matches!(register(NewTenant { owner_id: Some(id), ..second.clone() }), OnboardingError::NoSuchUser(_)));
    assert!(matches!(
        register(NewTenant { owner_id: Some(owner.id), ..second.clone() }),
        OnboardingError::TenantTaken(_)
    ));
    assert!(matches!(
        register(NewTenant { schema_name: Some(first.schema()), ..second }),
        OnboardingError::TenantTaken(_)
    ));
    assert!(matches!(register(NewTenant { name: "Other".into(), ..first }), OnboardingError::TenantTaken(_)));
    assert_eq!(count(&db, "public.custom_auth_tenant"), "1");
}

#[test]
fn a_registry_row_without_its_schema_is_not_reported_as_done() {
    let db = migrated();
    let conn = &mut db.connect();
    let request = NewTenant::new(Uuid::new_v4(), "Engines Ltd");
    onboarding::register_tenant(conn, migrations(), &request).unwrap();
    db.execute("public", &format!("DROP SCHEMA {} CASCADE", request.schema()));
    let again = onboarding::register_tenant(conn, migrations(), &request);
    assert!(matches!(again, Err(OnboardingError::Tenantry(Error::MissingSchema { .. }))), "{again:?}");
}

#[test]
fn equal_requests_at_the_same_time_register_one_tenant() {
    let db = migrated();
    let request = NewTenant::new(Uuid::new_v4(), "Engines Ltd");
    let tenants: Vec<Tenant> = thread::scope(|threads| {
        let callers: Vec<_> = (0..4)
            .map(|_| threads.spawn(|| onboarding::register_tenant(&mut db.connect(), migrations(), &request).unwrap()))
            .collect();
        callers.into_iter().map(|caller| caller.join().unwrap()).collect()
    });
    assert!(tenants.windows(2).all(|pair| pair[0] == pair[1]));
}

#[test]
fn all_of_a_business_is_saved_in_the_tenants_schema() {
    let db = migrated();
    let conn = &mut db.connect();
    let (acme, schema) = tenant(conn, "acme");
    let ada = user(conn);
    let info = BusinessInfo {
        business_type: Some("bakery".into()),
        legal_structure: "LLC".into(),
        country: "DE".into(),
        date_founded: Some("1999-12-31".parse().unwrap()),
        business_subtype_selections: serde_json::json!({"bread": true}),
        ..BusinessInfo::new(ada.id, "Brot & Söhne")
    };
    let saved = save(conn, "acme", &info).unwrap();
    assert!(saved.created);
    assert_eq!(
        (saved.business.name.as_str(), saved.details.legal_structure.as_str(), saved.details.country.as_str()),
        ("Brot & Söhne", "LLC", "DE")
    );
    assert!(
        saved
            .business
            .business_num
            .as_ref()
            .is_some_and(|number| number.len() == 6 && number.bytes().all(|b| b.is_ascii_digit()))
    );
    let profile = &saved.profile;
    assert_eq!(
        (profile.business_id, profile.tenant_id, profile.user_id),
        (Some(saved.business.id), Some(acme.id), ada.id)
    );
    assert_eq!((profile.is_business_owner, profile.schema_name.as_deref()), (true, Some(schema.as_str())));
    assert_eq!((profile.modified_at, profile.created_at), (profile.updated_at, profile.updated_at));
    assert!(User::find(conn, ada.id).unwrap().unwrap().is_onboarded);
    let places = "SELECT tableoid::regclass FROM business_business UNION ALL SELECT tableoid::regclass FROM business_business_details \
                  UNION ALL SELECT tableoid::regclass FROM users_userprofile";
    for schema in ["acme", "public"] {
        let qualified = places.replace("FROM ", &format!("FROM {schema}."));
        assert_eq!(db.texts(&qualified).len(), if schema == "acme" { 3 } else { 0 });
    }
    // What was returned is what is stored.
    scope::transaction(conn, &schema, |tenant| {
        assert_eq!(Business::find(tenant, saved.business.id)?.as_ref(), Some(&saved.business));
        assert_eq!(BusinessDetails::find(tenant, saved.business.id)?.as_ref(), Some(&saved.details));
        assert_eq!(UserProfile::of_user(tenant, ada.id)?.as_ref(), Some(&saved.profile));
        Ok::<_, Error>(())
    })
    .unwrap();
}

#[test]
fn sent_twice_it_is_one_business_and_the_last_request_wins() {
    let db = migrated();
    let conn = &mut db.connect();
    tenant(conn, "acme");
    let ada = user(conn);
    let first = save(conn, "acme", &BusinessInfo::new(ada.id, "Engines")).unwrap();
    let again = save(conn, "acme", &BusinessInfo::new(ada.id, "Engines")).unwrap();
    assert_eq!(
        (again.created, again.business.id, &again.business.business_num),
        (false, first.business.id, &first.business.business_num)
    );
    let changed = BusinessInfo { country: "FR".into(), ..BusinessInfo::new(ada.id, "Moteurs") };
    let changed = save(conn, "acme", &changed).unwrap();
    assert_eq!(
        (changed.business.id, changed.business.name.as_str(), changed.details.country.as_str()),
        (first.business.id, "Moteurs", "FR")
    );
    assert_eq!((count(&db, "acme.business_business"), count(&db, "acme.users_userprofile")), ("1".into(), "1".into()));
}

#[test]
fn sent_at_the_same_time_it_is_one_business() {
    let db = migrated();
    tenant(&mut db.connect(), "acme");
    let ada = user(&mut db.connect());
    let created: usize = thread::scope(|threads| {
        let callers: Vec<_> = (0..8)
            .map(|_| {
                threads
                    .spawn(|| save(&mut db.connect(), "acme", &BusinessInfo::new(ada.id, "Engines")).unwrap().created)
            })
            .collect();
        callers.into_iter().map(|caller| usize::from(caller.join().unwrap())).sum()
    });
    assert_eq!((created, count(&db, "acme.business_business")), (1, "1".into()));
}

#[test]
fn a_profile_that_is_there_is_updated() {
    let db = migrated();
    let conn = &mut db.connect();
    let (_, schema) = tenant(conn, "acme");
    let ada = user(conn);
    let profile =
        NewUserProfile { user_id: ada.id, city: Some("London".into()), country: "GB".into(), ..Default::default() };
    let before = scope::transaction(conn, &schema, |tenant| profile.insert(tenant)).unwrap();
    let saved = save(conn, "acme", &BusinessInfo::new(ada.id, "Engines")).unwrap();
    assert_eq!(
        (saved.profile.id, saved.profile.city.as_deref(), saved.profile.country.as_str()),
        (before.id, Some("London"), "GB")
    );
    assert!(saved.profile.updated_at > before.updated_at && saved.profile.modified_at == saved.profile.updated_at);
    assert_eq!(saved.profile.created_at, before.created_at);
}

#[test]
fn everybody_who_may_not_is_told_why_and_nothing_is_written() {
    let db = migrated();
    let conn = &mut db.connect();
    let (acme, schema) = tenant(conn, "acme");
    let (globex, _) = tenant(conn, "globex");
    let ada = user(conn);
    let refused =
        |conn: &mut PgConnection, schema: &str, info: &BusinessInfo| save(conn, schema, info).unwrap_err().to_string();
    let info = BusinessInfo::new(ada.id, "Engines");

    insta::assert_snapshot!(refused(conn, "ghost", &info), @"no schema `ghost`: create the tenant first, or drop it from the registry");
    db.execute("public", "CREATE SCHEMA unregistered");
    insta::assert_snapshot!(refused(conn, "unregistered", &info), @"no tenant is registered with schema `unregistered`");
    insta::assert_snapshot!(refused(conn, "acme", &BusinessInfo::new(Uuid::nil(), "E")), @"no user 00000000-0000-0000-0000-000000000000");
    insta::assert_snapshot!(
        refused(conn, "acme", &BusinessInfo { country: "XX".into(), business_name: "x".repeat(300), ..info.clone() }),
        @"business_name may have at most 255 characters, this one has 300; country must be an ISO 3166 alpha-2 code in capital letters, such as US"
    );

    assert!(Tenant::set_active(conn, acme.id, false).unwrap());
    insta::assert_snapshot!(refused(conn, "acme", &info), @"tenant `acme` is suspended: resume it first");
    assert!(Tenant::set_active(conn, acme.id, true).unwrap());

    db.execute(
        "public",
        &format!("UPDATE custom_auth_tenant SET owner_id = '{}' WHERE schema_name = 'globex'", ada.id),
    );
    let line = refused(conn, "acme", &info);
    assert_eq!(line, format!("user {} belongs to tenant globex", ada.id));
    db.execute("public", "UPDATE custom_auth_tenant SET owner_id = NULL");
    let foreign = NewUserProfile { user_id: ada.id, tenant_id: Some(globex.id), ..Default::default() };
    scope::transaction(conn, &schema, |tenant| foreign.insert(tenant)).unwrap();
    assert_eq!(refused(conn, "acme", &info), format!("user {} belongs to tenant {}", ada.id, globex.id));

    assert_eq!(
        (count(&db, "acme.business_business"), count(&db, "public.business_business")),
        ("0".into(), "0".into())
    );
    assert!(!User::find(conn, ada.id).unwrap().unwrap().is_onboarded);
}

#[test]
fn an_employee_does_not_rename_the_business_of_their_profile() {
    let db = migrated();
    let conn = &mut db.connect();
    let (_, acme) = tenant(conn, "acme");
    let (ada, bob) = (user(conn), user(conn));
    let saved = save(conn, "acme", &BusinessInfo::new(ada.id, "Engines")).unwrap();
    let profile = NewUserProfile { user_id: bob.id, business_id: Some(saved.business.id), ..Default::default() };
    scope::transaction(conn, &acme, |tenant| profile.insert(tenant)).unwrap();
    let refused = save(conn, "acme", &BusinessInfo::new(bob.id, "Bob's"));
    assert!(matches!(refused, Err(OnboardingError::NotTheOwner(id)) if id == bob.id), "{refused:?}");
    assert_eq!(db.texts("SELECT name FROM acme.business_business"), ["Engines"]);
}

#[test]
fn a_taken_number_is_drawn_again_without_losing_the_transaction() {
    let db = migrated();
    let conn = &mut db.connect();
    tenant(conn, "acme");
    // Whatever is drawn first, three times over, becomes a number that is taken.
    db.execute(
        "acme",
        "INSERT INTO business_business (id, name, business_num) VALUES (gen_random_uuid(), 'first', '000000'); \
         CREATE SEQUENCE draws; \
         CREATE FUNCTION collide() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
           IF nextval('acme.draws') <= 3 THEN NEW.business_num := '000000'; END IF; RETURN NEW; END $$; \
         CREATE TRIGGER collide BEFORE INSERT ON business_business FOR EACH ROW EXECUTE FUNCTION collide()",
    );
    let ada = user(conn);
    let saved = save(conn, "acme", &BusinessInfo::new(ada.id, "Engines")).unwrap();
    assert_ne!(saved.business.business_num.as_deref(), Some("000000"));
    assert_eq!(db.text("SELECT last_value FROM acme.draws"), "4");

    db.execute("acme", "ALTER SEQUENCE draws MINVALUE -1000 RESTART WITH -1000"); // from now on it always collides
    let bob = user(conn);
    let full = save(conn, "acme", &BusinessInfo::new(bob.id, "Engines"));
    assert!(matches!(full, Err(OnboardingError::NoBusinessNumber(_))), "{full:?}");
}

#[test]
fn it_runs_in_a_session_scope_of_a_pooled_connection_alike() {
    let db = migrated();
    let (_, acme) = tenant(&mut db.connect(), "acme");
    let ada = user(&mut db.connect());
    let mut config = db.config().clone();
    config.pool_size = 1;
    let pool = pool::open(config).unwrap();
    {
        let mut conn = pool.get().unwrap();
        let mut tenant = scope::session(&mut conn, &acme).unwrap();
        onboarding::save_business_info(&mut tenant, &BusinessInfo::new(ada.id, "Engines")).unwrap();
        // An error leaves the session in the tenant, and nothing half done.
        let refused = onboarding::save_business_info(&mut tenant, &BusinessInfo::new(Uuid::nil(), "Engines"));
        assert!(matches!(refused, Err(OnboardingError::NoSuchUser(_))));
        tenant.ensure_current().unwrap();
    }
    assert_eq!(
        (count(&db, "acme.business_business"), count(&db, "public.business_business")),
        ("1".into(), "0".into())
    );
    assert_eq!(scope::current(&mut pool.get().unwrap()).unwrap().path, "pg_catalog, pg_temp");
}

#[test]
fn it_runs_in_a_test_transaction() {
    let db = migrated();
    let conn = &mut db.connect();
    conn.begin_test_transaction().unwrap();
    let (_, acme) = tenant(conn, "acme");
    let ada = user(conn);
    let saved = save(conn, "acme", &BusinessInfo::new(ada.id, "Engines")).unwrap();
    let found = scope::transaction(conn, &acme, Business::all).unwrap();
    assert_eq!(found, [saved.business]);
    assert_eq!(db.text("SELECT count(*) FROM pg_namespace WHERE nspname = 'acme'"), "0");
}

#[test]
fn a_monoliths_unit_test_gets_a_tenant_in_one_line() {
    let db = migrated();
    let conn = &mut db.connect();
    let name = testing::in_tenant(conn, migrations(), |tenant| {
        NewBusiness { id: Uuid::new_v4(), name: "Engines".into() }.insert(tenant).unwrap().unwrap().name
    });
    assert_eq!(name, "Engines");
    assert_eq!(db.text("SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'tenant%'"), "0");
}

#[test]
fn an_error_inside_a_savepoint_takes_only_the_saving_back() {
    let db = migrated();
    let conn = &mut db.connect();
    let (_, acme) = tenant(conn, "acme");
    let ada = user(conn);
    scope::transaction(conn, &acme, |tenant| {
        NewBusiness { id: Uuid::new_v4(), name: "Kept".into() }.insert(tenant)?;
        sql_query("ALTER TABLE users_userprofile ADD CHECK (NOT is_business_owner)").execute(tenant.conn())?;
        let refused =
            tenant.transaction(|tenant| onboarding::save_business_info(tenant, &BusinessInfo::new(ada.id, "Lost")));
        assert!(matches!(refused, Err(OnboardingError::Query(_))), "{refused:?}");
        Ok::<_, Error>(())
    })
    .unwrap();
    assert_eq!(db.texts("SELECT name FROM acme.business_business"), ["Kept"]);
}

#[test]
fn every_write_of_a_business_or_profile_sets_its_moments() {
    let db = migrated();
    let conn = &mut db.connect();
    let (_, acme) = tenant(conn, "acme");
    let ada = user(conn);
    let saved = save(conn, "acme", &BusinessInfo::new(ada.id, "Engines")).unwrap();
    let recent = |moment: DateTime<Utc>| Utc::now() - moment < TimeDelta::seconds(10);
    let age = "UPDATE business_business SET updated_at = '2020-01-01'; UPDATE users_userprofile SET modified_at = '2020-01-01', updated_at = '2020-01-01'";

    db.execute("acme", age);
    let changes = ProfileChanges { city: Some("London".into()), ..Default::default() };
    let profile = scope::transaction(conn, &acme, |tenant| UserProfile::update(tenant, saved.profile.id, &changes))
        .unwrap()
        .unwrap();
    assert!(recent(profile.updated_at) && profile.modified_at == profile.updated_at);

    // Updating a business updates its owner's profile the same way.
    db.execute("acme", age);
    let changes = BusinessChanges { name: Some("Motors".into()) };
    scope::transaction(conn, &acme, |tenant| {
        let business = Business::update(tenant, saved.business.id, &changes)?.unwrap();
        let profile = UserProfile::of_user(tenant, ada.id)?.unwrap();
        assert!(
            recent(business.updated_at)
                && profile.updated_at == business.updated_at
                && profile.modified_at == business.updated_at
        );
        Ok::<_, Error>(())
    })
    .unwrap();

    // No change at all is still a write.
    db.execute("acme", age);
    let none = ProfileChanges::default();
    let profile = scope::transaction(conn, &acme, |tenant| UserProfile::update(tenant, saved.profile.id, &none))
        .unwrap()
        .unwrap();
    assert!(recent(profile.updated_at));
    assert_eq!(scope::transaction(conn, &acme, |tenant| UserProfile::update(tenant, -1, &none)).unwrap(), None);
}

#[test]
fn a_profile_whose_business_is_missing_is_told_to_be_repaired() {
    let db = migrated();
    let conn = &mut db.connect();
    tenant(conn, "acme");
    let ada = user(conn);
    db.execute(
        "acme",
        &format!(
            "ALTER TABLE users_userprofile DROP CONSTRAINT users_userprofile_business_id_fk; \
         INSERT INTO users_userprofile (user_id, business_id, is_business_owner) VALUES ('{}', 'bd8f8654-0752-4843-b076-0d7b2dc2e6d7', true)",
            ada.id
        ),
    );
    let error = save(conn, "acme", &BusinessInfo::new(ada.id, "Engines")).unwrap_err();
    assert!(
        matches!(error, OnboardingError::BusinessMissing { .. })
            && error.to_string().ends_with("run `tenantry repair`"),
        "{error}"
    );
}

#[test]
fn models_are_written_as_json_without_secrets() {
    let db = migrated();
    let conn = &mut db.connect();
    let (_, acme) = tenant(conn, "acme");
    let profile =
        NewUserProfile { user_id: Uuid::nil(), shopify_access_token: Some("s3cret".into()), ..Default::default() };
    let profile = scope::transaction(conn, &acme, |tenant| profile.insert(tenant)).unwrap();
    assert_eq!(profile.shopify_access_token.as_deref(), Some("s3cret"));
    let json = serde_json::to_string(&profile).unwrap();
    assert!(json.contains("\"country\":\"US\"") && !json.contains("s3cret"), "{json}");
}

#[test]
fn waiting_for_a_tenant_in_the_making_is_bounded() {
    let db = migrated();
    let holder = &mut db.connect();
    holder.begin_test_transaction().unwrap();
    let request = NewTenant::new(Uuid::new_v4(), "Engines Ltd");
    sql_query(format!("SELECT pg_advisory_xact_lock(hashtextextended('tenantry:{}', 0))", request.schema()))
        .execute(holder)
        .unwrap();
    let locked =
        tenantry::provision::create(&mut db.connect(), &request.schema(), migrations(), Duration::from_millis(50));
    assert!(matches!(locked, Err(Error::Locked { .. })), "{locked:?}");
}
