//! Functions that reach out of a tenant by what they say, and those that only look so.

use tenantry::{
    doctor::{Doctor, Report},
    domain::{self, Registry},
    pg,
    testing::TestDatabase,
};

use crate::support::{migrated, tenant};

fn fleet() -> TestDatabase {
    let db = migrated();
    ["acme", "globex", "users"].iter().for_each(|name| drop(tenant(&mut db.connect(), name)));
    db
}

fn examine(db: &TestDatabase) -> Report {
    let doctor = Doctor::new(domain::migrations().unwrap(), &Registry, domain::rules());
    doctor.run(&|| pg::connect(db.config())).unwrap()
}

/// What is said of functions, with the schema that it is said of.
fn told(db: &TestDatabase) -> Vec<String> {
    let report = examine(db);
    let leaks = report.findings.iter().filter(|finding| finding.kind.id() == "function-leak");
    leaks.map(|finding| format!("{}: {}", finding.schema, finding.says)).collect()
}

/// Makes a function in acme, of which this is told.
#[track_caller]
fn check(arguments: &str, language: &str, body: &str, expected: &[&str]) {
    let db = fleet();
    let make = format!("CREATE FUNCTION spy({arguments}) RETURNS bigint LANGUAGE {language} AS $body${body}$body$");
    db.execute("acme", &format!("SET check_function_bodies = off; {make}"));
    let expected: Vec<String> =
        expected.iter().map(|named| format!("acme: function spy({arguments}) names {named}")).collect();
    assert_eq!(told(&db), expected, "{body}");
}

#[test]
fn an_alias_that_is_called_like_another_schema_is_no_leak() {
    check("", "sql", "SELECT count(globex.id) FROM business_business globex WHERE globex.name <> ''", &[]);
    check("", "sql", "SELECT count(users.business_business) FROM (SELECT 1 AS business_business) AS users", &[]);
}

#[test]
fn a_variable_or_an_argument_that_is_called_like_another_schema_is_no_leak() {
    let body = "DECLARE globex record; BEGIN \
        FOR globex IN SELECT * FROM business_business LOOP RETURN length(globex.name); END LOOP; RETURN 0; END";
    check("", "plpgsql", body, &[]);
    check("globex business_business", "sql", "SELECT length(globex.name)::bigint", &[]);
}

#[test]
fn what_another_schema_does_not_have_is_no_leak() {
    check("", "sql", "SELECT count(*) FROM business_business WHERE 'globex.nothing' <> ''", &[]);
}

#[test]
fn a_comment_and_what_is_said_to_people_are_no_leaks() {
    let body = "BEGIN -- as in globex.business_business\n \
        RAISE NOTICE 'see globex.business_business, then users.business_business'; RETURN 1; END";
    check("", "plpgsql", body, &[]);
}

#[test]
fn a_type_of_public_and_what_extensions_bring_are_no_leaks() {
    let db = fleet();
    db.execute(
        "public",
        "CREATE TYPE mood AS ENUM ('glad'); CREATE EXTENSION pgcrypto; CREATE SCHEMA tools; CREATE EXTENSION citext SCHEMA tools",
    );
    db.execute(
        "acme",
        "CREATE FUNCTION glad(how public.mood) RETURNS text LANGUAGE sql AS \
            'SELECT public.crypt(''glad''::public.mood::text, public.gen_salt(''bf''))'; \
         CREATE FUNCTION pinned(x text) RETURNS boolean LANGUAGE sql SET search_path = acme, tools AS 'SELECT x = ''a''::tools.citext'",
    );
    assert_eq!(told(&db), Vec::<String>::new());
}

#[test]
fn what_is_read_from_another_schema_is_a_leak_whatever_the_aliases_are() {
    check("", "sql", "SELECT count(*) FROM globex.business_business", &["globex.business_business"]);
    check("", "sql", "SELECT count(globex.id) FROM globex.business_business globex", &["globex.business_business"]);
    check(
        "",
        "sql",
        "SELECT count(*) FROM business_business public JOIN public.business_business other ON public.id = other.id",
        &["public.business_business"],
    );
}

#[test]
fn what_is_written_called_or_run_as_text_is_a_leak() {
    let body = "BEGIN INSERT INTO GLOBEX.business_business (id, name) VALUES (gen_random_uuid(), 'X'); \
        EXECUTE 'DELETE FROM users.business_business'; \
        RETURN nextval('users.users_userprofile_id_seq'); END";
    let named = "globex.business_business, users.business_business, users.users_userprofile_id_seq";
    check("", "plpgsql", body, &[named]);
    check("", "plpgsql", "BEGIN SET LOCAL search_path = globex; RETURN 1; END", &["schema globex"]);
    check("x globex.business_business", "sql", "SELECT 1::bigint", &["globex.business_business"]);
}

#[test]
fn names_that_must_be_quoted_are_told_apart_by_case() {
    let db = fleet();
    tenant(&mut db.connect(), "Big-Co");
    db.execute(
        "acme",
        "CREATE FUNCTION spy() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM \"Big-Co\".business_business'; \
         CREATE FUNCTION pinned() RETURNS int LANGUAGE sql SET search_path = \"Big-Co\", globex AS 'SELECT 1'",
    );
    let expected = [
        "acme: function pinned() names schema Big-Co, schema globex",
        "acme: function spy() names Big-Co.business_business",
    ];
    assert_eq!(told(&db), expected);
}

#[test]
fn one_text_in_all_tenants_is_a_leak_in_all_but_the_one_it_names() {
    for named in ["acme", "globex"] {
        let db = fleet();
        for schema in ["acme", "globex", "users"] {
            db.execute(
                schema,
                &format!("CREATE FUNCTION spy() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM {named}.business_business'"),
            );
        }
        let others = ["acme", "globex", "users"].into_iter().filter(|schema| *schema != named);
        let expected: Vec<String> =
            others.map(|schema| format!("{schema}: function spy() names {named}.business_business")).collect();
        assert_eq!(told(&db), expected);
    }
}

#[test]
fn functions_elsewhere_that_reach_into_a_tenant_are_found() {
    let db = fleet();
    db.execute(
        "public",
        "CREATE SCHEMA reporting; \
         CREATE FUNCTION public.total() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM acme.business_business'; \
         CREATE FUNCTION reporting.harmless() RETURNS bigint LANGUAGE sql AS 'SELECT count(acme.id) FROM public.business_business acme'; \
         CREATE FUNCTION reporting.pinned() RETURNS int LANGUAGE sql SET search_path = globex AS 'SELECT 1'",
    );
    let expected = [
        "acme: function public.total() names its business_business",
        "globex: function reporting.pinned() names its schema",
    ];
    assert_eq!(told(&db), expected);
}
