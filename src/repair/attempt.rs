//! Trying what rows may not allow.
//!
//! What they do not allow is known by the kind of the error, which is the same in every language of the server: a
//! violated constraint, and nothing else. Any other error fails the tenant.

use std::fmt;

use diesel::{
    PgConnection, QueryResult,
    connection::SimpleConnection,
    result::{DatabaseErrorKind as Kind, Error as DieselError},
};

use crate::{Error, pg::atomically, quote};

/// Does something in a savepoint, or returns why it is refused.
pub(super) fn attempt<T>(
    conn: &mut PgConnection,
    work: impl FnOnce(&mut PgConnection) -> QueryResult<T>,
) -> Result<Result<T, String>, Error> {
    match atomically(conn, work) {
        Ok(done) => Ok(Ok(done)),
        Err(error) if is_refusal(&error) => Ok(Err(Error::from(error).chain())),
        Err(error) => Err(error.into()),
    }
}

/// Changes constraints, for an [`attempt`]: that the role does not own the table, or that the constraint cannot be as
/// things are, is a refusal too.
pub(super) fn alter(conn: &mut PgConnection, statements: &str) -> QueryResult<()> {
    let refusals = "syntax_error_or_access_rule_violation OR data_exception \
        OR dependent_privilege_descriptors_still_exist OR feature_not_supported OR program_limit_exceeded";
    refused_when(refusals, conn, &quote::literal(statements))
}

/// Runs a query with these texts, for an [`attempt`]: that a value cannot be computed is a refusal.
pub(super) fn compute<'t>(
    conn: &mut PgConnection,
    query: &str,
    texts: impl Iterator<Item = &'t String>,
) -> QueryResult<()> {
    let texts: Vec<String> = texts.map(|text| quote::literal(text)).collect();
    let using = format!("{} USING ARRAY[{}]::pg_catalog.text[]", quote::literal(query), texts.join(", "));
    refused_when("data_exception", conn, &using)
}

/// Has the server look at the code of the error, which Diesel does not pass on, and make it one of the kinds that Diesel
/// knows.
fn refused_when(conditions: &str, conn: &mut PgConnection, execute: &str) -> QueryResult<()> {
    let body = format!(
        "BEGIN EXECUTE {execute}; \
         EXCEPTION WHEN {conditions} THEN RAISE check_violation USING MESSAGE = SQLERRM; END"
    );
    conn.batch_execute(&format!("DO {}", quote::literal(&body)))
}

/// A refusal of our own.
pub(super) fn refusal(words: String) -> DieselError {
    DieselError::QueryBuilderError(Box::new(Refusal(words)))
}

#[derive(Debug)]
struct Refusal(String);

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refusal {}

fn is_refusal(error: &DieselError) -> bool {
    match error {
        DieselError::DatabaseError(kind, _) => matches!(
            kind,
            Kind::UniqueViolation
                | Kind::ForeignKeyViolation
                | Kind::NotNullViolation
                | Kind::CheckViolation
                | Kind::ExclusionViolation
                | Kind::RestrictViolation
        ),
        DieselError::QueryBuilderError(error) => error.is::<Refusal>(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(kind: Kind) -> DieselError {
        DieselError::DatabaseError(kind, Box::new("violates check constraint".to_owned()))
    }

    #[test]
    fn a_refusal_is_a_kind_whatever_the_words() {
        for kind in
            [Kind::UniqueViolation, Kind::ForeignKeyViolation, Kind::RestrictViolation, Kind::ExclusionViolation]
        {
            assert!(is_refusal(&of(kind)));
        }
        for kind in [Kind::Unknown, Kind::ReadOnlyTransaction, Kind::ClosedConnection, Kind::SerializationFailure] {
            assert!(!is_refusal(&of(kind)));
        }
        assert!(is_refusal(&refusal("a trigger keeps it out".into())));
        assert!(!is_refusal(&DieselError::QueryBuilderError("x".into())));
        assert!(!is_refusal(&DieselError::NotFound));
    }
}
