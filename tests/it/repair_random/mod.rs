//! The repair of random rows in random tables, against what a model of sets expects.
//!
//! `REPAIR_SEED` is the first seed, `REPAIR_CASES` how many there are from it; a failure tells the seed and the
//! statements that plant it.

mod generate;
mod model;
mod world;

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    panic::{AssertUnwindSafe, catch_unwind},
};

use diesel::{
    PgConnection, RunQueryDsl,
    connection::SimpleConnection,
    sql_query,
    sql_types::{Array, Integer, Nullable, Text},
};
use rand::{SeedableRng, rngs::Xoshiro256PlusPlus};
use tenantry::{
    directory::Listing,
    doctor::{self, Problem, Rules},
    repair::{Outcome, Reason, Repair, Report, Undo, Undone},
    testing::TestDatabase,
};

use self::{
    generate::Mood,
    model::Expected,
    world::{Key, Row, SCHEMAS, State, World, identifier, literal},
};
use crate::support::dump;

#[test]
fn every_row_of_an_orderly_world_comes_to_its_tenant() {
    check_all(Mood::Orderly, 4);
}

#[test]
fn a_wild_world_is_repaired_as_far_as_it_is_certain() {
    check_all(Mood::Wild, 6);
}

/// Checks worlds from the seed on. Of one that fails, the rows are told without which it would not.
fn check_all(mood: Mood, cases: u64) {
    let number = |name: &str| env::var(name).ok().map(|text| text.parse::<u64>().expect("a whole number"));
    let first = number("REPAIR_SEED").unwrap_or(1);
    for seed in first..first + number("REPAIR_CASES").unwrap_or(cases) {
        let world = generate::world(&mut Xoshiro256PlusPlus::seed_from_u64(seed), mood);
        let fails = |world: &World, mood| catch_unwind(AssertUnwindSafe(|| check(world, mood))).is_err();
        if fails(&world, mood) {
            // An orderly world without some of its rows is a wild one.
            let small = smaller(world.clone(), |less| fails(less, Mood::Wild));
            eprintln!("REPAIR_SEED={seed}, as an {mood:?} world:\n{}\n", small.sql());
            check(&small, Mood::Wild);
            check(&world, mood);
            panic!("seed {seed} fails now and then");
        }
    }
}

/// The world without the rows that the failure does not need.
fn smaller(mut world: World, fails: impl Fn(&World) -> bool) -> World {
    for at in (0..world.rows.len()).rev() {
        let mut less = world.clone();
        less.rows.remove(at);
        if fails(&less) {
            world = less;
        }
    }
    world
}

fn check(world: &World, mood: Mood) {
    let db = TestDatabase::with_empty_schemas(SCHEMAS[1..].iter().copied());
    db.connect().batch_execute(&world.sql()).unwrap();
    let conn = &mut db.connect();
    // What keys look like must not depend on the session.
    conn.batch_execute("SET timezone = 'Asia/Tokyo'; SET datestyle = 'SQL, DMY'; SET extra_float_digits = 0").unwrap();
    let expected = model::expected(world);
    let before = dump(&db);
    let rules = Rules::default();
    let listing = listing();
    let dry = Repair::new(&rules).propose(conn, &listing).unwrap();
    assert_eq!(dump(&db), before, "a dry run writes nothing");
    let report = Repair::new(&rules).apply(conn, &listing).unwrap();
    let outcomes = outcomes(&report);
    assert_eq!(self::outcomes(&dry), outcomes, "a dry run foresees what is done");

    let found = rows(conn, world);
    for (at, expected) in expected.iter().enumerate() {
        let outcome = outcomes.get(SCHEMAS[at + 1]);
        is_placed(world, at + 1, expected, &found);
        is_named(world, expected, outcome);
        holds(&db, world, at + 1, expected);
        is_found_healthy(conn, world, at + 1, expected);
        if mood == Mood::Orderly {
            assert!(
                expected.orphans.is_empty() && outcome.is_none_or(|outcome| outcome.left.is_empty()),
                "{outcome:?}"
            );
        }
    }
    assert_eq!(public(&found), public(&planted(world)), "the originals stay");

    let after = dump(&db);
    let again = Repair::new(&rules).apply(conn, &listing).unwrap();
    let changes = self::outcomes(&again).values().any(Outcome::changes);
    let contested = |outcome: &Outcome| outcome.left.iter().any(|left| matches!(left.reason, Reason::Contested { .. }));
    // A claim ends with what had led to it: what was contested may be one tenant's alone the next time.
    if !outcomes.values().any(contested) || !changes {
        assert!(!changes && dump(&db) == after, "a second repair does nothing: {again:#?}");
    }
    let loosened = again.repair.map(|id| undo(conn, id)).unwrap_or_default();

    if let Some(id) = report.repair {
        let loosened = [loosened, undo(conn, id)].concat();
        assert_eq!(dump(&db), before.not_valid(&loosened), "an undo leaves all as it was");
    }

    // The same with what is in `public` no more, but for foreign keys that would not let it back.
    conn.batch_execute(&broken_in_public(world)).unwrap();
    let before = dump(&db);
    let report = Repair::new(&rules).remove_originals(true).apply(conn, &listing).unwrap();
    let removed: i64 =
        self::outcomes(&report).values().flat_map(|outcome| &outcome.removed).map(|removed| removed.rows).sum();
    let found = rows(conn, world);
    assert_eq!(public(&planted(world)).len() as i64 - public(&found).len() as i64, removed);
    let what = |row: &Row| (row.table, row.values.clone());
    let known: BTreeSet<_> = found.iter().map(what).collect();
    for row in &world.rows {
        assert!(known.contains(&what(row)), "{row:?} is lost: {report:#?}");
    }
    if let Some(id) = report.repair {
        let loosened = undo(conn, id);
        assert_eq!(dump(&db), before.not_valid(&loosened), "an undo brings the originals back");
    }
}

