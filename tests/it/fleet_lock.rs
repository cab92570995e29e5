//! The lock that keeps two runs apart: kept alive, watched, released.

use std::{
    io::{BufRead, BufReader, Read},
    process::{Child, Command, Stdio},
    sync::{
        Mutex, OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use diesel::connection::SimpleConnection;
use tenantry::{
    Error, Fleet,
    directory::FixedList,
    domain,
    migrate::{Event, Interrupt, Migrations, Observer, Run},
    pg,
    testing::TestDatabase,
};

use crate::{
    cli::{MIGRATE_ALL, TENANTRY, run, run_with},
    pgbouncer::PgBouncer,
    support::{Tenants, migrated, migrations, outcomes, tenant},
};

/// The processes that hold the lock of the fleet.
const HOLDERS: &str = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 1 \
     AND (classid::bigint << 32 | objid::bigint) = hashtextextended('tenantry fleet', 0) \
     AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";

/// A migration that takes a while in each tenant.
fn slow() -> Migrations {
    migrations(&[(
        "1_slow",
        "CREATE TABLE t (); SELECT pg_sleep(0.3) WHERE current_schema() <> 'public'",
        "DROP TABLE t",
    )])
}

/// One tenant after the other.
fn one_by_one(all: &Migrations) -> Run<'_> {
    Run::new(all).jobs(1).lock_budget(Duration::ZERO)
}

#[track_caller]
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < Duration::from_secs(20), "{what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Ends the session that holds the lock, as an operator or a network may, and returns its process.
fn end_holder(db: &TestDatabase) -> String {
    let holder = db.text(HOLDERS);
    db.text(&format!("SELECT pg_terminate_backend({holder})"));
    until("the session stays", || !db.texts(HOLDERS).contains(&holder));
    holder
}

/// Does something once, when so many tenants are done.
struct After<F: Fn()>(AtomicUsize, F);

impl<F: Fn() + Sync> Observer for After<F> {
    fn on(&self, event: &Event<'_>) {
        if let Event::Finished(line) = event
            && line.schema != "public"
            && self.0.fetch_sub(1, Ordering::SeqCst) == 1
        {
            self.1();
        }
    }
}

#[test]
fn idle_timeouts_do_not_let_a_second_run_in() {
    let tenants = Tenants::new(["t0", "t1", "t2", "t3", "t4", "t5"]);
    // PostgreSQL 13 has no such timeout.
    tenants.db.execute(
        "public",
        "DO $$ BEGIN IF EXISTS (SELECT FROM pg_settings WHERE name = 'idle_session_timeout') THEN \
             EXECUTE format('ALTER DATABASE %I SET idle_session_timeout = ''400ms''', current_database()); \
         END IF; END $$",
    );
    let all = slow();
    let second = OnceLock::new();
    // By then the lock is more than a second old.
    let again = After(AtomicUsize::new(4), || drop(second.set(tenants.run(&Run::new(&all), &all))));
    let report = tenants.run(&one_by_one(&all).observer(&again), &all).unwrap();
    let second = second.into_inner().expect("the second run was tried");
    assert!(matches!(second, Err(Error::RunInProgress { .. })), "{second:?}");
    assert_eq!((report.count("migrated"), report.lock_lost), (7, None));
}

#[test]
fn a_run_that_loses_the_lock_goes_on_when_it_has_it_again() {
    let tenants = Tenants::new(["t0", "t1", "t2"]);
    let (all, db) = (slow(), &tenants.db);
    let lose = After(AtomicUsize::new(1), || {
        let holder = end_holder(db);
        until("the lock is not taken again", || db.texts(HOLDERS).iter().any(|pid| *pid != holder));
    });
    let report = tenants.run(&one_by_one(&all).observer(&lose), &all).unwrap();
    assert_eq!((report.count("migrated"), report.lock_lost), (4, None));
    assert_eq!(db.texts(HOLDERS), Vec::<String>::new());
}

#[test]
fn a_run_that_loses_the_lock_to_another_begins_no_tenant_any_more() {
    /// Says that it waits, and that it has begun.
    #[derive(Default)]
    struct Second {
        waits: OnceLock<()>,
        begun: OnceLock<()>,
    }
    impl Observer for Second {
        fn on(&self, event: &Event<'_>) {
            match event {
                Event::Waiting { .. } => drop(self.waits.set(())),
                Event::Started { .. } => drop(self.begun.set(())),
                _ => {}
            }
        }
    }
    let tenants = Tenants::new(["t0", "t1", "t2", "t3", "t4"]);
    let (all, db, watch) = (slow(), &tenants.db, Second::default());
    thread::scope(|threads| {
        let other = Mutex::new(None);
        let lose = After(AtomicUsize::new(1), || {
            let second = || tenants.run(&Run::new(&all).wait(Duration::MAX).observer(&watch), &all);
            *other.lock().unwrap() = Some(threads.spawn(second));
            until("nothing waits", || watch.waits.get().is_some());
            end_holder(db);
            until("the other run does not begin", || watch.begun.get().is_some());
        });
        let report = tenants.run(&one_by_one(&all).observer(&lose), &all).unwrap();
        let expected = ["public migrated", "t0 migrated", "t1 not reached", "t2 not reached"];
        assert_eq!(outcomes(&report)[..4], expected);
        let lost = "the lock of the fleet was lost when its connection was closed, and another run holds it now";
        let error = report.lines[2].result.as_ref().unwrap_err().chain();
        assert_eq!(error, format!("not reached: {lost}; run it again"));
        assert_eq!(report.lock_lost.as_deref(), Some(lost));
        let second = other.into_inner().unwrap().unwrap().join().unwrap().unwrap();
        assert_eq!((second.count("migrated"), second.lock_lost), (4, None));
    });
    assert_eq!(db.texts(HOLDERS), Vec::<String>::new());
}

#[test]
fn a_run_that_cannot_take_the_lock_again_can_be_stopped() {
    let tenants = Tenants::new(["t0", "t1"]);
    let (all, db, interrupt) = (slow(), &tenants.db, Interrupt::new());
    let (is_lost, refused) = (AtomicBool::new(false), AtomicBool::new(false));
    let connect = || match is_lost.load(Ordering::SeqCst) && !interrupt.is_stopped() {
        true => {
            refused.store(true, Ordering::SeqCst);
            Err(Error::Connect { url: "postgres://".into(), reason: "too many clients".into() })
        }
        false => pg::connect(db.config()),
    };
    let lose = After(AtomicUsize::new(1), || {
        is_lost.store(true, Ordering::SeqCst);
        end_holder(db);
        until("no connection is asked for", || refused.load(Ordering::SeqCst));
    });
    let directory = FixedList(vec!["t0".parse().unwrap(), "t1".parse().unwrap()]);
    let fleet = Fleet { migrations: &all, directory: &directory, rules: domain::rules() };
    let report = thread::scope(|threads| {
        threads.spawn(|| {
            until("no connection is asked for", || refused.load(Ordering::SeqCst));
            interrupt.stop();
        });
        fleet.run(&one_by_one(&all).observer(&lose).interrupt(&interrupt), &connect).unwrap()
    });
    assert_eq!(outcomes(&report), ["public migrated", "t0 migrated", "t1 not reached"]);
    let error = report.lines[2].result.as_ref().unwrap_err().chain();
    assert_eq!(error, "not reached: the run was stopped before its turn; run it again");
}

#[test]
fn a_run_does_not_go_on_where_another_has_begun_since() {
    let tenants = Tenants::new(["t0", "t1", "t2", "t3", "t4"]);
    let (all, db) = (slow(), &tenants.db);
    let lose = After(AtomicUsize::new(1), || {
        db.execute("tenantry", "INSERT INTO run (options, program, migrations) VALUES ('{}', 'another', '[]')");
        end_holder(db);
    });
    let report = tenants.run(&one_by_one(&all).observer(&lose), &all).unwrap();
    assert_eq!(outcomes(&report)[5], "t4 not reached");
    assert!(report.lock_lost.as_ref().is_some_and(|lost| lost.ends_with("another run has begun since")), "{report:?}");
    assert_eq!(db.texts(HOLDERS), Vec::<String>::new());
}

#[test]
fn a_run_does_not_take_a_session_of_its_own_for_another_runs() {
    let tenants = Tenants::new(["t0", "t1"]);
    let (all, db) = (slow(), &tenants.db);
    // It keeps the session of a connection that was closed, with its lock, and lends the next one another session.
    let keeping = ["server_reset_query =", "server_round_robin = 1", "default_pool_size = 20"];
    let bouncer = PgBouncer::start(db, "session", &keeping);
    let (config, opened) = (bouncer.config(db), AtomicUsize::new(0));
    let mut idle: Vec<_> = (0..12).map(|_| bouncer.connect(db)).collect();
    idle.iter_mut().for_each(|client| client.batch_execute("SELECT 1").unwrap());
    drop(idle);
    let connect = || {
        opened.fetch_add(1, Ordering::SeqCst);
        pg::connect(&config)
    };
    let lose = After(AtomicUsize::new(1), || {
        // So that it cannot be known whether another run has begun since.
        db.execute("tenantry", "ALTER TABLE run RENAME TO hidden");
        let before = opened.load(Ordering::SeqCst);
        end_holder(db);
        until("it is not tried again", || opened.load(Ordering::SeqCst) >= before + 2);
        db.execute("tenantry", "ALTER TABLE hidden RENAME TO run");
    });
    let directory = FixedList(vec!["t0".parse().unwrap(), "t1".parse().unwrap()]);
    let fleet = Fleet { migrations: &all, directory: &directory, rules: domain::rules() };
    let report = fleet.run(&one_by_one(&all).observer(&lose), &connect).unwrap();
    assert_eq!((report.count("migrated"), report.lock_lost), (3, None));
    assert_eq!(db.texts(HOLDERS), Vec::<String>::new());
}

#[test]
fn a_run_just_after_another_is_never_refused() {
    let tenants = Tenants::new(["acme"]);
    let all = migrations(&[("1_table", "CREATE TABLE t ()", "DROP TABLE t")]);
    for _ in 0..50 {
        tenants.run(&Run::new(&all).record(false), &all).unwrap();
        assert_eq!(tenants.db.texts(HOLDERS), Vec::<String>::new());
    }
}

/// A deploy job that is in the middle of its work for as long as a table is locked.
struct Deploy {
    db: TestDatabase,
    table: diesel::PgConnection,
    child: Child,
}

impl Deploy {
    fn start() -> Self {
        let db = migrated();
        tenant(&mut db.connect(), "acme");
        assert_eq!(run(TENANTRY, &["revert", "--steps", "1", "--yes", "--quiet"], &db).code, 0);
        let mut table = db.connect();
        table.batch_execute("BEGIN; LOCK TABLE acme.users_userprofile IN ACCESS SHARE MODE").unwrap();
        let child = spawn(&db, &["--lock-timeout", "60"]);
        until("nothing waits for the table", || {
            db.text("SELECT count(*) FROM pg_locks l JOIN pg_stat_activity USING (pid) WHERE NOT l.granted AND datname = current_database()") == "1"
        });
        Self { db, table, child }
    }

    fn finish(&mut self) {
        self.table.batch_execute("COMMIT").unwrap();
        assert_eq!(self.child.wait().unwrap().code(), Some(0));
    }

    /// Who is waited for, in the words of the programs.
    fn holder(&self) -> String {
        let holder = "SELECT format('role %s from %s, process %s of the server, since %s', usename, host(client_addr), pid, \
             to_char(backend_start AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS UTC')) FROM pg_stat_activity WHERE pid IN";
        self.db.text(&format!("{holder} ({HOLDERS})"))
    }
}

fn spawn(db: &TestDatabase, args: &[&str]) -> Child {
    Command::new(MIGRATE_ALL)
        .args(args)
        .env("DATABASE_URL", db.url())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

#[test]
fn who_waits_is_shown_for_whom_since_when_and_how_long() {
    let mut first = Deploy::start();
    let holder = first.holder();
    let mut waits = spawn(&first.db, &["--wait"]);
    let mut line = String::new();
    BufReader::new(waits.stderr.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, format!("waiting for as long as it takes for another run, by {holder}\n"));
    let mut machine = spawn(&first.db, &["--wait=60", "--json"]);
    let mut events = BufReader::new(machine.stdout.take().unwrap());
    line.clear();
    events.read_line(&mut line).unwrap();
    let event: serde_json::Value = serde_json::from_str(&line).unwrap();
    let pid: i32 = first.db.text(HOLDERS).parse().unwrap();
    let shown = (&event["event"], &event["at_most_seconds"], &event["holder"]["pid"], &event["abandoned"]);
    assert_eq!(shown, (&"waiting".into(), &60.into(), &pid.into(), &false.into()));
    let bounded = run(MIGRATE_ALL, &["--wait=1"], &first.db);
    assert_eq!(bounded.code, 1);
    let refused = format!(
        "error: another run is under way, by {holder}: wait for it with --wait, or look for what it left open\n"
    );
    assert_eq!(bounded.err, format!("waiting for at most 1 s for another run, by {holder}\n{refused}"));
    assert_eq!(run(MIGRATE_ALL, &[], &first.db).err, refused);
    let quiet = run(MIGRATE_ALL, &["--wait=1", "--quiet"], &first.db);
    assert_eq!(quiet.err, refused);
    first.finish();
    assert_eq!(waits.wait().unwrap().code(), Some(0));
    events.read_to_string(&mut line).unwrap();
    assert_eq!(machine.wait().unwrap().code(), Some(0));
}

#[test]
fn a_lock_that_a_pooler_may_have_kept_is_told_from_a_run() {
    let db = migrated();
    let kept = &mut db.connect();
    kept.batch_execute("SET application_name = 'app'; SELECT pg_advisory_lock(hashtextextended('tenantry fleet', 0))")
        .unwrap();
    let refused = run_with(MIGRATE_ALL, &[], &[("DATABASE_URL", db.url())]);
    let pid = db.text(HOLDERS);
    assert_eq!(refused.code, 1);
    assert!(refused.err.contains("its session \"app\", idle for "), "{refused:?}");
    assert!(refused.err.contains(" does not look like one of a run that is under way"), "{refused:?}");
    assert!(refused.err.contains(&format!("SELECT pg_terminate_backend({pid})")), "{refused:?}");
}
