//! Has the constraints of a tenant be as the migrations make them.

use std::collections::{BTreeMap, BTreeSet};

use diesel::{PgConnection, QueryResult, QueryableByName, RunQueryDsl, sql_query, sql_types::Text};
use serde_json::json;

use super::{
    Constrained, How, Left, Outcome, Reason,
    attempt::{alter, attempt},
    memory::{Change, Recorder, What},
    settings::writing,
};
use crate::{
    Error, SchemaName,
    doctor::forbidden_nulls,
    pg::tables::Tables,
    quote,
    structure::{self, Change as Changed, Difference, Structure, compare},
};

/// The statements that put one constraint right. Names are bare.
#[derive(Debug)]
pub(super) struct Cure {
    pub(super) what: Constrained,
    statements: Vec<String>,
}

impl Cure {
    /// Whether it adds a foreign key into `public`.
    pub(super) fn leads_into_public(&self) -> bool {
        self.statements.iter().any(|statement| statement.contains(" REFERENCES public."))
    }
}

/// What to do so that the constraints are those of the blueprint: keys first, since others refer to them.
pub(super) fn propose(wanted: &Structure, found: &Structure, tables: &Tables) -> Vec<Cure> {
    let differences = compare(wanted, found);
    let mut cures: Vec<Cure> = forbidden_nulls(wanted, found).into_iter().map(required).collect();
    let retyped = retyped(wanted, found);
    // With columns of other types, the same expression would be another constraint, and be found again.
    let is_told = |difference: &&Difference| {
        let is_expression = |text: &String| ["CHECK ", "EXCLUDE "].iter().any(|kind| text.starts_with(kind));
        let is_retyped = difference.table.as_deref().is_some_and(|table| retyped.contains(table));
        !(is_retyped && difference.expected.as_ref().is_some_and(is_expression))
    };
    cures.extend(differences.iter().filter(is_told).filter_map(|difference| cure(difference, &differences, tables)));
    cures.sort_by_key(|cure| cure.statements.iter().any(|statement| statement.contains(" FOREIGN KEY ")));
    cures
}

/// Carries them out, each by itself: what the server does not take is left as it was.
pub(super) fn put_right(
    conn: &mut PgConnection,
    schema: &SchemaName,
    cures: &[Cure],
    recorder: &Recorder<'_>,
    outcome: &mut Outcome,
) -> Result<(), Error> {
    for Cure { what, statements } in cures {
        let mut changed = false;
        // Definitions are remembered as they are printed, and added, with the tenant on the path.
        let put_right = |conn: &mut PgConnection| {
            let before = definitions(conn, schema, what)?;
            for statement in statements {
                alter(conn, statement)?;
            }
            let after = definitions(conn, schema, what)?;
            changed = before != after;
            match changed {
                true => recorder.write(conn, &what.table, What::Constraint, &[change(what, &before, &after)]),
                false => Ok(()),
            }
        };
        let done = attempt(conn, |conn| writing(conn, schema, put_right))?;
        match done {
            Ok(()) if changed => outcome.constraints.push(what.clone()),
            // Somebody else has been faster, and an undo would take that back.
            Ok(()) => {}
            Err(words) => {
                let reason = Reason::Refused { words };
                let (table, key) = (what.table.clone(), what.name.clone());
                outcome.left.push(Left { table, key, rows: 0, reason });
            }
        }
    }
    Ok(())
}

/// The tables of which a column has another type or collation than it should.
fn retyped<'s>(wanted: &'s Structure, found: &'s Structure) -> BTreeSet<&'s str> {
    let columns = |structure: &'s Structure| {
        let columns = structure.objects.iter().filter(|object| object.kind == structure::Kind::Column);
        columns.map(|column| ((column.table.as_deref(), column.name.as_str()), column.facts.get(..2)))
    };
    let known: BTreeMap<_, _> = columns(wanted).collect();
    let other = columns(found).filter(|(name, facts)| known.get(name).is_some_and(|known| known != facts));
    other.filter_map(|((table, _), _)| table).collect()
}

fn required((table, column): (String, String)) -> Cure {
    let (name, of) = (quote::identifier(&column), quote::identifier(&table));
    let statements = vec![format!("ALTER TABLE {of} ALTER COLUMN {name} SET NOT NULL")];
    Cure { what: Constrained { table, name: column, how: How::Required }, statements }
}

