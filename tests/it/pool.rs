use std::{
    net::TcpListener,
    time::{Duration, Instant},
};

use diesel::{
    PgConnection, QueryableByName,
    connection::{AnsiTransactionManager, SimpleConnection, TransactionManager},
    dsl::{select, sql},
    prelude::*,
    sql_query,
    sql_types::{Array, Integer, Text},
};
use tenantry::{
    Config, Error,
    pg::{self, pool, scope},
    testing::TestDatabase,
};
use uuid::Uuid;

/// The path of a connection outside of scopes.
const CLOSED: &str = "pg_catalog, pg_temp";

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
    assert_eq!(scope::current(&mut pool.get().unwrap()).unwrap().path, CLOSED);
}

#[test]
fn a_guard_that_was_forgotten_does_not_reach_the_next_borrower() {
    let db = TestDatabase::with_empty_schemas(["acme"]);
    let pool = pool_of(&db, 1);
    std::mem::forget(scope::session(&mut pool.get().unwrap(), &"acme".parse().unwrap()).unwrap());
    assert_eq!(scope::current(&mut pool.get().unwrap()).unwrap().path, CLOSED);
}

#[test]
fn a_connection_is_lent_as_if_it_had_just_been_opened() {
    let db = TestDatabase::with_empty_schemas(["acme"]);
    db.execute("acme", "CREATE TABLE notes (text text)");
    let weak = Role::new(&db);
    let fresh = state(&mut pg::connect(db.config()).unwrap());
    let role = format!("SET ROLE {}", weak.name);
    let authorization = format!("SET SESSION AUTHORIZATION {}", weak.name);
    for left_behind in [
        role.as_str(),
        &authorization,
        "SET search_path = acme",
        "SET app.tenant = 'acme'",
        "SET statement_timeout = 60000",
        "SET lock_timeout = 7",
        "SET row_security = off",
        "SET session_replication_role = replica",
        "SET TIME ZONE 'Asia/Tokyo'",
        "SET datestyle = 'SQL, DMY'",
        "SET client_encoding = 'LATIN1'",
        "SET synchronous_commit = off",
        "SET default_transaction_read_only = on",
        "SET default_transaction_isolation = 'serializable'",
        "SET standard_conforming_strings = off",
        "SET application_name = 'left behind'",
        "SET tenantry.scope = 'transaction 1 1'",
        "SELECT pg_advisory_lock(7), pg_advisory_lock_shared(8)",
        "LISTEN news",
        "CREATE TEMP TABLE notes (secret int)",
        "DECLARE rows CURSOR WITH HOLD FOR SELECT 1",
        "CREATE TEMP SEQUENCE numbers; SELECT nextval('numbers')",
        "BEGIN; INSERT INTO acme.notes VALUES ('abandoned')",
        "BEGIN READ ONLY",
        "BEGIN; SELECT 1; SAVEPOINT a; LOCK TABLE acme.notes IN EXCLUSIVE MODE",
    ] {
        let pool = pool_of(&db, 1);
        let mut conn = pool.get().unwrap();
        let backend = backend(&mut conn);
        conn.batch_execute(left_behind).unwrap();
        drop(conn);
        let mut conn = pool.get().unwrap();
        assert_eq!(state(&mut conn), fresh, "{left_behind}");
        // It was made clean, and not replaced.
        assert_eq!(self::backend(&mut conn), backend, "{left_behind}");
        scope::transaction(&mut conn, &"acme".parse().unwrap(), |tenant| {
            tenant.batch_execute("INSERT INTO notes VALUES ('mine')")
        })
        .unwrap();
    }
    let rows = db.texts("SELECT DISTINCT text FROM acme.notes");
    assert_eq!(rows, ["mine"], "acknowledged rows are there, and abandoned ones are not");
}

/// All that one borrower can leave to the next: settings, role, locks, channels, cursors, temporary tables.
fn state(conn: &mut PgConnection) -> Vec<String> {
    let query = "SELECT name || ' = ' || setting AS text FROM pg_catalog.pg_settings \
           WHERE setting IS DISTINCT FROM boot_val AND name NOT IN ('transaction_isolation', 'transaction_read_only') \
         UNION ALL SELECT 'app.tenant = ' || coalesce(nullif(current_setting('app.tenant', true), ''), 'unset') \
         UNION ALL SELECT 'mark = ' || coalesce(nullif(current_setting('tenantry.scope', true), ''), 'unset') \
         UNION ALL SELECT 'roles ' || session_user || ' ' || current_user \
         UNION ALL SELECT 'lock ' || locktype || ' ' || mode FROM pg_catalog.pg_locks \
           WHERE pid = pg_backend_pid() AND locktype = 'advisory' \
         UNION ALL SELECT 'channel ' || pg_listening_channels() \
         UNION ALL SELECT 'cursor ' || name FROM pg_catalog.pg_cursors WHERE name <> '' \
         UNION ALL SELECT 'temporary ' || relname FROM pg_catalog.pg_class WHERE relnamespace = pg_my_temp_schema() \
         ORDER BY 1";
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        text: String,
    }
    let rows: Vec<Row> = sql_query(query).load(conn).unwrap();
    rows.into_iter().map(|row| row.text).collect()
}

