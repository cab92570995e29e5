//! A storm over the pool and the scopes: many threads, few connections, and everything that can go wrong at once.
//!
//! `script/with-postgres cargo run --release --example storm -- --seconds 300 --seed 1`
//!
//! Exits with 0 when no violation was found, with 2 when one was. CONTRIBUTING.md says how to read the report.

#[path = "mod.rs"]
mod storm;

use std::process::ExitCode;

use clap::Parser;
use tenantry::testing::TestDatabase;

fn main() -> ExitCode {
    let settings = storm::Settings::parse();
    let report = storm::run(&settings, &TestDatabase::new());
    print!("{report}");
    if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::from(2) }
}
