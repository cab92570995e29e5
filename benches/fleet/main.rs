//! How fast a fleet is migrated: the program, beside `psql` sending the same SQL, one message per tenant, and a
//! naive loop of `SET search_path` and Diesel's `run_pending_migrations`, on as many connections each.
//!
//! `script/with-postgres --durable cargo bench --bench fleet` (a quarter of an hour; `TENANTS=1000` for less,
//! `JOBS=4` for other numbers of connections than the machine has cores).
//! Writes `docs/fleet.svg`.

mod plot;
mod proxy;
mod ways;

use std::{fmt::Write as _, fs, time::Instant};

use diesel::connection::SimpleConnection;
use tenantry::{
    Fleet, SchemaName,
    directory::FixedList,
    domain,
    migrate::{Migrations, Run},
    pg,
    testing::TestDatabase,
};

use ways::{Target, Way, jobs};

/// How often the smaller fleets are measured: the median counts.
const ROUNDS: usize = 3;

/// What was measured, in seconds: tenantry, psql, naive.
struct Row {
    name: String,
    took: [Option<f64>; 3],
    /// The lowest and the highest of tenantry's share of the naive way's time.
    spread: (f64, f64),
}

fn main() {
    let most: usize = std::env::var("TENANTS").ok().and_then(|text| text.parse().ok()).unwrap_or(10_000);
    let few = most.div_ceil(10);
    println!("| {:<40} | tenantry | psql | naive | of psql | of naive |", format!("{} connections", jobs()));
    println!("| --- | --- | --- | --- | --- | --- |");
    let all = domain::migrations().expect("the migrations");
    let first = all.with_tenant_up_to("0001").expect("0001");
    let mut rows = Vec::new();
    let mut race = |name: String, rounds, tenants, start: Option<&Migrations>, network: bool| {
        rows.push(race(
            name,
            rounds,
            || Way::ALL.map(|way| (way, fleet(tenants, start))),
            |way, target| {
                let target = match network {
                    true => &Target { url: proxy::delayed(&target.url), schemas: target.schemas.clone() },
                    false => target,
                };
                way.migrate(target);
            },
        ));
    };
    race(format!("{few} fresh tenants: 0001 and 0002"), ROUNDS, few, None, false);
    race(format!("0002 on {few}"), ROUNDS, few, Some(&first), false);
    race(format!("0002 on {few}, 1 ms of network"), ROUNDS, few, Some(&first), true);

    // One large fleet for each serves for what it takes to migrate it, and then to find nothing to do.
    let large = Way::ALL.map(|way| (way, fleet(most, Some(&first))));
    let mut memory = Vec::new();
    rows.push(race_on(format!("0002 on {most}"), 1, &large, |way, target| match way {
        Way::Tenantry => memory.push(ways::tenantry(target)),
        way => way.migrate(target),
    }));
    let without_psql: Vec<&(Way, Built)> = large.iter().filter(|(way, _)| *way != Way::Psql).collect();
    rows.push(race_on(format!("nothing to do on {most}"), ROUNDS, without_psql, |way, target| match way {
        Way::Tenantry => memory.push(ways::tenantry(target)),
        way => way.migrate(target),
    }));
    let each = |row: &Row, tenants: usize| row.took[0].unwrap_or_default() / tenants as f64;
    println!("\nper tenant, {most} of {few}: {:.2}", each(&rows[3], most) / each(&rows[1], few));
    println!("most memory of the program at {most}: {:.0} MB", memory.into_iter().fold(0.0, f64::max));
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/fleet.svg");
    fs::write(path, plot::plot(&rows)).expect("docs/fleet.svg");
}

/// A fleet in a database of its own.
struct Built {
    db: TestDatabase,
    target: Target,
}

/// Measures each way on fleets of its own, since one that was migrated before is slower.
fn race(name: String, rounds: usize, build: impl Fn() -> [(Way, Built); 3], measure: impl Fn(Way, &Target)) -> Row {
    let took = (0..rounds).map(|round| times(&build(), round, &measure)).collect();
    row(name, took)
}

