//! The connection of a command.

use diesel::PgConnection;

use crate::{
    Config, Error,
    pg::{self, pooler},
};

/// Opens a connection that no idle timeout ends, unless a pooler in transaction mode answers.
pub(super) fn connect(config: &Config) -> Result<PgConnection, Error> {
    pooler::pair(&|| pg::connect(config)).map(|(conn, _)| conn)
}
