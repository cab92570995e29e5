//! How a run goes: what it tries again, where it stops, and who comes first.

use std::{
    collections::BTreeSet,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use diesel::{Connection, connection::SimpleConnection};
use tenantry::{
    Error, Fleet,
    directory::{FixedList, Glob},
    domain,
    migrate::{Canary, Event, Interrupt, Migrations, Observer, Run, apply},
    pg::{self, atomically},
};

use crate::support::{Tenants, migrations, outcomes};

const TABLE: (&str, &str, &str) = ("1_table", "CREATE TABLE t (a int)", "DROP TABLE t");

fn table() -> Migrations {
    migrations(&[TABLE])
}

fn table_and_column() -> Migrations {
    migrations(&[TABLE, ("2_column", "ALTER TABLE t ADD b int", "ALTER TABLE t DROP b")])
}

/// Tenants that have the table, and those that are named here cannot be given the column.
fn with_table<'n>(names: impl IntoIterator<Item = &'n str> + Clone, broken: &[&str]) -> Tenants {
    let (tenants, first) = (Tenants::new(names), table());
    assert_eq!(tenants.run(&Run::new(&first), &first).unwrap().count("failed"), 0);
    for name in broken {
        tenants.db.execute(name, "ALTER TABLE t ADD b text");
    }
    tenants
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("t{number:02}")).collect()
}

/// What a run told, a word for each event.
#[derive(Default)]
struct Ear(Mutex<Vec<String>>);

impl Observer for Ear {
    fn on(&self, event: &Event<'_>) {
        self.0.lock().unwrap().push(match event {
            Event::Wave { name, tenants } => format!("wave {name} {tenants}"),
            Event::Deferred { line } => format!("{} put off", line.schema),
            Event::Finished(line) => format!("{} {}", line.schema, line.outcome()),
            _ => return,
        });
    }
}

#[test]
fn a_tenant_that_is_busy_is_tried_again_when_the_others_are_done() {
    let tenants = with_table(["acme", "globex", "hooli"], &[]);
    let holder = &mut tenants.db.connect();
    holder.batch_execute("BEGIN; LOCK TABLE acme.t IN ACCESS SHARE MODE").unwrap();
    struct Release<'c>(Ear, Mutex<Option<&'c mut diesel::PgConnection>>);
    impl Observer for Release<'_> {
        fn on(&self, event: &Event<'_>) {
            self.0.on(event);
            if let Event::Deferred { .. } = event
                && let Some(holder) = self.1.lock().unwrap().take()
            {
                holder.batch_execute("COMMIT").unwrap();
            }
        }
    }
    let (all, ear) = (table_and_column(), Release(Ear::default(), Mutex::new(Some(holder))));
    let run = Run::new(&all).jobs(1).lock_timeout(Duration::from_millis(50)).observer(&ear);
    let report = tenants.run(&run, &all).unwrap();
    assert_eq!(report.count("migrated"), 4);
    assert_eq!(report.lines.iter().map(|line| line.attempts).collect::<Vec<_>>(), [1, 2, 1, 1]);
    assert_eq!(*ear.0.0.lock().unwrap(), ["acme put off", "globex migrated", "hooli migrated", "acme migrated"]);
}

#[test]
fn a_tenant_that_stays_locked_is_given_up_after_the_last_attempt() {
    let tenants = with_table(["acme", "globex"], &[]);
    let holder = &mut tenants.db.connect();
    holder.batch_execute("BEGIN; LOCK TABLE acme.t IN ACCESS SHARE MODE").unwrap();
    let all = table_and_column();
    let run = Run::new(&all).lock_timeout(Duration::from_millis(20)).attempts(2);
    let report = tenants.run(&run, &all).unwrap();
    assert_eq!(outcomes(&report), ["public migrated", "acme failed", "globex migrated"]);
    assert_eq!(report.lines[1].attempts, 2);
    assert_eq!(
        report.lines[1].result.as_ref().unwrap_err().chain(),
        "migration 2 failed in schema `acme`: canceling statement due to lock timeout"
    );
}

