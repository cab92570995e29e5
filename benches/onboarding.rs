//! What tenancy costs: `save_business_info` in a scope, beside the same statements in a plain Diesel transaction.
//!
//! `script/with-postgres --durable cargo bench --bench onboarding`

use std::{
    cell::RefCell,
    time::{Duration, Instant},
};

use chrono::Utc;
use criterion::{BatchSize, Criterion};
use diesel::{PgConnection, prelude::*};
use tenantry::{
    OutsideScopes, SchemaName,
    domain::{
        self,
        models::{Business, BusinessDetails, NewTenant, NewUser, Tenant, User, UserProfile},
        onboarding::{self, BusinessInfo},
    },
    migrate::Run,
    pg::{self, scope},
    testing::TestDatabase,
};
use uuid::Uuid;

/// How often each is measured, in turns.
const PAIRS: usize = 3000;

fn main() {
    let bench = RefCell::new(Bench::new());
    let user = || bench.borrow_mut().user();
    let tenantry = |user| bench.borrow_mut().tenantry(user);
    let plain = |user| bench.borrow_mut().plain(user);

    // In turns, so that both meet the same noise, and each comes first as often as the other.
    let (mut ours, mut theirs) = (Vec::with_capacity(PAIRS), Vec::with_capacity(PAIRS));
    for pair in 0..PAIRS {
        let (one, other) = (user(), user());
        if pair % 2 == 0 {
            ours.push(timed(|| tenantry(one)));
            theirs.push(timed(|| plain(other)));
        } else {
            theirs.push(timed(|| plain(other)));
            ours.push(timed(|| tenantry(one)));
        }
    }
    let (ours, theirs) = (median(ours), median(theirs));
    let ratio = ours.as_secs_f64() / theirs.as_secs_f64();
    println!("median of {PAIRS} in turns: tenantry {ours:?}, plain Diesel {theirs:?}, ratio {ratio:.3}");

    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("save_business_info");
    group.bench_function("tenantry", |b| b.iter_batched(user, tenantry, BatchSize::PerIteration));
    group.bench_function("plain Diesel", |b| b.iter_batched(user, plain, BatchSize::PerIteration));
    group.finish();
    criterion.final_summary();
}

struct Bench {
    setup: PgConnection,
    conn: PgConnection,
    schema: SchemaName,
    _db: TestDatabase,
}

impl Bench {
    fn new() -> Self {
        let db = TestDatabase::new();
        let mut setup = db.connect();
        let migrations = domain::migrations().expect("the migrations");
        Run::new(migrations).public(&mut setup).expect("public is migrated");
        let tenant = NewTenant::new(Uuid::new_v4(), "Engines Ltd");
        onboarding::register_tenant(&mut setup, migrations, &tenant).expect("a tenant");
        Self { setup, conn: open(&db), schema: tenant.schema(), _db: db }
    }

    fn user(&mut self) -> Uuid {
        let id = Uuid::new_v4();
        let user = NewUser { id, email: format!("{id}@example.com"), first_name: "Ada".into(), last_name: "L".into() };
        user.insert(&mut self.setup).expect("a user").id
    }

    fn tenantry(&mut self, user: Uuid) {
        let info = BusinessInfo::new(user, "Engines Ltd");
        scope::transaction(&mut self.conn, &self.schema, |tenant| onboarding::save_business_info(tenant, &info))
            .expect("saved");
    }

    fn plain(&mut self, user: Uuid) {
        let schema = self.schema.as_str();
        self.conn.transaction(|conn| plain::save_business_info(conn, schema, user)).expect("saved");
    }
}

/// Statement for statement what `save_business_info` sends, with the tables of `public`.
mod plain {
    use super::*;

    diesel::table! {
        custom_auth_user (id) {
            id -> Uuid, email -> Varchar, first_name -> Varchar, last_name -> Varchar, is_active -> Bool,
            is_onboarded -> Bool, date_joined -> Timestamptz,
        }
    }
    diesel::table! {
        custom_auth_tenant (id) {
            id -> Uuid, schema_name -> Varchar, name -> Varchar, owner_id -> Nullable<Uuid>, created_on -> Timestamptz,
            is_active -> Bool, setup_status -> Varchar, setup_error_message -> Nullable<Text>,
            last_setup_attempt -> Nullable<Timestamptz>,
        }
    }
    diesel::table! {
        business_business (id) {
            id -> Uuid, name -> Varchar, business_num -> Nullable<Varchar>, created_at -> Timestamptz,
            updated_at -> Timestamptz,
        }
    }
    diesel::table! {
        business_business_details (business_id) {
            business_id -> Uuid, business_type -> Nullable<Varchar>, business_subtype_selections -> Jsonb,
            legal_structure -> Varchar, country -> Varchar, date_founded -> Nullable<Date>,
        }
    }
    diesel::table! {
        users_userprofile (id) {
            id -> Int8, user_id -> Uuid, business_id -> Nullable<Uuid>, tenant_id -> Nullable<Uuid>,
            occupation -> Nullable<Varchar>, street -> Nullable<Varchar>, city -> Nullable<Varchar>,
            state -> Nullable<Varchar>, postcode -> Nullable<Varchar>, country -> Varchar,
            phone_number -> Nullable<Varchar>, is_business_owner -> Bool, shopify_access_token -> Nullable<Varchar>,
            schema_name -> Nullable<Varchar>, metadata -> Jsonb, created_at -> Timestamptz, modified_at -> Timestamptz,
            updated_at -> Timestamptz,
        }
    }

