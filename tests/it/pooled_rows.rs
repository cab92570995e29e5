//! Rows that are written by a pool of connections behind PgBouncer: each arrives where it belongs, or there is no pool.

use std::{
    env,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::Instant,
};

use diesel::{
    ExpressionMethods, RunQueryDsl,
    connection::SimpleConnection,
    dsl::{select, sql},
    sql_query,
    sql_types::Text,
};
use tenantry::{
    Error, SchemaName,
    config::Pooler,
    domain::onboarding::{self, BusinessInfo},
    pg::{pool, scope},
    testing::TestDatabase,
};
use uuid::Uuid;

use crate::{
    pgbouncer::PgBouncer,
    support::{migrated, tenant},
};

const THREADS: usize = 16;
const TENANTS: usize = 20;

diesel::table! {
    notes (id) {
        id -> BigInt,
    }
}

/// A pool that knows of the pooler, with so many connections.
fn pool_of(bouncer: &PgBouncer, db: &TestDatabase, size: usize) -> pool::Pool {
    let mut config = bouncer.config(db);
    (config.pooler, config.pool_size) = (Pooler::Transaction, size as u32);
    pool::open(config).unwrap()
}

/// Nothing of a client is left in the sessions that PgBouncer lends.
#[track_caller]
fn assert_clean(bouncer: &PgBouncer, db: &TestDatabase) {
    let state = "SELECT pg_backend_pid() || ' ' || current_setting('search_path') || ' ' \
                 || (SELECT count(*) FROM pg_prepared_statements) || ' ' || current_setting('application_name')";
    let mut pids = Vec::new();
    for client in &mut bouncer.lend_all(db) {
        let state: String = select(sql::<Text>(&format!("({state})"))).get_result(client).unwrap();
        let (pid, state) = state.split_once(' ').unwrap();
        assert_eq!(state, "\"$user\", public 0 ");
        assert!(!pids.contains(&pid.to_owned()), "a session was looked at twice");
        pids.push(pid.to_owned());
    }
}

/// What the onboarding with this number saves, for the user with this number.
fn info(number: usize) -> BusinessInfo {
    let mut info = BusinessInfo::new(Uuid::from_u128(number as u128), format!("Business {number}"));
    info.business_type = Some(format!("type {number}"));
    info
}

/// Makes tenants, and users, of whom user n belongs to tenant n modulo the number of tenants.
fn prepare(db: &TestDatabase, users: usize) -> Vec<SchemaName> {
    let conn = &mut db.connect();
    sql_query(format!(
        "INSERT INTO public.custom_auth_user (id, email) \
         SELECT lpad(to_hex(n), 32, '0')::uuid, n || '@example.com' FROM generate_series(0, {users} - 1) n"
    ))
    .execute(conn)
    .unwrap();
    (0..TENANTS).map(|number| tenant(conn, &format!("tenant_{number}")).1).collect()
}

/// Saves so many onboardings from many threads at once. Each has to be acknowledged.
fn onboard(pool: &pool::Pool, tenants: &[SchemaName], onboardings: usize) {
    let next = AtomicUsize::new(0);
    thread::scope(|threads| {
        for _ in 0..THREADS {
            threads.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= onboardings {
                        break;
                    }
                    let (info, schema) = (info(number), &tenants[number % TENANTS]);
                    let saved = scope::transaction(&mut pool.get().unwrap(), schema, |tenant| {
                        onboarding::save_business_info(tenant, &info)
                    })
                    .unwrap();
                    let answer = (saved.business.name, saved.details.business_type, saved.profile.user_id);
                    assert_eq!(answer, (info.business_name, info.business_type, info.user_id));
                }
            });
        }
    });
}

/// Each tenant has the rows of its own onboardings, and there are no others.
fn assert_saved(db: &TestDatabase, tenants: &[SchemaName], onboardings: usize) {
    let rows = |schema: &str| {
        let counts = format!(
            "SELECT concat_ws(' ', (SELECT count(*) FROM {schema}.business_business), \
                    (SELECT count(*) FROM {schema}.business_business_details), (SELECT count(*) FROM {schema}.users_userprofile))"
        );
        let mut found = db.texts(&format!(
            "SELECT concat_ws(', ', p.user_id, p.schema_name, b.name, d.business_type) FROM {schema}.users_userprofile p \
             JOIN {schema}.business_business b ON b.id = p.business_id \
             JOIN {schema}.business_business_details d ON d.business_id = b.id"
        ));
        found.sort();
        (db.text(&counts), found)
    };
    for (at, schema) in tenants.iter().enumerate() {
        // A user's id sorts as its number does.
        let expected: Vec<String> = (at..onboardings)
            .step_by(TENANTS)
            .map(|n| format!("{}, {schema}, Business {n}, type {n}", Uuid::from_u128(n as u128)))
            .collect();
        let many = expected.len();
        assert_eq!(rows(schema.as_str()), (format!("{many} {many} {many}"), expected), "{schema}");
    }
    assert_eq!(rows("public"), ("0 0 0".into(), Vec::new()));
    let onboarded = db.text("SELECT count(*) FROM public.custom_auth_user WHERE is_onboarded");
    assert_eq!(onboarded, onboardings.to_string());
}

