//! How schemas are built, read and told apart.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use diesel::{
    Connection, PgConnection,
    connection::{InstrumentationEvent, SimpleConnection},
};
use diesel_migrations::{EmbeddedMigrations, FileBasedMigrations, embed_migrations};
use tenantry::{
    Error, SchemaName, domain,
    migrate::{MigrationSet, Migrations},
    pg::scope,
    structure::{Change, Difference, Reader, Structure, compare, reference},
    testing::TestDatabase,
};

use crate::support::migrated;

/// One of everything, with names that must be quoted.
const EVERYTHING: &str = r#"
    CREATE TYPE mood AS ENUM ('glad', 'sad');
    CREATE TYPE point3 AS (x int, y int, "the z" numeric(10, 2));
    CREATE TYPE span AS RANGE (SUBTYPE = numeric);
    CREATE DOMAIN email AS varchar(254) NOT NULL CONSTRAINT has_at CHECK (VALUE LIKE '%@%');
    CREATE SEQUENCE tickets INCREMENT BY 5;
    CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.at := now(); RETURN NEW; END';
    CREATE FUNCTION twice(n int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT n * 2';
    CREATE PROCEDURE nothing() LANGUAGE sql AS 'SELECT 1';
    CREATE AGGREGATE total(int) (SFUNC = int4pl, STYPE = int);
    CREATE TABLE "odd ""table"" x" (
        id serial PRIMARY KEY,
        "the ""name""" text COLLATE "C" NOT NULL DEFAULT 'it''s',
        how mood DEFAULT 'glad',
        mail email,
        doubled int GENERATED ALWAYS AS (twice(3)) STORED,
        ticket bigint DEFAULT nextval('tickets'),
        CONSTRAINT "not ""empty""" CHECK (length("the ""name""") > 0)
    );
    CREATE TABLE "select" (
        id bigint GENERATED ALWAYS AS IDENTITY (START WITH 7) PRIMARY KEY,
        odd_id int REFERENCES "odd ""table"" x" (id) ON DELETE SET NULL ON UPDATE CASCADE DEFERRABLE,
        at timestamptz(3),
        during tsrange,
        note text,
        UNIQUE (at, odd_id) DEFERRABLE INITIALLY DEFERRED,
        EXCLUDE USING gist (during WITH &&)
    ) WITH (fillfactor = 70);
    CREATE INDEX "an index" ON "select" (lower(note), odd_id DESC) WHERE odd_id > 3;
    CREATE UNIQUE INDEX unique_at ON "select" (at);
    CREATE VIEW "a view" WITH (security_barrier) AS
        SELECT acme.id, o.how FROM "select" acme JOIN "odd ""table"" x" o ON o.id = acme.odd_id;
    CREATE MATERIALIZED VIEW seen AS SELECT id FROM "a view";
    CREATE UNIQUE INDEX ON seen (id);
    CREATE TRIGGER touched BEFORE UPDATE ON "select" FOR EACH ROW EXECUTE FUNCTION touch();
    CREATE RULE never AS ON DELETE TO "select" DO INSTEAD NOTHING;
    ALTER TABLE "select" ENABLE ROW LEVEL SECURITY;
    CREATE POLICY own ON "select" FOR SELECT USING (twice(odd_id) > 2);
    CREATE TABLE acme (id int, made date NOT NULL, PRIMARY KEY (id, made)) PARTITION BY RANGE (made);
    CREATE INDEX ON acme (made);
    CREATE TABLE acme_2026 PARTITION OF acme FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
    CREATE TABLE child (more int) INHERITS ("odd ""table"" x");
    CREATE TABLE gone (a int, b int);
    ALTER TABLE gone DROP COLUMN a;
"#;

fn name(schema: &str) -> SchemaName {
    schema.parse().unwrap()
}

fn create(db: &TestDatabase, schema: &str, sql: &str) -> SchemaName {
    db.connect().batch_execute(&format!("CREATE SCHEMA \"{schema}\"")).unwrap();
    db.execute(schema, sql);
    name(schema)
}

fn read(conn: &mut PgConnection, schema: &SchemaName) -> Structure {
    Reader::new().read(conn, std::slice::from_ref(schema)).unwrap().remove(schema).unwrap()
}

#[test]
fn equal_schemas_with_odd_names_have_one_fingerprint() {
    let db = TestDatabase::new();
    let names = ["acme", "Acme.co-1", "select", "a$b", "müller", "4two", "odd", "twice", "public_2", "t"];
    let schemas: Vec<SchemaName> = names.into_iter().map(|schema| create(&db, schema, EVERYTHING)).collect();
    let conn = &mut db.connect();
    let fingerprints = Reader::new().fingerprints(conn, &schemas).unwrap();
    assert_eq!(fingerprints.len(), names.len());
    for (schema, fingerprint) in &fingerprints {
        assert_eq!(fingerprint, &fingerprints[&schemas[0]], "{schema}");
    }
    let found = Reader::new().read(conn, &schemas).unwrap();
    for structure in found.values() {
        assert_eq!(structure.objects, found[&schemas[0]].objects);
        assert_eq!(compare(&found[&schemas[0]], structure), []);
    }
    let kinds: BTreeMap<String, usize> =
        found[&schemas[0]].objects.iter().fold(BTreeMap::new(), |mut kinds, object| {
            *kinds.entry(object.kind.to_string()).or_default() += 1;
            kinds
        });
    insta::assert_debug_snapshot!(kinds, @r#"
    {
        "aggregate": 1,
        "column": 15,
        "constraint": 7,
        "function": 2,
        "index": 4,
        "materialized view": 1,
        "policy": 1,
        "procedure": 1,
        "rule": 1,
        "sequence": 2,
        "table": 6,
        "trigger": 1,
        "type": 4,
        "view": 1,
    }
    "#);
    db.execute("Acme.co-1", "ALTER TABLE \"select\" ALTER COLUMN at SET DEFAULT now()");
    let fingerprints = Reader::new().fingerprints(conn, &schemas).unwrap();
    assert_ne!(fingerprints[&schemas[0]], fingerprints[&schemas[1]]);
    assert_eq!(fingerprints[&schemas[0]], fingerprints[&schemas[2]]);
}

#[test]
fn a_schema_that_is_not_there_or_not_usable_is_left_out_and_an_empty_one_is_not() {
    let db = TestDatabase::with_empty_schemas(["empty", "closed"]);
    let conn = &mut db.connect();
    let role = format!("reader_{}", uuid::Uuid::new_v4().simple());
    conn.batch_execute(&format!("CREATE ROLE {role}; GRANT USAGE ON SCHEMA empty TO {role}; SET ROLE {role}")).unwrap();
    let schemas = [name("empty"), name("closed"), name("ghost")];
    let found = Reader::new().read(conn, &schemas).unwrap();
    assert_eq!(found.keys().collect::<Vec<_>>(), [&schemas[0]]);
    let fingerprints = Reader::new().fingerprints(conn, &schemas).unwrap();
    assert_eq!(fingerprints.keys().collect::<Vec<_>>(), [&schemas[0]]);
    conn.batch_execute(&format!("RESET ROLE; DROP OWNED BY {role}; DROP ROLE {role}")).unwrap();
}

#[test]
fn a_role_that_may_only_look_reads_all_of_it_in_a_read_only_transaction_and_leaves_no_trace() {
    let db = TestDatabase::new();
    let acme = create(&db, "acme", EVERYTHING);
    let expected = read(&mut db.connect(), &acme);
    let conn = &mut db.connect();
    let role = format!("reader_{}", uuid::Uuid::new_v4().simple());
    conn.batch_execute(&format!(
        "CREATE ROLE {role}; GRANT USAGE ON SCHEMA acme TO {role}; SET ROLE {role}; SET search_path TO pg_catalog; \
         SET default_transaction_read_only = on"
    ))
    .unwrap();
    assert_eq!(read(conn, &acme), expected);
    let settings = |conn: &mut PgConnection| {
        let path = scope::current(conn).unwrap().path;
        let jit = diesel::dsl::sql::<diesel::sql_types::Text>("current_setting('jit')");
        (path, diesel::select(jit).get_result::<String>(conn).unwrap())
    };
    use diesel::RunQueryDsl;
    let before = settings(conn);
    assert_eq!(before.0, "pg_catalog");
    conn.transaction(|conn| {
        conn.batch_execute("SET LOCAL search_path TO pg_temp")?;
        let within = settings(conn);
        assert_eq!(read(conn, &acme), expected);
        assert_eq!(settings(conn), within, "a savepoint's settings are put back");
        diesel::QueryResult::Ok(())
    })
    .unwrap();
    assert_eq!(settings(conn), before);
    conn.batch_execute("RESET ROLE; SET default_transaction_read_only = off").unwrap();
    conn.batch_execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).unwrap();
}

#[test]
fn what_others_make_and_drop_meanwhile_does_not_fail_the_read() {
    let db = TestDatabase::with_empty_schemas(["acme"]);
    let acme = name("acme");
    let stop = AtomicBool::new(false);
    std::thread::scope(|threads| {
        threads.spawn(|| {
            let mut other = db.connect();
            other.batch_execute("SET search_path = acme").unwrap();
            while !stop.load(Ordering::Relaxed) {
                let create = "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'; \
                              CREATE TABLE t (id serial PRIMARY KEY, at int DEFAULT f() CHECK (at > 0)); \
                              CREATE INDEX ON t ((at + 1)); CREATE VIEW v AS SELECT f() FROM t";
                other.batch_execute(create).unwrap();
                other.batch_execute("DROP TABLE t CASCADE; DROP FUNCTION f").unwrap();
            }
        });
        let conn = &mut db.connect();
        let results: Vec<_> = (0..60).map(|_| Reader::new().read(conn, std::slice::from_ref(&acme))).collect();
        stop.store(true, Ordering::Relaxed);
        for result in results {
            result.unwrap();
        }
    });
}

#[test]
fn a_thousand_schemas_take_a_handful_of_queries() {
    let db = TestDatabase::new();
    let names: Vec<SchemaName> = (0..1000).map(|number| name(&format!("t{number:04}"))).collect();
    for chunk in names.chunks(100) {
        let sql: String =
            chunk.iter().map(|name| format!("CREATE SCHEMA {name}; CREATE TABLE {name}.t (id int);")).collect();
        db.connect().batch_execute(&sql).unwrap();
    }
    let conn = &mut db.connect();
    let count = Arc::new(AtomicUsize::new(0));
    let counter = count.clone();
    conn.set_instrumentation(move |event: InstrumentationEvent<'_>| {
        if matches!(event, InstrumentationEvent::StartQuery { .. }) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    });
    let fingerprints = Reader::new().fingerprints(conn, &names).unwrap();
    assert_eq!(fingerprints.len(), 1000);
    // BEGIN, SET and ROLLBACK around the query.
    assert_eq!(count.swap(0, Ordering::Relaxed), 4);
    assert_eq!(Reader::new().read(conn, &names).unwrap().len(), 1000);
    assert_eq!(count.load(Ordering::Relaxed), 4);
}

