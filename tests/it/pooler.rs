//! PgBouncer in front of the server: what needs a session is refused before anything is written.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use diesel::connection::SimpleConnection;
use tenantry::{
    Error, Fleet, SchemaName,
    config::Pooler,
    directory::FixedList,
    domain,
    migrate::{Run, apply},
    pg,
    testing::TestDatabase,
};

use crate::{
    cli::{MIGRATE_ALL, TENANTRY, run, run_with},
    pgbouncer::PgBouncer,
    support::{migrated, migrations, tenant},
};

const TABLE: (&str, &str, &str) = ("1_table", "CREATE TABLE t (a int)", "DROP TABLE t");

/// Schemas other than the server's own, tables, and advisory locks.
fn traces(db: &TestDatabase) -> Vec<String> {
    db.texts(
        "SELECT 'schema ' || nspname FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema' \
         UNION ALL SELECT 'table ' || oid::regclass FROM pg_class \
                   WHERE relkind = 'r' AND relnamespace::regnamespace::text !~ '^(pg_|information_schema)' \
         UNION ALL SELECT 'lock of process ' || pid FROM pg_locks \
                   WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) \
         ORDER BY 1",
    )
}

#[track_caller]
fn assert_refused(program: &str, args: &[&str], url: &str) {
    let answer = run_with(program, args, &[("DATABASE_URL", url)]);
    assert_eq!(answer.code, 1, "{args:?}: {answer:?}");
    assert!(answer.err.starts_with("error: the connections go through a pooler in transaction mode"), "{answer:?}");
    assert!(answer.err.contains("MIGRATION_DATABASE_URL") && answer.err.contains("TENANTRY_POOLER"), "{answer:?}");
}

#[test]
fn a_run_through_a_transaction_pooler_is_refused_before_anything_is_written() {
    let db = TestDatabase::new();
    let bouncer = PgBouncer::start(&db, "transaction", &[]);
    let url = bouncer.url(&db);
    for _ in 0..3 {
        assert_refused(MIGRATE_ALL, &[], &url);
    }
    assert_eq!(traces(&db), ["schema public"]);
    let nothing_is_left = "DO $$ BEGIN \
         ASSERT current_setting('lock_timeout') = '0' AND current_setting('search_path') = '\"$user\", public'; \
         ASSERT NOT EXISTS (SELECT FROM pg_prepared_statements); \
     END $$";
    bouncer.connect(&db).batch_execute(nothing_is_left).unwrap();
    let direct = run(MIGRATE_ALL, &[], &db);
    assert_eq!(direct.code, 0, "{direct:?}");
}

#[test]
fn a_pooler_that_lends_its_connections_in_turns_is_noticed_too() {
    let db = TestDatabase::new();
    let bouncer = PgBouncer::start(&db, "transaction", &["server_round_robin = 1"]);
    bouncer.open_all(&db);
    for _ in 0..5 {
        assert_refused(MIGRATE_ALL, &[], &bouncer.url(&db));
    }
    assert_eq!(traces(&db), ["schema public"]);
}

#[test]
fn a_busy_pooler_is_noticed_too() {
    let db = TestDatabase::with_empty_schemas(["acme"]);
    let bouncer = PgBouncer::start(&db, "transaction", &[]);
    let config = bouncer.config(&db);
    let (all, directory) = (migrations(&[TABLE]), FixedList(vec!["acme".parse().unwrap()]));
    let fleet = Fleet { migrations: &all, directory: &directory, rules: domain::rules() };
    let done = AtomicBool::new(false);
    thread::scope(|threads| {
        for _ in 0..8 {
            threads.spawn(|| {
                let conn = &mut bouncer.connect(&db);
                while !done.load(Ordering::Relaxed) {
                    conn.batch_execute("SELECT pg_sleep(0.001)").unwrap();
                }
            });
        }
        let results: Vec<_> = (0..20).map(|_| fleet.run(&Run::new(&all), &|| pg::connect(&config))).collect();
        done.store(true, Ordering::Relaxed);
        for result in results {
            assert!(matches!(result, Err(Error::Pooler { .. })), "{result:?}");
        }
    });
    assert_eq!(traces(&db), ["schema acme", "schema public"]);
}

