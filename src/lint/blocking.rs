//! What makes others wait, or breaks the code that still runs while a migration rolls over the fleet.
//!
//! squawk finds it; which of its rules count, and what they mean for tenants, is said here.

use squawk_linter::{Linter, Rule as Squawk};
use squawk_syntax::{SyntaxKind as Kind, SyntaxNode};

use super::{
    Rule,
    report::Notice,
    script::{Script, is_serial, names},
};

pub(super) const RULES: &[&Rule] = &[
    &INDEX,
    &INDEX_DROP,
    &REINDEX,
    &DETACH,
    &NOT_VALID,
    &FOREIGN_KEY,
    &UNIQUE,
    &PRIMARY_KEY,
    &DEFAULT,
    &REQUIRED,
    &NOT_NULL,
    &TYPE,
    &RENAME_COLUMN,
    &RENAME_TABLE,
    &DROP_COLUMN,
    &DROP_TABLE,
    &TRUNCATE,
    &TOO_LONG,
];

const CONCURRENTLY: &str =
    "do it CONCURRENTLY, alone in a migration with run_in_transaction = false, or allow it where tables are small";
const THREE_STEPS: &str = "split it: add the new one, move the code over, remove the old one in a later release";

static INDEX: Rule = Rule::warning(
    "require-concurrent-index-creation",
    "an index is built while writes to its table wait",
    CONCURRENTLY,
);
static INDEX_DROP: Rule = Rule::warning(
    "require-concurrent-index-deletion",
    "an index is dropped while everything on its table waits",
    CONCURRENTLY,
);
static REINDEX: Rule =
    Rule::warning("require-concurrent-reindex", "an index is rebuilt while its table waits", CONCURRENTLY);
static DETACH: Rule =
    Rule::warning("require-concurrent-partition-detach", "a partition is detached while its table waits", CONCURRENTLY);
static NOT_VALID: Rule = Rule::warning(
    "constraint-missing-not-valid",
    "a constraint is checked against every row while its table waits",
    "add it NOT VALID, and VALIDATE it in a migration of a later release",
);
static FOREIGN_KEY: Rule = Rule::warning(
    "adding-foreign-key-constraint",
    "a foreign key is checked against every row while writes to both tables wait",
    "add it NOT VALID, and VALIDATE it in a migration of a later release",
);
static UNIQUE: Rule = Rule::warning(
    "disallowed-unique-constraint",
    "a unique constraint builds its index while everything on its table waits",
    "build a unique index CONCURRENTLY first, and add the constraint USING INDEX",
);
static PRIMARY_KEY: Rule = Rule::warning(
    "adding-serial-primary-key-field",
    "a primary key builds its index while everything on its table waits",
    "build a unique index CONCURRENTLY first, and add the constraint USING INDEX",
);
static DEFAULT: Rule = Rule::warning(
    "adding-field-with-default",
    "a column whose value differs from row to row rewrites the whole table",
    "add the column without it, fill the rows, and then set the default",
);
static REQUIRED: Rule = Rule::error(
    "adding-required-field",
    "a column that is NOT NULL and has no default cannot be added where there are rows",
    "give it a default, or add it nullable and fill it",
);
static NOT_NULL: Rule = Rule::warning(
    "adding-not-nullable-field",
    "SET NOT NULL reads every row while everything on its table waits",
    "add CHECK (… IS NOT NULL) NOT VALID, VALIDATE it in a later release, and then SET NOT NULL",
);
static TYPE: Rule = Rule::warning(
    "changing-column-type",
    "a column's type changes: the table may be rewritten, and cached plans of it fail until they are dropped",
    THREE_STEPS,
);
static RENAME_COLUMN: Rule =
    Rule::warning("renaming-column", "a column is renamed under the code that still runs", THREE_STEPS);
static RENAME_TABLE: Rule =
    Rule::warning("renaming-table", "a table is renamed under the code that still runs", THREE_STEPS);
static DROP_COLUMN: Rule = Rule::warning(
    "ban-drop-column",
    "a column is dropped, with its data, in every tenant",
    "make sure that no running release reads it, and allow it saying so",
);
static DROP_TABLE: Rule = Rule::warning(
    "ban-drop-table",
    "a table is dropped, with its data, in every tenant",
    "make sure that no running release reads it, and allow it saying so",
);
static TRUNCATE: Rule = Rule::warning(
    "ban-truncate-cascade",
    "TRUNCATE … CASCADE empties tables that it does not name",
    "name every table that is to be emptied",
);
static TOO_LONG: Rule = Rule::warning(
    "identifier-too-long",
    "a name has more than 63 bytes and is cut short, perhaps to one that exists",
    "shorten it",
);

