//! The session that has the lock, or had it.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use diesel::{
    PgConnection, QueryResult, RunQueryDsl,
    dsl::sql,
    select, sql_query,
    sql_types::{Bool, Text},
};

use super::{
    holder::{KEY, holder},
    standing::{RETAKE, Standing},
};
use crate::{
    Error,
    pg::{atomically, is_lost, pooler},
};

/// How often the session of the lock is asked whether it is still there.
pub(super) const PULSE: Duration = Duration::from_millis(250);

/// No timeout ends the session, and one whose client is gone ends after 20 seconds. What a version does not have is left
/// out.
const SETTINGS: &str = "SELECT pg_catalog.count(pg_catalog.set_config(wanted.name, wanted.value, false)) \
     FROM (VALUES ('application_name', 'tenantry lock'), ('statement_timeout', '0'), ('idle_session_timeout', '0'), \
                  ('idle_in_transaction_session_timeout', '0'), ('tcp_keepalives_idle', '5'), \
                  ('tcp_keepalives_interval', '5'), ('tcp_keepalives_count', '3')) AS wanted (name, value) \
     WHERE pg_catalog.current_setting(wanted.name, true) IS NOT NULL";

/// Opens one more connection.
pub(super) type Connect<'c> = dyn Fn() -> Result<PgConnection, Error> + Sync + 'c;

/// Tells, on a new session, whether another run has begun since.
pub(super) type Interloper<'i> = dyn Fn(&mut PgConnection) -> Result<bool, Error> + Sync + 'i;

/// The connection that holds the lock.
pub(super) struct Session {
    conn: PgConnection,
    /// The process of the server that has to answer.
    backend: i32,
}

/// What a session answers.
pub(super) enum Pulse {
    Alive,
    /// Another process of the server has answered.
    Elsewhere,
    Lost,
    Unclear,
}

impl Session {
    pub(super) fn new(mut conn: PgConnection) -> Result<Self, Error> {
        let backend = pooler::backend(&mut conn)?;
        sql_query(SETTINGS).execute(&mut conn)?;
        Ok(Self { conn, backend })
    }

    pub(super) fn conn(&mut self) -> &mut PgConnection {
        &mut self.conn
    }

    pub(super) fn try_take(&mut self) -> Result<bool, Error> {
        let backend = self.backend;
        // The lock outlives the transaction, which keeps a pooler from taking it on another connection of the server's.
        atomically(&mut self.conn, |conn| {
            pooler::refuse_other(conn, backend)?;
            Ok(select(sql::<Bool>(&format!("pg_catalog.pg_try_advisory_lock({KEY})"))).get_result(conn)?)
        })
    }

    /// Waits for the connections of other runs to close. One that stays is of a run that has lost the lock, and after
    /// this time has noticed: it begins no tenant any more.
    pub(super) fn let_others_notice(&mut self, run: &str) -> QueryResult<()> {
        let started = Instant::now();
        while started.elapsed() < PULSE * 4 && others(&mut self.conn, run)? {
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    pub(super) fn release(&mut self) -> Result<(), Error> {
        let backend = self.backend;
        let released: bool = atomically(&mut self.conn, |conn| {
            pooler::refuse_other(conn, backend)?;
            Ok::<_, Error>(select(sql::<Bool>(&format!("pg_catalog.pg_advisory_unlock({KEY})"))).get_result(conn)?)
        })?;
        if released { Ok(()) } else { Err(Error::Request { reason: "its session did not hold it any more".into() }) }
    }

    pub(super) fn pulse(&mut self) -> Pulse {
        match pooler::backend(&mut self.conn) {
            Ok(backend) if backend == self.backend => Pulse::Alive,
            Ok(_) => Pulse::Elsewhere,
            Err(_) if is_lost(&mut self.conn) => Pulse::Lost,
            Err(error) => {
                tracing::debug!(%error, "The session of the lock answers with an error");
                Pulse::Unclear
            }
        }
    }

    /// Takes the lock on another connection, unless another run has it, or has had it meanwhile.
    pub(super) fn retake(&mut self, connect: &Connect<'_>, interloper: &Interloper<'_>, done: &AtomicBool) -> Standing {
        let (started, mut pause) = (Instant::now(), Duration::from_millis(20));
        let mut own = vec![self.backend];
        let mut attempt = || -> Result<Option<Standing>, Error> {
            let mut session = Session::new(connect()?)?;
            own.push(session.backend);
            if !session.try_take()? {
                return Ok(match holder(&mut session.conn)? {
                    // The server has not noticed yet that a connection of this run's own is gone.
                    Some(holder) if own.contains(&holder.pid) => None,
                    Some(holder) => {
                        tracing::warn!(%holder, "Another run holds the lock of the fleet");
                        Some(Standing::Gone("when its connection was closed, and another run holds it now".into()))
                    }
                    None => None,
                });
            }
            let is_late = interloper(&mut session.conn);
            if !matches!(is_late, Ok(false)) {
                session.release()?;
            }
            if is_late? {
                return Ok(Some(Standing::Gone(
                    "when its connection was closed, and another run has begun since".into(),
                )));
            }
            *self = session;
            Ok(Some(Standing::Held(Instant::now())))
        };
        loop {
            let hindrance = match attempt() {
                Ok(Some(standing)) => return standing,
                Ok(None) => "the server still has the old one".into(),
                Err(error) => error.chain(),
            };
            if started.elapsed() >= RETAKE || done.load(Ordering::Relaxed) {
                let waited = started.elapsed().as_secs();
                return Standing::Gone(format!(
                    "when its connection was closed, and could not be taken again within {waited} s: {hindrance}"
                ));
            }
            thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(500));
        }
    }
}

/// Whether the server has connections of other runs than this one.
fn others(conn: &mut PgConnection, run: &str) -> QueryResult<bool> {
    let others = sql::<Bool>(
        "EXISTS (SELECT FROM pg_catalog.pg_stat_activity \
         WHERE datname OPERATOR(pg_catalog.=) pg_catalog.current_database() \
           AND application_name OPERATOR(pg_catalog.~) '^tenantry [0-9a-f]{32}$' \
           AND application_name OPERATOR(pg_catalog.<>) ",
    );
    select(others.bind::<Text, _>(run).sql(")")).get_result(conn)
}
