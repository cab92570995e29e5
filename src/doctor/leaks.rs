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
    fn kind(&self) -> Kind {
        match self.kind.as_str() {
            "foreign key" => Kind::ForeignKeyLeak,
            "trigger" => Kind::TriggerLeak,
            "inheritance" => Kind::InheritanceLeak,
            "default" => Kind::DefaultLeak,
            _ => Kind::ViewLeak,
        }
    }

    /// The finding in the schema that it reaches out of.
    pub(super) fn outwards(&self) -> Draft {
        let Self { table, name, target_schema, target_name, .. } = self;
        let to = format!("{target_schema}.{target_name}");
        let own = "make it again, bound to the tenant's own";
        let (says, fix, kind, part_of, object) = match self.kind() {
            Kind::ForeignKeyLeak => (
                format!("foreign key {name} of {table} refers to {to}"),
                own,
                structure::Kind::Constraint,
                Some(table.as_str()),
                name,
            ),
            Kind::TriggerLeak => (
                format!("trigger {name} of {table} calls {to}"),
                own,
                structure::Kind::Trigger,
                Some(table.as_str()),
                name,
            ),
            Kind::InheritanceLeak => (
                format!("table {table} inherits from {to}"),
                "ALTER TABLE … NO INHERIT, or DETACH PARTITION, once it is known whose the rows are",
                structure::Kind::Table,
                None,
                table,
            ),
            Kind::DefaultLeak => (
                format!("the default of {table}.{name} uses {to}"),
                own,
                structure::Kind::Column,
                Some(table.as_str()),
                name,
            ),
            _ if name == "_RETURN" => (format!("view {table} reads {to}"), own, structure::Kind::View, None, table),
            _ => (format!("rule {name} of {table} uses {to}"), own, structure::Kind::Rule, Some(table.as_str()), name),
        };
        let draft = Draft::new(self.kind(), says, Fix::None(fix.into())).table(table);
        draft.examples(1, vec![name.clone()]).covering(kind, part_of, object)
    }

    /// The finding in the tenant that something from elsewhere reaches into.
    pub(super) fn inwards(&self) -> Finding {
        let Self { schema, table, name, target_name, .. } = self;
        let from = format!("{schema}.{table}");
        let says = match self.kind() {
            Kind::ForeignKeyLeak => format!("foreign key {name} of {from} refers to its {target_name}"),
            Kind::TriggerLeak => format!("trigger {name} of {from} calls its {target_name}"),
            Kind::InheritanceLeak => format!("table {from} inherits from its {target_name}"),
            Kind::DefaultLeak => format!("the default of {from}.{name} uses its {target_name}"),
            _ => format!("view {from} reads its {target_name}"),
        };
        let fix = Fix::None("it stands in the way of dropping, renaming and moving the tenant: drop it".into());
        let draft = Draft::new(self.kind(), says, fix).table(target_name).examples(1, vec![format!("{from}.{name}")]);
        draft.of(&self.target_schema)
    }
}
