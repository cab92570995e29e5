//! Rows of `public` that belong to a tenant.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use diesel::PgConnection;

use super::Visit;
use crate::{
    Error, SchemaName,
    directory::Listing,
    doctor::{
        EXAMPLES, Fix, Kind,
        contested::Contested,
        draft::{Draft, plural},
        quiet::quietly,
        rows::Answer,
        strays::{Claim, Owned},
    },
    pg::{self, tables},
};

/// How many tenants one transaction asks for what is missing.
const CHUNK: usize = 25;

/// A tenant and its id, and the tables of `public` in which it has rows.
type Claimant = ((SchemaName, String), Vec<String>);

impl<'v> Visit<'v> {
    /// Rows of `public` that belong to a tenant, which does not have them.
    pub(super) fn strays(&mut self, conn: &mut PgConnection, listing: &Listing) -> Result<(), Error> {
        let Some(column) = self.doctor.rules.owner_column.as_ref().filter(|_| self.doctor.wants(&[Kind::Stray])) else {
            return Ok(());
        };
        let owned = Owned::new(&self.around, column);
        let ids: HashMap<String, &SchemaName> =
            listing.tenants.iter().filter_map(|tenant| Some((tenant.id?.to_string(), &tenant.schema))).collect();
        if owned.is_empty() || ids.is_empty() {
            return Ok(());
        }
        let patience = self.doctor.statement_timeout;
        let all: Vec<String> = ids.keys().cloned().collect();
        let everyone: Vec<String> = self.names.keys().cloned().collect();
        let read = quietly(conn, patience, |conn| {
            Ok((owned.owners(conn, &all)?, Contested::new(owned.contested(conn, &everyone)?)))
        });
        let (owners, contested) = match read {
            Ok(read) => read,
            Err(error) if pg::is_lost(conn) => return Err(error),
            Err(error) => {
                let reason = error.chain();
                self.note("whose the rows of public are", &reason, [&SchemaName::public()].into_iter());
                return Ok(());
            }
        };
        let mut tables_of = BTreeMap::<(SchemaName, String), Vec<String>>::new();
        for (table, id) in owners {
            let Some(schema) = ids.get(&id) else { continue };
            if !self.doubtful.contains_key(schema) {
                tables_of.entry(((*schema).clone(), id)).or_default().push(table);
            }
        }
        let claimants: Vec<Claimant> = tables_of.into_iter().collect();
        let around = &self.around;
        let (answers, failed) = self.crew.share(&claimants, CHUNK, |conn, chunk: &[&Claimant]| {
            quietly(conn, patience, |conn| {
                let names: Vec<&str> = chunk.iter().map(|((schema, _), _)| schema.as_str()).collect();
                let found = tables::read_many(conn, &names)?;
                let mut claims: Vec<(Claim<'_>, &Vec<String>)> = Vec::new();
                for ((schema, id), wanted) in chunk {
                    let tables = found.get(schema.as_str());
                    claims.extend(tables.map(|tables| (Claim { schema, id: id.clone(), tables }, wanted)));
                }
                let each: Vec<(&Claim<'_>, &str)> = claims
                    .iter()
                    .flat_map(|(claim, tables)| tables.iter().map(move |table| (claim, table.as_str())))
                    .collect();
                let answers = owned.missing(conn, around, &each, &contested)?;
                let told = |answer: Answer| {
                    let (claim, table) = &each[answer.at as usize];
                    (claim.schema.clone(), table.to_string(), answer)
                };
                Ok(answers.into_iter().map(told).collect())
            })
        })?;
        let failed: Vec<_> =
            failed.into_iter().map(|(((schema, _), _), error)| (schema.clone(), error.chain())).collect();
        self.doubtful.extend(failed);
        for (schema, table, answer) in answers {
            let rows = answer.rows.unsigned_abs();
            let (verb, them) = if rows == 1 { ("s", "it") } else { ("", "them") };
            let belongs = format!("{} of public.{table} belong{verb}", plural(rows, "row"));
            let (says, fix) = match self.parties(&contested, &answer.more) {
                None => {
                    let says = format!("{belongs} to it, and it does not have {them}");
                    (says, Fix::Command("tenantry repair".into()))
                }
                Some(parties) => {
                    let says = format!("{belongs} to several tenants, by what refers to what: {parties}");
                    let fix =
                        format!("only a person knows whose {them} should be: no repair moves what is not one's alone");
                    (says, Fix::None(fix))
                }
            };
            self.tell(&schema, &Draft::new(Kind::Stray, says, fix).table(&table).examples(rows, answer.examples));
        }
        Ok(())
    }
    /// Whose rows these are, by the groups that an answer tells; `None` where it tells none.
    fn parties(&self, contested: &Contested, groups: &str) -> Option<String> {
        let owners: BTreeSet<&String> = groups
            .split(' ')
            .filter_map(|group| contested.groups.get(group.parse::<usize>().ok()?))
            .flatten()
            .collect();
        let mut names: Vec<&str> =
            owners.into_iter().map(|id| self.names.get(id).map_or(id.as_str(), SchemaName::as_str)).collect();
        names.sort_unstable();
        match names.as_slice() {
            [] => None,
            few if few.len() <= EXAMPLES => Some(few.join(", ")),
            many => Some(format!("{} and {} others", many[..EXAMPLES].join(", "), many.len() - EXAMPLES)),
        }
    }
}
