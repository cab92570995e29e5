//! How long a fleet takes to be examined, of which one tenant in a hundred is ill: the doctor, who looks for
//! everything, beside two ways that go schema by schema on one connection. `examine` reads each catalog and looks for
//! orphans and nulls; the script asks the incident's three questions of tables that it knows by heart.
//!
//! `script/with-postgres --durable cargo bench --bench doctor` (`TENANTS=1000` for less)

use std::{collections::BTreeSet, fmt::Write as _, time::Instant};

use diesel::{PgConnection, RunQueryDsl, connection::SimpleConnection, sql_query, sql_types::BigInt};
use tenantry::{
    Fleet, SchemaName,
    directory::FixedList,
    doctor::{self, Doctor, Kind},
    domain::{self, Registry},
    migrate::Run,
    pg,
    testing::TestDatabase,
};

fn main() {
    let most: usize = std::env::var("TENANTS").ok().and_then(|text| text.parse().ok()).unwrap_or(10_000);
    println!("| tenants, 1% ill | doctor | trusting foreign keys | memory | `examine` | script |");
    println!("| --- | --- | --- | --- | --- | --- |");
    for tenants in [most.div_ceil(10), most] {
        let db = build(tenants);
        let ill: BTreeSet<String> = (0..tenants).step_by(100).map(|n| name(n).to_string()).collect();
        let (doctor, found) = timed(|| examine(&db, false));
        assert_eq!(found, ill);
        let (trusting, _) = timed(|| examine(&db, true));
        let memory = peak();
        // Ten thousand would take a quarter of an hour.
        let few = tenants.min(1000);
        let (each, found) = timed(|| one_by_one(&db, few));
        assert_eq!(found.len(), few.div_ceil(100));
        let (script, found) = timed(|| naively(&db, tenants));
        assert_eq!(found, ill);
        println!(
            "| {tenants} | {doctor:.2} s | {trusting:.2} s | {memory} MB | {each:.2} s for {few} | {script:.2} s |"
        );
    }
}

fn name(n: usize) -> SchemaName {
    format!("tenant_{n:05}").parse().expect("a name")
}

fn timed<T>(work: impl FnOnce() -> T) -> (f64, T) {
    let started = Instant::now();
    let made = work();
    (started.elapsed().as_secs_f64(), made)
}

/// A fleet with a user, a business and a profile each; every hundredth profile refers to a business of `public`.
fn build(tenants: usize) -> TestDatabase {
    let db = TestDatabase::new();
    let names: Vec<SchemaName> = (0..tenants).map(name).collect();
    for chunk in names.chunks(500) {
        let create = chunk.iter().fold(String::new(), |mut text, name| {
            let _ = write!(text, "CREATE SCHEMA {name};");
            text
        });
        db.connect().batch_execute(&create).expect("schemas");
    }
    let migrations = domain::migrations().expect("the migrations");
    let directory = FixedList(names.clone());
    let fleet = Fleet { migrations, directory: &directory, rules: domain::rules() };
    let report = fleet.run(&Run::new(migrations), &|| pg::connect(db.config())).expect("a run");
    assert_eq!(report.count("failed"), 0);
    for (at, chunk) in names.chunks(500).enumerate() {
        let fill = chunk.iter().enumerate().fold(String::new(), |mut text, (n, schema)| {
            let n = at * 500 + n;
            let key = |what: &str| format!("md5('{what}{n}')::uuid");
            let (user, tenant, business) = (key("u"), key("t"), key("b"));
            let home = if n % 100 == 0 { "public" } else { schema.as_str() };
            let _ = write!(
                text,
                "INSERT INTO public.custom_auth_user (id, email) VALUES ({user}, '{n}@example.com');
                 INSERT INTO public.custom_auth_tenant (id, schema_name, name) VALUES ({tenant}, '{schema}', 'X');
                 INSERT INTO {home}.business_business (id, name) VALUES ({business}, 'X');
                 INSERT INTO {home}.business_business_details (business_id) VALUES ({business});
                 INSERT INTO {schema}.users_userprofile (user_id, business_id, tenant_id) VALUES ({user}, {business}, {tenant});"
            );
            text
        });
        db.connect().batch_execute(&format!("SET session_replication_role = replica; {fill}")).expect("rows");
    }
    for statement in ["VACUUM ANALYZE", "CHECKPOINT"] {
        db.connect().batch_execute(statement).expect("a superuser");
    }
    db
}

fn examine(db: &TestDatabase, trust: bool) -> BTreeSet<String> {
    let doctor = Doctor::new(domain::migrations().expect("the migrations"), &Registry, domain::rules());
    let report = doctor.trust_foreign_keys(trust).run(&|| pg::connect(db.config())).expect("a report");
    report.of(Kind::Orphan).map(|finding| finding.schema.clone()).collect()
}

/// Every tenant for itself, by its catalog.
fn one_by_one(db: &TestDatabase, tenants: usize) -> BTreeSet<String> {
    let conn = &mut db.connect();
    let mut is_ill =
        |schema: &SchemaName| !doctor::examine(conn, schema, domain::rules()).expect("a tenant").findings.is_empty();
    (0..tenants).map(name).filter(|schema| is_ill(schema)).map(|schema| schema.to_string()).collect()
}

/// The questions of the incident's script, one after the other in every schema, and the references of the details.
fn naively(db: &TestDatabase, tenants: usize) -> BTreeSet<String> {
    let conn = &mut db.connect();
    let is_ill = |conn: &mut PgConnection, schema: &SchemaName| {
        conn.batch_execute(&format!("SET search_path = {schema}")).expect("a path");
        [
            "SELECT count(*) AS rows FROM users_userprofile WHERE updated_at IS NULL",
            "SELECT count(*) AS rows FROM users_userprofile p WHERE business_id IS NOT NULL \
             AND NOT EXISTS (SELECT FROM business_business b WHERE b.id = p.business_id)",
            "SELECT count(*) AS rows FROM business_business_details d \
             WHERE NOT EXISTS (SELECT FROM business_business b WHERE b.id = d.business_id)",
        ]
        .iter()
        .any(|query| count(conn, query) > 0)
    };
    (0..tenants).map(name).filter(|schema| is_ill(conn, schema)).map(|schema| schema.to_string()).collect()
}

fn count(conn: &mut PgConnection, query: &str) -> i64 {
    #[derive(diesel::QueryableByName)]
    struct Count {
        #[diesel(sql_type = BigInt)]
        rows: i64,
    }
    sql_query(query).get_result::<Count>(conn).expect("a count").rows
}

/// The most memory that this program has ever used, in MB.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or_default() / 1024
}
