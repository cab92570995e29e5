use chrono::{DateTime, Utc};
use diesel::prelude::*;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::domain::schema::custom_auth_user;

/// Somebody who can sign in. Shared by all tenants: `public.custom_auth_user`.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable, Serialize, Deserialize)]
#[diesel(table_name = custom_auth_user, check_for_backend(diesel::pg::Pg))]
#[allow(missing_docs)]
pub struct User {
    pub id: Uuid,
    pub email: String,
    pub first_name: String,
    pub last_name: String,
    pub is_active: bool,
    /// Set by [`save_business_info`](crate::domain::onboarding::save_business_info).
    pub is_onboarded: bool,
    pub date_joined: DateTime<Utc>,
}

/// A user to be added.
#[derive(Debug, Clone, PartialEq, Eq, Insertable, Serialize, Deserialize)]
#[diesel(table_name = custom_auth_user, treat_none_as_default_value = false)]
#[allow(missing_docs)]
pub struct NewUser {
    pub id: Uuid,
    pub email: String,
    #[serde(default)]
    pub first_name: String,
    #[serde(default)]
    pub last_name: String,
}

impl NewUser {
    /// Adds the user.
    pub fn insert(&self, conn: &mut PgConnection) -> QueryResult<User> {
        self.insert_into(custom_auth_user::table).returning(User::as_returning()).get_result(conn)
    }
}

impl User {
    /// The user with this id.
    pub fn find(conn: &mut PgConnection, id: Uuid) -> QueryResult<Option<Self>> {
        custom_auth_user::table.find(id).select(Self::as_select()).first(conn).optional()
    }

    /// The user with this id, whom nobody else can change until the end of the transaction.
    pub(crate) fn lock(conn: &mut PgConnection, id: Uuid) -> QueryResult<Option<Self>> {
        custom_auth_user::table.find(id).select(Self::as_select()).for_no_key_update().first(conn).optional()
    }

    /// Marks the user as onboarded.
    pub(crate) fn set_onboarded(conn: &mut PgConnection, id: Uuid) -> QueryResult<usize> {
        diesel::update(custom_auth_user::table.find(id)).set(custom_auth_user::is_onboarded.eq(true)).execute(conn)
    }
}
