//! How long a fleet takes to be examined and repaired, of which one tenant in a hundred is ill: the doctor, beside
//! the naive way, which asks schema by schema what the incident's script asked; and the repair, beside that script,
//! which goes from row to row.
//!
//! `script/with-postgres --durable cargo bench --bench doctor` (`TENANTS=1000` for less; `ROWS=2000` for ill tenants with
//! so many such rows each instead of two hundred; `JOBS=1` for one connection instead of two)
//!
//! What looks is measured three times, in turns, each of which another begins: whoever reads a fleet first pays for
//! getting it off the disk. The median counts.

use std::{collections::BTreeSet, fmt::Write as _, time::Instant};

use diesel::{
    PgConnection, QueryableByName, RunQueryDsl,
    connection::SimpleConnection,
    sql_query,
    sql_types::{BigInt, Nullable, Timestamptz, Uuid as SqlUuid},
};
use tenantry::{
    Fleet, SchemaName,
    directory::{FixedList, TenantDirectory},
    doctor::{Doctor, Kind},
    domain::{self, Registry},
    migrate::Run,
    pg,
    repair::{KINDS, Repair},
    testing::TestDatabase,
};
use uuid::Uuid;

/// How often each way of looking is measured.
const ROUNDS: usize = 3;

fn main() {
    let (most, rows, jobs) = (setting("TENANTS", 10_000), setting("ROWS", 200), setting("JOBS", 2));
    println!(
        "| tenants, 1% ill | doctor | trusting foreign keys | naive | repair, each | row by row, each | ratio | memory |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- |");
    // Half of the ill are ours, and half are the script's: there have to be two.
    for tenants in [most.div_ceil(10), most].into_iter().filter(|tenants| *tenants > 100) {
        let db = build(tenants, rows);
        let ill: BTreeSet<String> = (0..tenants).step_by(100).map(|n| name(n).to_string()).collect();
        let [doctor, trusting, naive] =
            median_of([&|| assert_eq!(examine(&db, jobs, false), ill), &|| drop(examine(&db, jobs, true)), &|| {
                assert_eq!(naively(&db, tenants), ill)
            }]);
        // Theirs comes first, so that the repair finds its own half alone.
        let (ours, theirs): (Vec<_>, Vec<_>) = ill.iter().enumerate().partition(|(at, _)| at % 2 == 0);
        let schemas = |half: Vec<(usize, &String)>| -> Vec<SchemaName> {
            half.into_iter().map(|(_, name)| name.parse().expect("a name")).collect()
        };
        let (ours, theirs) = (schemas(ours), schemas(theirs));
        let conn = &mut db.connect();
        let scripted = timed(|| theirs.iter().for_each(|schema| row_by_row(conn, schema)));
        let repair = repair(&db, jobs, &ours);
        let each = |seconds: f64, tenants: &[SchemaName]| seconds * 1000.0 / tenants.len() as f64;
        let (repair, scripted) = (each(repair, &ours), each(scripted, &theirs));
        assert_eq!(examine(&db, jobs, false), BTreeSet::new());
        println!(
            "| {tenants} | {doctor} | {trusting} | {naive} | {repair:.0} ms | {scripted:.0} ms | {:.3} | {} MB |",
            repair / scripted,
            peak(),
        );
    }
}

