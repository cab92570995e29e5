use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use diesel::{
    Connection, PgConnection, RunQueryDsl,
    connection::{AnsiTransactionManager, SimpleConnection, TransactionManager},
    r2d2::R2D2Connection,
    result::{DatabaseErrorKind, Error as DieselError},
    sql_query,
};
use tenantry::{
    Error, OutsideScopes, SchemaName,
    pg::{
        self,
        scope::{self, TenantConn},
    },
    testing::TestDatabase,
};

/// Two tenants, each with a table `notes`, which `public` has as well.
fn two_tenants() -> (TestDatabase, SchemaName, SchemaName) {
    let db = TestDatabase::with_empty_schemas(["acme", "Globex-2"]);
    for schema in ["public", "acme", "Globex-2"] {
        db.execute(schema, "CREATE TABLE notes (text text UNIQUE)");
    }
    (db, "acme".parse().unwrap(), "Globex-2".parse().unwrap())
}

fn note(tenant: &mut TenantConn<'_>, text: &str) -> Result<(), Error> {
    sql_query(format!("INSERT INTO notes VALUES ('{text}')")).execute(tenant.conn())?;
    Ok(())
}

fn notes(db: &TestDatabase, schema: &str) -> Vec<String> {
    db.texts(&format!("SELECT text FROM \"{schema}\".notes ORDER BY 1"))
}

/// How many transactions and savepoints Diesel has under way.
fn depth(conn: &mut PgConnection) -> u32 {
    let status = AnsiTransactionManager::transaction_manager_status_mut(conn);
    status.transaction_depth().unwrap().map_or(0, u32::from)
}

fn path(conn: &mut PgConnection) -> String {
    scope::current(conn).unwrap().path
}

const NOTHING: Vec<String> = Vec::new();

/// The path of a connection outside of scopes.
const CLOSED: &str = "pg_catalog, pg_temp";

#[test]
fn rows_go_to_the_tenant_and_the_path_is_as_it_was_afterwards() {
    let (db, acme, globex) = two_tenants();
    let conn = &mut db.connect();
    let before = path(conn);
    scope::transaction(conn, &acme, |tenant| note(tenant, "a")).unwrap();
    scope::transaction(conn, &globex, |tenant| note(tenant, "g")).unwrap();
    assert_eq!(
        (notes(&db, "acme"), notes(&db, "Globex-2"), notes(&db, "public")),
        (vec!["a".into()], vec!["g".into()], NOTHING)
    );
    assert_eq!(path(conn), before);
}

#[test]
fn the_tenant_is_alone_on_the_path() {
    let (db, acme, _) = two_tenants();
    db.execute("public", "CREATE TABLE shared ()");
    let error = scope::transaction(&mut db.connect(), &acme, |tenant| {
        let now = scope::current(tenant)?;
        assert_eq!((now.schema.as_deref(), now.visible.as_slice()), (Some("acme"), ["acme".to_owned()].as_slice()));
        sql_query("SELECT * FROM shared").execute(tenant.conn())
    });
    assert_eq!(error.unwrap_err().to_string(), "relation \"shared\" does not exist");
}

#[test]
fn a_missing_schema_is_an_error_and_never_public() {
    let (db, _, _) = two_tenants();
    let ghost: SchemaName = "ghost".parse().unwrap();
    let conn = &mut db.connect();
    let transaction = scope::transaction(conn, &ghost, |tenant| note(tenant, "lost"));
    assert!(matches!(transaction, Err(Error::MissingSchema { .. })), "{transaction:?}");
    let session = scope::session(conn, &ghost).map(drop);
    assert!(matches!(session, Err(Error::MissingSchema { .. })), "{session:?}");
    conn.begin_test_transaction().unwrap();
    let nested = scope::transaction(conn, &ghost, |tenant| note(tenant, "lost"));
    assert!(matches!(nested, Err(Error::MissingSchema { .. })), "{nested:?}");
    // The test transaction lives on.
    assert_eq!(path(conn), CLOSED);
    assert_eq!(notes(&db, "public"), NOTHING);
}

