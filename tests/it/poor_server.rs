//! Servers that have less to give than is asked of them.

use tenantry::{domain, migrate::Run, pg, testing::TestDatabase};

use crate::server::Server;

/// A fleet of empty schemas, and what became of its run with so many jobs.
fn migrate(db: &TestDatabase, tenants: usize, jobs: usize) -> Vec<String> {
    let names: Vec<String> = (0..tenants).map(|number| format!("t{number:02}")).collect();
    db.execute("public", &names.iter().map(|name| format!("CREATE SCHEMA {name};")).collect::<String>());
    let schemas: Vec<_> = names.iter().map(|name| name.parse().unwrap()).collect();
    let run = Run::new(domain::migrations().unwrap()).jobs(jobs);
    let report = run.tenants(&|| pg::connect(db.config()), &schemas).unwrap();
    report.failures().map(|(schema, error)| format!("{schema}: {}", error.chain())).collect()
}

#[test]
fn fewer_connections_than_jobs_are_enough() {
    let server = Server::start(&["max_connections=6", "superuser_reserved_connections=0"]);
    assert_eq!(migrate(&server.database(), 64, 16), Vec::<String>::new());
}

#[test]
fn a_small_lock_table_makes_small_groups() {
    let server = Server::start(&["max_connections=5", "max_locks_per_transaction=10", "max_wal_senders=0"]);
    assert_eq!(migrate(&server.database(), 64, 2), Vec::<String>::new());
}
