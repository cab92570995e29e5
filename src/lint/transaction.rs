//! What must, and what must not, run in a transaction.

use squawk_syntax::{SyntaxKind as Kind, SyntaxNode};

use super::{
    Rule,
    report::Notice,
    script::{Place, Script},
};

pub(super) const RULES: &[&Rule] = &[&CONTROL, &NOT_IN_TRANSACTION, &NOT_ALONE, &NEEDLESS];

static CONTROL: Rule = Rule::error(
    "transaction-control",
    "a script begins or ends a transaction",
    "take it out: the migration and its record are one transaction already",
);
static NOT_IN_TRANSACTION: Rule = Rule::error(
    "not-in-transaction",
    "a statement cannot run in a transaction, and the migration runs in one",
    "write `run_in_transaction = false` into the migration's metadata.toml",
);
static NOT_ALONE: Rule = Rule::warning(
    "not-alone",
    "a statement that cannot run in a transaction is not the only one of its file",
    "give each such statement a migration of its own, which is then applied whole or not at all",
);
static NEEDLESS: Rule = Rule::warning(
    "needless-no-transaction",
    "a migration runs without a transaction and nothing in it asks for that",
    "take `run_in_transaction = false` away, so that a failure leaves nothing half done",
);

pub(super) fn check(script: &Script<'_>, in_transaction: bool, found: &mut Vec<Notice>) {
    let statements: Vec<_> = script.statements().collect();
    for node in &statements {
        let at = node.text_range().start().into();
        let Some(what) = outside_only(node) else { continue };
        if in_transaction {
            found.push(Notice::at(&NOT_IN_TRANSACTION, at, format!("{what} cannot run in a transaction")));
        }
        if statements.len() > 1 {
            let message = format!(
                "{what} shares a file: the stock diesel command cannot run that, and a failure leaves half of it done"
            );
            found.push(Notice::at(&NOT_ALONE, at, message));
        }
    }
    for (tree, node) in script.nodes() {
        let in_function = tree.place == Place::Function;
        match node.kind() {
            Kind::BEGIN
            | Kind::COMMIT_TRANSACTION
            | Kind::ROLLBACK_TRANSACTION
            | Kind::ROLLBACK_TO_SAVEPOINT
            | Kind::PREPARE_TRANSACTION
            | Kind::COMMIT_PREPARED
            | Kind::ROLLBACK_PREPARED
            | Kind::PLPGSQL_COMMIT_STMT
            | Kind::PLPGSQL_ROLLBACK_STMT
                if !in_function =>
            {
                let word = node.text().to_string().split([' ', ';', '\n', '\t']).next().unwrap_or_default().to_owned();
                let message = format!("{} would end or nest the migration's transaction", word.to_uppercase());
                found.push(Notice::at(&CONTROL, tree.offset(&node), message));
            }
            _ => {}
        }
    }
}

/// Whether a migration that asked to run without a transaction had a reason to.
pub(super) fn check_need<'s>(
    scripts: impl IntoIterator<Item = &'s Script<'s>>,
    in_transaction: bool,
    found: &mut Vec<Notice>,
) {
    let mut statements = scripts.into_iter().flat_map(Script::statements);
    if !in_transaction && !statements.any(|node| outside_only(&node).is_some()) {
        found.push(Notice::whole(&NEEDLESS, "no statement of up.sql or down.sql needs to run without a transaction"));
    }
}

/// What a statement is called, if it cannot run in a transaction.
fn outside_only(node: &SyntaxNode) -> Option<&'static str> {
    let has = |kind| node.descendants_with_tokens().any(|element| element.kind() == kind);
    let concurrently = has(Kind::CONCURRENTLY_KW);
    match node.kind() {
        Kind::CREATE_INDEX if concurrently => Some("CREATE INDEX CONCURRENTLY"),
        Kind::DROP_INDEX if concurrently => Some("DROP INDEX CONCURRENTLY"),
        Kind::REINDEX if concurrently => Some("REINDEX CONCURRENTLY"),
        Kind::REINDEX
            if [Kind::REINDEX_TARGET_SCHEMA, Kind::REINDEX_TARGET_DATABASE, Kind::REINDEX_TARGET_SYSTEM]
                .into_iter()
                .any(has) =>
        {
            Some("REINDEX of more than a table")
        }
        Kind::ALTER_TABLE if has(Kind::DETACH_CONCURRENTLY) => Some("DETACH PARTITION CONCURRENTLY"),
        Kind::VACUUM => Some("VACUUM"),
        Kind::ALTER_SYSTEM => Some("ALTER SYSTEM"),
        Kind::CREATE_DATABASE | Kind::DROP_DATABASE => Some("CREATE or DROP DATABASE"),
        Kind::CREATE_TABLESPACE | Kind::DROP_TABLESPACE => Some("CREATE or DROP TABLESPACE"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use crate::lint::tests::{check, check_migration};

    #[test]
    fn transactions_are_not_begun_or_ended_by_a_script() {
        check("BEGIN; SELECT 1; COMMIT;", &["transaction-control", "transaction-control"]);
        check("start transaction; SELECT 1; end", &["transaction-control", "transaction-control"]);
        check("ROLLBACK; ABORT; ROLLBACK TO SAVEPOINT a", &["transaction-control"; 3]);
        check("DO $$ BEGIN COMMIT; END $$", &["transaction-control"]);
    }

    #[test]
    fn words_that_only_look_like_it_are_left_alone() {
        check(
            "-- COMMIT;\n/* /* BEGIN; */ */ SELECT 'COMMIT;', $$ROLLBACK;$$, E'\\'; COMMIT;', \"commit\" FROM t",
            &[],
        );
        check("DO $body$ BEGIN PERFORM 1; END $body$", &[]);
        check("CREATE PROCEDURE p() LANGUAGE plpgsql AS $$ BEGIN COMMIT; END $$", &[]);
        check("CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; END", &[]);
        check("SAVEPOINT a; RELEASE SAVEPOINT a", &[]);
    }

    #[test]
    fn concurrently_needs_a_migration_without_a_transaction() {
        let index = "CREATE INDEX CONCURRENTLY i ON t (a)";
        check(index, &["not-in-transaction"]);
        check("create unique index concurrently i on t (a); select 1", &["not-alone", "not-in-transaction"]);
        check("REINDEX (CONCURRENTLY) INDEX i", &["not-in-transaction"]);
        check("ALTER TABLE t DETACH PARTITION p CONCURRENTLY", &["not-in-transaction"]);
        check("VACUUM t", &["not-in-transaction"]);
        check("REFRESH MATERIALIZED VIEW CONCURRENTLY v; ANALYZE t", &[]);
        let metadata = "run_in_transaction = false";
        check_migration(index, Some("DROP INDEX CONCURRENTLY i"), Some(metadata), &[]);
        check_migration(index, Some("DROP INDEX i"), Some(metadata), &[]);
        check_migration(&format!("{index};;"), Some("DROP INDEX i"), Some(metadata), &[]);
        check_migration(&format!("{index}; SELECT 1"), Some("DROP INDEX i"), Some(metadata), &["not-alone"]);
        check_migration("CREATE TABLE t ()", Some("DROP TABLE t"), Some(metadata), &["needless-no-transaction"]);
    }
}
