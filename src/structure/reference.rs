use std::time::Duration;

use diesel::{
    PgConnection, QueryResult, RunQueryDsl,
    connection::SimpleConnection,
    dsl::sql,
    result::Error as DieselError,
    select,
    sql_types::{Bool, Text},
};
use uuid::Uuid;

use super::{Reader, Structure};
use crate::{
    Error, SchemaName,
    migrate::{self, Migrations},
    pg::{atomically, catalog, ddl, engine::Engine},
};

/// The structure that migrations make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// All of it, under the name of the scratch schema that is gone.
    pub structure: Structure,
    /// Its [fingerprint](Reader::fingerprints), which a schema of exactly this structure has too.
    pub fingerprint: String,
}

/// Builds what the migrations make of a schema, in a scratch schema that is rolled back, and reads it.
///
/// For `public` that is both sets, for any other schema the tenants'; for an earlier version hand in
/// [`Migrations::with_tenant_up_to`] it. Nothing is left behind. All that the role needs is to be allowed to create
/// schemas in the database.
///
/// # Errors
///
/// [`Error::Reference`] when the role may not, when the transaction is read-only, or when a migration does not run
/// in a scratch schema: because it names `public` as its own, needs to run outside of transactions for more than
/// CONCURRENTLY, or ends the transaction. The scratch schema, which is then kept, is dropped.
pub fn reference(
    conn: &mut PgConnection,
    migrations: &Migrations,
    of: &SchemaName,
    patience: Duration,
) -> Result<Reference, Error> {
    ensure_may_create(conn)?;
    let name = format!("tenantry_scratch_{}", Uuid::new_v4().simple());
    let scratch: SchemaName = name.parse().map_err(|source| Error::SchemaName { name, source })?;
    let built: Result<(), Undone> =
        atomically(conn, |conn| Err(build(conn, migrations, of, &scratch, patience).into()));
    let built = match built {
        Err(Undone::Built(reference)) => Ok(*reference),
        Err(Undone::Failed(error)) => Err(error),
        Ok(()) => return Err(Error::Reference { reason: "it was kept".into() }),
    };
    // A connection that is lost cannot be asked.
    let was_kept = drop_kept(conn, &scratch).unwrap_or(false);
    let reason = match (built, was_kept) {
        (Ok(reference), false) => return Ok(reference),
        (Err(error), false) => explain(&error),
        (Err(Error::Migration { version, .. }), true) => format!("migration {version} {ENDED}"),
        (_, true) => format!("one of the migrations {ENDED}"),
    };
    Err(Error::Reference { reason })
}

const ENDED: &str = "ends the transaction that it runs in: take its COMMIT or ROLLBACK out";

/// Drops the scratch schema if it is there although its transaction was rolled back, and returns whether it was. Its
/// name is random, so that it is ours.
fn drop_kept(conn: &mut PgConnection, scratch: &SchemaName) -> QueryResult<bool> {
    let is_there = catalog::may_use(conn, scratch)?.is_some();
    if is_there {
        conn.batch_execute(&ddl::drop_schema(scratch))?;
    }
    Ok(is_there)
}

fn build(
    conn: &mut PgConnection,
    migrations: &Migrations,
    of: &SchemaName,
    scratch: &SchemaName,
    patience: Duration,
) -> Result<Reference, Error> {
    // Plain tables do on Citus too: distributing them changes nothing that is compared.
    ddl::create_schema(conn, scratch, Engine::Postgres)?;
    migrate::apply(conn, scratch, &migrations.rehearsal(of), patience)?;
    let reader = Reader::new().beside_public(*of == SchemaName::public());
    let schemas = std::slice::from_ref(scratch);
    let fingerprint = reader.fingerprints(conn, schemas)?.remove(scratch);
    let structure = reader.read(conn, schemas)?.remove(scratch);
    match (structure, fingerprint) {
        (Some(structure), Some(fingerprint)) => Ok(Reference { structure, fingerprint }),
        _ => Err(Error::MissingSchema { schema: scratch.clone() }),
    }
}

/// What rolls the scratch schema back.
enum Undone {
    Built(Box<Reference>),
    Failed(Error),
}

impl From<Result<Reference, Error>> for Undone {
    fn from(built: Result<Reference, Error>) -> Self {
        match built {
            Ok(reference) => Self::Built(Box::new(reference)),
            Err(error) => Self::Failed(error),
        }
    }
}

impl From<DieselError> for Undone {
    fn from(error: DieselError) -> Self {
        Self::Failed(error.into())
    }
}

fn ensure_may_create(conn: &mut PgConnection) -> Result<(), Error> {
    let (may, role) = select((
        sql::<Bool>("has_database_privilege(current_database(), 'CREATE')"),
        sql::<Text>("current_user::text"),
    ))
    .get_result::<(bool, String)>(conn)?;
    match may {
        true => Ok(()),
        false => Err(Error::Reference {
            reason: format!(
                "role {role} may not create a scratch schema: GRANT CREATE ON DATABASE to it, or use a role that has it"
            ),
        }),
    }
}

/// Without the scratch schema, whose name says nothing to anybody.
fn explain(error: &Error) -> String {
    match error {
        Error::Migration { version, source, .. } => {
            format!("migration {version} does not run in a scratch schema: {}", crate::error::chain(&**source))
        }
        other => other.chain(),
    }
}
