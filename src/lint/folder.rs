//! A set of migrations as it lies on disk.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, ErrorKind},
    path::Path,
};

use super::{Rule, Set, report::Notice};
use crate::Error;

pub(super) const RULES: &[&Rule] = &[&SYNTAX, &NOT_TEXT, &NO_UP, &IRREVERSIBLE, &METADATA, &TWICE, &TOO_LONG];

pub(super) static SYNTAX: Rule = Rule::error(
    "syntax-error",
    "a script does not parse, so that nothing else in it was looked at",
    "correct it; if PostgreSQL takes it as it is, allow it",
);
static NOT_TEXT: Rule =
    Rule::error("not-text", "a file is not plain UTF-8", "save it as UTF-8, without a byte order mark");
pub(super) static NO_UP: Rule =
    Rule::error("no-up", "a migration has no up.sql, or one without a statement", "write it, or delete the folder");
pub(super) static IRREVERSIBLE: Rule = Rule::error(
    "irreversible",
    "a migration has no down.sql, or one without a statement",
    "write a down.sql that takes up.sql back",
);
static METADATA: Rule = Rule::error(
    "metadata",
    "a metadata.toml does not say run_in_transaction, which Diesel takes for false",
    "write `run_in_transaction = true` or `= false`, or delete the file",
);
pub(super) static TWICE: Rule = Rule::error(
    "version-twice",
    "two migrations have one version, and Diesel drops one of them without a word",
    "rename one of the folders",
);
static TOO_LONG: Rule = Rule::error(
    "version-too-long",
    "a version has more than the 50 characters that the history table holds",
    "shorten what stands before the first underscore",
);

/// One migration's folder.
#[derive(Debug, Default)]
pub(super) struct Migration {
    pub name: String,
    pub version: String,
    /// The folder, as it was reached.
    pub folder: String,
    pub up: Option<File>,
    pub down: Option<File>,
    pub in_transaction: bool,
    /// What is wrong with it before any script is looked at, and in which file.
    pub wrong: Vec<(String, Notice)>,
}

/// A script.
#[derive(Debug)]
pub(super) struct File {
    pub path: String,
    pub text: String,
}

/// Reads a set's folder, as Diesel would: folders only, and none whose name begins with a dot.
pub(super) fn read(set: Set, path: &Path) -> Result<Vec<Migration>, Error> {
    let refuse = |path: &Path, error: io::Error| Error::Migrations {
        set: set.name().into(),
        reason: match error.kind() {
            ErrorKind::NotFound => {
                format!("there is no folder {}: name it with --{}-set", path.display(), set.name())
            }
            _ => format!("{} cannot be read: {error}", path.display()),
        },
    };
    let mut found = Vec::new();
    for entry in fs::read_dir(path).map_err(|error| refuse(path, error))? {
        let folder = entry.map_err(|error| refuse(path, error))?.path();
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if folder.is_dir() && !name.starts_with('.') {
            found.push(migration(&folder, name).map_err(|error| refuse(&folder, error))?);
        }
    }
    found.sort_by(|a, b| (&a.version, &a.name).cmp(&(&b.version, &b.name)));
    Ok(found)
}

fn migration(folder: &Path, name: String) -> io::Result<Migration> {
    // As Diesel does it.
    let version = name.split('_').next().unwrap_or_default().replace('-', "");
    let display = |file: &str| folder.join(file).display().to_string();
    let mut migration =
        Migration { name, version, folder: folder.display().to_string(), in_transaction: true, ..Migration::default() };
    if migration.version.chars().count() > 50 {
        let message = format!("version {} has {} characters", migration.version, migration.version.chars().count());
        migration.wrong.push((migration.folder.clone(), Notice::whole(&TOO_LONG, message)));
    }
    let mut script = |file: &str| -> io::Result<Option<File>> {
        let path = display(file);
        Ok(match text(&folder.join(file))? {
            Some(Ok(text)) => Some(File { path, text }),
            Some(Err(notice)) => {
                migration.wrong.push((path, notice));
                None
            }
            None => {
                let rule = if file == "up.sql" { &NO_UP } else { &IRREVERSIBLE };
                migration.wrong.push((migration.folder.clone(), Notice::whole(rule, format!("there is no {file}"))));
                None
            }
        })
    };
    let (up, down) = (script("up.sql")?, script("down.sql")?);
    (migration.up, migration.down) = (up, down);
    match text(&folder.join("metadata.toml"))? {
        None => {}
        Some(Err(notice)) => migration.wrong.push((display("metadata.toml"), notice)),
        Some(Ok(text)) => match in_transaction(&text) {
            Ok(in_transaction) => migration.in_transaction = in_transaction,
            Err((assumed, message)) => {
                migration.in_transaction = assumed;
                migration.wrong.push((display("metadata.toml"), Notice::whole(&METADATA, message)));
            }
        },
    }
    Ok(migration)
}

