//! What is wrong with each way of being built, told of all that are built so.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use diesel::PgConnection;

use super::{Build, DRIFT, Diagnosis, Patient, Visit, builds::CLOSELY};
use crate::{
    Error, SchemaName,
    doctor::{
        Kind,
        bodies::Body,
        check::TableChecks,
        draft::Draft,
        drift, history,
        history::Standing,
        look,
        plan::{self, Planner, Surroundings},
        quiet::quietly,
        wanted::majority,
    },
    pg::tables,
};

impl<'v> Visit<'v> {
    /// What all the questions about rows need to know.
    pub(super) fn surroundings(
        &mut self,
        conn: &mut PgConnection,
        patients: &[Patient],
        builds: &[Build],
        expected: &[String],
    ) -> Result<(), Error> {
        if !self.doctor.wants_rows() {
            return Ok(());
        }
        let common = majority(patients.iter().filter_map(|patient| patient.build));
        let usual = common.map(|build| builds[build].like.clone());
        let tenants: BTreeSet<String> = expected.iter().cloned().collect();
        let parents = self.doctor.rules.shared.iter().map(|shared| shared.parent.clone());
        let asked: BTreeSet<String> = tenants.iter().cloned().chain(parents).collect();
        let untrusted = self.untrusted.get("public").map_or(&[][..], Vec::as_slice);
        let (around, mut failed) = quietly(conn, self.doctor.statement_timeout, |conn| {
            let mut public = tables::read(conn, &SchemaName::public())?;
            public.tables.retain(|name, _| !untrusted.iter().any(|table| table.table == *name));
            let (readable, mut filled, failed) = look::look_patiently(conn, &public, &asked)?;
            filled.retain(|name| tenants.contains(name));
            let usual = usual.map(|schema| tables::read(conn, &schema)).transpose()?.unwrap_or_default();
            Ok((Surroundings { public, readable, filled, usual }, failed))
        })?;
        failed.extend(untrusted.iter().map(|table| (table.table.clone(), table.error().to_string())));
        self.around = around;
        let public = SchemaName::public();
        let is_forbidden = |name: &&String| {
            let around = &self.around;
            around.public.tables.contains_key(*name) && !around.readable.contains(*name)
        };
        let forbidden = asked.iter().filter(is_forbidden).map(|name| (name.clone(), "the role may not read it".into()));
        let forbidden: BTreeMap<String, String> = forbidden.chain(failed).collect();
        for (name, reason) in forbidden.iter().filter(|(name, _)| tenants.contains(*name)) {
            self.note(&format!("rows of public.{name}"), reason, [&public].into_iter());
        }
        for shared in &self.doctor.rules.shared {
            if self.around.public.tables.contains_key(&shared.parent) && !self.around.readable.contains(&shared.parent)
            {
                let what = format!("references to public.{}", shared.parent);
                let reason = forbidden.get(&shared.parent).map_or("the role may not read it", String::as_str);
                self.note(&what, reason, patients.iter().map(|one| &one.entry.schema));
            }
        }
        Ok(())
    }

    /// Looks at one schema of each build closely, and tells what was found of all of them.
    pub(super) fn diagnose(&mut self, patients: &mut [Patient], builds: &[Build]) -> Result<(), Error> {
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
        let mut seen = HashMap::<Vec<TableChecks>, usize>::new();
        let order: Vec<usize> = (0..builds.len()).collect();
        for chunk in order.chunks(CLOSELY) {
            let likes: Vec<SchemaName> = chunk.iter().map(|build| builds[*build].like.clone()).collect();
            let known = self.look_closely(&likes)?;
            for ((build, standing), members) in groups.iter().filter(|((build, _), _)| chunk.contains(build)) {
                let like = &builds[*build].like;
                let Some((structure, tables, leaks, bodies)) = known.get(like) else {
                    for at in members {
                        let schema = patients[*at].entry.schema.clone();
                        self.doubtful.entry(schema).or_insert("it was changed meanwhile".into());
                    }
                    continue;
                };
                let names_of: Vec<&SchemaName> = members.iter().map(|at| &patients[*at].entry.schema).collect();
                let most = by_majority[standing].map(|at| &builds[at].like);
                let wanted = self.wanted(*standing, most, &names_of)?;
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
                for members in by_bodies(patients, members, bodies) {
                    let own = patients[members[0]].entry.schema.as_str();
                    let mut drafts = drift::drafts(structure, leaks, bodies, wanted.as_ref(), own);
                    if let (Standing::At(upto), true) = (standing, is_drifted(&drafts))
                        && let Some(other) = self.version_of(*upto, &builds[*build].fingerprint, like)
                    {
                        let recorded = self.references.version(*upto).unwrap_or_default();
                        drafts = vec![history::disagreeing(recorded, other)];
                    }
                    self.apply(patients, &members, &Diagnosis { drafts, plan });
                }
            }
        }
        Ok(())
    }

    /// Tells a diagnosis of all that it is true of.
    pub(super) fn apply(&mut self, patients: &mut [Patient], members: &[usize], diagnosis: &Diagnosis) {
        let is_misplaced = diagnosis.drafts.iter().any(|draft| draft.finding.kind == Kind::MisplacedHistory);
        for at in members {
            let patient = &mut patients[*at];
            let schema = patient.entry.schema.clone();
            patient.plan = Some(diagnosis.plan);
            if is_misplaced {
                // What is pending is no matter while that is not cleared up.
                self.unclear.insert(schema.to_string());
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
}

fn is_drifted(drafts: &[Draft]) -> bool {
    drafts.iter().any(|draft| DRIFT.contains(&draft.finding.kind))
}

/// The members, apart by what a function names that they all have: for its own schema it is no other one.
fn by_bodies(patients: &[Patient], members: &[usize], bodies: &[Body]) -> Vec<Vec<usize>> {
    let named: BTreeSet<&str> =
        bodies.iter().flat_map(|body| &body.targets).map(|target| target.schema.as_str()).collect();
    let is_named = |at: &usize| named.contains(patients[*at].entry.schema.as_str());
    let (own, others): (Vec<usize>, Vec<usize>) = members.iter().partition(|at| is_named(at));
    let apart = own.into_iter().map(|at| vec![at]);
    apart.chain([others]).filter(|members| !members.is_empty()).collect()
}
