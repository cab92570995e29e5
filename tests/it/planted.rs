//! Functions, operators, casts, views and indexes that a weak role has made do not run in our sessions.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    time::{Duration, Instant},
};

use diesel::{
    PgConnection, RunQueryDsl,
    connection::SimpleConnection,
    dsl::sql,
    select,
    sql_types::{Integer, Text},
};
use tenantry::{
    Error, Fleet, SchemaName,
    baseline::Baseline,
    directory::{Listing, SchemaPattern, TenantDirectory},
    doctor,
    domain::{self, Registry},
    migrate::{self, Goal, Run},
    provision,
    repair::{self, Repair, Undo},
    runs,
    structure::{self, Reader},
    testing::TestDatabase,
};
use uuid::Uuid;

use crate::{
    cli::{MIGRATE_ALL, TENANTRY, run, run_with},
    support::{migrated, tenant},
};

const B1: &str = "bd8f8654-0752-4843-b076-0d7b2dc2e6d7";

/// The types that arguments are given as, in which a function of PostgreSQL's own rarely takes them.
const KINDS: &str = r#"{name,text,varchar,oid,regclass,int4,int8,bool,"\"char\"",text[],name[],int2[],jsonb,uuid}"#;

/// The operators of our SQL. LIKE is `~~`.
const OPERATORS: &str = "{=,<>,<,>,<=,>=,||,~,!~,~~,!~~,->>,@>,+,-,*,/,<<,|,&}";

/// A database with a weak role that may create things in `public` and in `acme`, and has planted some there.
///
/// Each thing that was planted reads a table of its own when it runs. How often a table was read is counted in
/// read-only transactions too, and for good in those that are rolled back.
struct Planted {
    db: TestDatabase,
    role: String,
}

impl Planted {
    fn new(db: TestDatabase) -> Self {
        let role = format!("mallory_{}", Uuid::new_v4().simple());
        db.execute(
            "public",
            &format!(
                "CREATE ROLE {role}; GRANT CREATE, USAGE ON SCHEMA public, acme TO {role}; CREATE SCHEMA marks AUTHORIZATION {role}; \
                 GRANT USAGE ON SCHEMA marks TO PUBLIC; SET ROLE {role}; \
                 ALTER DEFAULT PRIVILEGES IN SCHEMA marks GRANT SELECT ON TABLES TO PUBLIC; \
                 CREATE TABLE marks.control ()"
            ),
        );
        Self { db, role }
    }

    /// Runs statements as the weak role.
    fn plant(&self, sql: &str) {
        let sql = format!("SET ROLE {}; SET search_path TO pg_catalog, pg_temp; {sql}", self.role);
        let mut conn = self.db.connect();
        conn.batch_execute(&sql).unwrap();
        let pid: i32 =
            select(diesel::dsl::sql::<Integer>("pg_catalog.pg_backend_pid()")).get_result(&mut conn).unwrap();
        drop(conn);
        // What it has counted is reported when it ends, and must not be taken for a later session's.
        let there = format!("SELECT count(*) FROM pg_catalog.pg_stat_activity WHERE pid = {pid}");
        let started = Instant::now();
        while self.db.text(&there) != "0" {
            assert!(started.elapsed() < Duration::from_secs(20), "the session does not end");
            std::thread::yield_now();
        }
    }

    /// A function that leaves a mark of this name.
    fn function(&self, mark: &str, signature: &str) {
        self.plant(&format!(
            "CREATE TABLE IF NOT EXISTS marks.{mark} (); \
             CREATE FUNCTION {signature} IMMUTABLE LANGUAGE plpgsql AS 'BEGIN PERFORM FROM marks.{mark}; RETURN NULL; END'"
        ));
    }