#[test]
fn a_schema_that_the_role_may_not_use_is_an_error_too() {
    let (db, acme, _) = two_tenants();
    let role = format!("stranger_{}", uuid::Uuid::new_v4().simple());
    let conn = &mut db.connect();
    conn.batch_execute(&format!("CREATE ROLE {role}; SET ROLE {role}")).unwrap();
    let transaction = scope::transaction(conn, &acme, |tenant| note(tenant, "x"));
    assert!(matches!(transaction, Err(Error::NoUsage { .. })), "{transaction:?}");
    let session = scope::session(conn, &acme).map(drop);
    assert!(matches!(session, Err(Error::NoUsage { .. })), "{session:?}");
    assert_eq!(path(conn), CLOSED);
    conn.batch_execute(&format!("RESET ROLE; DROP ROLE {role}")).unwrap();
}

#[test]
fn an_error_rolls_back_and_the_connection_goes_on() {
    let (db, acme, _) = two_tenants();
    let conn = &mut db.connect();
    let result: Result<(), Error> = scope::transaction(conn, &acme, |tenant| {
        note(tenant, "a")?;
        Err(Error::MissingSchema { schema: tenant.schema().clone() })
    });
    assert!(result.is_err());
    assert_eq!(notes(&db, "acme"), NOTHING);
    assert!(!conn.is_broken());
    scope::transaction(conn, &acme, |tenant| note(tenant, "b")).unwrap();
}

#[test]
fn a_panic_rolls_back_and_the_connection_goes_on() {
    let (db, acme, globex) = two_tenants();
    let conn = &mut db.connect();
    for nested in [false, true] {
        let panic = catch_unwind(AssertUnwindSafe(|| {
            scope::transaction(conn, &acme, |tenant| {
                note(tenant, "a")?;
                if nested {
                    scope::transaction(tenant, &globex, |_| -> Result<(), Error> { panic!("in globex") })?;
                }
                panic!("in acme");
                #[allow(unreachable_code)]
                Ok::<(), Error>(())
            })
        }));
        assert!(panic.is_err());
        assert!(!conn.is_broken());
        assert_eq!(path(conn), CLOSED);
    }
    assert_eq!(notes(&db, "acme"), NOTHING);
}

#[test]
fn a_panic_inside_diesels_own_transaction_rolls_back_all_of_the_scope() {
    let (db, acme, globex) = two_tenants();
    let conn = &mut db.connect();
    let mut panics = |nested: bool| {
        let panic = catch_unwind(AssertUnwindSafe(|| {
            scope::transaction(conn, &acme, |tenant| {
                note(tenant, "a")?;
                let diesels =
                    |conn: &mut PgConnection| conn.transaction(|_| -> Result<(), DieselError> { panic!("inside") });
                match nested {
                    true => scope::transaction(tenant, &globex, |tenant| Ok::<_, Error>(diesels(tenant)?)),
                    false => Ok(diesels(tenant)?),
                }
            })
        }));
        assert!(panic.is_err());
        // Nothing is left open: Diesel would refuse to begin a test transaction.
        conn.begin_test_transaction().unwrap();
        AnsiTransactionManager::rollback_transaction(conn).unwrap();
    };
    panics(false);
    panics(true);
    assert_eq!(notes(&db, "acme"), NOTHING);
}

#[test]
fn a_swallowed_error_is_not_reported_as_success() {
    let (db, acme, globex) = two_tenants();
    let conn = &mut db.connect();
    let swallow = |tenant: &mut TenantConn<'_>| {
        note(tenant, "a")?;
        let _ = note(tenant, "a"); // a unique violation
        Ok::<(), Error>(())
    };
    let result = scope::transaction(conn, &acme, swallow);
    assert!(matches!(result, Err(Error::SwallowedError { .. })), "{result:?}");
    assert!(!conn.is_broken());

    // The same one level down: the outer scope is not hurt.
    scope::transaction(conn, &globex, |tenant| {
        note(tenant, "before")?;
        let inner = scope::transaction(tenant, &acme, swallow);
        assert!(matches!(inner, Err(Error::SwallowedError { .. })), "{inner:?}");
        note(tenant, "after")
    })
    .unwrap();
    assert_eq!((notes(&db, "acme"), notes(&db, "Globex-2")), (NOTHING, vec!["after".into(), "before".into()]));
}