#[test]
fn a_deadlock_is_tried_again() {
    let tenants = Tenants::new(["acme"]);
    tenants.db.execute("public", "CREATE TABLE a (); CREATE TABLE b ()");
    let locks =
        migrations(&[("1_locks", "LOCK TABLE public.a; SELECT pg_sleep(0.4); LOCK TABLE public.b", "SELECT 1")]);
    let report = thread::scope(|threads| {
        threads.spawn(|| {
            let conn = &mut tenants.db.connect();
            // It waits longer than the run, which therefore is the one that notices.
            conn.batch_execute("SET deadlock_timeout = '10s'; BEGIN; LOCK TABLE public.b").unwrap();
            thread::sleep(Duration::from_millis(200));
            conn.batch_execute("LOCK TABLE public.a; COMMIT").unwrap();
        });
        tenants.run(&Run::new(&locks), &locks).unwrap()
    });
    assert_eq!(report.failures().map(|(_, error)| error.chain()).collect::<Vec<_>>(), Vec::<String>::new());
}

#[test]
fn lost_connections_are_opened_again_and_nothing_is_lost() {
    struct Cut<'t>(&'t Tenants, AtomicUsize);
    impl Observer for Cut<'_> {
        fn on(&self, event: &Event<'_>) {
            if let Event::Finished(_) = event
                && self.1.fetch_add(1, Ordering::SeqCst) == 10
            {
                self.0.db.execute(
                    "public",
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                     WHERE datname = current_database() AND pid <> pg_backend_pid()",
                );
            }
        }
    }
    let names = names(40);
    let tenants = with_table(names.iter().map(String::as_str), &[]);
    let (all, cut) = (table_and_column(), Cut(&tenants, AtomicUsize::new(0)));
    let report = tenants.run(&Run::new(&all).jobs(3).observer(&cut), &all).unwrap();
    assert_eq!(report.failures().map(|(_, error)| error.chain()).collect::<Vec<_>>(), Vec::<String>::new());
    for name in &names {
        assert_eq!(tenants.db.versions(name), ["1", "2"]);
    }
    let twice = "SELECT schema FROM tenantry.run_step GROUP BY schema, version HAVING count(*) > 1";
    assert_eq!(tenants.db.texts(twice), Vec::<String>::new());
}

#[test]
fn a_statement_may_take_so_long_and_no_longer() {
    let tenants = Tenants::new(["acme"]);
    let slow = migrations(&[("1_slow", "SELECT pg_sleep(20) WHERE current_schema() <> 'public'", "SELECT 1")]);
    let started = Instant::now();
    let report = tenants.run(&Run::new(&slow).statement_timeout(Duration::from_millis(100)), &slow).unwrap();
    assert!(started.elapsed() < Duration::from_secs(10));
    assert!(report.lines[1].result.as_ref().unwrap_err().chain().ends_with("due to statement timeout"));
    assert_eq!(report.lines[1].attempts, 1, "it would take as long again");
}

#[test]
fn the_run_ends_when_more_have_failed_than_may() {
    let names = names(30);
    let all = table_and_column();
    for (most, failed) in [(0, 1), (2, 3)] {
        let tenants = with_table(names.iter().map(String::as_str), &["t03", "t05", "t06", "t07"]);
        let run = Run::new(&all).jobs(1).lock_budget(Duration::ZERO).max_failures(most);
        let report = tenants.run(&run, &all).unwrap();
        assert_eq!(report.count("failed"), failed);
        assert_eq!(report.lines[30].outcome(), "not reached");
        let reason = report.lines[30].result.as_ref().unwrap_err().chain();
        assert_eq!(
            reason,
            format!("not reached: the run ended after {failed} had failed, before its turn; run it again")
        );
        assert_eq!(tenants.db.versions("t29"), ["1"]);
    }
}

