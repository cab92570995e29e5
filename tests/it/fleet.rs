//! Runs over all tenants.

use std::{
    sync::{
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use diesel::{Connection, PgConnection, connection::SimpleConnection};
use tenantry::{
    Error, Fleet, SchemaName,
    directory::{FixedList, Listing, SchemaPattern, TenantDirectory},
    domain,
    migrate::{Event, Interrupt, Observer, Report, Run, State},
    pg,
    testing::TestDatabase,
};

use crate::support::{migrated, tenant};

fn names(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("tenant_{number:03}")).collect()
}

fn migrate(db: &TestDatabase, run: Run<'_>) -> Result<Report, Error> {
    domain::fleet().unwrap().run(&run, &|| pg::connect(db.config()))
}

fn run() -> Run<'static> {
    Run::new(domain::migrations().unwrap())
}

/// A registry of these schemas, each empty.
fn registered<'n>(names: impl IntoIterator<Item = &'n str> + Clone) -> TestDatabase {
    let db = TestDatabase::with_empty_schemas(names.clone());
    run().public(&mut db.connect()).unwrap();
    for name in names {
        register(&db, name);
    }
    db
}

fn register(db: &TestDatabase, schema: &str) {
    db.execute(
        "public",
        &format!(
            "INSERT INTO custom_auth_tenant (id, schema_name, name) VALUES (gen_random_uuid(), '{schema}', '{schema}')"
        ),
    );
}

fn outcomes(report: &Report) -> Vec<(&str, &str)> {
    report.lines.iter().map(|line| (line.schema.as_str(), line.outcome())).collect()
}

#[test]
fn an_empty_database_gets_public_and_then_every_tenant() {
    let db = TestDatabase::new();
    let report = migrate(&db, run()).unwrap();
    assert_eq!(outcomes(&report), [("public", "migrated")]);
    assert_eq!(db.versions("public"), ["0001", "0002", "p0001"]);
    let tenants = names(30);
    for name in &tenants {
        db.execute("public", &format!("CREATE SCHEMA {name}"));
        register(&db, name);
    }
    let report = migrate(&db, run().jobs(4)).unwrap();
    assert_eq!((report.count("migrated"), report.count("up to date"), report.count("failed")), (30, 1, 0));
    for name in &tenants {
        assert_eq!(db.versions(name), ["0001", "0002"]);
    }
    let report = migrate(&db, run()).unwrap();
    assert_eq!(report.count("up to date"), 31);
}

#[test]
fn a_failing_tenant_leaves_the_others_migrated() {
    let db = registered(["acme", "globex", "hooli", "initech", "umbrella"]);
    db.execute("hooli", "CREATE TABLE business_business ()"); // collides with the first migration
    let report = migrate(&db, run().jobs(2)).unwrap();
    assert_eq!(
        outcomes(&report),
        [
            ("public", "up to date"),
            ("acme", "migrated"),
            ("globex", "migrated"),
            ("hooli", "failed"),
            ("initech", "migrated"),
            ("umbrella", "migrated")
        ]
    );
    let errors: Vec<String> = report.failures().map(|(_, error)| error.chain()).collect();
    assert_eq!(errors, ["migration 0001 failed in schema `hooli`: relation \"business_business\" already exists"]);
    assert_eq!(db.versions("hooli"), Vec::<String>::new(), "nothing is half done");
    // Mended, it is all that the next run has to do.
    db.execute("hooli", "DROP TABLE business_business");
    assert_eq!(migrate(&db, run()).unwrap().count("migrated"), 1);
}

#[test]
fn small_migrations_of_several_tenants_share_a_transaction() {
    let tenants = names(40);
    let db = registered(tenants.iter().map(String::as_str));
    migrate(&db, run().jobs(1).lock_budget(Duration::from_secs(60))).unwrap();
    let transactions = |db: &TestDatabase| -> usize {
        let histories = tenants.iter().map(|name| format!("SELECT xmin::text FROM {name}.__diesel_schema_migrations"));
        db.texts(&histories.collect::<Vec<_>>().join(" UNION ")).len()
    };
    assert!(transactions(&db) <= 10, "groups of 1, 2, 4, 8 and so on");

    let db = registered(tenants.iter().map(String::as_str));
    migrate(&db, run().jobs(1).lock_budget(Duration::ZERO)).unwrap();
    assert_eq!(transactions(&db), 40);
}

