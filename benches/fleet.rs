//! How fast a fleet is migrated: this crate, beside `psql` sending the same SQL, one message per tenant, and a
//! naive loop of `SET search_path` and Diesel's `run_pending_migrations`, on as many connections each.
//!
//! `script/with-postgres --durable cargo bench --bench fleet` (a quarter of an hour; `TENANTS=1000` for less)

use std::{
    fmt::Write as _,
    io::{Read, Write as _},
    net::{TcpListener, TcpStream},
    process::{Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use diesel::connection::SimpleConnection;
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};
use tenantry::{
    Config, Fleet, SchemaName,
    directory::FixedList,
    domain,
    migrate::{Migrations, Run},
    pg,
    testing::TestDatabase,
};

const TENANT: EmbeddedMigrations = embed_migrations!("migrations/tenant");
const JOBS: usize = 4;
const DELAY: Duration = Duration::from_micros(500);

fn main() {
    let most: usize = std::env::var("TENANTS").ok().and_then(|text| text.parse().ok()).unwrap_or(10_000);
    let few = most.div_ceil(10);
    println!("| {:<44} | tenantry | psql | naive | of psql | of naive |", format!("{JOBS} connections"));
    println!("| --- | --- | --- | --- | --- | --- |");
    race(&format!("{few} fresh tenants: 0001 and 0002"), few, Start::Empty, |target, way| way.migrate(target));
    race(&format!("0002 on {few} tenants"), few, Start::AtFirst, |target, way| way.migrate(target));
    race(&format!("0002 on {few} tenants, 1 ms of network"), few, Start::AtFirst, |target, way| {
        way.migrate(&delayed(target));
    });
    race(&format!("0002 on {most} tenants"), most, Start::AtFirst, |target, way| way.migrate(target));
    race(&format!("nothing to do on {most} tenants"), most, Start::Done, |target, way| way.migrate(target));
}

/// Where the fleet stands before it is measured.
#[derive(Clone, Copy)]
enum Start {
    Empty,
    AtFirst,
    Done,
}

/// A fleet to be migrated, and the way to it.
struct Target {
    config: Config,
    url: String,
    schemas: Vec<SchemaName>,
}

/// Who migrates it.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    Tenantry,
    Psql,
    Naive,
}

impl Way {
    fn migrate(self, target: &Target) {
        match self {
            Self::Tenantry => tenantry(target),
            Self::Psql => psql(target),
            Self::Naive => naive(target),
        }
    }
}

/// Each way gets a database of its own, since one that was migrated before is slower.
fn race(name: &str, tenants: usize, start: Start, measure: impl Fn(&Target, Way)) {
    let took = [Way::Tenantry, Way::Psql, Way::Naive].map(|way| {
        if way == Way::Psql && matches!(start, Start::Done) {
            return f64::NAN; // it knows nothing of what is pending
        }
        let db = TestDatabase::new();
        let target = build(&db, tenants, start);
        db.connect().batch_execute("CHECKPOINT").expect("a superuser");
        let started = Instant::now();
        measure(&target, way);
        let took = started.elapsed();
        check(&db, &target);
        took.as_secs_f64()
    });
    let [ours, psql, naive] = took;
    println!("| {name:<44} | {ours:.2} s | {psql:.2} s | {naive:.2} s | {:.2} | {:.2} |", ours / psql, ours / naive);
}

fn build(db: &TestDatabase, tenants: usize, start: Start) -> Target {
    let names: Vec<SchemaName> = (0..tenants).map(|n| format!("tenant_{n:05}").parse().expect("a name")).collect();
    for chunk in names.chunks(500) {
        let create: String = chunk.iter().fold(String::new(), |mut text, name| {
            let _ = write!(text, "CREATE SCHEMA {name};");
            text
        });
        db.connect().batch_execute(&create).expect("schemas");
    }
    let target = Target { config: db.config().clone(), url: db.url().into(), schemas: names };
    let all = domain::migrations().expect("the migrations");
    let first = all.with_tenant_up_to("0001").expect("0001");
    match start {
        Start::Empty => run(&target, &Migrations::clone(all), &[]),
        Start::AtFirst => run(&target, &first, &target.schemas),
        Start::Done => run(&target, all, &target.schemas),
    }
    target
}

fn run(target: &Target, migrations: &Migrations, schemas: &[SchemaName]) {
    let directory = FixedList(schemas.to_vec());
    let fleet = Fleet { migrations, directory: &directory, rules: domain::rules() };
    let report = fleet.run(&Run::new(migrations).jobs(JOBS), &|| pg::connect(&target.config)).expect("a run");
    assert_eq!(report.count("failed"), 0);
}

