use std::time::Duration;

use serde::{Serialize, Serializer, ser::SerializeStruct};

use crate::Error;

/// What a run did, schema by schema.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// A line for each schema, `public` first, then in the directory's order.
    #[serde(rename = "schemas")]
    pub lines: Vec<Line>,
    /// How long it took.
    #[serde(serialize_with = "milliseconds", rename = "elapsed_ms")]
    pub elapsed: Duration,
}

/// What a run did in one schema.
#[derive(Debug)]
pub struct Line {
    /// The schema, or what the directory wrote in its place.
    pub schema: String,
    /// The versions that were applied; none when there was nothing to do.
    pub result: Result<Vec<String>, Error>,
    /// How long it took.
    pub duration: Duration,
}

impl Line {
    /// `migrated`, `up to date` or `failed`.
    pub fn outcome(&self) -> &'static str {
        match &self.result {
            Ok(applied) if applied.is_empty() => "up to date",
            Ok(_) => "migrated",
            Err(_) => "failed",
        }
    }
}

impl Report {
    /// The schemas that failed, each with its error.
    pub fn failures(&self) -> impl Iterator<Item = (&str, &Error)> {
        self.lines.iter().filter_map(|line| line.result.as_ref().err().map(|error| (line.schema.as_str(), error)))
    }

    /// How many lines have this [outcome](Line::outcome).
    pub fn count(&self, outcome: &str) -> usize {
        self.lines.iter().filter(|line| line.outcome() == outcome).count()
    }
}

impl Serialize for Line {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut line = serializer.serialize_struct("Line", 5)?;
        line.serialize_field("schema", &self.schema)?;
        line.serialize_field("outcome", &self.outcome().replace(' ', "_"))?;
        line.serialize_field("applied", self.result.as_deref().unwrap_or_default())?;
        line.serialize_field("error", &self.result.as_ref().err().map(Error::chain))?;
        line.serialize_field("duration_ms", &(self.duration.as_millis() as u64))?;
        line.end()
    }
}

fn milliseconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(duration.as_millis() as u64)
}
