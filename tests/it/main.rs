//! Claims about behaviour, each on a real PostgreSQL and in a database of its own.

#![allow(clippy::unwrap_used)]

mod baseline;
mod cli;
mod fleet;
mod incident;
mod layers;
mod load;
mod migrations;
mod onboarding;
mod pool;
mod repair;
mod scope;
mod structure;
mod support;
