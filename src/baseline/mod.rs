//! The taking over of schemas that other tools made: their structure is compared with what the migrations up to a
//! version make, and where they agree those versions are recorded as applied.

mod report;
mod run;

pub use report::{Line, Outcome, Report};
pub use run::Baseline;