const BASE: &str = "
    CREATE SEQUENCE numbers;
    CREATE TYPE mood AS ENUM ('glad', 'sad');
    CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1';
    CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
    CREATE TABLE parent (id int CONSTRAINT parent_pkey PRIMARY KEY, code text CONSTRAINT parent_code_key UNIQUE);
    CREATE TABLE child (
        id bigint GENERATED BY DEFAULT AS IDENTITY CONSTRAINT child_pkey PRIMARY KEY,
        parent_id int CONSTRAINT child_parent_id_fk REFERENCES parent ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED,
        amount int NOT NULL DEFAULT 1 CONSTRAINT child_amount_check CHECK (amount > 0),
        note varchar(20)
    );
    CREATE INDEX child_parent_id_idx ON child (parent_id);
    CREATE VIEW v AS SELECT parent.id FROM parent, generate_series(1, 1);
    CREATE TRIGGER touched BEFORE UPDATE ON child FOR EACH ROW EXECUTE FUNCTION touch();
    CREATE POLICY own ON child FOR SELECT USING (parent_id > 1);
    CREATE TABLE parted (id int, at date) PARTITION BY RANGE (at);
    CREATE TABLE parted_2026 PARTITION OF parted FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
    CREATE INDEX parted_at_idx ON parted (at);