    /// Every function that our SQL calls and every operator that it uses, for all pairs of types.
    fn plant_names(&self) {
        for schema in ["public", "acme"] {
            self.plant(&format!(
                "DO $plant$ \
                 DECLARE \
                     kinds text[] := $k${KINDS}$k$; \
                     few text[] := '{{text,name,int4,bool,text[]}}'; \
                     f record; o text; \
                 BEGIN \
                     FOR f IN SELECT proname, arguments, result FROM ( \
                         SELECT p.proname, n.pronargs, p.provariadic <> 0, \
                                min(CASE WHEN t.typtype = 'p' OR p.proretset THEN 'text' ELSE format_type(t.oid, NULL) END) AS result \
                         FROM pg_proc p JOIN pg_type t ON t.oid = p.prorettype, \
                              generate_series(1, 3) n(pronargs) \
                         WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.proname = ANY ('{{{names}}}') \
                           AND (p.pronargs = n.pronargs OR p.provariadic <> 0) GROUP BY 1, 2, 3) p, LATERAL ( \
                         SELECT a AS arguments FROM unnest(kinds) a WHERE pronargs = 1 \
                         UNION ALL SELECT a || ',' || b FROM unnest(kinds) a, unnest(kinds) b WHERE pronargs = 2 \
                         UNION ALL SELECT a || ',' || b || ',' || c FROM unnest(few) a, unnest(few) b, unnest(few) c \
                         WHERE pronargs = 3) a \
                     LOOP \
                         EXECUTE format('CREATE TABLE IF NOT EXISTS marks.%I ()', 'function ' || f.proname); \
                         EXECUTE format('CREATE OR REPLACE FUNCTION {schema}.%I(%s) RETURNS %s LANGUAGE plpgsql AS %L', \
                             f.proname, f.arguments, f.result, \
                             format('BEGIN PERFORM FROM marks.%I; RETURN NULL; END', 'function ' || f.proname)); \
                     END LOOP; \
                     FOREACH o IN ARRAY '{OPERATORS}'::text[] LOOP \
                         EXECUTE format('CREATE TABLE IF NOT EXISTS marks.%I ()', 'operator ' || o); \
                         FOR f IN SELECT l, r, CASE WHEN o IN ('||', '+', '-', '*', '/', '|', '&', '<<') THEN l WHEN o = '->>' THEN 'text' \
                                         ELSE 'bool' END AS result FROM unnest(kinds) l, unnest(kinds) r LOOP \
                             EXECUTE format('CREATE FUNCTION {schema}.%I(%s, %s) RETURNS %s LANGUAGE plpgsql AS %L', \
                                 'planted ' || o, f.l, f.r, f.result, \
                                 format('BEGIN PERFORM FROM marks.%I; RETURN NULL; END', 'operator ' || o)); \
                             EXECUTE format('CREATE OPERATOR {schema}.%s (FUNCTION = {schema}.%I, LEFTARG = %s, RIGHTARG = %s)', \
                                 o, 'planted ' || o, f.l, f.r); \
                         END LOOP; \
                     END LOOP; \
                 END $plant$",
                names = names().into_iter().collect::<Vec<_>>().join(","),
            ));
        }
    }

    /// Holds that nothing ran that was planted, except that a mark which is made now is seen.
    #[track_caller]
    fn assert_unused(&self, by: &str) {
        let seen = || {
            self.db.texts(
                "SELECT pg_catalog.format('%s, %s times', relname, seq_scan) FROM pg_catalog.pg_stat_user_tables \
                 WHERE schemaname = 'marks' AND seq_scan > 0 ORDER BY relname = 'control', relname",
            )
        };
        let before = seen().last().cloned().unwrap_or_default();
        // Up to PostgreSQL 14 another process counts, in the order in which it is told.
        self.db.connect().batch_execute("SELECT FROM marks.control").unwrap();
        let started = Instant::now();
        let mut now = seen();
        while !now.last().is_some_and(|last| last.starts_with("control") && *last != before) {
            assert!(started.elapsed() < Duration::from_secs(20), "the server counts nothing");
            std::thread::yield_now();
            now = seen();
        }
        now.pop();
        assert_eq!(now, Vec::<String>::new(), "ran during {by}");
    }

    /// Runs a command as the superuser.
    #[track_caller]
    fn run(&self, program: &str, args: &[&str]) -> String {
        let answer = run(program, args, &self.db);
        self.assert_unused(&args.join(" "));
        assert!(answer.code != 1, "{args:?}: {}{}", answer.out, answer.err);
        answer.out + &answer.err
    }

