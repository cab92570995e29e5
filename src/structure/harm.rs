//! Whether something that nobody expects can refuse or alter a row that was written for the reference.

use super::{Kind, Object, Structure};
use crate::quote;

pub(super) fn can_refuse(extra: &Object, reference: &Structure, found: &Structure) -> bool {
    match extra.kind {
        Kind::Column => must_be_given(extra),
        Kind::Index if extra.fact(0).is_empty() => false,
        Kind::Index | Kind::Constraint => {
            let is_twin = |other: &&Object| other.kind == extra.kind && other.table == extra.table;
            let twin = reference.objects.iter().filter(is_twin).any(|other| other.facts == extra.facts);
            !twin && !is_met_by_null(extra, reference, found)
        }
        Kind::Trigger | Kind::Rule | Kind::Policy => true,
        _ => false,
    }
}

/// Whether a row without a word on the column is refused.
pub(super) fn must_be_given(column: &Object) -> bool {
    column.fact(2) == "NOT NULL" && has_no_value(column)
}

/// Whether a row without a word on the column has a null there, or nothing.
fn has_no_value(column: &Object) -> bool {
    (3..6).all(|fact| column.fact(fact).is_empty())
}

/// Whether it only concerns columns that are extra too, and are null in a row that was written for the reference.
///
/// A null meets every foreign key, unique and exclusion constraint, and every check that does not ask for nulls.
fn is_met_by_null(extra: &Object, reference: &Structure, found: &Structure) -> bool {
    let columns = |structure: &'_ Structure| -> Vec<Object> {
        let is_column = |object: &&Object| object.kind == Kind::Column && object.table == extra.table;
        structure.objects.iter().filter(is_column).cloned().collect()
    };
    let (expected, all) = (columns(reference), columns(found));
    let is_null = |column: &&Object| {
        has_no_value(column) && column.fact(2).is_empty() && !expected.iter().any(|known| known.name == column.name)
    };
    let (null, given): (Vec<&Object>, Vec<&Object>) = all.iter().partition(is_null);
    let definition = extra.fact(1);
    match extra.fact(0) {
        "check" => {
            let words = words(definition);
            let names = |column: &&Object| words.iter().any(|word| is_name(word, column));
            !definition.contains("NULL") && null.iter().any(names) && !given.iter().any(names)
        }
        _ if definition.contains("NULLS NOT DISTINCT") => false,
        _ => listed(definition).any(|word| null.iter().any(|column| is_name(word, column))),
    }
}

fn is_name(word: &str, column: &Object) -> bool {
    word == column.name || word == quote::identifier(&column.name)
}

/// The elements of the first list in parentheses.
fn listed(definition: &str) -> impl Iterator<Item = &str> {
    let after = definition.split_once('(').map_or("", |(_, after)| after);
    let list = after.split_once(')').map_or("", |(list, _)| list);
    // What follows a column is its operator class, its order or an exclusion's operator.
    list.split(", ").map(|element| match element.starts_with('"') {
        true => element,
        false => element.split(' ').next().unwrap_or_default(),
    })
}

/// Everything that may be a name.
fn words(definition: &str) -> Vec<&str> {
    let plain = definition.split(|c: char| !c.is_alphanumeric() && c != '_' && c != '$');
    let quoted = definition.match_indices('"').zip(definition.match_indices('"').skip(1));
    plain.chain(quoted.map(|((start, _), (end, _))| &definition[start..=end])).filter(|word| !word.is_empty()).collect()
}
