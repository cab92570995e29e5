//! Takes a repair back.

mod constraints;
mod inserted;
mod report;
mod returned;
mod run;
mod sequences;
mod tenant;
mod updated;

pub use report::{Kept, UndoReport, Undone, UndoneTenant};
pub use run::Undo;
