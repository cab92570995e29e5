use chrono::{DateTime, Utc};
use diesel::{pg::Pg, prelude::*};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{domain::schema::users_userprofile, pg::scope::TenantConn};

/// A user, as one tenant knows them.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable, Serialize, Deserialize)]
#[diesel(table_name = users_userprofile, check_for_backend(Pg))]
#[allow(missing_docs)]
pub struct UserProfile {
    pub id: i64,
    pub user_id: Uuid,
    pub business_id: Option<Uuid>,
    pub tenant_id: Option<Uuid>,
    pub occupation: Option<String>,
    pub street: Option<String>,
    pub city: Option<String>,
    pub state: Option<String>,
    pub postcode: Option<String>,
    pub country: String,
    pub phone_number: Option<String>,
    pub is_business_owner: bool,
    /// A secret: never serialized.
    #[serde(skip)]
    pub shopify_access_token: Option<String>,
    pub schema_name: Option<String>,
    pub metadata: serde_json::Value,
    pub created_at: DateTime<Utc>,
    pub modified_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

/// A profile to be added.
// Every column is written, null or not, so that it is one statement, which Diesel keeps prepared.
#[derive(Debug, Clone, PartialEq, Eq, Insertable, Serialize, Deserialize)]
#[diesel(table_name = users_userprofile, treat_none_as_default_value = false)]
#[serde(default)]
#[allow(missing_docs)]
pub struct NewUserProfile {
    pub user_id: Uuid,
    pub business_id: Option<Uuid>,
    pub tenant_id: Option<Uuid>,
    pub occupation: Option<String>,
    pub street: Option<String>,
    pub city: Option<String>,
    pub state: Option<String>,
    pub postcode: Option<String>,
    /// ISO 3166 alpha-2. Defaults to `US`.
    pub country: String,
    pub phone_number: Option<String>,
    pub is_business_owner: bool,
    /// A secret: never serialized.
    #[serde(skip_serializing)]
    pub shopify_access_token: Option<String>,
    pub schema_name: Option<String>,
    /// Defaults to an empty object.
    pub metadata: serde_json::Value,
}

/// What may change of a profile. What is `None` stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, AsChangeset, Serialize, Deserialize)]
#[diesel(table_name = users_userprofile)]
#[serde(default)]
#[allow(missing_docs)]
pub struct ProfileChanges {
    pub business_id: Option<Uuid>,
    pub tenant_id: Option<Uuid>,
    pub occupation: Option<String>,
    pub street: Option<String>,
    pub city: Option<String>,
    pub state: Option<String>,
    pub postcode: Option<String>,
    pub country: Option<String>,
    pub phone_number: Option<String>,
    pub is_business_owner: Option<bool>,
    /// A secret: never serialized.
    #[serde(skip_serializing)]
    pub shopify_access_token: Option<String>,
    pub schema_name: Option<String>,
    pub metadata: Option<serde_json::Value>,
}

/// The moment that every write of a profile carries: in both columns, which the incident lacked.
#[derive(Clone, Copy, Insertable, AsChangeset)]
#[diesel(table_name = users_userprofile, treat_none_as_default_value = false)]
pub(super) struct ProfileStamp {
    modified_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl ProfileStamp {
    pub(super) fn at(now: DateTime<Utc>) -> Self {
        Self { modified_at: now, updated_at: now }
    }
}

impl Default for NewUserProfile {
    fn default() -> Self {
        Self {
            user_id: Uuid::nil(),
            business_id: None,
            tenant_id: None,
            occupation: None,
            street: None,
            city: None,
            state: None,
            postcode: None,
            country: "US".into(),
            phone_number: None,
            is_business_owner: false,
            shopify_access_token: None,
            schema_name: None,
            metadata: serde_json::Value::Object(Default::default()),
        }
    }
}

impl NewUserProfile {
    /// Adds the profile.
    pub fn insert(&self, tenant: &mut TenantConn<'_>) -> QueryResult<UserProfile> {
        let now = Utc::now();
        diesel::insert_into(users_userprofile::table)
            .values((self, users_userprofile::created_at.eq(now), ProfileStamp::at(now)))
            .returning(UserProfile::as_returning())
            .get_result(tenant.conn())
    }
}

impl UserProfile {
    /// The user's profile in this tenant.
    pub fn of_user(tenant: &mut TenantConn<'_>, user: Uuid) -> QueryResult<Option<Self>> {
        users_userprofile::table
            .filter(users_userprofile::user_id.eq(user))
            .select(Self::as_select())
            .first(tenant.conn())
            .optional()
    }

    /// The same, and nobody else can change or delete it until the end of the transaction.
    pub(crate) fn lock_of_user(tenant: &mut TenantConn<'_>, user: Uuid) -> QueryResult<Option<Self>> {
        users_userprofile::table
            .filter(users_userprofile::user_id.eq(user))
            .select(Self::as_select())
            .for_no_key_update()
            .first(tenant.conn())
            .optional()
    }

    /// Changes the profile; `None` when there is none with this id.
    pub fn update(tenant: &mut TenantConn<'_>, id: i64, changes: &ProfileChanges) -> QueryResult<Option<Self>> {
        diesel::update(users_userprofile::table.find(id))
            .set((changes, ProfileStamp::at(Utc::now())))
            .returning(Self::as_returning())
            .get_result(tenant.conn())
            .optional()
    }
}
