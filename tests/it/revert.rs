//! Going back.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use diesel::connection::SimpleConnection;
use tenantry::{
    Error, Fleet,
    directory::{FixedList, Glob, Named, Only, Selected, TenantDirectory},
    domain,
    migrate::{Goal, Migrations, Run, Set, Until},
    pg, runs,
    testing::TestDatabase,
};

use crate::support::{Tenants, migrations, outcomes};

fn three() -> Migrations {
    migrations(&[
        ("1_a", "CREATE TABLE a (x int)", "DROP TABLE a"),
        ("2_b", "CREATE TABLE b (x int)", "DROP TABLE b"),
        ("3_c", "CREATE TABLE c (x int)", "DROP TABLE c"),
    ])
}

fn steps(steps: usize) -> Goal {
    Goal::Revert { set: Set::Tenant, until: Until::Steps(steps) }
}

fn to(version: &str) -> Goal {
    Goal::Revert { set: Set::Tenant, until: Until::Version(version.into()) }
}

/// Two tenants with everything.
fn whole(migrations: &Migrations) -> Tenants {
    let tenants = Tenants::new(["acme", "globex"]);
    assert_eq!(tenants.run(&Run::new(migrations), migrations).unwrap().count("migrated"), 3);
    tenants
}

fn tables(db: &TestDatabase, schema: &str) -> String {
    db.texts(&format!(
        "SELECT relname FROM pg_class WHERE relnamespace = '{schema}'::regnamespace AND relkind = 'r' \
         AND relname !~ '^__' ORDER BY 1"
    ))
    .join(" ")
}

#[test]
fn every_schema_goes_back_and_public_last() {
    let three = three();
    let tenants = whole(&three);
    let report = tenants.run(&Run::new(&three).goal(&steps(2)), &three).unwrap();
    assert_eq!(outcomes(&report), ["public reverted", "acme reverted", "globex reverted"]);
    assert_eq!(report.lines[1].reverted, ["3", "2"]);
    for schema in ["public", "acme", "globex"] {
        assert_eq!(tables(&tenants.db, schema), "a");
    }
    assert_eq!(tenants.db.versions("public"), ["1", "p1"]);
    let last = tenants.db.text("SELECT schema FROM tenantry.run_step ORDER BY id DESC LIMIT 1");
    assert_eq!(last, "public");
    // And forth again.
    assert_eq!(tenants.run(&Run::new(&three), &three).unwrap().count("migrated"), 3);
}

#[test]
fn going_back_to_a_version_stops_there_and_again_does_nothing() {
    let three = three();
    let tenants = whole(&three);
    tenants.run(&Run::new(&three).goal(&to("1")), &three).unwrap();
    assert_eq!((tables(&tenants.db, "acme"), tenants.db.versions("acme")), ("a".into(), vec!["1".into()]));
    let again = tenants.run(&Run::new(&three).goal(&to("1")), &three).unwrap();
    assert_eq!(again.count("up to date"), 3);
}

#[test]
fn public_stays_when_a_tenant_could_not_go_back() {
    let three = three();
    let tenants = whole(&three);
    tenants.db.execute("acme", "DROP TABLE c");
    let report = tenants.run(&Run::new(&three).goal(&steps(1)), &three).unwrap();
    assert_eq!(outcomes(&report), ["public not reached", "acme failed", "globex reverted"]);
    assert_eq!(
        report.lines[1].result.as_ref().unwrap_err().chain(),
        "migration 3 failed in schema `acme`: table \"c\" does not exist"
    );
    assert_eq!((tables(&tenants.db, "public"), tenants.db.versions("acme").len()), ("a b c".into(), 3));
}

#[test]
fn the_public_set_goes_back_by_itself() {
    let three = three();
    let tenants = whole(&three);
    let goal = Goal::Revert { set: Set::Public, until: Until::Steps(1) };
    let report = tenants.run(&Run::new(&three).goal(&goal), &three).unwrap();
    assert_eq!(outcomes(&report), ["public reverted"]);
    assert_eq!(tenants.db.versions("public"), ["1", "2", "3"]);
}

#[test]
fn what_cannot_be_taken_back_is_refused_before_anything_is_done() {
    let three = migrations(&[
        ("1_a", "CREATE TABLE a (x int)", "-- There is no way back."),
        ("2_b", "CREATE TABLE b (x int)", "DROP TABLE b"),
    ]);
    let tenants = whole(&three);
    let report = tenants.run(&Run::new(&three).goal(&steps(2)), &three).unwrap();
    assert!(
        matches!(&report.lines[1].result, Err(Error::Irreversible { version, .. }) if version == "1"),
        "{report:?}"
    );
    assert_eq!(tables(&tenants.db, "acme"), "a b");
    // Neither is what a newer program's migration is built on.
    tenants.db.execute("globex", "INSERT INTO __diesel_schema_migrations VALUES ('9')");
    let report = tenants.run(&Run::new(&three).goal(&steps(1)), &three).unwrap();
    assert_eq!(outcomes(&report), ["public not reached", "acme reverted", "globex failed"]);
    assert!(
        matches!(&report.lines[2].result, Err(Error::LaterVersions { later, .. }) if later == &["9"]),
        "{report:?}"
    );
}

