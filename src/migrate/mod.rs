//! Migrations: read from Diesel's sources, looked up in every schema, applied to the schemas handed in.

mod apply;
mod group;
mod report;
mod run;
mod set;
mod survey;

pub use apply::apply;
pub use report::{Line, Report};
pub use run::{Connector, Event, Observer, Run, Silent};
pub use set::{Migration, MigrationSet, Migrations};
pub use survey::{SchemaStatus, State, survey};
