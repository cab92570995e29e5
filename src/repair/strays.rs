//! The rows of `public` that belong to a tenant by their owner, and who else may have them.

use std::collections::{BTreeMap, BTreeSet};

use diesel::{PgConnection, QueryResult};

use super::{
    proposal::{Excluded, SpokenFor},
    propose::Proposer,
    rows::{self, Place, Row},
};
use crate::{SchemaName, doctor::Title};

impl Proposer<'_> {
    /// The rows of `public` that belong to the tenant, and why.
    pub(super) fn strays(&self, conn: &mut PgConnection) -> QueryResult<Vec<(String, Row, &Title)>> {
        let mut by_table = BTreeMap::<&String, BTreeMap<&Place, &Title>>::new();
        for (stray, title) in &self.examined.strays {
            by_table.entry(&stray.table).or_default().insert(&stray.place, title);
        }
        let mut found = Vec::new();
        for (table, titles) in by_table {
            let places = titles.keys().map(|place| (*place).clone()).collect();
            let rows = self.rows(conn, table, &rows::is_at("p", 1), &places)?.into_iter();
            found.extend(rows.filter_map(|row| {
                let title = titles.get(&row.place).copied()?;
                Some((table.clone(), row, title))
            }));
        }
        Ok(found)
    }

    /// The rows that belong to the tenant if nobody else has a claim to what is bound to its rows.
    pub(super) fn with_strays(&self, conn: &mut PgConnection) -> QueryResult<BTreeMap<String, BTreeSet<Row>>> {
        if self.examined.strays.values().all(|title| *title == Title::Named) {
            return Ok(BTreeMap::new());
        }
        let proposer = Proposer { spoken_for: Some(&SpokenFor::new()), ..*self };
        let roots = proposer.roots(conn)?;
        Ok(proposer.walk(conn, &roots, &Excluded::new())?.claims)
    }

    /// The tenants that may have a row, if there is another than this one.
    pub(super) fn claimants(&self, table: &str, row: &Row) -> Option<Vec<SchemaName>> {
        let id = (table.to_owned(), row.key.clone());
        if let Some(tenants) = self.contested.get(&id) {
            return Some(tenants.clone());
        }
        let tenants = self.spoken_for?.get(&id)?;
        let all: BTreeSet<&SchemaName> = tenants.iter().chain([&self.tenant.schema]).collect();
        (all.len() > 1).then(|| all.into_iter().cloned().collect())
    }

    /// The tenants that a stray may belong to, if there is another than this one.
    pub(super) fn rivals(&self, table: &str, row: &Row, title: &Title) -> Option<Vec<SchemaName>> {
        let shared = match title {
            Title::Named => return None,
            Title::Reached => &[],
            Title::Shared(tenants) => tenants.as_slice(),
        };
        let others = self.spoken_for.and_then(|rows| rows.get(&(table.to_owned(), row.key.clone())));
        let mut tenants: BTreeSet<SchemaName> = shared.iter().chain(others.into_iter().flatten()).cloned().collect();
        tenants.insert(self.tenant.schema.clone());
        (tenants.len() > 1).then(|| tenants.into_iter().collect())
    }
}