#[test]
fn diesel_itself_reports_a_swallowed_error_as_success() {
    // The fact that the test above guards against. Should Diesel change, the check can go.
    let (db, _, _) = two_tenants();
    let conn = &mut db.connect();
    let result = conn.transaction(|conn| {
        let _ = sql_query("SELECT 1/0").execute(conn);
        Ok::<(), DieselError>(())
    });
    assert!(result.is_ok());
}

#[test]
fn leaving_the_schema_inside_a_scope_rolls_back() {
    let (db, acme, globex) = two_tenants();
    let conn = &mut db.connect();
    let leave = |tenant: &mut TenantConn<'_>| {
        note(tenant, "a")?;
        tenant.batch_execute("SET LOCAL search_path = acme, public")?;
        assert!(matches!(tenant.ensure_current(), Err(Error::LeftScope { .. })));
        Ok::<(), Error>(())
    };
    let result = scope::transaction(conn, &acme, leave);
    assert!(matches!(&result, Err(Error::LeftScope { path, .. }) if path == "acme, public"), "{result:?}");
    let nested = scope::transaction(conn, &globex, |tenant| scope::transaction(tenant, &acme, leave));
    assert!(matches!(nested, Err(Error::LeftScope { .. })), "{nested:?}");
    assert_eq!(notes(&db, "acme"), NOTHING);
    assert_eq!(path(conn), CLOSED);
}

#[test]
fn scopes_nest_and_restore_exactly() {
    let (db, acme, globex) = two_tenants();
    let conn = &mut db.connect();
    conn.batch_execute("SET search_path = public, \"Odd, name\"").unwrap();
    scope::transaction(conn, &acme, |tenant| {
        note(tenant, "1")?;
        tenant.transaction(|tenant| note(tenant, "2"))?;
        scope::transaction(tenant, &globex, |tenant| {
            note(tenant, "3")?;
            assert!(scope::current(tenant)?.in_transaction_scope);
            Ok::<_, Error>(())
        })?;
        let undone: Result<(), Error> = scope::transaction(tenant, &globex, |tenant| {
            note(tenant, "undone")?;
            Err(DieselError::RollbackTransaction.into())
        });
        assert!(undone.is_err());
        tenant.ensure_current()?;
        note(tenant, "4")
    })
    .unwrap();
    assert_eq!(
        (notes(&db, "acme"), notes(&db, "Globex-2")),
        (vec!["1".into(), "2".into(), "4".into()], vec!["3".into()])
    );
    assert_eq!(path(conn), "public, \"Odd, name\"");
    assert!(!scope::current(conn).unwrap().in_transaction_scope);
}

#[test]
fn a_commit_that_fails_is_the_scopes_error() {
    let (db, acme, _) = two_tenants();
    db.execute("acme", "CREATE TABLE refs (note text REFERENCES notes (text) DEFERRABLE INITIALLY DEFERRED)");
    let conn = &mut db.connect();
    let result =
        scope::transaction(conn, &acme, |tenant| sql_query("INSERT INTO refs VALUES ('none')").execute(tenant.conn()));
    assert!(matches!(result, Err(DieselError::DatabaseError(DatabaseErrorKind::ForeignKeyViolation, _))), "{result:?}");
    assert!(!conn.is_broken());
    scope::transaction(conn, &acme, |tenant| note(tenant, "after")).unwrap();
}

#[test]
fn a_lost_connection_is_told_as_such() {
    let (db, acme, _) = two_tenants();
    let conn = &mut db.connect();
    let result = scope::transaction(conn, &acme, |tenant| {
        let _ = sql_query("SELECT pg_terminate_backend(pg_backend_pid())").execute(tenant.conn());
        Ok::<(), Error>(())
    });
    assert!(matches!(result, Err(Error::Query(_))), "{result:?}");
    assert!(conn.is_broken());
}

