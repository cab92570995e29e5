//! One examination, step by step.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use diesel::{PgConnection, RunQueryDsl, sql_query, sql_types::Text};

use super::{
    Doctor, Finding, Fix, Kind, NotCompared, Report, Severity,
    check::{Asked, TableChecks},
    crew::Crew,
    draft::Draft,
    drift::{self, Wanted},
    history::{self, Recorded, Standing},
    leaks,
    plan::{self, Planner, Surroundings},
    quiet::quietly,
    rights,
    rows::{self, Question},
    schemas::{self, Schemas},
    strays::{self, Claim, Owned},
    wanted::{References, by_majority, majority},
};
use crate::{
    Error, SchemaName,
    directory::{Listing, TenantEntry},
    migrate::{Connector, Set},
    pg::tables,
    structure::{Reader, Structure},
};

/// How many tenants one transaction reads: the histories of, the structure of, the rows of, and the builds.
const HISTORIES: usize = 100;
const FINGERPRINTS: usize = 1000;
const ROWS: usize = 25;
const BUILDS: usize = 100;

/// How long to wait for the locks of a scratch schema.
const PATIENCE: Duration = Duration::from_secs(5);

const DRIFT: &[Kind] = &[Kind::Missing, Kind::Changed, Kind::Extra, Kind::Renamed];
const RIGHTS: &[Kind] = &[Kind::Owner, Kind::Grant];
const ROW_KINDS: &[Kind] = &[
    Kind::Orphan,
    Kind::WrongOwner,
    Kind::Dangling,
    Kind::Nulls,
    Kind::SequenceBehind,
    Kind::Conflict,
    Kind::Copy,
    Kind::Stray,
];

/// A tenant under examination.
struct Patient {
    entry: TenantEntry,
    applied: Vec<String>,
    standing: Standing,
    /// Which of the builds it has.
    build: Option<usize>,
    rights: Option<usize>,
    /// Which of the plans its rows are asked by.
    plan: Option<usize>,
}

/// The schemas that are built alike.
struct Build {
    fingerprint: String,
    like: SchemaName,
}

/// What was found out about a build, for those of its schemas that stand at one version.
struct Diagnosis {
    drafts: Vec<Draft>,
    plan: usize,
}

pub(super) struct Visit<'v> {
    doctor: &'v Doctor<'v>,
    crew: Crew<'v>,
    references: References<'v>,
    report: Report,
    notes: BTreeMap<(String, String), BTreeSet<String>>,
    /// What could not be looked at, or has changed meanwhile.
    doubtful: BTreeMap<SchemaName, String>,
    around: Surroundings,
    plans: Vec<Vec<TableChecks>>,
}

impl<'v> Visit<'v> {
    pub(super) fn new(doctor: &'v Doctor<'v>, connect: &'v Connector<'v>) -> Result<Self, Error> {
        Ok(Self {
            doctor,
            crew: Crew { connect, jobs: doctor.jobs },
            references: References::new(doctor.migrations, connect, PATIENCE),
            report: Report::default(),
            notes: BTreeMap::new(),
            doubtful: BTreeMap::new(),
            around: Surroundings::default(),
            plans: Vec::new(),
        })
    }

    pub(super) fn run(mut self) -> Result<Report, Error> {
        let mut conn = (self.crew.connect)()?;
        let all = self.pass(&mut conn, None)?;
        if !self.doubtful.is_empty() {
            // Whoever was written to, renamed or dropped while it was looked at has another chance.
            let again = std::mem::take(&mut self.doubtful);
            let is_again = |finding: &Finding| again.keys().any(|schema| schema.as_str() == finding.schema);
            self.report.findings.retain(|finding| finding.kind == Kind::CaseTwin || !is_again(finding));
            if crate::pg::is_lost(&mut conn) {
                conn = (self.crew.connect)()?;
            }
            self.pass(&mut conn, Some(&again.into_keys().collect()))?;
        }
        for (schema, reason) in std::mem::take(&mut self.doubtful) {
            let fix = Fix::None("put right what was in the way, and look again".into());
            let draft = Draft::new(Kind::Unreadable, format!("could not be looked at: {reason}"), fix);
            self.report.findings.retain(|finding| finding.schema != schema.as_str());
            self.tell(&schema, &draft);
        }
        self.finish(&all)
    }

