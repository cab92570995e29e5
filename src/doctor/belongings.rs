use std::collections::{BTreeMap, BTreeSet};

use diesel::{PgConnection, QueryResult};

use super::{
    Rules, look,
    plan::Surroundings,
    strays::{Claim, Owned, Stray},
};
use crate::{SchemaName, directory::TenantEntry, pg::tables::Tables};

/// What of `public` belongs to tenants, by the column that tells the owner and by what refers to what.
#[derive(Debug)]
pub(crate) struct Belongings {
    around: Surroundings,
    owned: Owned,
    /// The column that tells the owner.
    column: String,
    /// The rows that belong to several, and to whom.
    contested: BTreeMap<Stray, Vec<SchemaName>>,
}

impl Belongings {
    /// Finds out how it can be told of these tables; `None` where it cannot, or where `public` has no such rows.
    pub(crate) fn look(
        conn: &mut PgConnection,
        public: &Tables,
        rules: &Rules,
        tenants: &[TenantEntry],
        tables: &BTreeSet<String>,
    ) -> QueryResult<Option<Self>> {
        let by_id: BTreeMap<String, &SchemaName> =
            tenants.iter().filter_map(|tenant| Some((tenant.id?.to_string(), &tenant.schema))).collect();
        let ids: Vec<String> = by_id.keys().cloned().collect();
        let Some(column) = rules.owner_column.as_ref().filter(|_| !ids.is_empty()) else { return Ok(None) };
        let (readable, filled) = look::look(conn, public, tables)?;
        let around = Surroundings { public: public.clone(), readable, filled, usual: Tables::default() };
        let owned = Owned::new(&around, column);
        if owned.is_empty() {
            return Ok(None);
        }
        let names = |ids: Vec<String>| ids.iter().filter_map(|id| by_id.get(id)).map(|name| (*name).clone()).collect();
        let contested =
            owned.contested(conn, &ids)?.into_iter().map(|(stray, owners)| (stray, names(owners))).collect();
        Ok(Some(Self { around, owned, column: column.clone(), contested }))
    }

    /// The rows that belong to this tenant and that it does not have.
    pub(crate) fn strays(
        &self,
        conn: &mut PgConnection,
        tenant: &TenantEntry,
        tables: &Tables,
    ) -> QueryResult<BTreeMap<Stray, Title>> {
        let Some(id) = tenant.id else { return Ok(BTreeMap::new()) };
        let claim = Claim { schema: &tenant.schema, id: id.to_string(), tables };
        let title = |stray: &Stray| match self.contested.get(stray) {
            _ if self.around.public.has(&stray.table, std::slice::from_ref(&self.column)) => Title::Named,
            Some(several) => Title::Shared(several.clone()),
            None => Title::Reached,
        };
        let strays = self.owned.places(conn, &self.around, &claim)?.into_iter();
        Ok(strays.map(|stray| (stray.clone(), title(&stray))).collect())
    }
}

/// Why a row is a tenant's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Title {
    /// Its own column says so.
    Named,
    /// It is bound to such a row by references.
    Reached,
    /// It is, but to such rows of several tenants.
    Shared(Vec<SchemaName>),
}
