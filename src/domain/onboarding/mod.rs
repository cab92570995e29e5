//! The onboarding service: a tenant is registered, and its owner's business saved, each all or nothing.
//!
//! ```no_run
//! use diesel::{Connection, PgConnection};
//! use tenantry::{domain::{self, models::{NewTenant, NewUser}, onboarding}, pg::scope};
//! use uuid::Uuid;
//!
//! let conn = &mut PgConnection::establish(&std::env::var("DATABASE_URL")?)?;
//! let owner = NewUser { id: Uuid::new_v4(), email: "ada@example.com".into(), first_name: "Ada".into(), last_name: "".into() };
//! owner.insert(conn)?;
//!
//! let tenant = NewTenant { owner_id: Some(owner.id), ..NewTenant::new(Uuid::new_v4(), "Engines Ltd") };
//! onboarding::register_tenant(conn, domain::migrations()?, &tenant)?;
//!
//! let info = onboarding::BusinessInfo::new(owner.id, "Engines Ltd");
//! let saved = scope::transaction(conn, &tenant.schema(), |tenant| onboarding::save_business_info(tenant, &info))?;
//! assert_eq!(saved.profile.business_id, Some(saved.business.id));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod business_info;
mod register;
mod save;

use diesel::result::Error as DieselError;
use uuid::Uuid;

pub use business_info::{BusinessInfo, InvalidField};
pub use register::register_tenant;
pub use save::{Onboarded, save_business_info};

use crate::{Error, SchemaName};

/// Why nothing was saved.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OnboardingError {
    /// Fields of the request that cannot be saved, all of them.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    InvalidFields(Vec<InvalidField>),
    /// The registry has no tenant with this schema.
    #[error("no tenant is registered with schema `{0}`")]
    NoSuchTenant(SchemaName),
    /// The tenant may not be written to for now.
    #[error("tenant `{0}` is suspended: resume it first")]
    TenantSuspended(SchemaName),
    /// There is no such user in `public.custom_auth_user`.
    #[error("no user {0}")]
    NoSuchUser(Uuid),
    /// The user owns another tenant, or their profile here names one.
    #[error("user {user} belongs to tenant {tenant}")]
    UserOfAnotherTenant {
        /// Who.
        user: Uuid,
        /// The other tenant's schema, or its id where the profile has no more.
        tenant: String,
    },
    /// The user works for the business that their profile names, and does not own it.
    #[error("user {0} does not own the business of their profile")]
    NotTheOwner(Uuid),
    /// Another tenant has the id, the schema or the owner of the one to be registered.
    #[error("the id, the schema or the owner of tenant {0} is another tenant's already")]
    TenantTaken(Uuid),
    /// The profile's business is not in the tenant's schema, as in the incident.
    #[error(
        "the profile of user {user} refers to business {business}, which is not in its schema: run `tenantry repair`"
    )]
    BusinessMissing {
        /// Whose profile.
        user: Uuid,
        /// What it refers to.
        business: Uuid,
    },
    /// Hardly any of the million business numbers is free in this tenant.
    #[error("no business number is free in tenant `{0}`")]
    NoBusinessNumber(SchemaName),
    /// The engine's word.
    #[error(transparent)]
    Tenantry(#[from] Error),
    /// A query failed.
    #[error(transparent)]
    Query(#[from] DieselError),
}