#[test]
fn everything_works_inside_a_test_transaction() {
    let (db, acme, globex) = two_tenants();
    let conn = &mut db.connect();
    conn.begin_test_transaction().unwrap();
    scope::transaction(conn, &acme, |tenant| note(tenant, "a")).unwrap();
    {
        let mut tenant = scope::session(conn, &globex).unwrap();
        note(&mut tenant, "g").unwrap();
        tenant.transaction(|tenant| note(tenant, "h")).unwrap();
        tenant.ensure_current().unwrap();
    }
    let failed: Result<(), Error> = scope::transaction(conn, &acme, |tenant| {
        note(tenant, "a")?;
        Ok(())
    });
    assert!(failed.is_err());
    assert_eq!(path(conn), CLOSED);
    let count = diesel::dsl::sql::<diesel::sql_types::BigInt>(
        "(SELECT count(*) FROM acme.notes) + (SELECT count(*) FROM \"Globex-2\".notes)",
    );
    assert_eq!(diesel::select(count).get_result::<i64>(conn).unwrap(), 3);
    assert_eq!((notes(&db, "acme"), notes(&db, "Globex-2")), (NOTHING, NOTHING), "nothing was committed");
}

#[test]
fn a_session_guard_puts_the_path_back_when_it_drops() {
    let (db, acme, globex) = two_tenants();
    let conn = &mut db.connect();
    {
        let mut tenant = scope::session(conn, &acme).unwrap();
        note(&mut tenant, "a").unwrap();
        let now = scope::current(&mut tenant).unwrap();
        assert!(!now.in_transaction_scope);
        scope::transaction(&mut tenant, &globex, |tenant| note(tenant, "g")).unwrap();
        tenant.ensure_current().unwrap();
        let panic = catch_unwind(AssertUnwindSafe(|| {
            let _inner = scope::session(&mut tenant, &globex).unwrap();
            panic!("inside");
        }));
        assert!(panic.is_err());
        tenant.ensure_current().unwrap();
    }
    assert_eq!(path(conn), CLOSED);
    assert_eq!((notes(&db, "acme"), notes(&db, "Globex-2")), (vec!["a".into()], vec!["g".into()]));
}

#[test]
fn a_session_guard_inside_a_transaction_ends_with_it() {
    let (db, acme, globex) = two_tenants();
    let conn = &mut db.connect();
    scope::transaction(conn, &acme, |tenant| {
        let mut other = scope::session(tenant, &globex)?;
        note(&mut other, "g")?;
        drop(other);
        note(tenant, "a")
    })
    .unwrap();
    assert_eq!((notes(&db, "acme"), notes(&db, "Globex-2")), (vec!["a".into()], vec!["g".into()]));
    let now = scope::current(conn).unwrap();
    assert_eq!((now.path.as_str(), now.in_transaction_scope), (CLOSED, false));
}

#[test]
fn a_session_guard_survives_a_panic_inside_diesels_own_transaction() {
    let (db, acme, _) = two_tenants();
    let conn = &mut db.connect();
    let panic = catch_unwind(AssertUnwindSafe(|| {
        let mut tenant = scope::session(conn, &acme).unwrap();
        tenant.conn().transaction(|_| -> Result<(), DieselError> { panic!("inside") }).unwrap();
    }));
    assert!(panic.is_err());
    assert_eq!(path(conn), CLOSED);
}

