//! The registry, the schemas that look like a tenant's, and the histories.

use std::collections::{BTreeMap, BTreeSet};

use diesel::PgConnection;

use super::{DRIFT, Patient, Visit, tables_of};
use crate::{
    Error, SchemaName,
    directory::{self, Listing, TenantEntry},
    doctor::{
        Finding, Fix, Kind,
        draft::Draft,
        history::{self, Recorded, Standing},
        quiet::quietly,
        schemas::{self, Schemas},
    },
    migrate::Set,
    pg::{catalog, untrusted},
};

/// How many tenants' histories one transaction reads.
const CHUNK: usize = 100;

impl<'v> Visit<'v> {
    /// The tenants and the schemas of one moment, and the tables that a tenant should have.
    pub(super) fn registry(
        &mut self,
        conn: &mut PgConnection,
        again: Option<&BTreeSet<SchemaName>>,
    ) -> Result<(Listing, Schemas, Vec<String>), Error> {
        let any = SchemaName::for_tenant(uuid::Uuid::nil());
        let made = match self.references.of(self.references.len(), &any) {
            Ok(built) => tables_of(&built.wanted.structure),
            Err(_) => Vec::new(),
        };
        let directory = self.doctor.directory;
        let (read, everyone) = quietly(conn, self.doctor.statement_timeout, |conn| {
            let mut listing = directory::read(conn, directory)?;
            let everyone = match directory.is_whole() {
                true => listing.clone(),
                false => directory::read_everyone(conn, directory)?,
            };
            let names: Vec<&str> = listing.tenants.iter().map(|tenant| tenant.schema.as_str()).collect();
            let expected = if made.is_empty() { schemas::usual_tables(conn, &names)? } else { made };
            let schemas = schemas::read(conn, &expected)?;
            if let Some(again) = again {
                listing.tenants.retain(|tenant| again.contains(&tenant.schema));
                listing.refused.clear();
            }
            Ok(((listing, schemas, expected), everyone))
        })?;
        self.named_all = everyone.refused.is_empty() && everyone.tenants.iter().all(|tenant| tenant.id.is_some());
        self.names = everyone.tenants.into_iter().filter_map(|one| Some((one.id?.to_string(), one.schema))).collect();
        Ok(read)
    }

    /// Schemas that look like a tenant's, of which those with a history alone must have one of the tenants' versions.
    pub(super) fn strangers(
        &mut self,
        conn: &mut PgConnection,
        listing: &Listing,
        schemas: &Schemas,
        expected: usize,
    ) -> Result<(), Error> {
        let versions: BTreeSet<&str> = self.doctor.migrations.versions(Set::Tenant).collect();
        for (name, by_tables) in schemas::strangers(listing, schemas, expected) {
            let Ok(schema) = name.parse::<SchemaName>() else { continue };
            let read = || quietly(conn, self.doctor.statement_timeout, |conn| Ok(history::read(conn, &[&schema])?));
            let is_ours = by_tables
                || match { read }().as_deref() {
                    Ok([Recorded::Versions(found)]) => {
                        found.is_empty() || found.iter().any(|version| versions.contains(version.as_str()))
                    }
                    Ok([Recorded::Gone]) => false,
                    _ => true,
                };
            if is_ours {
                self.report.findings.push(schemas::unregistered(name, by_tables));
            }
        }
        Ok(())
    }

    /// Finds the tables whose reading would run another role's code. A tenant with one is not looked at.
    pub(super) fn distrust(&mut self, conn: &mut PgConnection, listing: &Listing) -> Result<(), Error> {
        let names: Vec<&str> = listing.tenants.iter().map(|tenant| tenant.schema.as_str()).chain(["public"]).collect();
        let found = quietly(conn, self.doctor.statement_timeout, |conn| Ok(untrusted::find(conn, &names)?))?;
        self.untrusted.clear();
        for table in found {
            self.untrusted.entry(table.schema.clone()).or_default().push(table);
        }
        for tenant in &listing.tenants {
            let Some(table) = self.untrusted.get(tenant.schema.as_str()).and_then(|tables| tables.first()) else {
                continue;
            };
            let says = format!("could not be looked at: {}", table.error());
            let fix = Fix::None("drop what calls the function, after a look at it".into());
            self.report.findings.push(Draft::new(Kind::Unreadable, says, fix).of(tenant.schema.as_str()));
        }
        Ok(())
    }

