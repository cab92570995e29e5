//! What must hold so that one script means the same in every tenant's schema, and nothing outside of it.

use squawk_syntax::{
    SyntaxKind as Kind, SyntaxNode,
    ast::{self, AstNode, normalize_name_node},
};

use super::{
    Rule, Set,
    report::Notice,
    script::{Place, Script, Tree},
};

pub(super) const RULES: &[&Rule] =
    &[&SEARCH_PATH, &DISCARD, &QUALIFIED, &FOREIGN_KEY, &TYPE, &EXTENSION, &SCHEMA, &SHARED];

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
static QUALIFIED: Rule = Rule::error(
    "qualified-name",
    "a tenant migration names a schema, and would do the same thing again for every tenant",
    "write the bare name for the tenant's own; move what is shared to the public set",
);
static FOREIGN_KEY: Rule = Rule::error(
    "foreign-key-out",
    "a tenant's table refers to another schema: every tenant's DDL would lock the shared table",
    "drop the constraint, and check the reference in the service",
);
static TYPE: Rule = Rule::error(
    "create-type",
    "a tenant migration makes a type: pooled connections remember its OID from another tenant",
    "make it in the public set and write it as public.name, or use text with a CHECK",
);
static EXTENSION: Rule = Rule::error(
    "extension",
    "a tenant migration makes, alters or drops an extension, of which a database has one",
    "move it to the public set",
);
static SCHEMA: Rule = Rule::error(
    "schema",
    "a tenant migration makes, alters, drops or names a schema",
    "leave schemas to `tenantry tenant`; move what is shared to the public set",
);
static SHARED: Rule = Rule::error(
    "shared-object",
    "a tenant migration makes, alters or drops what is not in any schema, once for every tenant",
    "move it to the public set, or to the setup of the server",
);

pub(super) fn check(script: &Script<'_>, set: Set, found: &mut Vec<Notice>) {
    for (tree, node) in script.nodes() {
        let notice = match (either(&node), set) {
            (None, Set::Tenant) => tenant(tree, &node),
            (found, _) => found,
        };
        found.extend(notice.map(|(rule, message)| Notice::at(rule, tree.offset(&node), message)));
    }
}

