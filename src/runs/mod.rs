//! What earlier runs did, remembered in the schema `tenantry`.
//!
//! It is a log and decides nothing: what a schema has is told by Diesel's own history in it alone. But each step is
//! written in the transaction of the migration itself, so the log is exact.

mod recall;
mod remember;

pub(crate) use recall::edited;
pub use recall::{PastLine, PastRun, PastStep, applied, find, left, lines, list, steps, under_way};
pub(crate) use remember::{Beginning, End, Step, begin, chose, end, forget_steps, insert_steps, is_overtaken};