/// Measures each way on the fleets that are there.
fn race_on<'b>(
    name: String,
    rounds: usize,
    fleets: impl IntoIterator<Item = &'b (Way, Built)> + Clone,
    mut measure: impl FnMut(Way, &Target),
) -> Row {
    let took = (0..rounds).map(|round| times(fleets.clone(), round, &mut measure)).collect();
    row(name, took)
}

/// Another way begins each round, since what comes later finds the machine otherwise than what comes first.
fn times<'b>(
    fleets: impl IntoIterator<Item = &'b (Way, Built)>,
    round: usize,
    mut measure: impl FnMut(Way, &Target),
) -> [Option<f64>; 3] {
    let mut took = [None; 3];
    let mut fleets: Vec<&(Way, Built)> = fleets.into_iter().collect();
    let first = round % fleets.len();
    fleets.rotate_left(first);
    for (way, built) in fleets {
        built.db.connect().batch_execute("CHECKPOINT").expect("a superuser");
        let started = Instant::now();
        measure(*way, &built.target);
        took[*way as usize] = Some(started.elapsed().as_secs_f64());
        check(built);
    }
    took
}

fn row(name: String, rounds: Vec<[Option<f64>; 3]>) -> Row {
    let median = |way: usize| {
        let mut took: Vec<f64> = rounds.iter().filter_map(|round| round[way]).collect();
        took.sort_by(f64::total_cmp);
        took.get(took.len() / 2).copied()
    };
    let took = [median(0), median(1), median(2)];
    let shares = rounds.iter().filter_map(|round| Some(round[0]? / round[2]?));
    let spread = shares.fold((f64::MAX, 0.0), |(low, high), share| (share.min(low), share.max(high)));
    let row = Row { name, took, spread };
    let seconds = |way: usize| row.took[way].map_or("–".into(), |took| format!("{took:.2} s"));
    let share = |way: usize| {
        row.took[0].zip(row.took[way]).map_or("–".into(), |(ours, other)| format!("{:.2}", ours / other))
    };
    let spread =
        if rounds.len() > 1 { format!(" ({:.2} to {:.2})", row.spread.0, row.spread.1) } else { String::new() };
    println!(
        "| {:<40} | {} | {} | {} | {} | {}{spread} |",
        row.name,
        seconds(0),
        seconds(1),
        seconds(2),
        share(1),
        share(2)
    );
    row
}

/// A fleet of so many tenants, with these migrations or with none.
fn fleet(tenants: usize, start: Option<&Migrations>) -> Built {
    let db = TestDatabase::new();
    let schemas: Vec<SchemaName> = (0..tenants).map(|n| format!("tenant_{n:05}").parse().expect("a name")).collect();
    for chunk in schemas.chunks(500) {
        let create = chunk.iter().fold(String::new(), |mut text, name| {
            let _ = write!(text, "CREATE SCHEMA {name};");
            text
        });
        db.connect().batch_execute(&create).expect("schemas");
    }
    let directory = FixedList(if start.is_some() { schemas.clone() } else { Vec::new() });
    let migrations = start.unwrap_or(domain::migrations().expect("the migrations"));
    let fleet = Fleet { migrations, directory: &directory, rules: domain::rules() };
    let report = fleet.run(&Run::new(migrations).jobs(jobs()), &|| pg::connect(db.config())).expect("a run");
    assert_eq!(report.failures().count(), 0);
    // `public` is nobody's to measure.
    Run::new(domain::migrations().expect("the migrations")).public(&mut db.connect()).expect("public");
    let target = Target { url: db.url().into(), schemas };
    Built { db, target }
}

/// The claim of whoever was measured is not taken on trust.
fn check(built: &Built) {
    let columns = built.db.text(
        "SELECT count(*) FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE a.attname = 'updated_at' AND c.relname = 'users_userprofile' AND n.nspname LIKE 'tenant%'",
    );
    assert_eq!(columns, built.target.schemas.len().to_string(), "not everything was migrated");
}
