//! The migrations of the storm's fleet, made as they are needed.

use std::fmt;

use diesel::{
    connection::BoxableConnection,
    migration::{Migration, MigrationMetadata, MigrationName, MigrationSource, MigrationVersion, Result},
    pg::Pg,
};
use tenantry::migrate::{MigrationSet, Migrations};

/// How many there are at most: a table takes 1,600 columns in all its life.
pub const MOST: usize = 400;

/// The first migration makes the tables, and each one after it adds a column.
pub fn up_to(many: usize) -> Migrations {
    let set = |name, scripts| MigrationSet::new(name, Scripts(scripts)).expect("migrations");
    let tables = "CREATE TABLE authors (id int PRIMARY KEY); INSERT INTO authors VALUES (1); \
        CREATE TABLE notes (key bigint PRIMARY KEY, \
                            author int NOT NULL REFERENCES authors DEFERRABLE INITIALLY DEFERRED)";
    let columns = (2..=many).map(|number| Script {
        version: format!("{number:04}"),
        up: format!("ALTER TABLE notes ADD COLUMN column_{number} int"),
    });
    let first = Script { version: "0001".into(), up: tables.into() };
    let nothing = Script { version: "p1".into(), up: "SELECT 1".into() };
    Migrations::new(set("public", vec![nothing]), set("tenant", [first].into_iter().chain(columns).collect()))
        .expect("migrations")
}

struct Scripts(Vec<Script>);

#[derive(Clone)]
struct Script {
    version: String,
    up: String,
}

impl MigrationSource<Pg> for Scripts {
    fn migrations(&self) -> Result<Vec<Box<dyn Migration<Pg>>>> {
        Ok(self.0.iter().map(|script| Box::new(script.clone()) as Box<dyn Migration<Pg>>).collect())
    }
}

impl Migration<Pg> for Script {
    fn run(&self, conn: &mut dyn BoxableConnection<Pg>) -> Result<()> {
        Ok(conn.batch_execute(&self.up)?)
    }

    fn revert(&self, _: &mut dyn BoxableConnection<Pg>) -> Result<()> {
        Err("the storm does not revert".into())
    }

    fn metadata(&self) -> &dyn MigrationMetadata {
        self
    }

    fn name(&self) -> &dyn MigrationName {
        self
    }
}

impl MigrationMetadata for Script {}

impl MigrationName for Script {
    fn version(&self) -> MigrationVersion<'_> {
        self.version.as_str().into()
    }
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.version)
    }
}
