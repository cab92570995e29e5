//! The making of a tenant's schema.

use std::time::Duration;

use diesel::PgConnection;

use crate::{
    Error, SchemaName,
    migrate::{self, Migrations},
    pg::{atomically, catalog, ddl, engine, lock},
};

/// Creates a tenant's schema with every migration applied, all or nothing, and returns the versions.
///
/// Inside a transaction, a test transaction for one, it becomes part of it.
///
/// # Errors
///
/// [`Error::SchemaExists`], [`Error::SchemaTwin`] for a name that differs only by case, and those of
/// [`migrate::apply`]. Nothing is left behind.
pub fn create(
    conn: &mut PgConnection,
    schema: &SchemaName,
    migrations: &Migrations,
    patience: Duration,
) -> Result<Vec<String>, Error> {
    atomically(conn, |conn| {
        lock::schema(conn, schema, patience)?;
        match catalog::twins(conn, schema)?.pop() {
            Some(twin) if twin == schema.as_str() => return Err(Error::SchemaExists { schema: schema.clone() }),
            Some(twin) => return Err(Error::SchemaTwin { schema: schema.clone(), twin }),
            None => {}
        }
        let engine = engine::detect(conn)?;
        ddl::create_schema(conn, schema, engine)?;
        migrate::apply(conn, schema, migrations, patience)
    })
}
