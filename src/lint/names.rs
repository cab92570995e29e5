//! A tenant's scripts name nothing outside of the tenant's schema.

use std::collections::BTreeSet;

use squawk_syntax::{
    SyntaxKind as Kind, SyntaxNode,
    ast::{self, AstNode, normalize_name_node},
};

use super::{
    Rule, Set,
    folder::Migration,
    report::Notice,
    script::{Place, Script, Tree, argument, called, last_name, names},
};

pub(super) const RULES: &[&Rule] = &[&QUALIFIED, &PUBLIC_TABLE, &FOREIGN_KEY];

static QUALIFIED: Rule = Rule::error(
    "qualified-name",
    "a tenant migration names a schema, and would do the same thing again for every tenant",
    "write the bare name for the tenant's own; move what is shared to the public set",
);
static PUBLIC_TABLE: Rule = Rule::error(
    "public-table",
    "a tenant migration names a table that only the public set makes: it works in public and fails in every tenant",
    "move the statement to the public set",
);
static FOREIGN_KEY: Rule = Rule::error(
    "foreign-key-out",
    "a tenant's table refers to another schema: every tenant's DDL would lock the shared table",
    "drop the constraint, and check the reference in the service",
);

/// `public_tables` are those that the tenants have no table of.
pub(super) fn check(script: &Script<'_>, public_tables: &BTreeSet<String>, found: &mut Vec<Notice>) {
    for (tree, node) in script.nodes() {
        let notice = match node.kind() {
            Kind::TABLE_NAME_REF | Kind::RELATION_NAME_REF => public_table(&node, public_tables),
            Kind::PATH | Kind::PATH_REF => qualified_path(&node),
            Kind::FIELD_EXPR => qualified_expression(tree, &node),
            Kind::CALL_EXPR | Kind::CAST_EXPR => qualified_text(&node),
            _ => None,
        };
        found.extend(notice.map(|(rule, message)| Notice::at(rule, tree.offset(&node), message)));
    }
}

/// The tables that the public set makes and the tenant set does not.
pub(super) fn public_tables(sets: &[(Set, Vec<Migration>)]) -> BTreeSet<String> {
    let made_by = |wanted| {
        let migrations = sets.iter().filter(move |(set, _)| *set == wanted).flat_map(|(_, migrations)| migrations);
        migrations.filter_map(|migration| migration.up.as_ref()).flat_map(|up| {
            let script = Script::new(&up.text);
            script.statements().flat_map(|statement| names(&statement, Kind::TABLE_NAME)).collect::<Vec<_>>()
        })
    };
    let tenants: BTreeSet<String> = made_by(Set::Tenant).collect();
    made_by(Set::Public).filter(|name| !tenants.contains(name)).collect()
}

type Found = Option<(&'static Rule, String)>;

/// A bare name of a table that no tenant has.
fn public_table(node: &SyntaxNode, public_tables: &BTreeSet<String>) -> Found {
    let bare = node.descendants().filter(|inner| inner.kind() == Kind::PATH_SEGMENT_REF).count() == 1;
    let name = last_name(node);
    let root = node.ancestors().last()?;
    let with = |name: &str| {
        let mut named = root.descendants().filter(|inner| inner.kind() == Kind::CTE_NAME);
        named.any(|inner| normalize_name_node(&inner) == name)
    };
    (bare && public_tables.contains(&name) && !with(&name))
        .then(|| (&PUBLIC_TABLE, format!("`{name}` is a table of the public set, and the tenants have none")))
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

#[cfg(test)]
mod tests {
    use crate::lint::{
        Set,
        tests::{check, check_public, ids},
    };

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
            let found = ids(Set::Tenant, sql);
            assert!(found.contains(&"qualified-name"), "{sql}: {found:?}");
            let found = ids(Set::Public, sql);
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
        for sql in [
            "CREATE TABLE t (a uuid REFERENCES public.u (id))",
            "CREATE TABLE t (a uuid, FOREIGN KEY (a) REFERENCES \"Other\".u)",
        ] {
            check(sql, &["foreign-key-out"]);
            check_public(sql, &[]);
        }
        check(
            "ALTER TABLE t ADD CONSTRAINT f FOREIGN KEY (a) REFERENCES public.u (id) NOT VALID",
            &["foreign-key-out"],
        );
        check("CREATE TABLE t (a uuid REFERENCES u (id))", &[]);
    }
}
