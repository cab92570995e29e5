//! The three that are compared. Each is given the tenants' names, and finds out by itself what they lack.

use std::{
    fmt::Write as _,
    fs,
    io::Write as _,
    num::NonZeroUsize,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use diesel::connection::SimpleConnection;
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};
use tenantry::{Config, SchemaName, domain, pg};

const TENANT: EmbeddedMigrations = embed_migrations!("migrations/tenant");

/// On how many connections each of them works: as many as the machine has cores, unless `JOBS` says otherwise.
pub fn jobs() -> usize {
    let cores = || thread::available_parallelism().map_or(2, NonZeroUsize::get);
    std::env::var("JOBS").ok().and_then(|text| text.parse().ok()).unwrap_or_else(cores)
}

/// A fleet to be migrated.
pub struct Target {
    pub url: String,
    pub schemas: Vec<SchemaName>,
}

impl Target {
    fn config(&self) -> Config {
        Config::new(self.url.parse().expect("a URL"))
    }
}

/// Who migrates it.
#[derive(Clone, Copy, PartialEq)]
pub enum Way {
    Tenantry,
    Psql,
    Naive,
}

impl Way {
    pub const ALL: [Self; 3] = [Self::Tenantry, Self::Psql, Self::Naive];

    pub fn migrate(self, target: &Target) {
        match self {
            Self::Tenantry => drop(tenantry(target)),
            Self::Psql => psql(target),
            Self::Naive => naive(target),
        }
    }
}

/// The program itself, from its start to its exit, and the most memory that it had, in MB.
pub fn tenantry(target: &Target) -> f64 {
    let mut child = Command::new(env!("CARGO_BIN_EXE_migrate-all-tenants"))
        .args(["--schemas", "tenant_*", "--quiet", "--jobs", &jobs().to_string()])
        .env("DATABASE_URL", &target.url)
        .spawn()
        .expect("the program");
    let status = format!("/proc/{}/status", child.id());
    let mut most = 0.0;
    let code = loop {
        // The kernel keeps the highest value, so that the last one seen before the end is the one.
        if let Some(kilobytes) = fs::read_to_string(&status).ok().as_deref().and_then(peak) {
            most = kilobytes / 1024.0;
        }
        if let Some(code) = child.try_wait().expect("its end") {
            break code;
        }
        thread::sleep(Duration::from_millis(1));
    };
    assert!(code.success(), "the program failed");
    most
}

fn peak(status: &str) -> Option<f64> {
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

fn naive(target: &Target) {
    thread::scope(|threads| {
        for part in target.schemas.chunks(target.schemas.len().div_ceil(jobs())) {
            threads.spawn(move || {
                let conn = &mut pg::connect(&target.config()).expect("a connection");
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
    let conn = &mut pg::connect(&target.config()).expect("a connection");
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
        for part in target.schemas.chunks(target.schemas.len().div_ceil(jobs())) {
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
