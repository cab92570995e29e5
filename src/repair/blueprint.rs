//! How tenants should be built: what the migrations make of the versions at which they are.

use std::{collections::BTreeMap, time::Duration};

use diesel::PgConnection;

use crate::{
    Error, SchemaName,
    migrate::{Migrations, State, survey},
    structure::{self, Reader, Reference, Structure},
};

/// What the migrations make of each version, and which tenants are built otherwise.
#[derive(Debug, Default)]
pub(super) struct Blueprints {
    by_version: BTreeMap<String, Reference>,
    /// The tenants that are not built so, and their versions.
    differing: BTreeMap<SchemaName, String>,
    /// Why some could not be compared.
    pub(super) not_compared: Option<String>,
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
        let mut at_version = BTreeMap::<String, Vec<SchemaName>>::new();
        for status in survey(conn, tenants, migrations)? {
            if let Some(version) = clear_version(status.state) {
                at_version.entry(version).or_default().push(status.schema);
            }
        }
        for (version, schemas) in at_version {
            let upto = migrations.with_tenant_up_to(&version)?;
            let reference = match structure::reference(conn, &upto, &schemas[0], patience) {
                Ok(reference) => reference,
                Err(Error::Reference { reason }) => {
                    blueprints.not_compared = Some(reason);
                    continue;
                }
                Err(other) => return Err(other),
            };
            for (schema, fingerprint) in fingerprints(conn, &schemas) {
                if fingerprint != reference.fingerprint {
                    blueprints.differing.insert(schema, version.clone());
                }
            }
            blueprints.by_version.insert(version, reference);
        }
        Ok(blueprints)
    }

    /// Whether the tenant was built otherwise when that was looked at.
    pub(super) fn differs(&self, schema: &SchemaName) -> bool {
        self.differing.contains_key(schema)
    }

    /// How the tenant should be built, unless it is as it should be, or has been migrated since.
    pub(super) fn of(
        &self,
        conn: &mut PgConnection,
        migrations: &Migrations,
        schema: &SchemaName,
    ) -> Result<Option<&Structure>, Error> {
        let Some(version) = self.differing.get(schema) else { return Ok(None) };
        let status = survey(conn, std::slice::from_ref(schema), migrations)?.pop();
        let now = status.and_then(|status| clear_version(status.state));
        Ok(self.by_version.get(version).filter(|_| now.as_ref() == Some(version)).map(|known| &known.structure))
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

/// The last version, if nothing else is recorded than all that come up to it.
fn clear_version(state: State) -> Option<String> {
    match state {
        State::Known { version, unknown, out_of_order, .. } if unknown.is_empty() && out_of_order.is_empty() => version,
        _ => None,
    }
}