#[test]
fn a_canary_that_fails_stops_the_rest() {
    let names = names(30);
    let all = table_and_column();
    let tenants = with_table(names.iter().map(String::as_str), &["t02"]);
    let report = tenants.run(&Run::new(&all).canary(&Canary::First(3)), &all).unwrap();
    assert_eq!((report.count("migrated"), report.count("failed"), report.count("not reached")), (3, 1, 27));
    let reason = report.lines[30].result.as_ref().unwrap_err().chain();
    assert_eq!(reason, "not reached: 1 of the canary failed before its turn; run it again");
    assert_eq!(tenants.db.versions("t29"), ["1"]);

    let ear = Ear::default();
    let canary = Canary::Matching(Glob::new("t1?"));
    let report = tenants.run(&Run::new(&all).canary(&canary).jobs(1).observer(&ear), &all).unwrap();
    assert_eq!((report.count("migrated"), report.count("failed")), (27, 1));
    let told = ear.0.into_inner().unwrap();
    assert_eq!((told[0].as_str(), told[1].as_str()), ("wave canary 10", "t10 migrated"));
    assert_eq!(told[11], "wave 100% 20");
}

#[test]
fn a_wave_that_fails_is_the_last_one() {
    let names = names(30);
    let tenants = with_table(names.iter().map(String::as_str), &["t05", "t20"]);
    let all = table_and_column();
    let run = Run::new(&all).waves(&[10, 50, 100]);
    let report = tenants.run(&run, &all).unwrap();
    assert_eq!((report.count("migrated"), report.count("failed"), report.count("not reached")), (15, 1, 15));
    // With a failure allowed it goes on.
    let report = tenants.run(&run.max_failures(2), &all).unwrap();
    assert_eq!((report.count("migrated"), report.count("failed"), report.count("not reached")), (14, 2, 0));
    let error = tenants.run(&run.waves(&[50]), &all).unwrap_err();
    assert!(matches!(error, Error::Request { .. }), "{error}");
}

#[test]
fn what_is_under_way_is_cancelled_when_that_is_asked_for() {
    let tenants = Tenants::new(["acme", "globex"]);
    let slow = migrations(&[(
        "1_slow",
        "CREATE TABLE t (); SELECT pg_sleep(60) WHERE current_schema() <> 'public'",
        "SELECT 1",
    )]);
    struct Cancel<'i>(&'i Interrupt);
    impl Observer for Cancel<'_> {
        fn on(&self, event: &Event<'_>) {
            if let Event::Began { .. } = event {
                self.0.stop();
                self.0.cancel();
            }
        }
    }
    let interrupt = Interrupt::new();
    let started = Instant::now();
    let report =
        tenants.run(&Run::new(&slow).jobs(1).observer(&Cancel(&interrupt)).interrupt(&interrupt), &slow).unwrap();
    assert!(started.elapsed() < Duration::from_secs(30));
    assert_eq!(report.count("migrated"), 1, "public was done before");
    assert_eq!(tenants.db.versions("acme"), Vec::<String>::new());
    assert_eq!(tenants.db.text("SELECT count(*) FROM pg_class WHERE relname = 't'"), "1");
}

#[test]
fn a_run_that_is_stopped_before_it_began_does_nothing() {
    let tenants = Tenants::new(["acme"]);
    let interrupt = Interrupt::new();
    interrupt.stop();
    let all = table();
    let holder = &mut tenants.db.connect();
    holder.batch_execute("SELECT pg_advisory_lock(hashtextextended('tenantry fleet', 0))").unwrap();
    let error = tenants.run(&Run::new(&all).wait(Duration::MAX).interrupt(&interrupt), &all).unwrap_err();
    assert!(matches!(error, Error::Stopped), "{error}");
}

#[test]
fn a_callers_transaction_keeps_its_own_bounds() {
    let tenants = Tenants::new(["acme"]);
    let conn = &mut tenants.db.connect();
    let all = table();
    let shown = atomically(conn, |conn| {
        conn.batch_execute("SET LOCAL lock_timeout = '7s'")?;
        apply(conn, &"acme".parse().unwrap(), &all, Duration::from_secs(1))?;
        conn.batch_execute("DO $$ BEGIN ASSERT current_setting('lock_timeout') = '7s'; END $$")?;
        Ok::<_, Error>(())
    });
    shown.unwrap();
}