#[test]
fn one_bad_tenant_costs_its_group_nothing() {
    let tenants = names(40);
    let db = registered(tenants.iter().map(String::as_str));
    for bad in ["tenant_007", "tenant_020"] {
        db.execute(bad, "CREATE TABLE users_userprofile ()");
    }
    db.execute("public", "DROP SCHEMA tenant_030");
    let report = migrate(&db, run().jobs(2).lock_budget(Duration::from_secs(60))).unwrap();
    let failed: Vec<&str> = report.failures().map(|(schema, _)| schema).collect();
    assert_eq!((failed, report.count("migrated")), (vec!["tenant_007", "tenant_020", "tenant_030"], 37));
    assert_eq!(db.versions("tenant_007"), Vec::<String>::new());
    assert_eq!(db.versions("tenant_008"), ["0001", "0002"]);
}

#[test]
fn a_registry_row_without_a_schema_is_reported_and_never_migrated_into_public() {
    let db = registered(["acme"]);
    register(&db, "ghost");
    register(&db, "public");
    register(&db, "pg_catalog");
    db.execute("public", "DELETE FROM __diesel_schema_migrations WHERE version = '0002'; ALTER TABLE users_userprofile DROP COLUMN updated_at");
    let report = domain::fleet().unwrap().run_on(&run(), &mut db.connect()).unwrap();
    assert_eq!(
        outcomes(&report),
        [
            ("public", "migrated"),
            ("acme", "migrated"),
            ("ghost", "failed"),
            ("pg_catalog", "failed"),
            ("public", "failed")
        ]
    );
    assert!(matches!(report.lines[2].result, Err(Error::MissingSchema { .. })));
    assert!(matches!(report.lines[3].result, Err(Error::SchemaName { .. })));
    assert_eq!(db.text("SELECT count(*) FROM pg_namespace WHERE nspname = 'ghost'"), "0");
}

#[test]
fn a_failing_public_stops_the_run_before_any_tenant() {
    let db = TestDatabase::with_empty_schemas(["acme"]);
    db.execute("public", "CREATE TABLE users_userprofile ()");
    let fleet = Fleet { directory: &SchemaPattern::new("acme"), ..domain::fleet().unwrap() };
    let error = fleet.run(&run(), &|| pg::connect(db.config())).unwrap_err();
    assert_eq!(
        error.chain(),
        "migration 0001 failed in schema `public`: relation \"users_userprofile\" already exists"
    );
    assert_eq!((db.versions("public"), db.versions("acme")), (vec![], vec![]));
}

#[test]
fn suspended_tenants_are_migrated_too() {
    let db = registered(["acme"]);
    db.execute("public", "UPDATE custom_auth_tenant SET is_active = false");
    assert_eq!(migrate(&db, run()).unwrap().count("migrated"), 1);
}

#[test]
fn runs_that_race_apply_everything_once() {
    let tenants = names(20);
    let db = registered(tenants.iter().map(String::as_str));
    let reports: Vec<Report> = thread::scope(|threads| {
        let racers: Vec<_> = (0..3)
            .map(|_| threads.spawn(|| migrate(&db, run().jobs(2).wait(Duration::from_secs(60))).unwrap()))
            .collect();
        racers.into_iter().map(|racer| racer.join().unwrap()).collect()
    });
    assert_eq!(reports.iter().map(|report| report.count("failed")).sum::<usize>(), 0);
    assert_eq!(reports.iter().map(|report| report.count("migrated")).sum::<usize>(), 20);
    for name in &tenants {
        assert_eq!(db.versions(name), ["0001", "0002"]);
    }
}

#[test]
fn a_second_run_is_told_who_holds_the_fleet() {
    let db = registered(["acme"]);
    let holder = &mut db.connect();
    holder.batch_execute("SELECT pg_advisory_lock(hashtextextended('tenantry fleet', 0))").unwrap();
    let error = migrate(&db, run()).unwrap_err();
    let role = db.text("SELECT current_user");
    assert!(
        matches!(&error, Error::RunInProgress { holder } if holder.starts_with(&format!("role {role} from "))),
        "{error}"
    );
    assert_eq!(db.versions("acme"), Vec::<String>::new());
    holder.batch_execute("SELECT pg_advisory_unlock_all()").unwrap();
    assert_eq!(migrate(&db, run()).unwrap().count("migrated"), 1);
}

