//! Which questions the rows of a schema are asked, by how it is built.

use std::collections::BTreeSet;

use super::{
    Kind, Rules,
    check::{Check, TableChecks, equal},
};
use crate::{
    pg::tables::{Key, Reference, Table, Tables},
    structure::{self, Structure},
};

/// What all schemas have to do with.
#[derive(Debug, Default)]
pub(super) struct Surroundings {
    pub(super) public: Tables,
    /// The tables of `public` that the role may read.
    pub(super) readable: BTreeSet<String>,
    /// Those of them that have rows.
    pub(super) filled: BTreeSet<String>,
    /// How most tenants are built, for the references that one may have lost.
    pub(super) usual: Tables,
}

/// Who makes the plans.
pub(super) struct Planner<'p> {
    pub(super) rules: &'p Rules,
    pub(super) kinds: &'p BTreeSet<Kind>,
    pub(super) around: &'p Surroundings,
    /// Whether a foreign key that holds is taken at its word.
    pub(super) trust_foreign_keys: bool,
}

impl Planner<'_> {
    /// The questions to every schema of these tables; the columns that are null in spite of the reference first.
    pub(super) fn plan(&self, tables: &Tables, forbidden: &BTreeSet<(String, String)>) -> Vec<TableChecks> {
        let references = self.references(tables);
        let mut plans = Vec::new();
        for (name, table) in &tables.tables {
            let mut checks = self.nulls(name, table, forbidden);
            let is_open = |reference: &&Reference| !(self.trust_foreign_keys && reference.holds);
            let own = references.iter().filter(|reference| reference.child == *name).filter(is_open);
            checks.extend(own.map(|reference| self.orphan(reference, tables)));
            checks.extend(self.columns(name, table, tables));
            checks.extend(self.twins(name, table, &references, tables));
            checks.retain(|check| self.kinds.contains(&check.kind()));
            if !checks.is_empty() {
                let key = table.keys.first().map(|key| key.columns.clone()).unwrap_or_default();
                plans.push(TableChecks { table: name.clone(), partitioned: table.partitioned, key, checks });
            }
        }
        plans
    }

    fn orphan(&self, reference: &Reference, tables: &Tables) -> Check {
        let parent = tables.tables.get(&reference.parent);
        let public = &self.around.public;
        let twin = self.around.readable.contains(&reference.parent)
            && public.has(&reference.parent, &reference.parent_columns);
        let same = |parents: &Tables| {
            let (child, parent) = (("c", tables, &*reference.child), ("p", parents, &*reference.parent));
            equal(parent, &reference.parent_columns, child, &reference.child_columns)
        };
        Check::Orphan {
            columns: reference.child_columns.clone(),
            parent: reference.parent.clone(),
            same: same(tables),
            partitioned: parent.is_some_and(|parent| parent.partitioned),
            indexed: parent.is_some_and(|parent| is_indexed(parent, &reference.parent_columns)),
            twin: twin.then(|| (public.tables[&reference.parent].partitioned, same(public))),
        }
    }

    /// The schema's own references, and those between the same tables that others have.
    fn references(&self, tables: &Tables) -> Vec<Reference> {
        let fits = |reference: &&Reference| {
            tables.has(&reference.child, &reference.child_columns)
                && tables.has(&reference.parent, &reference.parent_columns)
        };
        // What holds elsewhere need not hold here.
        let others = self.around.usual.references.iter().chain(&self.around.public.references);
        let lost = others.cloned().map(|mut reference| {
            reference.holds = false;
            reference
        });
        let mut all: Vec<Reference> = tables.references.iter().cloned().chain(lost).filter(|one| fits(&one)).collect();
        all.sort_by(|one, other| one.ends().cmp(&other.ends()));
        // The sort is stable, so the schema's own is the one that is kept.
        all.dedup_by(|one, other| one.ends() == other.ends());
        all
    }

    fn nulls(&self, name: &str, table: &Table, forbidden: &BTreeSet<(String, String)>) -> Vec<Check> {
        let fills = |column: &str| self.rules.fills.iter().any(|fill| fill.table == name && fill.column == column);
        let nullable = table.columns.iter().filter(|column| !column.required);
        let asked = nullable
            .filter(|column| fills(&column.name) || forbidden.contains(&(name.to_owned(), column.name.clone())));
        asked.map(|column| Check::Null { column: column.name.clone(), fills: fills(&column.name) }).collect()
    }

    fn columns(&self, name: &str, table: &Table, tables: &Tables) -> Vec<Check> {
        let mut checks = Vec::new();
        let owner = self.rules.owner_column.as_ref();
        if let Some(owner) = owner.filter(|owner| table.columns.iter().any(|column| column.name == **owner)) {
            checks.push(Check::Owner { column: owner.clone() });
        }
        for shared in self.rules.shared.iter().filter(|shared| shared.table == name) {
            let there = self.around.readable.contains(&shared.parent)
                && self.around.public.has(&shared.parent, std::slice::from_ref(&shared.parent_column));
            if there && table.columns.iter().any(|column| column.name == shared.column) {
                let parent = &self.around.public.tables[&shared.parent];
                let column = std::slice::from_ref(&shared.parent_column);
                let same = equal(
                    ("p", &self.around.public, &shared.parent),
                    column,
                    ("c", tables, name),
                    std::slice::from_ref(&shared.column),
                );
                checks.push(Check::Dangling {
                    column: shared.column.clone(),
                    parent: shared.parent.clone(),
                    same,
                    indexed: is_indexed(parent, column),
                    owner: owner == Some(&shared.column),
                });
            }
        }
        for column in &table.columns {
            if let (Some(sequence), Some(start)) = (&column.sequence, column.start) {
                checks.push(Check::Sequence {
                    column: column.name.clone(),
                    sequence: sequence.clone(),
                    start,
                    descends: column.descends,
                });
            }
        }
        checks
    }

    fn twins(&self, name: &str, table: &Table, references: &[Reference], tables: &Tables) -> Vec<Check> {
        if !self.around.filled.contains(name) {
            return Vec::new();
        }
        let Some(key) = telling_key(name, table, references, tables, &self.around.public) else { return Vec::new() };
        let compared = compared(name, table, references, tables, &self.around.public);
        let partitioned = self.around.public.tables[name].partitioned;
        let same_key = equal(("p", &self.around.public, name), key, ("c", tables, name), key);
        let twin = |same| {
            let (key, same_key, compared) = (key.to_vec(), same_key.clone(), compared.clone());
            Check::Twin { key, same_key, compared, partitioned, same }
        };
        [true, false].map(twin).into()
    }
}

