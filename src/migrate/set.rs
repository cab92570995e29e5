use std::{any::Any, collections::BTreeMap, sync::Arc};

use diesel::{
    PgConnection, QueryResult,
    connection::{BoxableConnection, SimpleConnection},
    migration::{Migration as DieselMigration, MigrationSource},
    pg::Pg,
    result::Error as DieselError,
};

use crate::{Error, SchemaName, error::BoxError, pg::statements};

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
    in_transaction: bool,
}

/// What a migration does.
#[derive(Debug, Clone)]
pub(super) enum Script {
    Sql(String),
    /// A migration written in Rust: run by its source, on the real connection.
    Rust,
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
        match &self.up {
            Script::Sql(text) => Some(text),
            Script::Rust => None,
        }
    }

    pub(super) fn script(&self) -> &Script {
        &self.up
    }

    /// The word, if its script begins or ends a transaction.
    pub(super) fn transaction_control(&self) -> Option<&str> {
        let is_control = |word: &&str| {
            ["BEGIN", "START", "COMMIT", "ROLLBACK", "ABORT"].iter().any(|control| word.eq_ignore_ascii_case(control))
        };
        self.sql().and_then(|up| statements::first_words(up).into_iter().find(is_control))
    }

    pub(super) fn runs_in_transaction(&self) -> bool {
        self.in_transaction
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
    fn run_in_rust(&self, version: &str, conn: &mut PgConnection) -> Result<(), BoxError> {
        let all = self.source.migrations()?;
        match all.iter().find(|migration| migration.name().version() == version.into()) {
            Some(migration) => migration.run(conn),
            None => Err(format!("the {} migrations no longer have it", self.name).into()),
        }
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
    /// What `public` gets from both sets is one set here, and what cannot run in a transaction loses its
    /// CONCURRENTLY, which makes no difference to the structure.
    pub(crate) fn rehearsal(&self, schema: &SchemaName) -> Self {
        let sets: Vec<&MigrationSet> = self.sets(schema).collect();
        let rehearsed = |migration: &Migration| match &migration.up {
            Script::Sql(up) if !migration.in_transaction => {
                let up = Script::Sql(statements::without_concurrently(up));
                Migration { up, in_transaction: true, ..migration.clone() }
            }
            _ => migration.clone(),
        };
        let tenant = MigrationSet {
            name: self.tenant.name.clone(),
            migrations: self.expected(schema).map(rehearsed).collect(),
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

    /// Runs a migration written in Rust.
    pub(super) fn run_in_rust(
        &self,
        schema: &SchemaName,
        version: &str,
        conn: &mut PgConnection,
    ) -> Result<(), BoxError> {
        match self.sets(schema).find(|set| set.versions().any(|known| known == version)) {
            Some(set) => set.run_in_rust(version, conn),
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
    let mut recorder = Recorder::default();
    let ran = migration.run(&mut recorder);
    Migration {
        version: migration.name().version().to_string(),
        name: migration.name().to_string(),
        up: if ran.is_ok() { Script::Sql(recorder.text) } else { Script::Rust },
        in_transaction: migration.metadata().run_in_transaction(),
    }
}

/// Stands in for a connection, to be told the text that a migration would execute.
///
/// A migration written in Rust asks for the real thing, `as_any`'s `PgConnection`, and fails here.
#[derive(Default)]
struct Recorder {
    text: String,
}

impl SimpleConnection for Recorder {
    fn batch_execute(&mut self, query: &str) -> QueryResult<()> {
        if query.contains('\0') {
            return Err(DieselError::QueryBuilderError("a NUL byte".into()));
        }
        self.text.push_str(query);
        self.text.push('\n');
        Ok(())
    }
}

impl BoxableConnection<Pg> for Recorder {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }
}
