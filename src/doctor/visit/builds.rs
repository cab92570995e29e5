//! How the tenants are built, and what that is compared with.

use std::collections::HashMap;

use super::{Build, Patient, Visit};
use crate::{
    Error, SchemaName,
    doctor::{
        Kind,
        bodies::{self, Body},
        drift::Wanted,
        history::Standing,
        leaks::{self, Leak},
        quiet::quietly,
        wanted::{References, by_majority},
    },
    pg::tables::{self, Tables},
    structure::{Reader, Structure},
};

/// How many schemas one transaction reads: only their fingerprints, or everything.
const FINGERPRINTS: usize = 1000;
pub(super) const CLOSELY: usize = 100;

/// How a schema is built: what it says, its tables, what it is bound to elsewhere, and what its functions name.
pub(super) type Closely = (Structure, Tables, Vec<Leak>, Vec<Body>);

impl<'v> Visit<'v> {
    /// Sorts the patients by how they are built.
    pub(super) fn fingerprints(&mut self, patients: &mut [Patient]) -> Result<Vec<Build>, Error> {
        let schemas: Vec<SchemaName> = patients.iter().map(|patient| patient.entry.schema.clone()).collect();
        let structure = self.read_fingerprints(&schemas, Reader::new())?;
        let (mut builds, mut known) = (Vec::<Build>::new(), HashMap::<String, usize>::new());
        for patient in patients.iter_mut() {
            let schema = &patient.entry.schema;
            let Some(fingerprint) = structure.get(schema) else {
                self.doubtful.entry(schema.clone()).or_insert("it was dropped meanwhile".into());
                continue;
            };
            patient.build = Some(*known.entry(fingerprint.clone()).or_insert_with(|| {
                builds.push(Build { fingerprint: fingerprint.clone(), like: schema.clone() });
                builds.len() - 1
            }));
        }
        if self.doctor.wants(&[Kind::Owner, Kind::Grant]) {
            let found = self.read_fingerprints(&schemas, Reader::new().only_rights())?;
            let mut known = HashMap::<String, usize>::new();
            for patient in patients.iter_mut() {
                let fingerprint = found.get(&patient.entry.schema).cloned();
                let next = known.len();
                patient.rights = fingerprint.map(|fingerprint| *known.entry(fingerprint).or_insert(next));
            }
        }
        Ok(builds)
    }

    pub(super) fn read_fingerprints(
        &mut self,
        schemas: &[SchemaName],
        reader: Reader,
    ) -> Result<HashMap<SchemaName, String>, Error> {
        let patience = self.doctor.statement_timeout;
        let (read, failed) = self.crew.share(schemas, FINGERPRINTS, |conn, chunk: &[&SchemaName]| {
            let chunk: Vec<SchemaName> = chunk.iter().map(|schema| (*schema).clone()).collect();
            quietly(conn, patience, |conn| Ok(reader.fingerprints(conn, &chunk)?.into_iter().collect()))
        })?;
        let failed: Vec<_> = failed.into_iter().map(|(schema, error)| (schema.clone(), error.chain())).collect();
        self.doubtful.extend(failed);
        Ok(read.into_iter().collect())
    }

    /// The structure, the tables and the leaks of these schemas.
    pub(super) fn look_closely(&mut self, likes: &[SchemaName]) -> Result<HashMap<SchemaName, Closely>, Error> {
        let patience = self.doctor.statement_timeout;
        let (read, failed) = self.crew.share(likes, CLOSELY, |conn, chunk: &[&SchemaName]| {
            let chunk: Vec<SchemaName> = chunk.iter().map(|schema| (*schema).clone()).collect();
            let names: Vec<&str> = chunk.iter().map(SchemaName::as_str).collect();
            quietly(conn, patience, |conn| {
                let structures = Reader::new().read(conn, &chunk)?;
                let mut tables = tables::read_many(conn, &names)?;
                let mut leaks = leaks::read(conn, &names)?;
                leaks.retain(|leak| !leak.is_of_function());
                let bodies = bodies::read(conn, &structures.values().collect::<Vec<_>>())?;
                let with_rest = |((schema, structure), bodies): ((SchemaName, Structure), Vec<Body>)| {
                    let tables = tables.remove(schema.as_str()).unwrap_or_default();
                    let leaks = leaks.iter().filter(|leak| leak.schema == schema.as_str()).cloned().collect();
                    (schema, (structure, tables, leaks, bodies))
                };
                Ok(structures.into_iter().zip(bodies).map(with_rest).collect())
            })
        })?;
        let failed: Vec<_> = failed.into_iter().map(|(schema, error)| (schema.clone(), error.chain())).collect();
        self.doubtful.extend(failed);
        Ok(read.into_iter().collect())
    }

    /// What a schema of this standing is compared with. Where that is not what the migrations make, it is noted.
    pub(super) fn wanted(
        &mut self,
        standing: Standing,
        most: Option<&SchemaName>,
        members: &[&SchemaName],
    ) -> Result<Option<Wanted>, Error> {
        let upto = match (standing, members) {
            (Standing::At(upto), [_, ..]) => upto,
            (Standing::Odd, _) => {
                self.note("the structure", "the history is not that of any version", members.iter().copied());
                return Ok(None);
            }
            _ => return Ok(None),
        };
        let reason = match self.references.of(upto, members[0]) {
            Ok(built) => return Ok(Some(built.wanted.clone())),
            Err(reason) => reason,
        };
        let what = format!("the structure at {}", self.references.version(upto).unwrap_or_default());
        let Some(most) = most else {
            let reason = format!("{reason}; and no majority of the tenants is built alike");
            self.note(&what, &reason, members.iter().copied());
            return Ok(None);
        };
        let found = self.look_closely(std::slice::from_ref(most))?;
        let reason = format!("{reason}; compared with the majority of the tenants instead");
        self.note(&what, &reason, members.iter().copied());
        Ok(found.into_values().next().map(|(structure, ..)| by_majority(structure)))
    }

    /// The version whose structure this is, if it is another than the one that was recorded.
    pub(super) fn version_of(&mut self, upto: usize, fingerprint: &str, like: &SchemaName) -> Option<&'v str> {
        let near = [upto + 1, upto.saturating_sub(1), self.references.len()];
        let fits = |references: &mut References<'v>, other: usize| {
            other != upto && other > 0 && references.of(other, like).is_ok_and(|built| built.fingerprint == fingerprint)
        };
        let found = near.into_iter().find(|other| fits(&mut self.references, *other))?;
        self.references.version(found)
    }
}
