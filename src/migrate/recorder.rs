//! Reads the text of a migration out of Diesel.

use std::any::Any;

use diesel::{
    QueryResult,
    connection::{BoxableConnection, SimpleConnection},
    pg::Pg,
    result::Error as DieselError,
};

/// Stands in for a connection, to be told the text that a migration would execute.
///
/// A migration written in Rust asks for the real thing, `as_any`'s `PgConnection`, and fails here.
#[derive(Default)]
pub(super) struct Recorder {
    pub(super) text: String,
}

impl SimpleConnection for Recorder {
    fn batch_execute(&mut self, query: &str) -> QueryResult<()> {
        if query.contains('\0') {
            return Err(DieselError::QueryBuilderError("a NUL byte".into()));
        }
        self.text.push_str(query);
        self.text.push('\n');
        Ok(())
    }
}

impl BoxableConnection<Pg> for Recorder {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }
}