    /// Drops the database, with all that the role has, and then the role.
    fn end(self) {
        let Self { db, role } = self;
        drop(db);
        TestDatabase::new().connect().batch_execute(&format!("DROP ROLE {role}")).unwrap();
    }
}

/// The names before an opening parenthesis in our sources: those of them that PostgreSQL has are functions of our SQL,
/// and a few more.
fn names() -> BTreeSet<String> {
    fn read(folder: &Path, names: &mut BTreeSet<String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                read(&path, names);
            } else {
                let text = fs::read_to_string(&path).unwrap();
                let is_part = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
                for (at, _) in text.match_indices('(') {
                    let before = &text[..at];
                    names.insert(before[before.trim_end_matches(is_part).len()..].to_owned());
                }
            }
        }
    }
    let mut names = BTreeSet::new();
    read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut names);
    names.retain(|name| !name.is_empty());
    assert!(names.contains("hashtextextended") && names.contains("quote_ident"), "{names:?}");
    names
}

/// Two tenants, of which `acme` is in need of every kind of repair.
fn ill() -> TestDatabase {
    let db = migrated();
    ["acme", "beta"].iter().for_each(|name| drop(tenant(&mut db.connect(), name)));
    db.execute(
        "public",
        &format!(
            "INSERT INTO business_business (id, name, business_num) VALUES ('{B1}', 'Engines', '000001'); \
             INSERT INTO business_business_details (business_id, date_founded) VALUES ('{B1}', '2001-02-03'); \
             INSERT INTO users_userprofile (user_id, business_id) VALUES (gen_random_uuid(), '{B1}')"
        ),
    );
    db.execute(
        "acme",
        &format!(
            "ALTER TABLE users_userprofile DROP CONSTRAINT users_userprofile_business_id_fk, ALTER updated_at DROP NOT NULL; \
             INSERT INTO users_userprofile (id, user_id, business_id, updated_at) VALUES (7, gen_random_uuid(), '{B1}', NULL)"
        ),
    );
    db
}

#[test]
fn no_command_calls_what_a_weak_role_has_planted() {
    let planted = Planted::new(ill());
    planted.plant_names();
    let run = |args: &[&str]| planted.run(TENANTRY, args);
    run(&["status", "--schemas", "*e*"]);
    run(&["status"]);
    run(&["plan"]);
    run(&["doctor"]);
    run(&["repair", "--dry-run"]);
    let repaired = run(&["repair", "--yes"]);
    assert!(repaired.contains("copied 3 rows"), "{repaired}");
    run(&["repair", "list"]);
    run(&["repair", "show", "1"]);
    run(&["repair", "undo", "1", "--dry-run"]);
    run(&["repair", "undo", "1", "--yes"]);
    run(&["repair", "--remove-originals", "--yes"]);
    run(&["repair", "undo", "2", "--yes"]);
    run(&["revert", "--steps", "1", "--yes"]);
    run(&["migrate"]);
    run(&["redo", "--yes"]);
    planted.run(MIGRATE_ALL, &[]);
    run(&["runs", "list"]);
    run(&["runs", "show", "1"]);
    run(&["runs", "retry", "1"]);
    run(&["runs", "revert", "3", "--yes"]);
    planted.db.execute("acme", "DROP TABLE __diesel_schema_migrations");
    run(&["baseline", "--at", "0001", "--tenant", "acme", "--dry-run"]);
    run(&["baseline", "--at", "0001", "--tenant", "acme"]);
    planted.end();
}

#[test]
fn no_function_calls_what_a_weak_role_has_planted_on_the_path_that_a_caller_has() {
    let planted = Planted::new(ill());
    planted.plant_names();
    for path in ["\"$user\", public", "acme, public"] {
        library(&planted, path);
    }
    planted.end();
}

