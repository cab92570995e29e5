use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use diesel::{
    PgConnection,
    migration::{Migration as DieselMigration, MigrationSource},
    pg::Pg,
};
use diesel_migrations::MigrationError;
use sha2::{Digest, Sha256};

use super::{
    goal::Set,
    recorder::Recorder,
    step::{Direction, Step},
};
use crate::{
    Error, SchemaName,
    error::BoxError,
    pg::statements::{self, Unfit},
};

/// A set of migrations, in the order of their versions, read once.
///
/// ```
/// use diesel_migrations::{EmbeddedMigrations, embed_migrations};
/// use tenantry::migrate::MigrationSet;
///
/// const TENANT: EmbeddedMigrations = embed_migrations!("migrations/tenant");
///
/// let set = MigrationSet::new("tenant", TENANT)?;
/// assert_eq!(set.versions().collect::<Vec<_>>(), ["0001", "0002"]);
/// # Ok::<(), tenantry::Error>(())
/// ```
#[derive(Clone)]
pub struct MigrationSet {
    name: String,
    migrations: Vec<Migration>,
    source: Arc<dyn MigrationSource<Pg> + Send + Sync>,
}

/// One migration of a [`MigrationSet`].
#[derive(Debug, Clone)]
pub struct Migration {
    version: String,
    name: String,
    up: Script,
    down: Script,
    checksum: String,
    in_transaction: bool,
}

/// What a migration does in one direction.
#[derive(Debug, Clone)]
pub(super) enum Script {
    Sql(String),
    /// Written in Rust: run by its source, on the real connection.
    Rust,
    /// There is none.
    Missing,
}

impl Migration {
    /// The version, as the history table has it.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The name of its folder: `0001_initial`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its `up.sql`; `None` for a migration written in Rust.
    pub fn sql(&self) -> Option<&str> {
        self.up.sql()
    }

    /// Its `down.sql`; `None` where there is none, and for a migration written in Rust.
    pub fn down_sql(&self) -> Option<&str> {
        self.down.sql()
    }

    /// Tells whether two texts of `up.sql` differ in more than the blanks at the ends of their lines.
    ///
    /// The first 32 hexadecimal digits of its SHA-256. Of a migration written in Rust only the name is known.
    pub fn checksum(&self) -> &str {
        &self.checksum
    }

    pub(super) fn script(&self, direction: Direction) -> &Script {
        match direction {
            Direction::Up => &self.up,
            Direction::Down => &self.down,
        }
    }

    /// Whether there is no way back.
    pub(super) fn is_irreversible(&self) -> bool {
        match &self.down {
            Script::Sql(text) => statements::split(text).is_empty(),
            Script::Rust => false,
            Script::Missing => true,
        }
    }

    /// What its script has that a migration cannot have.
    pub(super) fn unfit(&self, direction: Direction) -> Option<Unfit<'_>> {
        self.script(direction).sql().and_then(statements::unfit)
    }

    pub(super) fn runs_in_transaction(&self) -> bool {
        self.in_transaction
    }
}

impl Script {
    fn sql(&self) -> Option<&str> {
        match self {
            Self::Sql(text) => Some(text),
            Self::Rust | Self::Missing => None,
        }
    }
}

impl MigrationSet {
    /// Reads a source of Diesel's: embedded migrations, or files, or your own.
    ///
    /// `name` is how messages call it.
    ///
    /// # Errors
    ///
    /// [`Error::Migrations`] when the source cannot be read, or has one version twice, of which Diesel
    /// would drop one without a word.
    pub fn new(name: &str, source: impl MigrationSource<Pg> + Send + Sync + 'static) -> Result<Self, Error> {
        let refuse = |reason: String| Error::Migrations { set: name.into(), reason };
        let mut by_version = BTreeMap::<String, Migration>::new();
        for migration in source.migrations().map_err(|error| refuse(error.to_string()))? {
            let read = read(&*migration);
            if let Some(other) = by_version.get(&read.version) {
                return Err(refuse(format!("{} and {} have the same version", other.name, read.name)));
            }
            by_version.insert(read.version.clone(), read);
        }
        Ok(Self { name: name.into(), migrations: by_version.into_values().collect(), source: Arc::new(source) })
    }

