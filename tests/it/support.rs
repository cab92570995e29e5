//! What several of the tests need.

use std::fs;

use diesel::{Connection, PgConnection};
use diesel_migrations::FileBasedMigrations;
use tenantry::{
    Error, Fleet, SchemaName,
    directory::FixedList,
    domain::{
        self,
        models::{NewTenant, NewUser, Tenant, User},
        onboarding,
    },
    migrate::{MigrationSet, Migrations, Report, Run},
    pg,
    testing::TestDatabase,
};
use uuid::Uuid;

/// A database in which `public` has all migrations, and no tenant is registered.
pub fn migrated() -> TestDatabase {
    let db = TestDatabase::new();
    Run::new(domain::migrations().unwrap()).public(&mut db.connect()).unwrap();
    db
}

/// A connection as Diesel opens it, with `public` on the path.
pub fn plain(db: &TestDatabase) -> PgConnection {
    PgConnection::establish(db.url()).unwrap()
}

pub fn user(conn: &mut PgConnection) -> User {
    let id = Uuid::new_v4();
    NewUser { id, email: format!("{id}@example.com"), first_name: "Ada".into(), last_name: "L".into() }
        .insert(conn)
        .unwrap()
}

/// A registered tenant of this schema, without an owner.
pub fn tenant(conn: &mut PgConnection, schema: &str) -> (Tenant, SchemaName) {
    let request = NewTenant { schema_name: Some(schema.parse().unwrap()), ..NewTenant::new(Uuid::new_v4(), schema) };
    (onboarding::register_tenant(conn, domain::migrations().unwrap(), &request).unwrap(), request.schema())
}

/// A set of migrations: name, up.sql and down.sql. Those with CONCURRENTLY run outside of a transaction.
pub fn set(name: &str, scripts: &[(&str, &str, &str)]) -> Result<MigrationSet, Error> {
    let path = std::env::temp_dir().join(format!("tenantry-{}", Uuid::new_v4()));
    for (name, up, down) in scripts {
        let inside = path.join("migrations").join(name);
        fs::create_dir_all(&inside).unwrap();
        fs::write(inside.join("up.sql"), up).unwrap();
        fs::write(inside.join("down.sql"), down).unwrap();
        if up.contains("CONCURRENTLY") {
            fs::write(inside.join("metadata.toml"), "run_in_transaction = false").unwrap();
        }
    }
    let set = MigrationSet::new(name, FileBasedMigrations::from_path(path.join("migrations")).unwrap());
    fs::remove_dir_all(path).unwrap();
    set
}

/// Schemas that are tenants, with migrations of their own.
pub struct Tenants {
    pub db: TestDatabase,
    schemas: Vec<SchemaName>,
}

impl Tenants {
    pub fn new<'n>(names: impl IntoIterator<Item = &'n str> + Clone) -> Self {
        let schemas = names.clone().into_iter().map(|name| name.parse().unwrap()).collect();
        Self { db: TestDatabase::with_empty_schemas(names), schemas }
    }

    /// Carries out a run over `public` and all of them.
    pub fn run(&self, run: &Run<'_>, migrations: &Migrations) -> Result<Report, Error> {
        let directory = FixedList(self.schemas.clone());
        let fleet = Fleet { migrations, directory: &directory, rules: domain::rules() };
        fleet.run(run, &|| pg::connect(self.db.config()))
    }
}

/// Migrations with nothing for `public` alone and these for the tenants.
pub fn migrations(scripts: &[(&str, &str, &str)]) -> Migrations {
    Migrations::new(set("public", &[("p1_nothing", "SELECT 1", "SELECT 1")]).unwrap(), set("tenant", scripts).unwrap())
        .unwrap()
}

/// Each schema's outcome, or the first words of what went wrong.
pub fn outcomes(report: &Report) -> Vec<String> {
    report.lines.iter().map(|line| format!("{} {}", line.schema, line.outcome())).collect()
}

/// Every row of every table but the program's own memory, and where every sequence and foreign key stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dump(Vec<String>);

impl Dump {
    /// The lines of one schema.
    pub fn rows_of(&self, prefix: &str) -> Vec<&String> {
        self.0.iter().filter(|line| line.starts_with(prefix)).collect()
    }

    /// With these foreign keys NOT VALID: schemas, and names as they are quoted.
    pub fn not_valid(mut self, names: &[(String, String)]) -> Self {
        for (schema, name) in names {
            let words = format!(" {} FOREIGN KEY ", name.trim_matches('"'));
            let is_it = |line: &&mut String| line.starts_with(&format!("{schema}.")) && line.contains(&words);
            let lines = self.0.iter_mut().filter(is_it).filter(|line| !line.ends_with(" NOT VALID"));
            lines.for_each(|line| line.push_str(" NOT VALID"));
        }
        self
    }
}

/// Takes a [`Dump`], in order.
pub fn dump(db: &TestDatabase) -> Dump {
    // Of a sequence, not how many numbers are logged ahead, which says nothing of the next one.
    let tables = db.texts(
        "SELECT CASE c.relkind \
             WHEN 'S' THEN format('SELECT %s AS at, %L || last_value || '' '' || is_called AS line FROM %s', at, name, place) \
             ELSE format('SELECT %s, %L || (t.*)::text FROM %s t', at, name, place) END \
         FROM (SELECT c.relkind, row_number() OVER (ORDER BY n.nspname, c.relname) AS at, c.oid::regclass AS place, \
                      CASE n.nspname WHEN 'public' THEN 'public.' ELSE '' END || c.oid::regclass || ' ' AS name \
               FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
               WHERE c.relkind IN ('r', 'S') AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'tenantry')) c",
    );
    let mut lines = db.texts(&format!(
        "SELECT line FROM (SELECT 0 AS at, NULL AS line WHERE false UNION ALL {}) q ORDER BY at, line COLLATE \"C\"",
        tables.join(" UNION ALL ")
    ));
    lines.extend(db.texts(
        "SELECT conrelid::regclass || ' ' || conname || ' ' || pg_get_constraintdef(oid) FROM pg_constraint \
         WHERE contype = 'f' AND conparentid = 0 AND connamespace::regnamespace::text NOT IN ('pg_catalog', 'information_schema', 'tenantry') ORDER BY 1",
    ));
    lines.extend(db.texts(
        "SELECT attrelid::regclass || '.' || attname || ' may be null' FROM pg_attribute JOIN pg_class c ON c.oid = attrelid \
         WHERE relkind = 'r' AND relnamespace::regnamespace::text !~ '^(pg_|tenantry|information)' AND attnum > 0 AND NOT attnotnull AND NOT attisdropped ORDER BY 1",
    ));
    Dump(lines)
}
