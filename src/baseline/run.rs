use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use diesel::{PgConnection, connection::SimpleConnection};

use super::{Line, Outcome, Report};
use crate::{
    Error, SchemaName,
    migrate::{Migrations, SchemaStatus, State, survey},
    pg::{catalog, ddl, lock, scope},
    structure::{Difference, Reader, Reference, compare, reference},
};

/// Records in schemas that other tools made that they are at a version, after their structure was compared.
///
/// Tables and rows are never changed. One schema's refusal is a line of the report, and the others carry on.
///
/// ```no_run
/// # use diesel::{Connection, PgConnection};
/// # use tenantry::{SchemaName, baseline::Baseline, domain};
/// # let conn = &mut PgConnection::establish("")?;
/// let acme: SchemaName = "acme".parse()?;
/// let report = Baseline::new(domain::migrations()?, "0001")?.run(conn, &[acme])?;
/// assert!(report.is_healthy());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Baseline<'m> {
    all: &'m Migrations,
    migrations: Migrations,
    at: String,
    public: bool,
    force: bool,
    dry_run: bool,
    lock_timeout: Duration,
}

impl<'m> Baseline<'m> {
    /// A baseline at this version of the tenant set.
    ///
    /// # Errors
    ///
    /// [`Error::Migrations`], with the versions that there are, when the set has no such version.
    pub fn new(migrations: &'m Migrations, at: &str) -> Result<Self, Error> {
        Ok(Self {
            all: migrations,
            migrations: migrations.with_tenant_up_to(at)?,
            at: at.into(),
            public: false,
            force: false,
            dry_run: false,
            lock_timeout: Duration::from_secs(5),
        })
    }

    /// Sets whether `public` comes first, with all of the public set and the tenant set up to the version.
    ///
    /// Defaults to not.
    pub fn public(mut self, public: bool) -> Self {
        self.public = public;
        self
    }

    /// Sets whether a schema is recorded although its structure differs, or could not be compared. Defaults to not.
    ///
    /// What a history says to the contrary is not overridden.
    pub fn force(mut self, force: bool) -> Self {
        self.force = force;
        self
    }

    /// Sets whether to write nothing, and only tell what would be recorded. Defaults to not.
    pub fn dry_run(mut self, dry_run: bool) -> Self {
        self.dry_run = dry_run;
        self
    }

    /// Sets how long to wait for a schema's lock, and for a table's. Defaults to 5 seconds.
    pub fn lock_timeout(mut self, timeout: Duration) -> Self {
        self.lock_timeout = timeout;
        self
    }

    /// Compares these tenants' schemas, and records the versions where they agree: one transaction for each.
    ///
    /// Nothing of what is extra and harmless stands in the way: tables, views and functions of others, indexes,
    /// columns that need not be given. The role must be one that may create schemas, since the structure to compare
    /// with is [built](reference()) in one that is rolled back.
    ///
    /// # Errors
    ///
    /// [`Error::Reference`] for the tenants', or those of the queries over all schemas.
    pub fn run(&self, conn: &mut PgConnection, schemas: &[SchemaName]) -> Result<Report, Error> {
        let started = Instant::now();
        let mut lines = Vec::new();
        if self.public {
            lines.extend(self.public_line(conn)?);
        }
        let mut wanted = None;
        for chunk in schemas.chunks(CHUNK) {
            lines.extend(self.chunk(conn, chunk, &mut wanted)?);
        }
        Ok(Report { at: self.at.clone(), dry_run: self.dry_run, lines, elapsed: started.elapsed() })
    }

    /// The public set may need what only the real `public` has, and then the tenants can still be compared.
    fn public_line(&self, conn: &mut PgConnection) -> Result<Vec<Line>, Error> {
        let public = SchemaName::public();
        match self.chunk(conn, std::slice::from_ref(&public), &mut None) {
            Err(error @ Error::Reference { .. }) => Ok(vec![Line {
                schema: public.to_string(),
                result: Err(error),
                differences: Vec::new(),
                not_compared: None,
            }]),
            lines => lines,
        }
    }

