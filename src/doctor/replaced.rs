//! The constraints that a repair makes again.

use crate::structure::{Change, Difference, Kind};

/// Whether a repair makes this constraint again as the migrations do: in its own place, or in that of a foreign key of
/// the same columns.
pub(super) fn is_replaced(found: &Difference, all: &[Difference]) -> bool {
    let expected = found.expected.as_deref().unwrap_or_default();
    match (found.kind, found.change) {
        (Kind::Constraint, Change::Changed) if expected.starts_with("CHECK ") => {
            // One of a column that is of another type may be printed otherwise just because of that.
            !all.iter().any(|other| {
                (other.kind, other.change) == (Kind::Column, Change::Changed) && other.table == found.table
            })
        }
        (Kind::Constraint, Change::Changed) => expected.starts_with("FOREIGN KEY "),
        (Kind::Constraint, Change::Extra) => {
            let own = columns(found.found.as_ref());
            own.is_some()
                && all.iter().any(|other| is_missing_beside(other, found) && columns(other.expected.as_ref()) == own)
        }
        _ => false,
    }
}

fn is_missing_beside(other: &Difference, found: &Difference) -> bool {
    (other.kind, &other.table, other.change) == (found.kind, &found.table, Change::Missing)
}

/// The columns of a foreign key, as its definition lists them.
fn columns(definition: Option<&String>) -> Option<&str> {
    definition?.strip_prefix("FOREIGN KEY ")?.split(" REFERENCES ").next()
}
