//! Worlds by chance.

use std::collections::BTreeSet;

use rand::{RngExt, rngs::Xoshiro256PlusPlus as Chance, seq::IndexedRandom};

use super::world::{Key, Reference, Row, State, Table, World};

/// How orderly a world is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    /// Every row is of one tenant, refers to that tenant's rows, and is there or in `public`.
    Orderly,
    /// Rows refer to those of other tenants and to none; numbers stand for several rows; rows are on both sides,
    /// the same or edited.
    Wild,
}

const NAMES: [&str; 6] = ["plain", "Order lines", "größe", "it's", "a\"b\"", "select"];

/// A row that somebody had in mind, wherever it has come to lie.
struct Thought {
    owner: usize,
    table: usize,
    schema: Option<usize>,
    row: Row,
}

pub fn world(chance: &mut Chance, mood: Mood) -> World {
    let mut world = World { tables: tables(chance), rows: Vec::new() };
    refer(chance, &mut world);
    let mut thoughts = Vec::<Thought>::new();
    for owner in 1..=3 {
        for table in 0..world.tables.len() {
            for _ in 0..chance.random_range(1..=3) {
                thoughts.extend(thought(chance, mood, &world, &thoughts, owner, table));
            }
        }
    }
    for at in 0..thoughts.len() {
        attach(chance, mood, &world, &mut thoughts, at);
    }
    for Thought { schema, row, .. } in &thoughts {
        schema.map(|schema| put(&mut world, Row { schema, ..row.clone() }));
    }
    for Thought { owner, table, schema, row } in thoughts {
        if mood == Mood::Orderly || schema != Some(0) {
            continue;
        }
        if chance.random_bool(0.3) && world.tables[table].key == Key::None && !world.tables[table].code {
            put(&mut world, row.clone());
        }
        if chance.random_bool(0.06) {
            let mut twin = Row { schema: owner, ..row };
            if chance.random_bool(0.4) {
                let note = world.columns(table).iter().position(|(name, _)| name == "note").unwrap();
                twin.values[note] = Some("edited since".into());
            }
            put(&mut world, twin);
        }
    }
    world
}

/// Adds a row, unless there is one under its key.
fn put(world: &mut World, row: Row) {
    let key = world.key(row.table);
    let same = |other: &Row| {
        (other.schema, other.table) == (row.schema, row.table) && world.values(other, &key) == world.values(&row, &key)
    };
    if key.is_empty() || !world.rows.iter().any(same) {
        world.rows.push(row);
    }
}

fn tables(chance: &mut Chance) -> Vec<Table> {
    let mut tables = Vec::new();
    for (at, name) in NAMES.into_iter().enumerate().take(chance.random_range(3..=6)) {
        let key = match chance.random_range(0..12) {
            0 if at > 0 => Key::None,
            0..=3 => Key::Number { always: chance.random_bool(0.5) },
            4..=6 => Key::Uuid,
            7 | 8 => Key::Text,
            9 | 10 => Key::Pair,
            _ => Key::Uuid,
        };
        let partitioned = key != Key::None && chance.random_bool(0.1);
        let code = !partitioned && chance.random_bool(0.4);
        tables.push(Table { name, key, code, partitioned, references: Vec::new() });
    }
    tables
}

/// Draws the references. Those that must not wait lead to earlier tables or to the table itself, so that there is
/// an order in which rows can be written.
fn refer(chance: &mut Chance, world: &mut World) {
    let count = world.tables.len();
    for child in 1..count {
        let parent = chance.random_range(0..child);
        if world.tables[parent].key != Key::None && chance.random_bool(0.15) {
            let reference = reference(chance, world, child, parent, true);
            world.tables[child].references.push(reference);
            world.tables[child].key = Key::Borrowed;
        }
    }
    for child in 0..count {
        for _ in 0..chance.random_range(0..=3) {
            let most = if chance.random_bool(0.5) { child.max(1) } else { count };
            let parent = chance.random_range(0..most);
            if world.tables[parent].key != Key::None || world.tables[parent].code {
                let reference = reference(chance, world, child, parent, false);
                world.tables[child].references.push(reference);
            }
        }
    }
}