#[test]
fn of_two_runs_that_start_together_one_works_and_one_is_told() {
    let names = names(10);
    let all = table();
    for _ in 0..20 {
        let tenants = Tenants::new(names.iter().map(String::as_str));
        let reports: Vec<_> = thread::scope(|threads| {
            let racers: Vec<_> = (0..2).map(|_| threads.spawn(|| tenants.run(&Run::new(&all).jobs(2), &all))).collect();
            racers.into_iter().map(|racer| racer.join().unwrap()).collect()
        });
        let migrated: usize = reports.iter().flatten().map(|report| report.count("migrated")).sum();
        assert_eq!(migrated, 11);
        for error in reports.iter().filter_map(|report| report.as_ref().err()) {
            assert!(matches!(error, Error::RunInProgress { .. }), "{error}");
        }
    }
}

#[test]
fn three_of_two_hundred_are_broken_in_three_ways_and_the_rest_is_done() {
    let names: Vec<String> = (0..200).map(|number| format!("t{number:03}")).collect();
    let tenants = Tenants::new(names.iter().map(String::as_str));
    tenants.db.execute("t010", "CREATE TABLE t ()"); // in the way of the migration
    tenants.db.execute("public", "DROP SCHEMA t100"); // gone
    let holder = &mut tenants.db.connect(); // somebody is at it, and does not end
    holder.begin_test_transaction().unwrap();
    holder.batch_execute("SELECT pg_advisory_xact_lock(hashtextextended('tenantry:t150', 0))").unwrap();
    let all = table_and_column();
    let report = tenants.run(&Run::new(&all).lock_timeout(Duration::from_millis(50)), &all).unwrap();
    assert_eq!((report.count("migrated"), report.count("failed")), (198, 3));
    let told: Vec<String> = report.failures().map(|(schema, error)| format!("{schema}: {}", error.chain())).collect();
    assert_eq!(
        told,
        [
            "t010: migration 1 failed in schema `t010`: relation \"t\" already exists",
            "t100: no schema `t100`: create the tenant first, or drop it from the registry",
            "t150: schema `t150` is locked by another run, and was after 0.05 s: try again when it has ended",
        ]
    );
}

#[test]
fn a_tenant_that_is_renamed_or_dropped_during_the_run_is_one_line() {
    struct Meddle<'t>(&'t Tenants);
    impl Observer for Meddle<'_> {
        fn on(&self, event: &Event<'_>) {
            if let Event::Finished(line) = event
                && line.schema == "t00"
            {
                self.0.db.execute("public", "DROP SCHEMA t05 CASCADE; ALTER SCHEMA t06 RENAME TO elsewhere");
            }
        }
    }
    let names = names(10);
    let tenants = with_table(names.iter().map(String::as_str), &[]);
    let all = table_and_column();
    let report = tenants.run(&Run::new(&all).jobs(1).observer(&Meddle(&tenants)), &all).unwrap();
    let failed: Vec<&str> = report.failures().map(|(schema, _)| schema).collect();
    assert_eq!((failed, report.count("migrated")), (vec!["t05", "t06"], 9));
    assert_eq!(tenants.db.versions("elsewhere"), ["1"]);
}

