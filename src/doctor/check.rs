//! What is asked of the rows of one table, for any schema that is built alike.

use super::{
    Fix, Kind,
    draft::{Draft, plural},
};
use crate::{
    SchemaName,
    pg::tables::{Tables, equal_as_they_are},
    quote,
};

/// Everything that is asked of one table's rows.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct TableChecks {
    pub(super) table: String,
    /// Whether its rows are in other tables.
    pub(super) partitioned: bool,
    /// The columns that tell a row from others, none where nothing does.
    pub(super) key: Vec<String>,
    pub(super) checks: Vec<Check>,
}

/// A question that some rows answer with yes, if something is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Check {
    /// The column is null. Some rule may know what to fill it with.
    Null { column: String, fills: bool },
    /// What it refers to is not in the schema; maybe it is in `public`, if that has such a table.
    Orphan {
        columns: Vec<String>,
        parent: String,
        /// The condition that the row `c` refers to the row `p` of the parent.
        same: String,
        partitioned: bool,
        /// Whether the parent is found by an index.
        indexed: bool,
        /// The same of the parent in `public`.
        twin: Option<(Partitioned, String)>,
    },
    /// It names another tenant than this one as its owner.
    Owner { column: String },
    /// What it refers to is not in `public`.
    Dangling { column: String, parent: String, same: String, indexed: bool, owner: bool },
    /// The sequence has not come as far.
    Sequence { column: String, sequence: String, start: i64, descends: bool },
    /// `public` has a row `p` of the same key: the same, or another.
    Twin { key: Vec<String>, same_key: String, compared: Vec<String>, partitioned: Partitioned, same: bool },
}

/// Whether a table's rows are in its partitions.
pub(super) type Partitioned = bool;

/// The tenant that a question is asked of.
pub(super) struct Asked<'t> {
    pub(super) schema: &'t SchemaName,
    pub(super) id: Option<String>,
}

impl TableChecks {
    /// The rows, called `c`.
    pub(super) fn from(&self, schema: &SchemaName) -> String {
        format!("{}{} c", only(self.partitioned), quote::qualified(schema.as_str(), &self.table))
    }

    /// The expression that shows which row it is.
    fn key_text(&self) -> String {
        match self.key.as_slice() {
            [] => "c.ctid::text".into(),
            key => texts("c", key),
        }
    }
}

