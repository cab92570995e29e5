use std::collections::BTreeSet;

use super::{Difference, Kind, Object, Structure, harm::can_refuse, own_name};
use crate::quote;

/// Tells in what a schema differs from a reference: what is missing first, then changed, extra, and renamed.
///
/// A table that is missing or extra stands for all of its parts. Constraints and indexes are matched by what they
/// do, and by their names after that, because other tools name them otherwise.
pub fn compare(reference: &Structure, found: &Structure) -> Vec<Difference> {
    let same = |expected: &Object, other: &Object| is_same(reference, expected, found, other);
    let pairs = Pairs::new(&reference.objects, &found.objects, same);
    let names: BTreeSet<(Kind, &str, &str)> =
        found.objects.iter().map(|object| (object.kind, object.table(), object.name.as_str())).collect();
    let is_free = |expected: &Object| !names.contains(&(expected.kind, expected.table(), expected.name.as_str()));
    let parts = |table: &Object| -> Vec<&Object> {
        reference.objects.iter().filter(|object| object.table.as_deref() == Some(&table.name)).collect()
    };
    let mut differences = Vec::new();
    for expected in in_order_of_making(pairs.missing, &reference.objects) {
        let parts = if expected.kind == Kind::Table { parts(expected) } else { Vec::new() };
        differences.push(Difference::missing(expected, &parts));
    }
    differences.extend(pairs.changed.into_iter().map(|(expected, other)| Difference::changed(expected, other)));
    differences
        .extend(pairs.extra.into_iter().map(|extra| Difference::extra(extra, can_refuse(extra, reference, found))));
    let renamed = |(expected, other)| Difference::renamed(expected, other, is_free(expected));
    differences.extend(pairs.renamed.into_iter().map(renamed));
    differences
}

/// The objects of two schemas, by what became of them.
struct Pairs<'o> {
    missing: Vec<&'o Object>,
    extra: Vec<&'o Object>,
    changed: Vec<(&'o Object, &'o Object)>,
    renamed: Vec<(&'o Object, &'o Object)>,
}

impl<'o> Pairs<'o> {
    fn new(reference: &'o [Object], found: &'o [Object], same: impl Fn(&Object, &Object) -> bool) -> Self {
        let mut pairs = Self { missing: Vec::new(), extra: Vec::new(), changed: Vec::new(), renamed: Vec::new() };
        let has_name = |one: &Object, other: &Object| one.name == other.name;
        let mut missing = without_parts(reference, found);
        let mut extra = without_parts(found, reference);
        match_up(&mut missing, &mut extra, |one, other| has_name(one, other) && same(one, other));
        pairs.renamed = match_up(&mut missing, &mut extra, |one, other| is_nameless(one) && same(one, other));
        pairs.changed = match_up(&mut missing, &mut extra, has_name);
        pairs
            .changed
            .extend(match_up(&mut missing, &mut extra, |one, other| core(one).is_some() && core(one) == core(other)));
        (pairs.missing, pairs.extra) = (missing, extra);
        pairs
    }
}

/// The objects, without the parts of those tables that the other side lacks as a whole.
fn without_parts<'o>(objects: &'o [Object], others: &[Object]) -> Vec<&'o Object> {
    let tables = |objects: &'o [Object]| objects.iter().filter(|object| object.kind == Kind::Table);
    let theirs: BTreeSet<&str> =
        others.iter().filter(|object| object.kind == Kind::Table).map(|table| table.name.as_str()).collect();
    let lacking: BTreeSet<&str> =
        tables(objects).map(|table| table.name.as_str()).filter(|name| !theirs.contains(name)).collect();
    let stays = |object: &&Object| object.table.as_deref().is_none_or(|table| !lacking.contains(table));
    objects.iter().filter(stays).collect()
}

/// Takes the pairs of one kind and table that fit from both lists.
fn match_up<'o>(
    missing: &mut Vec<&'o Object>,
    extra: &mut Vec<&'o Object>,
    fits: impl Fn(&Object, &Object) -> bool,
) -> Vec<(&'o Object, &'o Object)> {
    let mut matched = Vec::new();
    missing.retain(|one| {
        // Both lists are sorted, by kind and table first.
        let place = (one.kind, one.table());
        let start = extra.partition_point(|other| (other.kind, other.table()) < place);
        let near = extra[start..].iter().take_while(|other| (other.kind, other.table()) == place);
        let at = near.enumerate().find(|(_, other)| fits(one, other)).map(|(at, _)| start + at);
        if let Some(at) = at {
            matched.push((*one, extra.remove(at)));
        }
        at.is_none()
    });
    matched
}

/// Whether the name says nothing about what it does.
fn is_nameless(object: &Object) -> bool {
    matches!(object.kind, Kind::Constraint | Kind::Index)
}

/// What a constraint is about, without how it goes about it; nothing for an index.
fn core(object: &Object) -> Option<&str> {
    const HOW: [&str; 6] = [" MATCH ", " ON UPDATE ", " ON DELETE ", " DEFERRABLE", " NOT VALID", " NOT ENFORCED"];
    match (object.kind, object.fact(0)) {
        (Kind::Constraint, "primary key") => Some("PRIMARY KEY"),
        (Kind::Constraint, _) => {
            let end = HOW.iter().filter_map(|word| object.fact(1).find(word)).min();
            Some(&object.fact(1)[..end.unwrap_or(object.fact(1).len())])
        }
        // Each index is its own.
        _ => None,
    }
}

fn is_same(reference: &Structure, expected: &Object, found: &Structure, other: &Object) -> bool {
    let same = |(one, two): (&String, &String)| {
        let bare = own_name::without(one, &reference.schema);
        // Bodies are text: equal ones that name the reference's own schema are not the same, for each should name
        // its own. Elsewhere what looks like the schema's name is an alias.
        let is_body = matches!(expected.kind, Kind::Function | Kind::Procedure);
        (one == two && !(is_body && bare != *one)) || bare == own_name::without(two, &found.schema)
    };
    expected.facts.len() == other.facts.len() && expected.facts.iter().zip(&other.facts).all(same)
}

/// Tables after those that they refer to, as far as that goes.
fn in_order_of_making<'o>(missing: Vec<&'o Object>, reference: &[Object]) -> Vec<&'o Object> {
    let (mut waiting, mut ordered): (Vec<_>, Vec<_>) =
        missing.into_iter().partition(|object| object.kind == Kind::Table);
    let after = ordered.partition_point(|object| object.kind < Kind::Table);
    let rest = ordered.split_off(after);
    while !waiting.is_empty() {
        let waits = |table: &&Object| waiting.iter().any(|other| other != table && refers(table, other, reference));
        let next = waiting.iter().position(|table| !waits(table)).unwrap_or(0);
        ordered.push(waiting.remove(next));
    }
    ordered.extend(rest);
    ordered
}

fn refers(table: &Object, other: &Object, reference: &[Object]) -> bool {
    let names = [other.name.clone(), quote::identifier(&other.name)];
    if names.iter().any(|name| table.fact(3).starts_with(&format!("PARTITION OF {name} "))) {
        return true;
    }
    let targets = names.map(|name| format!(" REFERENCES {name}("));
    let is_key = |part: &&Object| part.table.as_deref() == Some(&table.name) && part.fact(0) == "foreign key";
    reference.iter().filter(is_key).any(|part| targets.iter().any(|target| part.fact(1).contains(target)))
}
