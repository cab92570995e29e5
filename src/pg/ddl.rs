//! The texts of the statements that make or change a schema.

use diesel::{PgConnection, QueryResult, connection::SimpleConnection, migration::CREATE_MIGRATIONS_TABLE};

use super::engine::Engine;
use crate::{SchemaName, quote};

/// The table in which Diesel remembers what it has applied.
pub(crate) const HISTORY: &str = "__diesel_schema_migrations";

/// Creates the schema of a tenant; on Citus, one whose tables are distributed as one shard group.
pub(crate) fn create_schema(conn: &mut PgConnection, schema: &SchemaName, engine: Engine) -> QueryResult<()> {
    let create = format!("CREATE SCHEMA {}", schema.quoted());
    match engine {
        Engine::Postgres => conn.batch_execute(&create),
        Engine::Citus => {
            conn.batch_execute("SET LOCAL citus.enable_schema_based_sharding = on")?;
            conn.batch_execute(&create)?;
            conn.batch_execute("SET LOCAL citus.enable_schema_based_sharding = off")
        }
    }
}

/// The statement that drops a schema with all that is in it, and all that refers to that.
pub(crate) fn drop_schema(schema: &SchemaName) -> String {
    format!("DROP SCHEMA {} CASCADE", schema.quoted())
}

/// Creates Diesel's history table where the path points, with Diesel's own text, unless it is there.
pub(crate) fn create_history(conn: &mut PgConnection) -> QueryResult<()> {
    conn.batch_execute(CREATE_MIGRATIONS_TABLE)
}

/// The statement that records a version, as Diesel would, in this very schema.
pub(crate) fn insert_version(schema: &SchemaName, version: &str) -> String {
    format!("INSERT INTO {}.{HISTORY} (version) VALUES ({})", schema.quoted(), quote::literal(version))
}

/// The statement that forgets a version, and fails where somebody else has forgotten it first.
pub(crate) fn delete_version(schema: &SchemaName, version: &str) -> String {
    format!(
        "WITH gone AS (DELETE FROM {}.{HISTORY} WHERE version = {} RETURNING 1) SELECT 1 / count(*) FROM gone",
        schema.quoted(),
        quote::literal(version)
    )
}

/// The statement that drops an index without blocking writers.
pub(crate) fn drop_index_concurrently(schema: &SchemaName, index: &str) -> String {
    format!("DROP INDEX CONCURRENTLY IF EXISTS {}.{}", schema.quoted(), quote::identifier(index))
}

/// The statement that makes a temporary table with the columns of this one, until the end of the transaction.
pub(crate) fn copy_empty(schema: &SchemaName, table: &str) -> String {
    let (copy, table) = (quote::identifier(table), quote::qualified(schema.as_str(), table));
    format!("CREATE TEMPORARY TABLE {copy} (LIKE {table}) ON COMMIT DROP")
}

/// The statement that drops what one tenant's script has left of temporary tables, which the next one's would find
/// before its own.
pub(crate) const DISCARD_TEMP: &str = "DISCARD TEMP";

/// The statement that puts the tenant, alone, on the transaction's path.
pub(crate) fn set_path(schema: &SchemaName) -> String {
    format!("SET LOCAL search_path TO {}", schema.quoted())
}