    fn chunk(
        &self,
        conn: &mut PgConnection,
        schemas: &[SchemaName],
        wanted: &mut Option<Reference>,
    ) -> Result<Vec<Line>, Error> {
        // The histories come before the structures: one that is still the same under the schema's lock tells that
        // no migration of ours has run in between.
        let statuses = survey(conn, schemas, &self.migrations)?;
        let open = |status: &&SchemaStatus| self.verdict(status).is_none();
        let open: Vec<SchemaName> = statuses.iter().filter(open).map(|status| status.schema.clone()).collect();
        let (mut differences, not_compared) = match (open.first(), &wanted) {
            (None, _) => (BTreeMap::new(), None),
            (Some(_), Some(wanted)) => (differences(conn, &open, wanted)?, None),
            (Some(one), None) => match reference(conn, &self.migrations, one, self.lock_timeout) {
                Ok(built) => (differences(conn, &open, wanted.insert(built))?, None),
                Err(Error::Reference { reason }) if self.force => {
                    (open.iter().map(|schema| (schema.clone(), Vec::new())).collect(), Some(reason))
                }
                Err(error) => return Err(error),
            },
        };
        let line = |status: &SchemaStatus| {
            let schema = &status.schema;
            let found = differences.remove(schema);
            let result = match (self.verdict(status), &found) {
                (Some(verdict), _) => verdict,
                (None, Some(differences)) => self.decide(conn, status, differences),
                // It was dropped since its history was read.
                (None, None) => Err(Error::MissingSchema { schema: schema.clone() }),
            };
            let not_compared = found.as_ref().and(not_compared.clone());
            Line { schema: schema.to_string(), result, differences: found.unwrap_or_default(), not_compared }
        };
        Ok(statuses.iter().map(line).collect())
    }

    /// What the history alone decides.
    fn verdict(&self, status: &SchemaStatus) -> Option<Result<Outcome, Error>> {
        let refuse = |reason: String| Some(Ok(Outcome::Refused(reason)));
        match &status.state {
            State::Missing => Some(Err(Error::MissingSchema { schema: status.schema.clone() })),
            State::Unreadable { reason } => refuse(reason.clone()),
            State::Known { unknown, .. } if !unknown.is_empty() => refuse(self.contradiction(&status.schema, unknown)),
            State::Known { pending, .. } if pending.is_empty() => Some(Ok(Outcome::AlreadyAt)),
            State::Known { .. } => None,
        }
    }

    fn contradiction(&self, schema: &SchemaName, unknown: &[String]) -> String {
        let is_later = |version: &&String| self.all.expected(schema).any(|known| known.version() == version.as_str());
        let (later, strange): (Vec<&String>, Vec<&String>) = unknown.iter().partition(is_later);
        let listed = |versions: Vec<&String>| versions.into_iter().cloned().collect::<Vec<_>>().join(", ");
        match strange.is_empty() {
            true => format!("its history has {}, which comes after {}", listed(later), self.at),
            false => format!("its history has {}, which this program does not know", listed(strange)),
        }
    }

    fn decide(
        &self,
        conn: &mut PgConnection,
        status: &SchemaStatus,
        differences: &[Difference],
    ) -> Result<Outcome, Error> {
        let blocking = differences.iter().filter(|difference| difference.blocks).count();
        if blocking > 0 && !self.force {
            return Ok(Outcome::Refused(format!("its structure is not that of {}", self.at)));
        }
        if self.dry_run {
            return Ok(Outcome::Recorded(status.pending().to_vec()));
        }
        self.record(conn, status)
    }

    fn record(&self, conn: &mut PgConnection, status: &SchemaStatus) -> Result<Outcome, Error> {
        let State::Known { applied, .. } = &status.state else { return Ok(Outcome::AlreadyAt) };
        let schema = &status.schema;
        scope::transaction(conn, schema, |tenant| {
            lock::bound(tenant, self.lock_timeout, None)?;
            lock::schema(tenant, schema, self.lock_timeout)?;
            ddl::create_history(tenant)?;
            let now = catalog::recorded(tenant, schema)?;
            if now != *applied {
                return Ok(Outcome::Refused("somebody else has migrated it meanwhile: try again".into()));
            }
            let records = status.pending().iter().map(|version| ddl::insert_version(schema, version));
            tenant.batch_execute(&records.collect::<Vec<_>>().join(";\n"))?;
            Ok(Outcome::Recorded(status.pending().to_vec()))
        })
    }
}

/// How many schemas are compared before the first of them is recorded.
const CHUNK: usize = 500;

/// In what each of these schemas differs: nothing, for most. One that is gone is left out.
fn differences(
    conn: &mut PgConnection,
    schemas: &[SchemaName],
    wanted: &Reference,
) -> Result<BTreeMap<SchemaName, Vec<Difference>>, Error> {
    let reader = Reader::new();
    let fingerprints = reader.fingerprints(conn, schemas)?;
    let (same, other): (BTreeMap<_, _>, BTreeMap<_, _>) =
        fingerprints.into_iter().partition(|(_, fingerprint)| *fingerprint == wanted.fingerprint);
    let found = reader.read(conn, &other.into_keys().collect::<Vec<_>>())?;
    let compared = found.into_iter().map(|(schema, structure)| (schema, compare(&wanted.structure, &structure)));
    Ok(same.into_keys().map(|schema| (schema, Vec::new())).chain(compared).collect())
}