#[test]
fn every_command_with_a_connection_refuses_a_transaction_pooler() {
    let db = migrated();
    tenant(&mut db.connect(), "acme");
    assert_eq!(run(MIGRATE_ALL, &[], &db).code, 0);
    let before = traces(&db);
    let bouncer = PgBouncer::start(&db, "transaction", &[]);
    for command in [
        "migrate",
        "revert --steps 1 --yes",
        "redo --yes",
        "runs list",
        "runs retry 1",
        "runs revert 1 --yes",
        "doctor",
        "repair",
        "repair undo 1 --yes",
        "baseline --at 0001",
        "status",
        "plan",
    ] {
        let args: Vec<&str> = command.split(' ').collect();
        assert_refused(TENANTRY, &args, &bouncer.url(&db));
    }
    assert_eq!(traces(&db), before);
    assert_eq!(db.text("SELECT count(*) FROM tenantry.run"), "1");
}

#[test]
fn a_run_over_a_list_of_schemas_is_refused_too() {
    let db = TestDatabase::with_empty_schemas(["acme"]);
    let bouncer = PgBouncer::start(&db, "transaction", &[]);
    let (all, config) = (migrations(&[TABLE]), bouncer.config(&db));
    let schemas: [SchemaName; 1] = ["acme".parse().unwrap()];
    let error = Run::new(&all).tenants(&|| pg::connect(&config), &schemas).unwrap_err();
    assert!(matches!(error, Error::Pooler { .. }), "{error}");
}

#[test]
fn an_index_is_not_built_concurrently_on_a_connection_whose_session_changes() {
    let db = TestDatabase::with_empty_schemas(["acme"]);
    let bouncer = PgBouncer::start(&db, "transaction", &["server_round_robin = 1"]);
    bouncer.open_all(&db);
    let index = ("2_index", "CREATE INDEX CONCURRENTLY t_a ON t (a)", "DROP INDEX t_a");
    let (acme, timeout) = ("acme".parse().unwrap(), db.config().lock_timeout);
    apply(&mut db.connect(), &acme, &migrations(&[TABLE]), timeout).unwrap();
    db.execute("public", "CREATE TABLE t (a int)");
    let mut config = bouncer.config(&db);
    config.pooler = Pooler::Transaction;
    let conn = &mut pg::connect(&config).unwrap();
    let error = apply(conn, &acme, &migrations(&[TABLE, index]), timeout).unwrap_err();
    assert!(matches!(error, Error::Pooler { .. }), "{error}");
    assert_eq!(db.texts("SELECT oid::regclass FROM pg_class WHERE relname = 't_a'"), Vec::<String>::new());
    assert_eq!(db.versions("acme"), ["1"]);
    let locks = traces(&db).into_iter().filter(|trace| trace.starts_with("lock")).count();
    assert_eq!(locks, 0);
}

#[test]
fn runs_through_a_session_pooler_leave_no_lock_on_the_connections_that_it_keeps() {
    let db = TestDatabase::with_empty_schemas(["acme"]);
    // Unlike DISCARD ALL, this leaves it to the run to give the lock back.
    let bouncer =
        PgBouncer::start(&db, "session", &["server_reset_query = DEALLOCATE ALL; RESET ALL", "default_pool_size = 20"]);
    for args in [&["--schemas", "acme"][..], &["--schemas", "acme"][..]] {
        let answer = run_with(MIGRATE_ALL, args, &[("DATABASE_URL", &bouncer.url(&db))]);
        assert_eq!(answer.code, 0, "{answer:?}");
        let locks = traces(&db).into_iter().filter(|trace| trace.starts_with("lock")).count();
        assert_eq!(locks, 0);
    }
    assert_eq!(db.versions("acme"), ["0001", "0002"]);
    assert_eq!(run(MIGRATE_ALL, &["--schemas", "acme"], &db).code, 0);
}

#[test]
fn behind_a_transaction_pooler_the_commands_take_their_own_url_and_reading_needs_none() {
    let db = TestDatabase::with_empty_schemas(["acme"]);
    let bouncer = PgBouncer::start(&db, "transaction", &[]);
    let url = bouncer.url(&db);
    let named = [("DATABASE_URL", &*url), ("TENANTRY_POOLER", "transaction")];
    let refused = run_with(MIGRATE_ALL, &["--schemas", "acme"], &named);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.err.starts_with("error: MIGRATION_DATABASE_URL is not set"), "{refused:?}");
    let both = [named[0], named[1], ("MIGRATION_DATABASE_URL", db.url())];
    let migrated = run_with(MIGRATE_ALL, &["--schemas", "acme"], &both);
    assert_eq!((migrated.code, db.versions("acme").len()), (0, 2), "{migrated:?}");
    for _ in 0..3 {
        let status = run_with(TENANTRY, &["status", "--schemas", "acme"], &named);
        assert_eq!(status.code, 0, "{status:?}");
    }
}
