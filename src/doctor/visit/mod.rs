//! One examination, step by step.

mod builds;
mod diagnose;
mod outsiders;
mod registry;
mod rights;
mod rows;
mod strays;
mod unclaimed;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::{Duration, Instant},
};

use diesel::PgConnection;

use super::{
    Doctor, Finding, Fix, Kind, NotCompared, Report, check::TableChecks, crew::Crew, draft::Draft, drift,
    history::Standing, plan::Surroundings, schemas, wanted::References,
};
use crate::{
    Error, SchemaName,
    directory::{Listing, TenantEntry},
    migrate::Connector,
    pg::{self, pooler, untrusted::Untrusted},
    structure::{self, Structure},
};

/// How long to wait for the locks of a scratch schema.
const PATIENCE: Duration = Duration::from_secs(5);

/// What comparing structures tells.
const DRIFT: &[Kind] = &[Kind::Missing, Kind::Changed, Kind::Extra, Kind::Renamed];

/// What is told of all tenants beside each other, and not again of a few.
const KEPT: &[Kind] = &[Kind::CaseTwin, Kind::Owner, Kind::Grant];

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
    /// The tables whose reading would run another role's code, by their schema's name.
    untrusted: BTreeMap<String, Vec<Untrusted>>,
    around: Surroundings,
    plans: Vec<Vec<TableChecks>>,
    /// Every tenant's schema by the tenant's id, also of those that are not looked at.
    names: HashMap<String, SchemaName>,
    /// Whether these are all the ids that a tenant has.
    named_all: bool,
    /// The schemas of which nobody knows at which version they are.
    unclear: BTreeSet<String>,
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
            untrusted: BTreeMap::new(),
            around: Surroundings::default(),
            plans: Vec::new(),
            names: HashMap::new(),
            named_all: false,
            unclear: BTreeSet::new(),
        })
    }

    pub(super) fn run(mut self) -> Result<Report, Error> {
        let (mut conn, _) = pooler::pair(self.crew.connect)?;
        let all = self.pass(&mut conn, None)?;
        if !self.doubtful.is_empty() {
            // Whoever was written to, renamed or dropped while it was looked at has another chance.
            let again = std::mem::take(&mut self.doubtful);
            let names: BTreeSet<&str> = again.keys().map(SchemaName::as_str).collect();
            let is_again = |finding: &Finding| names.contains(finding.schema.as_str());
            self.report.findings.retain(|finding| KEPT.contains(&finding.kind) || !is_again(finding));
            if pg::is_lost(&mut conn) {
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
        }
        if again.is_none() {
            self.report.tenants = listing.tenants.len() + listing.refused.len();
        }
        self.distrust(conn, &listing)?;
        let usable = |entry: &&TenantEntry| {
            schemas.get(entry.schema.as_str()).is_some_and(|schema| schema.usable)
                && !self.untrusted.contains_key(entry.schema.as_str())
        };
        let entries: Vec<TenantEntry> = listing.tenants.iter().filter(usable).cloned().collect();
        let started = Instant::now();
        let passed =
            |what: &str| tracing::debug!(elapsed_ms = started.elapsed().as_millis() as u64, "Looked at {what}");
        let mut patients = self.histories(entries, &schemas, !expected.is_empty())?;
        passed("histories");
        let builds = self.fingerprints(&mut patients)?;
        passed("structure");
        self.surroundings(conn, &patients, &builds, &expected)?;
        self.diagnose(&mut patients, &builds)?;
        passed("builds");
        self.recheck(&mut patients)?;
        self.outsiders(conn, &listing, &schemas, whole)?;
        if again.is_none() {
            self.rights(&patients)?;
        }
        passed("rights");
        self.ask_rows(&patients)?;
        passed("rows");
        self.strays(conn, &listing)?;
        if whole {
            self.unclaimed(conn)?;
        }
        Ok(listing)
    }

    fn tell(&mut self, schema: &SchemaName, draft: &Draft) {
        self.report.findings.push(draft.of(schema.as_str()));
    }

    fn note<'s>(&mut self, what: &str, reason: &str, schemas: impl Iterator<Item = &'s SchemaName>) {
        self.notes.entry((what.into(), reason.into())).or_default().extend(schemas.map(ToString::to_string));
    }

    /// Drops what is no more than the lesser half of another finding: that a column may be null where some are, and
    /// that versions are pending where nobody knows which.
    fn forget_lesser_halves(&mut self) {
        let findings = &mut self.report.findings;
        let is_null = |finding: &&Finding| finding.kind == Kind::Nulls;
        let nulls: BTreeSet<(String, String)> = findings.iter().filter(is_null).flat_map(nulls).collect();
        findings.retain(|finding| match finding.kind {
            Kind::Behind => !self.unclear.contains(&finding.schema),
            Kind::Changed => {
                let says = finding.says.trim_end_matches(drift::BY_MAJORITY).to_owned();
                !nulls.contains(&(finding.schema.clone(), says))
            }
            _ => true,
        });
    }

    /// Has no constraint validated that rows are in the way of: these come first.
    fn validate_last(&mut self) {
        let findings = &mut self.report.findings;
        let place = |finding: &Finding| (finding.schema.clone(), finding.table.clone(), finding.columns.clone());
        let orphans = findings.iter().filter(|finding| finding.kind == Kind::Orphan);
        let orphans: BTreeMap<_, Fix> = orphans.map(|orphan| (place(orphan), orphan.fix.clone())).collect();
        for finding in findings.iter_mut().filter(|finding| finding.kind == Kind::NotValid) {
            finding.fix = match orphans.get(&place(finding)) {
                Some(Fix::None(_)) => Fix::None("put right the rows that refer to nothing, then VALIDATE it".into()),
                Some(fix) => fix.clone(),
                None => continue,
            };
        }
    }

    /// The report, in order, with the kinds that were asked for.
    fn finish(mut self, listing: &Listing) -> Result<Report, Error> {
        let place: HashMap<&str, usize> =
            listing.tenants.iter().enumerate().map(|(at, tenant)| (tenant.schema.as_str(), at + 1)).collect();
        let place = |finding: &Finding| match finding.schema.as_str() {
            "public" => 0,
            schema => place.get(schema).copied().unwrap_or(usize::MAX),
        };
        self.forget_lesser_halves();
        self.validate_last();
        let kinds = &self.doctor.kinds;
        self.report.findings.retain(|finding| kinds.contains(&finding.kind));
        self.report.findings.sort_by(|one, other| {
            let schemas = (one.kind, place(one), &one.schema).cmp(&(other.kind, place(other), &other.schema));
            schemas.then_with(|| match one.kind {
                // In the order in which it can be made.
                Kind::Missing => refers(one).cmp(&refers(other)),
                _ => (&one.table, &one.says).cmp(&(&other.table, &other.says)),
            })
        });
        let notes = self.notes.into_iter().filter(|(_, schemas)| !schemas.is_empty());
        let notes = notes.map(|((what, reason), schemas)| NotCompared { what, schemas: schemas.len(), reason });
        self.report.not_compared = notes.collect();
        Ok(self.report)
    }
}

/// Whether it is a foreign key, for which the keys that it refers to have to be there.
fn refers(finding: &Finding) -> bool {
    finding.says.starts_with("foreign key ")
}

/// The columns of which a finding tells that they are null.
fn nulls(finding: &Finding) -> impl Iterator<Item = (String, String)> {
    let says =
        |column: &String| format!("column {}.{column} lacks NOT NULL", finding.table.as_deref().unwrap_or_default());
    finding.columns.iter().map(says).map(|says| (finding.schema.clone(), says))
}

fn tables_of(structure: &Structure) -> Vec<String> {
    let tables = structure.objects.iter().filter(|object| object.kind == structure::Kind::Table);
    tables.map(|table| table.name.clone()).collect()
}
