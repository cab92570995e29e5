//! Where a run takes a schema, and the steps that lead there.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Migration, Migrations, SchemaStatus, State, step::Step};
use crate::{Error, SchemaName};

/// Where a run takes each schema.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "goal", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Goal {
    /// Everything applied.
    #[default]
    Latest,
    /// The last migrations of one set taken back.
    Revert {
        /// Of which set.
        set: Set,
        /// How far.
        until: Until,
    },
    /// The last so many migrations of the tenants' set taken back and applied again, in one transaction.
    Redo {
        /// How many.
        steps: usize,
    },
    /// These versions taken back, and no others: each schema's own.
    Unapply {
        /// The versions by schema.
        versions: BTreeMap<String, Vec<String>>,
    },
}

/// One of the two sets of [`Migrations`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Set {
    /// For `public` alone.
    Public,
    /// For `public` and every tenant.
    Tenant,
}

/// How far to go back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Until {
    /// So many migrations of those that the schema has.
    Steps(usize),
    /// Until this version is the last one.
    Version(String),
}

impl Goal {
    /// What has to be done in a schema that has these versions.
    pub(super) fn steps<'m>(
        &self,
        schema: &SchemaName,
        applied: &[String],
        migrations: &'m Migrations,
    ) -> Result<Vec<Step<'m>>, Error> {
        if *self == Self::Latest {
            let missing = |migration: &&Migration| !applied.iter().any(|version| version == migration.version());
            return Ok(migrations.expected(schema).filter(missing).map(Step::up).collect());
        }
        if let Some(version) = self.unknown(schema, applied, migrations) {
            return Err(Error::UnknownVersion { schema: schema.clone(), version: version.clone() });
        }
        let mut down = self.down(schema, applied, migrations);
        check(schema, applied, &down, migrations)?;
        let up = if matches!(self, Self::Redo { .. }) { down.clone() } else { Vec::new() };
        down.reverse();
        Ok(down.into_iter().map(Step::down).chain(up.into_iter().map(Step::up)).collect())
    }

    /// Whether doing it again, where nobody knows if it was done, does nothing more.
    ///
    /// Two steps back are four when they are taken twice: see [`pinned`](Goal::pinned).
    pub(crate) fn is_repeatable(&self) -> bool {
        !matches!(self, Self::Redo { .. } | Self::Revert { until: Until::Steps(_), .. })
    }

    /// The same goal in a form that can be repeated, for schemas that stand so; `None` where it is in one, or has none.
    pub(super) fn pinned(&self, found: &[SchemaStatus], migrations: &Migrations) -> Option<Self> {
        let Self::Revert { until: Until::Steps(_), .. } = self else { return None };
        let versions = |status: &SchemaStatus| {
            let State::Known { applied, .. } = &status.state else { return None };
            let down = self.down(&status.schema, applied, migrations);
            Some((status.schema.to_string(), down.iter().map(|migration| migration.version().into()).collect()))
        };
        Some(Self::Unapply { versions: found.iter().filter_map(versions).collect() })
    }

    /// What is to be taken back, and cannot be for want of its script.
    fn unknown<'a>(&self, schema: &SchemaName, applied: &'a [String], migrations: &Migrations) -> Option<&'a String> {
        let is_wanted = |version: &&String| match self {
            Self::Revert { until: Until::Version(to), .. } => *version > to,
            Self::Unapply { versions } => versions.get(schema.as_str()).is_some_and(|wanted| wanted.contains(version)),
            _ => false,
        };
        applied.iter().filter(is_wanted).find(|version| migrations.set_of(schema, version).is_none())
    }

    /// What is to be taken back, in the order in which it was applied.
    fn down<'m>(&self, schema: &SchemaName, applied: &[String], migrations: &'m Migrations) -> Vec<&'m Migration> {
        let has = |migration: &&Migration| applied.iter().any(|version| version == migration.version());
        let last = |set: Set, steps: usize| {
            let all: Vec<&Migration> = migrations.of(set, schema).filter(has).collect();
            all[all.len().saturating_sub(steps)..].to_vec()
        };
        match self {
            Self::Latest => Vec::new(),
            Self::Revert { set, until: Until::Steps(steps) } => last(*set, *steps),
            Self::Revert { set, until: Until::Version(to) } => {
                migrations.of(*set, schema).filter(has).filter(|migration| migration.version() > to.as_str()).collect()
            }
            Self::Redo { steps } => last(Set::Tenant, *steps),
            Self::Unapply { versions } => {
                let wanted = versions.get(schema.as_str()).map_or(&[][..], Vec::as_slice);
                let is_wanted = |migration: &&Migration| wanted.iter().any(|version| version == migration.version());
                migrations.expected(schema).filter(has).filter(is_wanted).collect()
            }
        }
    }
}