#[test]
fn a_schema_that_the_role_may_not_use_is_one_line() {
    let names = names(10);
    let tenants = with_table(names.iter().map(String::as_str), &[]);
    let (all, role) = (table_and_column(), format!("limited_{}", uuid::Uuid::new_v4().simple()));
    let host = tenants.db.url().split_once('@').unwrap().1.to_owned();
    tenants.db.execute(
        "public",
        &format!(
            "CREATE ROLE {role} LOGIN PASSWORD 'x'; DO $$ DECLARE t text; BEGIN FOREACH t IN ARRAY ARRAY['public', '{}'] LOOP \
             EXECUTE format('GRANT ALL ON SCHEMA %I TO {role}', t); EXECUTE format('ALTER TABLE %I.t OWNER TO {role}', t); \
             EXECUTE format('ALTER TABLE %I.__diesel_schema_migrations OWNER TO {role}', t); END LOOP; END $$; \
             REVOKE ALL ON SCHEMA t04 FROM {role}",
            names.join("', '")
        ),
    );
    let config = tenantry::Config::new(format!("postgres://{role}:x@{host}").parse().unwrap());
    let schemas: Vec<_> = names.iter().map(|name| name.parse().unwrap()).collect();
    let report = Run::new(&all).tenants(&|| pg::connect(&config), &schemas).unwrap();
    tenants.db.execute("public", &format!("DROP OWNED BY {role}; DROP ROLE {role}"));
    let failed: Vec<String> = report.failures().map(|(_, error)| error.chain()).collect();
    assert_eq!((report.count("migrated"), failed.len()), (9, 1), "{failed:?}");
    assert_eq!(failed[0], "the role may not use schema `t04`: GRANT USAGE ON SCHEMA \"t04\" to it");
}

#[test]
fn a_canary_that_was_not_reached_stops_the_rest() {
    let names = names(12);
    let tenants = with_table(names.iter().map(String::as_str), &[]);
    let (all, asked) = (table_and_column(), AtomicUsize::new(0));
    // Two look for a pooler. The worker of the canary loses its connection and gets no other; those of the rest would be
    // well.
    let connect = || match asked.fetch_add(1, Ordering::SeqCst) {
        3..=32 => Err(Error::Connect { url: "postgres://".into(), reason: "too many clients".into() }),
        _ => pg::connect(tenants.db.config()),
    };
    struct Cut<'t>(&'t Tenants);
    impl Observer for Cut<'_> {
        fn on(&self, event: &Event<'_>) {
            if let Event::Began { .. } = event {
                self.0.db.execute(
                    "public",
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                     WHERE datname = current_database() AND pid <> pg_backend_pid()",
                );
            }
        }
    }
    let schemas: Vec<_> = names.iter().map(|name| name.parse().unwrap()).collect();
    let (canary, cut) = (Canary::First(2), Cut(&tenants));
    let run = Run::new(&all).jobs(1).attempts(1).canary(&canary).observer(&cut);
    let report = run.tenants(&connect, &schemas).unwrap();
    assert_eq!(report.count("migrated"), 0, "{:?}", outcomes(&report));
    assert_eq!(tenants.db.versions("t11"), ["1"]);
}

#[test]
fn a_tenant_that_is_listed_twice_is_migrated_once() {
    let (tenants, all) = (Tenants::new(["acme"]), table());
    let twice = FixedList(vec!["acme".parse().unwrap(), "acme".parse().unwrap()]);
    let fleet = Fleet { migrations: &all, directory: &twice, rules: domain::rules() };
    let report = fleet.run(&Run::new(&all), &|| pg::connect(tenants.db.config())).unwrap();
    assert_eq!(outcomes(&report), ["public migrated", "acme migrated"]);
}

/// What a run comes to that may not end by itself.
fn within<T: Send>(seconds: u64, work: impl FnOnce() -> T + Send, end: impl FnOnce()) -> Option<T> {
    let (sender, done) = mpsc::channel();
    thread::scope(|threads| {
        threads.spawn(move || sender.send(work()));
        let found = done.recv_timeout(Duration::from_secs(seconds)).ok();
        end();
        found
    })
}