/// Whether a row is found by a key that these columns begin.
fn is_indexed(table: &Table, columns: &[String]) -> bool {
    table.keys.iter().any(|key| key.columns.first().is_some_and(|first| columns.contains(first)))
}

/// The key by which a row is the same in any schema: not a number that each schema counts for itself.
pub(crate) fn telling_key<'t>(
    name: &str,
    table: &'t Table,
    references: &[Reference],
    tables: &Tables,
    public: &Tables,
) -> Option<&'t [String]> {
    let tells = |key: &&Key| {
        public.has(name, &key.columns)
            && !key.columns.is_empty()
            && !key.columns.iter().any(|column| is_number(name, column, references, tables))
    };
    table.keys.iter().find(tells).map(|key| key.columns.as_slice())
}

/// The columns in which two rows can be told apart: those that both have, but for what is computed or counted.
pub(super) fn compared(
    name: &str,
    table: &Table,
    references: &[Reference],
    tables: &Tables,
    public: &Tables,
) -> Vec<String> {
    let columns = table.columns.iter().filter(|column| !column.generated).map(|column| &column.name);
    let both = columns.filter(|column| public.has(name, std::slice::from_ref(*column)));
    both.filter(|column| !is_number(name, column, references, tables)).cloned().collect()
}

/// Whether the column is numbered by a sequence, or refers to one that is.
fn is_number(name: &str, column: &str, references: &[Reference], tables: &Tables) -> bool {
    let numbered = |table: &str, column: &str| {
        let table = tables.tables.get(table);
        table.is_some_and(|table| table.columns.iter().any(|known| known.name == *column && known.numbered))
    };
    let refers_to_number = |reference: &Reference| {
        let pairs = reference.child_columns.iter().zip(&reference.parent_columns);
        reference.child == name
            && pairs.into_iter().any(|(child, parent)| child == column && numbered(&reference.parent, parent))
    };
    numbered(name, column) || references.iter().any(refers_to_number)
}

/// The columns that the reference forbids to be null and that may be.
pub(crate) fn forbidden_nulls(wanted: &Structure, found: &Structure) -> BTreeSet<(String, String)> {
    let columns = |structure: &Structure, required: bool| -> BTreeSet<(String, String)> {
        let fits = |object: &&structure::Object| {
            let is_required = object.facts.get(2).is_some_and(|fact| fact == "NOT NULL");
            object.kind == structure::Kind::Column && is_required == required
        };
        let name = |object: &structure::Object| (object.table.clone().unwrap_or_default(), object.name.clone());
        structure.objects.iter().filter(fits).map(name).collect()
    };
    columns(wanted, true).intersection(&columns(found, false)).cloned().collect()
}
