//! Puts constraints back as they were.

use diesel::{
    OptionalExtension, PgConnection, QueryResult, QueryableByName, RunQueryDsl,
    connection::SimpleConnection,
    sql_query,
    sql_types::{Bool, Nullable, Text},
};
use serde_json::Value;

use super::{loose::commenting, tenant::Work};
use crate::{
    Error,
    pg::closed::CLOSE,
    quote,
    repair::{
        attempt::{alter, attempt},
        memory::{PastChange, What},
        settings::open,
    },
};

pub(super) fn put_back(conn: &mut PgConnection, work: &mut Work<'_>) -> Result<(), Error> {
    let mut changes: Vec<PastChange> = work.of(What::Constraint).into_values().flatten().collect();
    if changes.is_empty() {
        return Ok(());
    }
    changes.sort_by_key(|change| std::cmp::Reverse(change.id));
    // Definitions are compared as they were remembered: printed with the tenant on the path.
    open(conn, work.schema)?;
    if work.writes() {
        conn.batch_execute("SET CONSTRAINTS ALL IMMEDIATE; SET CONSTRAINTS ALL DEFERRED")?;
    }
    for change in changes {
        let part = |key: &str| change.key[key].as_str().map(str::to_owned);
        let statements = match (part("column"), part("name")) {
            (Some(column), _) => may_be_null_again(conn, work, &change.table, &column)?,
            (_, Some(name)) => {
                let text = |image: &Option<Value>, key: &str| Some(image.as_ref()?[key].as_str()?.to_owned());
                let after = text(&change.after, "definition");
                let before = text(&change.before, "definition").zip(text(&change.before, "name"));
                as_before(conn, work, &change.table, &name, after, before)?
            }
            _ => None,
        };
        let Some(statements) = statements else {
            work.keep(&change.table, &change.key, "was changed since, or is gone");
            continue;
        };
        // Rows that were written since may not allow it, nor what was built upon it.
        if work.writes()
            && let Err(words) = attempt(conn, |conn| alter(conn, &statements))?
        {
            work.keep(&change.table, &change.key, &format!("cannot be as it was: {words}"));
            continue;
        }
        work.done.push(change.id);
        work.undone.constraints.push(format!("{} of {}", super::tenant::text(&change.key), change.table));
    }
    Ok(conn.batch_execute(CLOSE)?)
}

fn may_be_null_again(
    conn: &mut PgConnection,
    work: &Work<'_>,
    table: &str,
    column: &str,
) -> QueryResult<Option<String>> {
    #[derive(QueryableByName)]
    struct Column {
        #[diesel(sql_type = Bool)]
        required: bool,
    }
    let found: Option<Column> = sql_query(
        "SELECT a.attnotnull AS required FROM pg_catalog.pg_attribute a \
         JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) a.attrelid \
         JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace \
         WHERE n.nspname OPERATOR(pg_catalog.=) $1 AND c.relname OPERATOR(pg_catalog.=) $2 \
           AND a.attname OPERATOR(pg_catalog.=) $3 AND NOT a.attisdropped",
    )
    .bind::<Text, _>(work.schema.as_str())
    .bind::<Text, _>(table)
    .bind::<Text, _>(column)
    .get_result(conn)
    .optional()?;
    let alter = format!("ALTER TABLE {} ALTER COLUMN {} DROP NOT NULL", name(work, table), quote::identifier(column));
    Ok(found.filter(|found| found.required).map(|_| alter))
}

/// The statements that put the constraint back, if it is as the repair has left it.
fn as_before(
    conn: &mut PgConnection,
    work: &Work<'_>,
    table: &str,
    constraint: &str,
    after: Option<String>,
    before: Option<(String, String)>,
) -> QueryResult<Option<String>> {
    #[derive(QueryableByName)]
    struct Now {
        #[diesel(sql_type = Text)]
        definition: String,
        #[diesel(sql_type = Nullable<Text>)]
        comment: Option<String>,
    }
    let now: Option<Now> = sql_query(
        "SELECT pg_catalog.pg_get_constraintdef(k.oid) AS definition, \
                (SELECT d.description FROM pg_catalog.pg_description d \
                 WHERE d.objoid OPERATOR(pg_catalog.=) k.oid AND d.objsubid OPERATOR(pg_catalog.=) 0 \
                   AND d.classoid OPERATOR(pg_catalog.=) 'pg_catalog.pg_constraint'::regclass) AS comment \
         FROM pg_catalog.pg_constraint k \
         JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) k.conrelid \
         JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace \
         WHERE n.nspname OPERATOR(pg_catalog.=) $1 AND c.relname OPERATOR(pg_catalog.=) $2 \
           AND k.conname OPERATOR(pg_catalog.=) $3",
    )
    .bind::<Text, _>(work.schema.as_str())
    .bind::<Text, _>(table)
    .bind::<Text, _>(constraint)
    .get_result(conn)
    .optional()?;
    if now.as_ref().map(|now| &now.definition) != after.as_ref() {
        return Ok(None);
    }
    let (table, constraint) = (name(work, table), quote::identifier(constraint));
    let drop = format!("ALTER TABLE {table} DROP CONSTRAINT {constraint}");
    Ok(Some(match before {
        Some((definition, name)) => {
            let name = quote::identifier(&name);
            // What somebody has written of the one holds for the other.
            let comment = now.and_then(|now| now.comment);
            let comment = commenting(&table, &name, comment.as_deref());
            format!("{drop}; ALTER TABLE {table} ADD CONSTRAINT {name} {definition}{comment}")
        }
        None => drop,
    }))
}

fn name(work: &Work<'_>, table: &str) -> String {
    format!("{}.{}", work.schema.quoted(), quote::identifier(table))
}