#[test]
fn a_history_that_somebody_has_locked_costs_only_its_tenant() {
    let names = names(10);
    let tenants = with_table(names.iter().map(String::as_str), &[]);
    let (all, mut holder) = (table_and_column(), tenants.db.connect());
    holder.batch_execute("BEGIN; LOCK TABLE t03.__diesel_schema_migrations").unwrap();
    let run = Run::new(&all).jobs(2).lock_timeout(Duration::from_millis(50)).attempts(2);
    let report = within(60, || tenants.run(&run, &all).unwrap(), || drop(holder)).expect("an end");
    let failed: Vec<String> = report.failures().map(|(schema, error)| format!("{schema} {}", error.chain())).collect();
    assert_eq!(failed, ["t03 canceling statement due to lock timeout"]);
    assert_eq!(report.count("migrated"), 10);
}

#[test]
fn a_history_that_cannot_be_read_costs_only_its_tenant() {
    let names = names(40);
    let tenants = with_table(names.iter().map(String::as_str), &[]);
    tenants.db.execute("t38", "ALTER TABLE __diesel_schema_migrations RENAME version TO number");
    let all = table_and_column();
    let report = tenants.run(&Run::new(&all).jobs(1), &all).unwrap();
    let failed: Vec<String> = report.failures().map(|(schema, error)| format!("{schema} {}", error.chain())).collect();
    assert_eq!(failed, ["t38 column \"version\" does not exist"]);
    assert_eq!(report.count("migrated"), 40);
}

#[test]
fn a_panic_is_passed_on_while_an_interrupt_is_watched() {
    struct Panics;
    impl Observer for Panics {
        fn on(&self, event: &Event<'_>) {
            assert!(!matches!(event, Event::Began { .. }), "a fault of the observer's");
        }
    }
    static INTERRUPT: Interrupt = Interrupt::new();
    let (sender, done) = mpsc::channel();
    // Not scoped: it would be waited for.
    thread::spawn(move || {
        let (tenants, all) = (Tenants::new(["acme"]), table());
        let run = Run::new(&all).observer(&Panics).interrupt(&INTERRUPT);
        sender.send(catch_unwind(AssertUnwindSafe(|| tenants.run(&run, &all))).is_err())
    });
    assert_eq!(done.recv_timeout(Duration::from_secs(20)), Ok(true));
}

#[test]
fn a_wave_that_is_stopped_says_so_and_not_that_it_failed() {
    struct Stop<'i>(&'i Interrupt);
    impl Observer for Stop<'_> {
        fn on(&self, event: &Event<'_>) {
            if let Event::Finished(_) = event {
                self.0.stop();
            }
        }
    }
    let names = names(10);
    let tenants = with_table(names.iter().map(String::as_str), &[]);
    let (all, interrupt) = (table_and_column(), Interrupt::new());
    let stop = Stop(&interrupt);
    let run = Run::new(&all).jobs(1).waves(&[50, 100]).observer(&stop).interrupt(&interrupt);
    let report = tenants.run(&run, &all).unwrap();
    let reasons: BTreeSet<String> = report.failures().map(|(_, error)| error.chain()).collect();
    assert_eq!(reasons, BTreeSet::from(["not reached: the run was stopped before its turn; run it again".into()]));
}

#[test]
fn a_wave_that_gets_no_connection_at_once_takes_nothing_from_the_report() {
    let names = names(10);
    let tenants = with_table(names.iter().map(String::as_str), &[]);
    let (all, asked) = (table_and_column(), AtomicUsize::new(0));
    // Two look for a pooler, and one works on the canary.
    let connect = || match asked.fetch_add(1, Ordering::SeqCst) {
        3 => Err(Error::Connect { url: "postgres://".into(), reason: "too many clients".into() }),
        _ => pg::connect(tenants.db.config()),
    };
    let schemas: Vec<_> = names.iter().map(|name| name.parse().unwrap()).collect();
    let report = Run::new(&all).jobs(1).canary(&Canary::First(2)).tenants(&connect, &schemas).unwrap();
    assert_eq!(report.count("migrated"), 10);
}

