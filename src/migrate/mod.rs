//! Migrations: read from Diesel's sources, looked up in every schema, applied to the schemas handed in.

mod apply;
mod group;
mod observer;
mod report;
mod run;
mod set;
mod survey;
mod worker;

pub use apply::apply;
pub use observer::{Event, Observer, Silent};
pub use report::{Line, Report};
pub use run::{Connector, Run};
pub use set::{Migration, MigrationSet, Migrations};
pub use survey::{SchemaStatus, State, survey};