#[test]
fn a_transaction_left_open_inside_is_not_committed_half_done() {
    let (db, acme, globex) = two_tenants();
    let conn = &mut db.connect();
    let leave_open = |tenant: &mut TenantConn<'_>| {
        AnsiTransactionManager::begin_transaction(tenant.conn())?;
        note(tenant, "half done")
    };
    let outermost = scope::transaction(conn, &acme, leave_open);
    assert!(matches!(outermost, Err(Error::SwallowedError { .. })), "{outermost:?}");
    let nested = scope::transaction(conn, &globex, |tenant| {
        note(tenant, "kept")?;
        let inner = scope::transaction(tenant, &acme, leave_open);
        assert!(matches!(inner, Err(Error::SwallowedError { .. })), "{inner:?}");
        Ok::<_, Error>(())
    });
    assert!(nested.is_ok(), "{nested:?}");
    assert_eq!((notes(&db, "acme"), notes(&db, "Globex-2")), (NOTHING, vec!["kept".into()]));
}

#[test]
fn rows_stay_right_when_cached_statements_meet_another_tenant() {
    let (db, acme, globex) = two_tenants();
    diesel::table! { notes (text) { text -> Text, } }
    use diesel::prelude::*;
    let conn = &mut db.connect();
    for round in 0..3 {
        for schema in [&acme, &globex] {
            let text = format!("{schema} {round}");
            scope::transaction(conn, schema, |tenant| {
                diesel::insert_into(notes::table).values(notes::text.eq(&text)).execute(tenant.conn())
            })
            .unwrap();
        }
    }
    assert_eq!(notes(&db, "acme"), ["acme 0", "acme 1", "acme 2"]);
    assert_eq!(notes(&db, "Globex-2"), ["Globex-2 0", "Globex-2 1", "Globex-2 2"]);
}

/// What a closure may send to end the scope's transaction, and whether what came before is then committed.
const ENDINGS: [(&str, bool); 6] = [
    ("ROLLBACK", false),
    ("COMMIT", true),
    ("ROLLBACK AND CHAIN", false),
    ("COMMIT AND CHAIN", true),
    ("ROLLBACK; BEGIN", false),
    ("COMMIT; BEGIN", true),
];

#[track_caller]
fn check_ended(result: Result<(), Error>, is_committed: bool, ending: &str) {
    let Err(Error::TransactionEnded { committed, .. }) = result else { panic!("{ending}: {result:?}") };
    assert_eq!(committed, is_committed, "{ending}");
}

#[test]
fn a_transaction_that_is_ended_by_hand_is_an_error_that_says_what_is_committed() {
    for (ending, is_committed) in ENDINGS {
        let (db, acme, _) = two_tenants();
        let conn = &mut db.connect();
        let result = scope::transaction(conn, &acme, |tenant| {
            note(tenant, "before")?;
            tenant.batch_execute(ending)?;
            if depth(tenant) == 0 {
                // The path is closed again.
                assert!(note(tenant, "after").is_err(), "{ending}");
            }
            Ok::<(), Error>(())
        });
        check_ended(result, is_committed, ending);
        assert_eq!(notes(&db, "acme"), if is_committed { vec!["before".to_owned()] } else { NOTHING }, "{ending}");
        assert_eq!(notes(&db, "public"), NOTHING, "{ending}");
        scope::transaction(conn, &acme, |tenant| note(tenant, "the next scope works")).unwrap();
    }
}

#[test]
fn inside_a_session_guard_it_is_the_same_error() {
    for (ending, is_committed) in ENDINGS {
        let (db, acme, _) = two_tenants();
        let conn = &mut db.connect();
        let mut session = scope::session(conn, &acme).unwrap();
        let result = scope::transaction(&mut session, &acme, |tenant| {
            note(tenant, "before")?;
            tenant.batch_execute(ending)?;
            note(tenant, "after")
        });
        check_ended(result, is_committed, ending);
        session.ensure_current().unwrap();
        let before = notes(&db, "acme").iter().filter(|text| *text == "before").count();
        assert_eq!(before, usize::from(is_committed), "{ending}");
    }
}