#[test]
fn a_report_is_handed_out_although_the_end_of_its_run_cannot_be_recorded() {
    struct Cut<'t>(&'t Tenants);
    impl Observer for Cut<'_> {
        fn on(&self, event: &Event<'_>) {
            if let Event::Finished(_) = event {
                self.0.db.execute(
                    "public",
                    "SELECT pg_terminate_backend(pid) FROM \
                         (SELECT pid FROM pg_stat_activity \
                          WHERE datname = current_database() AND application_name LIKE 'tenantry %' \
                          ORDER BY backend_start OFFSET 1 LIMIT 1) AS second",
                );
            }
        }
    }
    let tenants = with_table(["acme"], &[]);
    let (all, asked, cut) = (table_and_column(), AtomicUsize::new(0), Cut(&tenants));
    // That of the lock, that of the run, which is cut, the worker's, the one that flushes, and then no other.
    let connect = || match asked.fetch_add(1, Ordering::SeqCst) {
        4 => Err(Error::Connect { url: "postgres://".into(), reason: "too many clients".into() }),
        _ => pg::connect(tenants.db.config()),
    };
    let directory = FixedList(vec!["acme".parse().unwrap()]);
    let fleet = Fleet { migrations: &all, directory: &directory, rules: domain::rules() };
    let report = fleet.run(&Run::new(&all).jobs(1).observer(&cut), &connect).unwrap();
    assert_eq!(outcomes(&report), ["public migrated", "acme migrated"]);
    assert!(report.unremembered.is_some());
}

#[test]
fn temporary_tables_of_one_tenant_are_not_found_by_the_next_one() {
    let names = names(12);
    for create in ["CREATE TEMP TABLE moved", "CREATE TEMP TABLE IF NOT EXISTS moved"] {
        let tenants = with_table(names.iter().map(String::as_str), &[]);
        for name in &names {
            tenants.db.execute(name, &format!("INSERT INTO t VALUES ({})", &name[1..]));
        }
        // One that fails, so that some go alone and others together.
        tenants.db.execute("t05", "CREATE TABLE u ()");
        let script = format!("{create} AS SELECT a FROM t; CREATE TABLE u AS SELECT a FROM moved");
        let all = migrations(&[TABLE, ("2_move", &script, "DROP TABLE u")]);
        let report = tenants.run(&Run::new(&all).jobs(1), &all).unwrap();
        assert_eq!((report.count("migrated"), report.count("failed")), (12, 1), "{:?}", outcomes(&report));
        for name in names.iter().filter(|name| *name != "t05") {
            assert_eq!(tenants.db.text(&format!("SELECT a = {} FROM {name}.u", &name[1..])), "true", "{name}");
        }
    }
}

#[test]
fn a_role_that_one_tenants_script_takes_is_not_the_next_ones() {
    let names = names(40);
    let tenants = Tenants::new(names.iter().map(String::as_str));
    let role = format!("owner_{}", uuid::Uuid::new_v4().simple());
    let schemas = names.join(", ");
    tenants.db.execute("public", &format!("CREATE ROLE {role}; GRANT ALL ON SCHEMA public, {schemas} TO {role}"));
    let script = format!("SET LOCAL ROLE {role}; CREATE TABLE u ()");
    let all = migrations(&[TABLE, ("2_owned", &script, "DROP TABLE u")]);
    let run = Run::new(&all).jobs(1).lock_budget(Duration::from_secs(60)).record(false);
    let report = tenants.run(&run, &all).unwrap();
    let owned = "SELECT DISTINCT relname FROM pg_class WHERE relkind = 'r' AND relowner::regrole::text ~ '^owner_'";
    let owned = tenants.db.texts(owned);
    tenants.db.execute("public", &format!("DROP OWNED BY {role}; DROP ROLE {role}"));
    assert_eq!((report.count("migrated"), owned), (41, vec!["u".into()]));
}

#[test]
fn waves_that_make_no_sense_are_refused_before_anything_is_done() {
    let (tenants, all) = (Tenants::new(["acme"]), table());
    let error = tenants.run(&Run::new(&all).waves(&[10, 50]), &all).unwrap_err();
    assert!(matches!(error, Error::Request { .. }), "{error}");
    assert_eq!(tenants.db.versions("public"), Vec::<String>::new());
}