    /// The versions, in order.
    pub fn versions(&self) -> impl Iterator<Item = &str> {
        self.migrations.iter().map(Migration::version)
    }

    /// The same set without what comes after `version`.
    ///
    /// # Errors
    ///
    /// [`Error::Migrations`] when the set has no such version.
    pub fn up_to(&self, version: &str) -> Result<Self, Error> {
        let Some(last) = self.versions().position(|known| known == version) else {
            let known: Vec<&str> = self.versions().collect();
            let reason = match known.is_empty() {
                true => format!("there is no version {version}, nor any other"),
                false => format!("there is no version {version}, only {}", known.join(", ")),
            };
            return Err(Error::Migrations { set: self.name.clone(), reason });
        };
        let mut shorter = self.clone();
        shorter.migrations.truncate(last + 1);
        Ok(shorter)
    }

    /// Runs a migration written in Rust.
    fn run_in_rust(&self, step: Step<'_>, conn: &mut PgConnection) -> Result<(), BoxError> {
        let all = self.source.migrations()?;
        let found = all.iter().find(|migration| migration.name().version() == step.migration.version().into());
        let Some(migration) = found else {
            return Err(format!("the {} migrations no longer have it", self.name).into());
        };
        // Its panic is one tenant's failure, and not the end of the run.
        calmly(|| match step.direction {
            Direction::Up => migration.run(conn),
            Direction::Down => migration.revert(conn),
        })
    }
}

impl std::fmt::Debug for MigrationSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MigrationSet").field("name", &self.name).field("migrations", &self.migrations).finish()
    }
}

/// The two sets of a monolith: one for `public` alone, one for `public` and every tenant.
#[derive(Debug, Clone)]
pub struct Migrations {
    public: MigrationSet,
    tenant: MigrationSet,
}

impl Migrations {
    /// Puts the two sets together.
    ///
    /// # Errors
    ///
    /// [`Error::Migrations`] when both have the same version: in `public` both are recorded in one table.
    pub fn new(public: MigrationSet, tenant: MigrationSet) -> Result<Self, Error> {
        if let Some(version) = public.versions().find(|version| tenant.versions().any(|other| other == *version)) {
            let reason = format!(
                "version {version} is in the {} set too, and both record it in public: rename one of the two folders",
                public.name
            );
            return Err(Error::Migrations { set: tenant.name, reason });
        }
        Ok(Self { public, tenant })
    }

    /// The tenant set.
    pub fn tenant(&self) -> &MigrationSet {
        &self.tenant
    }

    /// One set's versions, in order.
    pub fn versions(&self, set: Set) -> impl Iterator<Item = &str> {
        let set = match set {
            Set::Public => &self.public,
            Set::Tenant => &self.tenant,
        };
        set.versions()
    }

    /// The same migrations, with the tenant set ending at `version`.
    ///
    /// # Errors
    ///
    /// As [`MigrationSet::up_to`].
    pub fn with_tenant_up_to(&self, version: &str) -> Result<Self, Error> {
        Ok(Self { public: self.public.clone(), tenant: self.tenant.up_to(version)? })
    }

    /// The same migrations, for a scratch schema that stands for this one and is built in one transaction.
    ///
    /// What `public` gets from both sets is one set here.
    pub(crate) fn rehearsal(&self, schema: &SchemaName) -> Self {
        let sets: Vec<&MigrationSet> = self.sets(schema).collect();
        let tenant = MigrationSet {
            name: self.tenant.name.clone(),
            migrations: self.expected(schema).cloned().collect(),
            source: Arc::new(Sources(sets.iter().map(|set| set.source.clone()).collect())),
        };
        Self { public: MigrationSet { migrations: Vec::new(), ..self.public.clone() }, tenant }
    }

