//! Many tenants at once on few connections.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use diesel::{RunQueryDsl, sql_query};
use tenantry::{
    SchemaName,
    domain::{
        self,
        models::NewTenant,
        onboarding::{self, BusinessInfo},
    },
    pg::{pool, scope},
};
use uuid::Uuid;

use crate::support::migrated;

const THREADS: usize = 8;
const POOL: u32 = 4;
const TENANTS: usize = 64;
const ONBOARDINGS: usize = 20_000;

#[test]
fn twenty_thousand_onboardings_land_in_their_own_schemas() {
    let db = migrated();
    let conn = &mut db.connect();
    let tenants: Vec<SchemaName> = (0..TENANTS)
        .map(|number| {
            let request = NewTenant {
                schema_name: Some(format!("tenant_{number}").parse().unwrap()),
                ..NewTenant::new(Uuid::new_v4(), format!("Tenant {number}"))
            };
            onboarding::register_tenant(conn, domain::migrations().unwrap(), &request).unwrap();
            request.schema()
        })
        .collect();
    // The user of onboarding n has id n, and belongs to tenant n modulo the number of tenants.
    sql_query(format!(
        "INSERT INTO public.custom_auth_user (id, email) SELECT lpad(to_hex(n), 32, '0')::uuid, n || '@example.com' FROM generate_series(0, {}) n",
        ONBOARDINGS - 1
    ))
    .execute(conn)
    .unwrap();

    let mut config = db.config().clone();
    config.pool_size = POOL;
    let pool = pool::open(config).unwrap();
    let next = AtomicUsize::new(0);
    thread::scope(|threads| {
        for _ in 0..THREADS {
            threads.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= ONBOARDINGS {
                        break;
                    }
                    let info = BusinessInfo::new(Uuid::from_u128(number as u128), format!("Business {number}"));
                    let schema = &tenants[number % TENANTS];
                    let conn = &mut pool.get().unwrap();
                    // Half of them the other way, and some that fail in between.
                    if number.is_multiple_of(2) {
                        scope::transaction(conn, schema, |tenant| onboarding::save_business_info(tenant, &info))
                            .unwrap();
                    } else {
                        let mut tenant = scope::session(conn, schema).unwrap();
                        onboarding::save_business_info(&mut tenant, &info).unwrap();
                    }
                    assert_eq!(scope::current(conn).unwrap().path, "pg_catalog, pg_temp", "left behind by {schema}");
                    if number.is_multiple_of(100) {
                        let nobody = BusinessInfo::new(Uuid::max(), "Nobody's");
                        assert!(
                            scope::transaction(conn, schema, |tenant| onboarding::save_business_info(tenant, &nobody))
                                .is_err()
                        );
                    }
                }
            });
        }
    });

    for (number, schema) in tenants.iter().enumerate() {
        let expected = (ONBOARDINGS + TENANTS - 1 - number) / TENANTS;
        let found = db.text(&format!(
            "SELECT concat_ws(' ', (SELECT count(*) FROM {schema}.business_business), count(*), count(DISTINCT p.business_id), \
                    count(*) FILTER (WHERE ('x' || right(p.user_id::text, 8))::bit(32)::int % {TENANTS} = {number} \
                                     AND p.schema_name = '{schema}' AND b.name = 'Business ' || ('x' || right(p.user_id::text, 8))::bit(32)::int)) \
             FROM {schema}.users_userprofile p JOIN {schema}.business_business b ON b.id = p.business_id"
        ));
        assert_eq!(found, format!("{expected} {expected} {expected} {expected}"), "{schema}");
    }
    let in_public = "SELECT (SELECT count(*) FROM public.business_business) + (SELECT count(*) FROM public.business_business_details) \
                     + (SELECT count(*) FROM public.users_userprofile)";
    assert_eq!(db.text(in_public), "0");
    let held: Vec<_> = (0..POOL).map(|_| pool.get().unwrap()).collect();
    for mut conn in held {
        assert_eq!(scope::current(&mut conn).unwrap().path, "pg_catalog, pg_temp");
    }
}