/// Calls the functions of the library on a connection with this path.
fn library(planted: &Planted, path: &str) {
    let connect = || {
        let mut conn = planted.db.connect();
        conn.batch_execute(&format!("SET search_path TO {path}")).unwrap();
        conn
    };
    let call = |what: &str, work: &dyn Fn(&mut PgConnection)| {
        work(&mut connect());
        planted.assert_unused(&format!("{what} on {path}"));
    };
    let fleet = domain::fleet().unwrap();
    let migrations = domain::migrations().unwrap();
    let acme: SchemaName = "acme".parse().unwrap();
    let both = || Registry.list(&mut connect()).unwrap();
    call("list", &|conn| drop(Registry.list(conn).unwrap()));
    call("pattern", &|conn| assert_eq!(SchemaPattern::new("?eta").list(conn).unwrap().tenants.len(), 1));
    call("status", &|conn| drop(fleet.status(conn).unwrap()));
    call("plan", &|conn| drop(fleet.plan(&Goal::Latest, conn).unwrap()));
    call("version", &|conn| assert_eq!(migrate::version(conn, &acme).unwrap().unwrap(), "0002"));
    call("run_on", &|conn| drop(fleet.run_on(&Run::new(migrations), conn).unwrap()));
    call("tenants_on", &|conn| drop(Run::new(migrations).tenants_on(conn, std::slice::from_ref(&acme))));
    call("examine", &|conn| assert!(!examine(conn, &fleet).is_empty()));
    call("structure", &|conn| {
        let schemas = both().schemas();
        assert_eq!(Reader::new().rights(true).read(conn, &schemas).unwrap().len(), 2);
        assert_eq!(Reader::new().fingerprints(conn, &schemas).unwrap().len(), 2);
        structure::reference(conn, migrations, &acme, Duration::from_secs(5)).unwrap();
    });
    let whole = Repair::new(domain::rules()).migrations(migrations);
    call("propose", &|conn| assert_eq!(whole.propose(conn, &both()).unwrap().tenants.len(), 1));
    let number = whole.apply(&mut connect(), &both()).unwrap().repair.unwrap();
    planted.assert_unused("apply");
    call("repairs", &|conn| {
        assert!(!repair::list(conn, 10).unwrap().is_empty());
        repair::find(conn, number).unwrap();
        assert!(!repair::changes(conn, number).unwrap().is_empty());
    });
    call("undo", &|conn| drop(Undo::new(number).dry_run(true).run(conn).unwrap()));
    call("undo", &|conn| drop(Undo::new(number).run(conn).unwrap()));
    let report = fleet.run(&Run::new(migrations).goal(&Goal::Redo { steps: 1 }), &|| Ok(connect()));
    planted.assert_unused("run");
    let number = report.unwrap().run.unwrap();
    call("runs", &|conn| {
        let run = runs::find(conn, number).unwrap();
        assert!(!runs::list(conn, 10).unwrap().is_empty());
        runs::lines(conn, number).unwrap();
        assert!(!runs::steps(conn, number).unwrap().is_empty());
        runs::applied(conn, number).unwrap();
        runs::left(conn, &run, ["acme"].into_iter()).unwrap();
    });
    call("baseline", &|conn| {
        let dry = Baseline::new(migrations, "0002").unwrap().public(true).dry_run(true);
        dry.run(conn, &both().schemas()).unwrap();
    });
    call("create", &|conn| {
        let schema = SchemaName::for_tenant(Uuid::new_v4());
        provision::create(conn, &schema, migrations, Duration::from_secs(5)).unwrap();
    });
}

fn examine(conn: &mut PgConnection, fleet: &Fleet<'_>) -> Vec<doctor::Symptom> {
    let listing = Registry.list(conn).unwrap();
    listing.tenants.iter().flat_map(|entry| doctor::examine(conn, entry, fleet.rules).unwrap().findings).collect()
}