    /// What this schema should have, in the order in which it is applied.
    pub fn expected(&self, schema: &SchemaName) -> impl Iterator<Item = &Migration> {
        self.sets(schema).flat_map(|set| &set.migrations)
    }

    fn sets(&self, schema: &SchemaName) -> impl Iterator<Item = &MigrationSet> {
        let public = (*schema == SchemaName::public()).then_some(&self.public);
        public.into_iter().chain([&self.tenant])
    }

    /// One set's migrations, if this schema has that set.
    pub(super) fn of(&self, set: Set, schema: &SchemaName) -> impl Iterator<Item = &Migration> {
        let set = match set {
            Set::Public => (*schema == SchemaName::public()).then_some(&self.public),
            Set::Tenant => Some(&self.tenant),
        };
        set.into_iter().flat_map(|set| &set.migrations)
    }

    /// In which of the schema's sets a version is.
    pub(super) fn set_of(&self, schema: &SchemaName, version: &str) -> Option<Set> {
        let has = |set: &Set| self.of(*set, schema).any(|migration| migration.version() == version);
        [Set::Public, Set::Tenant].into_iter().find(has)
    }

    /// Both sets, with their names.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&str, &Migration)> {
        [&self.public, &self.tenant]
            .into_iter()
            .flat_map(|set| set.migrations.iter().map(|one| (set.name.as_str(), one)))
    }

    /// Runs a migration written in Rust.
    pub(super) fn run_in_rust(
        &self,
        schema: &SchemaName,
        step: Step<'_>,
        conn: &mut PgConnection,
    ) -> Result<(), BoxError> {
        match self.sets(schema).find(|set| set.versions().any(|known| known == step.migration.version())) {
            Some(set) => set.run_in_rust(step, conn),
            None => Err("no set has it".into()),
        }
    }
}

/// Several sources as one.
struct Sources(Vec<Arc<dyn MigrationSource<Pg> + Send + Sync>>);

impl MigrationSource<Pg> for Sources {
    fn migrations(&self) -> diesel::migration::Result<Vec<Box<dyn DieselMigration<Pg>>>> {
        let sets: Result<Vec<_>, _> = self.0.iter().map(|source| source.migrations()).collect();
        Ok(sets?.into_iter().flatten().collect())
    }
}

fn read(migration: &dyn DieselMigration<Pg>) -> Migration {
    let mut up = Recorder::default();
    let mut down = Recorder::default();
    // One written in Rust may panic without the real connection.
    let ran = calmly(|| migration.run(&mut up));
    let reverted = calmly(|| migration.revert(&mut down));
    let name = migration.name().to_string();
    Migration {
        version: migration.name().version().to_string(),
        checksum: checksum(if ran.is_ok() { &up.text } else { &name }),
        name,
        up: if ran.is_ok() { Script::Sql(up.text) } else { Script::Rust },
        down: match reverted {
            Ok(()) => Script::Sql(down.text),
            Err(error) if is_missing(&error) => Script::Missing,
            Err(_) => Script::Rust,
        },
        in_transaction: migration.metadata().run_in_transaction(),
    }
}

/// Takes a panic for an error.
fn calmly(work: impl FnOnce() -> Result<(), BoxError>) -> Result<(), BoxError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let words = panic.downcast_ref::<&str>().copied();
        let words = words.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        Err(format!("it panicked: {}", words.unwrap_or("without words")).into())
    })
}

fn checksum(text: &str) -> String {
    let lines = text.trim_end().lines();
    let digest = lines.fold(Sha256::new(), |digest, line| digest.chain_update(line.trim_end()).chain_update("\n"));
    digest.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

fn is_missing(error: &BoxError) -> bool {
    matches!(error.downcast_ref(), Some(MigrationError::NoMigrationRevertFile))
        // Of a file without anything in it; its type is not public.
        || error.to_string().contains("empty migration")
}
