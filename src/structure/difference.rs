use serde::Serialize;

use super::{Kind, Object, cure};

/// One thing in which a schema is not as its reference is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Whether it is missing, extra, changed or only called otherwise.
    pub change: Change,
    /// What it concerns.
    pub kind: Kind,
    /// The table that it is a part of.
    pub table: Option<String>,
    /// Its name: the reference's, where that has one.
    pub name: String,
    /// The name that was found, where the reference has another.
    pub found_name: Option<String>,
    /// One sentence that tells it.
    pub says: String,
    /// The reference's definition.
    pub expected: Option<String>,
    /// The definition that was found.
    pub found: Option<String>,
    /// Whether what was written for the reference may fail or go wrong because of it.
    ///
    /// What is missing or changed does. Of what is extra, that which can refuse or alter a row does: constraints and
    /// unique indexes, unless they only concern columns that stay null, triggers, rules, policies, and columns that
    /// must be given. Other names do not.
    pub blocks: bool,
    /// Statements that would put it right, where that is safe and evident.
    ///
    /// Names are bare: run them with the schema alone on the path, as in a
    /// [scope](crate::pg::scope::transaction()).
    pub cure: Option<String>,
}

/// What kind of [`Difference`] it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// The reference has it, and the schema does not.
    Missing,
    /// Both have it, and it is defined otherwise.
    Changed,
    /// The schema has it, and the reference does not.
    Extra,
    /// Both have it, under different names.
    Renamed,
}

impl Difference {
    /// What is missing; a table comes with its parts, for the cure.
    pub(super) fn missing(expected: &Object, parts: &[&Object]) -> Self {
        let says = match is_long(expected) {
            true => format!("{} is missing", subject(expected)),
            false => format!("{} is missing: {}", subject(expected), expected.definition()),
        };
        Self::of(Change::Missing, expected, says, Some(expected), None, cure::create(expected, parts))
    }

    pub(super) fn extra(found: &Object, blocks: bool) -> Self {
        let says = match is_long(found) {
            true => format!("{} is extra", subject(found)),
            false => format!("{} is extra: {}", subject(found), found.definition()),
        };
        Self { blocks, ..Self::of(Change::Extra, found, says, None, Some(found), None) }
    }

    pub(super) fn changed(expected: &Object, found: &Object) -> Self {
        let name = match expected.name == found.name {
            true => String::new(),
            false => format!(", here {},", found.name),
        };
        let says = format!("{}{name} {}", subject(expected), phrases(expected, found).join(", "));
        Self::of(Change::Changed, expected, says, Some(expected), Some(found), cure::alter(expected, found))
    }

    pub(super) fn renamed(expected: &Object, found: &Object, is_free: bool) -> Self {
        let says = format!("{} is called {}", subject(expected), found.name);
        let cure = is_free.then(|| cure::rename(expected, found)).flatten();
        Self::of(Change::Renamed, expected, says, Some(expected), Some(found), cure)
    }

    fn of(
        change: Change,
        object: &Object,
        says: String,
        expected: Option<&Object>,
        found: Option<&Object>,
        cure: Option<String>,
    ) -> Self {
        Self {
            change,
            kind: object.kind,
            table: object.table.clone(),
            name: object.name.clone(),
            found_name: found.map(|found| found.name.clone()).filter(|name| *name != object.name),
            says,
            expected: expected.map(Object::definition),
            found: found.map(Object::definition),
            blocks: matches!(change, Change::Missing | Change::Changed),
            cure,
        }
    }
}

fn subject(object: &Object) -> String {
    match (&object.table, object.kind) {
        (Some(table), Kind::Column) => format!("column {table}.{}", object.name),
        (Some(table), _) => format!("{} {} of {table}", object.noun(), object.name),
        (None, Kind::Owner) => format!("the owner of {}", object.name),
        (None, Kind::Grant) => format!("what is granted on {}", object.name),
        (None, _) => format!("{} {}", object.noun(), object.name),
    }
}

/// Whether the definition is more than a line's worth.
fn is_long(object: &Object) -> bool {
    use Kind::{Aggregate, Function, MaterializedView, Procedure, Rule, Table, Trigger, View};
    matches!(object.kind, Table | View | MaterializedView | Function | Procedure | Aggregate | Rule | Trigger)
}

fn phrases(expected: &Object, found: &Object) -> Vec<String> {
    let count = expected.facts.len().max(found.facts.len());
    let pairs = (0..count).map(|at| (at, expected.fact(at), found.fact(at)));
    // A constraint's first fact repeats what the second says.
    let skipped = usize::from(expected.kind == Kind::Constraint && expected.fact(1) != found.fact(1));
    let phrase = |(at, expected_fact, found_fact): (usize, &str, &str)| match (expected_fact, found_fact) {
        (one, other) if one == other => None,
        ("", state @ ("INVALID" | "UNLOGGED" | "DISABLED")) => {
            Some(format!("is {} and should not be", state.to_lowercase()))
        }
        ("", more) => Some(format!("has {} and should not", line(more))),
        (less, "") => Some(format!("lacks {}", line(less))),
        _ if at == 0 && is_long(expected) && expected.kind != Kind::Table => Some("is defined otherwise".into()),
        (one, other) => Some(format!("is {} instead of {}", line(other), line(one))),
    };
    let phrases: Vec<String> = pairs.skip(skipped).filter_map(phrase).collect();
    // The texts are equal, and name the reference's schema.
    if phrases.is_empty() { vec!["names another schema as its own".into()] } else { phrases }
}

fn line(fact: &str) -> String {
    fact.split_whitespace().collect::<Vec<_>>().join(" ")
}