/// Refuses to take back what others are built on, or what has no way back.
fn check(schema: &SchemaName, applied: &[String], down: &[&Migration], migrations: &Migrations) -> Result<(), Error> {
    let Some(first) = down.first() else { return Ok(()) };
    let is_taken = |version: &str| down.iter().any(|migration| migration.version() == version);
    // A version of the other set is not built on this one's; one that nobody knows may be.
    let set = migrations.set_of(schema, first.version());
    let counts = |version: &str| migrations.set_of(schema, version).is_none_or(|other| Some(other) == set);
    let above = |version: &&String| version.as_str() > first.version() && counts(version) && !is_taken(version);
    let later: Vec<String> = applied.iter().filter(above).cloned().collect();
    if !later.is_empty() {
        return Err(Error::LaterVersions { schema: schema.clone(), version: first.version().into(), later });
    }
    match down.iter().find(|migration| migration.is_irreversible()) {
        Some(migration) => Err(Error::Irreversible { schema: schema.clone(), version: migration.version().into() }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use diesel_migrations::FileBasedMigrations;

    use super::*;
    use crate::migrate::{MigrationSet, step::Direction};

    fn migrations() -> Migrations {
        let folder = |name: &str| FileBasedMigrations::from_path(format!("tests/migrations/goal/{name}")).unwrap();
        Migrations::new(
            MigrationSet::new("public", folder("public")).unwrap(),
            MigrationSet::new("tenant", folder("tenant")).unwrap(),
        )
        .unwrap()
    }

    #[track_caller]
    fn check(goal: &Goal, schema: &str, applied: &[&str], expected: &str) {
        let schema = match schema {
            "public" => SchemaName::public(),
            name => name.parse().unwrap(),
        };
        let applied: Vec<String> = applied.iter().map(ToString::to_string).collect();
        let shown = match goal.steps(&schema, &applied, &migrations()) {
            Err(error) => error.to_string(),
            Ok(steps) => steps
                .iter()
                .map(|step| match step.direction {
                    Direction::Up => format!("+{}", step.migration.version()),
                    Direction::Down => format!("-{}", step.migration.version()),
                })
                .collect::<Vec<_>>()
                .join(" "),
        };
        assert_eq!(shown, expected);
    }

    #[test]
    fn the_latest_is_everything_that_is_missing_also_below_the_last() {
        check(&Goal::Latest, "acme", &[], "+01 +02 +03 +04");
        check(&Goal::Latest, "acme", &["01", "03"], "+02 +04");
        check(&Goal::Latest, "public", &["01"], "+p1 +p2 +02 +03 +04");
        check(&Goal::Latest, "acme", &["01", "02", "03", "04", "99"], "");
    }

    #[test]
    fn going_back_takes_the_last_first() {
        let steps = |steps| Goal::Revert { set: Set::Tenant, until: Until::Steps(steps) };
        check(&steps(2), "acme", &["01", "02", "03"], "-03 -02");
        check(&steps(9), "acme", &["01", "02"], "-02 -01");
        check(&steps(1), "public", &["01", "02", "p1", "p2"], "-02");
        check(&steps(1), "acme", &[], "");
        let to = |version: &str| Goal::Revert { set: Set::Tenant, until: Until::Version(version.into()) };
        check(&to("01"), "acme", &["01", "02", "03"], "-03 -02");
        check(&to("03"), "acme", &["01", "02"], "");
        let public = Goal::Revert { set: Set::Public, until: Until::Steps(1) };
        check(&public, "public", &["01", "02", "p1", "p2"], "-p2");
        check(&public, "acme", &["01", "02"], "");
    }

    #[test]
    fn what_others_are_built_on_is_not_taken_back() {
        let one = Goal::Revert { set: Set::Tenant, until: Until::Steps(1) };
        check(
            &one,
            "acme",
            &["01", "02", "99"],
            "migration 02 of schema `acme` cannot be taken back before 99, which came after it",
        );
        check(&one, "acme", &["01", "02", "00"], "-02");
        check(
            &one,
            "acme",
            &["04"],
            "migration 04 of schema `acme` has no way back: it has no down.sql, or an empty one",
        );
    }

    #[test]
    fn what_another_program_has_applied_is_not_passed_over() {
        let unknown = |version: &str| {
            format!(
                "migration {version} of schema `acme` is to be taken back, and this program does not have it: use one that does"
            )
        };
        let unapply =
            |version: &str| Goal::Unapply { versions: BTreeMap::from([("acme".into(), vec![version.into()])]) };
        check(&unapply("99"), "acme", &["01", "99"], &unknown("99"));
        check(&unapply("99"), "acme", &["01"], "");
        let to = Goal::Revert { set: Set::Tenant, until: Until::Version("02".into()) };
        check(&to, "acme", &["01", "02", "99"], &unknown("99"));
        check(&to, "acme", &["01", "02", "00"], "");
        check(&to, "public", &["01", "02", "p1", "p2"], "");
    }

    #[test]
    fn redoing_goes_back_and_forth() {
        check(&Goal::Redo { steps: 2 }, "acme", &["01", "02", "03"], "-03 -02 +02 +03");
    }

    #[test]
    fn exactly_what_was_named_is_taken_back() {
        let unapply = |versions: &[&str]| Goal::Unapply {
            versions: BTreeMap::from([("acme".into(), versions.iter().map(ToString::to_string).collect())]),
        };
        check(&unapply(&["02", "03"]), "acme", &["01", "02", "03"], "-03 -02");
        check(&unapply(&["02", "03"]), "acme", &["01", "02"], "-02");
        check(&unapply(&["02"]), "globex", &["01", "02"], "");
        check(
            &unapply(&["02"]),
            "acme",
            &["01", "02", "03"],
            "migration 02 of schema `acme` cannot be taken back before 03, which came after it",
        );
    }
}