#[test]
fn the_end_of_a_run_is_written_although_it_was_cancelled() {
    struct Cancel<'i>(&'i Interrupt);
    impl Observer for Cancel<'_> {
        fn on(&self, event: &Event<'_>) {
            if let Event::Began { .. } = event {
                self.0.cancel();
                thread::sleep(Duration::from_millis(100));
            }
        }
    }
    let (tenants, all, interrupt) = (Tenants::new(["t0"]), table(), Interrupt::new());
    let many = FixedList((0..30_000).map(|number| format!("t{number}").parse().unwrap()).collect());
    let fleet = Fleet { migrations: &all, directory: &many, rules: domain::rules() };
    let run = Run::new(&all).jobs(1);
    let cancel = Cancel(&interrupt);
    let report = fleet.run(&run.observer(&cancel).interrupt(&interrupt), &|| pg::connect(tenants.db.config())).unwrap();
    assert_eq!((report.count("not reached") > 29_000, report.unremembered), (true, None));
}

#[test]
fn a_script_may_take_a_role_that_cannot_write_what_is_remembered() {
    let tenants = Tenants::new(["acme", "globex"]);
    let role = format!("owner_{}", uuid::Uuid::new_v4().simple());
    tenants.db.execute("public", &format!("CREATE ROLE {role}; GRANT ALL ON SCHEMA public, acme, globex TO {role}"));
    let all = migrations(&[TABLE, ("2_owned", &format!("SET LOCAL ROLE {role}; CREATE TABLE u ()"), "DROP TABLE u")]);
    let report = tenants.run(&Run::new(&all), &all);
    tenants.db.execute("public", &format!("DROP OWNED BY {role}; DROP ROLE {role}"));
    assert_eq!(outcomes(&report.unwrap()), ["public migrated", "acme migrated", "globex migrated"]);
}

#[test]
fn who_waits_for_a_tenants_lock_stops_when_the_run_is_stopped() {
    let (tenants, interrupt) = (with_table(["acme"], &[]), Interrupt::new());
    let all = migrations(&[TABLE, ("2_index", "CREATE INDEX CONCURRENTLY t_a ON t (a)", "DROP INDEX t_a")]);
    let mut holder = tenants.db.connect();
    holder.batch_execute("SELECT pg_advisory_lock(hashtextextended('tenantry:acme', 0))").unwrap();
    let run = Run::new(&all).lock_timeout(Duration::from_secs(3600)).interrupt(&interrupt);
    let work = || {
        thread::scope(|threads| {
            threads.spawn(|| {
                thread::sleep(Duration::from_secs(1));
                interrupt.stop();
            });
            tenants.run(&run, &all).unwrap()
        })
    };
    let report = within(20, work, || drop(holder)).expect("an end");
    assert_eq!(outcomes(&report), ["public migrated", "acme not reached"]);
}

#[test]
fn a_connection_that_is_lost_between_two_tenants_costs_neither() {
    struct Cut<'t>(&'t Tenants, AtomicUsize);
    impl Observer for Cut<'_> {
        fn on(&self, event: &Event<'_>) {
            if let Event::Finished(_) = event
                && self.1.fetch_add(1, Ordering::SeqCst) == 2
            {
                self.0.db.execute(
                    "public",
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                     WHERE datname = current_database() AND pid <> pg_backend_pid()",
                );
            }
        }
    }
    let names = names(40);
    let tenants = with_table(names.iter().map(String::as_str), &[]);
    // One that is taken alone.
    let script = "SET LOCAL work_mem = '8MB'; ALTER TABLE t ADD b int";
    let (all, cut) = (migrations(&[TABLE, ("2_column", script, "")]), Cut(&tenants, AtomicUsize::new(0)));
    let report = tenants.run(&Run::new(&all).jobs(1).attempts(1).observer(&cut), &all).unwrap();
    assert_eq!(report.failures().map(|(_, error)| error.chain()).collect::<Vec<_>>(), Vec::<String>::new());
}
