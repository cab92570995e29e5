//! How schemas are built, read from the catalog for many of them at once, and told apart.
//!
//! A [`Reader`] reads, [`compare`] tells what one schema lacks of another, and [`reference`](reference()) is what
//! the migrations make. What a schema says of itself is printed with the schema on the path, so that two
//! schemas of the same structure read the same, whatever they are called.
//!
//! Not compared: comments, the order of columns, tablespaces, storage, statistics objects, operators, text search
//! configurations, and Diesel's history table. Owners and grants are read [on request](Reader::rights), for one
//! tenant against another: a reference belongs to whoever asks for it, and nobody has been granted anything there.

mod compare;
mod cure;
mod difference;
mod harm;
mod object;
mod own_name;
mod read;
mod reference;

pub use compare::compare;
pub use difference::{Change, Difference};
pub use object::{Kind, Object, Structure};
pub use read::Reader;
pub use reference::{Reference, reference};
