use std::fmt;

use chrono::{Datelike, NaiveDate, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::OnboardingError;
use crate::domain::{countries::is_country, models::LegalStructure};

/// Step 1 of the onboarding: what a user tells of their business. Texts as they were typed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BusinessInfo {
    /// Who tells it: a row of `public.custom_auth_user`.
    pub user_id: Uuid,
    /// 1 to 255 characters.
    pub business_name: String,
    /// At most 50 characters.
    #[serde(default)]
    pub business_type: Option<String>,
    /// A JSON object. Defaults to an empty one.
    #[serde(default = "no_selections")]
    pub business_subtype_selections: serde_json::Value,
    /// One of [`LegalStructure`]. Defaults to `SOLE_PROPRIETORSHIP`.
    #[serde(default = "sole_proprietorship")]
    pub legal_structure: String,
    /// ISO 3166 alpha-2, in capital letters. Defaults to `US`.
    #[serde(default = "us")]
    pub country: String,
    /// Today in UTC, or earlier.
    #[serde(default)]
    pub date_founded: Option<NaiveDate>,
}

/// A field that cannot be saved, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct InvalidField {
    /// The field of [`BusinessInfo`] or [`NewTenant`](crate::domain::models::NewTenant).
    pub field: &'static str,
    /// What it should be.
    pub reason: String,
}

impl fmt::Display for InvalidField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.field, self.reason)
    }
}

impl BusinessInfo {
    /// A business of which no more than the name is known.
    pub fn new(user_id: Uuid, business_name: impl Into<String>) -> Self {
        Self {
            user_id,
            business_name: business_name.into(),
            business_type: None,
            business_subtype_selections: no_selections(),
            legal_structure: sole_proprietorship(),
            country: us(),
            date_founded: None,
        }
    }

    /// Checks every field, without a database.
    ///
    /// # Errors
    ///
    /// [`OnboardingError::InvalidFields`] with all that is wrong.
    pub fn validate(&self) -> Result<(), OnboardingError> {
        let mut invalid = Invalid::default();
        invalid.check_text("business_name", &self.business_name, 1, 255);
        invalid.check_text("business_type", self.business_type.as_deref().unwrap_or_default(), 0, 50);
        let selections = &self.business_subtype_selections;
        if !selections.is_object() || selections.to_string().contains("\\u0000") {
            invalid.push("business_subtype_selections", "must be a JSON object without NUL characters");
        }
        if !LegalStructure::ALL.iter().any(|known| known.as_str() == self.legal_structure) {
            let known = LegalStructure::ALL.map(LegalStructure::as_str).join(", ");
            invalid.push("legal_structure", format!("must be one of {known}"));
        }
        if !is_country(&self.country) {
            invalid.push("country", "must be an ISO 3166 alpha-2 code in capital letters, such as US");
        }
        if self.date_founded.is_some_and(|date| date > Utc::now().date_naive() || date.year() < 1) {
            invalid.push("date_founded", "may not be in the future, nor before the year 1");
        }
        invalid.into_result()
    }
}

/// Collects what is wrong with a request.
#[derive(Default)]
pub(super) struct Invalid(Vec<InvalidField>);

impl Invalid {
    /// A text of `min` to `max` characters that PostgreSQL can store and a person can read.
    pub(super) fn check_text(&mut self, field: &'static str, text: &str, min: usize, max: usize) {
        let length = text.chars().count();
        if length > max {
            self.push(field, format!("may have at most {max} characters, this one has {length}"));
        } else if text.trim().chars().count() < min {
            self.push(field, "may not be empty");
        } else if text.chars().any(char::is_control) {
            self.push(field, "may not have control characters");
        }
    }

    fn push(&mut self, field: &'static str, reason: impl Into<String>) {
        self.0.push(InvalidField { field, reason: reason.into() });
    }

    pub(super) fn into_result(self) -> Result<(), OnboardingError> {
        if self.0.is_empty() { Ok(()) } else { Err(OnboardingError::InvalidFields(self.0)) }
    }
}

fn no_selections() -> serde_json::Value {
    serde_json::Value::Object(Default::default())
}

fn sole_proprietorship() -> String {
    LegalStructure::SoleProprietorship.as_str().into()
}

fn us() -> String {
    "US".into()
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    #[track_caller]
    fn check(change: impl FnOnce(&mut BusinessInfo), expected: &[&str]) {
        let mut info = BusinessInfo::new(Uuid::nil(), "Engines Ltd");
        change(&mut info);
        let fields: Vec<&str> = match info.validate() {
            Ok(()) => Vec::new(),
            Err(OnboardingError::InvalidFields(invalid)) => invalid.iter().map(|invalid| invalid.field).collect(),
            Err(other) => panic!("{other}"),
        };
        assert_eq!(fields, expected);
    }

    #[test]
    fn every_legal_structure_and_a_date_of_today_pass() {
        for structure in LegalStructure::ALL {
            check(|info| info.legal_structure = structure.as_str().into(), &[]);
        }
        check(|info| info.date_founded = Some(Utc::now().date_naive()), &[]);
        check(|info| info.business_name = "ü".repeat(255), &[]);
    }

    #[test]
    fn every_invalid_field_is_named() {
        check(|info| info.business_name = " ".into(), &["business_name"]);
        check(|info| info.business_name = "x".repeat(300), &["business_name"]);
        check(|info| info.business_name = "a\0b".into(), &["business_name"]);
        check(|info| info.business_type = Some("x".repeat(51)), &["business_type"]);
        check(|info| info.business_subtype_selections = serde_json::json!([1]), &["business_subtype_selections"]);
        check(
            |info| info.business_subtype_selections = serde_json::json!({"a": "\0"}),
            &["business_subtype_selections"],
        );
        check(|info| info.legal_structure = "GMBH".into(), &["legal_structure"]);
        check(|info| info.country = "us".into(), &["country"]);
        check(|info| info.date_founded = Some(Utc::now().date_naive() + TimeDelta::days(1)), &["date_founded"]);
        check(|info| info.date_founded = Some(NaiveDate::MIN), &["date_founded"]);
    }

    #[test]
    fn all_that_is_wrong_is_told_at_once() {
        let change = |info: &mut BusinessInfo| {
            info.country = "XX".into();
            info.business_name.clear();
        };
        check(change, &["business_name", "country"]);
    }

    #[test]
    fn json_needs_no_more_than_user_and_name() {
        let info: BusinessInfo = serde_json::from_str(
            r#"{"user_id": "00000000-0000-0000-0000-000000000000", "business_name": "Engines Ltd"}"#,
        )
        .unwrap();
        assert_eq!(info, BusinessInfo::new(Uuid::nil(), "Engines Ltd"));
    }
}
