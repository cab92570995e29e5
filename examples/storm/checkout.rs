//! Whether a connection that the pool lends is as a fresh one.

use chrono::{DateTime, Utc};
use diesel::{
    IntoSql, PgConnection, QueryResult, QueryableByName, RunQueryDsl,
    dsl::now,
    select, sql_query,
    sql_types::{Text, Timestamptz},
};

use super::{fault::Fault, scope::Scope};

/// Everything about a session that a borrower can change and the next one would notice.
const STATE: &str = "
    SELECT 'role = ' || current_setting('role') AS line
    UNION ALL SELECT 'current user = ' || current_user
    UNION ALL SELECT 'session user = ' || session_user
    UNION ALL SELECT 'search_path = ' || current_setting('search_path')
    UNION ALL SELECT 'setting app.tenant = ' || coalesce(current_setting('app.tenant', true), '')
    UNION ALL SELECT concat('setting ', name, ' = ', setting) FROM pg_catalog.pg_settings
              WHERE setting IS DISTINCT FROM reset_val
    UNION ALL SELECT 'advisory lock = ' || objid FROM pg_catalog.pg_locks
              WHERE pid = pg_backend_pid() AND locktype = 'advisory'
    UNION ALL SELECT 'cursor = ' || name FROM pg_catalog.pg_cursors WHERE name <> ''
    UNION ALL SELECT 'channel = ' || channel FROM pg_listening_channels() channel
    UNION ALL SELECT 'temporary relation = ' || relname FROM pg_catalog.pg_class
              WHERE relnamespace = pg_my_temp_schema()";

#[derive(QueryableByName)]
struct Line {
    #[diesel(sql_type = Text)]
    line: String,
}

/// The state of an unused connection.
pub struct Fresh(Vec<String>);

impl Fresh {
    /// Takes it from a pool that was just opened.
    pub fn of(scope: &dyn Scope) -> Self {
        // It goes through a proxy that cuts connections, so the first attempt may fail.
        let state = (0..100).find_map(|_| state(&mut *scope.get().ok()?).ok());
        Self(state.expect("a fresh connection"))
    }

    /// What is otherwise on this connection, each by its name.
    pub fn differences(&self, conn: &mut PgConnection) -> Result<Vec<String>, Fault> {
        let differences = || -> QueryResult<Vec<String>> {
            // Diesel keeps this statement prepared, so it fails where something has thrown that away.
            let before = server_time(conn)?;
            let state = state(conn)?;
            // The time stands still inside of a transaction.
            let open = (server_time(conn)? == before).then(|| "open transaction".to_owned());
            let changed = state.iter().filter(|line| !self.0.contains(line));
            let missing = self.0.iter().filter(|line| !state.contains(line));
            let name = |line: &String| line.split(" = ").next().unwrap_or_default().to_owned();
            let mut names: Vec<_> = changed.chain(missing).map(name).chain(open).collect();
            names.sort();
            names.dedup();
            Ok(names)
        }();
        match differences.map_err(Fault::from) {
            // A cancel of the storm's own may come at any time.
            Err(fault) if !fault.is_lost() && !fault.kind().contains("user request") => Ok(vec![fault.kind()]),
            other => other,
        }
    }
}

fn server_time(conn: &mut PgConnection) -> QueryResult<DateTime<Utc>> {
    select(now.into_sql::<Timestamptz>()).get_result(conn)
}

fn state(conn: &mut PgConnection) -> QueryResult<Vec<String>> {
    Ok(sql_query(STATE).load::<Line>(conn)?.into_iter().map(|row| row.line).collect())
}
