use diesel::{
    PgConnection, QueryResult, RunQueryDsl, sql_query,
    sql_types::{Array, BigInt, Bool, Text},
};

use serde::Serialize;

use super::{Fill, Rules};
use crate::{
    SchemaName,
    pg::tables::{self, Reference, Tables},
    quote,
};

/// What was found in one tenant, with the structure that it was found by.
#[derive(Debug, Clone)]
pub struct Examined {
    /// What is wrong.
    pub findings: Vec<Symptom>,
    pub(crate) tenant: Tables,
    pub(crate) references: Vec<Reference>,
}

impl Examined {
    /// The fills whose columns this tenant has.
    pub(crate) fn fills<'r>(&self, rules: &'r Rules) -> impl Iterator<Item = &'r Fill> {
        rules.fills.iter().filter(|fill| self.tenant.has(&fill.table, std::slice::from_ref(&fill.column)))
    }
}

/// Something that is wrong with the rows of one tenant, as a [repair](crate::repair) needs to know it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Symptom {
    /// Where.
    pub schema: SchemaName,
    /// In which of its tables.
    pub table: String,
    /// What.
    #[serde(flatten)]
    pub problem: Problem,
}

/// What can be wrong with a row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "problem", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Problem {
    /// A column that a [`Fill`] names is null in some rows.
    Nulls {
        /// The column.
        column: String,
        /// How many rows.
        rows: i64,
    },
    /// Rows refer to one that is not in their schema.
    Orphans {
        /// The referring columns.
        columns: Vec<String>,
        /// The table that should have the row.
        parent: String,
        /// The value of the referring columns, as text.
        key: Vec<String>,
        /// How many rows refer to it.
        rows: i64,
        /// Whether `public` has the row.
        in_public: bool,
    },
}

/// Looks through one tenant's schema for what a [repair](crate::repair) can put right.
///
/// # Errors
///
/// Those of its queries.
pub fn examine(conn: &mut PgConnection, schema: &SchemaName, rules: &Rules) -> QueryResult<Examined> {
    let public = tables::read(conn, &SchemaName::public())?;
    examine_beside(conn, schema, rules, &public)
}

/// [`examine`] with `public`'s structure at hand.
pub(crate) fn examine_beside(
    conn: &mut PgConnection,
    schema: &SchemaName,
    rules: &Rules,
    public: &Tables,
) -> QueryResult<Examined> {
    let tenant = tables::read(conn, schema)?;
    let references = references(&tenant, public);
    let mut examined = Examined { findings: Vec::new(), tenant, references };
    let fills: Vec<&Fill> = examined.fills(rules).collect();
    for fill in fills {
        examined.findings.extend(nulls(conn, schema, fill)?);
    }
    for reference in examined.references.clone() {
        examined.findings.extend(orphans(conn, schema, &reference, public)?);
    }
    Ok(examined)
}

/// The tenant's foreign keys and, since it may have lost some, those that `public` has between the same tables.
///
/// One that reaches into `public`, because the tenant's table did not exist when it was made, counts as the
/// one within the tenant that it should have been.
fn references(tenant: &Tables, public: &Tables) -> Vec<Reference> {
    let fits = |reference: &&Reference| {
        tenant.has(&reference.child, &reference.child_columns)
            && tenant.has(&reference.parent, &reference.parent_columns)
    };
    let mut all: Vec<Reference> = tenant.references.iter().chain(&public.references).filter(fits).cloned().collect();
    // The sort is stable, so the tenant's own comes before public's and is the one that is kept.
    all.sort_by(|one, other| one.ends().cmp(&other.ends()));
    all.dedup_by(|one, other| one.ends() == other.ends());
    all
}

fn nulls(conn: &mut PgConnection, schema: &SchemaName, fill: &Fill) -> QueryResult<Option<Symptom>> {
    #[derive(diesel::QueryableByName)]
    struct Count {
        #[diesel(sql_type = BigInt)]
        rows: i64,
    }
    let count: Count = sql_query(format!(
        "SELECT count(*) AS rows FROM {}.{} WHERE {} IS NULL",
        schema.quoted(),
        quote::identifier(&fill.table),
        quote::identifier(&fill.column),
    ))
    .get_result(conn)?;
    Ok((count.rows > 0).then(|| Symptom {
        schema: schema.clone(),
        table: fill.table.clone(),
        problem: Problem::Nulls { column: fill.column.clone(), rows: count.rows },
    }))
}

fn orphans(
    conn: &mut PgConnection,
    schema: &SchemaName,
    reference: &Reference,
    public: &Tables,
) -> QueryResult<Vec<Symptom>> {
    #[derive(diesel::QueryableByName)]
    struct Orphan {
        #[diesel(sql_type = Array<Text>)]
        key: Vec<String>,
        #[diesel(sql_type = BigInt)]
        rows: i64,
        #[diesel(sql_type = Bool)]
        in_public: bool,
    }
    let columns: Vec<String> =
        reference.child_columns.iter().map(|name| format!("c.{}", quote::identifier(name))).collect();
    let keys: Vec<String> = columns.iter().map(|column| format!("{column}::text")).collect();
    let given: Vec<String> = columns.iter().map(|column| format!("{column} IS NOT NULL")).collect();
    let parent = quote::identifier(&reference.parent);
    let exists = |schema: &SchemaName| {
        format!("EXISTS (SELECT FROM {}.{parent} p WHERE {})", schema.quoted(), same_key(reference, "c", "p"))
    };
    let in_public = match public.has(&reference.parent, &reference.parent_columns) {
        true => exists(&SchemaName::public()),
        false => "false".into(),
    };
    let found: Vec<Orphan> = sql_query(format!(
        "SELECT ARRAY[{keys}] AS key, count(*) AS rows, bool_or({in_public}) AS in_public \
         FROM {schema}.{child} c WHERE {given} AND NOT {here} GROUP BY 1 ORDER BY 1",
        keys = keys.join(", "),
        schema = schema.quoted(),
        child = quote::identifier(&reference.child),
        given = given.join(" AND "),
        here = exists(schema),
    ))
    .load(conn)?;
    let finding = |orphan: Orphan| Symptom {
        schema: schema.clone(),
        table: reference.child.clone(),
        problem: Problem::Orphans {
            columns: reference.child_columns.clone(),
            parent: reference.parent.clone(),
            key: orphan.key,
            rows: orphan.rows,
            in_public: orphan.in_public,
        },
    };
    Ok(found.into_iter().map(finding).collect())
}

/// The condition that the row `child` refers to the row `parent`.
pub(crate) fn same_key(reference: &Reference, child: &str, parent: &str) -> String {
    let pairs = reference.child_columns.iter().zip(&reference.parent_columns);
    let equal = pairs.map(|(c, p)| format!("{child}.{} = {parent}.{}", quote::identifier(c), quote::identifier(p)));
    equal.collect::<Vec<_>>().join(" AND ")
}
