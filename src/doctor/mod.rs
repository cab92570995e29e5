//! Looks for what the incident left behind: nulls where there should be a moment, and references to rows
//! that are in `public` instead of the tenant's schema. Reads only.

mod examine;

pub use examine::{Examined, examine};
pub(crate) use examine::{examine_beside, same_key};

use serde::Serialize;

use crate::SchemaName;

/// What a monolith knows of its own tables and the catalog does not: data, supplied once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    /// The columns that may never be null, and what to fill them with.
    pub fills: Vec<Fill>,
    /// The column, in whichever tables have it, that holds the id of a row's tenant.
    pub owner_column: Option<String>,
}

/// A column that may never be null, whether or not its table forbids it yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fill {
    /// The table, in every tenant's schema.
    pub table: String,
    /// The column.
    pub column: String,
    /// The columns of the same row whose value it gets, the first that is not null; the time of the repair
    /// when all of them are.
    pub from: Vec<String>,
}

/// Something that is wrong in one tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Where.
    pub schema: SchemaName,
    /// In which of its tables.
    pub table: String,
    /// What.
    #[serde(flatten)]
    pub problem: Problem,
}

/// What can be wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "problem", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Problem {
    /// A column that a [`Fill`] names is null in some rows.
    Nulls {
        /// The column.
        column: String,
        /// How many rows.
        rows: i64,
    },
    /// Rows refer to one that is not in their schema.
    Orphans {
        /// The referring columns.
        columns: Vec<String>,
        /// The table that should have the row.
        parent: String,
        /// The value of the referring columns, as text.
        key: Vec<String>,
        /// How many rows refer to it.
        rows: i64,
        /// Whether `public` has the row.
        in_public: bool,
    },
}
