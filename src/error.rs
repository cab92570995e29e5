//! The crate's one error.

use std::time::Duration;

use diesel::result::{DatabaseErrorKind as Kind, Error as DieselError};

use crate::{SchemaName, SchemaNameError};

/// The cause of an error, kept whole.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What may go wrong, each with the schema, the migration or the setting it concerns.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A text is no schema's name.
    #[error("{name:?} cannot name a tenant's schema")]
    SchemaName {
        /// The text, as it was given.
        name: String,
        /// The rule it broke.
        source: SchemaNameError,
    },
    /// A setting is missing or makes no sense.
    #[error("{name} {reason}")]
    Setting {
        /// The environment variable.
        name: String,
        /// What is wrong with it, and what would be right. Never holds a password.
        reason: String,
    },
    /// The server did not take the connection.
    #[error("cannot connect to {url}: {reason}; check DATABASE_URL, and that the server runs")]
    Connect {
        /// Where to, without the password.
        url: String,
        /// libpq's words, on one line.
        reason: String,
    },
    /// The connections go through a pooler in transaction mode, such as PgBouncer.
    #[error(
        "the connections go through a pooler in transaction mode ({reason}): set MIGRATION_DATABASE_URL, for the commands, to the server itself or to a pooler in session mode, and TENANTRY_POOLER=transaction for an application that goes through it"
    )]
    Pooler {
        /// How that was noticed.
        reason: String,
    },
    /// The pool had no connection to give in time.
    #[error("no connection from the pool")]
    Pool(#[from] r2d2::Error),
    /// The schema does not exist.
    #[error("no schema `{schema}`: create the tenant first, or drop it from the registry")]
    MissingSchema {
        /// The schema that was asked for.
        schema: SchemaName,
    },
    /// The schema exists, and the role may not use it.
    #[error("the role may not use schema `{schema}`: GRANT USAGE ON SCHEMA {quoted} to it", quoted = schema.quoted())]
    NoUsage {
        /// The schema that was asked for.
        schema: SchemaName,
    },
    /// What bears a table's name is not a table, or would run the code of another role when it is read.
    #[error(
        "{table} is not an ordinary table: it is a view, has row security or child tables, or has an index, statistics or \
         a type that calls a function of another role, and to read it would run code of other roles"
    )]
    NotATable {
        /// The table, with its schema.
        table: String,
    },
    /// The schema `tenantry`, or a table in it, belongs to a role that is not trusted: one that is neither a superuser, nor
    /// the owner of the database, nor the role that asks, nor a member of these two. Its code could run.
    #[error(
        "{what} belongs to role {owner}, whose code could run in this session: drop it, or look what is in it and give it \
         to the owner of the database, with ALTER {what} OWNER TO"
    )]
    Foreign {
        /// `SCHEMA tenantry`, or `TABLE` and the table's name.
        what: String,
        /// The role.
        owner: String,
    },
    /// To read a table would run a function of a role that is neither a superuser, nor the owner of the database, nor the
    /// role that asks, nor a member of these two.
    #[error(
        "{table} has {what} that calls a function of another role, and to read it would run that: drop it, or use the \
         role that owns the table"
    )]
    Untrusted {
        /// The table, with its schema.
        table: String,
        /// What of it calls the function.
        what: String,
    },
    /// A schema of this name is there already.
    #[error("schema `{schema}` exists already")]
    SchemaExists {
        /// The schema that was to be created.
        schema: SchemaName,
    },
    /// A schema of this name, but for upper and lower case, is there already.
    #[error("schema `{schema}` differs from the existing `{twin}` only by case: choose another name")]
    SchemaTwin {
        /// The schema that was to be created.
        schema: SchemaName,
        /// The schema that exists.
        twin: String,
    },
    /// The search_path was changed inside a scope; a transaction scope was rolled back because of it.
    #[error("search_path left schema `{schema}` inside its scope and is now {path:?}")]
    LeftScope {
        /// The scope's schema.
        schema: SchemaName,
        /// The path that was found.
        path: String,
    },
    /// A query inside a scope failed, its error was dropped, and the scope was about to commit nothing; or a
    /// transaction that was begun inside was not ended.
    #[error("a query in schema `{schema}` failed and its error was ignored: everything was rolled back")]
    SwallowedError {
        /// The scope's schema.
        schema: SchemaName,
    },
    /// The transaction of a scope was ended inside it, by a COMMIT or ROLLBACK that was sent as SQL; or RESET ALL or
    /// DISCARD ALL took away what the scope knows it by.
    #[error(
        "the transaction in schema `{schema}` was ended inside its scope, by a COMMIT, ROLLBACK or RESET ALL sent as SQL: \
         what was done before that {} committed, and what came after it was not in the scope",
        if *committed { "is" } else { "may be" }
    )]
    TransactionEnded {
        /// The scope's schema.
        schema: SchemaName,
        /// Whether it is certain that something was committed.
        committed: bool,
    },
    /// Another schema has the name now of the schema that a scope has entered; the scope was rolled back.
    #[error(
        "schema `{schema}` was renamed or dropped while a scope was in it, and another schema has its name now: \
         everything was rolled back, try again"
    )]
    SchemaReplaced {
        /// The scope's schema.
        schema: SchemaName,
    },
    /// Somebody else migrates, repairs, renames or drops the same schema.
    #[error("schema `{schema}` is locked by another run, and was after {} s: try again when it has ended", waited.as_secs_f32())]
    Locked {
        /// The schema that is busy.
        schema: SchemaName,
        /// How long the lock was polled.
        waited: Duration,
    },
    /// Another run holds the lock of the fleet.
    #[error("another run is under way, by {holder}: wait for it with --wait, or look for what it left open")]
    RunInProgress {
        /// Whose session holds the lock, and since when; and, where it is so, that a pooler may have kept it.
        holder: String,
    },
    /// A migration failed; nothing of it, and nothing of those before it in the same schema, was kept.
    #[error("migration {version} failed in schema `{schema}`")]
    Migration {
        /// Where.
        schema: SchemaName,
        /// Which.
        version: String,
        /// Why.
        source: BoxError,
    },
    /// A migration cannot be taken back: there is no script for it.
    #[error("migration {version} of schema `{schema}` has no way back: it has no down.sql, or an empty one")]
    Irreversible {
        /// Where.
        schema: SchemaName,
        /// Which.
        version: String,
    },
    /// A migration cannot be taken back, since others were applied on top of it.
    #[error("migration {version} of schema `{schema}` cannot be taken back before {}, which came after it", later.join(", "))]
    LaterVersions {
        /// Where.
        schema: SchemaName,
        /// Which.
        version: String,
        /// What came after it.
        later: Vec<String>,
    },
    /// A migration is to be taken back that only another program has.
    #[error(
        "migration {version} of schema `{schema}` is to be taken back, and this program does not have it: use one that does"
    )]
    UnknownVersion {
        /// Where.
        schema: SchemaName,
        /// Which.
        version: String,
    },
    /// The run was stopped before it had begun.
    #[error("stopped before anything was done")]
    Stopped,
    /// The run, or the repair, cannot be recorded, for another reason than a missing privilege.
    #[error("the run cannot be recorded in schema `tenantry`{}", without_record(.0))]
    Record(#[source] DieselError),
    /// The role lacks a privilege that recording the run, or the repair, takes.
    #[error(
        "the run cannot be recorded in schema `tenantry`: grant the role CREATE on the database, or what it lacks there, or pass --no-record"
    )]
    RecordDenied(#[source] DieselError),
    /// There is no such run.
    #[error("no run {id} is remembered: `tenantry runs list` shows those that are")]
    NoSuchRun {
        /// The number that was asked for.
        id: i64,
    },
    /// There is no such repair.
    #[error("no repair {id} is remembered: `tenantry repair list` shows those that are")]
    NoSuchRepair {
        /// The number that was asked for.
        id: i64,
    },
    /// What was asked of a run makes no sense.
    #[error("{reason}")]
    Request {
        /// What is wrong with it, and what would be right.
        reason: String,
    },
    /// A set of migrations cannot be used.
    #[error("the {set} migrations cannot be used: {reason}")]
    Migrations {
        /// The set's name: `public` or `tenant`.
        set: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The database has no registry of tenants.
    #[error(
        "no registry of tenants: table {table} does not exist; run migrate-all-tenants to create it, or name the schemas with --schemas"
    )]
    NoRegistry {
        /// The table that was looked for.
        table: String,
    },
    /// After a run, the catalog did not show what the run reported.
    #[error("the catalog does not show what was done in schema `{schema}`: look at {}", versions.join(", "))]
    Unproven {
        /// Where.
        schema: SchemaName,
        /// The versions that should be recorded and are not, or the other way round.
        versions: Vec<String>,
    },
    /// A run ended before it came to this schema, or could not see what became of it: run it again.
    #[error("not reached: {reason}; run it again")]
    NotReached {
        /// What was in the way.
        reason: String,
    },
    /// What the migrations make could not be built in a scratch schema, to compare with.
    #[error("the structure that the migrations make cannot be built to compare with: {reason}")]
    Reference {
        /// What was in the way.
        reason: String,
    },
    /// A repair did not have the effect it should have had, and was rolled back.
    #[error("the repair of schema `{schema}` was undone: {reason}")]
    Repair {
        /// Where.
        schema: SchemaName,
        /// What was still wrong.
        reason: String,
    },
    /// A query failed.
    #[error(transparent)]
    Query(#[from] DieselError),
}

/// The way on where only the recording is in the way: not on a server that takes no writes, or is gone.
fn without_record(cause: &DieselError) -> &'static str {
    match cause {
        DieselError::DatabaseError(
            Kind::ReadOnlyTransaction | Kind::ClosedConnection | Kind::UnableToSendCommand,
            _,
        )
        | DieselError::BrokenTransactionManager => "",
        _ => " (--no-record does without)",
    }
}

impl Error {
    /// The error and its causes, on one line.
    pub fn chain(&self) -> String {
        chain(self)
    }
}

/// An error and its causes on one line, each but once.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let text = cause.to_string();
        if !line.ends_with(&text) {
            line = format!("{line}: {text}");
        }
        next = cause.source();
    }
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Lets a scope's closure return Diesel's own [`QueryResult`](diesel::QueryResult).
impl From<Error> for DieselError {
    fn from(error: Error) -> Self {
        match error {
            Error::Query(query) => query,
            other => DieselError::QueryBuilderError(Box::new(other)),
        }
    }
}
