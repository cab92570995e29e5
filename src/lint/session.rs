//! What a migration may not do to the session that it runs in.

use squawk_syntax::{
    SyntaxKind as Kind, SyntaxNode,
    ast::{self, AstNode},
};

use super::{
    Rule,
    report::Notice,
    script::{Place, Script, argument, called, last_name},
};

pub(super) const RULES: &[&Rule] = &[&SEARCH_PATH, &DISCARD, &SESSION];

static SEARCH_PATH: Rule = Rule::error(
    "search-path",
    "the search_path is changed: what follows, and Diesel's record, go to another schema",
    "leave the path alone; a function is pinned by a SET clause of its own",
);
static DISCARD: Rule = Rule::error(
    "discard-all",
    "DISCARD ALL or DEALLOCATE ALL takes away what Diesel has prepared",
    "take it out: connections are reset when they are handed out",
);
static SESSION: Rule = Rule::warning(
    "session-setting",
    "a setting outlives the migration",
    "write SET LOCAL, which ends with the transaction",
);

pub(super) fn check(script: &Script<'_>, found: &mut Vec<Notice>) {
    for (tree, node) in script.nodes() {
        let notice = notice(tree.place, &node);
        found.extend(notice.map(|(rule, message)| Notice::at(rule, tree.offset(&node), message)));
    }
}

fn notice(place: Place, node: &SyntaxNode) -> Option<(&'static Rule, String)> {
    let says = |message: &str| Some((&SEARCH_PATH, message.to_owned()));
    match node.kind() {
        Kind::CONFIG_PARAMETER_REF if last_name(node) == "search_path" => {
            let within = |kinds: &[Kind]| node.ancestors().any(|outer| kinds.contains(&outer.kind()));
            // Pinned functions are as they should be; SHOW only reads.
            if within(&[Kind::SET_FUNC_OPTION, Kind::RESET_FUNC_OPTION, Kind::SHOW]) {
                None
            } else if within(&[Kind::ALTER_ROLE, Kind::ALTER_USER, Kind::ALTER_DATABASE, Kind::ALTER_SYSTEM]) {
                says("the search_path of every later connection is changed")
            } else {
                says("the search_path is changed within the migration")
            }
        }
        Kind::SET_SCHEMA_VALUE => says("SET SCHEMA is SET search_path by another name"),
        Kind::SET | Kind::SET_ROLE | Kind::SET_SESSION_AUTH if place != Place::Function && outlives(node) => {
            let message = "the setting stays on the connection, and the next tenant's migration inherits it";
            Some((&SESSION, message.into()))
        }
        Kind::RESET if node.children().any(|child| child.kind() == Kind::ALL) => {
            says("RESET ALL resets the search_path too")
        }
        Kind::CALL_EXPR if called(node).is_some_and(|name| name == "set_config") => {
            if argument(node)?.eq_ignore_ascii_case("search_path") {
                return says("set_config changes the search_path");
            }
            let tokens = node.descendants_with_tokens().filter_map(|element| element.into_token());
            let local = tokens.filter(|token| token.kind() == Kind::FALSE_KW).last().is_none();
            (!local && place != Place::Function).then(|| (&SESSION, "set_config with false is for the session".into()))
        }
        // Text that is put together cannot be parsed; this much can be seen in it.
        Kind::PLPGSQL_DYN_EXECUTE_STMT => {
            let texts = node.descendants().filter_map(ast::Literal::cast).filter_map(|literal| literal.string_value());
            let mut paths = texts.filter(|text| text.to_lowercase().contains("search_path"));
            let constant = node.descendants().find(|inner| inner.kind() == Kind::TARGET)?.first_child()?.kind();
            (constant != Kind::LITERAL && paths.next().is_some()).then_some(())?;
            says("EXECUTE of a text that mentions the search_path")
        }
        Kind::DISCARD_ALL => Some((&DISCARD, "DISCARD ALL resets the connection under Diesel's feet".into())),
        Kind::DEALLOCATE if node.children_with_tokens().any(|child| child.kind() == Kind::ALL_KW) => {
            Some((&DISCARD, "DEALLOCATE ALL drops the statements that Diesel has prepared".into()))
        }
        _ => None,
    }
}

/// Whether a SET is for the session. The search_path has a rule of its own.
fn outlives(set: &SyntaxNode) -> bool {
    let has = |kind| set.descendants().any(|node| node.kind() == kind);
    !has(Kind::LOCAL_SCOPE) && !has(Kind::SET_SCHEMA_VALUE) && !names_path(set)
}

fn names_path(node: &SyntaxNode) -> bool {
    node.text().to_string().to_lowercase().contains("search_path")
}

#[cfg(test)]
mod tests {
    use crate::lint::tests::{check, check_public};

    #[test]
    fn the_path_is_left_alone() {
        for sql in [
            "SET search_path = acme",
            "set local \"search_path\" to acme, public",
            "SET SESSION Search_Path TO DEFAULT",
            "SET SCHEMA 'acme'",
            "RESET search_path",
            "RESET ALL",
            "SELECT set_config('search_path', 'acme', false)",
            "SELECT 1 FROM pg_catalog.SET_CONFIG('Search_Path', 'acme', true)",
            "DO $$ BEGIN SET search_path = acme; END $$",
            "DO $$ BEGIN PERFORM set_config('search_path', 'acme', true); END $$",
            "DO $$ BEGIN EXECUTE 'SET search_path = acme'; END $$",
            "DO $$ BEGIN EXECUTE format('SET search_path = %I', 'acme'); END $$",
        ] {
            check(sql, &["search-path"]);
            check_public(sql, &["search-path"]);
        }
        check_public("ALTER ROLE app SET search_path = acme", &["search-path"]);
        check_public("ALTER DATABASE app SET search_path TO acme", &["search-path"]);
    }

    #[test]
    fn a_function_may_be_pinned_and_a_path_shown() {
        check("CREATE FUNCTION f() RETURNS int LANGUAGE sql SET search_path = a AS $$ SELECT 1 $$", &[]);
        check("ALTER FUNCTION f() SET search_path = a", &[]);
        check("SHOW search_path; SELECT current_setting('search_path')", &[]);
        check("-- SET search_path = a\nSELECT 'SET search_path = a', $$RESET search_path$$, search_path FROM t", &[]);
        check("SET LOCAL lock_timeout = '1s'; SELECT set_config('lock_timeout', '1s', true)", &[]);
    }

    #[test]
    fn what_diesel_prepared_stays() {
        check("DISCARD ALL", &["discard-all"]);
        check("DEALLOCATE ALL", &["discard-all"]);
        check("DISCARD PLANS; DEALLOCATE a", &[]);
    }

    #[test]
    fn settings_end_with_the_transaction() {
        check("SET lock_timeout = '5s'", &["session-setting"]);
        check("SELECT set_config('lock_timeout', '5s', false)", &["session-setting"]);
        check("SET SESSION statement_timeout = 0; SET ROLE owner", &["session-setting", "session-setting"]);
        check("SET LOCAL lock_timeout = '5s'; SET CONSTRAINTS ALL IMMEDIATE", &[]);
        check("ALTER TABLE t ALTER COLUMN a SET DEFAULT 1; UPDATE t SET a = 1", &[]);
        check("CREATE FUNCTION f() RETURNS int LANGUAGE sql SET work_mem = '1MB' AS 'SELECT 1'", &[]);
    }
}
