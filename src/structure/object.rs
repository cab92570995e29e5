use std::fmt;

use serde::Serialize;

use crate::SchemaName;

/// How one schema is built.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Structure {
    /// The schema.
    pub schema: SchemaName,
    /// Everything in it, in order.
    pub objects: Vec<Object>,
}

/// A table, or a part of one, or anything else that a schema can hold.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Object {
    /// What it is.
    pub kind: Kind,
    /// The table that it is a part of.
    pub table: Option<String>,
    /// Its name; a function's has the types of its arguments.
    pub name: String,
    /// What is known of it, in an order that the kind decides. What does not apply is empty.
    pub facts: Vec<String>,
}

/// What an [`Object`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Kind {
    /// An enum, a domain, a composite or a range.
    Type,
    /// A sequence that is not an identity column's.
    Sequence,
    /// A table, partitioned or not, a partition, or a foreign table.
    Table,
    /// A column of a table.
    Column,
    /// A primary key, a unique constraint, a check, a foreign key or an exclusion constraint.
    Constraint,
    /// An index that no constraint made.
    Index,
    /// A view.
    View,
    /// A materialized view.
    MaterializedView,
    /// A function.
    Function,
    /// A procedure.
    Procedure,
    /// An aggregate function.
    Aggregate,
    /// A trigger that a constraint did not make.
    Trigger,
    /// A rewrite rule other than a view's.
    Rule,
    /// A row security policy.
    Policy,
    /// Who owns something.
    Owner,
    /// Who was granted what on something.
    Grant,
}

impl Kind {
    pub(super) fn from_word(word: &str) -> Option<Self> {
        ALL.into_iter().find(|kind| kind.word() == word)
    }

    fn word(self) -> &'static str {
        match self {
            Self::Type => "type",
            Self::Sequence => "sequence",
            Self::Table => "table",
            Self::Column => "column",
            Self::Constraint => "constraint",
            Self::Index => "index",
            Self::View => "view",
            Self::MaterializedView => "materialized view",
            Self::Function => "function",
            Self::Procedure => "procedure",
            Self::Aggregate => "aggregate",
            Self::Trigger => "trigger",
            Self::Rule => "rule",
            Self::Policy => "policy",
            Self::Owner => "owner",
            Self::Grant => "grant",
        }
    }
}

const ALL: [Kind; 16] = [
    Kind::Type,
    Kind::Sequence,
    Kind::Table,
    Kind::Column,
    Kind::Constraint,
    Kind::Index,
    Kind::View,
    Kind::MaterializedView,
    Kind::Function,
    Kind::Procedure,
    Kind::Aggregate,
    Kind::Trigger,
    Kind::Rule,
    Kind::Policy,
    Kind::Owner,
    Kind::Grant,
];

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

impl Object {
    /// The fact at this place, or nothing.
    pub(super) fn fact(&self, at: usize) -> &str {
        self.facts.get(at).map_or("", String::as_str)
    }

    /// The kind of constraint, or the kind of object.
    pub(super) fn noun(&self) -> String {
        match self.kind {
            Kind::Constraint => self.fact(0).into(),
            Kind::Index if self.fact(0) == "UNIQUE" => "unique index".into(),
            Kind::Table if self.fact(3).starts_with("PARTITION OF") => "partition".into(),
            kind => kind.to_string(),
        }
    }

    /// All that is known of it but its name, on one line.
    pub(super) fn definition(&self) -> String {
        // A constraint's first fact is its kind, which the definition tells again.
        let skipped = usize::from(self.kind == Kind::Constraint);
        let facts = self.facts.iter().skip(skipped).filter(|fact| !fact.is_empty());
        facts.flat_map(|fact| fact.split_whitespace()).collect::<Vec<_>>().join(" ")
    }

    /// Where it is found: the table, or nothing.
    pub(super) fn table(&self) -> &str {
        self.table.as_deref().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_known_by_its_word_and_in_order() {
        for kind in ALL {
            assert_eq!(Kind::from_word(kind.word()), Some(kind));
        }
        assert!(ALL.is_sorted());
    }
}
