//! How tenants should be built: what the migrations make of the versions at which they are.

use std::{collections::BTreeMap, time::Duration};

use diesel::{PgConnection, QueryResult};

use super::{
    How,
    constraints::{self, Cure},
};
use crate::{
    Error, SchemaName,
    migrate::{Migrations, State, survey},
    pg::{
        catalog,
        closed::reading,
        tables::{self, Tables},
    },
    structure::{self, Reader, Reference},
};

/// How many tenants are read at once of which everything has to be known.
const CHUNK: usize = 100;

/// What the migrations make of each version, and what it takes to build those tenants so that are built otherwise.
#[derive(Debug, Default)]
pub(super) struct Blueprints {
    by_version: BTreeMap<String, Blueprint>,
    /// The versions of the tenants whose constraints are not built so, and what to do about that.
    cures: BTreeMap<SchemaName, (String, Vec<Cure>)>,
    /// Why some could not be compared.
    pub(super) not_compared: Option<String>,
}

#[derive(Debug)]
struct Blueprint {
    reference: Reference,
    /// The whole history of a tenant at this version.
    history: Vec<String>,
}

impl Blueprints {
    /// Compares these tenants, in bulk. One whose history is odd is built as nobody knows.
    pub(super) fn draw(
        conn: &mut PgConnection,
        migrations: &Migrations,
        tenants: &[SchemaName],
        patience: Duration,
    ) -> Result<Self, Error> {
        let mut blueprints = Self::default();
        let mut at_version = BTreeMap::<String, (Vec<String>, Vec<SchemaName>)>::new();
        for status in survey(conn, tenants, migrations)? {
            if let Some((version, history)) = clear_version(status.state) {
                at_version.entry(version).or_insert((history, Vec::new())).1.push(status.schema);
            }
        }
        for (version, (history, schemas)) in at_version {
            let upto = migrations.with_tenant_up_to(&version)?;
            let reference = match structure::reference(conn, &upto, &schemas[0], patience) {
                Ok(reference) => reference,
                Err(Error::Reference { reason }) => {
                    blueprints.not_compared = Some(reason);
                    continue;
                }
                Err(other) => return Err(other),
            };
            let found = fingerprints(conn, &schemas).into_iter();
            let differing: Vec<SchemaName> = found
                .filter(|(_, fingerprint)| *fingerprint != reference.fingerprint)
                .map(|(schema, _)| schema)
                .collect();
            let blueprint = Blueprint { reference, history };
            for chunk in differing.chunks(CHUNK) {
                let names: Vec<&str> = chunk.iter().map(SchemaName::as_str).collect();
                let tables = reading(conn, |conn| tables::read_many(conn, &names))?;
                for (schema, cures) in blueprint.cures(conn, chunk, &tables) {
                    if !cures.is_empty() {
                        blueprints.cures.insert(schema, (version.clone(), cures));
                    }
                }
            }
            blueprints.by_version.insert(version, blueprint);
        }
        Ok(blueprints)
    }

    /// What to do about the tenant's constraints, as it was when that was looked at; nothing, if it has been migrated
    /// since.
    pub(super) fn cures(&self, conn: &mut PgConnection, schema: &SchemaName) -> QueryResult<&[Cure]> {
        let Some((version, cures)) = self.cures.get(schema) else { return Ok(&[]) };
        let now = catalog::versions(conn, &[schema])?.remove(schema.as_str());
        let is_the_same = self.by_version.get(version).is_some_and(|known| Some(&known.history) == now.as_ref());
        Ok(if is_the_same { cures } else { &[] })
    }

    /// What there is to do about the constraints of a tenant that is at the same version still.
    pub(super) fn cures_left(
        &self,
        conn: &mut PgConnection,
        schema: &SchemaName,
        tables: &Tables,
    ) -> QueryResult<Vec<Cure>> {
        let known = self.cures.get(schema).and_then(|(version, _)| self.by_version.get(version));
        let Some(blueprint) = known else { return Ok(Vec::new()) };
        let found = Reader::new().only_constraints().read(conn, std::slice::from_ref(schema))?.remove(schema);
        Ok(found.map(|found| constraints::propose(&blueprint.reference.structure, &found, tables)).unwrap_or_default())
    }

    /// Whether a constraint of the tenant is to be taken away, for another, or one is to lead into `public`.
    pub(super) fn locks_public(&self, schema: &SchemaName) -> bool {
        let cures = self.cures.get(schema).map_or(&[][..], |(_, cures)| cures);
        cures.iter().any(|cure| cure.what.how == How::Replaced || cure.leads_into_public())
    }

    /// Whether there was anything to do when that was looked at.
    pub(super) fn differs(&self, schema: &SchemaName) -> bool {
        self.cures.contains_key(schema)
    }
}

impl Blueprint {
    /// What it takes to build these tenants so. What is locked can be had of the others all the same.
    fn cures(
        &self,
        conn: &mut PgConnection,
        schemas: &[SchemaName],
        tables: &BTreeMap<String, Tables>,
    ) -> Vec<(SchemaName, Vec<Cure>)> {
        let reader = Reader::new().only_constraints();
        let found = reader.read(conn, schemas).unwrap_or_else(|_| {
            let each = schemas.iter().filter_map(|schema| reader.read(conn, std::slice::from_ref(schema)).ok());
            each.flatten().collect()
        });
        let cures = |(schema, structure)| {
            let tables = tables.get(SchemaName::as_str(&schema))?;
            let cures = constraints::propose(&self.reference.structure, &structure, tables);
            Some((schema, cures))
        };
        found.into_iter().filter_map(cures).collect()
    }
}

/// What can be had: one that is locked is not examined either.
fn fingerprints(conn: &mut PgConnection, schemas: &[SchemaName]) -> BTreeMap<SchemaName, String> {
    let reader = Reader::new();
    reader.fingerprints(conn, schemas).unwrap_or_else(|_| {
        let each = schemas.iter().filter_map(|schema| reader.fingerprints(conn, std::slice::from_ref(schema)).ok());
        each.flatten().collect()
    })
}

/// The last version and all of the history, if nothing else is recorded than all that come up to it.
fn clear_version(state: State) -> Option<(String, Vec<String>)> {
    match state {
        State::Known { version, applied, unknown, out_of_order, .. }
            if unknown.is_empty() && out_of_order.is_empty() =>
        {
            Some((version?, applied))
        }
        _ => None,
    }
}