#[test]
fn every_onboarding_through_a_transaction_pooler_lands_in_its_own_schema() {
    let onboardings = env::var("TENANTRY_TEST_ONBOARDINGS").map_or(2_000, |many| many.parse().unwrap());
    let db = migrated();
    let tenants = prepare(&db, onboardings);
    let bouncer = PgBouncer::start(&db, "transaction", &[]);
    let pool = pool_of(&bouncer, &db, THREADS);
    let started = Instant::now();
    onboard(&pool, &tenants, onboardings);
    println!("{onboardings} onboardings in {:?}", started.elapsed());
    assert_saved(&db, &tenants, onboardings);
    assert_clean(&bouncer, &db);
}

#[test]
fn one_clients_statement_is_never_run_as_anothers() {
    const CLIENTS: i64 = 4;
    const ROWS: i64 = 200;
    let db = TestDatabase::with_empty_schemas(["acme"]);
    db.execute("acme", "CREATE TABLE notes (id bigint PRIMARY KEY)");
    let bouncer = PgBouncer::start(&db, "transaction", &[]);
    let (pool, acme) = (pool_of(&bouncer, &db, 2 * CLIENTS as usize), "acme".parse::<SchemaName>().unwrap());
    // Client c inserts the keys c, c + 4, c + 8 ..., and another one deletes their negatives, which are not there.
    thread::scope(|threads| {
        for client in 1..=CLIENTS {
            let keys = move || (0..ROWS).map(move |row| row * CLIENTS + client);
            let (pool, acme) = (&pool, &acme);
            threads.spawn(move || {
                for id in keys() {
                    let insert = diesel::insert_into(notes::table).values(notes::id.eq(id));
                    let done =
                        scope::transaction(&mut pool.get().unwrap(), acme, |tenant| insert.execute(tenant.conn()));
                    assert_eq!(done.unwrap(), 1);
                }
            });
            threads.spawn(move || {
                for id in keys() {
                    let delete = diesel::delete(notes::table).filter(notes::id.eq(-id));
                    let done =
                        scope::transaction(&mut pool.get().unwrap(), acme, |tenant| delete.execute(tenant.conn()));
                    assert_eq!(done.unwrap(), 0);
                }
            });
        }
    });
    let expected: Vec<String> = (1..=CLIENTS * ROWS).map(|id| id.to_string()).collect();
    assert_eq!(db.texts("SELECT id FROM acme.notes ORDER BY id"), expected);
    assert_clean(&bouncer, &db);
}

#[test]
fn a_pool_that_does_not_know_of_a_transaction_pooler_is_refused_and_leaves_nothing_behind() {
    let db = TestDatabase::new();
    for settings in [&[][..], &["server_round_robin = 1"]] {
        let bouncer = PgBouncer::start(&db, "transaction", settings);
        for is_open in [false, true] {
            if is_open {
                bouncer.open_all(&db);
            }
            let error = pool::open(bouncer.config(&db)).unwrap_err();
            assert!(matches!(error, Error::Pooler { .. }), "{error}");
            assert!(error.to_string().contains("TENANTRY_POOLER"), "{error}");
            assert_clean(&bouncer, &db);
        }
    }
}

#[test]
fn a_pool_behind_a_session_pooler_needs_no_setting() {
    let db = migrated();
    let tenants = prepare(&db, 200);
    let bouncer = PgBouncer::start(&db, "session", &["default_pool_size = 20"]);
    let mut config = bouncer.config(&db);
    config.pool_size = THREADS as u32;
    let pool = pool::open(config).unwrap();
    onboard(&pool, &tenants, 200);
    assert_saved(&db, &tenants, 200);
    pool.get().unwrap().batch_execute("EXECUTE tenantry_canary").unwrap();
}
