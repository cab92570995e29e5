//! The storm, in short. CONTRIBUTING.md says how to run the long one.

#[path = "../../examples/storm/mod.rs"]
mod program;

use clap::Parser;
use tenantry::testing::TestDatabase;

use self::program::{Report, Settings};

fn storm(arguments: &str) -> Report {
    program::run(&Settings::parse_from(format!("storm {arguments}").split(' ')), &TestDatabase::new())
}

#[test]
fn a_storm_misplaces_no_row_loses_none_and_leaks_nothing() {
    let report = storm("--seconds 10 --seed 1");
    assert!(report.is_clean(), "{report}");
    for what in [
        "COMMIT cut",
        "message cut",
        "query canceled",
        "connection terminated",
        "sent by hand",
        "left behind",
        "path set in a scope",
        "error swallowed",
        "scope in another tenant's scope",
        "schema renamed away and back",
        "tenant made again",
        "tenant migrated",
    ] {
        assert!(report.times(what) > 0, "{what}: not even once\n{report}");
    }
}

#[test]
fn a_storm_over_broken_scopes_finds_violations() {
    for scope in ["plain-set", "no-proof", "leaky-pool"] {
        let report = storm(&format!("--rounds 20 --tenants 8 --scope {scope}"));
        assert!(!report.is_clean(), "nothing found over {scope}\n{report}");
    }
}