pub(super) fn check(script: &Script<'_>, in_transaction: bool, found: &mut Vec<Notice>) {
    // squawk has comments of its own that silence it. What is allowed here is allowed with a reason.
    let text = script.text.replace("squawk-", "squawk_");
    let parse = squawk_syntax::SourceFile::parse(&text);
    let mut linter = Linter::from(RULES.iter().filter_map(|rule| Squawk::try_from(rule.id).ok()));
    linter.settings.assume_in_transaction = in_transaction;
    let violations = linter.lint(&parse, &text);

    let statements: Vec<_> = script.statements().collect();
    let first = found.len();
    for violation in &violations {
        let (at, end) = (usize::from(violation.text_range.start()), usize::from(violation.text_range.end()));
        let name = violation.code.to_string();
        let Some(rule) = RULES.iter().copied().find(|rule| rule.id == name) else { continue };
        // The constraints that cannot be NOT VALID have rules of their own.
        let narrower = |other: &squawk_linter::Violation| {
            let (start, stop) = (usize::from(other.text_range.start()), usize::from(other.text_range.end()));
            other.code != violation.code && (at..=end).contains(&start) && stop <= end
        };
        if rule == &NOT_VALID && violations.iter().any(narrower) || on_something_new(&statements, at) {
            continue;
        }
        let same_transaction = rule == &NOT_VALID && starts_with_word(&script.text[at..], "VALIDATE");
        found.push(Notice::at(
            rule,
            at,
            match same_transaction {
                true => "a constraint is validated in the transaction that adds it, which holds its locks meanwhile",
                false => rule.about,
            },
        ));
    }
    // squawk does not count a serial among the volatile defaults.
    for node in script.statements().flat_map(|statement| statement.descendants()) {
        let at = node.text_range().start().into();
        if is_serial(&node)
            && node.parent().is_some_and(|parent| parent.kind() == Kind::ADD_COLUMN)
            && !on_something_new(&statements, at)
        {
            found.push(Notice::at(&DEFAULT, at, DEFAULT.about));
        }
    }
    found[first..].sort_by_key(|notice| notice.at);
}

fn starts_with_word(text: &str, word: &str) -> bool {
    text.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word))
}

