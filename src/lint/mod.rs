//! Looks at migrations before they ship: no database, only their folders.
//!
//! ```
//! use tenantry::lint::Lint;
//!
//! let report = Lint::new().public("migrations/public").tenant("migrations/tenant").run()?;
//! assert_eq!(report.findings, []);
//! # Ok::<(), tenantry::Error>(())
//! ```
//!
//! A comment with a reason allows what a rule would report in the statement that it stands in, before, or behind
//! on the same line: `-- tenantry:allow ban-drop-column: no release since 3.2 reads it`. What is about a whole
//! file may be allowed anywhere in the migration's scripts.

mod allow;
mod blocking;
mod citus;
mod client;
mod folder;
mod names;
mod objects;
mod report;
mod rule;
mod script;
mod session;
mod transaction;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

pub use report::{Finding, Report, Set};
pub use rule::{Rule, Severity, rules};

use crate::Error;
use allow::Allows;
use folder::{File, Migration};
use report::Notice;
use script::Script;

/// Which folders to look at, and by which rules.
#[derive(Debug, Clone, Default)]
pub struct Lint {
    folders: Vec<(Set, PathBuf)>,
    citus: bool,
    only: Vec<&'static Rule>,
    skip: Vec<&'static Rule>,
}

impl Lint {
    /// No folder yet, and all rules but those for Citus.
    pub fn new() -> Self {
        Self::default()
    }

    /// Looks at the migrations of `public` in this folder.
    pub fn public(mut self, folder: impl Into<PathBuf>) -> Self {
        self.folders.push((Set::Public, folder.into()));
        self
    }

    /// Looks at the tenants' migrations in this folder.
    pub fn tenant(mut self, folder: impl Into<PathBuf>) -> Self {
        self.folders.push((Set::Tenant, folder.into()));
        self
    }

    /// Whether what Citus refuses is reported too. Defaults to false.
    pub fn citus(mut self, citus: bool) -> Self {
        self.citus = citus;
        self
    }

    /// Takes these rules only, if there are any, those for Citus among them.
    pub fn only(mut self, rules: impl IntoIterator<Item = &'static Rule>) -> Self {
        self.only.extend(rules);
        self
    }

    /// Leaves these rules out.
    pub fn skip(mut self, rules: impl IntoIterator<Item = &'static Rule>) -> Self {
        self.skip.extend(rules);
        self
    }

    /// Reads the folders and reports what the rules notice.
    ///
    /// # Errors
    ///
    /// [`Error::Migrations`] when a folder is missing or cannot be read.
    pub fn run(&self) -> Result<Report, Error> {
        let mut sets = Vec::new();
        for (set, path) in &self.folders {
            sets.push((*set, folder::read(*set, path)?));
        }
        for (set, place, notice) in folder::versions_twice(&sets) {
            let found = sets.iter_mut().find(|(other, _)| *other == set).and_then(|(_, all)| all.get_mut(place));
            if let Some(migration) = found {
                migration.wrong.push((migration.folder.clone(), notice));
            }
        }
        let migrations = sets.iter().map(|(_, migrations)| migrations.len()).sum();
        let public_tables = names::public_tables(&sets);
        let all = sets.into_iter().flat_map(|(set, all)| all.into_iter().map(move |migration| (set, migration)));
        let found = all.flat_map(|(set, migration)| check(set, migration, &public_tables));
        Ok(Report::new(migrations, found.filter(|finding| self.wants(finding.rule)).collect()))
    }

    fn wants(&self, id: &str) -> bool {
        let named = |rules: &[&Rule]| rules.iter().any(|rule| rule.id == id);
        let by_default = self.citus || !Rule::find(id).is_some_and(Rule::is_for_citus);
        !named(&self.skip) && if self.only.is_empty() { by_default } else { named(&self.only) }
    }
}

/// Looks at the migrations of one set in this folder, by all rules but those for Citus.
///
/// # Errors
///
/// As [`Lint::run`].
pub fn folder(set: Set, path: impl AsRef<Path>) -> Result<Report, Error> {
    let lint = Lint { folders: vec![(set, path.as_ref().into())], ..Lint::default() };
    lint.run()
}