#[test]
fn redoing_is_one_transaction() {
    let three = three();
    let tenants = whole(&three);
    tenants.db.execute("acme", "INSERT INTO c VALUES (1); INSERT INTO b VALUES (1)");
    let goal = Goal::Redo { steps: 1 };
    let report = tenants.run(&Run::new(&three).goal(&goal), &three).unwrap();
    assert_eq!(outcomes(&report), ["public redone", "acme redone", "globex redone"]);
    assert_eq!(
        (tenants.db.text("SELECT count(*) FROM acme.c"), tenants.db.text("SELECT count(*) FROM acme.b")),
        ("0".into(), "1".into())
    );
    assert_eq!(tenants.db.versions("acme"), ["1", "2", "3"]);
    tenants.db.execute("acme", "CREATE VIEW v AS SELECT * FROM c");
    let report = tenants.run(&Run::new(&three).goal(&goal), &three).unwrap();
    assert_eq!(report.lines[1].outcome(), "failed");
    assert_eq!(tenants.db.versions("acme"), ["1", "2", "3"], "nothing is half done");
}

#[test]
fn some_tenants_go_back_alone() {
    let three = three();
    let tenants = whole(&three);
    let all = FixedList(vec!["acme".parse().unwrap(), "globex".parse().unwrap()]);
    let some = Selected { directory: &all, globs: vec![Glob::new("acme")], except: vec![], only: Only::All };
    let fleet = Fleet { migrations: &three, directory: &some, rules: domain::rules() };
    let goal = steps(1);
    let report = fleet.run(&Run::new(&three).goal(&goal), &|| pg::connect(tenants.db.config())).unwrap();
    assert_eq!(outcomes(&report), ["acme reverted"]);
    assert_eq!((tenants.db.versions("globex").len(), tenants.db.versions("public").len()), (3, 4));
    let plan = fleet.plan(&goal, &mut tenants.db.connect()).unwrap();
    assert_eq!(plan.schemas.iter().map(|planned| planned.steps[0].name).collect::<Vec<_>>(), ["2_b"]);
}

#[test]
fn an_index_goes_back_without_blocking_writers() {
    let two = migrations(&[
        ("1_a", "CREATE TABLE a (x int)", "DROP TABLE a"),
        ("2_i", "CREATE INDEX CONCURRENTLY a_x ON a (x)", "DROP INDEX CONCURRENTLY a_x"),
    ]);
    let tenants = whole(&two);
    let report = tenants.run(&Run::new(&two).goal(&steps(2)), &two).unwrap();
    assert_eq!(report.count("reverted"), 3, "{report:?}");
    assert_eq!((tables(&tenants.db, "acme"), tenants.db.versions("acme")), (String::new(), vec![]));
}

/// A way to the server that loses the answer to the first message with these words, once the server has acted on it.
fn losing_one_answer(url: &str, words: &'static str) -> String {
    let (credentials, rest) = url.split_once('@').unwrap();
    let (server, database) = rest.split_once('/').unwrap();
    let (server, lost) = (server.to_owned(), Arc::new(AtomicBool::new(false)));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let (mut upstream, lost) = (TcpStream::connect(&server).unwrap(), lost.clone());
            let (mut answers, mut back) = (upstream.try_clone().unwrap(), client.try_clone().unwrap());
            let cut = Arc::new(AtomicBool::new(false));
            let is_cut = cut.clone();
            thread::spawn(move || {
                let mut buffer = vec![0; 1 << 16];
                while let Ok(length @ 1..) = answers.read(&mut buffer) {
                    if !is_cut.load(Ordering::SeqCst) && back.write_all(&buffer[..length]).is_err() {
                        break;
                    }
                }
                let _ = back.shutdown(Shutdown::Both);
            });
            thread::spawn(move || {
                let mut buffer = vec![0; 1 << 16];
                while let Ok(length @ 1..) = client.read(&mut buffer) {
                    let found = String::from_utf8_lossy(&buffer[..length]).contains(words);
                    if found && !lost.swap(true, Ordering::SeqCst) {
                        cut.store(true, Ordering::SeqCst);
                        upstream.write_all(&buffer[..length]).unwrap();
                        thread::sleep(Duration::from_millis(500));
                        break;
                    }
                    if upstream.write_all(&buffer[..length]).is_err() {
                        break;
                    }
                }
                let _ = upstream.shutdown(Shutdown::Both);
            });
        }
    });
    format!("{credentials}@127.0.0.1:{port}/{database}")
}

