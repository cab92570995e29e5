use std::fmt;

use serde::{Serialize, Serializer, ser::SerializeStruct};

use crate::{Error, SchemaName};

/// What a repair did, or would do, tenant by tenant.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Whether nothing was written.
    pub dry_run: bool,
    /// The number under which what was done is remembered, and can be [taken back](super::Undo); none where nothing
    /// was done, or was not to be remembered.
    pub repair: Option<i64>,
    /// Whether a dry run tried what it tells, and rolled it back. A role that may only read cannot.
    pub rehearsed: bool,
    /// How many tenants were looked at.
    pub examined: usize,
    /// Why constraints could not be compared; none where they could, or were not to be.
    pub not_compared: Option<String>,
    /// The tenants in which something was wrong.
    pub tenants: Vec<TenantReport>,
}

/// What a repair did, or would do, in one tenant.
#[derive(Debug)]
pub struct TenantReport {
    /// The tenant's schema, or what the directory wrote in its place.
    pub schema: String,
    /// What was done. On an error, nothing was.
    pub result: Result<Outcome, Error>,
}

/// What was done, or would be, in one tenant.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Outcome {
    /// Nulls that were filled.
    pub filled: Vec<Filled>,
    /// Rows that were copied from `public`.
    pub copied: Vec<Copied>,
    /// Sequences that were moved on.
    pub sequences: Vec<Advanced>,
    /// Constraints that were put right.
    pub constraints: Vec<Constrained>,
    /// Originals that were removed from `public`.
    pub removed: Vec<Copied>,
    /// What was left alone.
    pub left: Vec<Left>,
}

/// Nulls of one column that were filled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[allow(missing_docs)]
pub struct Filled {
    pub table: String,
    pub column: String,
    pub rows: i64,
}

/// Rows of one table that were copied from `public`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[allow(missing_docs)]
pub struct Copied {
    pub table: String,
    pub rows: i64,
}

/// A sequence that hands out larger numbers than those that were copied, or were there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Advanced {
    /// The table.
    pub table: String,
    /// The column that it numbers.
    pub column: String,
    /// The number after which it goes on.
    pub last_value: i64,
}

/// A constraint that is as the migrations make it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Constrained {
    /// The table.
    pub table: String,
    /// The constraint's name; for [`How::Required`], the column's.
    pub name: String,
    /// What was done.
    pub how: How,
}

/// How a constraint was put right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum How {
    /// It was missing, and was added and validated.
    Added,
    /// It was not valid, and was validated.
    Validated,
    /// It was another, which led elsewhere or checked something else.
    Replaced,
    /// The column may not be null any more.
    Required,
}

/// Something that only a person can decide.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Left {
    /// The table that should have the row.
    pub table: String,
    /// The row's key.
    pub key: String,
    /// How many of the tenant's rows refer to it in vain.
    pub rows: i64,
    /// Why it was left.
    #[serde(flatten)]
    pub reason: Reason,
}

/// Why a row was left alone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Reason {
    /// It is referred to, and in neither schema.
    InNeitherSchema,
    /// The tenant has a different row under the same key.
    DifferentRecord {
        /// The unique index on which the two collide.
        index: String,
    },
    /// Rows of several tenants refer to it, and nothing tells whose it is.
    Contested {
        /// The tenants.
        tenants: Vec<SchemaName>,
    },
    /// Tenants that could not be examined may refer to it too.
    Unclear {
        /// Those tenants.
        tenants: Vec<SchemaName>,
    },
    /// It refers to another row that is left alone, or whose number the tenant uses for a row of its own.
    NeedsAnother {
        /// The table of that row.
        table: String,
    },
    /// The server did not take it, nor what belongs to it.
    Refused {
        /// The server's words.
        words: String,
    },
    /// The tenant has just the same, and rows that stay in `public` or elsewhere refer to the original.
    OriginalNeeded {
        /// Their table.
        by: String,
    },
    /// Its own column names another tenant as the owner.
    OfAnotherTenant {
        /// What the column says.
        owner: String,
    },
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InNeitherSchema => f.write_str("is in neither the tenant's schema nor public"),
            Self::DifferentRecord { index } => write!(f, "collides with a different record of the tenant on {index}"),
            Self::Contested { tenants } => {
                let tenants: Vec<&str> = tenants.iter().map(SchemaName::as_str).collect();
                write!(f, "is referred to by several tenants: {}", tenants.join(", "))
            }
            Self::Unclear { tenants } => {
                let tenants: Vec<&str> = tenants.iter().map(SchemaName::as_str).collect();
                write!(f, "may be referred to by tenants that could not be examined: {}", tenants.join(", "))
            }
            Self::NeedsAnother { table } => write!(f, "refers to a row of {table} that cannot be had"),
            Self::Refused { words } => write!(f, "was refused by the server: {words}"),
            Self::OriginalNeeded { by } => write!(f, "stays in public too, since rows of {by} refer to it"),
            Self::OfAnotherTenant { owner } => write!(f, "belongs to tenant {owner}"),
        }
    }
}

impl Outcome {
    /// Whether something was, or would be, written.
    pub fn changes(&self) -> bool {
        let counts =
            [self.filled.len(), self.copied.len(), self.sequences.len(), self.constraints.len(), self.removed.len()];
        counts.iter().any(|count| *count > 0)
    }
}

impl Report {
    /// Whether nothing is left for a person to decide, and nothing failed.
    pub fn is_healthy(&self) -> bool {
        let healthy = |tenant: &TenantReport| {
            tenant.result.as_ref().is_ok_and(|outcome| outcome.left.is_empty() && !(self.dry_run && outcome.changes()))
        };
        self.tenants.iter().all(healthy)
    }
}

impl Serialize for TenantReport {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let nothing = Outcome::default();
        let outcome = self.result.as_ref().unwrap_or(&nothing);
        let mut tenant = serializer.serialize_struct("TenantReport", 8)?;
        tenant.serialize_field("schema", &self.schema)?;
        tenant.serialize_field("filled", &outcome.filled)?;
        tenant.serialize_field("copied", &outcome.copied)?;
        tenant.serialize_field("sequences", &outcome.sequences)?;
        tenant.serialize_field("constraints", &outcome.constraints)?;
        tenant.serialize_field("removed", &outcome.removed)?;
        tenant.serialize_field("left", &outcome.left)?;
        tenant.serialize_field("error", &self.result.as_ref().err().map(Error::chain))?;
        tenant.end()
    }
}