/// Drops the foreign keys that rows of `public` break.
fn broken_in_public(world: &World) -> String {
    let mut sql = String::from("SELECT 1;");
    for (child, table) in world.tables.iter().enumerate() {
        for (at, reference) in table.references.iter().enumerate() {
            let public = |table| world.rows.iter().filter(move |row| (row.schema, row.table) == (0, table));
            let has = |key: &Vec<String>| {
                public(reference.parent).any(|row| world.values(row, &world.target(reference)).as_ref() == Some(key))
            };
            let broken = public(child).filter_map(|row| world.values(row, &reference.columns)).any(|key| !has(&key));
            if reference.states[0] != State::Missing && broken {
                let name = identifier(&format!("{child} to {at}"));
                sql += &format!("ALTER TABLE public.{} DROP CONSTRAINT {name};", identifier(table.name));
            }
        }
    }
    sql
}

/// Takes a repair back, all of it, and tells which foreign keys are NOT VALID now: one that was valid over rows that
/// break it cannot be made so again.
#[track_caller]
fn undo(conn: &mut PgConnection, id: i64) -> Vec<(String, String)> {
    let [foreseen, undone] = [true, false].map(|dry_run| Undo::new(id).dry_run(dry_run).run(conn).unwrap());
    assert!(undone.is_healthy(), "{undone:#?}");
    for (foreseen, undone) in foreseen.tenants.iter().zip(&undone.tenants) {
        assert_eq!(foreseen.result.as_ref().unwrap(), undone.result.as_ref().unwrap(), "a dry run foresees it");
    }
    let loosened = undone.tenants.iter().flat_map(|tenant| {
        let Undone { loosened, .. } = tenant.result.as_ref().unwrap();
        loosened.iter().map(|name| (tenant.schema.clone(), name.clone()))
    });
    loosened.collect()
}

fn listing() -> Listing {
    Listing::from_entries(SCHEMAS[1..].iter().map(|name| (name.to_string(), None, true)))
}

fn outcomes(report: &Report) -> BTreeMap<&str, Outcome> {
    let outcome = |result: &Result<Outcome, _>| result.as_ref().unwrap_or_else(|error| panic!("{error:?}")).clone();
    report.tenants.iter().map(|tenant| (tenant.schema.as_str(), outcome(&tenant.result))).collect()
}

/// The tenant's rows are those that it had and those that it should have got, each once.
#[track_caller]
fn is_placed(world: &World, schema: usize, expected: &Expected, found: &[Row]) {
    let was = planted(world).into_iter().filter(|row| row.schema == schema);
    let copy = |id: &usize| Row { schema, ..world.rows[*id].clone() };
    let copies = expected.copied.iter().filter(|id| !expected.renumbered.contains(id)).map(copy);
    let mut rows: Vec<Row> = found.iter().filter(|row| row.schema == schema).cloned().collect();
    for row in was.chain(copies) {
        let at = rows.iter().position(|other| *other == row);
        rows.remove(at.unwrap_or_else(|| panic!("{} should have {row:?}: {rows:#?}", SCHEMAS[schema])));
    }
    for row in expected.renumbered.iter().map(copy) {
        let same = |other: &Row| other.table == row.table && other.values[1..] == row.values[1..];
        let at = rows.iter().position(same);
        rows.remove(at.unwrap_or_else(|| panic!("{} should have {row:?}, renumbered: {rows:#?}", SCHEMAS[schema])));
    }
    assert!(rows.is_empty(), "{} has too much: {rows:#?}", SCHEMAS[schema]);
}

