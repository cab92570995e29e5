//! Claims about behaviour, each on a real PostgreSQL and in a database of its own.

#![allow(clippy::unwrap_used)]

mod baseline;
mod citus;
mod cli;
mod cli_runs;
mod crash;
mod doctor;
mod doctor_fixes;
mod doctor_functions;
mod doctor_leaks;
mod doctor_owners;
mod doctor_public;
mod fleet;
mod fleet_lock;
mod incident;
mod layers;
mod legacy;
mod lint;
mod load;
mod migrations;
mod onboarding;
mod outside;
mod pgbouncer;
mod pool;
mod pooler;
mod poor_server;
mod repair;
mod repair_again;
mod repair_constraints;
mod repair_memory;
mod repair_odd;
mod repair_random;
mod repair_strays;
mod repair_together;
mod repair_undo;
mod repair_undo_originals;
mod repair_undo_rehearsed;
mod repairing;
mod revert;
mod run;
mod runs;
mod scope;
mod server;
mod structure;
mod support;
