use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use diesel::{
    OptionalExtension, PgConnection, QueryResult, RunQueryDsl,
    dsl::sql,
    select, sql_query,
    sql_types::{Array, BigInt, Bool, Jsonb, Nullable, Text, Timestamptz},
};
use serde::Serialize;
use serde_json::Value;

use crate::{
    Error, SchemaName,
    pg::{closed::reading, own},
    repair::rows,
};

/// A repair that was remembered.
#[derive(Debug, Clone, Serialize, diesel::QueryableByName)]
pub struct PastRepair {
    /// Its number.
    #[diesel(sql_type = BigInt)]
    pub id: i64,
    /// The program and its version.
    #[diesel(sql_type = Text)]
    pub program: String,
    /// The role of the database that carried it out.
    #[diesel(sql_type = Text)]
    pub role: String,
    /// From where.
    #[diesel(sql_type = Text)]
    pub client: String,
    /// When it began.
    #[diesel(sql_type = Timestamptz)]
    pub started_at: DateTime<Utc>,
    /// How many tenants it changed.
    #[diesel(sql_type = BigInt)]
    pub tenants: i64,
    /// How many changes it made.
    #[diesel(sql_type = BigInt)]
    pub changes: i64,
    /// How many of them were taken back.
    #[diesel(sql_type = BigInt)]
    pub undone: i64,
}

/// One thing that a repair did.
#[derive(Debug, Clone, PartialEq, Serialize, diesel::QueryableByName)]
pub struct PastChange {
    /// Its number, by which changes are in order.
    #[diesel(sql_type = BigInt)]
    pub id: i64,
    /// The tenant that was repaired.
    #[diesel(sql_type = Text)]
    pub schema: String,
    /// The table.
    #[diesel(sql_type = Text)]
    pub table: String,
    /// What was done, as the [word](What::word) for it.
    #[diesel(sql_type = Text)]
    pub what: String,
    /// What tells the row, the sequence or the constraint.
    #[diesel(sql_type = Jsonb)]
    pub key: Value,
    /// What was there before.
    #[diesel(sql_type = Nullable<Jsonb>)]
    pub before: Option<Value>,
    /// What was there afterwards.
    #[diesel(sql_type = Nullable<Jsonb>)]
    pub after: Option<Value>,
    /// When it was taken back.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub undone_at: Option<DateTime<Utc>>,
}

impl PastChange {
    /// Whether it changed anything, and is no note of why something was changed.
    pub(in crate::repair) fn is_of_something(&self) -> bool {
        ![What::Referred.word(), What::Needed.word()].contains(&self.what.as_str())
    }
}

/// What a repair can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum What {
    /// Nothing: a row that referred in vain, and does not any more.
    Referred,
    /// Nothing more: a row that was copied since another needs it, and not as the tenant's own.
    Needed,
    /// A row was copied into the tenant.
    Inserted,
    /// Nulls of a row were filled.
    Updated,
    /// An original was removed from `public`.
    Deleted,
    /// A sequence was moved on.
    Sequence,
    /// A constraint was added, validated or replaced.
    Constraint,
}

impl What {
    /// How it is written down.
    pub fn word(self) -> &'static str {
        match self {
            Self::Referred => "referred",
            Self::Needed => "needed",
            Self::Inserted => "inserted",
            Self::Updated => "updated",
            Self::Deleted => "deleted",
            Self::Sequence => "sequence",
            Self::Constraint => "constraint",
        }
    }
}

const REPAIR: &str = "SELECT r.id, r.program, r.role, r.client, r.started_at, c.tenants, c.changes, c.undone \
    FROM tenantry.repair r CROSS JOIN LATERAL ( \
        SELECT count(DISTINCT schema) AS tenants, count(*) AS changes, count(undone_at) AS undone \
        FROM tenantry.repair_change WHERE repair = r.id AND what NOT IN ('referred', 'needed')) c";

/// The last repairs, the newest first. None where nothing was ever remembered.
pub fn list(conn: &mut PgConnection, most: i64) -> QueryResult<Vec<PastRepair>> {
    reading(conn, |conn| match is_there(conn)? {
        true => sql_query(format!("{REPAIR} ORDER BY r.id DESC LIMIT $1")).bind::<BigInt, _>(most).load(conn),
        false => Ok(Vec::new()),
    })
}

/// The repair of this number.
///
/// # Errors
///
/// [`Error::NoSuchRepair`].
pub fn find(conn: &mut PgConnection, id: i64) -> Result<PastRepair, Error> {
    let found: Option<PastRepair> = reading::<_, Error>(conn, |conn| match is_there(conn)? {
        true => Ok(sql_query(format!("{REPAIR} WHERE r.id = $1")).bind::<BigInt, _>(id).get_result(conn).optional()?),
        false => Ok(None),
    })?;
    found.ok_or(Error::NoSuchRepair { id })
}

