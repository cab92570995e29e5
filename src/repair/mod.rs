//! Puts right what the [`doctor`](crate::doctor) finds, without guessing: rows are copied from `public` to the
//! tenant that refers to them or owns them, nulls filled, sequences moved on, constraints restored, and what is not
//! certain is left alone and named.
//!
//! A [`Repair`] does it and remembers what it did, in the transaction of each tenant; an [`Undo`] takes it back.

mod admit;
mod attempt;
mod blueprint;
mod carry_out;
mod casts;
mod claims;
mod constraints;
mod copy;
mod earlier;
mod fill;
mod look;
mod look_again;
mod memory;
mod neighbours;
mod order;
mod originals;
mod outside;
mod piecemeal;
mod proposal;
mod propose;
mod prune;
mod report;
mod rights;
mod roots;
mod rows;
mod run;
mod sequences;
mod settings;
mod strays;
mod tenant;
mod turns;
mod undo;
mod walk;
mod why;

pub use memory::{PastChange, PastRepair, What, changes, find, list};
pub use report::{Advanced, Constrained, Copied, Filled, How, Left, Outcome, Reason, Report, TenantReport};
pub use run::Repair;
pub use undo::{Kept, Undo, UndoReport, Undone, UndoneTenant};

use crate::doctor::Kind;

/// The kinds of findings that a repair can put right, or has to know of: for [`Repair::findings`].
pub const KINDS: &[Kind] = &[
    Kind::Unreadable,
    Kind::Orphan,
    Kind::Stray,
    Kind::Nulls,
    Kind::SequenceBehind,
    Kind::Conflict,
    Kind::Copy,
    Kind::ForeignKeyLeak,
    Kind::NotValid,
    Kind::Missing,
    Kind::Changed,
];
