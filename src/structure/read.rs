use std::collections::BTreeMap;

use diesel::{
    PgConnection, QueryResult, RunQueryDsl,
    connection::{AnsiTransactionManager as Manager, SimpleConnection, TransactionManager},
    result::{DatabaseErrorKind, Error as DieselError},
    sql_query,
    sql_types::{Array, Text},
};

use super::{Kind, Object, Structure};
use crate::{
    SchemaName,
    pg::{closed::CLOSE, ddl::HISTORY, depth, roll_back_to},
};

/// What all the objects' queries read from.
const SCHEMAS: &str = include_str!("objects/schemas.sql");

/// What constraints are of, and they. The first names the columns of all.
const CONSTRAINED: [&str; 3] =
    [include_str!("objects/table.sql"), include_str!("objects/column.sql"), include_str!("objects/constraint.sql")];

/// All the others.
const OTHERS: [&str; 8] = [
    include_str!("objects/index.sql"),
    include_str!("objects/sequence.sql"),
    include_str!("objects/view.sql"),
    include_str!("objects/trigger.sql"),
    include_str!("objects/rule.sql"),
    include_str!("objects/policy.sql"),
    include_str!("objects/routine.sql"),
    include_str!("objects/type.sql"),
];

const RIGHTS: &str = include_str!("rights.sql");

/// How many schemas one query reads: each query goes through all of `pg_class`, and sorts what it found.
const CHUNK: usize = 1000;

/// Reads the structure of many schemas with a query for every thousand of them.
///
/// Works in a read-only transaction, for a role that may use the schemas and no more, and leaves nothing behind.
/// A schema that does not exist, or that the role may not use, is missing in the answer.
///
/// ```no_run
/// # use diesel::{Connection, PgConnection};
/// # use tenantry::{SchemaName, structure::{Reader, compare}};
/// # let conn = &mut PgConnection::establish("")?;
/// let (acme, globex): (SchemaName, SchemaName) = ("acme".parse()?, "globex".parse()?);
/// let found = Reader::new().read(conn, &[acme.clone(), globex.clone()])?;
/// for difference in compare(&found[&acme], &found[&globex]) {
///     println!("globex: {}", difference.says);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct Reader {
    rights: bool,
    only_rights: bool,
    only_constraints: bool,
    beside_public: bool,
}

impl Reader {
    /// A reader of structure alone.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets whether owners and grants are read too. Defaults to not.
    pub fn rights(mut self, rights: bool) -> Self {
        self.rights = rights;
        self
    }

    /// Reads owners and grants, and nothing else.
    pub(crate) fn only_rights(self) -> Self {
        Self { rights: true, only_rights: true, ..self }
    }

    /// Reads tables, their columns and constraints, and nothing else: most of the time is the planner's, for each kind.
    pub(crate) fn only_constraints(self) -> Self {
        Self { only_constraints: true, ..self }
    }

    /// Has what is in `public` printed bare, as it is when `public` itself is read.
    pub(super) fn beside_public(mut self, beside: bool) -> Self {
        self.beside_public = beside;
        self
    }

    /// Reads everything in these schemas.
    ///
    /// # Errors
    ///
    /// Those of its queries.
    pub fn read(
        &self,
        conn: &mut PgConnection,
        schemas: &[SchemaName],
    ) -> QueryResult<BTreeMap<SchemaName, Structure>> {
        #[derive(diesel::QueryableByName)]
        struct Row {
            #[diesel(sql_type = Text)]
            schema: String,
            #[diesel(sql_type = Text)]
            kind: String,
            #[diesel(sql_type = Text)]
            table: String,
            #[diesel(sql_type = Text)]
            name: String,
            #[diesel(sql_type = Array<Text>)]
            facts: Vec<String>,
        }
        let mut found: BTreeMap<SchemaName, Structure> = BTreeMap::new();
        for (query, chunk) in self.queries(schemas, |objects| {
            // A schema without any object has a row all the same. What is dropped meanwhile has no definition.
            format!(
                "SELECT n.nspname::text AS schema, coalesce(kind, '') AS kind, coalesce(\"table\", '') AS table, \
                        coalesce(name, '') AS name, array_replace(coalesce(facts, '{{}}'), NULL, '') AS facts \
                 FROM pg_catalog.pg_namespace n LEFT JOIN ({objects}) o ON o.schema = n.oid \
                 WHERE n.nspname = ANY ($1) AND has_schema_privilege(n.oid, 'USAGE')"
            )
        }) {
            let rows: Vec<Row> = self.load(conn, &query, chunk)?;
            let mut known: BTreeMap<&str, &SchemaName> = chunk.iter().map(|schema| (schema.as_str(), schema)).collect();
            for row in rows {
                let Some(schema) = known.get_mut(row.schema.as_str()) else { continue };
                let empty = || Structure { schema: schema.clone(), objects: Vec::new() };
                let structure = found.entry(schema.clone()).or_insert_with(empty);
                if let Some(kind) = Kind::from_word(&row.kind) {
                    let table = Some(row.table).filter(|table| !table.is_empty());
                    structure.objects.push(Object { kind, table, name: row.name, facts: row.facts });
                }
            }
        }
        found.values_mut().for_each(|structure| structure.objects.sort());
        Ok(found)
    }