#[test]
fn a_closure_that_fails_after_it_committed_is_not_reported_as_rolled_back() {
    for (ending, is_committed) in ENDINGS {
        let (db, acme, _) = two_tenants();
        let conn = &mut db.connect();
        let mut fail = |text: &str, after: &dyn Fn(&mut TenantConn<'_>) -> Result<(), Error>| {
            scope::transaction(conn, &acme, |tenant| {
                note(tenant, text)?;
                tenant.batch_execute(ending)?;
                after(tenant)
            })
        };
        let by_itself = fail("1", &|_| Err(DieselError::NotFound.into()));
        let by_a_query = fail("2", &|tenant| Ok(tenant.batch_execute("SELECT 1/0")?));
        for result in [by_itself, by_a_query] {
            match is_committed {
                true => check_ended(result, true, ending),
                false => assert!(result.is_err(), "{ending}"),
            }
        }
        assert_eq!(notes(&db, "acme").len(), if is_committed { 2 } else { 0 }, "{ending}");
    }
}

#[test]
fn a_nested_scope_that_ends_the_transaction_ends_the_outer_one_too() {
    for (ending, is_committed) in ENDINGS {
        let (db, acme, globex) = two_tenants();
        let conn = &mut db.connect();
        let result = scope::transaction(conn, &acme, |tenant| {
            note(tenant, "before")?;
            let nested = scope::transaction(tenant, &globex, |tenant| Ok::<_, Error>(tenant.batch_execute(ending)?));
            assert!(nested.is_err(), "{ending}");
            Ok(())
        });
        match is_committed {
            true => check_ended(result, true, ending),
            false => assert!(result.is_err(), "{ending}"),
        }
        assert_eq!(notes(&db, "acme").len(), usize::from(is_committed), "{ending}");
    }
}

#[test]
fn a_schema_that_takes_the_name_of_a_scopes_schema_is_noticed() {
    let (db, acme, _) = two_tenants();
    let swap = "ALTER SCHEMA acme RENAME TO between; ALTER SCHEMA \"Globex-2\" RENAME TO acme; \
                ALTER SCHEMA between RENAME TO \"Globex-2\"";
    let conn = &mut db.connect();
    let mut write_and_swap = |nested: bool| {
        let work = |tenant: &mut TenantConn<'_>| {
            // Nothing is read or written before, which would hold a lock that the rename waits for.
            db.connect().batch_execute(swap)?;
            note(tenant, "of the other one")?;
            assert!(matches!(tenant.ensure_current(), Err(Error::SchemaReplaced { .. })));
            Ok(())
        };
        match nested {
            true => conn.transaction(|conn| scope::transaction(conn, &acme, work)),
            false => scope::transaction(conn, &acme, work),
        }
    };
    for nested in [false, true] {
        let result = write_and_swap(nested);
        assert!(matches!(result, Err(Error::SchemaReplaced { .. })), "{result:?}");
    }
    let mut session = scope::session(conn, &acme).unwrap();
    db.connect().batch_execute(swap).unwrap();
    assert!(matches!(session.ensure_current(), Err(Error::SchemaReplaced { .. })));
    drop(session);
    assert_eq!((notes(&db, "acme"), notes(&db, "Globex-2")), (NOTHING, NOTHING));
}

#[test]
fn a_bare_table_outside_of_a_scope_is_not_found() {
    let (db, acme, _) = two_tenants();
    let conn = &mut db.connect();
    let bare = |conn: &mut PgConnection| conn.batch_execute("INSERT INTO notes VALUES ('bare')");
    assert_eq!(bare(conn).unwrap_err().to_string(), "relation \"notes\" does not exist");
    scope::transaction(conn, &acme, |tenant| note(tenant, "a")).unwrap();
    assert!(bare(conn).is_err());
    conn.batch_execute("INSERT INTO public.notes VALUES ('qualified')").unwrap();

    let mut config = db.config().clone();
    config.outside_scopes = OutsideScopes::Public;
    bare(&mut pg::connect(&config).unwrap()).unwrap();
    assert_eq!(notes(&db, "public"), ["bare", "qualified"]);
}

