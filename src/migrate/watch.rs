//! Has the server cancel what a run has under way, when that is asked for.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread::{self, Thread},
    time::Duration,
};

use diesel::{PgConnection, QueryResult, RunQueryDsl, sql_query, sql_types::Text};
use uuid::Uuid;

use super::{Connector, Interrupt, Run};

/// Does the work with a name that tells the run's connections apart, while its [`Interrupt`] is watched.
pub(crate) fn watched<T>(run: &Run<'_>, connect: &Connector<'_>, work: impl FnOnce(&Run<'_>) -> T) -> T {
    let name = format!("tenantry {}", Uuid::new_v4().simple());
    let run = Run { name: &name, ..*run };
    let Some(interrupt) = run.interrupt else { return work(&run) };
    let done = AtomicBool::new(false);
    thread::scope(|threads| {
        let watcher = threads.spawn(|| watch(interrupt, &done, &name, connect));
        let _end = End { done: &done, watcher: watcher.thread() };
        work(&run)
    })
}

/// Ends the watcher, also when the work panics: it would be waited for.
struct End<'w> {
    done: &'w AtomicBool,
    watcher: &'w Thread,
}

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.done.store(true, Ordering::Relaxed);
        self.watcher.unpark();
    }
}

fn watch(interrupt: &Interrupt, done: &AtomicBool, name: &str, connect: &Connector<'_>) {
    while !done.load(Ordering::Relaxed) {
        if interrupt.is_cancelled() {
            // Again and again: a worker may just have been between two statements.
            let cancelled = connect().and_then(|mut conn| Ok(cancel(&mut conn, name)?));
            tracing::info!(?cancelled, "Cancelling what is under way");
        }
        thread::park_timeout(Duration::from_millis(50));
    }
}

fn cancel(conn: &mut PgConnection, name: &str) -> QueryResult<usize> {
    sql_query(
        "SELECT pg_catalog.pg_cancel_backend(pid) FROM pg_catalog.pg_stat_activity \
         WHERE application_name OPERATOR(pg_catalog.=) $1 AND usename OPERATOR(pg_catalog.=) current_user",
    )
    .bind::<Text, _>(name)
    .execute(conn)
}