fn tenantry(target: &Target) {
    run(target, domain::migrations().expect("the migrations"), &target.schemas);
}

fn naive(target: &Target) {
    thread::scope(|threads| {
        for part in target.schemas.chunks(target.schemas.len().div_ceil(JOBS)) {
            threads.spawn(move || {
                let conn = &mut pg::connect(&target.config).expect("a connection");
                for schema in part {
                    conn.batch_execute(&format!("SET search_path = {schema}")).expect("a path");
                    conn.run_pending_migrations(TENANT).expect("migrated");
                }
            });
        }
    });
}

/// What is pending by the history of the first tenant, sent to all of them, as the same message each.
fn psql(target: &Target) {
    let conn = &mut pg::connect(&target.config).expect("a connection");
    conn.batch_execute(&format!("SET search_path = {}", target.schemas[0])).expect("a path");
    let pending: Vec<String> =
        conn.pending_migrations(TENANT).expect("pending").iter().map(|m| m.name().version().to_string()).collect();
    let migrations = domain::migrations().expect("the migrations");
    let scripts: Vec<(&str, &str)> = migrations
        .expected(&target.schemas[0])
        .filter(|migration| pending.iter().any(|version| version == migration.version()))
        .map(|migration| (migration.version(), migration.sql().expect("SQL")))
        .collect();
    if scripts.is_empty() {
        return;
    }
    let scripts = &scripts;
    thread::scope(|threads| {
        for part in target.schemas.chunks(target.schemas.len().div_ceil(JOBS)) {
            threads.spawn(move || {
                let mut child = Command::new("psql")
                    .args(["-Xq", "-v", "ON_ERROR_STOP=1", &target.url])
                    .stdin(Stdio::piped())
                    .stdout(Stdio::null())
                    .spawn()
                    .expect("psql");
                let mut input = child.stdin.take().expect("its input");
                for schema in part {
                    let history = diesel::migration::CREATE_MIGRATIONS_TABLE.trim().trim_end_matches(';');
                    let mut message = format!("BEGIN;\nSET LOCAL search_path TO {schema};\n{history};\n");
                    for (version, up) in scripts {
                        let _ = write!(
                            message,
                            "INSERT INTO __diesel_schema_migrations (version) VALUES ('{version}');\n{up}\n"
                        );
                    }
                    // `\;` keeps psql from sending statement by statement; the last semicolon sends all.
                    let lines: Vec<&str> = message.lines().filter(|line| !line.starts_with("--")).collect();
                    let message = (lines.join("\n") + "\n").replace(";\n", "\\;\n");
                    writeln!(input, "{message}COMMIT;").expect("psql listens");
                }
                drop(input);
                assert!(child.wait().expect("psql ends").success());
            });
        }
    });
}

/// The claim of whoever was measured is not taken on trust.
fn check(db: &TestDatabase, target: &Target) {
    let columns = db.text(
        "SELECT count(*) FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE a.attname = 'updated_at' AND c.relname = 'users_userprofile' AND n.nspname LIKE 'tenant%'",
    );
    assert_eq!(columns, target.schemas.len().to_string(), "not everything was migrated");
}

/// The same fleet behind a proxy that holds back every message for half a millisecond each way.
fn delayed(target: &Target) -> Target {
    let (credentials, rest) = target.url.split_once('@').expect("a user");
    let (server, database) = rest.split_once('/').expect("a database");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let server = server.to_owned();
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let upstream = TcpStream::connect(&server).expect("the server");
            for socket in [&client, &upstream] {
                socket.set_nodelay(true).expect("TCP");
            }
            pump(client.try_clone().expect("TCP"), upstream.try_clone().expect("TCP"));
            pump(upstream, client);
        }
    });
    let url = format!("{credentials}@127.0.0.1:{port}/{database}");
    Target { config: Config::new(url.parse().expect("a URL")), url, schemas: target.schemas.clone() }
}

fn pump(mut from: TcpStream, mut to: TcpStream) {
    let (send, receive) = mpsc::channel::<(Instant, Vec<u8>)>();
    thread::spawn(move || {
        let mut buffer = vec![0; 1 << 16];
        while let Ok(length @ 1..) = from.read(&mut buffer) {
            if send.send((Instant::now() + DELAY, buffer[..length].to_vec())).is_err() {
                break;
            }
        }
    });
    thread::spawn(move || {
        for (due, bytes) in receive {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            if to.write_all(&bytes).is_err() {
                break;
            }
        }
        let _ = to.shutdown(std::net::Shutdown::Both);
    });
}
