//! The repair of several tenants at a time.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use tenantry::{
    Error,
    directory::{FixedList, TenantDirectory},
    doctor::Rules,
    domain::{self, Registry},
    migrate::{Interrupt, Migrations, Run},
    pg,
    repair::{Outcome, Repair, Report, Undo, find},
    testing::TestDatabase,
};

use crate::support::{Tenants, migrated, set, tenant};

/// How many tenants there are.
const TENANTS: usize = 24;

/// Every tenant but the third refers to a business of `public`, and has a null.
fn fleet() -> TestDatabase {
    let db = migrated();
    for n in 0..TENANTS {
        let name = format!("t{n:02}");
        tenant(&mut db.connect(), &name);
        if n == 2 {
            continue;
        }
        db.execute(
            "public",
            &format!("INSERT INTO business_business (id, name) VALUES (md5('{n}')::uuid, 'Number {n}')"),
        );
        db.execute(
            &name,
            &format!(
                "SET session_replication_role = replica; ALTER TABLE users_userprofile ALTER updated_at DROP NOT NULL; \
                 INSERT INTO users_userprofile (user_id, business_id, updated_at) \
                 VALUES (gen_random_uuid(), md5('{n}')::uuid, NULL)"
            ),
        );
    }
    db
}

fn run(db: &TestDatabase, repair: impl FnOnce(Repair<'_>, &tenantry::directory::Listing) -> Report) -> Report {
    let listing = Registry.list(&mut db.connect()).unwrap();
    repair(Repair::new(domain::rules()).migrations(domain::migrations().unwrap()), &listing)
}

fn outcomes(report: &Report) -> Vec<(&str, &Outcome)> {
    report.tenants.iter().map(|tenant| (tenant.schema.as_str(), tenant.result.as_ref().unwrap())).collect()
}

#[test]
fn several_at_a_time_do_what_one_after_the_other_would_and_report_it_in_order() {
    let db = fleet();
    let connect = || pg::connect(db.config());
    let conn = &mut db.connect();
    let alone = run(&db, |repair, listing| repair.propose(conn, listing).unwrap());
    let proposed = run(&db, |repair, listing| repair.jobs(4, &connect).propose(conn, listing).unwrap());
    let done = run(&db, |repair, listing| repair.jobs(4, &connect).apply(conn, listing).unwrap());
    assert!(proposed.rehearsed && outcomes(&alone).len() == TENANTS - 1);
    assert_eq!(outcomes(&proposed), outcomes(&alone));
    assert_eq!(outcomes(&done), outcomes(&alone));
    let again = run(&db, |repair, listing| repair.jobs(4, &connect).apply(conn, listing).unwrap());
    assert_eq!((outcomes(&again), again.repair), (vec![], None));
}

#[test]
fn all_of_it_is_one_repair_that_one_undo_takes_back() {
    let db = fleet();
    let connect = || pg::connect(db.config());
    let conn = &mut db.connect();
    let done = run(&db, |repair, listing| repair.jobs(4, &connect).apply(conn, listing).unwrap());
    let number = done.repair.unwrap();
    assert_eq!(db.text("SELECT count(*) FROM tenantry.repair"), "1");
    assert_eq!(find(conn, number).unwrap().tenants, TENANTS as i64 - 1);
    assert_eq!(Undo::new(number).run(conn).unwrap().tenants.len(), TENANTS - 1);
    let all = (0..TENANTS).map(|n| format!("SELECT id FROM t{n:02}.business_business"));
    assert_eq!(db.texts(&all.collect::<Vec<_>>().join(" UNION ALL ")), Vec::<String>::new());
}

#[test]
fn tenants_whose_foreign_keys_lead_into_public_do_not_block_each_other() {
    let db = fleet();
    for n in 0..TENANTS {
        db.execute(
            &format!("t{n:02}"),
            "SET session_replication_role = replica; \
             ALTER TABLE users_userprofile DROP CONSTRAINT users_userprofile_business_id_fk; \
             ALTER TABLE users_userprofile ADD CONSTRAINT users_userprofile_business_id_fk \
                 FOREIGN KEY (business_id) REFERENCES public.business_business (id)",
        );
    }
    let connect = || pg::connect(db.config());
    let conn = &mut db.connect();
    let done = run(&db, |repair, listing| repair.jobs(4, &connect).apply(conn, listing).unwrap());
    assert_eq!(outcomes(&done).len(), TENANTS);
    assert!(done.is_healthy(), "{done:?}");
}

#[test]
fn whoever_is_not_reached_is_named() {
    let db = fleet();
    let connect = || pg::connect(db.config());
    let interrupt = Interrupt::new();
    interrupt.stop();
    let conn = &mut db.connect();
    let report =
        run(&db, |repair, listing| repair.jobs(4, &connect).interrupt(&interrupt).apply(conn, listing).unwrap());
    let reached = report.tenants.iter().filter(|one| !matches!(one.result, Err(Error::NotReached { .. })));
    assert_eq!((report.tenants.len(), reached.count(), report.repair), (TENANTS - 1, 0, None));
}

#[test]
fn inside_a_transaction_nothing_is_done_elsewhere() {
    let db = fleet();
    let connect = || -> Result<_, Error> { panic!("nobody asked for another connection") };
    let conn = &mut db.connect();
    let report = run(&db, |repair, listing| {
        let mut report = None;
        let rolled_back: Result<(), Error> = diesel::Connection::transaction(conn, |conn| {
            report = Some(repair.jobs(4, &connect).apply(conn, listing)?);
            Err(diesel::result::Error::RollbackTransaction.into())
        });
        assert!(rolled_back.is_err());
        report.unwrap()
    });
    assert_eq!(outcomes(&report).len(), TENANTS - 1);
    assert_eq!(db.text("SELECT count(*) FROM t00.business_business"), "0");
}

#[test]
fn where_no_more_connections_can_be_had_the_repair_goes_on_with_those_it_has() {
    let db = fleet();
    for most in [0, 1, 3] {
        let had = AtomicUsize::new(0);
        let connect = || match had.fetch_add(1, Ordering::Relaxed) < most {
            true => pg::connect(db.config()),
            false => Err(Error::Connect { url: "it".into(), reason: "too many clients already".into() }),
        };
        let conn = &mut db.connect();
        let done = run(&db, |repair, listing| repair.jobs(4, &connect).apply(conn, listing).unwrap());
        assert_eq!(outcomes(&done).len(), TENANTS - 1);
        Undo::new(done.repair.unwrap()).run(conn).unwrap();
    }
}

#[test]
fn a_connection_that_is_lost_fails_one_tenant_alone() {
    let db = fleet();
    db.execute(
        "t05",
        "CREATE FUNCTION dies() RETURNS trigger LANGUAGE plpgsql AS \
         'BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); PERFORM pg_sleep(1); RETURN NEW; END'; \
         CREATE TRIGGER dies BEFORE INSERT ON business_business FOR EACH ROW EXECUTE FUNCTION dies()",
    );
    let connect = || pg::connect(db.config());
    let conn = &mut db.connect();
    let done = run(&db, |repair, listing| repair.jobs(4, &connect).apply(conn, listing).unwrap());
    let failed: Vec<&str> =
        done.tenants.iter().filter(|one| one.result.is_err()).map(|one| one.schema.as_str()).collect();
    assert_eq!((done.tenants.len(), failed), (TENANTS - 1, vec!["t05"]), "{done:#?}");
}

#[test]
fn tenants_whose_new_foreign_keys_lead_into_public_do_not_block_each_other() {
    let users = "CREATE TABLE users (id int PRIMARY KEY)";
    let notes = "CREATE TABLE notes (id int PRIMARY KEY, writer int CONSTRAINT writes REFERENCES public.users)";
    let migrations = Migrations::new(
        set("public", &[("1_users", users, "DROP TABLE users")]).unwrap(),
        set("tenant", &[("2_notes", notes, "DROP TABLE notes")]).unwrap(),
    )
    .unwrap();
    let names: Vec<String> = (0..TENANTS).map(|n| format!("t{n:02}")).collect();
    let tenants = Tenants::new(names.iter().map(String::as_str));
    tenants.run(&Run::new(&migrations), &migrations).unwrap();
    names.iter().for_each(|name| tenants.db.execute(name, "ALTER TABLE notes DROP CONSTRAINT writes"));
    let connect = || pg::connect(tenants.db.config());
    let conn = &mut tenants.db.connect();
    let listing = FixedList(names.iter().map(|name| name.parse().unwrap()).collect()).list(conn).unwrap();
    let rules = Rules::default();
    let repair = Repair::new(&rules).migrations(&migrations).lock_timeout(Duration::from_millis(1));
    let done = repair.jobs(4, &connect).apply(conn, &listing).unwrap();
    assert_eq!(outcomes(&done).len(), TENANTS);
    assert!(done.is_healthy(), "{done:?}");
}