fn backend(conn: &mut PgConnection) -> i32 {
    select(sql::<Integer>("pg_catalog.pg_backend_pid()")).get_result(conn).unwrap()
}

/// A role that is dropped with this value.
struct Role<'d> {
    db: &'d TestDatabase,
    name: String,
}

impl<'d> Role<'d> {
    fn new(db: &'d TestDatabase) -> Self {
        let name = format!("weak_{}", Uuid::new_v4().simple());
        db.connect().batch_execute(&format!("CREATE ROLE {name}")).unwrap();
        Self { db, name }
    }
}

impl Drop for Role<'_> {
    fn drop(&mut self) {
        let _ = self.db.connect().batch_execute(&format!("DROP ROLE {}", self.name));
    }
}

#[test]
fn statements_that_diesel_has_prepared_stay_prepared() {
    let db = TestDatabase::new();
    let pool = pool_of(&db, 1);
    let statements = "SELECT name FROM pg_catalog.pg_prepared_statements WHERE name LIKE '\\_\\_diesel%'";
    let prepared = |conn: &mut PgConnection| {
        select(sql::<Array<Text>>(&format!("ARRAY({statements} ORDER BY 1)"))).get_result::<Vec<String>>(conn).unwrap()
    };
    scope::current(&mut pool.get().unwrap()).unwrap();
    let before = prepared(&mut pool.get().unwrap());
    assert!(!before.is_empty());
    assert_eq!(prepared(&mut pool.get().unwrap()), before);
}

#[test]
fn a_connection_without_its_prepared_statements_is_replaced() {
    let db = TestDatabase::with_empty_schemas(["acme"]);
    let pool = pool_of(&db, 1);
    for thrown_away in ["DISCARD ALL", "DEALLOCATE ALL"] {
        let mut conn = pool.get().unwrap();
        // Prepares what it will want again.
        scope::current(&mut conn).unwrap();
        conn.batch_execute(thrown_away).unwrap();
        drop(conn);
        scope::current(&mut pool.get().unwrap()).unwrap();
    }
}

#[test]
fn a_connection_whose_cached_plan_went_stale_is_replaced() {
    let db = TestDatabase::with_empty_schemas(["acme", "globex"]);
    db.execute("acme", "CREATE TABLE notes (number int); INSERT INTO notes VALUES (1)");
    db.execute("globex", "CREATE TABLE notes (number bigint); INSERT INTO notes VALUES (2)");
    diesel::table! { notes (number) { number -> Integer, } }
    let pool = pool_of(&db, 1);
    let read = |schema: &str| {
        scope::transaction(&mut pool.get().unwrap(), &schema.parse().unwrap(), |tenant| {
            notes::table.select(notes::number).load::<i32>(tenant.conn())
        })
    };
    assert_eq!(read("acme").unwrap(), [1]);
    let error = read("globex").unwrap_err().to_string();
    assert_eq!(error, "cached plan must not change result type", "the fact of PostgreSQL that this is about");
    // As after the migration, which makes both alike.
    db.execute("globex", "ALTER TABLE notes ALTER number TYPE int");
    db.execute("acme", "ALTER TABLE notes ALTER number TYPE bigint; ALTER TABLE notes ALTER number TYPE int");
    assert_eq!((read("globex").unwrap(), read("acme").unwrap()), (vec![2], vec![1]));
}

#[test]
fn a_connection_that_comes_back_inside_a_transaction_of_diesels_is_closed() {
    let db = TestDatabase::new();
    let pool = pool_of(&db, 1);
    let mut conn = pool.get().unwrap();
    let before = backend(&mut conn);
    AnsiTransactionManager::begin_transaction(&mut *conn).unwrap();
    drop(conn);
    assert_ne!(backend(&mut pool.get().unwrap()), before);
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