    /// Looks at all tenants, or at these again.
    fn pass(&mut self, conn: &mut PgConnection, again: Option<&BTreeSet<SchemaName>>) -> Result<Listing, Error> {
        let (listing, schemas, expected) = self.registry(conn, again)?;
        let whole = self.doctor.directory.is_whole() && again.is_none();
        let forbidden = |entry: &&TenantEntry| schemas.get(entry.schema.as_str()).is_some_and(|schema| !schema.usable);
        for tenant in listing.tenants.iter().filter(forbidden) {
            // One that is being dropped looks like that too.
            let says = "could not be looked at: the role may not use the schema";
            let fix = Fix::Command(format!("GRANT USAGE ON SCHEMA {} to the role", tenant.schema.quoted()));
            match again {
                Some(_) => self.tell(&tenant.schema, &Draft::new(Kind::Unreadable, says, fix)),
                None => drop(self.doubtful.insert(tenant.schema.clone(), says.into())),
            }
        }
        let mut told = schemas::findings(&listing, &schemas);
        told.retain(|finding| again.is_none() || finding.kind != Kind::CaseTwin);
        self.report.findings.extend(told);
        if whole {
            self.strangers(conn, &listing, &schemas, expected.len())?;
            self.report.tenants = listing.tenants.len() + listing.refused.len();
        } else if again.is_none() {
            self.report.tenants = listing.tenants.len() + listing.refused.len();
        }
        let usable = |entry: &&TenantEntry| schemas.get(entry.schema.as_str()).is_some_and(|schema| schema.usable);
        let entries: Vec<TenantEntry> = listing.tenants.iter().filter(usable).cloned().collect();
        let started = std::time::Instant::now();
        let passed =
            |what: &str| tracing::debug!(elapsed_ms = started.elapsed().as_millis() as u64, "Looked at {what}");
        let mut patients = self.histories(entries, &schemas, !expected.is_empty())?;
        passed("histories");
        let builds = self.fingerprints(&mut patients)?;
        passed("structure");
        self.surroundings(conn, &patients, &builds, &expected)?;
        self.diagnose(&mut patients, &builds, &schemas, &listing)?;
        passed("builds");
        self.recheck(&mut patients)?;
        if again.is_none() {
            self.outsiders(conn, &listing, &schemas, whole)?;
        }
        self.rights(&patients)?;
        passed("rights");
        self.ask_rows(&patients, &listing)?;
        passed("rows");
        self.strays(conn, &listing)?;
        Ok(listing)
    }

    /// The tenants and the schemas of one moment, and the tables that a tenant should have.
    fn registry(
        &mut self,
        conn: &mut PgConnection,
        again: Option<&BTreeSet<SchemaName>>,
    ) -> Result<(Listing, Schemas, Vec<String>), Error> {
        let any = SchemaName::for_tenant(uuid::Uuid::nil());
        let made = match self.references.of(self.references.len(), &any) {
            Ok(built) => tables_of(&built.wanted.structure),
            Err(_) => Vec::new(),
        };
        quietly(conn, self.doctor.statement_timeout, |conn| {
            let mut listing = self.doctor.directory.list(conn)?;
            let names: Vec<&str> = listing.tenants.iter().map(|tenant| tenant.schema.as_str()).collect();
            let expected = if made.is_empty() { schemas::usual_tables(conn, &names)? } else { made };
            let schemas = schemas::read(conn, &expected)?;
            if let Some(again) = again {
                listing.tenants.retain(|tenant| again.contains(&tenant.schema));
                listing.refused.clear();
            }
            Ok((listing, schemas, expected))
        })
    }

