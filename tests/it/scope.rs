use std::panic::{AssertUnwindSafe, catch_unwind};

use diesel::{
    Connection, PgConnection, RunQueryDsl,
    connection::{AnsiTransactionManager, SimpleConnection, TransactionManager},
    r2d2::R2D2Connection,
    result::{DatabaseErrorKind, Error as DieselError},
    sql_query,
};
use tenantry::{
    Error, SchemaName,
    pg::scope::{self, TenantConn},
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

fn path(conn: &mut PgConnection) -> String {
    scope::current(conn).unwrap().path
}

const NOTHING: Vec<String> = Vec::new();

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
    assert_eq!(path(conn), "\"$user\", public");
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
    assert_eq!(path(conn), "\"$user\", public");
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
        assert_eq!(path(conn), "\"$user\", public");
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
    assert_eq!(path(conn), "\"$user\", public");
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
    assert_eq!(path(conn), "\"$user\", public");
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
    assert_eq!(path(conn), "\"$user\", public");
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
    assert_eq!((now.path.as_str(), now.in_transaction_scope), ("\"$user\", public", false));
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
    assert_eq!(path(conn), "\"$user\", public");
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