/// What all rules find in one migration, without what its comments allow.
///
/// The rules for Citus are asked too, so that a comment that allows one is never called unused.
fn check(set: Set, mut migration: Migration, public_tables: &BTreeSet<String>) -> Vec<Finding> {
    let wrong = std::mem::take(&mut migration.wrong);
    let files: Vec<&File> = [&migration.up, &migration.down].into_iter().flatten().collect();
    let read: Vec<(&File, Script<'_>, Allows)> = files
        .into_iter()
        .map(|file| {
            let script = Script::new(&file.text);
            let allows = Allows::read(&script);
            (file, script, allows)
        })
        .collect();
    let mut findings = Vec::new();

    // What is about no place in a script may be allowed in either.
    let mut whole: Vec<(String, Notice)> = wrong;
    let mut needs = Vec::new();
    transaction::check_need(read.iter().map(|(_, script, _)| script), migration.in_transaction, &mut needs);
    whole.extend(needs.into_iter().map(|notice| (format!("{}/metadata.toml", migration.folder), notice)));
    for (file, script, _) in &read {
        if script.statements().next().is_none() {
            let up = migration.up.as_ref().is_some_and(|up| up.path == file.path);
            let rule = if up { &folder::NO_UP } else { &folder::IRREVERSIBLE };
            whole.push((file.path.clone(), Notice::whole(rule, "the file has no statement")));
        }
    }
    whole.retain(|(_, notice)| {
        // All of them, so that each comment knows whether it was needed.
        let covers: Vec<bool> = read.iter().map(|(_, _, allows)| allows.cover(notice)).collect();
        !covers.contains(&true)
    });
    findings.extend(whole.into_iter().map(|(file, notice)| notice.finding(set, &migration, &file, "")));

    for (file, script, allows) in &read {
        let up = migration.up.as_ref().is_some_and(|up| up.path == file.path);
        let mut found = Vec::new();
        let broken = script.error().filter(|_| !allows.cover_anywhere(&folder::SYNTAX));
        if let Some((at, message)) = broken {
            let broken = || Notice::at(&folder::SYNTAX, at, format!("the script does not parse: {message}"));
            found.push(client::backslash(script).unwrap_or_else(broken));
        } else {
            client::check(script, &mut found);
            transaction::check(script, migration.in_transaction, &mut found);
            session::check(script, &mut found);
            if set == Set::Tenant {
                names::check(script, public_tables, &mut found);
                objects::check(script, &mut found);
            }
            citus::check(script, &mut found);
            if up {
                blocking::check(script, migration.in_transaction, &mut found);
            }
            found.retain(|notice| !allows.cover(notice));
            found.extend(allows.unused());
        }
        findings.extend(found.into_iter().map(|notice| notice.finding(set, &migration, &file.path, &file.text)));
    }
    for (file, _, allows) in read {
        findings.extend(allows.wrong.into_iter().map(|notice| notice.finding(set, &migration, &file.path, &file.text)));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rules that find something in a migration, sorted; those for Citus only when they are all that counts.
    fn found(set: Set, up: &str, down: Option<&str>, metadata: Option<&str>, citus: bool) -> Vec<&'static str> {
        let folder = std::env::temp_dir().join(format!("tenantry-lint-{}", uuid::Uuid::new_v4()));
        let migration = folder.join("0001_test");
        std::fs::create_dir_all(&migration).unwrap();
        for (name, text) in [("up.sql", Some(up)), ("down.sql", down), ("metadata.toml", metadata)] {
            if let Some(text) = text {
                std::fs::write(migration.join(name), text).unwrap();
            }
        }
        let mut lint = Lint { folders: vec![(set, folder.clone())], ..Lint::default() };
        if citus {
            lint = lint.only(rules().filter(|rule| rule.is_for_citus()));
        }
        let report = lint.run().unwrap();
        std::fs::remove_dir_all(folder).unwrap();
        let mut ids: Vec<_> = report.findings.into_iter().map(|finding| finding.rule).collect();
        ids.sort_unstable();
        ids
    }

    pub(super) fn ids(set: Set, sql: &str) -> Vec<&'static str> {
        found(set, sql, Some("SELECT 1"), None, false)
    }

    /// What is found in an `up.sql` of the tenant set.
    #[track_caller]
    pub(super) fn check(sql: &str, expected: &[&str]) {
        assert_eq!(ids(Set::Tenant, sql), expected, "{sql}");
    }

    /// What is found in an `up.sql` of the public set.
    #[track_caller]
    pub(super) fn check_public(sql: &str, expected: &[&str]) {
        assert_eq!(ids(Set::Public, sql), expected, "{sql}");
    }

    /// What the rules for Citus find in an `up.sql`.
    #[track_caller]
    pub(super) fn check_citus(sql: &str, expected: &[&str]) {
        assert_eq!(found(Set::Tenant, sql, Some("SELECT 1"), None, true), expected, "{sql}");
    }

    /// What is found in a whole migration of the tenant set.
    #[track_caller]
    pub(super) fn check_migration(up: &str, down: Option<&str>, metadata: Option<&str>, expected: &[&str]) {
        assert_eq!(found(Set::Tenant, up, down, metadata, false), expected, "{up}\n{down:?}");
    }
}
