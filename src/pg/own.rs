//! The program's own tables, in the schema `tenantry`.

use diesel::{PgConnection, QueryResult, connection::SimpleConnection, result::Error as DieselError};

use super::{atomically, catalog};

/// How often to begin anew: each of the tables may be somebody else's, and the schema.
const TRIES: u32 = 5;

/// Makes tables of our own with this script, unless this one is there. Whoever else is making them is waited for, and
/// has made them then.
pub(crate) fn have(conn: &mut PgConnection, table: &str, script: &str) -> QueryResult<()> {
    let mut tries = 0;
    while !catalog::remembers(conn, table)? {
        tries += 1;
        match atomically(conn, |conn| conn.batch_execute(script)) {
            Ok(()) => return Ok(()),
            // `IF NOT EXISTS` does not see what another transaction has made and not committed.
            Err(error) if tries < TRIES && is_collision(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn is_collision(error: &DieselError) -> bool {
    let DieselError::DatabaseError(_, about) = error else { return false };
    ["already exists", "duplicate key", "tuple concurrently"].iter().any(|words| about.message().contains(words))
}
