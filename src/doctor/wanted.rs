//! What schemas are compared with: what the migrations make, for each version that is needed, or what most have.

use std::{collections::BTreeMap, time::Duration};

use super::drift::Wanted;
use crate::{
    Error, SchemaName,
    migrate::{Connector, Migrations, Set},
    structure::{self, Structure},
};

/// The references, made when they are asked for.
pub(super) struct References<'r> {
    migrations: &'r Migrations,
    connect: &'r Connector<'r>,
    patience: Duration,
    /// Nobody can make one where the first failed for want of rights.
    known: BTreeMap<usize, Result<Built, String>>,
}

/// What the migrations make.
#[derive(Debug, Clone)]
pub(super) struct Built {
    pub(super) wanted: Wanted,
    pub(super) fingerprint: String,
}

impl<'r> References<'r> {
    pub(super) fn new(migrations: &'r Migrations, connect: &'r Connector<'r>, patience: Duration) -> Self {
        Self { migrations, connect, patience, known: BTreeMap::new() }
    }

    /// The version that so many migrations end at.
    pub(super) fn version(&self, upto: usize) -> Option<&'r str> {
        self.migrations.versions(Set::Tenant).nth(upto.checked_sub(1)?)
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.migrations.versions(Set::Tenant).count()
    }

    /// What so many migrations make of a tenant, or why that cannot be told.
    pub(super) fn of(&mut self, upto: usize, like: &SchemaName) -> Result<&Built, String> {
        let version = self.version(upto).ok_or("no migration has been applied")?;
        if !self.known.contains_key(&upto) {
            let built = self.build(version, like);
            self.known.insert(upto, built);
        }
        self.known[&upto].as_ref().map_err(String::clone)
    }

    fn build(&self, version: &str, like: &SchemaName) -> Result<Built, String> {
        let reason = |error: Error| match error {
            Error::Reference { reason } => reason,
            other => other.chain(),
        };
        let migrations = self.migrations.with_tenant_up_to(version).map_err(reason)?;
        let mut conn = (self.connect)().map_err(reason)?;
        let built = structure::reference(&mut conn, &migrations, like, self.patience).map_err(reason)?;
        Ok(Built { wanted: Wanted { structure: built.structure, made: true }, fingerprint: built.fingerprint })
    }

    /// What all migrations make of `public`.
    pub(super) fn of_public(&self) -> Result<Wanted, String> {
        let last = self.version(self.len()).ok_or("there is no migration")?;
        Ok(self.build(last, &SchemaName::public())?.wanted)
    }
}

/// The most frequent of these, if more than half of at least two are it.
pub(super) fn majority(builds: impl Iterator<Item = usize>) -> Option<usize> {
    let mut counts = BTreeMap::<usize, usize>::new();
    builds.for_each(|build| *counts.entry(build).or_default() += 1);
    let all: usize = counts.values().sum();
    let (build, count) = counts.into_iter().max_by_key(|(_, count)| *count)?;
    (all > 1 && count * 2 > all).then_some(build)
}

/// What most have, in place of a reference.
pub(super) fn by_majority(structure: Structure) -> Wanted {
    Wanted { structure, made: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_majority_is_more_than_half_of_several() {
        assert_eq!(majority([1].into_iter()), None);
        assert_eq!(majority([1, 2].into_iter()), None);
        assert_eq!(majority([1, 2, 1].into_iter()), Some(1));
    }
}
