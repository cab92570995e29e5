//! Cancels queries and terminates connections at random.

use std::{thread, time::Duration};

use diesel::{PgConnection, QueryableByName, RunQueryDsl, connection::SimpleConnection, sql_query, sql_types::Integer};
use rand::{RngExt, seq::IndexedRandom};

use super::{Storm, fleet::CONNECTIONS};

#[derive(QueryableByName)]
struct Process {
    #[diesel(sql_type = Integer)]
    pid: i32,
}

/// What a connection that is to be left alone calls itself.
const SPARED: &str = "storm, to be left alone";

/// A connection that the chaos leaves alone, not through the proxy.
pub fn spared(storm: &Storm<'_>) -> PgConnection {
    let mut conn = storm.db.connect();
    conn.batch_execute(&format!("SET application_name TO '{SPARED}'")).expect("a name");
    conn
}

/// Cancels and terminates until the storm is over.
pub fn cancel(storm: &Storm<'_>) {
    let generator = &mut storm.generator(1);
    let conn = &mut spared(storm);
    while !storm.is_over() {
        thread::sleep(Duration::from_millis(generator.random_range(5..40)));
        let terminates = generator.random_ratio(1, 5);
        // A cancel that finds its target idle does nothing.
        let busy = if terminates { "" } else { "AND state <> 'idle'" };
        let targets: Vec<Process> = sql_query(format!(
            "SELECT pid FROM {CONNECTIONS} WHERE application_name <> '{SPARED}' {busy} ORDER BY pid"
        ))
        .load(conn)
        .expect("the connections");
        let Some(target) = targets.choose(generator) else { continue };
        let (what, function) = match terminates {
            true => ("connection terminated", "pg_terminate_backend"),
            false => ("query canceled", "pg_cancel_backend"),
        };
        sql_query(format!("SELECT pg_catalog.{function}({})", target.pid)).execute(conn).expect("a signal");
        storm.tally.add(what, "sent");
    }
}
