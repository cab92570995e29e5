//! What a tenant's scripts do not make, alter or drop, since there is one of it for all tenants.

use squawk_syntax::SyntaxKind as Kind;

use super::{Rule, report::Notice, script::Script};

pub(super) const RULES: &[&Rule] = &[&TYPE, &EXTENSION, &SCHEMA, &SHARED];

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

pub(super) fn check(script: &Script<'_>, found: &mut Vec<Notice>) {
    for (tree, node) in script.nodes() {
        let notice = notice(node.kind());
        found.extend(notice.map(|(rule, message)| Notice::at(rule, tree.offset(&node), message)));
    }
}

fn notice(kind: Kind) -> Option<(&'static Rule, String)> {
    match kind {
        Kind::CREATE_TYPE => Some((&TYPE, "CREATE TYPE in a tenant's schema".into())),
        Kind::CREATE_DOMAIN => Some((&TYPE, "CREATE DOMAIN in a tenant's schema".into())),
        Kind::CREATE_EXTENSION | Kind::ALTER_EXTENSION | Kind::DROP_EXTENSION => {
            Some((&EXTENSION, "an extension is in the database once, for all tenants".into()))
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
        kind => shared(kind).map(|what| (&SHARED, format!("{what} is in no schema, and there is one for all tenants"))),
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

#[cfg(test)]
mod tests {
    use crate::lint::tests::{check, check_public};

    /// A finding in a tenant's migration, and none in one of `public`.
    #[track_caller]
    fn tenant_only(sql: &str, rule: &str) {
        check(sql, &[rule]);
        check_public(sql, &[]);
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
