//! The application of the incident: tenants, users, their businesses and profiles, and the onboarding.
//!
//! Built on the engine's public API alone, so it is also the proof that a monolith can be.

mod countries;
pub mod models;
pub mod onboarding;
mod schema;
mod tenants;

use std::sync::{LazyLock, OnceLock};

use diesel_migrations::{EmbeddedMigrations, embed_migrations};

pub use tenants::Registry;

use crate::{
    Error, Fleet,
    doctor::{Fill, Rules, Shared},
    migrate::{MigrationSet, Migrations},
};

const PUBLIC: EmbeddedMigrations = embed_migrations!("migrations/public");
const TENANT: EmbeddedMigrations = embed_migrations!("migrations/tenant");

/// The two sets of migrations, embedded from `migrations/public` and `migrations/tenant`.
///
/// # Errors
///
/// [`Error::Migrations`] if the folders do not fit together.
pub fn migrations() -> Result<&'static Migrations, Error> {
    static MIGRATIONS: OnceLock<Migrations> = OnceLock::new();
    if let Some(migrations) = MIGRATIONS.get() {
        return Ok(migrations);
    }
    let migrations = Migrations::new(MigrationSet::new("public", PUBLIC)?, MigrationSet::new("tenant", TENANT)?)?;
    Ok(MIGRATIONS.get_or_init(|| migrations))
}

/// The whole of it, for the [commands](crate::cli).
///
/// # Errors
///
/// As [`migrations`].
pub fn fleet() -> Result<Fleet<'static>, Error> {
    Ok(Fleet { migrations: migrations()?, directory: &Registry, rules: rules() })
}

/// What the doctor must know of these tables: which column names the tenant, what fills which null,
/// and which columns refer to a table of `public`.
pub fn rules() -> &'static Rules {
    static RULES: LazyLock<Rules> = LazyLock::new(|| {
        let fill = |table: &str, column: &str, from: &[&str]| Fill {
            table: table.into(),
            column: column.into(),
            from: from.iter().map(ToString::to_string).collect(),
        };
        let shared = |column: &str, parent: &str| Shared {
            table: "users_userprofile".into(),
            column: column.into(),
            parent: parent.into(),
            parent_column: "id".into(),
        };
        Rules {
            fills: vec![
                fill("users_userprofile", "modified_at", &["updated_at", "created_at"]),
                fill("users_userprofile", "updated_at", &["modified_at", "created_at"]),
                fill("business_business", "updated_at", &["created_at"]),
            ],
            owner_column: Some("tenant_id".into()),
            shared: vec![shared("user_id", "custom_auth_user"), shared("tenant_id", "custom_auth_tenant")],
        }
    });
    &RULES
}