#[test]
fn a_run_that_is_stopped_finishes_what_is_under_way_and_reports_the_rest() {
    struct StopAfter(AtomicUsize, Interrupt);
    impl Observer for StopAfter {
        fn on(&self, event: &Event<'_>) {
            if let Event::Finished(_) = event
                && self.0.fetch_sub(1, Ordering::SeqCst) == 1
            {
                self.1.stop();
            }
        }
    }
    let tenants = names(30);
    let db = registered(tenants.iter().map(String::as_str));
    let stop = StopAfter(AtomicUsize::new(5), Interrupt::new());
    let report = migrate(&db, run().jobs(2).lock_budget(Duration::ZERO).observer(&stop).interrupt(&stop.1)).unwrap();
    let (migrated, failed) = (report.count("migrated"), report.count("not reached"));
    assert!((5..=7).contains(&migrated) && migrated + failed == 30, "{migrated} {failed}");
    let reasons: Vec<String> = report.failures().map(|(_, error)| error.chain()).collect();
    assert!(reasons.iter().all(|reason| reason.contains("the run was stopped before its turn")), "{reasons:?}");
    assert_eq!(migrate(&db, run()).unwrap().count("migrated"), 30 - migrated);
}

#[test]
fn a_race_with_diesel_itself_ends_well() {
    use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};
    const TENANT: EmbeddedMigrations = embed_migrations!("migrations/tenant");
    let tenants = names(20);
    let db = registered(tenants.iter().map(String::as_str));
    thread::scope(|threads| {
        let diesel = threads.spawn(|| {
            let conn = &mut db.connect();
            for name in &tenants {
                conn.batch_execute(&format!("SET search_path = {name}")).unwrap();
                // Diesel has no lock: it may lose the race, but not break anything.
                let _ = conn.run_pending_migrations(TENANT);
            }
        });
        let report = migrate(&db, run().jobs(1)).unwrap();
        assert_eq!(report.failures().map(|(_, error)| error.chain()).collect::<Vec<_>>(), Vec::<String>::new());
        diesel.join().unwrap();
    });
    for name in &tenants {
        assert_eq!(db.versions(name), ["0001", "0002"]);
    }
}

#[test]
fn a_locked_tenant_fails_after_the_timeout_and_the_others_do_not_wait() {
    let db = registered(["acme", "globex"]);
    let migrations = domain::migrations().unwrap();
    for name in ["acme", "globex"] {
        let run = Run::new(migrations);
        run.tenants_on(&mut db.connect(), &[name.parse().unwrap()]);
        db.execute(name, "ALTER TABLE users_userprofile DROP COLUMN updated_at; DELETE FROM __diesel_schema_migrations WHERE version = '0002'");
    }
    let holder = &mut db.connect();
    holder.begin_test_transaction().unwrap();
    holder.batch_execute("LOCK TABLE acme.users_userprofile").unwrap();
    let started = Instant::now();
    let report = migrate(&db, run().lock_timeout(Duration::from_millis(200))).unwrap();
    assert!(started.elapsed() < Duration::from_secs(5));
    assert_eq!(outcomes(&report)[1..], [("acme", "failed"), ("globex", "migrated")]);
    assert!(report.lines[1].result.as_ref().unwrap_err().chain().contains("lock timeout"));
}

#[test]
fn a_migration_under_way_elsewhere_is_polled_for_and_told() {
    let db = registered(["acme"]);
    let holder = &mut db.connect();
    holder.begin_test_transaction().unwrap();
    holder.batch_execute("SELECT pg_advisory_xact_lock(hashtextextended('tenantry:acme', 0))").unwrap();
    let report = migrate(&db, run().lock_timeout(Duration::from_millis(100))).unwrap();
    assert!(matches!(report.lines[1].result, Err(Error::Locked { .. })), "{:?}", report.lines[1]);
}

#[test]
fn the_observer_hears_of_every_tenant_once() {
    #[derive(Default)]
    struct Ear(std::sync::Mutex<Vec<String>>);
    impl Observer for Ear {
        fn on(&self, event: &Event<'_>) {
            self.0.lock().unwrap().push(match event {
                Event::Started { tenants } => format!("started {tenants}"),
                Event::Finished(line) => format!("{} {}", line.schema, line.outcome()),
                _ => return,
            });
        }
    }
    let db = registered(["acme", "globex"]);
    let ear = Ear::default();
    migrate(&db, run().jobs(1).observer(&ear)).unwrap();
    assert_eq!(*ear.0.lock().unwrap(), ["started 2", "acme migrated", "globex migrated"]);
}

