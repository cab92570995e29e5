use std::fmt;

use serde::{Serialize, Serializer, ser::SerializeStruct};

use crate::{Error, SchemaName};

/// What a repair did, or would do, tenant by tenant.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Whether nothing was written.
    pub dry_run: bool,
    /// How many tenants were looked at.
    pub examined: usize,
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
            Self::OfAnotherTenant { owner } => write!(f, "belongs to tenant {owner}"),
        }
    }
}

impl Outcome {
    /// Whether something was, or would be, written.
    pub fn changes(&self) -> bool {
        !self.filled.is_empty() || !self.copied.is_empty()
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
        let mut tenant = serializer.serialize_struct("TenantReport", 5)?;
        tenant.serialize_field("schema", &self.schema)?;
        tenant.serialize_field("filled", &outcome.filled)?;
        tenant.serialize_field("copied", &outcome.copied)?;
        tenant.serialize_field("left", &outcome.left)?;
        tenant.serialize_field("error", &self.result.as_ref().err().map(Error::chain))?;
        tenant.end()
    }
}
