use chrono::{DateTime, NaiveDate, Utc};
use diesel::{pg::Pg, prelude::*};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::profile::ProfileStamp;
use crate::{
    domain::schema::{business_business, business_business_details, users_userprofile},
    pg::scope::TenantConn,
};

/// A business of one tenant.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable, Serialize, Deserialize)]
#[diesel(table_name = business_business, check_for_backend(Pg))]
#[allow(missing_docs)]
pub struct Business {
    pub id: Uuid,
    pub name: String,
    /// Six random digits, unique within the tenant.
    pub business_num: Option<String>,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

/// A business to be added.
#[derive(Debug, Clone, PartialEq, Eq, Insertable, Serialize, Deserialize)]
#[diesel(table_name = business_business, treat_none_as_default_value = false)]
#[allow(missing_docs)]
pub struct NewBusiness {
    pub id: Uuid,
    pub name: String,
}

/// What may change of a business.
#[derive(Debug, Clone, Default, PartialEq, Eq, AsChangeset, Serialize, Deserialize)]
#[diesel(table_name = business_business)]
#[allow(missing_docs)]
pub struct BusinessChanges {
    pub name: Option<String>,
}

/// The moment that every write of a business carries.
#[derive(Clone, Copy, Insertable, AsChangeset)]
#[diesel(table_name = business_business, treat_none_as_default_value = false)]
struct BusinessStamp {
    updated_at: DateTime<Utc>,
}

/// How many numbers are drawn before a tenant counts as full. A tenant with 900,000 businesses is refused
/// one in thirty times.
const DRAWS: usize = 32;

impl NewBusiness {
    /// Adds the business under a number that is free in its tenant; `None` when so many draws in a row hit
    /// one that is taken that hardly any can be left.
    ///
    /// A collision costs another round trip, not the transaction.
    pub fn insert(&self, tenant: &mut TenantConn<'_>) -> QueryResult<Option<Business>> {
        let now = Utc::now();
        for _ in 0..DRAWS {
            let number = format!("{:06}", rand::random_range(0..1_000_000));
            let inserted = diesel::insert_into(business_business::table)
                .values((
                    self,
                    business_business::business_num.eq(number),
                    business_business::created_at.eq(now),
                    BusinessStamp { updated_at: now },
                ))
                .on_conflict(business_business::business_num)
                .do_nothing()
                .returning(Business::as_returning())
                .get_result(tenant.conn())
                .optional()?;
            if inserted.is_some() {
                return Ok(inserted);
            }
        }
        Ok(None)
    }
}

impl Business {
    /// The tenant's business with this id.
    pub fn find(tenant: &mut TenantConn<'_>, id: Uuid) -> QueryResult<Option<Self>> {
        business_business::table.find(id).select(Self::as_select()).first(tenant.conn()).optional()
    }

    /// Every business of the tenant, the oldest first.
    pub fn all(tenant: &mut TenantConn<'_>) -> QueryResult<Vec<Self>> {
        business_business::table.order(business_business::created_at).select(Self::as_select()).load(tenant.conn())
    }

    /// Changes the business, and touches the profile of its owner with it; `None` when there is no such business.
    pub fn update(tenant: &mut TenantConn<'_>, id: Uuid, changes: &BusinessChanges) -> QueryResult<Option<Self>> {
        let now = Utc::now();
        let updated = diesel::update(business_business::table.find(id))
            .set((changes, BusinessStamp { updated_at: now }))
            .returning(Self::as_returning())
            .get_result(tenant.conn())
            .optional()?;
        if updated.is_some() {
            use users_userprofile::{business_id, is_business_owner, table};
            diesel::update(table.filter(business_id.eq(id).and(is_business_owner)))
                .set(ProfileStamp::at(now))
                .execute(tenant.conn())?;
        }
        Ok(updated)
    }
}

/// What is known of a business beyond its name.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable, Insertable, AsChangeset, Serialize, Deserialize)]
#[diesel(table_name = business_business_details, primary_key(business_id), check_for_backend(Pg))]
#[diesel(treat_none_as_null = true, treat_none_as_default_value = false)]
#[allow(missing_docs)]
pub struct BusinessDetails {
    pub business_id: Uuid,
    pub business_type: Option<String>,
    pub business_subtype_selections: serde_json::Value,
    /// One of [`LegalStructure`], in its written form.
    pub legal_structure: String,
    /// ISO 3166 alpha-2.
    pub country: String,
    pub date_founded: Option<NaiveDate>,
}

impl BusinessDetails {
    /// Adds the details of a business, or replaces those it has.
    pub fn save(&self, tenant: &mut TenantConn<'_>) -> QueryResult<Self> {
        diesel::insert_into(business_business_details::table)
            .values(self)
            .on_conflict(business_business_details::business_id)
            .do_update()
            .set(self)
            .returning(Self::as_returning())
            .get_result(tenant.conn())
    }

    /// The details of the tenant's business with this id.
    pub fn find(tenant: &mut TenantConn<'_>, business: Uuid) -> QueryResult<Option<Self>> {
        business_business_details::table.find(business).select(Self::as_select()).first(tenant.conn()).optional()
    }
}

/// The legal forms that a business may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[allow(missing_docs)]
pub enum LegalStructure {
    SoleProprietorship,
    GeneralPartnership,
    LimitedPartnership,
    Llc,
    Corporation,
    NonProfit,
    JointVenture,
    HoldingCompany,
    BranchOffice,
    RepresentativeOffice,
}

impl LegalStructure {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::SoleProprietorship,
        Self::GeneralPartnership,
        Self::LimitedPartnership,
        Self::Llc,
        Self::Corporation,
        Self::NonProfit,
        Self::JointVenture,
        Self::HoldingCompany,
        Self::BranchOffice,
        Self::RepresentativeOffice,
    ];

    /// As it is stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SoleProprietorship => "SOLE_PROPRIETORSHIP",
            Self::GeneralPartnership => "GENERAL_PARTNERSHIP",
            Self::LimitedPartnership => "LIMITED_PARTNERSHIP",
            Self::Llc => "LLC",
            Self::Corporation => "CORPORATION",
            Self::NonProfit => "NON_PROFIT",
            Self::JointVenture => "JOINT_VENTURE",
            Self::HoldingCompany => "HOLDING_COMPANY",
            Self::BranchOffice => "BRANCH_OFFICE",
            Self::RepresentativeOffice => "REPRESENTATIVE_OFFICE",
        }
    }
}
