use super::{Migration, set::Script};
use crate::{
    SchemaName,
    error::BoxError,
    pg::{ddl, statements},
    runs,
};

/// One migration to be applied or taken back.
#[derive(Debug, Clone, Copy)]
pub(super) struct Step<'m> {
    pub(super) migration: &'m Migration,
    pub(super) direction: Direction,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    Up,
    Down,
}

impl<'m> Step<'m> {
    pub(super) fn up(migration: &'m Migration) -> Self {
        Self { migration, direction: Direction::Up }
    }

    pub(super) fn down(migration: &'m Migration) -> Self {
        Self { migration, direction: Direction::Down }
    }

    /// What is to be run.
    ///
    /// A script that ends transactions is refused before it is sent: a half of it would be kept, and recorded. So is
    /// one for psql.
    pub(super) fn script(&self) -> Result<&'m Script, BoxError> {
        match self.migration.unfit(self.direction) {
            Some(unfit) => Err(unfit.to_string().into()),
            None => Ok(self.migration.script(self.direction)),
        }
    }

    /// Whether a transaction can hold it in a schema whose tables nobody else can see yet: without CONCURRENTLY.
    pub(super) fn fits_inside(&self) -> bool {
        match self.migration.script(self.direction) {
            _ if self.migration.runs_in_transaction() => true,
            Script::Sql(text) => statements::without_concurrently(text) != *text,
            Script::Rust | Script::Missing => true,
        }
    }

    /// For the log: what is done inside carries the version, and its end the time that it took.
    pub(super) fn span(&self) -> tracing::Span {
        tracing::info_span!("migration", version = self.migration.version(), up = self.direction == Direction::Up)
    }

    /// The statement that writes it into the schema's history.
    pub(super) fn record(&self, schema: &SchemaName) -> String {
        match self.direction {
            Direction::Up => ddl::insert_version(schema, self.migration.version()),
            Direction::Down => ddl::delete_version(schema, self.migration.version()),
        }
    }
}

/// The statement that writes down, as part of the run of this number, what is done in one schema.
pub(super) fn remember(number: i64, schema: &SchemaName, steps: &[Step<'_>]) -> String {
    remember_all(number, steps.iter().map(|step| (schema, *step)))
}

/// The same for several schemas.
pub(super) fn remember_all<'s>(number: i64, steps: impl Iterator<Item = (&'s SchemaName, Step<'s>)>) -> String {
    runs::insert_steps(
        number,
        steps.map(|(schema, step)| runs::Step {
            schema: schema.as_str(),
            version: step.migration.version(),
            up: step.direction == Direction::Up,
            checksum: step.migration.checksum(),
        }),
    )
}
