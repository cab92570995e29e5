//! Which rows that are to come back refer to which others of them.

use std::collections::{BTreeMap, BTreeSet};

use diesel::{
    PgConnection, QueryResult, QueryableByName, RunQueryDsl, sql_query,
    sql_types::{Array, BigInt, Text},
};

use super::tenant::{Work, json};
use crate::{quote, repair::memory::PastChange, repair::rows};

/// For each row, by the number of its change, those with which it has to come back: itself, all that it refers to,
/// what that refers to, and so on.
pub(super) struct Needs(BTreeMap<i64, BTreeSet<i64>>);

impl Needs {
    pub(super) fn look(conn: &mut PgConnection, work: &Work<'_>, rows: &[PastChange]) -> QueryResult<Self> {
        let mut refers = BTreeMap::<i64, BTreeSet<i64>>::new();
        let of = |table: &str| rows.iter().filter(|change| change.table == table).collect::<Vec<_>>();
        for reference in work.public.references.iter().filter(|reference| reference.inside) {
            let (children, parents) = (of(&reference.child), of(&reference.parent));
            if children.is_empty() || parents.is_empty() {
                continue;
            }
            let (child_types, parent_types) =
                (rows::types(conn, "public", &reference.child)?, rows::types(conn, "public", &reference.parent)?);
            let value = |alias, column: &String, types: &BTreeMap<String, String>| {
                let kind = types.get(column).map_or("text", String::as_str);
                format!("({alias}.image::jsonb ->> {})::{kind}", quote::literal(column))
            };
            let pairs = reference.child_columns.iter().zip(&reference.parent_columns);
            let same: Vec<String> = pairs
                .map(|(child, parent)| {
                    format!("{} = {}", value("c", child, &child_types), value("p", parent, &parent_types))
                })
                .collect();
            let found: Vec<Pair> = sql_query(format!(
                "SELECT c.id AS child, p.id AS parent FROM unnest($1, $2) c(id, image) JOIN unnest($3, $4) p(id, image) ON {}",
                same.join(" AND "),
            ))
            .bind::<Array<BigInt>, _>(children.iter().map(|change| change.id).collect::<Vec<_>>())
            .bind::<Array<Text>, _>(children.iter().map(|change| json(change.before.as_ref())).collect::<Vec<_>>())
            .bind::<Array<BigInt>, _>(parents.iter().map(|change| change.id).collect::<Vec<_>>())
            .bind::<Array<Text>, _>(parents.iter().map(|change| json(change.before.as_ref())).collect::<Vec<_>>())
            .load(conn)?;
            for Pair { child, parent } in found {
                refers.entry(child).or_default().insert(parent);
            }
        }
        Ok(Self(rows.iter().map(|change| (change.id, closure(change.id, &refers))).collect()))
    }

    /// With what a row has to come back, itself included.
    pub(super) fn of(&self, row: i64) -> &BTreeSet<i64> {
        &self.0[&row]
    }

    /// All rows, each after those it refers to but for circles: what a row refers to needs fewer than the row.
    pub(super) fn first_to_last(&self) -> Vec<i64> {
        let mut rows: Vec<i64> = self.0.keys().copied().collect();
        rows.sort_by_key(|row| (self.0[row].len(), *row));
        rows
    }
}

#[derive(QueryableByName)]
struct Pair {
    #[diesel(sql_type = BigInt)]
    child: i64,
    #[diesel(sql_type = BigInt)]
    parent: i64,
}

fn closure(row: i64, refers: &BTreeMap<i64, BTreeSet<i64>>) -> BTreeSet<i64> {
    let (mut all, mut waiting) = (BTreeSet::from([row]), vec![row]);
    while let Some(next) = waiting.pop() {
        waiting.extend(refers.get(&next).into_iter().flatten().filter(|parent| all.insert(**parent)));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_row_refers_to_comes_before_it() {
        let refers = BTreeMap::from([(1, BTreeSet::from([3])), (3, BTreeSet::from([2, 4])), (4, BTreeSet::from([3]))]);
        let needs = Needs((1..=5).map(|row| (row, closure(row, &refers))).collect());
        assert_eq!(needs.of(1), &BTreeSet::from([1, 2, 3, 4]));
        assert_eq!(needs.of(3), needs.of(4), "a circle comes together");
        assert_eq!(needs.first_to_last(), [2, 5, 3, 4, 1]);
    }
}