fn setting(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// The median of each way, with the quickest and the slowest.
fn median_of<const N: usize>(ways: [&dyn Fn(); N]) -> [String; N] {
    let mut took = [(); N].map(|()| Vec::new());
    for round in 0..ROUNDS {
        for at in (0..N).map(|at| (at + round) % N) {
            took[at].push(timed(ways[at]));
        }
    }
    took.map(|mut seconds| {
        seconds.sort_by(f64::total_cmp);
        format!("{:.2} s ({:.2} to {:.2})", seconds[ROUNDS / 2], seconds[0], seconds[ROUNDS - 1])
    })
}

fn name(n: usize) -> SchemaName {
    format!("tenant_{n:05}").parse().expect("a name")
}

fn timed(work: impl FnOnce()) -> f64 {
    let started = Instant::now();
    work();
    started.elapsed().as_secs_f64()
}

/// A fleet with a user, a business and a profile each; every hundredth tenant is as the incident left it: its profiles
/// refer to businesses of `public`, and do not say when they were updated.
fn build(tenants: usize, rows: usize) -> TestDatabase {
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
            let _ = write!(
                text,
                "INSERT INTO public.custom_auth_user (id, email) VALUES ({user}, '{n}@example.com');
                 INSERT INTO public.custom_auth_tenant (id, schema_name, name) VALUES ({tenant}, '{schema}', 'X');"
            );
            if n % 100 != 0 {
                let _ = write!(
                    text,
                    "INSERT INTO {schema}.business_business (id, name) VALUES ({business}, 'X');
                     INSERT INTO {schema}.business_business_details (business_id) VALUES ({business});
                     INSERT INTO {schema}.users_userprofile (user_id, business_id, tenant_id) VALUES ({user}, {business}, {tenant});"
                );
                return text;
            }
            let business = format!("md5('b{n}/' || g)::uuid FROM generate_series(1, {rows}) g");
            let _ = write!(
                text,
                "INSERT INTO public.custom_auth_user (id, email)
                     SELECT md5('u{n}/' || g)::uuid, '{n}/' || g || '@example.com' FROM generate_series(1, {rows}) g;
                 INSERT INTO public.business_business (name, id) SELECT 'X', {business};
                 INSERT INTO public.business_business_details (business_id) SELECT {business};
                 ALTER TABLE {schema}.users_userprofile ALTER updated_at DROP NOT NULL;
                 INSERT INTO {schema}.users_userprofile (tenant_id, updated_at, user_id, business_id)
                     SELECT {tenant}, NULL, md5('u{n}/' || g)::uuid, {business};"
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

fn examine(db: &TestDatabase, jobs: usize, trust: bool) -> BTreeSet<String> {
    let doctor = Doctor::new(domain::migrations().expect("the migrations"), &Registry, domain::rules());
    let report = doctor.jobs(jobs).trust_foreign_keys(trust).run(&|| pg::connect(db.config())).expect("a report");
    report.of(Kind::Orphan).map(|finding| finding.schema.clone()).collect()
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

/// How long the repair takes once the doctor has found whom.
fn repair(db: &TestDatabase, jobs: usize, schemas: &[SchemaName]) -> f64 {
    let migrations = domain::migrations().expect("the migrations");
    let found = Doctor::new(migrations, &Registry, domain::rules()).only(KINDS.iter().copied());
    let found = found.run(&|| pg::connect(db.config())).expect("a report");
    let conn = &mut db.connect();
    let listing = Registry.list(conn).expect("the tenants");
    let connect = || pg::connect(db.config());
    let repair = Repair::new(domain::rules()).migrations(migrations).findings(&found.findings).only(schemas.to_vec());
    let repair = repair.jobs(jobs, &connect);
    let mut report = None;
    let took = timed(|| report = repair.apply(conn, &listing).ok());
    let report = report.expect("a report");
    assert_eq!((report.tenants.len(), report.is_healthy()), (schemas.len(), true));
    took
}

/// What the incident's script did, one statement for each row and question, each on its own.
fn row_by_row(conn: &mut PgConnection, schema: &SchemaName) {
    #[derive(QueryableByName)]
    struct Profile {
        #[diesel(sql_type = BigInt)]
        id: i64,
        #[diesel(sql_type = Nullable<SqlUuid>)]
        business_id: Option<Uuid>,
        #[diesel(sql_type = Timestamptz)]
        modified_at: chrono::DateTime<chrono::Utc>,
    }
    conn.batch_execute(&format!("SET search_path = {schema}")).expect("a path");
    let profiles = "SELECT id, business_id, modified_at FROM users_userprofile";
    let load = |conn: &mut PgConnection, which: &str| -> Vec<Profile> {
        sql_query(format!("{profiles} WHERE {which}")).load(conn).expect("profiles")
    };
    for profile in load(conn, "updated_at IS NULL") {
        sql_query("UPDATE users_userprofile SET updated_at = $1 WHERE id = $2")
            .bind::<Timestamptz, _>(profile.modified_at)
            .bind::<BigInt, _>(profile.id)
            .execute(conn)
            .expect("an update");
    }
    for id in load(conn, "business_id IS NOT NULL").into_iter().filter_map(|profile| profile.business_id) {
        let is_here = format!("SELECT count(*) AS rows FROM business_business WHERE id = '{id}'");
        if count(conn, &is_here) > 0 {
            continue;
        }
        for (table, key) in [("business_business", "id"), ("business_business_details", "business_id")] {
            sql_query(format!("INSERT INTO {table} SELECT * FROM public.{table} WHERE {key} = $1"))
                .bind::<SqlUuid, _>(id)
                .execute(conn)
                .expect("a copy");
        }
    }
    conn.batch_execute("ALTER TABLE users_userprofile ALTER updated_at SET NOT NULL").expect("an owner");
}

fn count(conn: &mut PgConnection, query: &str) -> i64 {
    #[derive(QueryableByName)]
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