    /// Reads one hash of each of these schemas, made by the server: schemas of the same structure have the same.
    ///
    /// Two schemas that differ in it may still pass for the same: [`compare`](super::compare) knows constraints
    /// that only bear other names.
    ///
    /// # Errors
    ///
    /// Those of its queries.
    pub fn fingerprints(
        &self,
        conn: &mut PgConnection,
        schemas: &[SchemaName],
    ) -> QueryResult<BTreeMap<SchemaName, String>> {
        #[derive(diesel::QueryableByName)]
        struct Row {
            #[diesel(sql_type = Text)]
            schema: String,
            #[diesel(sql_type = Text)]
            fingerprint: String,
        }
        let mut found = BTreeMap::new();
        for (query, chunk) in self.queries(schemas, |objects| {
            // Not md5(), which a server in FIPS mode refuses. An array's text tells where each element ends.
            format!(
                "SELECT n.nspname::text AS schema, encode(sha256(convert_to(coalesce( \
                     string_agg(line, E'\\n' ORDER BY line COLLATE \"C\"), ''), 'UTF8')), 'hex') AS fingerprint \
                 FROM pg_catalog.pg_namespace n \
                 LEFT JOIN (SELECT schema, (ARRAY[kind, \"table\", name] || facts)::text AS line FROM ({objects}) o) l \
                        ON l.schema = n.oid \
                 WHERE n.nspname = ANY ($1) AND has_schema_privilege(n.oid, 'USAGE') GROUP BY n.nspname"
            )
        }) {
            let mut rows: BTreeMap<String, String> = self
                .load(conn, &query, chunk)?
                .into_iter()
                .map(|Row { schema, fingerprint }| (schema, fingerprint))
                .collect();
            let both = |schema: &SchemaName| Some((schema.clone(), rows.remove(schema.as_str())?));
            found.extend(chunk.iter().filter_map(both));
        }
        Ok(found)
    }

    /// The query around the rows of all objects, and the schemas to ask it for.
    fn queries<'s>(
        &self,
        schemas: &'s [SchemaName],
        around: impl Fn(&str) -> String,
    ) -> impl Iterator<Item = (String, &'s [SchemaName])> {
        let others = if self.only_constraints { &[][..] } else { &OTHERS };
        let objects = format!("{SCHEMAS}{}", [&CONSTRAINED, others].concat().join("UNION ALL\n"));
        let objects = match self.rights {
            // The parameter that only the objects have must be used all the same.
            true if self.only_rights => format!("SELECT * FROM ({RIGHTS}) y WHERE $2 IS NOT NULL"),
            true => format!("SELECT * FROM ({objects}) x UNION ALL SELECT * FROM ({RIGHTS}) y"),
            false => objects,
        };
        let query = around(&objects);
        schemas.chunks(CHUNK).map(move |chunk| (query.clone(), chunk))
    }

    /// Runs the query, in parts if it must be: what somebody drops meanwhile fails it, and so does a lock table
    /// that is full, because views are locked while they are printed.
    fn load<R>(&self, conn: &mut PgConnection, query: &str, chunk: &[SchemaName]) -> QueryResult<Vec<R>>
    where
        R: diesel::deserialize::QueryableByName<diesel::pg::Pg> + 'static,
    {
        let mut tries = 0;
        loop {
            match self.load_at_once(conn, query, chunk) {
                Err(DieselError::DatabaseError(DatabaseErrorKind::Unknown, _)) if chunk.len() > 1 => {
                    let (one, other) = chunk.split_at(chunk.len() / 2);
                    let mut rows = self.load(conn, query, one)?;
                    rows.extend(self.load(conn, query, other)?);
                    return Ok(rows);
                }
                Err(DieselError::DatabaseError(DatabaseErrorKind::Unknown, _)) if tries < TRIES => tries += 1,
                rows => return rows,
            }
        }
    }

    fn load_at_once<R>(&self, conn: &mut PgConnection, query: &str, chunk: &[SchemaName]) -> QueryResult<Vec<R>>
    where
        R: diesel::deserialize::QueryableByName<diesel::pg::Pg> + 'static,
    {
        let names: Vec<&str> = chunk.iter().map(SchemaName::as_str).collect();
        let beside = if self.beside_public { ", public" } else { "" };
        let outside = depth(conn);
        Manager::begin_transaction(conn)?;
        // To compile the query takes ten times as long as to run it. In a deadlock, it is the reader that gives
        // way, before the server picks one.
        let settings = format!("{CLOSE}; SET LOCAL jit = off; SET LOCAL lock_timeout = 500");
        let rows = conn.batch_execute(&settings).and_then(|()| {
            sql_query(query).bind::<Array<Text>, _>(names).bind::<Text, _>(beside).bind::<Text, _>(HISTORY).load(conn)
        });
        // The query moves the path about. A savepoint's release would keep that, its rollback does not.
        roll_back_to(conn, outside);
        rows
    }
}

/// How often to read one schema again, while others make and drop what is read.
const TRIES: usize = 5;
