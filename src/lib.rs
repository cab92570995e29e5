//! Schema-per-tenant PostgreSQL for Diesel.
//!
//! Every tenant's rows live in a schema of their own, with the same tables. This crate keeps every schema at the
//! same migration and every row in its own tenant's schema, and it can prove both.
//!
//! | to | use |
//! | --- | --- |
//! | do a request's work in one tenant | [`scope::transaction`](pg::scope::transaction) |
//! | have connections that forget the last tenant | [`pg::pool`] |
//! | tell which tenants there are | [`directory`] |
//! | make a tenant's schema | [`provision`] |
//! | migrate `public` and all tenants | [`Fleet`], with [`migrate`] |
//! | check migrations before they ship | `lint`, with the feature of that name |
//! | look up what earlier runs did | [`runs`] |
//! | tell how schemas are built, and apart | [`structure`] |
//! | take over a database that other tools made | [`baseline`] |
//! | find rows that the incident left out of place, and place them | [`doctor`], [`repair`] |
//! | give a monolith the commands | [`cli`] |
//!
//! [`domain`] is the application of the incident, built on the rest.

pub mod baseline;
#[cfg(feature = "cli")]
pub mod cli;
pub mod config;
pub mod directory;
pub mod doctor;
pub mod domain;
pub mod error;
mod fleet;
mod glob;
#[cfg(feature = "lint")]
pub mod lint;
pub mod migrate;
pub mod pg;
pub mod provision;
mod quote;
pub mod repair;
pub mod runs;
mod schema_name;
pub mod structure;
#[cfg(feature = "testing")]
pub mod testing;

pub use config::{Config, DatabaseUrl, OutsideScopes, Pooler};
pub use error::Error;
pub use fleet::{Fleet, Status};
pub use schema_name::{SchemaName, SchemaNameError};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
