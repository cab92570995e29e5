//! What reaches out of a schema, or into one.

use diesel::{
    PgConnection, QueryResult, RunQueryDsl, sql_query,
    sql_types::{Array, Text},
};

use super::{Finding, Fix, Kind, draft::Draft};
use crate::structure;

/// Something in one schema that is bound to something in another.
#[derive(Debug, Clone, PartialEq, Eq, diesel::QueryableByName)]
pub(super) struct Leak {
    #[diesel(sql_type = Text)]
    pub(super) schema: String,
    #[diesel(sql_type = Text)]
    kind: String,
    #[diesel(sql_type = Text)]
    table: String,
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Text)]
    pub(super) target_schema: String,
    #[diesel(sql_type = Text)]
    target_name: String,
}

/// Reads what these schemas are bound to.
pub(super) fn read(conn: &mut PgConnection, schemas: &[&str]) -> QueryResult<Vec<Leak>> {
    sql_query(include_str!("leaks.sql")).bind::<Array<Text>, _>(schemas).load(conn)
}

impl Leak {
    /// Whether a function is bound: its text tells that of a tenant's own, too.
    pub(super) fn is_of_function(&self) -> bool {
        self.kind == "function"
    }

    fn kind(&self) -> Kind {
        match self.kind.as_str() {
            "foreign key" => Kind::ForeignKeyLeak,
            "trigger" => Kind::TriggerLeak,
            "inheritance" => Kind::InheritanceLeak,
            "function" => Kind::FunctionLeak,
            "view" | "materialized view" | "rule" => Kind::ViewLeak,
            _ => Kind::DefaultLeak,
        }
    }

    /// What of this table, told with its schema or without, is bound to this.
    fn says(&self, table: &str, to: &str) -> String {
        let Self { kind, name, schema, .. } = self;
        match kind.as_str() {
            "foreign key" => format!("foreign key {name} of {table} refers to {to}"),
            "trigger" => format!("trigger {name} of {table} calls {to}"),
            "inheritance" => format!("table {table} inherits from {to}"),
            "view" | "materialized view" => format!("view {table} reads {to}"),
            "default" => format!("the default of {table}.{name} uses {to}"),
            "type" => format!("column {table}.{name} has the type {to}"),
            "generated column" => format!("column {table}.{name} is computed by {to}"),
            "function" => format!("function {schema}.{name} names {to}"),
            _ => format!("{kind} {name} of {table} uses {to}"),
        }
    }

    /// The object that is bound: what it is, whether it is a part of the table, and its name.
    fn object(&self) -> (structure::Kind, bool, &str) {
        use structure::Kind::{Column, Constraint, Index, MaterializedView, Policy, Rule, Table, Trigger, View};
        match self.kind.as_str() {
            "foreign key" | "constraint" => (Constraint, true, &self.name),
            "trigger" => (Trigger, true, &self.name),
            "index" => (Index, true, &self.name),
            "policy" => (Policy, true, &self.name),
            "rule" => (Rule, true, &self.name),
            "inheritance" => (Table, false, &self.table),
            "view" => (View, false, &self.table),
            "materialized view" => (MaterializedView, false, &self.table),
            _ => (Column, true, &self.name),
        }
    }

    /// What it is known by: for a view, not its rule.
    fn example(&self) -> &str {
        match self.kind.as_str() {
            "view" | "materialized view" => &self.table,
            _ => &self.name,
        }
    }

    /// The finding in the schema that it reaches out of.
    pub(super) fn outwards(&self) -> Draft {
        let Self { table, target_schema, target_name, .. } = self;
        let fix = match self.kind() {
            Kind::InheritanceLeak => {
                "ALTER TABLE … NO INHERIT, or DETACH PARTITION, once it is known whose the rows are"
            }
            _ if self.kind == "type" => "ALTER COLUMN … TYPE to one of PostgreSQL's own or of public",
            _ => "make it again, bound to the tenant's own",
        };
        let says = self.says(table, &format!("{target_schema}.{target_name}"));
        let (kind, is_part, object) = self.object();
        let draft = Draft::new(self.kind(), says, Fix::None(fix.into())).table(table);
        draft.examples(1, vec![self.example().into()]).covering(kind, is_part.then_some(table.as_str()), object)
    }

    /// The finding in the tenant that something from elsewhere reaches into.
    pub(super) fn inwards(&self) -> Finding {
        let Self { schema, table, name, target_name, .. } = self;
        let from = format!("{schema}.{table}");
        let says = self.says(&from, &format!("its {target_name}"));
        let fix = Fix::None("it stands in the way of dropping, renaming and moving the tenant: drop it".into());
        let example = match (self.is_of_function(), self.example() == table) {
            (true, _) => format!("{schema}.{name}"),
            (_, true) => from,
            _ => format!("{from}.{name}"),
        };
        let draft = Draft::new(self.kind(), says, fix).table(target_name).examples(1, vec![example]);
        draft.of(&self.target_schema)
    }
}