fn cure(difference: &Difference, all: &[Difference], tables: &Tables) -> Option<Cure> {
    let table = difference.table.clone().filter(|_| difference.kind == structure::Kind::Constraint)?;
    let of = quote::identifier(&table);
    let name = quote::identifier(&difference.name);
    let expected = difference.expected.as_deref()?;
    let add = || {
        // A key is made at once. So is any constraint of a partitioned table, for which some servers know no other way.
        let at_once = tables.tables.get(&table).is_some_and(|table| table.partitioned)
            || !["FOREIGN KEY ", "CHECK "].iter().any(|kind| expected.starts_with(kind))
            || expected.ends_with(" NOT VALID");
        let add = format!("ALTER TABLE {of} ADD CONSTRAINT {name} {expected}");
        match at_once {
            true => vec![add],
            false => vec![format!("{add} NOT VALID"), format!("ALTER TABLE {of} VALIDATE CONSTRAINT {name}")],
        }
    };
    let (how, statements) = match difference.change {
        Changed::Missing => match all.iter().find(|other| stands_in_for(other, difference)) {
            Some(wrong) => (How::Replaced, [vec![drop(&of, &wrong.name)], add()].concat()),
            None => (How::Added, add()),
        },
        Changed::Changed if difference.cure.as_ref().is_some_and(|cure| cure.contains(" VALIDATE CONSTRAINT ")) => {
            (How::Validated, difference.cure.clone().into_iter().collect())
        }
        // Others may refer to a key.
        Changed::Changed if expected.starts_with("FOREIGN KEY ") || expected.starts_with("CHECK ") => {
            let found = difference.found_name.as_deref().unwrap_or(&difference.name);
            (How::Replaced, [vec![drop(&of, found)], add()].concat())
        }
        _ => return None,
    };
    // One that is only validated keeps the name that it has.
    let name = difference.found_name.as_ref().filter(|_| how == How::Validated).unwrap_or(&difference.name);
    Some(Cure { what: Constrained { table, name: name.clone(), how }, statements })
}

fn drop(table: &str, constraint: &str) -> String {
    format!("ALTER TABLE {table} DROP CONSTRAINT {}", quote::identifier(constraint))
}

/// Whether one foreign key is there in place of another of the same columns, because it leads elsewhere.
fn stands_in_for(extra: &Difference, missing: &Difference) -> bool {
    let columns = |definition: &Option<String>| -> Option<String> {
        let definition = definition.as_deref()?.strip_prefix("FOREIGN KEY ")?;
        Some(definition.split(" REFERENCES ").next()?.to_owned())
    };
    extra.change == Changed::Extra
        && (extra.kind, &extra.table) == (missing.kind, &missing.table)
        && columns(&extra.found).is_some_and(|found| Some(found) == columns(&missing.expected))
}

/// What is remembered, from which the constraint can be had again as it was.
fn change(what: &Constrained, before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) -> Change {
    if what.how == How::Required {
        return Change { key: json!({ "column": what.name }).to_string(), before: None, after: None };
    }
    let gone = before.iter().find(|(name, definition)| after.get(*name) != Some(*definition));
    let before = gone.map(|(name, definition)| json!({ "name": name, "definition": definition }).to_string());
    let after = after.get(&what.name).map(|definition| json!({ "definition": definition }).to_string());
    Change { key: json!({ "name": what.name }).to_string(), before, after }
}

/// The constraints of a table or, of those that forbid nulls, the columns: PostgreSQL 18 alone keeps them as such.
fn definitions(
    conn: &mut PgConnection,
    schema: &SchemaName,
    what: &Constrained,
) -> QueryResult<BTreeMap<String, String>> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        name: String,
        #[diesel(sql_type = Text)]
        definition: String,
    }
    let query = match what.how {
        How::Required => {
            "SELECT attname::text AS name, 'NOT NULL' AS definition FROM pg_catalog.pg_attribute \
             WHERE attrelid OPERATOR(pg_catalog.=) $1::regclass AND attnotnull"
        }
        _ => {
            "SELECT conname::text AS name, pg_catalog.pg_get_constraintdef(oid) AS definition \
             FROM pg_catalog.pg_constraint \
             WHERE conrelid OPERATOR(pg_catalog.=) $1::regclass AND contype OPERATOR(pg_catalog.<>) 'n'::\"char\""
        }
    };
    let rows: Vec<Row> = sql_query(query).bind::<Text, _>(quote::qualified(schema.as_str(), &what.table)).load(conn)?;
    Ok(rows.into_iter().map(|Row { name, definition }| (name, definition)).collect())
}
