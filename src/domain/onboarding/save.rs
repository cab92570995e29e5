use serde::Serialize;
use uuid::Uuid;

use super::{BusinessInfo, OnboardingError};
use crate::{
    domain::models::{
        Business, BusinessChanges, BusinessDetails, NewBusiness, NewUserProfile, ProfileChanges, Tenant, User,
        UserProfile,
    },
    pg::scope::TenantConn,
};

/// What [`save_business_info`] saved, as it is in the tenant's schema now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[allow(missing_docs)]
pub struct Onboarded {
    pub business: Business,
    pub details: BusinessDetails,
    pub profile: UserProfile,
    /// False when the user had this business already, and it was written again.
    pub created: bool,
}

/// Saves step 1 of the onboarding: the business, its details, the user's profile, all in the tenant's
/// schema, and the mark that the user is onboarded.
///
/// All of it is one transaction: the caller's, in a [`scope::transaction`](crate::pg::scope::transaction()), or
/// one of its own, in a [`scope::session`](crate::pg::scope::session()). After an error of the database the
/// caller's can only be rolled back; to go on with it, call this inside a [`TenantConn::transaction`].
///
/// **To repeat it safely, send it again.** A user has one profile in a tenant, and that has one business: the
/// second call finds it and writes what the request says over it, so that no second business is made and the
/// last request wins. Calls for one user wait for each other.
///
/// # Errors
///
/// Those of [`OnboardingError`]: all but the database's own come before anything is written.
pub fn save_business_info(tenant: &mut TenantConn<'_>, info: &BusinessInfo) -> Result<Onboarded, OnboardingError> {
    info.validate()?;
    tenant.in_transaction(|tenant| {
        let (tenant_id, user) = check_user(tenant, info.user_id)?;
        let profile = UserProfile::lock_of_user(tenant, user.id)?;
        if let Some(other) = profile.as_ref().and_then(|profile| profile.tenant_id).filter(|id| *id != tenant_id) {
            return Err(OnboardingError::UserOfAnotherTenant { user: user.id, tenant: other.to_string() });
        }
        if profile.as_ref().is_some_and(|profile| profile.business_id.is_some() && !profile.is_business_owner) {
            return Err(OnboardingError::NotTheOwner(user.id));
        }
        let known = profile.as_ref().and_then(|profile| profile.business_id);
        let business = match known {
            Some(business) => rewrite(tenant, business, info)?,
            None => create(tenant, info)?,
        };
        let details = details(business.id, info).save(tenant)?;
        let profile = save_profile(tenant, tenant_id, profile, &business, info)?;
        if !user.is_onboarded {
            User::set_onboarded(tenant, user.id)?;
        }
        Ok(Onboarded { business, details, profile, created: known.is_none() })
    })
}

/// The tenant's id and the user, once both are known to be there and to belong together.
///
/// The user's row stays locked: it is what two calls for one user wait for.
fn check_user(tenant: &mut TenantConn<'_>, user: Uuid) -> Result<(Uuid, User), OnboardingError> {
    let schema = tenant.schema().clone();
    let known = User::lock(tenant, user)?;
    let tenants = Tenant::of_schema_or_owner(tenant, &schema, user)?;
    let (here, elsewhere): (Vec<_>, Vec<_>) =
        tenants.into_iter().partition(|tenant| tenant.schema_name == schema.as_str());
    let here = here.into_iter().next().ok_or_else(|| OnboardingError::NoSuchTenant(schema.clone()))?;
    if !here.is_active {
        return Err(OnboardingError::TenantSuspended(schema));
    }
    let known = known.ok_or(OnboardingError::NoSuchUser(user))?;
    match elsewhere.into_iter().next() {
        Some(other) => Err(OnboardingError::UserOfAnotherTenant { user, tenant: other.schema_name }),
        None => Ok((here.id, known)),
    }
}

fn create(tenant: &mut TenantConn<'_>, info: &BusinessInfo) -> Result<Business, OnboardingError> {
    let business = NewBusiness { id: Uuid::new_v4(), name: info.business_name.clone() };
    business.insert(tenant)?.ok_or_else(|| OnboardingError::NoBusinessNumber(tenant.schema().clone()))
}

fn rewrite(tenant: &mut TenantConn<'_>, business: Uuid, info: &BusinessInfo) -> Result<Business, OnboardingError> {
    let changes = BusinessChanges { name: Some(info.business_name.clone()) };
    let missing = OnboardingError::BusinessMissing { user: info.user_id, business };
    Business::update(tenant, business, &changes)?.ok_or(missing)
}

fn details(business: Uuid, info: &BusinessInfo) -> BusinessDetails {
    BusinessDetails {
        business_id: business,
        business_type: info.business_type.clone(),
        business_subtype_selections: info.business_subtype_selections.clone(),
        legal_structure: info.legal_structure.clone(),
        country: info.country.clone(),
        date_founded: info.date_founded,
    }
}

fn save_profile(
    tenant: &mut TenantConn<'_>,
    tenant_id: Uuid,
    profile: Option<UserProfile>,
    business: &Business,
    info: &BusinessInfo,
) -> Result<UserProfile, OnboardingError> {
    let schema = Some(tenant.schema().to_string());
    let updated = match profile {
        None => {
            let profile = NewUserProfile {
                user_id: info.user_id,
                business_id: Some(business.id),
                tenant_id: Some(tenant_id),
                country: info.country.clone(),
                is_business_owner: true,
                schema_name: schema,
                ..Default::default()
            };
            Some(profile.insert(tenant)?)
        }
        Some(profile) => {
            let changes = ProfileChanges {
                business_id: Some(business.id),
                tenant_id: Some(tenant_id),
                is_business_owner: Some(true),
                schema_name: schema,
                ..Default::default()
            };
            UserProfile::update(tenant, profile.id, &changes)?
        }
    };
    // It was locked, so that it is there.
    Ok(updated.ok_or(diesel::result::Error::NotFound)?)
}