#[test]
fn a_tenant_does_not_decide_the_proof_of_its_own_scope() {
    let (db, acme, globex) = two_tenants();
    // Of types that are nearer to what the proof compares than the server's own.
    db.execute(
        "acme",
        "CREATE FUNCTION nameeq(name, text) RETURNS bool LANGUAGE sql AS 'SELECT true';
         CREATE FUNCTION array_eq(name[], name[]) RETURNS bool LANGUAGE sql AS 'SELECT true';
         CREATE FUNCTION texteq(text, text) RETURNS bool LANGUAGE sql AS 'SELECT true';
         CREATE FUNCTION concat(text, oid) RETURNS text LANGUAGE sql AS $$SELECT 'planted'$$;
         CREATE FUNCTION current_setting(text, bool) RETURNS text LANGUAGE sql AS $$SELECT 'planted'$$;
         CREATE FUNCTION current_schemas(bool) RETURNS name[] LANGUAGE sql AS $$SELECT '{acme}'::name[]$$",
    );
    let conn = &mut db.connect();
    let result = scope::transaction(conn, &acme, |tenant| {
        scope::transaction(tenant, &globex, |tenant| note(tenant, "g"))?;
        tenant.ensure_current()?;
        Ok::<_, Error>(tenant.batch_execute("SET LOCAL search_path = acme, public")?)
    });
    assert!(matches!(result, Err(Error::LeftScope { .. })), "{result:?}");
}

#[test]
fn a_panic_after_the_transaction_was_ended_by_hand_leaves_nothing_open() {
    for begin in ["BEGIN", "SELECT 1"] {
        let (db, acme, globex) = two_tenants();
        let conn = &mut db.connect();
        let panic = catch_unwind(AssertUnwindSafe(|| {
            scope::transaction(conn, &acme, |tenant| -> Result<(), Error> {
                tenant.batch_execute("ROLLBACK")?;
                tenant.batch_execute(begin)?;
                tenant.batch_execute("SET search_path = acme")?;
                let _ = note(tenant, "abandoned");
                panic!("inside")
            })
        }));
        assert!(panic.is_err());
        scope::transaction(conn, &globex, |tenant| note(tenant, "g")).unwrap();
        let abandoned = if begin == "BEGIN" { NOTHING } else { vec!["abandoned".to_owned()] };
        assert_eq!((notes(&db, "acme"), notes(&db, "Globex-2")), (abandoned, vec!["g".into()]), "{begin}");
    }
}

#[test]
fn a_scope_that_loses_its_settings_is_rolled_back() {
    let (db, acme, _) = two_tenants();
    let conn = &mut db.connect();
    let result = scope::transaction(conn, &acme, |tenant| {
        note(tenant, "a")?;
        Ok::<_, Error>(tenant.batch_execute("RESET ALL")?)
    });
    check_ended(result, false, "RESET ALL");
    assert_eq!(notes(&db, "acme"), NOTHING);
}

#[test]
fn a_schema_that_is_renamed_while_scopes_enter_is_missing_or_there_and_nothing_else() {
    let (db, acme, _) = two_tenants();
    let done = AtomicBool::new(false);
    thread::scope(|threads| {
        threads.spawn(|| {
            let conn = &mut db.connect();
            while !done.load(Ordering::Relaxed) {
                conn.batch_execute("ALTER SCHEMA acme RENAME TO away").unwrap();
                conn.batch_execute("ALTER SCHEMA away RENAME TO acme").unwrap();
            }
        });
        let conn = &mut db.connect();
        let (mut there, mut missing) = (0, 0);
        for _ in 0..100_000 {
            if there >= 200 && missing >= 200 {
                break;
            }
            match scope::transaction(conn, &acme, |_| Ok::<_, Error>(())) {
                Ok(()) => there += 1,
                Err(Error::MissingSchema { .. }) => missing += 1,
                // Renamed while it was inside.
                Err(Error::LeftScope { .. } | Error::SchemaReplaced { .. }) => {}
                Err(other) => {
                    done.store(true, Ordering::Relaxed);
                    panic!("{other}")
                }
            }
        }
        done.store(true, Ordering::Relaxed);
        assert!(there >= 200 && missing >= 200, "it was there {there} times, and missing {missing} times");
    });
}
