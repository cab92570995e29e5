//! What PostgreSQL itself has bound to another schema: also where nobody thinks of it.

use tenantry::{
    doctor::{Doctor, Fix, Kind, Severity},
    domain::{self, Registry},
    pg,
    testing::TestDatabase,
};

use crate::support::{migrated, tenant};

/// Runs this in acme, beside globex, and has exactly these leaks told.
#[track_caller]
fn check(sql: &str, expected: &[(Kind, &str)]) -> TestDatabase {
    let db = migrated();
    ["acme", "globex"].iter().for_each(|name| drop(tenant(&mut db.connect(), name)));
    db.execute("acme", sql);
    let doctor = Doctor::new(domain::migrations().unwrap(), &Registry, domain::rules());
    let report = doctor.run(&|| pg::connect(db.config())).unwrap();
    let leaks: Vec<_> = report.findings.iter().filter(|finding| finding.kind.id().ends_with("-leak")).collect();
    let told: Vec<(Kind, String)> =
        leaks.iter().map(|finding| (finding.kind, format!("{}: {}", finding.schema, finding.says))).collect();
    let expected: Vec<(Kind, String)> = expected.iter().map(|(kind, says)| (*kind, (*says).to_owned())).collect();
    assert_eq!(told, expected, "{sql}");
    for leak in leaks {
        let is_blamed_on_migrations = matches!(&leak.fix, Fix::None(why) if why.starts_with("the migrations"));
        assert!(leak.severity == Severity::Error && !is_blamed_on_migrations, "{leak:?}");
    }
    db
}

#[test]
fn a_materialized_view_of_another_schema_is_an_error() {
    check(
        "CREATE MATERIALIZED VIEW spying AS SELECT name FROM globex.business_business",
        &[(Kind::ViewLeak, "acme: view spying reads globex.business_business")],
    );
}

#[test]
fn columns_of_another_tenants_type_are_found_and_those_of_a_public_type_are_not() {
    check(
        "CREATE TYPE globex.mood AS ENUM ('glad'); CREATE TYPE public.mood AS ENUM ('glad'); \
         CREATE DOMAIN globex.positive AS int CHECK (VALUE > 0); \
         CREATE TABLE felt (one globex.mood, many globex.mood[], shared public.mood, n globex.positive)",
        &[
            (Kind::DefaultLeak, "acme: column felt.many has the type globex.mood"),
            (Kind::DefaultLeak, "acme: column felt.n has the type globex.positive"),
            (Kind::DefaultLeak, "acme: column felt.one has the type globex.mood"),
        ],
    );
}

#[test]
fn checks_indexes_computed_columns_and_policies_that_use_another_schema_are_found() {
    check(
        "CREATE FUNCTION globex.same(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1'; \
         CREATE TABLE t (a int CONSTRAINT positive CHECK (globex.same(a) > 0), b int GENERATED ALWAYS AS (globex.same(a)) STORED); \
         CREATE INDEX by_same ON t (globex.same(a)); \
         CREATE POLICY few ON t USING (EXISTS (SELECT FROM globex.business_business))",
        &[
            (Kind::DefaultLeak, "acme: column t.b is computed by globex.same()"),
            (Kind::DefaultLeak, "acme: constraint positive of t uses globex.same()"),
            (Kind::DefaultLeak, "acme: index by_same of t uses globex.same()"),
            (Kind::DefaultLeak, "acme: policy few of t uses globex.business_business"),
        ],
    );
}

#[test]
fn what_is_bound_to_a_tenant_from_elsewhere_is_told_of_the_tenant() {
    let db = check(
        "CREATE FUNCTION same(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1'; CREATE SCHEMA billing; \
         CREATE TABLE billing.t (a int CONSTRAINT positive CHECK (same(a) > 0), b business_business); \
         CREATE MATERIALIZED VIEW billing.all AS SELECT name FROM business_business; \
         CREATE AGGREGATE billing.last (int) (SFUNC = int4pl, STYPE = int, FINALFUNC = same)",
        &[
            (Kind::DefaultLeak, "acme: column billing.t.b has the type its business_business"),
            (Kind::DefaultLeak, "acme: constraint positive of billing.t uses its same()"),
            (Kind::ViewLeak, "acme: view billing.all reads its business_business"),
            (Kind::FunctionLeak, "acme: function billing.last() names its same()"),
        ],
    );
    let version: i32 = db.text("SELECT current_setting('server_version_num')").parse().unwrap();
    if version >= 140_000 {
        check(
            "CREATE FUNCTION public.total() RETURNS bigint LANGUAGE sql \
             BEGIN ATOMIC SELECT count(*) FROM business_business; END",
            &[(Kind::FunctionLeak, "acme: function public.total() names its business_business")],
        );
    }
}

#[test]
fn what_extensions_and_the_tenant_itself_bring_is_no_leak() {
    check(
        "CREATE SCHEMA tools; CREATE EXTENSION citext SCHEMA tools; CREATE EXTENSION btree_gist SCHEMA public; \
         CREATE TYPE own AS ENUM ('glad'); CREATE FUNCTION same(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1'; \
         CREATE TABLE t (id int GENERATED ALWAYS AS IDENTITY, e tools.citext, f tools.citext[] , o own, r int4range, \
             CHECK (same(id) > 0), EXCLUDE USING gist (id public.gist_int4_ops WITH =, r WITH &&)); \
         CREATE INDEX ON t (same(id)); CREATE INDEX ON t (e)",
        &[],
    );
}
