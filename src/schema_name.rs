//! [`SchemaName`]: the only door by which a schema's name enters SQL.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize};
use uuid::Uuid;

use crate::quote;

/// The name of a tenant's schema: never empty, never cut short by PostgreSQL, never one of its own.
///
/// PostgreSQL cuts names at 63 *bytes* with no more than a notice, so that two long names may become
/// one schema; here a longer name is an error. Letters of any script, digits, `_`, `-`, `.` and `$`
/// are allowed. Case is kept, and `Acme` is another schema than `acme`: [`provision`](crate::provision)
/// refuses to create the second of such a pair.
///
/// ```
/// use tenantry::{SchemaName, SchemaNameError};
///
/// let schema: SchemaName = "acme-2".parse()?;
/// assert_eq!(schema.as_str(), "acme-2");
/// assert_eq!("pg_toast".parse::<SchemaName>(), Err(SchemaNameError::Reserved));
/// # Ok::<(), SchemaNameError>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct SchemaName(String);

/// The rule that a schema's name broke.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SchemaNameError {
    /// There is nothing in it.
    #[error("a schema name may not be empty")]
    Empty,
    /// PostgreSQL would cut it, and two tenants could share what is left.
    #[error("a schema name may have at most {max} bytes, this one has {0}", max = SchemaName::MAX_BYTES)]
    TooLong(usize),
    /// It has a character that is easily mistaken in a shell, a setting or a statement.
    #[error("a schema name is made of letters, digits, `_`, `-`, `.` and `$`; {0:?} is none of them")]
    Character(char),
    /// `public`, `information_schema`, `tenantry` and everything from `pg_` on are no tenant's.
    #[error(
        "the names `public`, `information_schema`, `tenantry` and `pg_…` are reserved: choose another for the tenant"
    )]
    Reserved,
}

impl SchemaName {
    /// The longest name that PostgreSQL does not cut, in bytes of UTF-8.
    pub const MAX_BYTES: usize = 63;

    /// The schema of the tenant with this id: `tenant_`, then the id with underscores for hyphens.
    ///
    /// ```
    /// # use tenantry::SchemaName;
    /// let id = "bd8f8654-0752-4843-b076-0d7b2dc2e6d7".parse().unwrap();
    /// assert_eq!(SchemaName::for_tenant(id).as_str(), "tenant_bd8f8654_0752_4843_b076_0d7b2dc2e6d7");
    /// ```
    pub fn for_tenant(id: Uuid) -> Self {
        Self(format!("tenant_{}", id.hyphenated().to_string().replace('-', "_")))
    }

    /// The id in a name that [`for_tenant`](SchemaName::for_tenant) made.
    pub fn tenant_id(&self) -> Option<Uuid> {
        let id = self.0.strip_prefix("tenant_")?.replace('_', "-").parse().ok()?;
        (Self::for_tenant(id) == *self).then_some(id)
    }

    /// `public` is not a tenant, so that no text parses to it; migrations run there all the same.
    pub(crate) fn public() -> Self {
        Self("public".into())
    }

    /// The name as it is stored in the catalog.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name as an SQL identifier.
    pub(crate) fn quoted(&self) -> String {
        quote::identifier(&self.0)
    }
}

impl FromStr for SchemaName {
    type Err = SchemaNameError;

    fn from_str(name: &str) -> Result<Self, SchemaNameError> {
        let allowed = |c: char| c.is_alphanumeric() || "_-.$".contains(c);
        let lower = name.to_lowercase();
        if name.is_empty() {
            Err(SchemaNameError::Empty)
        } else if let Some(other) = name.chars().find(|c| !allowed(*c)) {
            Err(SchemaNameError::Character(other))
        } else if name.len() > Self::MAX_BYTES {
            Err(SchemaNameError::TooLong(name.len()))
        } else if lower == "$user" {
            // PostgreSQL puts the role's name in its place, quoted or not.
            Err(SchemaNameError::Reserved)
        } else if lower.starts_with("pg_") || ["public", "information_schema", "tenantry"].contains(&&*lower) {
            Err(SchemaNameError::Reserved)
        } else {
            Ok(Self(name.into()))
        }
    }
}

impl TryFrom<&str> for SchemaName {
    type Error = SchemaNameError;

    fn try_from(name: &str) -> Result<Self, SchemaNameError> {
        name.parse()
    }
}

impl fmt::Display for SchemaName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for SchemaName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", self.0)
    }
}

impl<'de> Deserialize<'de> for SchemaName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: &str, expected: Result<(), SchemaNameError>) {
        assert_eq!(name.parse::<SchemaName>().map(drop), expected, "{name:?}");
    }

    #[test]
    fn names_that_postgres_keeps_as_they_are_pass() {
        for name in ["acme", "Acme", "acme-corp", "42", "select", "müller.gmbh", "a$b", &"x".repeat(63)] {
            check(name, Ok(()));
        }
    }

    #[test]
    fn every_broken_rule_is_named() {
        check("", Err(SchemaNameError::Empty));
        check(&"x".repeat(64), Err(SchemaNameError::TooLong(64)));
        check(&"x".repeat(300), Err(SchemaNameError::TooLong(300)));
        check(&"ü".repeat(32), Err(SchemaNameError::TooLong(64)));
        check("a\"b", Err(SchemaNameError::Character('"')));
        check("a'b", Err(SchemaNameError::Character('\'')));
        check("a\0b", Err(SchemaNameError::Character('\0')));
        check("t1,public", Err(SchemaNameError::Character(',')));
        check("a b", Err(SchemaNameError::Character(' ')));
        check("a;b", Err(SchemaNameError::Character(';')));
        for name in ["public", "PUBLIC", "pg_toast", "PG_x", "information_schema", "tenantry", "$user"] {
            check(name, Err(SchemaNameError::Reserved));
        }
    }

    #[test]
    fn json_enters_by_the_same_door() {
        assert!(serde_json::from_str::<SchemaName>("\"public\"").is_err());
        let acme: SchemaName = serde_json::from_str("\"acme\"").unwrap();
        assert_eq!(serde_json::to_string(&acme).unwrap(), "\"acme\"");
    }
}
