//! What several of the tests need.

use diesel::PgConnection;
use tenantry::{
    SchemaName,
    domain::{
        self,
        models::{NewTenant, NewUser, Tenant, User},
        onboarding,
    },
    migrate::Run,
    testing::TestDatabase,
};
use uuid::Uuid;

/// A database in which `public` has all migrations, and no tenant is registered.
pub fn migrated() -> TestDatabase {
    let db = TestDatabase::new();
    Run::new(domain::migrations().unwrap()).public(&mut db.connect()).unwrap();
    db
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