impl Check {
    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::Null { .. } => Kind::Nulls,
            Self::Orphan { .. } => Kind::Orphan,
            Self::Owner { .. } => Kind::WrongOwner,
            Self::Dangling { .. } => Kind::Dangling,
            Self::Sequence { .. } => Kind::SequenceBehind,
            Self::Twin { same: true, .. } => Kind::Copy,
            Self::Twin { same: false, .. } => Kind::Conflict,
        }
    }

    /// Whether any row is ill, as an aggregate over them; `None` where it does not apply to this tenant.
    pub(super) fn any(&self, asked: &Asked<'_>) -> Option<String> {
        match self {
            // The largest alone, since asking the sequence is not free. Null where the role may not.
            Self::Sequence { column, sequence, start, descends } => {
                let (end, beyond) = if *descends { ("min", "<") } else { ("max", ">") };
                let sequence = regclass(asked.schema, sequence);
                let column = quote::identifier(column);
                Some(format!(
                    "CASE WHEN has_sequence_privilege({sequence}, 'SELECT, USAGE') THEN coalesce({end}(c.{column}) \
                     {beyond} coalesce(pg_sequence_last_value({sequence}), {}), false) END",
                    before(*start, *descends),
                ))
            }
            _ => self.condition(asked).map(|condition| some(&condition)),
        }
    }

    /// The question to one row.
    pub(super) fn condition(&self, asked: &Asked<'_>) -> Option<String> {
        let column = |name: &str| format!("c.{}", quote::identifier(name));
        Some(match self {
            Self::Null { column: name, .. } => format!("{} IS NULL", column(name)),
            Self::Orphan { columns, parent, same, partitioned, indexed, .. } => {
                let given: Vec<String> = columns.iter().map(|name| format!("{} IS NOT NULL", column(name))).collect();
                let parent = format!("{}{}", only(*partitioned), quote::qualified(asked.schema.as_str(), parent));
                format!("{} AND {}", given.join(" AND "), absent(&parent, same, *indexed))
            }
            Self::Owner { column: name } => {
                let id = asked.id.as_ref()?;
                format!("lower({}::text) <> {}", column(name), quote::literal(id))
            }
            // A wrong owner is told as that.
            Self::Dangling { owner: true, .. } if asked.id.is_some() => return None,
            Self::Dangling { column: name, parent, same, indexed, .. } => {
                let parent = quote::qualified("public", parent);
                format!("{} IS NOT NULL AND {}", column(name), absent(&parent, same, *indexed))
            }
            Self::Sequence { column: name, sequence, start, descends } => {
                let beyond = if *descends { "<" } else { ">" };
                let sequence = regclass(asked.schema, sequence);
                let first = before(*start, *descends);
                format!("{} {beyond} (SELECT coalesce(pg_sequence_last_value({sequence}), {first}))", column(name))
            }
            Self::Twin { .. } => return None,
        })
    }

    /// Whether any row has one of the same key in `public`, as an aggregate over the rows.
    pub(super) fn has_twin(&self, table: &str) -> Option<String> {
        let Self::Twin { same_key, partitioned, .. } = self else { return None };
        let twin = format!("{}{}", only(*partitioned), quote::qualified("public", table));
        Some(some(&format!("(SELECT true FROM {twin} p WHERE {same_key} LIMIT 1)")))
    }

    /// The question to one row, where it needs the row of `public`.
    fn twin(&self, table: &str) -> Option<String> {
        let Self::Twin { same_key, compared, partitioned, same, .. } = self else { return None };
        let twin = format!("{}{}", only(*partitioned), quote::qualified("public", table));
        let row = |alias: &str| format!("ROW({})::text", listed(alias, compared));
        let comparison = if *same { "IS NOT DISTINCT FROM" } else { "IS DISTINCT FROM" };
        Some(format!(
            "coalesce((SELECT {} {comparison} {} FROM {twin} p WHERE {same_key} LIMIT 1), false)",
            row("p"),
            row("c"),
        ))
    }

    /// The question to one row of this table.
    pub(super) fn condition_in(&self, table: &TableChecks, asked: &Asked<'_>) -> Option<String> {
        self.twin(&table.table).or_else(|| self.condition(asked))
    }

    /// A query for how many rows are ill, up to five examples of them, and whatever else there is to tell.
    pub(super) fn details(&self, table: &TableChecks, asked: &Asked<'_>, at: usize) -> Option<String> {
        let condition = self.condition_in(table, asked)?;
        let from = table.from(asked.schema);
        let (example, more) = match self {
            Self::Orphan { columns, parent, twin, .. } => {
                let there = |(partitioned, same): &(Partitioned, String)| {
                    format!(
                        "(count(*) FILTER (WHERE EXISTS (SELECT FROM {}{} p WHERE {same})))::text",
                        only(*partitioned),
                        quote::qualified("public", parent),
                    )
                };
                (texts("c", columns), twin.as_ref().map_or("'0'".into(), there))
            }
            Self::Dangling { column, .. } => (texts("c", std::slice::from_ref(column)), "''".into()),
            Self::Owner { column } => {
                let column = quote::identifier(column);
                (table.key_text(), format!("array_to_string((array_agg(DISTINCT c.{column}::text))[1:3], ' ')"))
            }
            Self::Sequence { sequence, .. } => {
                let sequence = regclass(asked.schema, sequence);
                (table.key_text(), format!("coalesce(pg_sequence_last_value({sequence})::text, '')"))
            }
            _ => (table.key_text(), "''".into()),
        };
        Some(format!(
            "SELECT {at} AS at, count(*) AS rows, coalesce({more}, '') AS more, \
                    ARRAY(SELECT e.key FROM (SELECT DISTINCT {example} AS key FROM {from} WHERE {condition}) e \
                          ORDER BY length(e.key), e.key LIMIT {}) AS examples \
             FROM {from} WHERE {condition}",
            super::EXAMPLES,
        ))
    }

    /// The finding. `owner` tells whose an id is.
    pub(super) fn draft(
        &self,
        table: &TableChecks,
        rows: u64,
        more: &str,
        owner: &dyn Fn(&str) -> String,
        schema: &SchemaName,
    ) -> Draft {
        let name = &table.table;
        let (count, verb) = (plural(rows, "row"), if rows == 1 { "s" } else { "" });
        let repair = || Fix::Command("tenantry repair".into());
        let (says, fix, columns) = match self {
            Self::Null { column, fills } => {
                let fix = match fills {
                    true => repair(),
                    false => Fix::None("nobody knows what belongs there: fill it, then SET NOT NULL".into()),
                };
                (format!("{column} is null in {count} of {name}"), fix, vec![column.clone()])
            }
            Self::Orphan { columns, parent, .. } => {
                let there: u64 = more.parse().unwrap_or_default();
                let place = match there {
                    0 => ", nor in public".into(),
                    _ if there == rows => ", but in public".into(),
                    some => format!(", {some} of them in public"),
                };
                let fix = match there {
                    0 => Fix::None(format!("restore what is missing of {parent}, or take the reference away")),
                    _ => repair(),
                };
                let through = columns.join(", ");
                let says = format!("{count} of {name} refer{verb} by {through} to {parent} that is not there{place}");
                (says, fix, columns.clone())
            }
            Self::Owner { column } => {
                let owners: Vec<String> = more.split(' ').map(owner).collect();
                let says = format!("{count} of {name} belong{verb} to {} by {column}", owners.join(", "));
                let fix = Fix::None("only a person knows whether the column is wrong or the place".into());
                (says, fix, vec![column.clone()])
            }
            Self::Dangling { column, parent, .. } => {
                let says = format!("{count} of {name} refer{verb} by {column} to public.{parent} that is not there");
                let fix =
                    Fix::None("only a person knows whether to restore what is missing or to remove the row".into());
                (says, fix, vec![column.clone()])
            }
            Self::Sequence { column, sequence, descends, .. } => {
                let last = if more.is_empty() { "was never used".into() } else { format!("is at {more}") };
                let past = if *descends { "smaller" } else { "larger" };
                let says = format!("sequence {sequence} {last}, and {count} of {name} {} a {past} {column}", has(rows));
                let end = if *descends { "min" } else { "max" };
                let fix = format!(
                    "SELECT setval({}, (SELECT {end}({}) FROM {}))",
                    regclass(schema, sequence),
                    quote::identifier(column),
                    quote::qualified(schema.as_str(), name),
                );
                (says, Fix::Sql(fix), vec![column.clone()])
            }
            Self::Twin { key, same: true, .. } => (
                format!("{count} of {name} {} in public too, just the same", is(rows)),
                Fix::Command("tenantry repair --remove-originals".into()),
                key.clone(),
            ),
            Self::Twin { key, same: false, .. } => (
                format!("{count} of {name} {} another row under the same key in public", has(rows)),
                Fix::None("only a person knows which of the two is right".into()),
                key.clone(),
            ),
        };
        let mut draft = Draft::new(self.kind(), says, fix).table(name);
        draft.finding.columns = columns;
        draft
    }
}

