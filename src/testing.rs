//! Helpers for tests: a database of its own for each, and a tenant inside a test transaction.
//!
//! The server is the one of `DATABASE_URL`. Without it these helpers panic: a test that cannot run has failed.

use diesel::{
    Connection, PgConnection, RunQueryDsl,
    connection::{AnsiTransactionManager, SimpleConnection, TransactionManager},
    sql_query,
};
use uuid::Uuid;

use crate::{
    Config, SchemaName,
    migrate::Migrations,
    pg::{self, ddl, scope},
    provision, quote,
};

/// A database that is there for one test, and dropped with this value.
///
/// # Panics
///
/// Every method panics where a test should fail: without `DATABASE_URL`, without a server, on a wrong query.
#[derive(Debug)]
pub struct TestDatabase {
    server: Config,
    config: Config,
    name: String,
}

impl TestDatabase {
    /// An empty database.
    pub fn new() -> Self {
        Self::of(Config::from_env().unwrap_or_else(|error| {
            panic!(
                "{error}\nTests need a PostgreSQL server in which they may create databases; script/test starts one."
            )
        }))
    }

    /// An empty database on another server than that of `DATABASE_URL`.
    pub fn on(url: &str) -> Self {
        Self::of(Config::new(url.parse().expect("a URL")))
    }

    fn of(server: Config) -> Self {
        let name = format!("tenantry_test_{}", Uuid::new_v4().simple());
        let config = Config { database_url: server.database_url.with_database(&name), ..server.clone() };
        connect(&server)
            .batch_execute(&format!("CREATE DATABASE {}", quote::identifier(&name)))
            .expect("CREATE DATABASE");
        Self { server, config, name }
    }

    /// A database with these schemas, empty.
    pub fn with_empty_schemas<'n>(names: impl IntoIterator<Item = &'n str>) -> Self {
        let db = Self::new();
        for name in names {
            db.connect().batch_execute(&format!("CREATE SCHEMA {}", quote::identifier(name))).expect("CREATE SCHEMA");
        }
        db
    }

    /// The settings that lead to it.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Its URL, password included, for a program that is started with it.
    pub fn url(&self) -> &str {
        self.config.database_url.secret()
    }

    /// One more connection to it.
    pub fn connect(&self) -> PgConnection {
        connect(&self.config)
    }

    /// Runs statements with this schema, alone, on the path.
    pub fn execute(&self, schema: &str, sql: &str) {
        self.connect()
            .batch_execute(&format!("SET search_path = {}; {sql}", quote::identifier(schema)))
            .unwrap_or_else(|error| panic!("{error}: {sql}"));
    }

    /// Reads one text, with nothing of its own on the path: names are written with their schema.
    pub fn text(&self, sql: &str) -> String {
        self.texts(sql).pop().unwrap_or_else(|| panic!("no rows: {sql}"))
    }

    /// Reads a column of texts, as [`text`](TestDatabase::text) reads one.
    pub fn texts(&self, sql: &str) -> Vec<String> {
        #[derive(diesel::QueryableByName)]
        struct Row {
            #[diesel(sql_type = diesel::sql_types::Text)]
            text: String,
        }
        let rows: Vec<Row> = sql_query(format!("SELECT coalesce(x::text, 'NULL') AS text FROM ({sql}) q(x)"))
            .load(&mut self.connect())
            .unwrap_or_else(|error| panic!("{error}: {sql}"));
        rows.into_iter().map(|row| row.text).collect()
    }

    /// Creates a tenant's schema with these migrations, but no row in any registry.
    pub fn create_tenant(&self, schema: &str, migrations: &Migrations) -> SchemaName {
        let schema: SchemaName = schema.parse().expect("a schema's name");
        provision::create(&mut self.connect(), &schema, migrations, self.config.lock_timeout).expect("a new tenant");
        schema
    }

    /// The versions that the schema has recorded, or nothing where it has no history.
    pub fn versions(&self, schema: &str) -> Vec<String> {
        let history = format!("{}.{}", quote::identifier(schema), ddl::HISTORY);
        match self.text(&format!("SELECT to_regclass({})", quote::literal(&history))).as_str() {
            "NULL" => Vec::new(),
            _ => self.texts(&format!("SELECT version FROM {history} ORDER BY 1")),
        }
    }
}

impl Default for TestDatabase {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        let drop = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", quote::identifier(&self.name));
        // The server may be gone, which is what some tests are about.
        if let Ok(mut server) = pg::connect(&self.server) {
            let _ = server.batch_execute(&drop);
        }
    }
}

fn connect(config: &Config) -> PgConnection {
    pg::connect(config).unwrap_or_else(|error| panic!("{error}"))
}

/// Runs the closure inside a new tenant, in a test transaction that is never committed.
///
/// For the unit tests of a monolith: `conn` needs no more than a connection to a database with its public
/// migrations.
///
/// # Panics
///
/// When the tenant cannot be made, or the closure panics.
///
/// ```no_run
/// # use diesel::prelude::*;
/// # use tenantry::{domain, testing};
/// # let mut conn = PgConnection::establish("")?;
/// testing::in_tenant(&mut conn, domain::migrations()?, |tenant| {
///     assert!(domain::models::Business::all(tenant).unwrap().is_empty());
/// });
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn in_tenant<T>(
    conn: &mut PgConnection,
    migrations: &Migrations,
    test: impl FnOnce(&mut scope::TenantConn<'_>) -> T,
) -> T {
    let schema = SchemaName::for_tenant(Uuid::new_v4());
    conn.begin_test_transaction().expect("no transaction under way");
    provision::create(conn, &schema, migrations, std::time::Duration::from_secs(5)).expect("a new tenant");
    let result = scope::transaction::<_, crate::Error>(conn, &schema, |tenant| Ok(test(tenant)));
    AnsiTransactionManager::rollback_transaction(conn).expect("the test transaction is still there");
    result.expect("a tenant to work in")
}
