//! Finds what is wrong in a fleet: schemas, histories, structure, and rows out of place. Reads only.
//!
//! A [`Doctor`] looks at a whole fleet, in bulk, and returns a [`Report`]; [`examine`] looks at the rows of one tenant,
//! for a [repair](crate::repair).

mod belongings;
mod bodies;
mod check;
mod contested;
mod crew;
mod draft;
mod drift;
mod examine;
mod history;
mod kind;
mod leaks;
mod look;
mod named;
mod plan;
mod quiet;
mod replaced;
mod report;
mod rights;
mod rows;
mod rules;
mod run;
mod schemas;
mod strays;
mod visit;
mod wanted;
mod words;

pub(crate) use belongings::{Belongings, Title};
pub(crate) use crew::Crew;
#[cfg(feature = "cli")]
pub(crate) use crew::cores;
pub use examine::{Examined, Problem, Symptom, examine};
pub(crate) use examine::{examine_rows, references, same_key};
pub use kind::Kind;
pub(crate) use plan::{forbidden_nulls, telling_key};
pub use report::{Finding, Fix, NotCompared, Report, Severity};
pub use rules::{Fill, Rules, Shared};
pub use run::Doctor;

/// How many examples a finding has.
const EXAMPLES: usize = 5;