#[test]
fn the_whole_fleet_migrates_inside_a_test_transaction() {
    let db = registered(["acme", "globex"]);
    let conn = &mut db.connect();
    conn.begin_test_transaction().unwrap();
    let report = domain::fleet().unwrap().run_on(&run(), conn).unwrap();
    assert_eq!(report.count("migrated"), 2);
    assert_eq!(db.versions("acme"), Vec::<String>::new(), "nothing was committed");
}

#[test]
fn a_failing_tenant_in_a_test_transaction_does_not_hurt_the_others() {
    let db = registered(["acme", "globex"]);
    db.execute("acme", "CREATE TABLE business_business ()");
    let conn = &mut db.connect();
    conn.begin_test_transaction().unwrap();
    let report = domain::fleet().unwrap().run_on(&run(), conn).unwrap();
    assert_eq!(outcomes(&report)[1..], [("acme", "failed"), ("globex", "migrated")]);
}

#[test]
fn fewer_connections_than_jobs_are_enough() {
    let tenants = names(30);
    let db = registered(tenants.iter().map(String::as_str));
    let asked = AtomicUsize::new(0);
    // The first connection holds the lock, the second is the run's, and the third works; the helpers' are refused; the
    // last one flushes.
    let connect = || match asked.fetch_add(1, Ordering::SeqCst) {
        3 | 4 => Err(Error::Connect { url: "postgres://".into(), reason: "too many clients".into() }),
        _ => pg::connect(db.config()),
    };
    let report = domain::fleet().unwrap().run(&run().jobs(3), &connect).unwrap();
    assert_eq!((report.count("migrated"), asked.load(Ordering::SeqCst)), (30, 6));
}

#[test]
fn status_tells_every_state_apart_and_writes_nothing() {
    let db = registered(["acme", "behind", "fresh", "future"]);
    let migrations = domain::migrations().unwrap();
    Run::new(migrations).tenants_on(&mut db.connect(), &["acme".parse().unwrap(), "future".parse().unwrap()]);
    Run::new(&migrations.with_tenant_up_to("0001").unwrap())
        .tenants_on(&mut db.connect(), &["behind".parse().unwrap()]);
    db.execute("future", "INSERT INTO __diesel_schema_migrations (version) VALUES ('9999')");
    register(&db, "ghost");
    let role = format!("reader_{}", uuid::Uuid::new_v4().simple());
    let conn = &mut db.connect();
    conn.batch_execute(&format!(
        "CREATE ROLE {role}; GRANT SELECT ON ALL TABLES IN SCHEMA public, acme, behind, fresh TO {role}; \
         GRANT USAGE ON SCHEMA public, acme, behind, fresh TO {role}; SET ROLE {role}; SET default_transaction_read_only = on"
    ))
    .unwrap();
    let found = domain::fleet().unwrap().status(conn).unwrap();
    conn.batch_execute("SET default_transaction_read_only = off; RESET ROLE").unwrap();
    conn.batch_execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).unwrap();
    let shown: Vec<String> = found
        .schemas
        .iter()
        .map(|status| match &status.state {
            State::Missing => format!("{} missing", status.schema),
            State::Unreadable { .. } => format!("{} unreadable", status.schema),
            State::Known { version, pending, unknown, .. } => {
                format!(
                    "{} at {} pending {} unknown {}",
                    status.schema,
                    version.as_deref().unwrap_or("-"),
                    pending.len(),
                    unknown.len()
                )
            }
        })
        .collect();
    assert_eq!(
        shown,
        [
            "public at 0002 pending 0 unknown 0",
            "acme at 0002 pending 0 unknown 0",
            "behind at 0001 pending 1 unknown 0",
            "fresh at - pending 2 unknown 0",
            "future unreadable",
            "ghost missing",
        ]
    );
    assert!(!found.is_healthy());
    assert_eq!(db.versions("fresh"), Vec::<String>::new(), "reading makes no history");
    let future = domain::fleet().unwrap().status(&mut db.connect()).unwrap();
    assert!(matches!(&future.schemas[4].state, State::Known { unknown, .. } if unknown == &["9999"]));
}