fn reference(chance: &mut Chance, world: &World, child: usize, parent: usize, borrowed: bool) -> Reference {
    let at = world.tables[child].references.len();
    let Table { key, code, .. } = world.tables[parent];
    let to_code = key == Key::None || code && !borrowed && chance.random_bool(0.4);
    let columns = match world.key(parent).len() == 2 && !to_code {
        false => vec![format!("ref {at}")],
        true => vec![format!("ref {at}a"), format!("Ref {at}b")],
    };
    let required = borrowed || parent < child && chance.random_bool(0.25);
    // Those of a partitioned table cannot be NOT VALID, so that rows that were deferred away cannot be put back.
    let possible: &[State] = match world.tables[child].partitioned {
        true => &[State::Missing],
        false => &[State::Valid, State::NotValid, State::NotValid, State::Missing],
    };
    let mut states = [State::Valid; 4];
    states[1..].iter_mut().for_each(|state| *state = *possible.choose(chance).unwrap());
    if states[1..].iter().all(|state| *state != State::Missing) && chance.random_bool(0.2) {
        states[0] = State::Missing;
    }
    Reference {
        columns,
        parent,
        to_code,
        required,
        deferrable: parent > child || chance.random_bool(0.5),
        on_delete: ["NO ACTION", "CASCADE", "RESTRICT", "SET NULL"]
            [chance.random_range(0..if required { 3 } else { 4 })],
        states,
    }
}

/// A row with its key, its unique column and its notes, and without references; none where no key is left.
fn thought(
    chance: &mut Chance,
    mood: Mood,
    world: &World,
    others: &[Thought],
    owner: usize,
    table: usize,
) -> Option<Thought> {
    let count = others.len() + 1;
    let schema = match chance.random_range(0..100) {
        0..=3 if mood == Mood::Wild => None,
        0..50 => Some(0),
        _ => Some(owner),
    };
    let of_table = || others.iter().filter(|other| other.table == table);
    let key: Vec<String> = match world.tables[table].key {
        Key::None => vec![],
        Key::Number { .. } if mood == Mood::Orderly => vec![count.to_string()],
        Key::Number { .. } => {
            let taken: BTreeSet<_> = of_table()
                .filter(|other| other.schema == schema || schema.is_none())
                .map(|other| other.row.values[0].clone())
                .collect();
            let free: Vec<String> =
                (1..60).map(|n: i32| n.to_string()).filter(|n| !taken.contains(&Some(n.clone()))).collect();
            vec![free.choose(chance)?.clone()]
        }
        Key::Uuid => vec![uuid(count)],
        Key::Text => vec![format!("{count}'s \"key\", \\")],
        Key::Pair => vec![["no, rth", "SOUTH"].choose(chance)?.to_string(), count.to_string()],
        Key::Borrowed => {
            let reference = &world.tables[table].references[0];
            let taken: BTreeSet<_> =
                of_table().filter_map(|other| world.values(&other.row, &reference.columns)).collect();
            let parents = others.iter().filter(|other| (other.owner, other.table) == (owner, reference.parent));
            let keys = parents.filter_map(|parent| world.values(&parent.row, &world.target(reference)));
            let free: Vec<_> = keys.filter(|key| !taken.contains(key)).collect();
            free.choose(chance)?.clone()
        }
    };
    let columns = world.columns(table);
    let mut values: Vec<Option<String>> = key.into_iter().map(Some).collect();
    values.resize(columns.len(), None);
    for (value, (name, _)) in values.iter_mut().zip(&columns) {
        match name.as_str() {
            "code" => *value = Some(format!("code {count}")),
            "note" => *value = Some(format!("ñote {count}, \"so\"")),
            "at" => *value = Some(format!("2024-03-{:02} 21:00:00+00", count % 28 + 1)),
            _ => {}
        }
    }
    Some(Thought { owner, table, schema, row: Row { schema: 0, table, values } })
}

/// Lets a row refer to others.
fn attach(chance: &mut Chance, mood: Mood, world: &World, thoughts: &mut [Thought], at: usize) {
    let Thought { owner, table, .. } = thoughts[at];
    let columns = world.columns(table);
    let borrows = usize::from(world.tables[table].key == Key::Borrowed);
    for reference in world.tables[table].references.iter().skip(borrows) {
        if !reference.required && chance.random_bool(0.25) {
            continue;
        }
        let stray = mood == Mood::Wild && chance.random_bool(0.08);
        let parents = thoughts.iter().filter(|one| one.table == reference.parent && (stray || one.owner == owner));
        let keys: Vec<_> = parents.filter_map(|one| world.values(&one.row, &world.target(reference))).collect();
        let Some(key) = keys.choose(chance) else { continue };
        for (name, value) in reference.columns.iter().zip(key) {
            let place = columns.iter().position(|(known, _)| known == name).unwrap();
            thoughts[at].row.values[place] = Some(value.clone());
        }
        // Half a key is none.
        if reference.columns.len() == 2 && !reference.required && chance.random_bool(0.1) {
            let place = columns.iter().position(|(known, _)| *known == reference.columns[1]).unwrap();
            thoughts[at].row.values[place] = None;
        }
    }
}

fn uuid(count: usize) -> String {
    format!("bd8f8654-0752-4843-b076-{count:012}")
}
