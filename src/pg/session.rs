//! What a connection's session is when it is opened, and again whenever the pool lends it.

use diesel::{
    Connection, PgConnection, RunQueryDsl,
    connection::{CacheSize, Instrumentation, InstrumentationEvent, SimpleConnection, get_default_instrumentation},
    dsl::sql,
    result::{DatabaseErrorKind, Error as DieselError},
    select,
    sql_types::Bool,
};

use super::{closed::CLOSED_PATH, messages, pooler};
use crate::{
    Config, Error,
    config::{OutsideScopes, Pooler},
};

/// Makes a session of a connection that has just been opened.
///
/// Behind a pooler that lends connections for a transaction at a time there is none: what is set, or prepared, would
/// reach other clients.
pub(super) fn begin(conn: &mut PgConnection, config: &Config) -> Result<(), Error> {
    match config.pooler {
        Pooler::Transaction => conn.set_prepared_statement_cache_size(CacheSize::Disabled),
        Pooler::Session => {
            let canary = format!("PREPARE {CANARY} AS SELECT");
            if let Err(error) = conn.batch_execute(&format!("{}; {canary}", set_path(config))) {
                return Err(if is_prepared(conn) { pooler::shared() } else { error.into() });
            }
            // What is set for the session is reset when the connection is lent.
            let is_english = messages::ask_for_english(conn)?;
            let forward = get_default_instrumentation();
            conn.set_instrumentation(StalePlans { forward, is_english, found: false });
        }
    }
    Ok(())
}

/// Makes the session what it was when it was opened, in one message, and keeps the statements that Diesel has prepared.
///
/// # Errors
///
/// The connection is not to be lent: it is lost, inside a failed transaction, or without its prepared statements.
pub(super) fn reset(conn: &mut PgConnection, config: &Config) -> Result<(), Error> {
    match config.pooler {
        Pooler::Transaction => conn.batch_execute(ROLLBACK)?,
        Pooler::Session => {
            conn.batch_execute(&format!("{ROLLBACK}; {RESET}; {}; EXECUTE {CANARY}", set_path(config)))?
        }
    }
    Ok(())
}

/// Whether another client has prepared the statement, which a session of one's own cannot have when it begins.
fn is_prepared(conn: &mut PgConnection) -> bool {
    let there =
        format!("EXISTS (SELECT FROM pg_catalog.pg_prepared_statements WHERE name OPERATOR(pg_catalog.=) '{CANARY}')");
    // A busy pooler may have each question answered by another of its connections.
    (0..ASKED).any(|_| select(sql::<Bool>(&there)).get_result(conn).unwrap_or(false))
}

/// How often a connection is asked for what a pooler may have behind it.
const ASKED: u32 = 16;

/// Whether a statement that Diesel has prepared fails for as long as the connection lives.
pub(super) fn has_stale_plans(conn: &mut PgConnection) -> bool {
    conn.instrumentation().downcast_ref::<StalePlans>().is_some_and(|plans| plans.found)
}

/// Ends a transaction of which Diesel does not know, and says nothing where there is none: a bare ROLLBACK would
/// leave a warning in the server's log.
const ROLLBACK: &str = "BEGIN; ROLLBACK";

/// What DISCARD ALL does, except that prepared statements stay, and what Diesel sets on each connection.
///
/// RESET ALL does not reset the role.
const RESET: &str = "RESET SESSION AUTHORIZATION; RESET ROLE; RESET ALL; \
    SET TIME ZONE 'UTC'; SET CLIENT_ENCODING TO 'UTF8'; \
    CLOSE ALL; UNLISTEN *; SELECT pg_catalog.pg_advisory_unlock_all(); DISCARD TEMP; DISCARD SEQUENCES";

/// A prepared statement that goes when others do: by DISCARD ALL or DEALLOCATE ALL. Diesel would not notice.
const CANARY: &str = "tenantry_canary";

fn set_path(config: &Config) -> String {
    let path = match config.outside_scopes {
        OutsideScopes::Closed => CLOSED_PATH,
        OutsideScopes::Public => "public",
    };
    format!("SET search_path TO {path}")
}

/// Notices when a prepared statement has become useless: PostgreSQL plans it anew where tables have changed, but its
/// columns must have the types that they had, and Diesel goes on using it.
struct StalePlans {
    /// What else listens to the connection's events.
    forward: Option<Box<dyn Instrumentation>>,
    /// Whether the server's words can be known. Where they cannot, any error without a kind may be the one.
    is_english: bool,
    found: bool,
}

impl Instrumentation for StalePlans {
    fn on_connection_event(&mut self, event: InstrumentationEvent<'_>) {
        if let InstrumentationEvent::FinishQuery { error: Some(DieselError::DatabaseError(kind, about)), .. } = &event {
            let is_it = !self.is_english || about.message() == "cached plan must not change result type";
            self.found |= matches!(kind, DatabaseErrorKind::Unknown) && is_it;
        }
        self.forward.on_connection_event(event);
    }
}
