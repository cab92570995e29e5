//! The commands that change a fleet and remember it, as a user starts them.

use std::{
    fs,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use diesel::connection::SimpleConnection;
use tenantry::testing::TestDatabase;

use crate::{
    cli::{MIGRATE_ALL, TENANTRY, run, run_with, timeless},
    support::{migrated, tenant},
};

/// Registered tenants with everything.
fn fleet(schemas: &[&str]) -> TestDatabase {
    let db = migrated();
    for schema in schemas {
        tenant(&mut db.connect(), schema);
    }
    db
}

#[test]
fn going_back_shows_where_and_takes_a_yes() {
    let db = fleet(&["acme", "globex"]);
    let unasked = run(TENANTRY, &["revert", "--steps", "1"], &db);
    assert_eq!((unasked.code, unasked.out.as_str()), (1, ""));
    insta::assert_snapshot!(unasked.err, @r"
    1 migration to take back in 3 schemas: acme, globex, public
        back: 0002_add_updated_at_to_userprofile
    error: this takes a yes, and there is nobody to ask: pass --yes
    ");
    assert_eq!(db.versions("acme"), ["0001", "0002"]);
    let dry = run(TENANTRY, &["revert", "--to", "0001", "--dry-run", "--tenant", "acme"], &db);
    assert_eq!((dry.code, dry.out.lines().next().unwrap()), (0, "1 migration to take back in 1 schema: acme"));
    let done = run(TENANTRY, &["revert", "--to", "0001", "--yes"], &db);
    assert_eq!(done.code, 0);
    insta::assert_snapshot!(timeless(&done.out), @r"
    public  reverted  0002 in … ms
    acme    reverted  0002 in … ms
    globex  reverted  0002 in … ms
    3 reverted, 0 with nothing to do, 0 failed, in … s (run 1)
    ");
    assert_eq!(run(TENANTRY, &["revert", "--to", "0001", "--yes"], &db).out, "nothing to do\n");
    let unknown = run(TENANTRY, &["revert", "--to", "0007", "--yes"], &db);
    assert_eq!((unknown.code, unknown.err.as_str()), (1, "error: the set has no migration 0007: it has 0001, 0002\n"));
    assert_eq!(run(MIGRATE_ALL, &[], &db).code, 0);
    assert_eq!(run(TENANTRY, &["redo", "--yes", "--quiet"], &db).out, "");
    assert_eq!(db.versions("acme"), ["0001", "0002"]);
}

#[test]
fn runs_are_listed_shown_tried_again_and_taken_back() {
    let db = fleet(&["acme", "globex"]);
    assert_eq!(run(TENANTRY, &["runs", "list"], &db).out, "no run is remembered yet\n");
    run(TENANTRY, &["revert", "--steps", "1", "--yes"], &db);
    db.execute("globex", "ALTER TABLE users_userprofile ADD updated_at int");
    assert_eq!(run(MIGRATE_ALL, &[], &db).code, 2);
    let shown = run(TENANTRY, &["runs", "show", "2"], &db);
    assert_eq!(shown.code, 0);
    let lines: Vec<&str> = shown.out.lines().collect();
    assert_eq!((lines[0], lines[2]), ("run 2: migrate, the whole fleet", "1 failed, 2 migrated"));
    assert!(lines[4].starts_with("globex  failed    migration 0002 failed in schema `globex`: "), "{}", shown.out);
    assert!(lines[5].starts_with("acme    migrated  0002 in "), "{}", shown.out);
    let json = run(TENANTRY, &["runs", "show", "2", "--json"], &db).out;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((json["steps"].as_array().unwrap().len(), &json["run"]["outcomes"]["failed"]), (2, &1.into()));

    db.execute("globex", "ALTER TABLE users_userprofile DROP updated_at");
    let retried = run(TENANTRY, &["runs", "retry", "2"], &db);
    insta::assert_snapshot!(timeless(&retried.out), @r"
    globex  migrated  0002 in … ms
    1 migrated, 1 up to date, 0 failed, in … s (run 3)
    ");
    assert_eq!(run(TENANTRY, &["runs", "retry", "3"], &db).out, "nothing is left to do of run 3\n");
    let listed = run(TENANTRY, &["runs", "list", "--limit", "2"], &db).out;
    let numbers: Vec<&str> = listed.lines().map(|line| line.split_whitespace().next().unwrap()).collect();
    assert_eq!(numbers, ["RUN", "3", "2"]);

    let back = run(TENANTRY, &["runs", "revert", "2", "--yes"], &db);
    assert_eq!(back.code, 0, "{back:?}");
    assert_eq!((db.versions("acme").len(), db.versions("globex").len()), (1, 2));
    let unknown = run(TENANTRY, &["runs", "show", "77"], &db);
    assert_eq!(
        (unknown.code, unknown.err.as_str()),
        (1, "error: no run 77 is remembered: `tenantry runs list` shows those that are\n")
    );
}

#[test]
fn tenants_are_chosen_by_name_by_list_and_by_state() {
    let db = fleet(&["acme", "globex", "hooli"]);
    db.execute("public", "UPDATE custom_auth_tenant SET is_active = false WHERE schema_name = 'hooli'");
    let chosen = |args: &[&str]| -> Vec<String> {
        let answer = run(TENANTRY, &[&["status"], args].concat(), &db);
        answer.out.lines().skip(3).map(|line| line.split_whitespace().next().unwrap().to_owned()).collect()
    };
    assert_eq!(chosen(&[]), ["public", "acme", "globex", "hooli"]);
    assert_eq!(chosen(&["--tenant", "hooli", "--tenant", "*"]), ["hooli", "acme", "globex"]);
    assert_eq!(chosen(&["--except", "g*"]), ["acme", "hooli"]);
    assert_eq!(
        (chosen(&["--state", "active"]), chosen(&["--state", "suspended"])),
        (vec!["acme".into(), "globex".into()], vec!["hooli".into()])
    );
    let list = std::env::temp_dir().join(format!("tenantry-{}.txt", uuid::Uuid::new_v4()));
    fs::write(&list, "# the brave\nhooli\n\nacme # and this one\n").unwrap();
    let path = list.to_str().unwrap();
    assert_eq!(chosen(&["--tenants-from", path]), ["hooli", "acme"]);
    fs::write(&list, "# nobody\n").unwrap();
    let nobody = run(TENANTRY, &["status", "--tenants-from", path], &db);
    assert_eq!((nobody.code, nobody.err), (1, format!("error: {path} lists no tenants\n")));
    fs::remove_file(&list).unwrap();
    assert!(run(TENANTRY, &["status", "--tenants-from", path], &db).err.starts_with("error: cannot read "));
    let nobody = run(TENANTRY, &["migrate", "--tenant", "zz*"], &db);
    assert_eq!(
        (nobody.code, nobody.err.as_str()),
        (1, "error: no tenant matches schema `zz*`: `tenantry status` lists those that there are\n")
    );
}

#[test]
fn a_role_that_may_not_remember_is_told_how_to_go_on() {
    let db = fleet(&["acme"]);
    let role = format!("deployer_{}", uuid::Uuid::new_v4().simple());
    let name = db.text("SELECT current_database()");
    db.execute("public", &format!("CREATE ROLE {role} LOGIN PASSWORD 's3cret'; GRANT ALL ON SCHEMA public, acme TO {role}; GRANT ALL ON ALL TABLES IN SCHEMA public, acme TO {role}"));
    let host = db.url().split_once('@').unwrap().1;
    let url = [("DATABASE_URL", &*format!("postgres://{role}:s3cret@{host}"))];
    let refused = run_with(MIGRATE_ALL, &[], &url);
    assert_eq!(refused.code, 1);
    assert_eq!(
        refused.err.trim(),
        format!(
            "error: the run cannot be recorded in schema `tenantry`: grant the role CREATE on the database, or what it lacks there, or pass --no-record: permission denied for database {name}; use a role that owns what it works on, or GRANT it what it lacks"
        )
    );
    assert_eq!(run_with(MIGRATE_ALL, &["--no-record", "--quiet"], &url).code, 0);
    db.execute("public", &format!("DROP OWNED BY {role}; DROP ROLE {role}"));
}

#[test]
fn the_second_signal_cancels_what_the_first_one_waits_for() {
    let db = fleet(&["acme", "globex"]);
    run(TENANTRY, &["revert", "--steps", "1", "--yes", "--quiet"], &db);
    let holder = &mut db.connect();
    holder
        .batch_execute("BEGIN; LOCK TABLE acme.users_userprofile, globex.users_userprofile IN ACCESS SHARE MODE")
        .unwrap();
    let runner = Command::new(MIGRATE_ALL)
        .args(["--lock-timeout", "60", "--jobs", "1"])
        .env("DATABASE_URL", db.url())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let started = Instant::now();
    let wait_for = |count: &str| {
        let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted";
        while db.text(waiting) != count {
            assert!(started.elapsed() < Duration::from_secs(20), "{count} never waited");
            thread::sleep(Duration::from_millis(20));
        }
    };
    let signal = || {
        let id = runner.id().to_string();
        assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    };
    wait_for("1");
    signal();
    thread::sleep(Duration::from_millis(300));
    wait_for("1"); // still: the first one lets it finish
    signal();
    let output = runner.wait_with_output().unwrap();
    assert!(started.elapsed() < Duration::from_secs(30));
    let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert_eq!(output.status.code(), Some(2), "{out}{err}");
    assert!(err.contains("stopping: what is under way") && err.contains("cancelling what is under way"), "{err}");
    assert!(out.contains("the run was cancelled before its turn") && out.contains("2 not reached"), "{out}");
    assert_eq!(db.versions("acme"), ["0001"]);
}

#[test]
fn trying_again_to_go_back_takes_a_yes_too() {
    let db = fleet(&["acme", "globex"]);
    db.execute("globex", "CREATE VIEW v AS SELECT updated_at FROM users_userprofile");
    assert_eq!(run(TENANTRY, &["revert", "--to", "0001", "--yes"], &db).code, 2);
    db.execute("globex", "DROP VIEW v");
    let unasked = run(TENANTRY, &["runs", "retry", "1"], &db);
    assert_eq!((unasked.code, db.versions("globex").len()), (1, 2), "{unasked:?}");
    assert!(unasked.err.starts_with("1 migration to take back in 2 schemas: globex, public"), "{unasked:?}");
    assert_eq!(run(TENANTRY, &["runs", "retry", "1", "--yes"], &db).code, 0);
    assert_eq!((db.versions("globex").len(), db.versions("public").len()), (1, 2));
}

#[test]
fn what_was_half_done_is_not_taken_for_done_when_the_run_is_tried_again() {
    let db = fleet(&["acme", "globex"]);
    db.execute("globex", "CREATE VIEW v AS SELECT updated_at FROM users_userprofile");
    assert_eq!(run(TENANTRY, &["revert", "--steps", "1", "--yes"], &db).code, 2);
    // As if one of its steps had been committed before another failed.
    db.execute(
        "tenantry",
        "INSERT INTO run_step (run, schema, version, up, checksum) VALUES (1, 'globex', '0003', false, '')",
    );
    let retried = run(TENANTRY, &["runs", "retry", "1", "--yes"], &db);
    assert_eq!((retried.code, db.versions("public").len()), (1, 3), "{retried:?}");
    assert!(retried.err.starts_with("error: run 1 did a part in globex: "), "{retried:?}");
}

#[test]
fn a_list_of_tenants_may_begin_with_a_mark_and_is_read_in_no_time() {
    let db = fleet(&["acme", "globex"]);
    let list = std::env::temp_dir().join(format!("tenantry-{}", uuid::Uuid::new_v4()));
    let path = list.to_str().unwrap().to_owned();
    let status = |text: &[u8]| {
        fs::write(&list, text).unwrap();
        run(TENANTRY, &["status", "--tenants-from", &path], &db)
    };
    assert_eq!(status(b"\xef\xbb\xbfacme\n").code, 0);
    let started = Instant::now();
    assert_eq!(status("acme\n".repeat(2_000_000).as_bytes()).code, 0);
    assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
    for text in [vec![0; 10 << 20], vec![b'a'; 10 << 20], b"acme\0".to_vec()] {
        let refused = status(&text);
        assert!(refused.code == 1 && refused.err.len() < 300, "{} bytes", refused.err.len());
        assert!(refused.err.contains(" is no list of tenants: "), "{refused:?}");
    }
    fs::remove_file(&list).unwrap();
}

#[test]
fn a_run_that_cannot_be_recorded_says_what_was_in_the_way() {
    let db = fleet(&["acme"]);
    assert_eq!(run(TENANTRY, &["migrate", "--quiet"], &db).code, 0);
    let database = db.text("SELECT current_database()");
    let protest = |words: &str| {
        db.execute(
            "tenantry",
            &format!(
                "CREATE OR REPLACE FUNCTION protest() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {words} RETURN NEW; END $$; \
                 DROP TRIGGER IF EXISTS protest ON run; \
                 CREATE TRIGGER protest BEFORE INSERT ON run FOR EACH ROW EXECUTE FUNCTION protest()"
            ),
        );
    };
    protest("RAISE 'could not extend file: No space left on device' USING ERRCODE = 'disk_full';");
    let full = run(TENANTRY, &["migrate"], &db);
    assert_eq!(
        (full.code, full.err.as_str()),
        (
            1,
            "error: the run cannot be recorded in schema `tenantry` (--no-record does without): could not extend file: No space left on device\n"
        )
    );
    protest("PERFORM pg_terminate_backend(pg_backend_pid()); PERFORM pg_sleep(1);");
    let lost = run(TENANTRY, &["migrate"], &db);
    assert_eq!(
        (lost.code, lost.err.as_str()),
        (
            1,
            "error: the run cannot be recorded in schema `tenantry`: terminating connection due to administrator command\n"
        )
    );
    db.execute("public", &format!("ALTER DATABASE {database} SET default_transaction_read_only = on"));
    let read_only = run(TENANTRY, &["migrate"], &db);
    assert_eq!(
        (read_only.code, read_only.err.as_str()),
        (
            1,
            "error: the run cannot be recorded in schema `tenantry`: cannot execute INSERT in a read-only transaction\n"
        )
    );
}

#[test]
fn a_run_without_an_end_is_under_way_only_while_some_run_is() {
    let db = fleet(&["acme"]);
    for _ in 0..2 {
        assert_eq!(run(TENANTRY, &["migrate", "--quiet"], &db).code, 0);
    }
    db.execute("tenantry", "UPDATE run SET ended_at = NULL, outcomes = NULL");
    let outcomes = || {
        let list = run(TENANTRY, &["runs", "list"], &db).out;
        let of = |run: &str| {
            let line = list.lines().find(|line| line.starts_with(run)).unwrap();
            ["ended without a record", "under way, or killed"].into_iter().find(|words| line.contains(words)).unwrap()
        };
        ["2", "1"].map(of)
    };
    assert_eq!(outcomes(), ["ended without a record"; 2]);
    assert!(run(TENANTRY, &["runs", "show", "2"], &db).out.contains("\nended without a record\n"));
    let holder = &mut db.connect();
    holder.batch_execute("SELECT pg_advisory_lock(hashtextextended('tenantry fleet', 0))").unwrap();
    assert_eq!(outcomes(), ["under way, or killed", "ended without a record"]);
    assert!(run(TENANTRY, &["runs", "show", "2"], &db).out.contains("\nunder way, or killed\n"));
}
