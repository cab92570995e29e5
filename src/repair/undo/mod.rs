//! Takes a repair back.

mod constraints;
mod copies;
mod delete;
mod inserted;
mod loose;
mod needs;
mod original;
mod referrers;
mod reinsert;
mod report;
mod returned;
mod run;
mod sequences;
mod tenant;
mod updated;

pub use report::{Kept, UndoReport, Undone, UndoneTenant};
pub use run::Undo;
