//! The tables of schemas, for looking at rows and moving them: columns, keys and references, from the catalog.

use std::collections::{BTreeMap, BTreeSet};

use diesel::{
    PgConnection, QueryResult, RunQueryDsl, sql_query,
    sql_types::{Array, BigInt, Bool, Nullable, Text},
};

use crate::{SchemaName, quote};

/// The tables of one schema.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tables {
    pub(crate) tables: BTreeMap<String, Table>,
    /// The foreign keys, of which the referenced table is known by its bare name.
    pub(crate) references: Vec<Reference>,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Table {
    /// Whether its rows are in other tables, which only it is asked for.
    pub(crate) partitioned: bool,
    pub(crate) columns: Vec<Column>,
    /// What may not be there twice, the primary key first.
    pub(crate) keys: Vec<Key>,
}

#[derive(Debug, Clone, diesel::QueryableByName)]
pub(crate) struct Column {
    #[diesel(sql_type = Text)]
    schema: String,
    #[diesel(sql_type = Text)]
    table: String,
    #[diesel(sql_type = Bool)]
    partitioned: bool,
    #[diesel(sql_type = Text)]
    pub(crate) name: String,
    /// Its type and the type's modifier: equal where, and only where, the types are the same.
    #[diesel(sql_type = Text)]
    pub(crate) kind: String,
    /// The operator by which two values of an extension's type are the same: no path of ours finds it.
    #[diesel(sql_type = Nullable<Text>)]
    equals: Option<String>,
    /// Its collation's number, unless it is the database's.
    #[diesel(sql_type = Nullable<BigInt>)]
    collation: Option<i64>,
    /// Computed from others: never written.
    #[diesel(sql_type = Bool)]
    pub(crate) generated: bool,
    #[diesel(sql_type = Bool)]
    pub(crate) identity: bool,
    /// Numbered by a sequence: an identity, or a serial.
    #[diesel(sql_type = Bool)]
    pub(crate) numbered: bool,
    /// Whether it may not be null.
    #[diesel(sql_type = Bool)]
    pub(crate) required: bool,
    /// The sequence of the same schema that numbers it, if it is a whole number.
    #[diesel(sql_type = Nullable<Text>)]
    pub(crate) sequence: Option<String>,
    /// Where that sequence begins.
    #[diesel(sql_type = Nullable<BigInt>)]
    pub(crate) start: Option<i64>,
    /// Whether that sequence counts downwards.
    #[diesel(sql_type = Bool)]
    pub(crate) descends: bool,
}

#[derive(Debug, Clone, diesel::QueryableByName)]
pub(crate) struct Key {
    #[diesel(sql_type = Text)]
    schema: String,
    #[diesel(sql_type = Text)]
    table: String,
    #[diesel(sql_type = Text)]
    pub(crate) name: String,
    #[diesel(sql_type = Bool)]
    pub(crate) primary: bool,
    #[diesel(sql_type = Array<Text>)]
    pub(crate) columns: Vec<String>,
}

/// A foreign key, told by names, so that `public`'s can be looked for in a tenant that lacks it.
#[derive(Debug, Clone, diesel::QueryableByName)]
pub(crate) struct Reference {
    #[diesel(sql_type = Text)]
    schema: String,
    #[diesel(sql_type = Text)]
    pub(crate) child: String,
    #[diesel(sql_type = Array<Text>)]
    pub(crate) child_columns: Vec<String>,
    #[diesel(sql_type = Text)]
    pub(crate) parent: String,
    #[diesel(sql_type = Array<Text>)]
    pub(crate) parent_columns: Vec<String>,
    /// Whether its check can wait for the end of the transaction.
    #[diesel(sql_type = Bool)]
    pub(crate) deferrable: bool,
    /// The constraint's name.
    #[diesel(sql_type = Text)]
    pub(crate) name: String,
    /// Whether it refers to the schema itself or to `public`, and not to a third one.
    #[diesel(sql_type = Bool)]
    pub(crate) inside: bool,
    /// Whether it holds within the schema, for every row: valid, and never switched off.
    #[diesel(sql_type = Bool)]
    pub(crate) holds: bool,
}

