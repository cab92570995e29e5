//! Migrations: read from Diesel's sources, looked up in every schema, applied to the schemas handed in.

mod apply;
mod carry_out;
mod goal;
mod group;
mod half_done;
mod interrupt;
mod observer;
mod outside;
mod plan;
mod recorder;
mod report;
mod run;
mod set;
mod step;
mod survey;
mod watch;
mod wave;
mod worker;

use apply::advance;
pub use apply::apply;
pub use goal::{Goal, Set, Until};
pub use interrupt::Interrupt;
pub use observer::{Event, Observer, Silent};
pub use plan::{Plan, Planned, PlannedStep};
pub use report::{Line, Report};
pub use run::{Connector, Run};
pub use set::{Migration, MigrationSet, Migrations};
pub use survey::{SchemaStatus, State, survey, version};
pub(crate) use watch::watched;
pub use wave::Canary;

pub use crate::pg::fleet_lock::Holder;
