use std::collections::BTreeMap;

use diesel::{
    PgConnection, QueryResult, QueryableByName, RunQueryDsl,
    pg::Pg,
    sql_query,
    sql_types::{Array, BigInt, Bool, Text},
};
use serde::Serialize;

use super::{Belongings, Fill, Rules, Title, strays::Stray};
use crate::{
    SchemaName,
    directory::TenantEntry,
    pg::{
        closed::reading,
        tables::{self, Column, Reference, Tables},
        untrusted,
    },
    quote,
};

/// What was found in one tenant, with the structure that it was found by.
#[derive(Debug, Clone)]
pub struct Examined {
    /// What is wrong.
    pub findings: Vec<Symptom>,
    pub(crate) tenant: Tables,
    pub(crate) references: Vec<Reference>,
    /// The rows of `public` that belong to the tenant, and why.
    pub(crate) strays: BTreeMap<Stray, Title>,
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
    /// Rows of `public` belong to the tenant, by the [owner column](Rules::owner_column) or by what refers to what,
    /// and it does not have them.
    Strays {
        /// How many rows.
        rows: i64,
    },
    /// A sequence would hand out numbers that are taken.
    SequenceBehind {
        /// The column that it numbers.
        column: String,
    },
}

/// Looks through one tenant's schema, and through `public` for what belongs to it, for what a
/// [repair](crate::repair) can put right.
///
/// Rows that several tenants may own are nobody's, as far as one tenant's id can tell. Queries run in a transaction, or
/// a savepoint, in which no function but the server's own is found; where a policy would hide rows, that is an error.
///
/// # Errors
///
/// Those of its queries.
pub fn examine(conn: &mut PgConnection, tenant: &TenantEntry, rules: &Rules) -> QueryResult<Examined> {
    reading(conn, |conn| {
        untrusted::refuse(conn, &["public", tenant.schema.as_str()])?;
        let public = tables::read(conn, &SchemaName::public())?;
        let tables = tables::read(conn, &tenant.schema)?;
        let names = tables.tables.keys().cloned().collect();
        let belongings = Belongings::look(conn, &public, rules, std::slice::from_ref(tenant), &names)?;
        examine_rows(conn, tenant, rules, tables, &public, belongings.as_ref())
    })
}

/// [`examine`] with what all tenants have in common at hand, and the tenant's own tables.
pub(crate) fn examine_rows(
    conn: &mut PgConnection,
    tenant: &TenantEntry,
    rules: &Rules,
    tables: Tables,
    public: &Tables,
    belongings: Option<&Belongings>,
) -> QueryResult<Examined> {
    let schema = &tenant.schema;
    let references = references(&tables, public);
    let mut examined = Examined { findings: Vec::new(), tenant: tables, references, strays: BTreeMap::new() };
    examined.findings = nulls(conn, schema, &examined, rules)?;
    let orphans = orphans(conn, schema, &examined, public)?;
    examined.findings.extend(orphans);
    if let Some(belongings) = belongings {
        examined.strays = belongings.strays(conn, tenant, &examined.tenant)?;
    }
    let symptom = |table: &str, problem| Symptom { schema: schema.clone(), table: table.into(), problem };
    let mut strays = BTreeMap::<&str, i64>::new();
    examined.strays.keys().for_each(|stray| *strays.entry(&stray.table).or_default() += 1);
    examined.findings.extend(strays.into_iter().map(|(table, rows)| symptom(table, Problem::Strays { rows })));
    for (table, column) in behind(conn, schema, &examined.tenant)? {
        examined.findings.push(symptom(&table, Problem::SequenceBehind { column }));
    }
    Ok(examined)
}

/// The columns whose sequences have not come as far as their largest number.
fn behind(conn: &mut PgConnection, schema: &SchemaName, tables: &Tables) -> QueryResult<Vec<(String, String)>> {
    #[derive(QueryableByName)]
    struct Behind {
        #[diesel(sql_type = BigInt)]
        at: i64,
    }
    let numbered: Vec<(&String, &Column)> = tables
        .tables
        .iter()
        .flat_map(|(name, table)| table.columns.iter().map(move |column| (name, column)))
        .filter(|(_, column)| column.sequence.is_some() && !column.descends)
        .collect();
    let select = |(at, (table, column)): (usize, &(&String, &Column))| {
        let sequence = quote::qualified(schema.as_str(), column.sequence.as_deref().unwrap_or_default());
        let sequence = format!("{}::regclass", quote::literal(&sequence));
        format!(
            "SELECT {at}::bigint AS at FROM (SELECT max({}) AS largest FROM {}) c \
             WHERE has_sequence_privilege({sequence}, 'SELECT, USAGE') \
               AND c.largest IS NOT NULL \
               AND least(c.largest, (SELECT seqmax FROM pg_catalog.pg_sequence WHERE seqrelid = {sequence})) \
                 > coalesce(pg_sequence_last_value({sequence}), {}::numeric - 1)",
            quote::identifier(&column.name),
            quote::qualified(schema.as_str(), table),
            column.start.unwrap_or(1),
        )
    };
    let found: Vec<Behind> = ask(conn, numbered.iter().enumerate().map(select))?;
    let column = |Behind { at }| {
        let (table, column) = numbered[at as usize];
        (table.clone(), column.name.clone())
    };
    Ok(found.into_iter().map(column).collect())
}

