//! Columns whose types differ in `public` and in the tenant.

use std::collections::BTreeMap;

use diesel::{
    PgConnection, QueryResult, QueryableByName, RunQueryDsl, sql_query,
    sql_types::{Array, Bool, Text},
};

use super::{
    attempt::{compute, refusal},
    copy::Part,
    propose::Proposer,
    rows,
};
use crate::pg::tables::Tables;

impl Proposer<'_> {
    /// The columns whose type is another than in `public`, with that type; a refusal where values would not be the
    /// same any more.
    pub(super) fn casts(&self, conn: &mut PgConnection, part: &Part<'_>) -> QueryResult<BTreeMap<String, String>> {
        #[derive(QueryableByName)]
        struct Changed {
            #[diesel(sql_type = Array<Bool>)]
            changed: Vec<bool>,
        }
        let tenant = &self.examined.tenant;
        let mut differing = rows::shared_columns(self.public, tenant, part.table);
        differing.retain(|name| self.public.kind(part.table, name) != tenant.kind(part.table, name));
        if differing.is_empty() {
            return Ok(BTreeMap::new());
        }
        let types = rows::types(conn, self.tenant.schema.as_str(), part.table)?;
        let casts: BTreeMap<String, String> =
            differing.iter().filter_map(|name| Some((name.to_string(), types.get(*name)?.clone()))).collect();
        let changed = casts.iter().map(|(name, kind)| {
            let column = rows::column("p", name);
            let changed = match self.is_of_one_kind(part.table, name) {
                true => format!("{column}::{kind} IS DISTINCT FROM {column}"),
                false => format!("{column}::text::{kind}::text IS DISTINCT FROM {column}::text"),
            };
            format!("coalesce(bool_or({changed}), false)")
        });
        let query = format!(
            "SELECT ARRAY[{}] AS changed FROM {} p WHERE {}",
            changed.collect::<Vec<_>>().join(", "),
            self.public.only("public", part.table),
            rows::is_at("p", 1),
        );
        // Some values may not be of the other type at all.
        compute(conn, &query, part.places.iter())?;
        let Changed { changed } =
            sql_query(query).bind::<Array<Text>, _>(part.places.iter().collect::<Vec<_>>()).get_result(conn)?;
        match casts.iter().zip(changed).find(|(_, changed)| *changed) {
            Some(((name, kind), _)) => Err(refusal(format!("{name} of {} would be changed by {kind}", part.table))),
            None => Ok(casts),
        }
    }

    /// Whether a column's type differs from `public`'s in its modifier only.
    pub(super) fn is_of_one_kind(&self, table: &str, column: &str) -> bool {
        let base =
            |tables: &Tables| tables.kind(table, column).and_then(|kind| Some(kind.split_once(':')?.0.to_owned()));
        base(self.public) == base(&self.examined.tenant)
    }
}