/// What a repair did, in order. Of why it did so, nothing.
pub fn changes(conn: &mut PgConnection, repair: i64) -> QueryResult<Vec<PastChange>> {
    let changes = sql_query(
        "SELECT id, schema, \"table\", what, key, before, after, undone_at FROM tenantry.repair_change \
         WHERE repair = $1 AND what NOT IN ('referred', 'needed') ORDER BY id",
    )
    .bind::<BigInt, _>(repair);
    reading(conn, |conn| changes.load(conn))
}

/// What a repair did in one tenant and is not taken back, in order.
pub(in crate::repair) fn pending(conn: &mut PgConnection, repair: i64, schema: &str) -> QueryResult<Vec<PastChange>> {
    sql_query(
        "SELECT id, schema, \"table\", what, key, before, after, undone_at FROM tenantry.repair_change \
         WHERE repair = $1 AND schema = $2 AND undone_at IS NULL ORDER BY id",
    )
    .bind::<BigInt, _>(repair)
    .bind::<Text, _>(schema)
    .load(conn)
}

/// The tenants of which something is left to take back.
pub(in crate::repair) fn schemas(conn: &mut PgConnection, repair: i64) -> QueryResult<Vec<String>> {
    #[derive(diesel::QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        schema: String,
    }
    let schemas = sql_query(
        "SELECT schema FROM tenantry.repair_change \
         WHERE repair = $1 AND undone_at IS NULL AND what NOT IN ('referred', 'needed') GROUP BY schema ORDER BY min(id)",
    )
    .bind::<BigInt, _>(repair);
    let rows: Vec<Row> = reading(conn, |conn| schemas.load(conn))?;
    Ok(rows.into_iter().map(|row| row.schema).collect())
}

/// The tenants that were given rows, all repairs together.
pub(in crate::repair) fn schemas_given(conn: &mut PgConnection) -> QueryResult<Vec<String>> {
    #[derive(diesel::QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        schema: String,
    }
    let given = "SELECT DISTINCT schema FROM tenantry.repair_change WHERE what = 'inserted' AND undone_at IS NULL";
    let given: Vec<Row> =
        reading(conn, |conn| if is_there(conn)? { sql_query(given).load(conn) } else { Ok(Vec::new()) })?;
    Ok(given.into_iter().map(|row| row.schema).collect())
}

/// Which of these tenants were given which of these rows of a table, told by the texts of their keys, as their own.
pub(in crate::repair) fn given_as_own(
    conn: &mut PgConnection,
    table: &str,
    keys: &BTreeSet<&str>,
    tenants: &[&SchemaName],
) -> QueryResult<BTreeSet<(String, String)>> {
    #[derive(diesel::QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        schema: String,
        #[diesel(sql_type = Text)]
        key: String,
    }
    if keys.is_empty() {
        return Ok(BTreeSet::new());
    }
    let given: Vec<Row> = sql_query(format!(
        "SELECT schema, key::text AS key FROM tenantry.repair_change m \
         WHERE what = 'inserted' AND undone_at IS NULL AND \"table\" = $1 AND schema = ANY ($2) AND {} \
           AND NOT EXISTS (SELECT FROM tenantry.repair_change n WHERE n.what = 'needed' AND n.repair = m.repair \
                           AND n.schema = m.schema AND n.\"table\" = m.\"table\" AND n.key = m.key)",
        rows::is_among("key::text", 3),
    ))
    .bind::<Text, _>(table)
    .bind::<Array<Text>, _>(tenants.iter().map(|schema| schema.as_str()).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(keys.iter().copied().collect::<Vec<_>>())
    .load(conn)?;
    Ok(given.into_iter().map(|row| (row.schema, row.key)).collect())
}

pub(in crate::repair) fn mark_undone(conn: &mut PgConnection, changes: &[i64]) -> QueryResult<()> {
    sql_query("UPDATE tenantry.repair_change SET undone_at = clock_timestamp() WHERE id = ANY ($1)")
        .bind::<Array<BigInt>, _>(changes)
        .execute(conn)
        .map(|_| ())
}

/// Whether the role may write down here that something was taken back, on a server that takes writes.
pub(in crate::repair) fn may_write(conn: &mut PgConnection) -> QueryResult<bool> {
    select(sql::<Bool>(
        "pg_catalog.current_setting('transaction_read_only') OPERATOR(pg_catalog.=) 'off' \
         AND pg_catalog.has_table_privilege('tenantry.repair_change', 'UPDATE')",
    ))
    .get_result(conn)
}

/// Whether anything was ever remembered, and the role may read it.
pub(in crate::repair) fn is_there(conn: &mut PgConnection) -> QueryResult<bool> {
    own::is_there(conn, "repair_change")
}
