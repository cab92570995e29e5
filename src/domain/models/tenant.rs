use std::fmt;

use chrono::{DateTime, Utc};
use diesel::{
    deserialize::{self, FromSql, FromSqlRow},
    expression::AsExpression,
    pg::{Pg, PgValue},
    prelude::*,
    serialize::{self, IsNull, Output, ToSql},
    sql_types::Text,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{SchemaName, domain::schema::custom_auth_tenant};

/// A tenant: a row of the registry, `public.custom_auth_tenant`, and the schema that it names.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable, Serialize, Deserialize)]
#[diesel(table_name = custom_auth_tenant, check_for_backend(Pg))]
#[allow(missing_docs)]
pub struct Tenant {
    pub id: Uuid,
    /// As it is stored; it is parsed where it is used.
    pub schema_name: String,
    pub name: String,
    pub owner_id: Option<Uuid>,
    pub created_on: DateTime<Utc>,
    /// False while the tenant is suspended.
    pub is_active: bool,
    pub setup_status: SetupStatus,
    pub setup_error_message: Option<String>,
    pub last_setup_attempt: Option<DateTime<Utc>>,
}

/// How far the making of a tenant has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, AsExpression, FromSqlRow)]
#[diesel(sql_type = Text)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum SetupStatus {
    NotStarted,
    Pending,
    InProgress,
    Complete,
    Error,
}

/// A tenant to be registered: see [`register_tenant`](crate::domain::onboarding::register_tenant).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewTenant {
    /// Chosen by the caller, so that the same request can be sent again.
    pub id: Uuid,
    /// At most 100 characters.
    pub name: String,
    /// The user who owns the tenant; a user owns one at most.
    #[serde(default)]
    pub owner_id: Option<Uuid>,
    /// Defaults to [`SchemaName::for_tenant`] of the id.
    #[serde(default)]
    pub schema_name: Option<SchemaName>,
}

impl NewTenant {
    /// A tenant whose schema is named after its id.
    pub fn new(id: Uuid, name: impl Into<String>) -> Self {
        Self { id, name: name.into(), owner_id: None, schema_name: None }
    }

    /// The schema that the tenant will have.
    pub fn schema(&self) -> SchemaName {
        self.schema_name.clone().unwrap_or_else(|| SchemaName::for_tenant(self.id))
    }

    /// Adds the registry's row, unless one of its unique values is taken.
    pub(crate) fn insert(&self, conn: &mut PgConnection) -> QueryResult<Option<Tenant>> {
        use custom_auth_tenant::*;
        diesel::insert_into(table)
            .values((
                id.eq(self.id),
                schema_name.eq(self.schema().as_str()),
                name.eq(&self.name),
                owner_id.eq(self.owner_id),
                setup_status.eq(SetupStatus::Complete),
                last_setup_attempt.eq(Utc::now()),
            ))
            .on_conflict_do_nothing()
            .returning(Tenant::as_returning())
            .get_result(conn)
            .optional()
    }
}

impl Tenant {
    /// The tenant with this id.
    pub fn find(conn: &mut PgConnection, id: Uuid) -> QueryResult<Option<Self>> {
        custom_auth_tenant::table.find(id).select(Self::as_select()).first(conn).optional()
    }

    /// Every tenant, by name of schema.
    pub fn all(conn: &mut PgConnection) -> QueryResult<Vec<Self>> {
        custom_auth_tenant::table.order(custom_auth_tenant::schema_name).select(Self::as_select()).load(conn)
    }

    /// The tenants that have this schema or this owner: at most one of each.
    pub(crate) fn of_schema_or_owner(
        conn: &mut PgConnection,
        schema: &SchemaName,
        owner: Uuid,
    ) -> QueryResult<Vec<Self>> {
        use custom_auth_tenant::*;
        table.filter(schema_name.eq(schema.as_str()).or(owner_id.eq(owner))).select(Self::as_select()).load(conn)
    }

    /// Suspends or resumes the tenant; false when there is none with this id.
    pub fn set_active(conn: &mut PgConnection, id: Uuid, active: bool) -> QueryResult<bool> {
        let changed = diesel::update(custom_auth_tenant::table.find(id))
            .set(custom_auth_tenant::is_active.eq(active))
            .execute(conn)?;
        Ok(changed == 1)
    }
}

impl SetupStatus {
    const ALL: [Self; 5] = [Self::NotStarted, Self::Pending, Self::InProgress, Self::Complete, Self::Error];

    /// As it is stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotStarted => "not_started",
            Self::Pending => "pending",
            Self::InProgress => "in_progress",
            Self::Complete => "complete",
            Self::Error => "error",
        }
    }
}

impl fmt::Display for SetupStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl ToSql<Text, Pg> for SetupStatus {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> serialize::Result {
        std::io::Write::write_all(out, self.as_str().as_bytes())?;
        Ok(IsNull::No)
    }
}

impl FromSql<Text, Pg> for SetupStatus {
    fn from_sql(value: PgValue<'_>) -> deserialize::Result<Self> {
        let text = <String as FromSql<Text, Pg>>::from_sql(value)?;
        let found = Self::ALL.into_iter().find(|status| status.as_str() == text);
        found.ok_or_else(|| format!("{text:?} is no setup_status").into())
    }
}
