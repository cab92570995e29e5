//! Owners and grants that differ from most tenants'.

use std::collections::BTreeMap;

use super::{draft::Draft, drift};
use crate::structure::{Kind, Object, Structure};

/// An owner, or what is granted, of one thing by its name.
type Right = (Kind, String);

/// What each of these schemas has, and how many have the same; and what differs from more than half, for each.
pub(super) fn compare(found: &[(Structure, usize)]) -> Vec<Vec<Draft>> {
    let mut votes = BTreeMap::<Right, BTreeMap<&str, usize>>::new();
    for (structure, members) in found {
        for (right, value) in rights(structure) {
            *votes.entry(right).or_default().entry(value).or_default() += members;
        }
    }
    let usual: BTreeMap<Right, &str> =
        votes.into_iter().filter_map(|(right, votes)| Some((right, most(votes)?))).collect();
    let differing = |(structure, _): &(Structure, usize)| {
        let differs = |(right, value): (Right, &str)| {
            let usual = usual.get(&right).filter(|usual| **usual != value)?;
            Some(drift::rights(right.0, &right.1, usual, value))
        };
        rights(structure).filter_map(differs).collect()
    };
    found.iter().map(differing).collect()
}

fn rights(structure: &Structure) -> impl Iterator<Item = (Right, &str)> {
    let right = |object: &'_ Object| (object.kind, object.name.clone());
    structure.objects.iter().filter_map(move |object| Some((right(object), object.facts.first()?.as_str())))
}

fn most(votes: BTreeMap<&str, usize>) -> Option<&str> {
    let all: usize = votes.values().sum();
    let (value, count) = votes.into_iter().max_by_key(|(_, count)| *count)?;
    (count * 2 > all).then_some(value)
}
