//! What a caller learns from an error: the one place where that is decided.

use std::error::Error as _;

use diesel::result::{DatabaseErrorKind as Kind, Error as DieselError};
use tenantry::Error;

use super::ledger::Reported;

/// Why something inside or outside of a scope failed.
#[derive(Debug)]
pub enum Fault {
    /// The closure returned an error of its own.
    Own,
    /// The library or the server did.
    Library(Error),
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Library(error)
    }
}

impl From<DieselError> for Fault {
    fn from(error: DieselError) -> Self {
        Self::Library(error.into())
    }
}

impl Fault {
    /// What the caller knows of the rows that were written before.
    ///
    /// `succeeded` says whether the work itself did, so that it was to be committed; a statement in a transaction of
    /// its own always is. `ended_by_hand` says whether the work sent a COMMIT or ROLLBACK.
    pub fn reported(&self, succeeded: bool, ended_by_hand: bool) -> Reported {
        match self {
            // It knows what it did before it failed.
            _ if !succeeded && ended_by_hand => Reported::Unknown,
            Self::Library(error) if succeeded && is_lost(error) => Reported::Unknown,
            // What was done before its transaction was ended by hand.
            Self::Library(Error::TransactionEnded { .. }) => Reported::Unknown,
            _ => Reported::Failed,
        }
    }

    pub fn is_lost(&self) -> bool {
        matches!(self, Self::Library(error) if is_lost(error))
    }

    /// The kind of the error, for counting: the variant and the server's words, without numbers.
    pub fn kind(&self) -> String {
        match self {
            Self::Own => "the closure's own error".into(),
            Self::Library(error) if is_lost(error) => "connection lost".into(),
            Self::Library(Error::Query(error)) => without_numbers(&error.to_string()),
            Self::Library(error) => {
                let debug = format!("{error:?}");
                let variant = debug.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
                match error.source() {
                    Some(source) => format!("{variant}: {}", without_numbers(&source.to_string())),
                    None => variant.into(),
                }
            }
        }
    }
}

/// Whether the connection was lost, or Diesel no longer knows what became of its transaction.
fn is_lost(error: &Error) -> bool {
    matches!(error, Error::Query(error) if lost(error))
}

fn lost(error: &DieselError) -> bool {
    match error {
        DieselError::DatabaseError(Kind::ClosedConnection | Kind::UnableToSendCommand, _) => true,
        DieselError::DatabaseError(_, about) => about.message().starts_with("terminating connection"),
        DieselError::RollbackErrorOnCommit { commit_error, .. } => lost(commit_error),
        DieselError::BrokenTransactionManager => true,
        _ => false,
    }
}

fn without_numbers(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    let mut short: String = line.chars().map(|c| if c.is_ascii_digit() { '#' } else { c }).take(90).collect();
    while short.contains("##") {
        short = short.replace("##", "#");
    }
    short
}