/// Whether what is here is done to tables and indexes that the same script made before: nobody waits for those.
fn on_something_new(statements: &[SyntaxNode], at: usize) -> bool {
    let Some(place) = statements
        .iter()
        .position(|node| (usize::from(node.text_range().start())..usize::from(node.text_range().end())).contains(&at))
    else {
        return false;
    };
    let wanted = match statements[place].kind() {
        Kind::ALTER_TABLE | Kind::CREATE_INDEX => Kind::TABLE_RELATION_NAME,
        Kind::DROP_TABLE => Kind::TABLE_NAME_REF,
        Kind::DROP_INDEX => Kind::INDEX_REF,
        _ => return false,
    };
    let targets = names(&statements[place], wanted);
    let made: Vec<String> = statements[..place]
        .iter()
        .flat_map(|node| match (node.kind(), wanted) {
            (Kind::CREATE_INDEX, Kind::INDEX_REF) => names(node, Kind::INDEX),
            (Kind::CREATE_TABLE | Kind::CREATE_TABLE_AS, _) => names(node, Kind::TABLE_NAME),
            _ => Vec::new(),
        })
        .collect();
    !targets.is_empty() && targets.iter().all(|target| made.contains(target))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lint::tests::{check, check_migration, check_public};

    #[test]
    fn squawk_knows_every_rule_of_this_table() {
        for rule in RULES {
            assert!(Squawk::try_from(rule.id).is_ok(), "{}", rule.id);
        }
    }

    #[test]
    fn what_blocks_an_existing_table_is_found_in_both_sets() {
        for (sql, rule) in [
            ("CREATE INDEX i ON t (a)", "require-concurrent-index-creation"),
            ("create unique index I on \"T\" (a)", "require-concurrent-index-creation"),
            ("DROP INDEX i", "require-concurrent-index-deletion"),
            ("REINDEX TABLE t", "require-concurrent-reindex"),
            ("ALTER TABLE t DETACH PARTITION p", "require-concurrent-partition-detach"),
            ("ALTER TABLE t ADD CONSTRAINT c CHECK (a > 0)", "constraint-missing-not-valid"),
            ("ALTER TABLE t ADD CONSTRAINT c FOREIGN KEY (a) REFERENCES u (id)", "adding-foreign-key-constraint"),
            ("ALTER TABLE t ADD COLUMN a int REFERENCES u (id)", "adding-foreign-key-constraint"),
            ("ALTER TABLE t ADD CONSTRAINT c UNIQUE (a)", "disallowed-unique-constraint"),
            ("ALTER TABLE t ADD CONSTRAINT c PRIMARY KEY (a)", "adding-serial-primary-key-field"),
            ("ALTER TABLE t ADD COLUMN a timestamptz DEFAULT clock_timestamp()", "adding-field-with-default"),
            ("ALTER TABLE t ADD COLUMN a BIGSERIAL", "adding-field-with-default"),
            ("ALTER TABLE t ADD COLUMN a int NOT NULL", "adding-required-field"),
            ("ALTER TABLE t ALTER COLUMN a SET NOT NULL", "adding-not-nullable-field"),
            ("ALTER TABLE t ALTER COLUMN a TYPE text", "changing-column-type"),
            ("ALTER TABLE t RENAME COLUMN a TO b", "renaming-column"),
            ("ALTER TABLE t RENAME TO u", "renaming-table"),
            ("ALTER TABLE t DROP COLUMN a", "ban-drop-column"),
            ("DROP TABLE t", "ban-drop-table"),
            ("TRUNCATE t CASCADE", "ban-truncate-cascade"),
        ] {
            check(sql, &[rule]);
            check_public(sql, &[rule]);
        }
        check(&format!("ALTER TABLE t ADD COLUMN {} int", "x".repeat(64)), &["identifier-too-long"]);
    }

    #[test]
    fn a_table_made_in_the_same_script_blocks_nobody() {
        for create in ["CREATE TABLE t (a int)", "create table T (a int)", "CREATE TABLE \"t\" AS SELECT 1 AS a"] {
            check(
                &format!(
                    "{create}; CREATE INDEX i ON t (a); ALTER TABLE t ADD CONSTRAINT c UNIQUE (a); \
                     ALTER TABLE t ADD CONSTRAINT f FOREIGN KEY (a) REFERENCES u (id); \
                     ALTER TABLE t ADD COLUMN b int NOT NULL; ALTER TABLE t ALTER COLUMN a SET NOT NULL; \
                     ALTER TABLE t ALTER COLUMN a TYPE bigint; ALTER TABLE t ADD COLUMN s serial; \
                     ALTER TABLE t RENAME COLUMN a TO c; ALTER TABLE t DROP COLUMN c; DROP INDEX i; DROP TABLE t"
                ),
                &[],
            );
        }
        check("CREATE TABLE \"T\" (a int); CREATE INDEX i ON t (a)", &["require-concurrent-index-creation"]);
        check("DROP TABLE t; CREATE TABLE t (a int)", &["ban-drop-table"]);
    }

    #[test]
    fn what_is_quick_is_left_alone() {
        for sql in [
            "ALTER TABLE t ADD COLUMN a int",
            "ALTER TABLE t ADD COLUMN a int NOT NULL DEFAULT 0",
            "ALTER TABLE t ADD COLUMN a timestamptz NOT NULL DEFAULT now()",
            "ALTER TABLE t ADD CONSTRAINT c CHECK (a > 0) NOT VALID",
            "ALTER TABLE t VALIDATE CONSTRAINT c",
            "ALTER TABLE t ADD CONSTRAINT c UNIQUE USING INDEX i",
            "CREATE TABLE t (a int PRIMARY KEY, b int REFERENCES u (id), c int UNIQUE)",
            "-- DROP TABLE t\nSELECT 'DROP TABLE t', $$DROP TABLE t$$, E'\\'; DROP TABLE t;', \"DROP TABLE t\" FROM u",
        ] {
            check(sql, &[]);
        }
    }

    #[test]
    fn a_constraint_is_not_validated_where_it_is_added() {
        check(
            "ALTER TABLE t ADD CONSTRAINT c CHECK (a > 0) NOT VALID; ALTER TABLE t VALIDATE CONSTRAINT c",
            &["constraint-missing-not-valid"],
        );
    }

    #[test]
    fn squawks_own_comments_silence_nothing() {
        check("-- squawk-ignore ban-drop-table\nDROP TABLE t", &["ban-drop-table"]);
        check("-- squawk-ignore-file\nDROP TABLE t", &["ban-drop-table"]);
    }

    #[test]
    fn a_down_script_may_block_and_drop() {
        check_migration("CREATE TABLE t ()", Some("DROP TABLE t; CREATE INDEX i ON u (a)"), None, &[]);
    }
}