/// The tenant's foreign keys and, since it may have lost some, those that `public` has between the same tables.
///
/// One that reaches into `public`, because the tenant's table did not exist when it was made, counts as the
/// one within the tenant that it should have been. One into a third schema says nothing of the tenant's own tables.
pub(crate) fn references(tenant: &Tables, public: &Tables) -> Vec<Reference> {
    let fits = |reference: &&Reference| {
        reference.inside
            && tenant.has(&reference.child, &reference.child_columns)
            && tenant.has(&reference.parent, &reference.parent_columns)
    };
    let mut all: Vec<Reference> = tenant.references.iter().chain(&public.references).filter(fits).cloned().collect();
    // The sort is stable, so the tenant's own comes before public's and is the one that is kept.
    all.sort_by(|one, other| one.ends().cmp(&other.ends()));
    all.dedup_by(|one, other| one.ends() == other.ends());
    all
}

fn nulls(
    conn: &mut PgConnection,
    schema: &SchemaName,
    examined: &Examined,
    rules: &Rules,
) -> QueryResult<Vec<Symptom>> {
    #[derive(QueryableByName)]
    struct Nulls {
        #[diesel(sql_type = BigInt)]
        at: i64,
        #[diesel(sql_type = BigInt)]
        rows: i64,
    }
    let fills: Vec<&Fill> = examined.fills(rules).collect();
    let select = |(at, fill): (usize, &&Fill)| {
        format!(
            "SELECT {at}::bigint AS at, count(*) AS rows FROM {} WHERE {} IS NULL",
            examined.tenant.only(&schema.quoted(), &fill.table),
            quote::identifier(&fill.column),
        )
    };
    let mut found: Vec<Nulls> = ask(conn, fills.iter().enumerate().map(select))?;
    found.retain(|nulls| nulls.rows > 0);
    let symptom = |Nulls { at, rows }| {
        let Fill { table, column, .. } = fills[at as usize].clone();
        Symptom { schema: schema.clone(), table, problem: Problem::Nulls { column, rows } }
    };
    Ok(found.into_iter().map(symptom).collect())
}

fn orphans(
    conn: &mut PgConnection,
    schema: &SchemaName,
    examined: &Examined,
    public: &Tables,
) -> QueryResult<Vec<Symptom>> {
    #[derive(QueryableByName)]
    struct Orphan {
        #[diesel(sql_type = BigInt)]
        at: i64,
        #[diesel(sql_type = Array<Text>)]
        key: Vec<String>,
        #[diesel(sql_type = BigInt)]
        rows: i64,
        #[diesel(sql_type = Bool)]
        in_public: bool,
    }
    let tenant = &examined.tenant;
    let select = |(at, reference): (usize, &Reference)| {
        let columns: Vec<String> =
            reference.child_columns.iter().map(|name| format!("c.{}", quote::identifier(name))).collect();
        // The columns of one key may have collations of their own, and an array has one.
        let keys: Vec<String> = columns.iter().map(|column| format!("{column}::text COLLATE \"C\"")).collect();
        let given: Vec<String> = columns.iter().map(|column| format!("{column} IS NOT NULL")).collect();
        let exists = |schema: &SchemaName, tables: &Tables| {
            let same = same_key(reference, ("c", tenant), ("p", tables));
            format!("EXISTS (SELECT FROM {} p WHERE {same})", tables.only(&schema.quoted(), &reference.parent))
        };
        let in_public = match public.has(&reference.parent, &reference.parent_columns) {
            true => exists(&SchemaName::public(), public),
            false => "false".into(),
        };
        format!(
            "SELECT {at}::bigint AS at, ARRAY[{keys}] AS key, count(*) AS rows, bool_or({in_public}) AS in_public \
             FROM {child} c WHERE {given} AND NOT {here} GROUP BY 2",
            keys = keys.join(", "),
            child = tenant.only(&schema.quoted(), &reference.child),
            given = given.join(" AND "),
            here = exists(schema, tenant),
        )
    };
    let mut found: Vec<Orphan> = ask(conn, examined.references.iter().enumerate().map(select))?;
    found.sort_by(|one, other| (one.at, &one.key).cmp(&(other.at, &other.key)));
    let symptom = |orphan: Orphan| {
        let reference = &examined.references[orphan.at as usize];
        Symptom {
            schema: schema.clone(),
            table: reference.child.clone(),
            problem: Problem::Orphans {
                columns: reference.child_columns.clone(),
                parent: reference.parent.clone(),
                key: orphan.key,
                rows: orphan.rows,
                in_public: orphan.in_public,
            },
        }
    };
    Ok(found.into_iter().map(symptom).collect())
}

/// The answers to many questions of one kind, each of which says which it is, in few messages.
fn ask<T>(conn: &mut PgConnection, selects: impl Iterator<Item = String>) -> QueryResult<Vec<T>>
where
    T: QueryableByName<Pg> + 'static,
{
    let selects: Vec<String> = selects.collect();
    let mut answers = Vec::new();
    for chunk in selects.chunks(100) {
        answers.append(&mut sql_query(chunk.join(" UNION ALL ")).load(conn)?);
    }
    Ok(answers)
}

/// The condition that the row `child` refers to the row `parent`; each comes with the tables of its schema.
pub(crate) fn same_key(reference: &Reference, child: (&str, &Tables), parent: (&str, &Tables)) -> String {
    let pairs = reference.child_columns.iter().zip(&reference.parent_columns);
    let same = |(c, p): (&String, &String)| {
        tables::equal((child.0, child.1, &reference.child, c), (parent.0, parent.1, &reference.parent, p))
    };
    pairs.map(same).collect::<Vec<_>>().join(" AND ")
}