type Found = Option<(&'static Rule, String)>;

/// What neither set may do.
fn either(node: &SyntaxNode) -> Found {
    let says = |message: &str| Some((&SEARCH_PATH, message.to_owned()));
    match node.kind() {
        Kind::CONFIG_PARAMETER_REF if last_name(node) == "search_path" => {
            // Pinned functions are as they should be; SHOW only reads.
            let fine = node
                .ancestors()
                .any(|outer| matches!(outer.kind(), Kind::SET_FUNC_OPTION | Kind::RESET_FUNC_OPTION | Kind::SHOW));
            match node.ancestors().map(|outer| outer.kind()).find(|kind| {
                matches!(kind, Kind::ALTER_ROLE | Kind::ALTER_USER | Kind::ALTER_DATABASE | Kind::ALTER_SYSTEM)
            }) {
                _ if fine => None,
                Some(_) => says("the search_path of every later connection is changed"),
                None => says("the search_path is changed within the migration"),
            }
        }
        Kind::SET_SCHEMA_VALUE => says("SET SCHEMA is SET search_path by another name"),
        Kind::RESET if node.children().any(|child| child.kind() == Kind::ALL) => {
            says("RESET ALL resets the search_path too")
        }
        Kind::CALL_EXPR if called(node).is_some_and(|name| name == "set_config") => {
            let setting = argument(node)?;
            setting.eq_ignore_ascii_case("search_path").then_some(())?;
            says("set_config changes the search_path")
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

/// What a tenant's migration may not do besides.
fn tenant(tree: &Tree, node: &SyntaxNode) -> Found {
    match node.kind() {
        Kind::PATH | Kind::PATH_REF => qualified_path(node),
        Kind::FIELD_EXPR => qualified_expression(tree, node),
        Kind::CALL_EXPR | Kind::CAST_EXPR => qualified_text(node),
        Kind::CREATE_TYPE => Some((&TYPE, "CREATE TYPE in a tenant's schema".into())),
        Kind::CREATE_DOMAIN => Some((&TYPE, "CREATE DOMAIN in a tenant's schema".into())),
        Kind::CREATE_EXTENSION | Kind::ALTER_EXTENSION | Kind::DROP_EXTENSION => {
            Some((&EXTENSION, "an extension belongs to the database, not to a tenant".into()))
        }
        Kind::CREATE_SCHEMA | Kind::ALTER_SCHEMA | Kind::DROP_SCHEMA => {
            Some((&SCHEMA, "a schema is made, altered or dropped".into()))
        }
        Kind::SET_SCHEMA => Some((&SCHEMA, "SET SCHEMA moves an object out of the tenant's schema".into())),
        Kind::IMPORT_FOREIGN_SCHEMA => Some((&SCHEMA, "IMPORT FOREIGN SCHEMA names the schema to import into".into())),
        Kind::IN_SCHEMAS
        | Kind::PRIVILEGE_SCHEMA
        | Kind::PRIVILEGE_ALL_FUNCTIONS_IN_SCHEMA
        | Kind::PRIVILEGE_ALL_PROCEDURES_IN_SCHEMA
        | Kind::PRIVILEGE_ALL_ROUTINES_IN_SCHEMA
        | Kind::PRIVILEGE_ALL_SEQUENCES_IN_SCHEMA
        | Kind::PRIVILEGE_ALL_TABLES_IN_SCHEMA => Some((&SCHEMA, "rights on a schema that is named".into())),
        kind => {
            shared(kind).map(|what| (&SHARED, format!("{what} belongs to the database or the server, not to a tenant")))
        }
    }
}

fn shared(kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::CREATE_ROLE
        | Kind::ALTER_ROLE
        | Kind::DROP_ROLE
        | Kind::CREATE_USER
        | Kind::ALTER_USER
        | Kind::DROP_USER
        | Kind::CREATE_GROUP
        | Kind::ALTER_GROUP
        | Kind::DROP_GROUP => Some("a role"),
        Kind::CREATE_DATABASE | Kind::ALTER_DATABASE | Kind::DROP_DATABASE => Some("a database"),
        Kind::CREATE_TABLESPACE | Kind::ALTER_TABLESPACE | Kind::DROP_TABLESPACE => Some("a tablespace"),
        Kind::ALTER_SYSTEM => Some("a setting of the server"),
        Kind::CREATE_EVENT_TRIGGER | Kind::ALTER_EVENT_TRIGGER | Kind::DROP_EVENT_TRIGGER => Some("an event trigger"),
        Kind::CREATE_PUBLICATION | Kind::ALTER_PUBLICATION | Kind::DROP_PUBLICATION => Some("a publication"),
        Kind::CREATE_SUBSCRIPTION | Kind::ALTER_SUBSCRIPTION | Kind::DROP_SUBSCRIPTION => Some("a subscription"),
        Kind::CREATE_FOREIGN_DATA_WRAPPER
        | Kind::ALTER_FOREIGN_DATA_WRAPPER
        | Kind::DROP_FOREIGN_DATA_WRAPPER
        | Kind::CREATE_SERVER
        | Kind::ALTER_SERVER
        | Kind::DROP_SERVER => Some("a foreign server"),
        Kind::CREATE_LANGUAGE | Kind::DROP_LANGUAGE => Some("a language"),
        Kind::CREATE_CAST | Kind::DROP_CAST => Some("a cast"),
        _ => None,
    }
}

/// `schema.name`, where a relation, a function or the like is named.
fn qualified_path(node: &SyntaxNode) -> Found {
    let parent = node.parent()?;
    let least = match parent.kind() {
        // Only the whole of a path counts.
        Kind::PATH | Kind::PATH_REF => return None,
        // Shared types, operator classes and collations have to be named with their schema.
        Kind::PATH_TYPE
        | Kind::CONFIG_PARAMETER_REF
        | Kind::COLLATION_REF
        | Kind::OP_CLASS_REF
        | Kind::OP_FAMILY_REF
        | Kind::OP
        | Kind::TEXT_SEARCH_CONFIGURATION_REF
        | Kind::TEXT_SEARCH_DICTIONARY_REF
        | Kind::TEXT_SEARCH_PARSER_REF
        | Kind::TEXT_SEARCH_TEMPLATE_REF => return None,
        // These end in the name of a column.
        Kind::QUALIFIED_COLUMN_NAME_REF | Kind::PERCENT_TYPE | Kind::CYCLE_CLAUSE | Kind::PLPGSQL_ALIAS_TARGET => 3,
        _ => 2,
    };
    let names: Vec<SyntaxNode> = node
        .descendants()
        .filter(|inner| matches!(inner.kind(), Kind::PATH_SEGMENT | Kind::PATH_SEGMENT_REF))
        .collect();
    let schema = normalize_name_node(names.first().filter(|_| names.len() >= least)?);
    let key = node
        .ancestors()
        .any(|outer| matches!(outer.kind(), Kind::REFERENCES_CONSTRAINT | Kind::FOREIGN_KEY_CONSTRAINT));
    if key && parent.kind() == Kind::TABLE_NAME_REF {
        return Some((&FOREIGN_KEY, format!("the foreign key refers to `{}`", node.text())));
    }
    named(&schema, &node.text().to_string())
}

/// `schema.function(…)` and `schema.table.column`.
fn qualified_expression(tree: &Tree, node: &SyntaxNode) -> Found {
    let parent = node.parent()?.kind();
    if parent == Kind::FIELD_EXPR {
        return None;
    }
    let base = node.first_child()?;
    let (root, deep) = match base.kind() {
        Kind::NAME_REF => (base, false),
        Kind::FIELD_EXPR => (base.first_child().filter(|inner| inner.kind() == Kind::NAME_REF)?, true),
        _ => return None,
    };
    let schema = normalize_name_node(&root);
    // In a body it may be a field of a record's field.
    let is_schema = parent == Kind::CALL_EXPR || deep && (tree.place == Place::Script || schema == "public");
    is_schema.then(|| named(&schema, &node.text().to_string()))?
}

/// `nextval('schema.sequence')` and `'schema.table'::regclass`.
fn qualified_text(node: &SyntaxNode) -> Found {
    const TAKE_NAMES: &[&str] =
        &["nextval", "currval", "setval", "to_regclass", "to_regproc", "to_regtype", "pg_get_serial_sequence"];
    const NAME_TYPES: &[&str] = &["regclass", "regproc", "regprocedure"];
    let text = if node.kind() == Kind::CALL_EXPR {
        argument(node).filter(|_| called(node).is_some_and(|name| TAKE_NAMES.contains(&&*name)))
    } else {
        let target = node.children().find(|child| child.kind() == Kind::PATH_TYPE)?;
        let name = target.text().to_string().to_lowercase();
        ast::Literal::cast(node.first_child()?)
            .filter(|_| NAME_TYPES.contains(&name.trim_start_matches("pg_catalog.")))?
            .string_value()
    }?;
    let (schema, _) = text.split_once('.')?;
    named(schema.trim_matches('"'), &text)
}

fn named(schema: &str, whole: &str) -> Found {
    let everywhere = ["pg_catalog", "information_schema", "pg_temp"].contains(&schema);
    (!everywhere).then(|| (&QUALIFIED, format!("`{whole}` is the same object for every tenant")))
}

/// The last name of a path.
fn last_name(node: &SyntaxNode) -> String {
    let names = node.descendants().filter(|inner| inner.kind() == Kind::PATH_SEGMENT_REF);
    names.last().map(|name| normalize_name_node(&name)).unwrap_or_default()
}

/// The name of the function that is called, without its schema.
pub(super) fn called(call: &SyntaxNode) -> Option<String> {
    let function = call.first_child()?;
    match function.kind() {
        Kind::NAME_REF => Some(normalize_name_node(&function)),
        Kind::FIELD_EXPR => function.children().last().map(|name| normalize_name_node(&name)),
        _ => None,
    }
}

/// The text of a call's first argument, if it is a constant.
fn argument(call: &SyntaxNode) -> Option<String> {
    let list = call.children().find(|child| child.kind() == Kind::ARG_LIST)?;
    let first = list.children().next()?.first_child()?;
    ast::Literal::cast(first)?.string_value()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lint::tests::{check, check_public};

    #[track_caller]
    fn one(sql: &str, rule: &str) {
        check(sql, &[rule]);
    }

    /// A finding in a tenant's migration, and none in one of `public`.
    #[track_caller]
    fn tenant_only(sql: &str, rule: &str) {
        check(sql, &[rule]);
        check_public(sql, &[]);
    }

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
            one(sql, "search-path");
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
        one("DISCARD ALL", "discard-all");
        one("DEALLOCATE ALL", "discard-all");
        check("DISCARD PLANS; DEALLOCATE a", &[]);
    }

    #[test]
    fn tenants_names_are_bare() {
        for sql in [
            "INSERT INTO public.t (a) VALUES (1)",
            "insert into PUBLIC.t (a) values (1)",
            "SELECT * FROM \"Other\".t",
            "SELECT 1 FROM a JOIN public.b ON a.id = b.id",
            "CREATE TABLE acme.t (a int)",
            "CREATE TABLE t (LIKE public.t INCLUDING ALL)",
            "CREATE VIEW v AS SELECT a FROM public.t",
            "CREATE INDEX i ON public.t (a)",
            "ALTER TABLE public.t ADD COLUMN a int",
            "DROP TABLE IF EXISTS public.t",
            "COMMENT ON TABLE public.t IS 'x'",
            "COMMENT ON COLUMN public.t.a IS 'x'",
            "ALTER SEQUENCE s OWNED BY public.t.a",
            "GRANT SELECT ON public.t TO app",
            "SELECT public.f(1)",
            "SELECT public.t.a FROM t",
            "SELECT nextval('public.s')",
            "SELECT 'public.t'::regclass",
            "DO $$ BEGIN UPDATE public.t SET a = 1; END $$",
            "DO $$ BEGIN EXECUTE 'UPDATE public.t SET a = 1'; END $$",
            "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT a FROM public.t'",
            "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT a FROM public.t; END",
            "CREATE TRIGGER x BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION public.touch()",
        ] {
            let found = crate::lint::tests::ids(Set::Tenant, sql);
            assert!(found.contains(&"qualified-name"), "{sql}: {found:?}");
            let found = crate::lint::tests::ids(Set::Public, sql);
            assert!(!found.contains(&"qualified-name"), "{sql}: {found:?}");
        }
    }

    #[test]
    fn names_that_are_no_schemas_are_left_alone() {
        for sql in [
            "SELECT t.a, (t.b).c FROM t",
            "UPDATE t SET a = t.b WHERE t.c = 1",
            "COMMENT ON COLUMN t.a IS 'public.t is not named here'",
            "ALTER SEQUENCE s OWNED BY t.a",
            "SELECT pg_catalog.now(), 1 FROM information_schema.tables, pg_catalog.pg_class",
            "CREATE TABLE t (a public.mood, b text COLLATE public.german)",
            "SELECT 'x'::public.mood",
            "-- public.t\n/* public.t */ SELECT 'public.t', $$public.t$$, \"public.t\" FROM t",
            "SELECT nextval('s'), 't'::regclass",
            "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ DECLARE a t.b%TYPE; BEGIN NEW.a := OLD.a; RETURN NEW; END $$",
            "SET LOCAL citus.enable_unsafe_triggers = on",
        ] {
            check(sql, &[]);
        }
    }

    #[test]
    fn foreign_keys_stay_in_the_schema() {
        tenant_only("CREATE TABLE t (a uuid REFERENCES public.u (id))", "foreign-key-out");
        tenant_only("CREATE TABLE t (a uuid, FOREIGN KEY (a) REFERENCES \"Other\".u)", "foreign-key-out");
        check(
            "ALTER TABLE t ADD CONSTRAINT f FOREIGN KEY (a) REFERENCES public.u (id) NOT VALID",
            &["foreign-key-out"],
        );
        check("CREATE TABLE t (a uuid REFERENCES u (id))", &[]);
    }

    #[test]
    fn types_extensions_schemas_and_shared_objects_are_not_a_tenants() {
        tenant_only("CREATE TYPE mood AS ENUM ('a')", "create-type");
        tenant_only("create type pair as (a int, b int)", "create-type");
        tenant_only("CREATE DOMAIN email AS text", "create-type");
        tenant_only(
            "DO $$ BEGIN CREATE TYPE mood AS ENUM ('a'); EXCEPTION WHEN duplicate_object THEN NULL; END $$",
            "create-type",
        );
        tenant_only("CREATE EXTENSION IF NOT EXISTS pg_trgm", "extension");
        tenant_only("DROP EXTENSION pg_trgm", "extension");
        tenant_only("CREATE SCHEMA acme", "schema");
        tenant_only("DROP SCHEMA IF EXISTS acme CASCADE", "schema");
        tenant_only("ALTER SCHEMA a RENAME TO b", "schema");
        tenant_only("ALTER TABLE t SET SCHEMA acme", "schema");
        tenant_only("GRANT USAGE ON SCHEMA acme TO app", "schema");
        tenant_only("GRANT SELECT ON ALL TABLES IN SCHEMA acme TO app", "schema");
        tenant_only("CREATE ROLE app", "shared-object");
        tenant_only("CREATE PUBLICATION p FOR ALL TABLES", "shared-object");
        check("GRANT SELECT ON t TO app; SELECT 'CREATE TYPE', 'CREATE EXTENSION', \"create schema\" FROM t", &[]);
    }
}