    pub(super) fn histories(
        &mut self,
        entries: Vec<TenantEntry>,
        schemas: &Schemas,
        has_tables: bool,
    ) -> Result<Vec<Patient>, Error> {
        let patience = self.doctor.statement_timeout;
        let (read, failed) = self.crew.share(&entries, CHUNK, |conn, chunk: &[&TenantEntry]| {
            quietly(conn, patience, |conn| {
                let names: Vec<&SchemaName> = chunk.iter().map(|entry| &entry.schema).collect();
                Ok(chunk.iter().map(|entry| (*entry).clone()).zip(history::read(conn, &names)?).collect())
            })
        })?;
        let failed: Vec<(SchemaName, String)> =
            failed.into_iter().map(|(entry, error)| (entry.schema.clone(), error.chain())).collect();
        self.doubtful.extend(failed);
        let mut patients = Vec::with_capacity(read.len());
        for (entry, recorded) in read {
            let schema = entry.schema.clone();
            let applied = match recorded {
                Recorded::Versions(applied) => applied,
                Recorded::Gone => {
                    self.doubtful.insert(schema, "it was dropped meanwhile".into());
                    continue;
                }
                Recorded::NotATable => {
                    let says = format!("could not be looked at: {}", catalog::not_a_table(&schema));
                    let fix = Fix::None("drop what takes its place, and restore the table".into());
                    self.tell(&schema, &Draft::new(Kind::Unreadable, says, fix));
                    continue;
                }
                Recorded::Forbidden => {
                    let says = "could not be looked at: the role lacks SELECT on its history";
                    let fix =
                        Fix::Command(format!("GRANT SELECT ON ALL TABLES IN SCHEMA {} to the role", schema.quoted()));
                    self.tell(&schema, &Draft::new(Kind::Unreadable, says, fix));
                    continue;
                }
            };
            let is_empty = has_tables && schemas.get(schema.as_str()).is_some_and(|schema| schema.tables == 0);
            if is_empty {
                self.tell(&schema, &history::half_provisioned(&applied));
                continue;
            }
            let (standing, drafts) = history::judge(&schema, &applied, self.doctor.migrations);
            drafts.iter().for_each(|draft| self.tell(&schema, draft));
            if standing == Standing::Nowhere {
                self.tell(&schema, &history::no_history());
            }
            patients.push(Patient { entry, applied, standing, build: None, rights: None, plan: None });
        }
        patients.sort_by(|one, other| one.entry.schema.cmp(&other.entry.schema));
        Ok(patients)
    }

    /// Whoever is ill by structure and has been migrated meanwhile is looked at again.
    pub(super) fn recheck(&mut self, patients: &mut [Patient]) -> Result<(), Error> {
        let ill: BTreeSet<&str> = {
            let by_structure = |finding: &&Finding| {
                DRIFT.contains(&finding.kind) || matches!(finding.kind, Kind::MisplacedHistory | Kind::HalfProvisioned)
            };
            self.report.findings.iter().filter(by_structure).map(|finding| finding.schema.as_str()).collect()
        };
        let before: BTreeMap<SchemaName, Vec<String>> = patients
            .iter()
            .filter(|patient| ill.contains(patient.entry.schema.as_str()))
            .map(|patient| (patient.entry.schema.clone(), patient.applied.clone()))
            .collect();
        let schemas: Vec<SchemaName> = before.keys().cloned().collect();
        let patience = self.doctor.statement_timeout;
        let (read, failed) = self.crew.share(&schemas, CHUNK, |conn, chunk: &[&SchemaName]| {
            quietly(conn, patience, |conn| {
                Ok(chunk.iter().map(|schema| (*schema).clone()).zip(history::read(conn, chunk)?).collect::<Vec<_>>())
            })
        })?;
        let failed: Vec<_> = failed.into_iter().map(|(schema, error)| (schema.clone(), error.chain())).collect();
        self.doubtful.extend(failed);
        for (schema, recorded) in read {
            if Recorded::Versions(before[&schema].clone()) != recorded {
                self.doubtful.insert(schema, "it is being migrated".into());
            }
        }
        Ok(())
    }
}
