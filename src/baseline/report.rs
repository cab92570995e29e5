use std::time::Duration;

use serde::{Serialize, Serializer, ser::SerializeStruct};

use crate::{Error, structure::Difference};

/// What a baseline did, schema by schema.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The version of the tenant set.
    pub at: String,
    /// Whether nothing was written.
    pub dry_run: bool,
    /// A line for each schema, in the order in which they were handed in.
    #[serde(rename = "schemas")]
    pub lines: Vec<Line>,
    /// How long it took.
    #[serde(serialize_with = "milliseconds", rename = "elapsed_ms")]
    pub elapsed: Duration,
}

/// What a baseline did in one schema.
#[derive(Debug)]
pub struct Line {
    /// The schema.
    pub schema: String,
    /// What became of it.
    pub result: Result<Outcome, Error>,
    /// In what it is not as the migrations would have made it, whether or not that blocks.
    pub differences: Vec<Difference>,
    /// Why it was recorded by force without being compared.
    pub not_compared: Option<String>,
}

/// What became of one schema.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// It had all of these versions recorded before.
    AlreadyAt,
    /// These versions were recorded, or would be in a dry run.
    Recorded(Vec<String>),
    /// Nothing was recorded, and why.
    Refused(String),
}

impl Line {
    /// `already at`, `recorded`, `refused` or `failed`.
    pub fn outcome(&self) -> &'static str {
        match &self.result {
            Ok(Outcome::AlreadyAt) => "already at",
            Ok(Outcome::Recorded(_)) => "recorded",
            Ok(Outcome::Refused(_)) => "refused",
            Err(_) => "failed",
        }
    }

    /// Whether it is recorded by force alone: what is there differs, or could not be compared.
    pub fn is_forced(&self) -> bool {
        let doubtful = self.not_compared.is_some() || self.blocking().next().is_some();
        doubtful && matches!(self.result, Ok(Outcome::Recorded(_)))
    }

    /// The differences because of which nothing was recorded, or would not have been without force.
    pub fn blocking(&self) -> impl Iterator<Item = &Difference> {
        self.differences.iter().filter(|difference| difference.blocks)
    }
}

impl Report {
    /// How many lines have this [outcome](Line::outcome).
    pub fn count(&self, outcome: &str) -> usize {
        self.lines.iter().filter(|line| line.outcome() == outcome).count()
    }

    /// Whether every schema is, or would be, at the version.
    pub fn is_healthy(&self) -> bool {
        self.lines.iter().all(|line| matches!(line.result, Ok(Outcome::AlreadyAt | Outcome::Recorded(_))))
    }
}

impl Serialize for Line {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (recorded, reason) = match &self.result {
            Ok(Outcome::Recorded(versions)) => (versions.as_slice(), None),
            Ok(Outcome::Refused(reason)) => (&[][..], Some(reason.clone())),
            Ok(Outcome::AlreadyAt) => (&[][..], None),
            Err(error) => (&[][..], Some(error.chain())),
        };
        let mut line = serializer.serialize_struct("Line", 6)?;
        line.serialize_field("schema", &self.schema)?;
        line.serialize_field("outcome", &self.outcome().replace(' ', "_"))?;
        line.serialize_field("recorded", recorded)?;
        line.serialize_field("reason", &reason)?;
        line.serialize_field("differences", &self.differences)?;
        line.serialize_field("not_compared", &self.not_compared)?;
        line.end()
    }
}

fn milliseconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(duration.as_millis() as u64)
}