#[test]
fn when_the_answer_to_the_commit_is_lost_nobody_goes_back_twice() {
    for goal in [steps(1), Goal::Redo { steps: 1 }] {
        let three = three();
        let tenants = whole(&three);
        tenants.db.execute("acme", "INSERT INTO b VALUES (1)");
        let config = tenantry::Config::new(losing_one_answer(tenants.db.url(), "DROP TABLE c").parse().unwrap());
        let directory = FixedList(vec!["acme".parse().unwrap(), "globex".parse().unwrap()]);
        let fleet = Fleet { migrations: &three, directory: &directory, rules: domain::rules() };
        let report = fleet.run(&Run::new(&three).goal(&goal).jobs(1), &|| pg::connect(&config)).unwrap();
        let redo = matches!(goal, Goal::Redo { .. });
        let left = if redo { ["1", "2", "3"].as_slice() } else { &["1", "2"] };
        assert_eq!(tenants.db.versions("acme"), left, "{report:?}");
        assert_eq!(tenants.db.text("SELECT count(*) FROM acme.b"), "1");
        let steps = tenants.db.text("SELECT count(*) FROM tenantry.run_step WHERE schema = 'acme' AND run = 2");
        assert_eq!(steps, if redo { "2" } else { "1" }, "once");
        let line = report.lines.iter().find(|line| line.schema == "acme").unwrap();
        assert_eq!(line.result.is_err(), redo, "whether it was redone cannot be seen: {line:?}");
    }
}

/// Two tenants with a table and an index, of which one was chosen.
fn chosen<T>(tenants: &Tenants, migrations: &Migrations, work: impl FnOnce(&Fleet<'_>, &Selected<'_>) -> T) -> T {
    let all = FixedList(vec!["acme".parse().unwrap(), "globex".parse().unwrap()]);
    let some = Selected { directory: &all, globs: vec![Glob::new("acme")], except: vec![], only: Only::All };
    assert_eq!(tenants.db.versions("globex"), tenants.db.versions("acme"));
    work(&Fleet { migrations, directory: &some, rules: domain::rules() }, &some)
}

#[test]
fn a_redo_that_was_half_done_goes_no_further_back() {
    let two = migrations(&[
        ("1_a", "CREATE TABLE a (x int)", "DROP TABLE a"),
        ("2_i", "CREATE INDEX CONCURRENTLY a_x ON a (x)", "DROP INDEX CONCURRENTLY a_x"),
    ]);
    let tenants = whole(&two);
    tenants.db.execute("acme", "INSERT INTO a VALUES (1)");
    // The index can be dropped beside an old snapshot, and not be made again.
    let holder = &mut tenants.db.connect();
    holder.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1 FROM public.a").unwrap();
    let goal = Goal::Redo { steps: 1 };
    let run = Run::new(&two).goal(&goal).lock_timeout(Duration::from_millis(200));
    let report = chosen(&tenants, &two, |fleet, _| fleet.run(&run, &|| pg::connect(tenants.db.config())).unwrap());
    assert_eq!(outcomes(&report), ["acme failed"]);
    assert_eq!(report.lines[0].reverted, ["2"]);
    assert_eq!(
        (tenants.db.text("SELECT count(*) FROM acme.a").as_str(), tenants.db.versions("acme")),
        ("1", vec!["1".into()])
    );
}

#[test]
fn taking_a_run_back_from_some_tenants_leaves_public_alone() {
    let three = three();
    let tenants = whole(&three);
    let goal = Goal::Unapply { versions: runs::applied(&mut tenants.db.connect(), 1).unwrap() };
    chosen(&tenants, &three, |fleet, some| {
        let report = fleet.run(&Run::new(&three).goal(&goal), &|| pg::connect(tenants.db.config())).unwrap();
        assert_eq!(outcomes(&report), ["acme reverted"]);
        // Nor is it what is left of such a run.
        let names = ["acme", "globex", "public"].map(Into::into).into();
        assert!(!Named { directory: some, names }.is_whole());
    });
}

#[test]
fn a_way_back_that_fails_is_not_taken_for_a_race() {
    let slow = migrations(&[("1_a", "CREATE TABLE a (x int)", "SELECT pg_sleep(0.5); DROP TABLE a")]);
    let tenants = whole(&slow);
    tenants.db.execute("acme", "DROP TABLE a");
    let (goal, started) = (steps(1), Instant::now());
    let report = tenants.run(&Run::new(&slow).goal(&goal).jobs(1), &slow).unwrap();
    assert_eq!(outcomes(&report), ["public not reached", "acme failed", "globex reverted"]);
    assert!(started.elapsed() < Duration::from_secs(3), "tried again and again: {:?}", started.elapsed());
}
