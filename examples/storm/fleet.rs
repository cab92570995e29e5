//! The tenants of the storm.

use std::time::Duration;

use tenantry::{SchemaName, migrate::Run, testing::TestDatabase};

use super::{migrations, plan::Tenant};

/// How many tenants are dropped and made again all the while, beside those that are kept.
pub const REPLACED: usize = 2;

/// The connections of clients to the storm's database.
pub const CONNECTIONS: &str = "(SELECT * FROM pg_catalog.pg_stat_activity \
     WHERE datname = pg_catalog.current_database() AND backend_type = 'client backend') connections";

/// How long the fleet's own work waits for a lock.
pub const LOCK_TIMEOUT: Duration = Duration::from_secs(1);

/// The schemas: those that are kept, then those that are replaced.
pub struct Tenants {
    schemas: Vec<SchemaName>,
    kept: usize,
}

impl Tenants {
    /// Makes the tenants in an empty database, and `public` with the same tables.
    pub fn create(kept: usize, db: &TestDatabase) -> Self {
        assert!(kept > 1, "a storm takes two tenants or more");
        let migrations = migrations::up_to(1);
        // Every wait in the storm has an end.
        let database = db.text("SELECT pg_catalog.quote_ident(pg_catalog.current_database())");
        for (name, bound) in [("lock_timeout", "2s"), ("statement_timeout", "10s")] {
            db.execute("public", &format!("ALTER DATABASE {database} SET {name} TO '{bound}'"));
        }
        Run::new(&migrations).public(&mut db.connect()).expect("the migrations of public");
        let names = (0..kept).map(|number| format!("kept_{number}"));
        let names = names.chain((0..REPLACED).map(|number| format!("replaced_{number}")));
        let schemas = names.map(|name| db.create_tenant(&name, &migrations)).collect();
        Self { schemas, kept }
    }

    pub fn schema(&self, tenant: Tenant) -> &SchemaName {
        &self.schemas[tenant]
    }

    /// SQL that points the path at a tenant, as code does that knows no scopes.
    pub fn set_path(&self, tenant: Tenant, local: bool) -> String {
        format!("SET {} search_path TO {}", if local { "LOCAL" } else { "SESSION" }, self.schema(tenant))
    }

    pub fn is_kept(&self, tenant: Tenant) -> bool {
        tenant < self.kept
    }

    pub fn all(&self) -> &[SchemaName] {
        &self.schemas
    }

    pub fn kept(&self) -> &[SchemaName] {
        &self.schemas[..self.kept]
    }

    pub fn replaced(&self) -> &[SchemaName] {
        &self.schemas[self.kept..]
    }

    pub fn has(&self, schema: &str) -> bool {
        self.schemas.iter().any(|name| name.as_str() == schema)
    }
}