";

/// Plants something in a schema, and shows what is found: `!` for what blocks, and the cure below.
fn plant(db: &TestDatabase, sql: &str) -> String {
    let number = db.text("SELECT count(*) FROM pg_namespace");
    let expected = create(db, &format!("one{number}"), BASE);
    let found = create(db, &format!("two{number}"), &format!("{BASE}; {sql}"));
    let conn = &mut db.connect();
    let reader = Reader::new();
    let fingerprints = reader.fingerprints(conn, &[expected.clone(), found.clone()]).unwrap();
    assert_ne!(fingerprints[&expected], fingerprints[&found], "{sql}");
    let both = reader.read(conn, &[expected.clone(), found.clone()]).unwrap();
    let one = &both[&expected];
    let differences = compare(one, &both[&found]);
    let cures: Vec<&str> = differences.iter().filter_map(|difference| difference.cure.as_deref()).collect();
    // What is said to cure it does, in a scope of that schema.
    scope::transaction::<_, Error>(conn, &found, |tenant| {
        cures
            .iter()
            .try_for_each(|cure| tenant.batch_execute(cure))
            .unwrap_or_else(|error| panic!("{error}: {cures:?}"));
        Ok(())
    })
    .unwrap();
    let left = compare(one, &read(conn, &found));
    // What was added NOT VALID is validated afterwards.
    let left: Vec<&Difference> =
        left.iter().filter(|difference| !difference.says.contains(" NOT VALID instead of ")).collect();
    let incurable = differences.iter().filter(|difference| difference.cure.is_none()).count();
    assert_eq!(left.len(), incurable, "{sql}: {left:?}");
    let show = |difference: &Difference| {
        let mark = if difference.blocks { "!" } else { " " };
        let cure: String =
            difference.cure.iter().flat_map(|cure| cure.lines()).map(|line| format!("\n      {line}")).collect();
        format!("{mark} {}{cure}", difference.says)
    };
    differences.iter().map(show).collect::<Vec<_>>().join("\n")
}

