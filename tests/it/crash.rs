//! A runner that is killed and a server that is stopped, at any moment: every schema is at a whole version, and the
//! next run finishes the job.

use std::{
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use diesel::connection::SimpleConnection;
use tenantry::{SchemaName, domain, migrate::Run, pg, structure::Reader, testing::TestDatabase};

use crate::server::Server;

const TENANTS: usize = 12;

/// A fleet that is migrated again and again, with new tenants each time.
struct Fleet {
    db: TestDatabase,
    /// The fingerprint of a schema without any migration, with the first one, and with both.
    references: [String; 3],
    round: usize,
}

impl Fleet {
    fn new(db: TestDatabase) -> Self {
        let all = domain::migrations().unwrap();
        Run::new(all).public(&mut db.connect()).unwrap();
        db.execute("public", "CREATE SCHEMA at_none");
        db.create_tenant("at_first", &all.with_tenant_up_to("0001").unwrap());
        db.create_tenant("at_last", all);
        let references = ["at_none", "at_first", "at_last"].map(|schema| fingerprints(&db, &[schema.into()]).remove(0));
        assert!(references[0] != references[1] && references[1] != references[2]);
        Self { db, references, round: 0 }
    }

    /// New tenants: without any migration in one round, at the first one in the next.
    fn next_round(&mut self) -> Vec<String> {
        self.round += 1;
        let names: Vec<String> = (0..TENANTS).map(|number| format!("r{:02}_{number:02}", self.round)).collect();
        let create: String = names.iter().map(|name| format!("CREATE SCHEMA {name};")).collect();
        self.db.connect().batch_execute(&create).unwrap();
        if self.round.is_multiple_of(2) {
            let schemas: Vec<SchemaName> = names.iter().map(|name| name.parse().unwrap()).collect();
            let first = domain::migrations().unwrap().with_tenant_up_to("0001").unwrap();
            let report = Run::new(&first).tenants(&|| pg::connect(self.db.config()), &schemas).unwrap();
            assert_eq!(report.count("migrated"), TENANTS);
        }
        names
    }

    /// The deploy job over this round's tenants.
    fn spawn(&self) -> Child {
        // What went wrong is not to be mended by the same run.
        Command::new(env!("CARGO_BIN_EXE_migrate-all-tenants"))
            .args(["--jobs", "2", "--attempts", "1", "--quiet", "--schemas", &format!("r{:02}_*", self.round)])
            .env("DATABASE_URL", self.db.url())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    }

    /// Waits for the server to end what a killed runner had sent.
    fn settle(&self) {
        let started = Instant::now();
        let left = "SELECT count(*) FROM pg_stat_activity \
                    WHERE datname = current_database() AND application_name LIKE 'tenantry %'";
        while self.db.text(left) != "0" {
            assert!(started.elapsed() < Duration::from_secs(20), "the killed runner's connections stay");
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Checks that each of these has the structure of its versions, and tells how many versions that are.
    fn assert_whole(&self, names: &[String]) -> Vec<usize> {
        let recorded = self
            .db
            .texts("SELECT relnamespace::regnamespace FROM pg_class WHERE relname = '__diesel_schema_migrations'");
        let histories: Vec<String> = names
            .iter()
            .filter(|name| recorded.contains(name))
            .map(|name| format!("SELECT '{name}' FROM {name}.__diesel_schema_migrations"))
            .chain(["SELECT '' WHERE false".into()])
            .collect();
        let versions = self.db.texts(&histories.join(" UNION ALL "));
        let check = |(name, fingerprint): (&String, String)| {
            let applied = versions.iter().filter(|schema| *schema == name).count();
            assert_eq!(fingerprint, self.references[applied], "{name} with {applied} migrations");
            applied
        };
        names.iter().zip(fingerprints(&self.db, names)).map(check).collect()
    }

    /// The next run does what is left, and nothing twice.
    fn assert_finished_by_the_next_run(&self, names: &[String]) {
        assert_eq!(self.spawn().wait().unwrap().code(), Some(0));
        assert_eq!(self.assert_whole(names), [2; TENANTS]);
        let twice = "SELECT schema || version FROM tenantry.run_step GROUP BY schema, version HAVING count(*) > 1";
        assert_eq!(self.db.texts(twice), Vec::<String>::new());
    }

    /// How long a run takes that nobody disturbs, for new tenants and for those with the first migration.
    fn undisturbed(&mut self) -> [Duration; 2] {
        [(), ()].map(|()| {
            let names = self.next_round();
            let started = Instant::now();
            self.assert_finished_by_the_next_run(&names);
            started.elapsed()
        })
    }
}

/// What tells the structures of these schemas apart, one by one.
fn fingerprints(db: &TestDatabase, names: &[String]) -> Vec<String> {
    let schemas: Vec<SchemaName> = names.iter().map(|name| name.parse().unwrap()).collect();
    let mut found = Reader::new().fingerprints(&mut db.connect(), &schemas).unwrap();
    schemas.iter().map(|schema| found.remove(schema).unwrap()).collect()
}

fn moment(within: Duration) -> Duration {
    within.mul_f64(rand::random_range(0.0..1.0))
}

#[test]
fn a_runner_killed_at_fifty_moments_leaves_whole_versions() {
    let mut fleet = Fleet::new(TestDatabase::new());
    let usual = fleet.undisturbed();
    let mut interrupted = 0;
    for round in 0..50 {
        let names = fleet.next_round();
        let mut runner = fleet.spawn();
        thread::sleep(moment(usual[round % 2]));
        runner.kill().unwrap(); // SIGKILL
        runner.wait().unwrap();
        fleet.settle();
        let left = fleet.assert_whole(&names).into_iter().filter(|applied| *applied < 2).count();
        interrupted += usize::from((1..TENANTS).contains(&left));
        fleet.assert_finished_by_the_next_run(&names);
    }
    assert!(interrupted > 0, "not one of fifty runs was killed between two tenants");
}

#[test]
fn a_server_stopped_at_twenty_moments_leaves_whole_versions() {
    let server = Server::start(&[]);
    let mut fleet = Fleet::new(server.database());
    let usual = fleet.undisturbed();
    for round in 0..20 {
        let names = fleet.next_round();
        let mut runner = fleet.spawn();
        thread::sleep(moment(usual[round % 2]));
        server.stop_immediately();
        server.start_again();
        runner.wait().unwrap();
        fleet.settle();
        fleet.assert_whole(&names);
        fleet.assert_finished_by_the_next_run(&names);
    }
}
