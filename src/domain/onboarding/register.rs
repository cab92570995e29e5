use std::time::Duration;

use diesel::PgConnection;

use super::{OnboardingError, business_info::Invalid};
use crate::{
    domain::models::{NewTenant, Tenant, User},
    migrate::Migrations,
    pg::{atomically, scope},
    provision,
};

/// How long to wait for somebody who is making the same schema.
const PATIENCE: Duration = Duration::from_secs(5);

/// Registers a tenant: its row in the registry, its schema, and every migration of the tenant set.
///
/// All of it is one transaction; inside another, a test transaction for one, it is a part of that. Sent again,
/// the same request returns the tenant that is there, so a caller whose connection broke repeats it with
/// the id it had chosen.
///
/// # Errors
///
/// [`OnboardingError::InvalidFields`], [`NoSuchUser`](OnboardingError::NoSuchUser) for the owner,
/// [`TenantTaken`](OnboardingError::TenantTaken), and the engine's, such as
/// [`SchemaExists`](crate::Error::SchemaExists). Nothing is left behind.
pub fn register_tenant(
    conn: &mut PgConnection,
    migrations: &Migrations,
    request: &NewTenant,
) -> Result<Tenant, OnboardingError> {
    let mut invalid = Invalid::default();
    invalid.check_text("name", &request.name, 1, 100);
    invalid.into_result()?;
    atomically(conn, |conn| {
        if let Some(owner) = request.owner_id {
            User::lock(conn, owner)?.ok_or(OnboardingError::NoSuchUser(owner))?;
        }
        match request.insert(conn)? {
            Some(tenant) => {
                provision::create(conn, &request.schema(), migrations, PATIENCE)?;
                Ok(tenant)
            }
            None => already_there(conn, request),
        }
    })
}

/// The tenant of an earlier, equal request.
fn already_there(conn: &mut PgConnection, request: &NewTenant) -> Result<Tenant, OnboardingError> {
    let schema = request.schema();
    let same = |tenant: &Tenant| {
        (tenant.schema_name.as_str(), tenant.name.as_str(), tenant.owner_id)
            == (schema.as_str(), request.name.as_str(), request.owner_id)
    };
    let tenant = Tenant::find(conn, request.id)?.filter(same).ok_or(OnboardingError::TenantTaken(request.id))?;
    // A row without a schema is not the work of this function, and not to be reported as done.
    scope::transaction(conn, &schema, |tenant| tenant.ensure_current())?;
    Ok(tenant)
}
