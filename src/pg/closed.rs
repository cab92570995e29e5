//! The closed search_path: nothing but the server's own schemas, so that no name can be found elsewhere.

/// The path of our own connections, and of those that the pool lends, outside of scopes.
///
/// A bare table is not found on it, and no function, operator or type that another role has made is. `pg_temp` is
/// named so that it comes last: unnamed, it would be searched before `pg_catalog`.
pub(crate) const CLOSED_PATH: &str = "pg_catalog, pg_temp";
