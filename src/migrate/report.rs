use std::time::Duration;

use serde::{Serialize, Serializer, ser::SerializeStruct};

use crate::Error;

/// What a run did, schema by schema.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// The number under which the run is remembered, if it is.
    pub run: Option<i64>,
    /// A line for each schema, `public` first, then in the directory's order.
    #[serde(rename = "schemas")]
    pub lines: Vec<Line>,
    /// Migrations whose text is another than the one that an earlier run applied.
    pub edited: Vec<String>,
    /// Why the run is remembered without its end, if it is.
    pub unremembered: Option<String>,
    /// Why the lock of the fleet was not held to the end, if it was not: another run may have been at work meanwhile.
    pub lock_lost: Option<String>,
    /// How long it took.
    #[serde(serialize_with = "milliseconds", rename = "elapsed_ms")]
    pub elapsed: Duration,
}

/// What a run did in one schema.
#[derive(Debug)]
pub struct Line {
    /// The schema, or what the directory wrote in its place.
    pub schema: String,
    /// The versions that were taken back, in the order in which they were.
    pub reverted: Vec<String>,
    /// The versions that were applied, in the order in which they were.
    pub applied: Vec<String>,
    /// What went wrong, after what is listed above had been committed.
    pub result: Result<(), Error>,
    /// How often it was tried.
    pub attempts: u32,
    /// How long it took, all attempts together.
    pub duration: Duration,
    /// Whether the error may pass, for all that can be known of one in another language than English.
    pub(crate) unclear: bool,
}

impl Line {
    /// The line of a schema in which nothing was done.
    pub(crate) fn idle(schema: impl Into<String>, result: Result<(), Error>) -> Self {
        let (reverted, applied) = (Vec::new(), Vec::new());
        Self { schema: schema.into(), reverted, applied, result, attempts: 1, duration: Duration::ZERO, unclear: false }
    }

    /// `migrated`, `reverted`, `redone`, `up to date`, `failed` or `not reached`.
    pub fn outcome(&self) -> &'static str {
        match (&self.result, self.applied.is_empty(), self.reverted.is_empty()) {
            (Err(Error::NotReached { .. }), ..) => "not reached",
            (Err(_), ..) => "failed",
            (Ok(()), true, true) => "up to date",
            (Ok(()), false, true) => "migrated",
            (Ok(()), true, false) => "reverted",
            (Ok(()), false, false) => "redone",
        }
    }

    /// Whether anything was changed.
    pub(crate) fn is_changed(&self) -> bool {
        !(self.applied.is_empty() && self.reverted.is_empty())
    }
}

impl Report {
    /// The schemas that failed or were not reached, each with its error.
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
        let mut line = serializer.serialize_struct("Line", 7)?;
        line.serialize_field("schema", &self.schema)?;
        line.serialize_field("outcome", &self.outcome().replace(' ', "_"))?;
        line.serialize_field("reverted", &self.reverted)?;
        line.serialize_field("applied", &self.applied)?;
        line.serialize_field("error", &self.result.as_ref().err().map(Error::chain))?;
        line.serialize_field("attempts", &self.attempts)?;
        line.serialize_field("duration_ms", &(self.duration.as_millis() as u64))?;
        line.end()
    }
}

fn milliseconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(duration.as_millis() as u64)
}