#[test]
fn a_fleet_of_many_chunks_is_surveyed_whole() {
    let tenants = names(120);
    let db = TestDatabase::with_empty_schemas(tenants.iter().map(String::as_str));
    for name in &tenants[..60] {
        db.execute(name, "CREATE TABLE __diesel_schema_migrations (version varchar(50) PRIMARY KEY); INSERT INTO __diesel_schema_migrations VALUES ('0001')");
    }
    let schemas: Vec<SchemaName> = tenants.iter().map(|name| name.parse().unwrap()).collect();
    let fleet = Fleet { directory: &FixedList(schemas), ..domain::fleet().unwrap() };
    let pending: Vec<usize> =
        fleet.status(&mut db.connect()).unwrap().schemas[1..].iter().map(|status| status.pending().len()).collect();
    assert_eq!(pending, [vec![1; 60], vec![2; 60]].concat());
}

#[test]
fn tenants_are_found_by_the_pattern_of_their_names() {
    let db = TestDatabase::with_empty_schemas(["tenant_b", "tenant_a", "tenantXc", "other"]);
    let listing = SchemaPattern::new("tenant_*").list(&mut db.connect()).unwrap();
    assert_eq!(listing.schemas(), ["tenant_a".parse().unwrap(), "tenant_b".parse().unwrap()]);
    assert_eq!(
        SchemaPattern::new("*").list(&mut db.connect()).unwrap().tenants.len(),
        4,
        "public and PostgreSQL's own never match"
    );
}

#[test]
fn without_a_registry_the_error_says_what_to_do() {
    let db = TestDatabase::new();
    let error = domain::fleet().unwrap().status(&mut db.connect()).unwrap_err();
    insta::assert_snapshot!(error, @"no registry of tenants: table public.custom_auth_tenant does not exist; run migrate-all-tenants to create it, or name the schemas with --schemas");
}

#[test]
fn names_that_differ_by_case_are_not_both_created() {
    let db = migrated();
    tenant(&mut db.connect(), "acme");
    let twin = tenantry::provision::create(
        &mut db.connect(),
        &"Acme".parse().unwrap(),
        domain::migrations().unwrap(),
        Duration::from_secs(1),
    );
    assert!(matches!(twin, Err(Error::SchemaTwin { .. })), "{twin:?}");
    let same = tenantry::provision::create(
        &mut db.connect(),
        &"acme".parse().unwrap(),
        domain::migrations().unwrap(),
        Duration::from_secs(1),
    );
    assert!(matches!(same, Err(Error::SchemaExists { .. })), "{same:?}");
}

#[test]
fn a_history_that_somebody_has_locked_keeps_no_status_waiting() {
    let db = registered(["acme", "globex"]);
    migrate(&db, run()).unwrap();
    let mut holder = db.connect();
    holder.batch_execute("BEGIN; LOCK TABLE acme.__diesel_schema_migrations").unwrap();
    let (sender, done) = mpsc::channel();
    let status = thread::scope(|threads| {
        threads.spawn(|| sender.send(domain::fleet().unwrap().status(&mut db.connect()).unwrap()));
        let status = done.recv_timeout(Duration::from_secs(30));
        drop(holder);
        status.expect("an answer")
    });
    assert!(matches!(&status.schemas[1].state, State::Unreadable { reason } if reason.contains("lock timeout")));
    assert!(status.schemas[2].is_current());
}

#[test]
fn a_version_is_not_reached_while_one_before_it_is_missing() {
    let db = registered(["acme", "globex"]);
    migrate(&db, run()).unwrap();
    db.execute("acme", "DELETE FROM __diesel_schema_migrations WHERE version = '0001'");
    let status = domain::fleet().unwrap().status(&mut db.connect()).unwrap();
    assert_eq!(status.lacking("0002"), ["acme"]);
}

#[test]
fn a_directory_may_list_a_tenant_twice() {
    struct Twice;
    impl TenantDirectory for Twice {
        fn list(&self, _: &mut PgConnection) -> Result<Listing, Error> {
            Ok(Listing::from_entries(["acme", "acme"].map(|name| (name.into(), None, true))))
        }
    }
    let db = TestDatabase::with_empty_schemas(["acme"]);
    let fleet = Fleet { directory: &Twice, ..domain::fleet().unwrap() };
    let report = fleet.run(&run(), &|| pg::connect(db.config())).unwrap();
    assert_eq!(outcomes(&report), [("public", "migrated"), ("acme", "migrated")]);
}
