//! Rows of `public` whose owner is no tenant.

use diesel::{
    PgConnection, QueryResult, QueryableByName, RunQueryDsl, sql_query,
    sql_types::{Array, BigInt, Text},
};

use super::Visit;
use crate::{
    Error, SchemaName,
    doctor::{
        EXAMPLES, Fix, Kind,
        check::only,
        draft::{Draft, plural},
        quiet::quietly,
    },
    pg::{self, tables::equal_as_they_are},
    quote,
};

impl<'v> Visit<'v> {
    /// Rows of the tenants' tables in `public` that name an owner whom nobody knows.
    pub(super) fn unclaimed(&mut self, conn: &mut PgConnection) -> Result<(), Error> {
        let Some(column) = self.doctor.rules.owner_column.as_ref().filter(|_| self.doctor.wants(&[Kind::Dangling]))
        else {
            return Ok(());
        };
        let has_owner = |name: &&String| self.around.public.has(name, std::slice::from_ref(column));
        let tables: Vec<&String> = self.around.filled.iter().filter(has_owner).collect();
        let selects: Vec<String> = tables.iter().filter_map(|name| self.select(name, column)).collect();
        if selects.is_empty() {
            return Ok(());
        }
        let ids: Vec<&String> = self.names.keys().collect();
        let public = SchemaName::public();
        let found = match quietly(conn, self.doctor.statement_timeout, |conn| ask(conn, &selects, &ids)) {
            Ok(found) => found,
            Err(error) if pg::is_lost(conn) => return Err(error),
            Err(error) => {
                self.note("the owners of rows in public", &error.chain(), [&public].into_iter());
                return Ok(());
            }
        };
        let drafts = found.into_iter().filter(|found| found.rows > 0).map(|found| draft(found, column));
        drafts.collect::<Vec<_>>().iter().for_each(|draft| self.tell(&public, draft));
        Ok(())
    }

    /// The query for one table; `None` where nobody can be certain of who is a tenant.
    fn select(&self, name: &str, column: &str) -> Option<String> {
        let shared = self.doctor.rules.shared.iter().find(|shared| shared.table == name && shared.column == column);
        let shared = shared.filter(|shared| {
            self.around.readable.contains(&shared.parent)
                && self.around.public.has(&shared.parent, std::slice::from_ref(&shared.parent_column))
        });
        // A tenant whose schema's name is refused is a tenant all the same.
        let is_unknown = match shared {
            None if !self.named_all || self.names.is_empty() => return None,
            None => String::new(),
            Some(shared) => format!(
                "AND NOT EXISTS (SELECT FROM {} r WHERE {})",
                quote::qualified("public", &shared.parent),
                equal_as_they_are(
                    ("r", &self.around.public, &shared.parent, &shared.parent_column),
                    ("p", &self.around.public, name, column),
                ),
            ),
        };
        let owner = format!("p.{}::text", quote::identifier(column));
        Some(format!(
            "SELECT {}::text AS table, count(*) AS rows, \
                    coalesce((array_agg(DISTINCT {owner}))[1:{EXAMPLES}], '{{}}') AS owners FROM {}{} p \
             WHERE {owner} IS NOT NULL AND NOT EXISTS (SELECT FROM unnest($1) i(id) WHERE i.id = lower({owner})) {is_unknown}",
            quote::literal(name),
            only(self.around.public.tables.get(name)?.partitioned),
            quote::qualified("public", name),
        ))
    }
}

/// What one table has of them.
#[derive(QueryableByName)]
struct Unclaimed {
    #[diesel(sql_type = Text)]
    table: String,
    #[diesel(sql_type = BigInt)]
    rows: i64,
    #[diesel(sql_type = Array<Text>)]
    owners: Vec<String>,
}

fn ask(conn: &mut PgConnection, selects: &[String], ids: &[&String]) -> Result<Vec<Unclaimed>, Error> {
    let found: QueryResult<Vec<Unclaimed>> =
        sql_query(selects.join(" UNION ALL ")).bind::<Array<Text>, _>(ids.to_vec()).load(conn);
    Ok(found?)
}

fn draft(found: Unclaimed, column: &str) -> Draft {
    let (rows, table) = (found.rows.unsigned_abs(), &found.table);
    let verb = if rows == 1 { "s" } else { "" };
    let says = format!("{} of {table} belong{verb} by {column} to nobody who is registered", plural(rows, "row"));
    let fix = "look whether the tenant was dropped or never registered, then register it or delete what is left of it";
    let mut draft = Draft::new(Kind::Dangling, says, Fix::None(fix.into())).table(table).examples(rows, found.owners);
    draft.finding.columns = vec![column.into()];
    draft
}