/// Whether the condition is true of any row, as an aggregate over the rows.
fn some(condition: &str) -> String {
    // For bool_or() as for max(), the planner makes another plan of the whole table, in case an index has the answer.
    format!("count(*) FILTER (WHERE {condition}) > 0")
}

/// The condition that no row `p` of the parent is the same.
fn absent(parent: &str, same: &str, indexed: bool) -> String {
    // For EXISTS the planner makes two plans, of which one reads all of the parent: for a large shared one, and for
    // each of many small tenants, that takes long. Without an index it is the better one.
    match indexed {
        true => format!("(SELECT true FROM {parent} p WHERE {same} LIMIT 1) IS NULL"),
        false => format!("NOT EXISTS (SELECT FROM {parent} p WHERE {same})"),
    }
}

/// What a sequence that was never used has come past.
fn before(start: i64, descends: bool) -> String {
    format!("({start}::numeric {} 1)", if descends { "+" } else { "-" })
}

fn regclass(schema: &SchemaName, name: &str) -> String {
    format!("{}::regclass", quote::literal(&quote::qualified(schema.as_str(), name)))
}

fn has(rows: u64) -> &'static str {
    if rows == 1 { "has" } else { "have" }
}

fn is(rows: u64) -> &'static str {
    if rows == 1 { "is" } else { "are" }
}

/// The rows of a table itself, unless they are in its partitions.
pub(super) fn only(partitioned: bool) -> &'static str {
    if partitioned { "" } else { "ONLY " }
}

/// A row: its alias, the tables of its schema, and its table.
pub(super) type RowOf<'t> = (&'t str, &'t Tables, &'t str);

/// The condition that two rows have the same values in these columns.
pub(super) fn equal(one: RowOf<'_>, columns: &[String], other: RowOf<'_>, others: &[String]) -> String {
    let pairs = columns.iter().zip(others);
    let equal = pairs.map(|(c, o)| equal_as_they_are((one.0, one.1, one.2, c), (other.0, other.1, other.2, o)));
    equal.collect::<Vec<_>>().join(" AND ")
}

/// The expression that shows the values of these columns.
pub(super) fn texts(alias: &str, columns: &[String]) -> String {
    match columns {
        [one] => format!("{alias}.{}::text", quote::identifier(one)),
        // The columns may have collations of their own.
        many => format!("concat('(', concat_ws(', ', {}), ')') COLLATE \"C\"", listed(alias, many)),
    }
}

pub(super) fn listed(alias: &str, columns: &[String]) -> String {
    columns.iter().map(|name| format!("{alias}.{}", quote::identifier(name))).collect::<Vec<_>>().join(", ")
}