    pub fn save_business_info(conn: &mut PgConnection, schema: &str, user: Uuid) -> QueryResult<UserProfile> {
        let user: User =
            custom_auth_user::table.find(user).select(custom_auth_user::all_columns).for_no_key_update().first(conn)?;
        let tenant: Tenant = custom_auth_tenant::table
            .filter(custom_auth_tenant::schema_name.eq(schema).or(custom_auth_tenant::owner_id.eq(user.id)))
            .select(custom_auth_tenant::all_columns)
            .first(conn)?;
        let profile: Option<UserProfile> = users_userprofile::table
            .filter(users_userprofile::user_id.eq(user.id))
            .select(users_userprofile::all_columns)
            .for_no_key_update()
            .first(conn)
            .optional()?;
        assert!(profile.is_none());
        let business = insert_business(conn)?;
        save_details(conn, business)?;
        let profile = insert_profile(conn, &user, &tenant, business)?;
        if !user.is_onboarded {
            let user = custom_auth_user::table.find(user.id);
            diesel::update(user).set(custom_auth_user::is_onboarded.eq(true)).execute(conn)?;
        }
        Ok(profile)
    }

    fn insert_business(conn: &mut PgConnection) -> QueryResult<Uuid> {
        let (id, now) = (Uuid::new_v4(), Utc::now());
        loop {
            let inserted: Option<Business> = diesel::insert_into(business_business::table)
                .values((
                    business_business::id.eq(id),
                    business_business::name.eq("Engines Ltd"),
                    business_business::business_num.eq(format!("{:06}", rand::random_range(0..1_000_000))),
                    business_business::created_at.eq(now),
                    business_business::updated_at.eq(now),
                ))
                .on_conflict(business_business::business_num)
                .do_nothing()
                .returning(business_business::all_columns)
                .get_result(conn)
                .optional()?;
            if inserted.is_some() {
                return Ok(id);
            }
        }
    }

    fn save_details(conn: &mut PgConnection, business: Uuid) -> QueryResult<BusinessDetails> {
        use business_business_details::*;
        let values = (
            business_id.eq(business),
            business_type.eq(None::<String>),
            business_subtype_selections.eq(serde_json::json!({})),
            legal_structure.eq("SOLE_PROPRIETORSHIP"),
            country.eq("US"),
            date_founded.eq(None::<chrono::NaiveDate>),
        );
        diesel::insert_into(table)
            .values(values.clone())
            .on_conflict(business_id)
            .do_update()
            .set((values.1, values.2, values.3, values.4, values.5))
            .returning(all_columns)
            .get_result(conn)
    }

    fn insert_profile(
        conn: &mut PgConnection,
        user: &User,
        tenant: &Tenant,
        business: Uuid,
    ) -> QueryResult<UserProfile> {
        use users_userprofile::*;
        let now = Utc::now();
        let none = None::<String>;
        diesel::insert_into(table)
            .values((
                (user_id.eq(user.id), business_id.eq(business), tenant_id.eq(tenant.id), occupation.eq(&none)),
                (street.eq(&none), city.eq(&none), state.eq(&none), postcode.eq(&none), country.eq("US")),
                (phone_number.eq(&none), is_business_owner.eq(true), shopify_access_token.eq(&none)),
                (schema_name.eq(&tenant.schema_name), metadata.eq(serde_json::json!({}))),
                (created_at.eq(now), modified_at.eq(now), updated_at.eq(now)),
            ))
            .returning(all_columns)
            .get_result(conn)
    }
}

/// A connection on which the bare tables of `public` are found, too, as plain Diesel wants them.
fn open(db: &TestDatabase) -> PgConnection {
    let mut config = db.config().clone();
    config.outside_scopes = OutsideScopes::Public;
    pg::connect(&config).expect("a connection")
}

fn timed<T>(work: impl FnOnce() -> T) -> Duration {
    let started = Instant::now();
    work();
    started.elapsed()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}
