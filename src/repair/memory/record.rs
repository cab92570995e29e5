use diesel::{
    PgConnection, QueryResult, RunQueryDsl,
    result::Error as DieselError,
    sql_query,
    sql_types::{Array, BigInt, Nullable, Text},
};

use super::What;
use crate::{
    Error, SchemaName,
    pg::{atomically, own, transient},
    quote,
};

/// Something that was done, with images as JSON.
#[derive(Debug, Clone, diesel::QueryableByName)]
pub(in crate::repair) struct Change {
    #[diesel(sql_type = Text)]
    pub(in crate::repair) key: String,
    #[diesel(sql_type = Nullable<Text>)]
    pub(in crate::repair) before: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    pub(in crate::repair) after: Option<String>,
}

/// Writes down what is done in one tenant, in the same transaction; or nothing, where nothing is to be remembered.
#[derive(Debug)]
pub(in crate::repair) struct Recorder<'s> {
    schema: &'s SchemaName,
    repair: Option<i64>,
    /// Whether the repair began with this tenant.
    begun_here: bool,
}

impl<'s> Recorder<'s> {
    /// One that remembers nothing.
    pub(in crate::repair) fn silent(schema: &'s SchemaName) -> Self {
        Self { schema, repair: None, begun_here: false }
    }

    /// One for the repair of this number or, where none has begun, for a new one. Makes the tables where there are
    /// none.
    pub(in crate::repair) fn begin(
        conn: &mut PgConnection,
        schema: &'s SchemaName,
        repair: Option<i64>,
    ) -> Result<Self, Error> {
        #[derive(diesel::QueryableByName)]
        struct Row {
            #[diesel(sql_type = BigInt)]
            id: i64,
        }
        if repair.is_some() {
            return Ok(Self { schema, repair, begun_here: false });
        }
        let begin = |conn: &mut PgConnection| -> QueryResult<Row> {
            own::have(conn, "repair_change", include_str!("tables.sql"))?;
            sql_query("INSERT INTO tenantry.repair (program) VALUES ($1) RETURNING id")
                .bind::<Text, _>(concat!("tenantry ", env!("CARGO_PKG_VERSION")))
                .get_result(conn)
        };
        let row = atomically(conn, begin).map_err(|error| failure(conn, error))?;
        Ok(Self { schema, repair: Some(row.id), begun_here: true })
    }

    /// Forgets a repair that was begun here and did nothing after all.
    pub(in crate::repair) fn end(self, conn: &mut PgConnection, changed: bool) -> QueryResult<Option<i64>> {
        if changed || !self.begun_here {
            return Ok(self.repair);
        }
        sql_query("DELETE FROM tenantry.repair WHERE id = $1")
            .bind::<Nullable<BigInt>, _>(self.repair)
            .execute(conn)?;
        Ok(None)
    }

    /// The statement that writes down what a query tells of rows: key, before and after; none where nothing is to be
    /// remembered. It is for the same message as the query, so that no row has to go to the program and back.
    pub(in crate::repair) fn statement(&self, table: &str, what: What, query: &str) -> Option<String> {
        Some(format!(
            "INSERT INTO tenantry.repair_change (repair, schema, \"table\", what, key, before, after) \
             SELECT {}, {}, {}, {}, key, before, after FROM {query} done",
            self.repair?,
            quote::literal(self.schema.as_str()),
            quote::literal(table),
            quote::literal(what.word()),
        ))
    }

    pub(in crate::repair) fn write(
        &self,
        conn: &mut PgConnection,
        table: &str,
        what: What,
        changes: &[Change],
    ) -> QueryResult<()> {
        let Some(repair) = self.repair else { return Ok(()) };
        if changes.is_empty() {
            return Ok(());
        }
        sql_query(
            "INSERT INTO tenantry.repair_change (repair, schema, \"table\", what, key, before, after) \
             SELECT $1, $2, $3, $4, key::jsonb, before::jsonb, after::jsonb \
             FROM unnest($5, $6, $7) WITH ORDINALITY u(key, before, after, at) ORDER BY at",
        )
        .bind::<BigInt, _>(repair)
        .bind::<Text, _>(self.schema.as_str())
        .bind::<Text, _>(table)
        .bind::<Text, _>(what.word())
        .bind::<Array<Text>, _>(changes.iter().map(|change| &change.key).collect::<Vec<_>>())
        .bind::<Array<Nullable<Text>>, _>(changes.iter().map(|change| change.before.as_ref()).collect::<Vec<_>>())
        .bind::<Array<Nullable<Text>>, _>(changes.iter().map(|change| change.after.as_ref()).collect::<Vec<_>>())
        .execute(conn)
        .map(|_| ())
    }
}

/// What passes is this tenant's failure alone; anything else would befall every other.
fn failure(conn: &mut PgConnection, error: DieselError) -> Error {
    match own::not_recorded(conn, &["repair", "repair_change"], error) {
        Error::Record(cause) => match Error::from(cause) {
            passing if transient::from(conn, &passing).is_some() => passing,
            Error::Query(cause) => Error::Record(cause),
            other => other,
        },
        denied => denied,
    }
}