impl Reference {
    /// What it connects, which tells whether two are the same but for their properties.
    pub(crate) fn ends(&self) -> (&str, &[String], &str, &[String]) {
        (&self.child, &self.child_columns, &self.parent, &self.parent_columns)
    }
}

impl Tables {
    /// The columns of a table, none where there is no such table.
    pub(crate) fn columns(&self, table: &str) -> &[Column] {
        self.tables.get(table).map_or(&[], |table| &table.columns)
    }

    /// A table, by its schema's quoted name, without the rows of tables that inherit from it; with those of its
    /// partitions, which are its own.
    pub(crate) fn only(&self, schema: &str, table: &str) -> String {
        let partitioned = self.tables.get(table).is_some_and(|table| table.partitioned);
        format!("{}{schema}.{}", if partitioned { "" } else { "ONLY " }, quote::identifier(table))
    }

    fn column(&self, table: &str, column: &str) -> Option<&Column> {
        self.columns(table).iter().find(|known| known.name == column)
    }

    /// The type of a column.
    pub(crate) fn kind(&self, table: &str, column: &str) -> Option<&str> {
        self.column(table, column).map(|known| known.kind.as_str())
    }

    /// The operator by which two values of this column are the same, for the closed path.
    pub(crate) fn equals(&self, table: &str, column: &str) -> String {
        let known = self.columns(table).iter().find(|known| known.name == column);
        known.and_then(|known| known.equals.clone()).unwrap_or_else(|| "=".into())
    }

    /// Whether the table is there with all of these columns.
    pub(crate) fn has(&self, table: &str, columns: &[String]) -> bool {
        let has = |table: &Table| columns.iter().all(|name| table.columns.iter().any(|column| column.name == *name));
        self.tables.get(table).is_some_and(has)
    }
}

/// A column of a row: the row's alias, the tables of its schema, the table and the column.
type ColumnOf<'t> = (&'t str, &'t Tables, &'t str, &'t str);

/// The condition that a column of one schema's table equals one of another's. Types that differ are compared as
/// texts, since there may be no other way.
pub(crate) fn equal(one: ColumnOf<'_>, other: ColumnOf<'_>) -> String {
    compare(one, other, if are_alike(one, other) { "" } else { "::text" })
}

/// The condition that a column equals another, by whatever operator their types have.
pub(crate) fn equal_as_they_are(one: ColumnOf<'_>, other: ColumnOf<'_>) -> String {
    compare(one, other, "")
}

fn are_alike(one: ColumnOf<'_>, other: ColumnOf<'_>) -> bool {
    one.1.kind(one.2, one.3) == other.1.kind(other.2, other.3)
}

fn compare(one: ColumnOf<'_>, other: ColumnOf<'_>, cast: &str) -> String {
    // PostgreSQL does not choose between two collations.
    let collation = |(_, tables, table, column): ColumnOf<'_>| tables.column(table, column)?.collation;
    let cast = match (collation(one), collation(other)) {
        (Some(one), Some(other)) if one != other => "::text COLLATE \"C\"",
        _ => cast,
    };
    let equals = match cast.is_empty() && are_alike(one, other) {
        true => one.1.equals(one.2, one.3),
        false => "=".into(),
    };
    let [one, other] = [one, other].map(|(alias, _, _, column)| format!("{alias}.{}{cast}", quote::identifier(column)));
    format!("{one} {equals} {other}")
}

/// Reads the structure of one schema, in three queries.
pub(crate) fn read(conn: &mut PgConnection, schema: &SchemaName) -> QueryResult<Tables> {
    Ok(read_many(conn, &[schema.as_str()])?.remove(schema.as_str()).unwrap_or_default())
}