    /// Schemas that look like a tenant's, of which those with a history alone must have one of the tenants' versions.
    fn strangers(
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

    fn histories(
        &mut self,
        entries: Vec<TenantEntry>,
        schemas: &Schemas,
        has_tables: bool,
    ) -> Result<Vec<Patient>, Error> {
        let patience = self.doctor.statement_timeout;
        let (read, failed) = self.crew.share(&entries, HISTORIES, |conn, chunk: &[&TenantEntry]| {
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
                Recorded::Forbidden => {
                    let says = "could not be looked at: the role may not read its history";
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

    /// Sorts the patients by how they are built.
    fn fingerprints(&mut self, patients: &mut [Patient]) -> Result<Vec<Build>, Error> {
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
        if self.doctor.wants(RIGHTS) {
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

    fn read_fingerprints(
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

    /// What all the questions about rows need to know.
    fn surroundings(
        &mut self,
        conn: &mut PgConnection,
        patients: &[Patient],
        builds: &[Build],
        expected: &[String],
    ) -> Result<(), Error> {
        if !self.doctor.wants(ROW_KINDS) {
            return Ok(());
        }
        let common = majority(patients.iter().filter_map(|patient| patient.build));
        let usual = common.map(|build| builds[build].like.clone());
        let tenants: BTreeSet<String> = expected.iter().cloned().collect();
        self.around = quietly(conn, self.doctor.statement_timeout, |conn| {
            let public = tables::read(conn, &SchemaName::public())?;
            let (readable, filled) = strays::look(conn, &public, &tenants)?;
            let usual = usual.map(|schema| tables::read(conn, &schema)).transpose()?.unwrap_or_default();
            Ok(Surroundings { public, readable, filled, usual })
        })?;
        for shared in &self.doctor.rules.shared {
            if self.around.public.tables.contains_key(&shared.parent) && !self.around.readable.contains(&shared.parent)
            {
                let what = format!("references to public.{}", shared.parent);
                self.note(&what, "the role may not read it", patients.iter().map(|one| &one.entry.schema));
            }
        }
        Ok(())
    }

    /// Looks at one schema of each build closely, and tells what was found of all of them.
    fn diagnose(
        &mut self,
        patients: &mut [Patient],
        builds: &[Build],
        schemas: &Schemas,
        listing: &Listing,
    ) -> Result<(), Error> {
        let mut groups = BTreeMap::<(usize, Standing), Vec<usize>>::new();
        for (at, patient) in patients.iter().enumerate() {
            let Some(build) = patient.build else { continue };
            groups.entry((build, patient.standing)).or_default().push(at);
        }
        let mut by_majority = BTreeMap::new();
        for standing in groups.keys().map(|(_, standing)| *standing).collect::<BTreeSet<_>>() {
            let here = patients.iter().filter(|patient| patient.standing == standing);
            by_majority.insert(standing, majority(here.filter_map(|patient| patient.build)));
        }
        let names: BTreeSet<String> =
            schemas.keys().cloned().chain(listing.tenants.iter().map(|tenant| tenant.schema.to_string())).collect();
        let mut seen = HashMap::<Vec<TableChecks>, usize>::new();
        let order: Vec<usize> = (0..builds.len()).collect();
        for chunk in order.chunks(BUILDS) {
            let likes: Vec<SchemaName> = chunk.iter().map(|build| builds[*build].like.clone()).collect();
            let known = self.look_closely(&likes)?;
            for ((build, standing), members) in groups.iter().filter(|((build, _), _)| chunk.contains(build)) {
                let like = &builds[*build].like;
                let Some((structure, tables, leaks)) = known.get(like) else {
                    for at in members {
                        let schema = patients[*at].entry.schema.clone();
                        self.doubtful.entry(schema).or_insert("it was changed meanwhile".into());
                    }
                    continue;
                };
                let names_of: Vec<&SchemaName> = members.iter().map(|at| &patients[*at].entry.schema).collect();
                let most = by_majority[standing].map(|at| &builds[at].like);
                let wanted = self.wanted(*standing, most, &names_of)?;
                let leaks: Vec<&leaks::Leak> = leaks.iter().collect();
                let mut drafts = drift::drafts(structure, &leaks, wanted.as_ref(), &names);
                if let (Standing::At(upto), true) = (standing, is_drifted(&drafts))
                    && let Some(other) = self.version_of(*upto, &builds[*build].fingerprint, like)
                {
                    let recorded = self.references.version(*upto).unwrap_or_default();
                    drafts = vec![history::disagreeing(recorded, other)];
                }
                let planner = Planner {
                    rules: self.doctor.rules,
                    kinds: &self.doctor.kinds,
                    around: &self.around,
                    trust_foreign_keys: self.doctor.trust_foreign_keys,
                };
                let forbidden = wanted
                    .as_ref()
                    .map(|wanted| plan::forbidden_nulls(&wanted.structure, structure))
                    .unwrap_or_default();
                let plan = planner.plan(tables, &forbidden);
                let plan = *seen.entry(plan).or_insert_with_key(|plan| {
                    self.plans.push(plan.clone());
                    self.plans.len() - 1
                });
                self.apply(patients, members, &Diagnosis { drafts, plan });
            }
        }
        Ok(())
    }

    /// Tells a diagnosis of all that it is true of.
    fn apply(&mut self, patients: &mut [Patient], members: &[usize], diagnosis: &Diagnosis) {
        let is_misplaced = diagnosis.drafts.iter().any(|draft| draft.finding.kind == Kind::MisplacedHistory);
        for at in members {
            let patient = &mut patients[*at];
            let schema = patient.entry.schema.clone();
            patient.plan = Some(diagnosis.plan);
            if is_misplaced {
                // What is pending is no matter while that is not cleared up.
                self.report
                    .findings
                    .retain(|finding| finding.kind != Kind::Behind || finding.schema != schema.as_str());
            }
            for draft in &diagnosis.drafts {
                let draft = match draft.finding.kind {
                    Kind::HalfProvisioned => history::half_provisioned(&patient.applied),
                    _ => draft.clone(),
                };
                self.tell(&schema, &draft);
            }
        }
    }

    /// The structure, the tables and the leaks of these schemas.
    #[allow(clippy::type_complexity)]
    fn look_closely(
        &mut self,
        likes: &[SchemaName],
    ) -> Result<HashMap<SchemaName, (Structure, tables::Tables, Vec<leaks::Leak>)>, Error> {
        let patience = self.doctor.statement_timeout;
        let (read, failed) = self.crew.share(likes, BUILDS, |conn, chunk: &[&SchemaName]| {
            let chunk: Vec<SchemaName> = chunk.iter().map(|schema| (*schema).clone()).collect();
            let names: Vec<&str> = chunk.iter().map(SchemaName::as_str).collect();
            quietly(conn, patience, |conn| {
                let structures = Reader::new().read(conn, &chunk)?;
                let mut tables = tables::read_many(conn, &names)?;
                let leaks = leaks::read(conn, &names)?;
                let with_rest = |(schema, structure): (SchemaName, Structure)| {
                    let tables = tables.remove(schema.as_str()).unwrap_or_default();
                    let leaks = leaks.iter().filter(|leak| leak.schema == schema.as_str()).cloned().collect();
                    (schema, (structure, tables, leaks))
                };
                Ok(structures.into_iter().map(with_rest).collect())
            })
        })?;
        let failed: Vec<_> = failed.into_iter().map(|(schema, error)| (schema.clone(), error.chain())).collect();
        self.doubtful.extend(failed);
        Ok(read.into_iter().collect())
    }

    /// What a schema of this standing is compared with. Where that is not what the migrations make, it is noted.
    fn wanted(
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
    fn version_of(&mut self, upto: usize, fingerprint: &str, like: &SchemaName) -> Option<&'v str> {
        let near = [upto + 1, upto.saturating_sub(1), self.references.len()];
        let fits = |references: &mut References<'v>, other: usize| {
            other != upto && other > 0 && references.of(other, like).is_ok_and(|built| built.fingerprint == fingerprint)
        };
        let found = near.into_iter().find(|other| fits(&mut self.references, *other))?;
        self.references.version(found)
    }

    /// Whoever is ill by structure and has been migrated meanwhile is looked at again.
    fn recheck(&mut self, patients: &mut [Patient]) -> Result<(), Error> {
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
        let (read, failed) = self.crew.share(&schemas, HISTORIES, |conn, chunk: &[&SchemaName]| {
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

    /// `public`, what reaches into the tenants from elsewhere, and extensions in a tenant's schema.
    fn outsiders(
        &mut self,
        conn: &mut PgConnection,
        listing: &Listing,
        schemas: &Schemas,
        whole: bool,
    ) -> Result<(), Error> {
        let tenants: BTreeSet<&str> = listing.tenants.iter().map(|tenant| tenant.schema.as_str()).collect();
        let others: Vec<&str> = schemas.keys().map(String::as_str).filter(|name| !tenants.contains(name)).collect();
        let (leaks, extensions) =
            quietly(conn, self.doctor.statement_timeout, |conn| Ok((leaks::read(conn, &others)?, extensions(conn)?)))?;
        let into = leaks.iter().filter(|leak| tenants.contains(leak.target_schema.as_str()));
        self.report.findings.extend(into.map(leaks::Leak::inwards));
        for Extension { name, schema } in extensions.into_iter().filter(|found| tenants.contains(found.schema.as_str()))
        {
            let says = format!("extension {name} is installed in it, and would go with it");
            let fix = Fix::None("ALTER EXTENSION … SET SCHEMA to one that is no tenant's".into());
            let draft = Draft::new(Kind::ExtensionInTenant, says, fix).examples(1, vec![name]);
            self.report.findings.push(draft.of(&schema));
        }
        if whole && schemas.contains_key("public") {
            self.public(conn, &tenants)?;
        }
        Ok(())
    }

    fn public(&mut self, conn: &mut PgConnection, tenants: &BTreeSet<&str>) -> Result<(), Error> {
        let public = SchemaName::public();
        let patience = self.doctor.statement_timeout;
        let recorded = quietly(conn, patience, |conn| Ok(history::read(conn, &[&public])?))?;
        let [Recorded::Versions(applied)] = recorded.as_slice() else {
            self.note("public", "the role may not read its history", [&public].into_iter());
            return Ok(());
        };
        let (standing, drafts) = history::judge(&public, applied, self.doctor.migrations);
        drafts.iter().for_each(|draft| self.tell(&public, draft));
        let all = self.doctor.migrations.expected(&public).count();
        let wanted = match standing {
            Standing::At(upto) if upto == all => self.references.of_public(),
            Standing::Nowhere => return Ok(()),
            _ => Err("not all versions of this program, and no others, are recorded in it".into()),
        };
        let wanted = match wanted {
            Ok(wanted) => wanted,
            Err(reason) => {
                self.note("the structure of public", &reason, [&public].into_iter());
                return Ok(());
            }
        };
        let known = self.look_closely(std::slice::from_ref(&public))?;
        let Some((structure, ..)) = known.get(&public) else { return Ok(()) };
        let names = tenants.iter().map(ToString::to_string).collect();
        let ours: BTreeSet<String> = tables_of(&wanted.structure).into_iter().collect();
        // What else is there may be another application's, or come with an extension.
        let is_ours = |draft: &Draft| {
            let finding = &draft.finding;
            let on_ours = finding.table.as_ref().is_some_and(|table| ours.contains(table));
            match finding.kind {
                Kind::TypeInTenant => false,
                Kind::Extra => on_ours && finding.severity != Severity::Notice,
                Kind::InvalidIndex | Kind::NotValid => on_ours,
                _ => true,
            }
        };
        let drafts = drift::drafts(structure, &[], Some(&wanted), &names);
        drafts.iter().filter(|draft| is_ours(draft)).for_each(|draft| self.tell(&public, draft));
        Ok(())
    }

    fn rights(&mut self, patients: &[Patient]) -> Result<(), Error> {
        let mut groups = BTreeMap::<usize, Vec<&SchemaName>>::new();
        for patient in patients {
            if let Some(rights) = patient.rights {
                groups.entry(rights).or_default().push(&patient.entry.schema);
            }
        }
        if groups.len() < 2 {
            return Ok(());
        }
        let likes: Vec<SchemaName> = groups.values().map(|members| members[0].clone()).collect();
        let patience = self.doctor.statement_timeout;
        let (mut read, _) = self.crew.share(&likes, BUILDS, |conn, chunk: &[&SchemaName]| {
            let chunk: Vec<SchemaName> = chunk.iter().map(|schema| (*schema).clone()).collect();
            quietly(conn, patience, |conn| Ok(Reader::new().only_rights().read(conn, &chunk)?.into_values().collect()))
        })?;
        read.sort_by(|one: &Structure, other| one.schema.cmp(&other.schema));
        let members = |like: &SchemaName| groups.values().find(|members| members[0] == like);
        let found: Vec<(Structure, usize)> = read
            .into_iter()
            .map(|structure| {
                let count = members(&structure.schema).map_or(0, Vec::len);
                (structure, count)
            })
            .collect();
        for ((structure, _), drafts) in found.iter().zip(rights::compare(&found)) {
            for schema in members(&structure.schema).into_iter().flatten() {
                drafts.iter().for_each(|draft| self.tell(schema, draft));
            }
        }
        Ok(())
    }

    fn ask_rows(&mut self, patients: &[Patient], listing: &Listing) -> Result<(), Error> {
        if !self.doctor.wants(ROW_KINDS) {
            return Ok(());
        }
        let plans = std::mem::take(&mut self.plans);
        let question = |patient: &'_ Patient| -> Option<(SchemaName, Option<String>, usize)> {
            let plan = patient.plan.filter(|plan| !plans[*plan].is_empty())?;
            let id = patient.entry.id.map(|id| id.to_string());
            (!self.doubtful.contains_key(&patient.entry.schema)).then(|| (patient.entry.schema.clone(), id, plan))
        };
        let asked: Vec<_> = patients.iter().filter_map(question).collect();
        let questions: Vec<Question<'_>> = asked
            .iter()
            .map(|(schema, id, plan)| Question { asked: Asked { schema, id: id.clone() }, tables: &plans[*plan] })
            .collect();
        let names: HashMap<String, &SchemaName> =
            listing.tenants.iter().filter_map(|tenant| Some((tenant.id?.to_string(), &tenant.schema))).collect();
        let owner = |id: &str| match names.get(id) {
            Some(schema) => format!("tenant {schema}"),
            None => format!("tenant {id}, which is not registered,"),
        };
        let patience = self.doctor.statement_timeout;
        // Each table comes with its indexes, and each of those takes a lock.
        let widest = plans.iter().map(Vec::len).max().unwrap_or(1).max(1);
        let most = (ROWS * 3 / widest).clamp(1, ROWS);
        let (answers, failed) = self.crew.share(&questions, most, |conn, chunk: &[&Question<'_>]| {
            quietly(conn, patience, |conn| {
                let mut told = Vec::new();
                for (question, answers) in chunk.iter().zip(rows::ask(conn, chunk)?) {
                    let schema = question.asked.schema;
                    let drafts: Vec<Draft> = answers
                        .ill
                        .into_iter()
                        .map(|(table, check, answer)| {
                            let rows = answer.rows.unsigned_abs();
                            let draft = check.draft(table, rows, &answer.more, &owner, schema);
                            draft.examples(rows, answer.examples)
                        })
                        .collect();
                    if !drafts.is_empty() || answers.unread_sequences {
                        told.push((schema.clone(), drafts, answers.unread_sequences));
                    }
                }
                Ok(told)
            })
        })?;
        let failed: Vec<_> =
            failed.into_iter().map(|(question, error)| (question.asked.schema.clone(), error.chain())).collect();
        self.doubtful.extend(failed);
        for (schema, drafts, unread_sequences) in answers {
            drafts.iter().for_each(|draft| self.tell(&schema, draft));
            if unread_sequences {
                self.note("sequences", "the role may not SELECT from them", [&schema].into_iter());
            }
            self.clear_null_differences(&schema);
        }
        drop(questions);
        self.plans = plans;
        Ok(())
    }

    /// Where there are nulls, that the column allows them is the lesser half of the story.
    fn clear_null_differences(&mut self, schema: &SchemaName) {
        let findings = &mut self.report.findings;
        let nulls: Vec<String> = findings
            .iter()
            .filter(|finding| finding.kind == Kind::Nulls && finding.schema == schema.as_str())
            .flat_map(|finding| {
                finding.columns.iter().map(|column| format!("{}.{column}", finding.table.clone().unwrap_or_default()))
            })
            .collect();
        let is_told = |finding: &Finding| {
            finding.kind == Kind::Changed
                && finding.schema == schema.as_str()
                && nulls.iter().any(|column| {
                    finding.says.trim_end_matches(" (by the majority)") == format!("column {column} lacks NOT NULL")
                })
        };
        findings.retain(|finding| !is_told(finding));
    }

    /// Rows of `public` that belong to a tenant, which does not have them.
    fn strays(&mut self, conn: &mut PgConnection, listing: &Listing) -> Result<(), Error> {
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
        let owners = quietly(conn, patience, |conn| Ok(owned.owners(conn, &all)?))?;
        let mut tables_of = BTreeMap::<(SchemaName, String), Vec<String>>::new();
        for (table, id) in owners {
            let Some(schema) = ids.get(&id) else { continue };
            if !self.doubtful.contains_key(schema) {
                tables_of.entry(((*schema).clone(), id)).or_default().push(table);
            }
        }
        let claimants: Vec<((SchemaName, String), Vec<String>)> = tables_of.into_iter().collect();
        let around = &self.around;
        let (answers, failed) =
            self.crew.share(&claimants, ROWS, |conn, chunk: &[&((SchemaName, String), Vec<String>)]| {
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
                    let answers = owned.missing(conn, around, &each)?;
                    let told = |answer: rows::Answer| {
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
            let says = format!(
                "{} of public.{table} belong{} to it, and it does not have {}",
                super::draft::plural(rows, "row"),
                if rows == 1 { "s" } else { "" },
                if rows == 1 { "it" } else { "them" },
            );
            let fix = Fix::None("copy what belongs to it into its schema, parents first".into());
            self.tell(&schema, &Draft::new(Kind::Stray, says, fix).table(&table).examples(rows, answer.examples));
        }
        Ok(())
    }

    fn tell(&mut self, schema: &SchemaName, draft: &Draft) {
        self.report.findings.push(draft.of(schema.as_str()));
    }

    fn note<'s>(&mut self, what: &str, reason: &str, schemas: impl Iterator<Item = &'s SchemaName>) {
        self.notes.entry((what.into(), reason.into())).or_default().extend(schemas.map(ToString::to_string));
    }

    /// The report, in order, with the kinds that were asked for.
    fn finish(mut self, listing: &Listing) -> Result<Report, Error> {
        let place: HashMap<&str, usize> =
            listing.tenants.iter().enumerate().map(|(at, tenant)| (tenant.schema.as_str(), at + 1)).collect();
        let place = |finding: &Finding| match finding.schema.as_str() {
            "public" => 0,
            schema => place.get(schema).copied().unwrap_or(usize::MAX),
        };
        let kinds = &self.doctor.kinds;
        self.report.findings.retain(|finding| kinds.contains(&finding.kind));
        self.report.findings.sort_by(|one, other| {
            (one.kind, place(one), &one.schema, &one.table, &one.says).cmp(&(
                other.kind,
                place(other),
                &other.schema,
                &other.table,
                &other.says,
            ))
        });
        let notes = self.notes.into_iter().filter(|(_, schemas)| !schemas.is_empty());
        let notes = notes.map(|((what, reason), schemas)| NotCompared { what, schemas: schemas.len(), reason });
        self.report.not_compared = notes.collect();
        Ok(self.report)
    }
}

fn is_drifted(drafts: &[Draft]) -> bool {
    drafts.iter().any(|draft| DRIFT.contains(&draft.finding.kind))
}

fn tables_of(structure: &Structure) -> Vec<String> {
    let tables = structure.objects.iter().filter(|object| object.kind == crate::structure::Kind::Table);
    tables.map(|table| table.name.clone()).collect()
}

#[derive(diesel::QueryableByName)]
struct Extension {
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Text)]
    schema: String,
}

fn extensions(conn: &mut PgConnection) -> diesel::QueryResult<Vec<Extension>> {
    sql_query(
        "SELECT e.extname::text AS name, n.nspname::text AS schema FROM pg_catalog.pg_extension e \
         JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace ORDER BY 1",
    )
    .load(conn)
}
