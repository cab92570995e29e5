//! What goes on beside the borrowers: the fleet is migrated, schemas are renamed, tenants are replaced.

use std::{thread, time::Duration};

use diesel::connection::SimpleConnection;
use rand::{RngExt, seq::IndexedRandom};
use tenantry::{Error, Fleet, SchemaName, directory::FixedList, doctor::Rules, migrate::Run, pg, provision};

use super::{Storm, chaos::spared, fault::Fault, fleet, migrations};

/// Adds a column to every tenant, again and again.
pub fn migrate(storm: &Storm<'_>) {
    let generator = &mut storm.generator(2);
    let directory = FixedList(storm.tenants.all().to_vec());
    let mut many = 1;
    while !storm.is_over() {
        many = (many + 1).min(migrations::MOST);
        let migrations = migrations::up_to(many);
        let fleet = Fleet { migrations: &migrations, directory: &directory, rules: &Rules::default() };
        let run = Run::new(&migrations).jobs(2).attempts(2).lock_timeout(fleet::LOCK_TIMEOUT);
        match fleet.run(&run, &|| pg::connect(storm.db.config())) {
            Ok(report) => report.lines.iter().for_each(|line| storm.tally.add("tenant migrated", line.outcome())),
            Err(error) => storm.tally.add("run ended early", Fault::from(error).kind()),
        }
        thread::sleep(Duration::from_millis(generator.random_range(300..900)));
    }
}

/// Renames a schema away and back.
pub fn rename(storm: &Storm<'_>) {
    let generator = &mut storm.generator(3);
    let conn = &mut spared(storm);
    while !storm.is_over() {
        let schema = storm.tenants.kept().choose(generator).expect("tenants");
        let mut rename = |from: &str, to: &str| {
            conn.batch_execute(&format!("ALTER SCHEMA {from} RENAME TO {to}")).expect("a rename");
        };
        rename(schema.as_str(), "away");
        thread::sleep(Duration::from_millis(generator.random_range(0..4)));
        rename("away", schema.as_str());
        storm.tally.add("schema renamed away and back", "done");
        thread::sleep(Duration::from_millis(generator.random_range(10..80)));
    }
}

/// Drops tenants and makes them again.
pub fn replace(storm: &Storm<'_>) {
    let generator = &mut storm.generator(4);
    let migrations = migrations::up_to(1);
    while !storm.is_over() {
        let schema = storm.tenants.replaced().choose(generator).expect("tenants");
        let drop_it = || -> Result<(), Error> {
            let conn = &mut pg::connect(storm.db.config())?;
            Ok(conn.batch_execute(&format!("DROP SCHEMA IF EXISTS {schema} CASCADE"))?)
        };
        let make_it = |schema: &SchemaName| {
            let conn = &mut pg::connect(storm.db.config())?;
            provision::create(conn, schema, &migrations, fleet::LOCK_TIMEOUT).map(drop)
        };
        for (what, result) in [("tenant dropped", drop_it()), ("tenant made again", make_it(schema))] {
            storm.tally.add(what, result.map_or_else(|error| Fault::from(error).kind(), |()| "done".into()));
        }
        thread::sleep(Duration::from_millis(generator.random_range(50..300)));
    }
}