#[test]
fn a_history_that_would_run_code_is_not_read() {
    let planted = Planted::new(ill());
    let history = "acme.__diesel_schema_migrations";
    planted.db.execute("acme", &format!("ALTER TABLE {history} OWNER TO {}", planted.role));
    planted.function("history", "acme.pwn() RETURNS bool");
    let ways = [
        (
            format!(
                "ALTER TABLE {history} RENAME TO real; CREATE VIEW {history} AS SELECT * FROM acme.real WHERE acme.pwn()"
            ),
            format!("DROP VIEW {history}; ALTER TABLE acme.real RENAME TO __diesel_schema_migrations"),
        ),
        (format!("CREATE INDEX planted ON {history} (version) WHERE acme.pwn()"), "DROP INDEX acme.planted".into()),
        (format!("CREATE INDEX planted ON {history} ((acme.pwn()))"), "DROP INDEX acme.planted".into()),
    ];
    for (plant, remove) in ways {
        // To make the index calls the function.
        planted.plant(&plant);
        planted.db.connect().batch_execute("SELECT pg_catalog.pg_stat_reset()").unwrap();
        for args in [
            &["status"][..],
            &["plan"],
            &["doctor"],
            &["migrate"],
            &["repair", "--dry-run"],
            &["repair", "--yes"],
            &["baseline", "--at", "0002"],
        ] {
            let said = planted.run(TENANTRY, args);
            let is_told =
                ["not an ordinary table", "a function of another role"].iter().any(|words| said.contains(words));
            assert!(is_told || args[0] == "plan" || args[0] == "repair", "{plant}\n{args:?}\n{said}");
        }
        planted.plant(&remove);
    }
    planted.end();
}

#[test]
fn a_tenants_table_that_would_run_code_when_it_is_read_is_not_read() {
    let planted = Planted::new(ill());
    for table in ["business_business", "users_userprofile"] {
        planted.db.execute("acme", &format!("ALTER TABLE {table} OWNER TO {}", planted.role));
    }
    planted.function("tables", "acme.pwn() RETURNS bool");
    planted.plant("CREATE TYPE acme.mood AS ENUM ('a')");
    planted.function("casts", "acme.pwn(acme.mood) RETURNS text");
    let ways = [
        ("CREATE INDEX planted ON acme.users_userprofile (id) WHERE acme.pwn()", "DROP INDEX acme.planted"),
        ("CREATE INDEX planted ON acme.business_business ((acme.pwn()))", "DROP INDEX acme.planted"),
        (
            "CREATE CAST (acme.mood AS text) WITH FUNCTION acme.pwn(acme.mood) AS IMPLICIT; \
             ALTER TABLE acme.users_userprofile ALTER tenant_id TYPE acme.mood USING 'a'",
            "ALTER TABLE acme.users_userprofile ALTER tenant_id TYPE uuid USING NULL; DROP CAST (acme.mood AS text)",
        ),
    ];
    for (plant, remove) in ways {
        planted.plant(plant);
        planted.db.connect().batch_execute("SELECT pg_catalog.pg_stat_reset()").unwrap();
        for args in [&["doctor"][..], &["repair", "--dry-run"], &["repair", "--yes"]] {
            let said = planted.run(TENANTRY, args);
            assert!(said.contains("calls a function of another role"), "{plant}\n{args:?}\n{said}");
        }
        planted.plant(remove);
    }
    planted.end();
}

#[test]
fn a_registry_that_a_weak_role_has_made_as_a_view_is_not_read() {
    let planted = Planted::new(ill());
    planted.function("registry", "public.pwn() RETURNS bool");
    let role = &planted.role;
    planted.db.execute(
        "public",
        &format!("ALTER TABLE custom_auth_tenant RENAME TO registry; GRANT SELECT ON registry TO {role}"),
    );
    planted.plant("CREATE VIEW public.custom_auth_tenant AS SELECT * FROM public.registry WHERE public.pwn()");
    for args in [&["status"][..], &["doctor"]] {
        let answer = run(TENANTRY, args, &planted.db);
        planted.assert_unused(args[0]);
        assert!(answer.err.contains("custom_auth_tenant is not an ordinary table"), "{}", answer.err);
    }
    planted.end();
}

/// Runs each command, and holds that it ends with an error of these words and that nothing ran.
#[track_caller]
fn assert_refused(planted: &Planted, commands: &[&[&str]], words: &str) {
    for args in commands {
        let answer = run(TENANTRY, args, &planted.db);
        planted.assert_unused(&args.join(" "));
        assert!(answer.code != 0 && (answer.out + &answer.err).contains(words), "{args:?}: {words}: {}", answer.err);
    }
}