#[test]
fn one_difference_of_each_kind_is_found_and_no_other() {
    let db = TestDatabase::new();
    let cases = [
        "DROP TABLE child",
        "ALTER TABLE child DROP COLUMN note",
        "ALTER TABLE child DROP COLUMN amount",
        "ALTER TABLE child ADD COLUMN more int",
        "ALTER TABLE child ADD COLUMN more int NOT NULL",
        "ALTER TABLE child ADD COLUMN more int NOT NULL DEFAULT 3",
        "ALTER TABLE child ALTER COLUMN note TYPE varchar(30)",
        "ALTER TABLE child ALTER COLUMN amount DROP NOT NULL",
        "ALTER TABLE child ALTER COLUMN amount DROP DEFAULT",
        "ALTER TABLE child ALTER COLUMN amount SET DEFAULT 2",
        "ALTER TABLE child ALTER COLUMN note SET NOT NULL",
        "ALTER TABLE child ALTER COLUMN id DROP IDENTITY",
        "ALTER TABLE child ALTER COLUMN id SET INCREMENT BY 2",
        "ALTER TABLE parent ALTER COLUMN code TYPE text COLLATE \"C\"",
        "ALTER TABLE child DROP CONSTRAINT child_parent_id_fk",
        "ALTER TABLE child RENAME CONSTRAINT child_parent_id_fk TO child_parent_id_3f2a1b9c_fk_parent_id",
        "ALTER TABLE child ALTER CONSTRAINT child_parent_id_fk NOT DEFERRABLE",
        "ALTER TABLE child DROP CONSTRAINT child_parent_id_fk, ADD CONSTRAINT other_fk FOREIGN KEY (parent_id) REFERENCES parent",
        "ALTER TABLE child DROP CONSTRAINT child_parent_id_fk, ADD CONSTRAINT child_parent_id_fk FOREIGN KEY (parent_id) \
            REFERENCES parent ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED NOT VALID",
        "ALTER TABLE child DROP CONSTRAINT child_amount_check",
        "ALTER TABLE child ADD CONSTRAINT note_check CHECK (note <> '')",
        "ALTER TABLE child ADD COLUMN other_id int REFERENCES parent, ADD COLUMN \"a rank\" int UNIQUE CHECK (\"a rank\" > 0)",
        "ALTER TABLE child ADD COLUMN other_id int DEFAULT 1 REFERENCES parent, ADD COLUMN rank int CHECK (rank IS NOT NULL)",
        "ALTER TABLE child ADD COLUMN rank int CHECK (rank > amount)",
        "ALTER TABLE parent ADD CONSTRAINT twice UNIQUE (code)",
        "ALTER TABLE child DROP CONSTRAINT child_pkey",
        "ALTER TABLE parent DROP CONSTRAINT parent_code_key",
        "DROP INDEX child_parent_id_idx",
        "ALTER INDEX child_parent_id_idx RENAME TO child_parent_id_9e8d7c6b",
        "CREATE INDEX more ON child (note)",
        "CREATE UNIQUE INDEX more ON child (note)",
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'child_parent_id_idx'::regclass",
        "CREATE TABLE more (id int PRIMARY KEY)",
        "ALTER TABLE child SET UNLOGGED",
        "ALTER TABLE child ENABLE ROW LEVEL SECURITY",
        "CREATE VIEW more AS SELECT 1 AS one",
        "DROP VIEW v",
        "CREATE OR REPLACE VIEW v AS SELECT id FROM parent WHERE id > 0",
        "CREATE MATERIALIZED VIEW m AS SELECT 1 AS one",
        "DROP FUNCTION f",
        "CREATE FUNCTION f(int) RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE OR REPLACE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 2'",
        "DROP TRIGGER touched ON child",
        "ALTER TABLE child DISABLE TRIGGER touched",
        "CREATE TRIGGER more BEFORE INSERT ON child FOR EACH ROW EXECUTE FUNCTION touch()",
        "DROP POLICY own ON child",
        "ALTER POLICY own ON child USING (parent_id > 2)",
        "DROP SEQUENCE numbers",
        "ALTER SEQUENCE numbers INCREMENT BY 2",
        "ALTER SEQUENCE numbers OWNED BY child.id",
        "ALTER TYPE mood ADD VALUE 'mad'",
        "DROP TYPE mood",
        "CREATE DOMAIN d AS int",
        "DROP INDEX parted_at_idx",
        "DROP TABLE parted_2026",
        "CREATE TABLE parted_2027 PARTITION OF parted FOR VALUES FROM ('2027-01-01') TO ('2028-01-01')",
        "DROP TABLE parted",
    ];
    let shown: Vec<String> = cases.iter().map(|sql| format!("{sql}\n{}\n", plant(&db, sql))).collect();
    insta::assert_snapshot!(shown.join("\n"), @r#"
    DROP TABLE child
    ! table child is missing
          CREATE TABLE "child" ("amount" integer NOT NULL DEFAULT 1, "id" bigint NOT NULL GENERATED BY DEFAULT AS IDENTITY, "note" character varying(20), "parent_id" integer);
          ALTER TABLE "child" ADD CONSTRAINT "child_amount_check" CHECK ((amount > 0));
          ALTER TABLE "child" ADD CONSTRAINT "child_pkey" PRIMARY KEY (id);
          CREATE INDEX "child_parent_id_idx" ON child USING btree (parent_id);
          CREATE TRIGGER touched BEFORE UPDATE ON child FOR EACH ROW EXECUTE FUNCTION touch();
          CREATE POLICY "own" ON "child" AS PERMISSIVE FOR SELECT TO PUBLIC USING ((parent_id > 1));
          ALTER TABLE "child" ADD CONSTRAINT "child_parent_id_fk" FOREIGN KEY (parent_id) REFERENCES parent(id) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED

    ALTER TABLE child DROP COLUMN note
    ! column child.note is missing: character varying(20)
          ALTER TABLE "child" ADD COLUMN "note" character varying(20)

    ALTER TABLE child DROP COLUMN amount
    ! column child.amount is missing: integer NOT NULL DEFAULT 1
          ALTER TABLE "child" ADD COLUMN "amount" integer NOT NULL DEFAULT 1
    ! check child_amount_check of child is missing: CHECK ((amount > 0))
          ALTER TABLE "child" ADD CONSTRAINT "child_amount_check" CHECK ((amount > 0)) NOT VALID

    ALTER TABLE child ADD COLUMN more int
      column child.more is extra: integer

    ALTER TABLE child ADD COLUMN more int NOT NULL
    ! column child.more is extra: integer NOT NULL

    ALTER TABLE child ADD COLUMN more int NOT NULL DEFAULT 3
      column child.more is extra: integer NOT NULL DEFAULT 3

    ALTER TABLE child ALTER COLUMN note TYPE varchar(30)
    ! column child.note is character varying(30) instead of character varying(20)

    ALTER TABLE child ALTER COLUMN amount DROP NOT NULL
    ! column child.amount lacks NOT NULL
          ALTER TABLE "child" ALTER COLUMN "amount" SET NOT NULL

    ALTER TABLE child ALTER COLUMN amount DROP DEFAULT
    ! column child.amount lacks DEFAULT 1
          ALTER TABLE "child" ALTER COLUMN "amount" SET DEFAULT 1

    ALTER TABLE child ALTER COLUMN amount SET DEFAULT 2
    ! column child.amount is DEFAULT 2 instead of DEFAULT 1
          ALTER TABLE "child" ALTER COLUMN "amount" SET DEFAULT 1

    ALTER TABLE child ALTER COLUMN note SET NOT NULL
    ! column child.note has NOT NULL and should not
          ALTER TABLE "child" ALTER COLUMN "note" DROP NOT NULL

    ALTER TABLE child ALTER COLUMN id DROP IDENTITY
    ! column child.id lacks GENERATED BY DEFAULT AS IDENTITY

    ALTER TABLE child ALTER COLUMN id SET INCREMENT BY 2
    ! column child.id is GENERATED BY DEFAULT AS IDENTITY (INCREMENT BY 2) instead of GENERATED BY DEFAULT AS IDENTITY

    ALTER TABLE parent ALTER COLUMN code TYPE text COLLATE "C"
    ! column parent.code has COLLATE "C" and should not

    ALTER TABLE child DROP CONSTRAINT child_parent_id_fk
    ! foreign key child_parent_id_fk of child is missing: FOREIGN KEY (parent_id) REFERENCES parent(id) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED
          ALTER TABLE "child" ADD CONSTRAINT "child_parent_id_fk" FOREIGN KEY (parent_id) REFERENCES parent(id) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED NOT VALID

    ALTER TABLE child RENAME CONSTRAINT child_parent_id_fk TO child_parent_id_3f2a1b9c_fk_parent_id
      foreign key child_parent_id_fk of child is called child_parent_id_3f2a1b9c_fk_parent_id
          ALTER TABLE "child" RENAME CONSTRAINT "child_parent_id_3f2a1b9c_fk_parent_id" TO "child_parent_id_fk"

    ALTER TABLE child ALTER CONSTRAINT child_parent_id_fk NOT DEFERRABLE
    ! foreign key child_parent_id_fk of child is FOREIGN KEY (parent_id) REFERENCES parent(id) ON DELETE CASCADE instead of FOREIGN KEY (parent_id) REFERENCES parent(id) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED

    ALTER TABLE child DROP CONSTRAINT child_parent_id_fk, ADD CONSTRAINT other_fk FOREIGN KEY (parent_id) REFERENCES parent
    ! foreign key child_parent_id_fk of child, here other_fk, is FOREIGN KEY (parent_id) REFERENCES parent(id) instead of FOREIGN KEY (parent_id) REFERENCES parent(id) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED

    ALTER TABLE child DROP CONSTRAINT child_parent_id_fk, ADD CONSTRAINT child_parent_id_fk FOREIGN KEY (parent_id) REFERENCES parent ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED NOT VALID
    ! foreign key child_parent_id_fk of child is FOREIGN KEY (parent_id) REFERENCES parent(id) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED NOT VALID instead of FOREIGN KEY (parent_id) REFERENCES parent(id) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED
          ALTER TABLE "child" VALIDATE CONSTRAINT "child_parent_id_fk"

    ALTER TABLE child DROP CONSTRAINT child_amount_check
    ! check child_amount_check of child is missing: CHECK ((amount > 0))
          ALTER TABLE "child" ADD CONSTRAINT "child_amount_check" CHECK ((amount > 0)) NOT VALID

    ALTER TABLE child ADD CONSTRAINT note_check CHECK (note <> '')
    ! check note_check of child is extra: CHECK (((note)::text <> ''::text))

    ALTER TABLE child ADD COLUMN other_id int REFERENCES parent, ADD COLUMN "a rank" int UNIQUE CHECK ("a rank" > 0)
      column child.a rank is extra: integer
      column child.other_id is extra: integer
      check child_a rank_check of child is extra: CHECK (("a rank" > 0))
      unique constraint child_a rank_key of child is extra: UNIQUE ("a rank")
      foreign key child_other_id_fkey of child is extra: FOREIGN KEY (other_id) REFERENCES parent(id)

    ALTER TABLE child ADD COLUMN other_id int DEFAULT 1 REFERENCES parent, ADD COLUMN rank int CHECK (rank IS NOT NULL)
      column child.other_id is extra: integer DEFAULT 1
      column child.rank is extra: integer
    ! foreign key child_other_id_fkey of child is extra: FOREIGN KEY (other_id) REFERENCES parent(id)
    ! check child_rank_check of child is extra: CHECK ((rank IS NOT NULL))

    ALTER TABLE child ADD COLUMN rank int CHECK (rank > amount)
      column child.rank is extra: integer
    ! check child_check of child is extra: CHECK ((rank > amount))

    ALTER TABLE parent ADD CONSTRAINT twice UNIQUE (code)
      unique constraint twice of parent is extra: UNIQUE (code)

    ALTER TABLE child DROP CONSTRAINT child_pkey
    ! primary key child_pkey of child is missing: PRIMARY KEY (id)
          ALTER TABLE "child" ADD CONSTRAINT "child_pkey" PRIMARY KEY (id)

    ALTER TABLE parent DROP CONSTRAINT parent_code_key
    ! unique constraint parent_code_key of parent is missing: UNIQUE (code)
          ALTER TABLE "parent" ADD CONSTRAINT "parent_code_key" UNIQUE (code)

    DROP INDEX child_parent_id_idx
    ! index child_parent_id_idx of child is missing: child USING btree (parent_id)
          CREATE INDEX "child_parent_id_idx" ON child USING btree (parent_id)

    ALTER INDEX child_parent_id_idx RENAME TO child_parent_id_9e8d7c6b
      index child_parent_id_idx of child is called child_parent_id_9e8d7c6b
          ALTER INDEX "child_parent_id_9e8d7c6b" RENAME TO "child_parent_id_idx"

    CREATE INDEX more ON child (note)
      index more of child is extra: child USING btree (note)

    CREATE UNIQUE INDEX more ON child (note)
    ! unique index more of child is extra: UNIQUE child USING btree (note)

    UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'child_parent_id_idx'::regclass
    ! index child_parent_id_idx of child is invalid and should not be
          REINDEX INDEX "child_parent_id_idx"

    CREATE TABLE more (id int PRIMARY KEY)
      table more is extra

    ALTER TABLE child SET UNLOGGED
    ! table child is unlogged and should not be

    ALTER TABLE child ENABLE ROW LEVEL SECURITY
    ! table child has ROW LEVEL SECURITY and should not

    CREATE VIEW more AS SELECT 1 AS one
      view more is extra

    DROP VIEW v
    ! view v is missing
          CREATE VIEW "v" AS SELECT parent.id
             FROM parent,
              generate_series(1, 1) generate_series(generate_series)

    CREATE OR REPLACE VIEW v AS SELECT id FROM parent WHERE id > 0
    ! view v is defined otherwise
          CREATE OR REPLACE VIEW "v" AS SELECT parent.id
             FROM parent,
              generate_series(1, 1) generate_series(generate_series)

    CREATE MATERIALIZED VIEW m AS SELECT 1 AS one
      materialized view m is extra

    DROP FUNCTION f
    ! function f() is missing
          CREATE OR REPLACE FUNCTION f()
           RETURNS integer
           LANGUAGE sql
          AS $function$SELECT 1$function$

    CREATE FUNCTION f(int) RETURNS int LANGUAGE sql AS 'SELECT 1'
      function f(integer) is extra

    CREATE OR REPLACE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 2'
    ! function f() is defined otherwise
          CREATE OR REPLACE FUNCTION f()
           RETURNS integer
           LANGUAGE sql
          AS $function$SELECT 1$function$

    DROP TRIGGER touched ON child
    ! trigger touched of child is missing
          CREATE TRIGGER touched BEFORE UPDATE ON child FOR EACH ROW EXECUTE FUNCTION touch()

    ALTER TABLE child DISABLE TRIGGER touched
    ! trigger touched of child is disabled and should not be

    CREATE TRIGGER more BEFORE INSERT ON child FOR EACH ROW EXECUTE FUNCTION touch()
    ! trigger more of child is extra

    DROP POLICY own ON child
    ! policy own of child is missing: PERMISSIVE FOR SELECT TO PUBLIC USING ((parent_id > 1))
          CREATE POLICY "own" ON "child" AS PERMISSIVE FOR SELECT TO PUBLIC USING ((parent_id > 1))

    ALTER POLICY own ON child USING (parent_id > 2)
    ! policy own of child is USING ((parent_id > 2)) instead of USING ((parent_id > 1))

    DROP SEQUENCE numbers
    ! sequence numbers is missing: bigint
          CREATE SEQUENCE "numbers" AS bigint

    ALTER SEQUENCE numbers INCREMENT BY 2
    ! sequence numbers has INCREMENT BY 2 and should not

    ALTER SEQUENCE numbers OWNED BY child.id
    ! sequence numbers has OWNED BY child.id and should not
          ALTER SEQUENCE "numbers" OWNED BY NONE

    ALTER TYPE mood ADD VALUE 'mad'
    ! type mood is ENUM ('glad', 'sad', 'mad') instead of ENUM ('glad', 'sad')

    DROP TYPE mood
    ! type mood is missing: ENUM ('glad', 'sad')
          CREATE TYPE "mood" AS ENUM ('glad', 'sad')

    CREATE DOMAIN d AS int
      type d is extra: DOMAIN integer

    DROP INDEX parted_at_idx
    ! index parted_at_idx of parted is missing: ONLY parted USING btree (at)
          CREATE INDEX "parted_at_idx" ON parted USING btree (at)

    DROP TABLE parted_2026
    ! partition parted_2026 is missing
          CREATE TABLE "parted_2026" PARTITION OF parted FOR VALUES FROM ('2026-01-01') TO ('2027-01-01')

    CREATE TABLE parted_2027 PARTITION OF parted FOR VALUES FROM ('2027-01-01') TO ('2028-01-01')
      partition parted_2027 is extra

    DROP TABLE parted
    ! table parted is missing
          CREATE TABLE "parted" ("at" date, "id" integer) PARTITION BY RANGE (at);
          CREATE INDEX "parted_at_idx" ON parted USING btree (at)
    ! partition parted_2026 is missing
          CREATE TABLE "parted_2026" PARTITION OF parted FOR VALUES FROM ('2026-01-01') TO ('2027-01-01')
    "#);
}

#[test]
fn what_belongs_to_an_extension_is_not_the_schemas() {
    let db = TestDatabase::with_empty_schemas(["plain", "extended"]);
    let available = db.texts("SELECT name FROM pg_available_extensions WHERE name = 'citext'");
    assert_eq!(available, ["citext"], "this test needs the contributed extensions");
    db.execute("extended", "CREATE EXTENSION citext SCHEMA extended");
    let found = Reader::new().fingerprints(&mut db.connect(), &[name("plain"), name("extended")]).unwrap();
    assert_eq!(found[&name("plain")], found[&name("extended")]);
}

#[test]
fn a_body_that_names_its_own_schema_is_no_difference() {
    let db = TestDatabase::new();
    let body = |schema: &str| {
        format!(
            "CREATE TABLE t (id int); CREATE FUNCTION f() RETURNS bigint LANGUAGE sql SET search_path = \"{schema}\" \
             AS 'SELECT count(*) FROM \"{schema}\".t'"
        )
    };
    let schemas = ["acme", "Globex-2"].map(|schema| create(&db, schema, &body(schema)));
    let conn = &mut db.connect();
    assert_eq!(compare(&read(conn, &schemas[0]), &read(conn, &schemas[1])), []);
    let other = create(&db, "other", &body("acme"));
    let differences = compare(&read(conn, &schemas[0]), &read(conn, &other));
    assert_eq!(differences.len(), 1, "a body that names another schema is one: {differences:?}");
}

#[test]
fn owners_and_grants_are_compared_on_request() {
    let db = TestDatabase::new();
    let schemas = ["acme", "globex", "hooli"].map(|schema| create(&db, schema, "CREATE TABLE t (id int)"));
    let conn = &mut db.connect();
    let suffix = uuid::Uuid::new_v4().simple().to_string();
    conn.batch_execute(&format!(
        "CREATE ROLE acme_{suffix}; CREATE ROLE globex_{suffix}; \
         GRANT SELECT ON acme.t TO acme_{suffix}; GRANT SELECT ON globex.t TO globex_{suffix}; \
         GRANT INSERT ON hooli.t TO acme_{suffix}; ALTER TABLE hooli.t OWNER TO globex_{suffix}"
    ))
    .unwrap();
    let plain = Reader::new().fingerprints(conn, &schemas).unwrap();
    assert_eq!(plain[&schemas[0]], plain[&schemas[2]]);
    let found = Reader::new().rights(true).read(conn, &schemas).unwrap();
    assert_eq!(compare(&found[&schemas[0]], &found[&schemas[1]]), [], "each has its own role");
    let differences = compare(&found[&schemas[0]], &found[&schemas[2]]);
    let says: Vec<String> = differences.iter().map(|difference| difference.says.replace(&suffix, "…")).collect();
    insta::assert_debug_snapshot!(says, @r#"
    [
        "the owner of t is globex_… instead of postgres",
        "what is granted on t is acme_… INSERT instead of *_… SELECT",
    ]
    "#);
    conn.batch_execute(&format!(
        "DROP OWNED BY acme_{suffix}, globex_{suffix}; DROP ROLE acme_{suffix}, globex_{suffix}"
    ))
    .unwrap();
}

#[test]
fn the_reference_is_what_the_migrations_make_and_leaves_nothing_behind() {
    let db = migrated();
    let migrations = domain::migrations().unwrap();
    let acme = db.create_tenant("acme", migrations);
    let conn = &mut db.connect();
    let patience = Duration::from_secs(1);
    let before = db.texts("SELECT oid FROM pg_namespace UNION ALL SELECT oid FROM pg_class ORDER BY 1");
    let wanted = reference(conn, migrations, &acme, patience).unwrap();
    assert_eq!(wanted.fingerprint, Reader::new().fingerprints(conn, std::slice::from_ref(&acme)).unwrap()[&acme]);
    assert_eq!(compare(&wanted.structure, &read(conn, &acme)), []);
    let earlier = reference(conn, &migrations.with_tenant_up_to("0001").unwrap(), &acme, patience).unwrap();
    let differences = compare(&earlier.structure, &read(conn, &acme));
    let shown: Vec<(Change, &str)> = differences.iter().map(|found| (found.change, found.name.as_str())).collect();
    assert_eq!(shown, [(Change::Extra, "updated_at")]);
    assert_eq!(db.texts("SELECT oid FROM pg_namespace UNION ALL SELECT oid FROM pg_class ORDER BY 1"), before);
    let locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND database = \
                 (SELECT oid FROM pg_database WHERE datname = current_database())";
    assert_eq!(db.text(locks), "0");
}

/// A tenant set of one migration that does not run in a transaction.
fn outside_of_transactions(up: &str) -> Migrations {
    let folder = std::env::temp_dir().join(format!("tenantry-{}", uuid::Uuid::new_v4()));
    let write = |version: &str, file: &str, text: &str| {
        std::fs::create_dir_all(folder.join(version)).unwrap();
        std::fs::write(folder.join(version).join(file), text).unwrap();
    };
    write("0001_first", "up.sql", "CREATE TABLE t (id int)");
    write("0001_first", "down.sql", "DROP TABLE t");
    write("0002_second", "up.sql", up);
    write("0002_second", "down.sql", "SELECT 1");
    write("0002_second", "metadata.toml", "run_in_transaction = false");
    let tenant = MigrationSet::new("tenant", FileBasedMigrations::from_path(&folder).unwrap()).unwrap();
    std::fs::remove_dir_all(folder).unwrap();
    const PUBLIC: EmbeddedMigrations = embed_migrations!("migrations/public");
    let public = MigrationSet::new("public", PUBLIC).unwrap();
    Migrations::new(public, tenant).unwrap()
}

#[test]
fn an_index_that_is_made_concurrently_is_part_of_the_reference() {
    let db = TestDatabase::new();
    let patience = Duration::from_secs(1);
    let concurrently = outside_of_transactions("CREATE INDEX CONCURRENTLY t_id_idx ON t (id);");
    let acme = create(&db, "acme", "CREATE TABLE t (id int); CREATE INDEX t_id_idx ON t (id)");
    let conn = &mut db.connect();
    let wanted = reference(conn, &concurrently, &acme, patience).unwrap();
    assert_eq!(compare(&wanted.structure, &read(conn, &acme)), []);
    let vacuum = outside_of_transactions("VACUUM t");
    let error = reference(conn, &vacuum, &acme, patience).unwrap_err();
    insta::assert_snapshot!(error.chain(), @"the structure that the migrations make cannot be built to compare with: migration 0002 does not run in a scratch schema: VACUUM cannot run inside a transaction block");
    assert_eq!(db.texts("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'tenantry%'"), Vec::<String>::new());
}

#[test]
fn a_role_that_may_not_create_a_schema_is_told_so() {
    let db = TestDatabase::new();
    let conn = &mut db.connect();
    let role = format!("reader_{}", uuid::Uuid::new_v4().simple());
    conn.batch_execute(&format!("CREATE ROLE {role}; SET ROLE {role}")).unwrap();
    let error = reference(conn, domain::migrations().unwrap(), &name("acme"), Duration::ZERO).unwrap_err();
    let text = error.chain().replace(&role, "reader");
    insta::assert_snapshot!(text, @"the structure that the migrations make cannot be built to compare with: role reader may not create a scratch schema: GRANT CREATE ON DATABASE to it, or use a role that has it");
    conn.batch_execute(&format!("RESET ROLE; DROP ROLE {role}; SET default_transaction_read_only = on")).unwrap();
    let error = reference(conn, domain::migrations().unwrap(), &name("acme"), Duration::ZERO).unwrap_err();
    insta::assert_snapshot!(error.chain(), @"the structure that the migrations make cannot be built to compare with: cannot execute CREATE SCHEMA in a read-only transaction");
}