/// The report tells all that was left, and of nothing else that rows refer to it in vain.
#[track_caller]
fn is_named(world: &World, expected: &Expected, outcome: Option<&Outcome>) {
    let left = outcome.map_or(&[][..], |outcome| &outcome.left);
    for id in &expected.left {
        let row = &world.rows[*id];
        let key = match world.values(row, &world.key(row.table)).unwrap().as_slice() {
            [region, no] if region.contains(", ") => format!("(\"{region}\",{no})"),
            parts => parts.join(", "),
        };
        let names = |left: &&tenantry::repair::Left| {
            left.table == world.tables[row.table].name && (key.is_empty() || left.key == key)
        };
        assert!(left.iter().any(|left| names(&left)), "{row:?} is not named: {left:#?}");
    }
    for (_, _, parent, key) in &expected.orphans {
        let is_it = |left: &&tenantry::repair::Left| left.rows > 0 && left.table == world.tables[*parent].name;
        assert!(left.iter().any(|left| is_it(&left)), "{key:?} of table {parent} is not named: {left:#?}");
    }
    for left in left.iter().filter(|left| left.rows > 0) {
        let is_it = |(_, _, parent, _): &&(_, _, usize, _)| left.table == world.tables[*parent].name;
        assert!(expected.orphans.iter().any(|orphan| is_it(&orphan)), "nobody misses {left:?}");
    }
}

/// Every foreign key holds where nothing was left, also one that was missing; and the next number is free.
fn holds(db: &TestDatabase, world: &World, schema: usize, expected: &Expected) {
    let mut sql = format!("BEGIN; SET LOCAL search_path = {};", SCHEMAS[schema]);
    for (child, table) in world.tables.iter().enumerate() {
        for (at, reference) in table.references.iter().enumerate() {
            let is_there = world.references(child, schema).any(|known| known.columns == reference.columns);
            let is_orphaned = |(table, columns, ..): &(usize, Vec<String>, usize, Vec<String>)| {
                (*table, columns) == (child, &reference.columns)
            };
            if is_there && !expected.orphans.iter().any(is_orphaned) {
                let name = format!("{child} to {at}");
                if reference.states[schema] != State::Missing {
                    let (table, name) = (identifier(table.name), identifier(&name));
                    sql += &format!("ALTER TABLE {table} VALIDATE CONSTRAINT {name};");
                }
                sql += &format!("{};", world.foreign_key(table.name, &format!("{name} again"), reference));
            }
        }
        if let Key::Number { .. } = table.key {
            let name = identifier(table.name);
            let last = format!("pg_sequence_last_value(pg_get_serial_sequence({}, 'id')::regclass)", literal(&name));
            // Dividing by nothing is how SQL can complain.
            sql += &format!("SELECT 1 / (coalesce({last}, 0) >= coalesce(max(id), 0))::int FROM {name};");
        }
    }
    db.connect().batch_execute(&format!("{sql} ROLLBACK")).unwrap_or_else(|error| panic!("{error}: {sql}"));
}

/// The doctor finds what is left and nothing else.
fn is_found_healthy(conn: &mut PgConnection, world: &World, schema: usize, expected: &Expected) {
    let found = doctor::examine(conn, &listing().tenants[schema - 1], &Rules::default()).unwrap().findings;
    let mut keys: Vec<(usize, Vec<String>, usize, Vec<String>)> = found
        .into_iter()
        .map(|symptom| {
            let table = |name: &str| world.tables.iter().position(|table| table.name == name).unwrap();
            let child = table(&symptom.table);
            let Problem::Orphans { columns, parent, key, .. } = symptom.problem else { panic!("{symptom:?}") };
            (child, columns, table(&parent), key)
        })
        .collect();
    keys.sort();
    assert_eq!(keys, expected.orphans.iter().cloned().collect::<Vec<_>>());
}

/// All rows, as they are.
fn rows(conn: &mut PgConnection, world: &World) -> Vec<Row> {
    #[derive(diesel::QueryableByName)]
    struct Found {
        #[diesel(sql_type = Integer)]
        schema: i32,
        #[diesel(sql_type = Integer)]
        at: i32,
        #[diesel(sql_type = Array<Nullable<Text>>)]
        cells: Vec<Option<String>>,
    }
    let mut selects = Vec::new();
    for (schema, name) in SCHEMAS.iter().enumerate() {
        for (at, table) in world.tables.iter().enumerate() {
            let cell = |(name, kind): (String, &str)| match kind {
                "timestamptz" => {
                    format!("to_char({} AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS+00')", identifier(&name))
                }
                _ => format!("{}::text", identifier(&name)),
            };
            let cells: Vec<String> = world.columns(at).into_iter().map(cell).collect();
            let from = identifier(table.name);
            selects.push(format!(
                "SELECT {schema} AS schema, {at} AS at, ARRAY[{}] AS cells FROM {name}.{from}",
                cells.join(", ")
            ));
        }
    }
    let found: Vec<Found> = sql_query(selects.join(" UNION ALL ")).load(conn).unwrap();
    let row = |Found { schema, at, cells }| Row { schema: schema as usize, table: at as usize, values: cells };
    sorted(found.into_iter().map(row))
}

fn planted(world: &World) -> Vec<Row> {
    sorted(world.rows.iter().cloned())
}

fn public(rows: &[Row]) -> Vec<&Row> {
    rows.iter().filter(|row| row.schema == 0).collect()
}

fn sorted(rows: impl Iterator<Item = Row>) -> Vec<Row> {
    let mut rows: Vec<Row> = rows.collect();
    rows.sort();
    rows
}
