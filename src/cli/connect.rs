//! The settings and the connection of a command.

use diesel::{PgConnection, connection::SimpleConnection};

use crate::{
    Config, Error,
    config::Pooler,
    pg::{self, KEEP_OPEN, pooler},
};

/// Reads the settings. Only what does no more than read can do without sessions.
pub(super) fn settings(reads_only: bool) -> Result<Config, Error> {
    let config = Config::from_env()?;
    match config.for_sessions() {
        Err(_) if reads_only => Ok(config),
        config => config,
    }
}

/// Opens a connection that no idle timeout ends, unless a pooler in transaction mode answers that no setting names.
pub(super) fn connect(config: &Config) -> Result<PgConnection, Error> {
    if config.pooler == Pooler::Transaction {
        return pg::connect(config);
    }
    pooler::check(config)?;
    let mut conn = pg::connect(config)?;
    conn.batch_execute(KEEP_OPEN)?;
    Ok(conn)
}