#[test]
fn the_schema_tenantry_of_a_weak_role_is_neither_read_nor_written() {
    let planted = Planted::new(ill());
    let database = planted.db.text("SELECT pg_catalog.current_database()");
    let role = planted.role.clone();
    planted.db.execute(
        "public",
        &format!("DROP SCHEMA IF EXISTS tenantry CASCADE; GRANT CREATE ON DATABASE \"{database}\" TO {role}"),
    );
    planted.plant(include_str!("../../src/runs/tables.sql"));
    planted.plant(include_str!("../../src/repair/memory/tables.sql"));
    planted.function("own", "tenantry.f(int) RETURNS int");
    for table in ["run", "repair"] {
        planted.plant(&format!("CREATE INDEX ON tenantry.{table} (id) WHERE tenantry.f(1) = 1"));
    }
    planted.db.connect().batch_execute("SELECT pg_catalog.pg_stat_reset()").unwrap();
    let runs: &[&[&str]] = &[&["runs", "list"], &["runs", "show", "1"], &["status"], &["plan"], &["migrate"]];
    let repairs: &[&[&str]] = &[&["repair", "list"], &["repair", "show", "1"], &["repair", "--yes"]];
    let all = [runs, repairs].concat();
    assert_refused(&planted, &all, &format!("SCHEMA tenantry belongs to role {role}"));
    planted.db.execute("public", "ALTER SCHEMA tenantry OWNER TO CURRENT_USER");
    assert_refused(&planted, &all, &format!("TABLE tenantry.repair belongs to role {role}"));
    for table in ["repair", "repair_change", "run", "run_line", "run_step"] {
        planted.db.execute("public", &format!("ALTER TABLE tenantry.{table} OWNER TO CURRENT_USER"));
    }
    assert_refused(&planted, &all, "tenantry.repair is not an ordinary table");
    planted.db.execute("public", "DROP FUNCTION tenantry.f(int) CASCADE");
    for args in [&["runs", "list"][..], &["repair", "--yes"], &["migrate"], &["repair", "list"]] {
        planted.run(TENANTRY, args);
    }
    planted.end();
}

#[test]
fn the_schema_tenantry_of_a_member_of_the_databases_owner_is_read() {
    let db = ill();
    let database = db.text("SELECT pg_catalog.current_database()");
    let [owner, deploy, reader] =
        ["owner", "deploy", "reader"].map(|name| format!("{name}_{}", Uuid::new_v4().simple()));
    db.execute(
        "public",
        &format!(
            "DROP SCHEMA IF EXISTS tenantry CASCADE; CREATE ROLE {owner}; CREATE ROLE {deploy} IN ROLE {owner}; \
             CREATE ROLE {reader}; ALTER DATABASE \"{database}\" OWNER TO {owner}; SET ROLE {deploy}; \
             SET search_path TO pg_catalog; {} INSERT INTO tenantry.run (options, program, migrations) VALUES ('{{}}', 'p', '[]'); \
             GRANT USAGE ON SCHEMA tenantry TO {reader}; GRANT SELECT ON ALL TABLES IN SCHEMA tenantry TO {reader}",
            include_str!("../../src/runs/tables.sql"),
        ),
    );
    let mut conn = db.connect();
    conn.batch_execute(&format!("SET ROLE {reader}")).unwrap();
    assert_eq!(runs::list(&mut conn, 10).unwrap().len(), 1);
    drop((conn, db));
    let drop = format!("DROP ROLE {reader}, {deploy}, {owner}");
    TestDatabase::new().connect().batch_execute(&drop).unwrap();
}

#[test]
fn a_role_is_not_trusted_for_having_made_the_schema_tenantry() {
    let planted = Planted::new(ill());
    let database = planted.db.text("SELECT pg_catalog.current_database()");
    planted.db.execute(
        "public",
        &format!("DROP SCHEMA IF EXISTS tenantry CASCADE; GRANT CREATE ON DATABASE \"{database}\" TO {}", planted.role),
    );
    planted.db.execute("acme", &format!("ALTER TABLE business_business OWNER TO {}", planted.role));
    planted.plant("CREATE SCHEMA tenantry");
    planted.function("tables", "acme.pwn() RETURNS bool");
    planted.plant("CREATE INDEX planted ON acme.business_business ((acme.pwn()))");
    planted.db.connect().batch_execute("SELECT pg_catalog.pg_stat_reset()").unwrap();
    let said = planted.run(TENANTRY, &["doctor"]);
    assert!(said.contains("calls a function of another role"), "{said}");
    planted.end();
}

