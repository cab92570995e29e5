//! Trying what the server may refuse.

use diesel::{
    PgConnection, QueryResult,
    result::{DatabaseErrorKind as Kind, Error as DieselError},
};

use crate::{
    Error,
    pg::{atomically, transient},
};

/// Does something in a savepoint, or tells why the server has refused it. What another try could cure is an error.
pub(super) fn attempt<T>(
    conn: &mut PgConnection,
    work: impl FnOnce(&mut PgConnection) -> QueryResult<T>,
) -> Result<Result<T, String>, Error> {
    attempt_unless(conn, |error| !is_refusal(error), work)
}

/// Does what only the owner of a table may: it is a refusal too if the role is not.
pub(super) fn attempt_as_owner(
    conn: &mut PgConnection,
    work: impl FnOnce(&mut PgConnection) -> QueryResult<()>,
) -> Result<Result<(), String>, Error> {
    attempt_unless(conn, |error| !is_refusal(error) && !may_not_write(error), work)
}

fn attempt_unless<T>(
    conn: &mut PgConnection,
    is_fatal: impl Fn(&Error) -> bool,
    work: impl FnOnce(&mut PgConnection) -> QueryResult<T>,
) -> Result<Result<T, String>, Error> {
    match atomically(conn, work).map_err(Error::from) {
        Ok(done) => Ok(Ok(done)),
        Err(error) if is_fatal(&error) => Err(error),
        Err(error) => Ok(Err(error.chain())),
    }
}

/// What the server would say, if it knew.
pub(super) fn refusal(words: String) -> DieselError {
    DieselError::DatabaseError(Kind::Unknown, Box::new(words))
}

fn is_refusal(error: &Error) -> bool {
    let Error::Query(DieselError::DatabaseError(kind, about)) = error else { return false };
    let is_ours = ["permission denied", "must be owner", "canceling statement", "tenantry."];
    let passing = transient::of(error).is_some() || matches!(kind, Kind::ReadOnlyTransaction | Kind::ClosedConnection);
    !passing && !is_ours.iter().any(|words| about.message().contains(words))
}

/// Whether the role lacks a right, or the server takes no writes.
pub(super) fn may_not_write(error: &Error) -> bool {
    let Error::Query(DieselError::DatabaseError(kind, about)) = error else { return false };
    matches!(kind, Kind::ReadOnlyTransaction)
        || about.message().contains("permission denied")
        || about.message().contains("must be owner")
        || about.message().contains("read-only transaction")
}
