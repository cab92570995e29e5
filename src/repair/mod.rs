//! Puts right what the [`doctor`](crate::doctor) finds, without guessing: rows are copied from `public` to the
//! tenant that refers to them, nulls are filled, and what is not certain is left alone and named.

mod apply;
mod propose;
mod report;
mod run;

pub use report::{Copied, Filled, Left, Outcome, Reason, Report, TenantReport};
pub use run::Repair;
