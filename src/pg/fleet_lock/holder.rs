//! Whose session has the lock.

use std::fmt;

use diesel::{
    OptionalExtension, PgConnection, QueryResult, QueryableByName, RunQueryDsl, sql_query,
    sql_types::{BigInt, Integer, Nullable, Text},
};
use serde::Serialize;

/// The key of the lock; keys belong to a database.
pub(super) const KEY: &str = "pg_catalog.hashtextextended('tenantry fleet', 0)";

/// For how long the session of a run is never idle, in seconds.
const BUSY: i64 = 10;

/// The session that holds the lock of the fleet, as the server shows it.
///
/// What the role may not see of it is `None`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, QueryableByName)]
#[non_exhaustive]
pub struct Holder {
    /// The process of the server.
    #[diesel(sql_type = Integer)]
    pub pid: i32,
    /// The role of the database.
    #[diesel(sql_type = Nullable<Text>)]
    pub role: Option<String>,
    /// The address of the client; `None` also for one on the server's own machine.
    #[diesel(sql_type = Nullable<Text>)]
    pub client: Option<String>,
    /// When it connected, by the server's clock and in the session's time zone: a run connects when it starts.
    #[diesel(sql_type = Nullable<Text>)]
    pub since: Option<String>,
    /// What it calls itself: `tenantry lock`, if it is a run's.
    #[diesel(sql_type = Text)]
    pub application_name: String,
    /// For how many seconds it has been idle. A run's is used several times a second.
    #[diesel(sql_type = Nullable<BigInt>)]
    pub idle_seconds: Option<i64>,
}

impl Holder {
    /// Whether it may be a connection that a pooler keeps, whose run has ended long ago.
    pub fn is_abandoned(&self) -> bool {
        !self.application_name.starts_with("tenantry ") || self.idle_seconds.is_some_and(|idle| idle > BUSY)
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let role = self.role.as_deref().unwrap_or("unknown");
        let client = self.client.as_deref().unwrap_or("this machine");
        write!(f, "role {role} from {client}, process {} of the server", self.pid)?;
        if let Some(since) = &self.since {
            write!(f, ", since {since}")?;
        }
        if self.is_abandoned() {
            let (name, pid) = (&self.application_name, self.pid);
            let idle = self.idle_seconds.map(|idle| format!(", idle for {idle} s,")).unwrap_or_default();
            write!(
                f,
                "; its session {name:?}{idle} does not look like one of a run that is under way: if a pooler keeps it, \
                 end it with SELECT pg_terminate_backend({pid})"
            )?;
        }
        Ok(())
    }
}

/// The session that has the lock now.
pub(super) fn holder(conn: &mut PgConnection) -> QueryResult<Option<Holder>> {
    sql_query(format!(
        "SELECT a.pid, a.usename::pg_catalog.text AS role, pg_catalog.host(a.client_addr) AS client, \
                pg_catalog.to_char(a.backend_start, 'YYYY-MM-DD HH24:MI:SS TZ') AS since, \
                coalesce(a.application_name, '') AS application_name, \
                CASE WHEN a.state OPERATOR(pg_catalog.=) 'idle' THEN pg_catalog.date_part('epoch', \
                    pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) a.state_change)::pg_catalog.int8 END AS idle_seconds \
         FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_stat_activity a ON a.pid OPERATOR(pg_catalog.=) l.pid \
         WHERE l.locktype OPERATOR(pg_catalog.=) 'advisory' AND l.granted \
           AND l.objsubid OPERATOR(pg_catalog.=) 1::pg_catalog.int2 \
           AND l.database OPERATOR(pg_catalog.=) \
               (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database()) \
           AND (l.classid::pg_catalog.int8 OPERATOR(pg_catalog.<<) 32 OPERATOR(pg_catalog.|) l.objid::pg_catalog.int8) \
               OPERATOR(pg_catalog.=) {KEY}",
    ))
    .get_result(conn)
    .optional()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holder(application_name: &str, idle_seconds: Option<i64>) -> Holder {
        Holder {
            pid: 42,
            role: Some("app".into()),
            client: None,
            since: Some("2026-11-25 10:41:37 UTC".into()),
            application_name: application_name.into(),
            idle_seconds,
        }
    }

    #[test]
    fn a_session_that_a_pooler_may_have_kept_is_told_from_a_run() {
        let run = holder("tenantry lock", Some(0));
        assert_eq!(
            run.to_string(),
            "role app from this machine, process 42 of the server, since 2026-11-25 10:41:37 UTC"
        );
        assert!(!holder("tenantry lock", None).is_abandoned(), "it is at work");
        assert!(holder("tenantry lock", Some(600)).is_abandoned(), "a run's would have been used since");
        insta::assert_snapshot!(holder("app", Some(3)), @r#"role app from this machine, process 42 of the server, since 2026-11-25 10:41:37 UTC; its session "app", idle for 3 s, does not look like one of a run that is under way: if a pooler keeps it, end it with SELECT pg_terminate_backend(42)"#);
    }
}
