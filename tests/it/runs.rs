//! What is remembered of runs.

use std::collections::BTreeMap;

use tenantry::{
    Error, Fleet,
    directory::{FixedList, Glob, Named, Only, Selected},
    domain,
    migrate::{Goal, Migrations, Run, Set, Until, version},
    pg, runs,
};

use crate::support::{Tenants, migrations, outcomes};

const A: (&str, &str, &str) = ("1_a", "CREATE TABLE a (x int)", "DROP TABLE a");
const B: (&str, &str, &str) = ("2_b", "CREATE TABLE b (x int)", "DROP TABLE b");

fn both() -> Migrations {
    migrations(&[A, B])
}

#[test]
fn a_run_is_remembered_with_what_it_did_and_what_it_did_not() {
    let (tenants, both) = (Tenants::new(["acme", "globex", "hooli"]), both());
    tenants.db.execute("globex", "CREATE TABLE b ()");
    let report = tenants.run(&Run::new(&both).jobs(2), &both).unwrap();
    let conn = &mut tenants.db.connect();
    let run = runs::find(conn, report.run.unwrap()).unwrap();
    assert!(run.ended_at.is_some_and(|ended| ended >= run.started_at));
    assert_eq!(run.program, concat!("tenantry ", env!("CARGO_PKG_VERSION")));
    assert_eq!(run.options["jobs"], 2);
    assert_eq!(run.outcomes.unwrap().to_string(), r#"{"failed":1,"migrated":3}"#);
    assert_eq!(run.migrations.as_array().unwrap().len(), 3);
    let lines = runs::lines(conn, run.id).unwrap();
    assert_eq!(
        (lines.len(), lines[0].schema.as_str(), lines[0].error.as_deref()),
        (4, "globex", Some("migration 2 failed in schema `globex`: relation \"b\" already exists"))
    );
    let applied = runs::applied(conn, run.id).unwrap();
    let versions = |versions: &[&str]| versions.iter().map(ToString::to_string).collect::<Vec<_>>();
    let expected = BTreeMap::from([
        ("acme".to_owned(), versions(&["1", "2"])),
        ("hooli".to_owned(), versions(&["1", "2"])),
        ("public".to_owned(), versions(&["p1", "1", "2"])),
    ]);
    assert_eq!(applied, expected);
    // A run with nothing to do leaves one row.
    let second = tenants.run(&Run::new(&both), &both).unwrap().run.unwrap();
    assert_eq!(runs::lines(conn, second).unwrap().len(), 1, "globex fails again, the others are not listed");
    assert_eq!(runs::list(conn, 10).unwrap().iter().map(|run| run.id).collect::<Vec<_>>(), [second, run.id]);
}

#[test]
fn a_run_that_could_not_be_carried_out_is_remembered_too() {
    let (tenants, both) = (Tenants::new(["acme"]), both());
    tenants.db.execute("public", "CREATE TABLE b ()");
    tenants.run(&Run::new(&both), &both).unwrap_err();
    let conn = &mut tenants.db.connect();
    let run = runs::list(conn, 1).unwrap().remove(0);
    assert_eq!(run.error.as_deref(), Some("migration 2 failed in schema `public`: relation \"b\" already exists"));
    assert_eq!(
        runs::left(conn, &run, ["acme"].into_iter()).unwrap().into_iter().collect::<Vec<_>>(),
        ["acme", "public"]
    );
}

#[test]
fn what_is_left_of_a_run_is_what_failed_or_was_never_reached() {
    let (tenants, both) = (Tenants::new(["acme", "globex", "hooli"]), both());
    tenants.db.execute("globex", "CREATE TABLE b ()");
    let id = tenants.run(&Run::new(&both), &both).unwrap().run.unwrap();
    let conn = &mut tenants.db.connect();
    let all = || ["acme", "globex", "hooli"].into_iter();
    let run = runs::find(conn, id).unwrap();
    assert_eq!(runs::left(conn, &run, all()).unwrap().into_iter().collect::<Vec<_>>(), ["globex"]);
    // As if it had been killed: no end, no lines, and the steps as far as it came.
    tenants.db.execute(
        "tenantry",
        "UPDATE run SET ended_at = NULL; DELETE FROM run_line; DELETE FROM run_step WHERE schema = 'hooli'",
    );
    let run = runs::find(conn, id).unwrap();
    // What was done in a schema may have been a part: its history tells.
    assert_eq!(
        runs::left(conn, &run, all()).unwrap().into_iter().collect::<Vec<_>>(),
        ["acme", "globex", "hooli", "public"]
    );
}

#[test]
fn exactly_what_a_run_applied_can_be_taken_back() {
    let (tenants, first, both) = (Tenants::new(["acme", "globex"]), migrations(&[A]), both());
    tenants.run(&Run::new(&first), &first).unwrap();
    tenants.db.execute("globex", "CREATE TABLE b (); INSERT INTO __diesel_schema_migrations VALUES ('2')");
    let second = tenants.run(&Run::new(&both), &both).unwrap().run.unwrap();
    let conn = &mut tenants.db.connect();
    let goal = Goal::Unapply { versions: runs::applied(conn, second).unwrap() };
    let report = tenants.run(&Run::new(&both).goal(&goal), &both).unwrap();
    assert_eq!(outcomes(&report), ["public reverted", "acme reverted"]);
    assert_eq!((tenants.db.versions("acme").len(), tenants.db.versions("globex").len()), (1, 2));
    let again = tenants.run(&Run::new(&both).goal(&goal), &both).unwrap();
    assert_eq!(again.count("up to date"), 2);
}

#[test]
fn an_edited_migration_is_noticed_until_it_is_redone() {
    let (tenants, before) = (Tenants::new(["acme"]), both());
    assert_eq!(tenants.run(&Run::new(&before), &before).unwrap().edited, Vec::<String>::new());
    let blanks = migrations(&[A, ("2_b", "CREATE TABLE b (x int)  \r\n", B.2)]);
    assert_eq!(tenants.run(&Run::new(&blanks), &blanks).unwrap().edited, Vec::<String>::new());
    let after = migrations(&[A, ("2_b", "CREATE TABLE b (x bigint)", B.2)]);
    let report = tenants.run(&Run::new(&after), &after).unwrap();
    assert_eq!((report.edited, report.lines[1].applied.len()), (vec!["2".into()], 0));
    let redo = Goal::Redo { steps: 1 };
    assert_eq!(tenants.run(&Run::new(&after).goal(&redo), &after).unwrap().edited, Vec::<String>::new());
}

#[test]
fn nothing_is_remembered_where_that_is_not_wanted() {
    let (tenants, both) = (Tenants::new(["acme"]), both());
    let report = tenants.run(&Run::new(&both).record(false), &both).unwrap();
    assert_eq!((report.run, report.count("migrated")), (None, 2));
    assert_eq!(tenants.db.text("SELECT count(*) FROM pg_namespace WHERE nspname = 'tenantry'"), "0");
    let conn = &mut tenants.db.connect();
    assert!(runs::list(conn, 9).unwrap().is_empty());
    assert!(matches!(runs::find(conn, 1), Err(Error::NoSuchRun { id: 1 })));
}

#[test]
fn one_tenants_version_is_told_without_the_rest() {
    let (tenants, both) = (Tenants::new(["acme", "empty"]), both());
    let conn = &mut tenants.db.connect();
    let acme = "acme".parse().unwrap();
    assert_eq!(version(conn, &acme).unwrap(), None);
    Run::new(&both).tenants_on(conn, std::slice::from_ref(&acme));
    assert_eq!(version(conn, &acme).unwrap().as_deref(), Some("2"));
    assert!(matches!(version(conn, &"ghost".parse().unwrap()), Err(Error::MissingSchema { .. })));
}

#[test]
fn a_run_whose_end_cannot_be_written_says_so_and_is_no_less_done() {
    let (tenants, both) = (Tenants::new(["acme"]), both());
    tenants.run(&Run::new(&migrations(&[A])), &migrations(&[A])).unwrap();
    tenants.db.execute("tenantry", "ALTER TABLE run_line ADD CHECK (false) NOT VALID");
    let report = tenants.run(&Run::new(&both), &both).unwrap();
    assert_eq!((report.count("migrated"), report.count("failed")), (2, 0));
    assert!(report.unremembered.is_some_and(|reason| reason.contains("violates check constraint")));
}

#[test]
fn what_a_later_run_has_applied_again_is_not_taken_back() {
    let (tenants, both) = (Tenants::new(["acme"]), both());
    let first = tenants.run(&Run::new(&both), &both).unwrap().run.unwrap();
    let goal = || Goal::Unapply { versions: runs::applied(&mut tenants.db.connect(), first).unwrap() };
    assert_eq!(tenants.run(&Run::new(&both).goal(&goal()), &both).unwrap().count("reverted"), 2);
    tenants.run(&Run::new(&both), &both).unwrap();
    assert_eq!(goal(), Goal::Unapply { versions: BTreeMap::new() });
}

#[test]
fn whom_a_run_had_chosen_is_remembered_although_it_did_not_come_to_them() {
    let (tenants, both) = (Tenants::new(["acme", "globex"]), both());
    tenants.db.execute("public", "CREATE TABLE b ()");
    let all = FixedList(vec!["acme".parse().unwrap(), "globex".parse().unwrap()]);
    let some = Selected { directory: &all, globs: vec![Glob::new("acme")], except: vec![], only: Only::All };
    let fleet = Fleet { migrations: &both, directory: &some, rules: domain::rules() };
    fleet.run(&Run::new(&both), &|| pg::connect(tenants.db.config())).unwrap_err();
    assert_eq!(left(&tenants, 1), ["acme"]);
}

#[test]
fn of_a_retry_that_was_killed_only_its_own_tenants_are_left() {
    let (tenants, both) = (Tenants::new(["acme", "globex"]), both());
    tenants.run(&Run::new(&both), &both).unwrap();
    let all = FixedList(vec!["acme".parse().unwrap(), "globex".parse().unwrap()]);
    let retry = Named { directory: &all, names: ["acme", "public"].map(Into::into).into() };
    let fleet = Fleet { migrations: &both, directory: &retry, rules: domain::rules() };
    let goal = Goal::Revert { set: Set::Tenant, until: Until::Steps(1) };
    fleet.run(&Run::new(&both).goal(&goal), &|| pg::connect(tenants.db.config())).unwrap();
    tenants.db.execute("tenantry", "UPDATE run SET ended_at = NULL; DELETE FROM run_line; DELETE FROM run_step");
    assert_eq!(left(&tenants, 2), ["acme", "public"], "the others would go back twice");
}

fn left(tenants: &Tenants, run: i64) -> Vec<String> {
    let conn = &mut tenants.db.connect();
    let run = runs::find(conn, run).unwrap();
    runs::left(conn, &run, ["acme", "globex"].into_iter()).unwrap().into_iter().collect()
}

#[test]
fn what_this_program_does_not_have_cannot_be_taken_back() {
    let (tenants, first, both) = (Tenants::new(["acme"]), migrations(&[A]), both());
    tenants.run(&Run::new(&first), &first).unwrap();
    let id = tenants.run(&Run::new(&both), &both).unwrap().run.unwrap();
    let goal = Goal::Unapply { versions: runs::applied(&mut tenants.db.connect(), id).unwrap() };
    let report = tenants.run(&Run::new(&first).goal(&goal), &first).unwrap();
    assert_eq!(outcomes(&report), ["public not reached", "acme failed"]);
    assert_eq!(tenants.db.versions("acme"), ["1", "2"]);
}
