//! Fills nulls.

use diesel::{
    PgConnection, QueryResult, QueryableByName, RunQueryDsl, connection::SimpleConnection, sql_query, sql_types::Bool,
};

use super::{
    attempt::refusal,
    copy::Done,
    memory::{Recorder, What},
    propose::Proposer,
    rows,
    settings::writing,
};
use crate::{doctor::Fill, quote};

impl Proposer<'_> {
    /// Fills the nulls of one column, and tells of how many rows.
    pub(super) fn fill(&self, conn: &mut PgConnection, fill: &Fill, recorder: &Recorder<'_>) -> QueryResult<i64> {
        #[derive(QueryableByName)]
        struct Kept {
            #[diesel(sql_type = Bool)]
            kept: bool,
        }
        let structure = &self.examined.tenant.tables[&fill.table];
        let table = self.examined.tenant.only(&self.tenant.schema.quoted(), &fill.table);
        let column = quote::identifier(&fill.column);
        let filled = format!(
            "filled AS (UPDATE {table} t SET {column} = coalesce({source}) WHERE t.{column} IS NULL \
             RETURNING {key} AS key, {before} AS before, {after} AS after)",
            source = self.source(fill, "t"),
            key = rows::key_image(structure, "t"),
            before = format_args!("pg_catalog.jsonb_build_object({}, NULL)", quote::literal(&fill.column)),
            after = rows::image_of(std::iter::once(fill.column.as_str()), "t"),
        );
        let told = recorder.statement(&fill.table, What::Updated, "filled");
        let told = told.map(|told| format!(", told AS ({told})")).unwrap_or_default();
        let fill_in =
            sql_query(format!("WITH {filled}{told} SELECT 0::bigint AS at, pg_catalog.count(*) AS rows FROM filled"));
        let Done { rows, .. } = writing(conn, &self.tenant.schema, |conn| {
            let done = fill_in.get_result(conn)?;
            conn.batch_execute("SET CONSTRAINTS ALL IMMEDIATE; SET CONSTRAINTS ALL DEFERRED")?;
            Ok(done)
        })?;
        let Kept { kept } = sql_query(format!("SELECT EXISTS (SELECT FROM {table} WHERE {column} IS NULL) AS kept"))
            .get_result(conn)?;
        match kept {
            true => Err(refusal(format!("a trigger of {} keeps nulls in {}", fill.table, fill.column))),
            false => Ok(rows),
        }
    }

    /// What a null gets: the columns that are there, in the rule's order, and the time of the repair.
    pub(super) fn source(&self, fill: &Fill, alias: &str) -> String {
        let there = |name: &&String| {
            let name = std::slice::from_ref(*name);
            self.examined.tenant.has(&fill.table, name) && (alias == "t" || self.public.has(&fill.table, name))
        };
        let mut from: Vec<String> = fill.from.iter().filter(there).map(|name| rows::column(alias, name)).collect();
        from.push("pg_catalog.now()".into());
        from.join(", ")
    }
}