#[test]
fn a_table_whose_child_would_run_code_is_not_read() {
    let planted = Planted::new(ill());
    planted.function("children", "acme.pwn() RETURNS bool");
    for (table, column) in [("__diesel_schema_migrations", "version"), ("business_business", "id")] {
        let role = &planted.role;
        planted.db.execute("acme", &format!("ALTER TABLE {table} OWNER TO {role}"));
        planted.plant(&format!(
            "CREATE TABLE marks.child () INHERITS (acme.{table}); \
             CREATE INDEX ON marks.child ({column}) WHERE acme.pwn()"
        ));
        planted.db.connect().batch_execute("SELECT pg_catalog.pg_stat_reset()").unwrap();
        let said = planted.run(TENANTRY, &["doctor"]);
        let is_told = ["not an ordinary table", "a function of another role"].iter().any(|words| said.contains(words));
        assert!(is_told, "{table}: {said}");
        planted.plant("DROP TABLE marks.child");
    }
    planted.end();
}

/// Tenants in a table of one's own.
struct Mine;

impl TenantDirectory for Mine {
    fn list(&self, conn: &mut PgConnection) -> Result<Listing, Error> {
        let schema = sql::<Text>("schema_name FROM public.custom_auth_tenant");
        let names: Vec<String> = select(schema).load(conn)?;
        Ok(Listing::from_entries(names.into_iter().map(|name| (name, None, true))))
    }
}

#[test]
fn a_policy_that_would_hide_tenants_is_an_error_and_does_not_run() {
    let planted = Planted::new(ill());
    let reader = format!("reader_{}", Uuid::new_v4().simple());
    let weak = &planted.role;
    planted.db.execute("public", &format!("ALTER TABLE custom_auth_tenant OWNER TO {weak}"));
    planted.db.execute(
        "public",
        &format!(
            "CREATE ROLE {reader} LOGIN PASSWORD 'x'; GRANT SELECT ON ALL TABLES IN SCHEMA public, acme, beta TO {reader}; \
             GRANT USAGE ON SCHEMA public, acme, beta TO {reader}; GRANT CREATE ON SCHEMA public TO {reader}"
        ),
    );
    planted.function("policy", "public.pwn() RETURNS bool");
    planted.plant(
        "ALTER TABLE public.custom_auth_tenant ENABLE ROW LEVEL SECURITY; \
         CREATE POLICY none ON public.custom_auth_tenant USING (public.pwn())",
    );
    let url = format!("postgres://{reader}:x@{}", planted.db.url().split_once('@').unwrap().1);
    for args in [&["status"][..], &["plan"], &["doctor"], &["migrate", "--no-record"], &["repair", "--dry-run"]] {
        let answer = run_with(TENANTRY, args, &[("DATABASE_URL", &url)]);
        planted.assert_unused(&args.join(" "));
        assert!(answer.code == 1 && answer.err.contains("is not an ordinary table"), "{args:?} {}", answer.err);
    }
    let fleet = Fleet { directory: &Mine, ..domain::fleet().unwrap() };
    let mut conn = planted.db.connect();
    conn.batch_execute(&format!("SET ROLE {reader}")).unwrap();
    let refused = [
        fleet.status(&mut conn).map(drop),
        fleet.plan(&Goal::Latest, &mut conn).map(drop),
        fleet.run_on(&Run::new(fleet.migrations), &mut conn).map(drop),
    ];
    planted.assert_unused("a directory of one's own");
    for answer in refused {
        let error = answer.unwrap_err().to_string();
        assert!(error.contains("row-level security policy"), "{error}");
    }
    drop(conn);
    planted.db.execute("public", &format!("DROP OWNED BY {reader}; DROP ROLE {reader}"));
    planted.end();
}
