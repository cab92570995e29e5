use std::{
    net::TcpListener,
    time::{Duration, Instant},
};

use diesel::connection::{AnsiTransactionManager, SimpleConnection, TransactionManager};
use tenantry::{
    Config, Error,
    pg::{self, pool, scope},
    testing::TestDatabase,
};

fn pool_of(db: &TestDatabase, size: u32) -> pool::Pool {
    let mut config = db.config().clone();
    config.pool_size = size;
    pool::open(config).unwrap()
}

#[test]
fn a_path_left_behind_does_not_reach_the_next_borrower() {
    let db = TestDatabase::with_empty_schemas(["acme"]);
    let pool = pool_of(&db, 1);
    pool.get().unwrap().batch_execute("SET search_path = acme").unwrap();
    assert_eq!(scope::current(&mut pool.get().unwrap()).unwrap().path, "\"$user\", public");
}

#[test]
fn a_guard_that_was_forgotten_does_not_reach_the_next_borrower() {
    let db = TestDatabase::with_empty_schemas(["acme"]);
    let pool = pool_of(&db, 1);
    std::mem::forget(scope::session(&mut pool.get().unwrap(), &"acme".parse().unwrap()).unwrap());
    assert_eq!(scope::current(&mut pool.get().unwrap()).unwrap().path, "\"$user\", public");
}

#[test]
fn a_temporary_table_does_not_reach_the_next_borrower() {
    let db = TestDatabase::with_empty_schemas(["acme"]);
    db.execute("acme", "CREATE TABLE notes ()");
    let pool = pool_of(&db, 1);
    pool.get().unwrap().batch_execute("CREATE TEMP TABLE notes (secret int)").unwrap();
    let found = scope::transaction(&mut pool.get().unwrap(), &"acme".parse().unwrap(), |tenant| {
        tenant.batch_execute("SELECT secret FROM notes")
    });
    assert!(found.is_err());
}

#[test]
fn a_connection_that_comes_back_inside_a_transaction_is_closed() {
    let db = TestDatabase::new();
    let pool = pool_of(&db, 1);
    let mut conn = pool.get().unwrap();
    conn.batch_execute("SET application_name = 'left open'").unwrap();
    AnsiTransactionManager::begin_transaction(&mut *conn).unwrap();
    drop(conn);
    let fresh = diesel::dsl::sql::<diesel::sql_types::Bool>("current_setting('application_name') <> 'left open'");
    use diesel::RunQueryDsl;
    assert!(diesel::select(fresh).get_result::<bool>(&mut pool.get().unwrap()).unwrap());
}

#[test]
fn an_exhausted_pool_says_so_after_its_timeout() {
    let db = TestDatabase::new();
    let mut config = db.config().clone();
    (config.pool_size, config.pool_timeout) = (1, Duration::from_millis(100));
    let pool = pool::open(config).unwrap();
    let _held = pool.get().unwrap();
    assert!(pool.get().is_err());
}

#[test]
fn an_unreachable_server_is_told_within_five_seconds_and_without_the_password() {
    // One port at which nobody listens, and one at which somebody listens and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    for port in [1, silent.local_addr().unwrap().port()] {
        let config = Config::new(format!("postgres://app:s3cret@127.0.0.1:{port}/app").parse().unwrap());
        let started = Instant::now();
        let Err(error) = pg::connect(&config) else { panic!("connected to nobody") };
        assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
        let line = error.chain();
        assert!(matches!(error, Error::Connect { .. }) && !line.contains("s3cret") && !line.contains('\n'), "{line}");
    }
}

#[test]
fn a_wrong_password_is_told_at_once_when_the_pool_opens() {
    let db = TestDatabase::new();
    // Where the server trusts everybody there is no wrong password.
    let config = Config::new(format!("{} password=wrong", pairs(&db)).parse().unwrap());
    match pool::open(config) {
        Err(error @ Error::Connect { .. }) => {
            assert!(error.chain().contains("password authentication failed"), "{}", error.chain())
        }
        Err(other) => panic!("{}", other.chain()),
        Ok(_) => panic!("the server of the tests should ask for passwords"),
    }
}

/// Host, port, user and database of the test's database, in libpq's other form.
fn pairs(db: &TestDatabase) -> String {
    format!(
        "host={} port={} user={} dbname={}",
        db.text("SELECT coalesce(host(inet_server_addr()), '127.0.0.1')"),
        db.text("SELECT current_setting('port')"),
        db.text("SELECT current_user"),
        db.text("SELECT current_database()"),
    )
}