/// The text of a file, if there is one.
fn text(path: &Path) -> io::Result<Option<Result<String, Notice>>> {
    let bytes = match fs::read(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    Ok(Some(match String::from_utf8(bytes) {
        Ok(text) if text.contains('\0') => Err(Notice::whole(&NOT_TEXT, "the file has a NUL in it")),
        Ok(text) if text.starts_with('\u{feff}') => {
            Err(Notice::whole(&NOT_TEXT, "the file begins with a byte order mark, which PostgreSQL takes for a word"))
        }
        Ok(text) => Ok(text),
        Err(error) => {
            let at = error.utf8_error().valid_up_to();
            Err(Notice::whole(&NOT_TEXT, format!("the file is not UTF-8, from its byte {} on", at + 1)))
        }
    }))
}

/// What a metadata.toml says; else what Diesel makes of it, and what is wrong.
fn in_transaction(text: &str) -> Result<bool, (bool, String)> {
    // Diesel falls back on true for a file that it cannot read, and on false for a key that is not there.
    let table: toml::Table = text
        .parse()
        .map_err(|_| (true, "the file is no TOML, and Diesel then behaves as if it were not there".into()))?;
    match table.get("run_in_transaction") {
        Some(toml::Value::Boolean(value)) => Ok(*value),
        Some(_) => {
            Err((true, "run_in_transaction is neither true nor false, and Diesel then takes it for true".into()))
        }
        None => Err((false, "run_in_transaction is not in it, and Diesel then takes it for false".into())),
    }
}

/// The migrations whose version another one has: within a set, or, since both record in `public`, across the sets.
pub(super) fn versions_twice(sets: &[(Set, Vec<Migration>)]) -> Vec<(Set, usize, Notice)> {
    let mut seen = BTreeMap::<&str, &Migration>::new();
    let mut found = Vec::new();
    for (set, migrations) in sets {
        for (place, migration) in migrations.iter().enumerate() {
            match seen.get(&*migration.version) {
                Some(other) => {
                    let message = format!("{} has version {} too", other.folder, migration.version);
                    found.push((*set, place, Notice::whole(&TWICE, message)));
                }
                None => {
                    seen.insert(&migration.version, migration);
                }
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lint::tests::check_migration;

    #[test]
    fn metadata_says_whether_there_is_a_transaction() {
        assert_eq!(in_transaction("run_in_transaction = false"), Ok(false));
        assert_eq!(in_transaction("# why\nrun_in_transaction = true\nother = 1"), Ok(true));
        for (text, assumed) in
            [("", false), ("run_in_transactions = true", false), ("run_in_transaction = 1", true), ("=", true)]
        {
            assert_eq!(in_transaction(text).unwrap_err().0, assumed, "{text:?}");
        }
    }

    #[test]
    fn a_migration_can_be_applied_and_taken_back() {
        for down in [None, Some(""), Some("  \n"), Some("-- This file should undo anything in `up.sql`\n"), Some(";")] {
            check_migration("CREATE TABLE t ()", down, None, &["irreversible"]);
        }
        for up in ["", "-- nothing yet"] {
            check_migration(up, Some("SELECT 1"), None, &["no-up"]);
        }
        let allowed = "-- tenantry:allow irreversible: the rows cannot come back\nDELETE FROM t";
        check_migration(allowed, None, None, &[]);
        check_migration(allowed, Some("-- nothing"), None, &[]);
        check_migration("SELECT 1", Some("-- tenantry:allow irreversible: nothing was done"), None, &[]);
        check_migration(allowed, Some("SELECT 1"), None, &["allow-unused"]);
    }

    #[test]
    fn a_script_that_does_not_parse_is_one_finding() {
        check_migration("CREATE TABEL t (; DROP TABLE public.t", Some("SELECT 1"), None, &["syntax-error"]);
        check_migration("SELECT 1", Some("SELEC 1"), None, &["syntax-error"]);
        let allowed = "-- tenantry:allow syntax-error: newer than the parser\nFROBNICATE t; SET search_path = a";
        check_migration(allowed, Some("SELECT 1"), None, &["search-path"]);
    }

    #[test]
    fn metadata_without_the_key_is_a_finding() {
        check_migration("SELECT 1", Some("SELECT 1"), Some(""), &["metadata", "needless-no-transaction"]);
        check_migration("SELECT 1", Some("SELECT 1"), Some("run_in_transaction = true"), &[]);
    }
}