/// Reads the structure of many schemas, in three queries. One without a table is missing in the answer.
pub(crate) fn read_many(conn: &mut PgConnection, schemas: &[&str]) -> QueryResult<BTreeMap<String, Tables>> {
    let query = |text: &str| sql_query(text.replace("{relations}", RELATIONS)).bind::<Array<Text>, _>(schemas);
    let columns: Vec<Column> = query(COLUMNS).load(conn)?;
    let keys: Vec<Key> = query(KEYS).load(conn)?;
    let references: Vec<Reference> = query(REFERENCES).load(conn)?;
    let mut found = BTreeMap::<String, Tables>::new();
    for column in columns {
        let tables = &mut found.entry(column.schema.clone()).or_default().tables;
        let table = tables.entry(column.table.clone()).or_default();
        table.partitioned = column.partitioned;
        table.columns.push(column);
    }
    // Of a table that has been made since the columns were read, nothing is kept.
    for key in keys {
        let table = found.get_mut(&key.schema).and_then(|tables| tables.tables.get_mut(&key.table));
        table.into_iter().for_each(|table| table.keys.push(key.clone()));
    }
    for reference in references {
        let tables = found.get_mut(&reference.schema);
        tables.into_iter().for_each(|tables| tables.references.push(reference.clone()));
    }
    Ok(found)
}

/// The names of all tables of these schemas. Waits for nobody's lock.
pub(crate) fn names(conn: &mut PgConnection, schemas: &[&str]) -> QueryResult<BTreeSet<String>> {
    #[derive(diesel::QueryableByName)]
    struct Name {
        #[diesel(sql_type = Text)]
        name: String,
    }
    let names: Vec<Name> = sql_query(format!(
        "SELECT DISTINCT c.relname::text AS name FROM {RELATIONS} \
         WHERE n.nspname = ANY ($1) AND c.relkind IN ('r', 'p') AND NOT c.relispartition"
    ))
    .bind::<Array<Text>, _>(schemas)
    .load(conn)?;
    Ok(names.into_iter().map(|row| row.name).collect())
}

/// The relations `c` of the schemas `n`. Through what depends on a schema they are found by an index; `pg_class` has
/// none, and is long where there are many tenants. It is joined all the same, since it hides Citus' shards.
const RELATIONS: &str = "pg_catalog.pg_namespace n \
     JOIN pg_catalog.pg_depend y ON y.refclassid = 'pg_catalog.pg_namespace'::regclass AND y.refobjid = n.oid \
        AND y.classid = 'pg_catalog.pg_class'::regclass \
     JOIN pg_catalog.pg_class c ON c.oid = y.objid";

