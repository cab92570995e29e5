//! The incident of March 2025, written as it was written then, and gone through the service.

use diesel::{
    Connection, PgConnection, RunQueryDsl,
    connection::SimpleConnection,
    prelude::*,
    result::{DatabaseErrorKind, Error as DieselError},
    sql_query,
};
use tenantry::{
    domain::{
        models::User,
        onboarding::{self, BusinessInfo},
    },
    pg::{pool, scope},
    testing::TestDatabase,
};

use crate::support::{migrated, plain, tenant, user};

const BUSINESS: &str = "bd8f8654-0752-4843-b076-0d7b2dc2e6d7";

/// A database with one tenant, and one user of it.
fn before_the_incident() -> (TestDatabase, User) {
    let db = migrated();
    let conn = &mut db.connect();
    tenant(conn, "acme");
    let user = user(conn);
    (db, user)
}

/// `SaveStep1View.post()` as it was: the business with the connection as it comes, the profile in the tenant.
fn as_the_incident_wrote(conn: &mut PgConnection, user: &User) -> QueryResult<()> {
    conn.transaction(|conn| {
        sql_query(format!("INSERT INTO business_business (id, name) VALUES ('{BUSINESS}', 'Engines')"))
            .execute(conn)?;
        conn.batch_execute("SET LOCAL search_path = acme, public")?;
        sql_query(format!("INSERT INTO users_userprofile (user_id, business_id) VALUES ('{}', '{BUSINESS}')", user.id))
            .execute(conn)?;
        Ok(())
    })
}

#[track_caller]
fn assert_database_error(result: QueryResult<()>, kind: DatabaseErrorKind, message: &str, detail: Option<&str>) {
    match result {
        Err(DieselError::DatabaseError(found, about)) => {
            assert_eq!(format!("{found:?}"), format!("{kind:?}"));
            assert_eq!(about.message(), message);
            if detail.is_some() {
                assert_eq!(about.details(), detail);
            }
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn written_as_then_the_foreign_key_is_violated_at_commit() {
    let (db, user) = before_the_incident();
    assert_database_error(
        as_the_incident_wrote(&mut plain(&db), &user),
        DatabaseErrorKind::ForeignKeyViolation,
        "insert or update on table \"users_userprofile\" violates foreign key constraint \"users_userprofile_business_id_fk\"",
        Some("Key (business_id)=(bd8f8654-0752-4843-b076-0d7b2dc2e6d7) is not present in table \"business_business\"."),
    );
}

#[test]
fn written_as_then_updated_at_is_null() {
    let (db, user) = before_the_incident();
    let insert = format!("INSERT INTO acme.users_userprofile (user_id, updated_at) VALUES ('{}', NULL)", user.id);
    assert_database_error(
        sql_query(insert).execute(&mut db.connect()).map(drop),
        DatabaseErrorKind::NotNullViolation,
        "null value in column \"updated_at\" of relation \"users_userprofile\" violates not-null constraint",
        None,
    );
}

#[test]
fn through_the_service_in_a_test_transaction_both_are_gone() {
    let (db, user) = before_the_incident();
    let conn = &mut db.connect();
    conn.begin_test_transaction().unwrap();
    let info = BusinessInfo::new(user.id, "Engines");
    let saved =
        scope::transaction(conn, &"acme".parse().unwrap(), |tenant| onboarding::save_business_info(tenant, &info))
            .unwrap();
    assert_eq!(saved.profile.business_id, Some(saved.business.id));
    // What would have been violated at COMMIT is checked now.
    conn.batch_execute("SET CONSTRAINTS ALL IMMEDIATE").unwrap();
    assert_eq!(place(conn), ["acme.business_business", "acme.users_userprofile"]);
    assert_eq!(db.text("SELECT count(*) FROM acme.business_business"), "0", "nothing was committed");
}

#[test]
fn through_the_service_on_a_pooled_connection_both_are_gone() {
    let (db, user) = before_the_incident();
    let pool = pool::open(db.config().clone()).unwrap();
    let info = BusinessInfo::new(user.id, "Engines");
    scope::transaction(&mut pool.get().unwrap(), &"acme".parse().unwrap(), |tenant| {
        onboarding::save_business_info(tenant, &info)
    })
    .unwrap();
    assert_eq!(place(&mut pool.get().unwrap()), ["acme.business_business", "acme.users_userprofile"]);
    assert_eq!(db.text("SELECT count(*) FROM acme.users_userprofile WHERE modified_at = updated_at"), "1");
}

/// The tables, of either schema, that have rows.
fn place(conn: &mut PgConnection) -> Vec<String> {
    #[derive(QueryableByName)]
    struct Place {
        #[diesel(sql_type = diesel::sql_types::Text)]
        place: String,
    }
    let tables =
        ["acme.business_business", "public.business_business", "acme.users_userprofile", "public.users_userprofile"];
    let select = tables.map(|table| format!("SELECT tableoid::regclass::text AS place FROM {table}")).join(" UNION ");
    let places: Vec<Place> = sql_query(format!("{select} ORDER BY 1")).load(conn).unwrap();
    places.into_iter().map(|place| place.place).collect()
}
