//! Errors that go away by themselves: worth another try.
//!
//! Diesel passes on no SQLSTATE, only a few kinds, so the rest is known by the server's English words. In
//! [another language](super::messages) an error without a kind may be any of them, and is tried again too.

use diesel::{
    PgConnection,
    result::{DatabaseErrorInformation, DatabaseErrorKind as Kind, Error as DieselError},
};

use super::{ddl::HISTORY, messages};
use crate::Error;

/// What was in the way, and will not be for long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transient {
    /// Somebody was doing the same at the same time: at once again.
    Race,
    /// Somebody holds a lock, or everybody waited for everybody.
    Busy,
    /// The connection is gone, or the server does not take one now.
    Lost,
}

/// Whether the error is of the passing kind.
pub(crate) fn of(error: &Error) -> Option<Transient> {
    match error {
        Error::Query(error) => transient(error),
        Error::Migration { source, .. } => source.downcast_ref().and_then(transient),
        Error::Locked { .. } => Some(Transient::Busy),
        Error::Connect { .. } | Error::NotReached { .. } => Some(Transient::Lost),
        _ => None,
    }
}

/// The same of an error that came from this connection, whose messages may be in another language than English.
pub(crate) fn from(conn: &mut PgConnection, error: &Error) -> Option<Transient> {
    of(error).or_else(|| is_unclear(conn, error).then_some(Transient::Busy))
}

/// Whether no one can say if the error passes, since it has no kind and is in another language than English.
///
/// The connection must be able to run a query: if it is inside a transaction, that was rolled back to a savepoint.
pub(crate) fn is_unclear(conn: &mut PgConnection, error: &Error) -> bool {
    has_no_kind(error) && messages::are_english(conn).is_ok_and(|english| !english)
}

fn has_no_kind(error: &Error) -> bool {
    let error = match error {
        Error::Query(error) => Some(error),
        Error::Migration { source, .. } => source.downcast_ref(),
        _ => None,
    };
    matches!(error, Some(DieselError::DatabaseError(Kind::Unknown, _)))
}

fn transient(error: &DieselError) -> Option<Transient> {
    let (kind, about) = match error {
        DieselError::DatabaseError(kind, about) => (kind, about),
        // Diesel's words on a connection that was lost before.
        DieselError::BrokenTransactionManager => return Some(Transient::Lost),
        _ => return None,
    };
    let says = |words: &[&str]| words.iter().any(|words| about.message().contains(words));
    match kind {
        Kind::UniqueViolation if is_catalogs(about.as_ref()) => Some(Transient::Race),
        Kind::SerializationFailure => Some(Transient::Busy),
        Kind::ClosedConnection | Kind::UnableToSendCommand => Some(Transient::Lost),
        Kind::Unknown if says(RACES) => Some(Transient::Race),
        Kind::Unknown if says(&["due to lock timeout"]) => Some(Transient::Busy),
        Kind::Unknown if says(LOST) => Some(Transient::Lost),
        _ => None,
    }
}

const RACES: &[&str] = &[
    "deadlock detected",
    "tuple concurrently updated",
    "tuple concurrently deleted",
    // Citus, while the schema is being moved.
    "could not acquire the lock required to colocate distributed table",
];

const LOST: &[&str] = &[
    "terminating connection",
    "server closed the connection",
    "the database system is starting up",
    "the database system is shutting down",
    "the database system is in recovery mode",
    "connection has been closed",
];

/// Whether a key of the catalog or of the history was violated, which only racing DDL does: a key of the
/// tenant's own tables would be violated again.
fn is_catalogs(about: &(dyn DatabaseErrorInformation + Send + Sync)) -> bool {
    about.constraint_name().is_some_and(|key| key.starts_with("pg_") || key.starts_with(HISTORY))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct About(&'static str, Option<&'static str>);

    impl DatabaseErrorInformation for About {
        fn message(&self) -> &str {
            self.0
        }
        fn details(&self) -> Option<&str> {
            None
        }
        fn hint(&self) -> Option<&str> {
            None
        }
        fn table_name(&self) -> Option<&str> {
            None
        }
        fn column_name(&self) -> Option<&str> {
            None
        }
        fn constraint_name(&self) -> Option<&str> {
            self.1
        }
        fn statement_position(&self) -> Option<i32> {
            None
        }
    }

    #[track_caller]
    fn check(kind: Kind, message: &'static str, constraint: Option<&'static str>, expected: Option<Transient>) {
        assert_eq!(transient(&DieselError::DatabaseError(kind, Box::new(About(message, constraint)))), expected);
    }

    #[test]
    fn what_passes_is_told_from_what_does_not() {
        let race = Some(Transient::Race);
        check(Kind::UniqueViolation, "duplicate key", Some("pg_type_typname_nsp_index"), race);
        check(Kind::UniqueViolation, "duplicate key", Some("__diesel_schema_migrations_pkey"), race);
        check(Kind::UniqueViolation, "could not create unique index \"x\"", Some("x"), None);
        check(Kind::UniqueViolation, "duplicate key", None, None);
        check(Kind::Unknown, "deadlock detected", None, race);
        check(Kind::Unknown, "canceling statement due to lock timeout", None, Some(Transient::Busy));
        check(Kind::Unknown, "canceling statement due to statement timeout", None, None);
        check(Kind::Unknown, "canceling statement due to user request", None, None);
        check(Kind::ClosedConnection, "server closed the connection unexpectedly", None, Some(Transient::Lost));
        check(Kind::CheckViolation, "tuple concurrently updated", None, None);
        assert_eq!(transient(&DieselError::NotFound), None);
        assert_eq!(transient(&DieselError::BrokenTransactionManager), Some(Transient::Lost));
    }
}
