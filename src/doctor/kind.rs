use std::{fmt, str::FromStr};

use serde::{Serialize, Serializer};

use super::Severity::{self, Error, Notice, Warning};

/// Writes the kinds once: what they are called, how bad they are at their worst, and what they mean.
macro_rules! kinds {
    ($($kind:ident $id:literal $severity:ident $says:literal,)*) => {
        /// What can be wrong.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Kind {
            $(#[doc = $says] $kind,)*
        }

        impl Kind {
            /// All of them, in the order in which a report lists them.
            pub const ALL: &[Self] = &[$(Self::$kind,)*];

            /// Its name in options and in JSON: `orphan`.
            pub fn id(self) -> &'static str {
                match self {
                    $(Self::$kind => $id,)*
                }
            }

            /// Whether it is about rows, so that a finding's examples are their keys.
            pub fn is_of_rows(self) -> bool {
                use Kind::{Conflict, Copy, Dangling, Nulls, Orphan, SequenceBehind, Stray, WrongOwner};
                matches!(self, Orphan | Stray | WrongOwner | Dangling | Nulls | SequenceBehind | Conflict | Copy)
            }

            /// How bad it is. A finding may be less: what the migrations themselves make is a notice.
            pub fn severity(self) -> Severity {
                match self {
                    $(Self::$kind => $severity,)*
                }
            }

            /// What it means, in a few words.
            pub fn says(self) -> &'static str {
                match self {
                    $(Self::$kind => $says,)*
                }
            }
        }
    };
}

kinds! {
    MissingSchema "missing-schema" Error "a tenant is registered and has no schema",
    RefusedName "refused-name" Error "a tenant is registered under a name that no schema may have",
    Unreadable "unreadable" Error "a tenant could not be looked at",
    HalfProvisioned "half-provisioned" Error "a tenant's schema lacks its tables",
    Unregistered "unregistered" Warning "a schema looks like a tenant's and is not registered",
    CaseTwin "case-twin" Warning "names differ only by upper and lower case",
    NoHistory "no-history" Warning "a schema has tables and no migration recorded",
    MisplacedHistory "misplaced-history" Error "versions are recorded where they were not applied",
    UnknownVersion "unknown-version" Warning "versions are recorded that this program does not know",
    OutOfOrder "out-of-order" Warning "versions are missing below others that are recorded",
    Behind "behind" Notice "versions are pending",
    Orphan "orphan" Error "rows refer to rows that are not in their schema",
    Stray "stray" Error "rows of a tenant are in public and not in its schema",
    WrongOwner "wrong-owner" Error "rows name another tenant as their owner",
    Dangling "dangling" Error "rows refer to rows that public does not have",
    Nulls "nulls" Error "columns are null that should never be",
    SequenceBehind "sequence-behind" Error "a sequence would hand out numbers that are taken",
    Conflict "conflict" Warning "public has other rows under keys of a tenant",
    Copy "copy" Notice "public has the same rows as a tenant",
    ForeignKeyLeak "foreign-key-leak" Error "foreign keys reach out of a schema, or into one",
    DefaultLeak "default-leak" Error "defaults, types, checks, indexes or policies use what is in another schema",
    ViewLeak "view-leak" Error "views read what is in another schema",
    FunctionLeak "function-leak" Error "functions name another schema",
    TriggerLeak "trigger-leak" Error "triggers call a function of another schema",
    InheritanceLeak "inheritance-leak" Error "tables inherit from another schema",
    TypeInTenant "type-in-tenant" Warning "types are made in a tenant's schema",
    ExtensionInTenant "extension-in-tenant" Warning "extensions are installed in a tenant's schema",
    InvalidIndex "invalid-index" Error "indexes are not valid, so that no query uses them",
    NotValid "not-valid" Warning "constraints were never validated",
    Missing "missing" Error "something that the migrations make is missing",
    Changed "changed" Error "something is defined otherwise than the migrations make it",
    Extra "extra" Warning "something is there that the migrations do not make",
    Renamed "renamed" Notice "something has another name than the migrations give it",
    Owner "owner" Warning "something has another owner than with most tenants",
    Grant "grant" Warning "something is granted otherwise than with most tenants",
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.id())
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(id: &str) -> Result<Self, String> {
        let known = Self::ALL.iter().find(|kind| kind.id() == id);
        known.copied().ok_or_else(|| format!("there is no kind {id:?}: --kinds lists them"))
    }
}

impl Serialize for Kind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.id())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_known_by_its_id_and_none_by_anothers() {
        for kind in Kind::ALL {
            assert_eq!(kind.id().parse(), Ok(*kind));
        }
        assert!("nonsense".parse::<Kind>().is_err());
    }
}