// To read an expression takes the longer the more columns the table has: only those are read that may number it.
const COLUMNS: &str = "SELECT n.nspname::text AS schema, c.relname::text AS table, c.relkind = 'p' AS partitioned, \
        a.attname::text AS name, a.atttypid || ':' || a.atttypmod AS kind, a.attgenerated <> '' AS generated, \
        CASE WHEN a.attcollation NOT IN (0, 'pg_catalog.\"default\"'::regcollation) THEN a.attcollation::int8 END AS collation, \
        CASE WHEN a.atttypid >= 16384 THEN ( \
            SELECT format('OPERATOR(%I.%s)', s.nspname, o.oprname) FROM pg_catalog.pg_type t \
            JOIN pg_catalog.pg_opclass k ON k.opcdefault \
                AND k.opcintype = CASE t.typtype WHEN 'd' THEN t.typbasetype ELSE t.oid END \
            JOIN pg_catalog.pg_am m ON m.oid = k.opcmethod AND m.amname = 'btree' \
            JOIN pg_catalog.pg_amop x ON x.amopfamily = k.opcfamily AND x.amopstrategy = 3 \
                AND x.amoplefttype = k.opcintype AND x.amoprighttype = k.opcintype \
            JOIN pg_catalog.pg_operator o ON o.oid = x.amopopr \
            JOIN pg_catalog.pg_namespace s ON s.oid = o.oprnamespace WHERE t.oid = a.atttypid LIMIT 1) END AS equals, \
        a.attidentity <> '' AS identity, \
        a.attidentity <> '' OR CASE WHEN d.adbin::text LIKE \
            '%:funcid ' || 'pg_catalog.nextval(regclass)'::regprocedure::oid || ' %' \
            THEN pg_get_expr(d.adbin, d.adrelid) LIKE 'nextval(%' ELSE false END AS numbered, \
        a.attnotnull AS required, q.relname::text AS sequence, q.seqstart AS start, \
        coalesce(q.seqincrement < 0, false) AS descends \
     FROM {relations} \
     JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped \
     LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum \
     LEFT JOIN LATERAL ( \
         SELECT s.relname, x.seqstart, x.seqincrement \
         FROM (SELECT o.refobjid AS oid FROM pg_catalog.pg_depend o \
               WHERE o.classid = 'pg_catalog.pg_attrdef'::regclass AND o.objid = d.oid \
                 AND o.refclassid = 'pg_catalog.pg_class'::regclass AND o.refobjsubid = 0 \
               UNION ALL \
               SELECT o.objid FROM pg_catalog.pg_depend o \
               WHERE o.refclassid = 'pg_catalog.pg_class'::regclass AND o.refobjid = c.oid AND o.refobjsubid = a.attnum \
                 AND o.classid = 'pg_catalog.pg_class'::regclass AND o.deptype = 'i') o \
         JOIN pg_catalog.pg_class s ON s.oid = o.oid AND s.relkind = 'S' AND s.relnamespace = c.relnamespace \
         JOIN pg_catalog.pg_sequence x ON x.seqrelid = s.oid \
         WHERE a.atttypid IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype) \
         LIMIT 1) q ON a.attidentity <> '' OR d.oid IS NOT NULL \
     WHERE n.nspname = ANY ($1) AND c.relkind IN ('r', 'p') AND NOT c.relispartition \
     ORDER BY n.nspname, c.relname, a.attnum";

const KEYS: &str = "SELECT n.nspname::text AS schema, c.relname::text AS table, x.relname::text AS name, \
        i.indisprimary AS primary, \
        ARRAY(SELECT a.attname::text FROM unnest(i.indkey::int2[]) WITH ORDINALITY k(attnum, at) \
              JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum \
              WHERE k.at <= i.indnkeyatts ORDER BY k.at) AS columns \
     FROM {relations} \
     JOIN pg_catalog.pg_index i ON i.indrelid = c.oid \
     JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid \
     WHERE n.nspname = ANY ($1) AND i.indisunique AND i.indpred IS NULL AND i.indexprs IS NULL \
     ORDER BY n.nspname, c.relname, NOT i.indisprimary, x.relname";

// Citus' shards stand in pg_constraint too: pg_class tells them apart by their schema.
const REFERENCES: &str = "SELECT n.nspname::text AS schema, c.relname::text AS child, p.relname::text AS parent, \
        k.conname::text AS name, coalesce(p.relnamespace IN (c.relnamespace, to_regnamespace('public')), false) AS inside, \
        k.condeferrable AS deferrable, \
        k.convalidated AND p.relnamespace = c.relnamespace \
        AND NOT EXISTS (SELECT FROM pg_catalog.pg_trigger t WHERE t.tgconstraint = k.oid AND t.tgenabled = 'D') AS holds, \
        ARRAY(SELECT a.attname::text FROM unnest(k.conkey) WITH ORDINALITY u(attnum, at) \
              JOIN pg_catalog.pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.attnum \
              ORDER BY u.at) AS child_columns, \
        ARRAY(SELECT a.attname::text FROM unnest(k.confkey) WITH ORDINALITY u(attnum, at) \
              JOIN pg_catalog.pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = u.attnum \
              ORDER BY u.at) AS parent_columns \
     FROM {relations} \
     JOIN pg_catalog.pg_constraint k ON k.conrelid = c.oid \
     JOIN pg_catalog.pg_class p ON p.oid = k.confrelid \
     WHERE n.nspname = ANY ($1) AND k.contype = 'f' AND k.conparentid = 0 \
     ORDER BY n.nspname, c.relname, k.conname";
