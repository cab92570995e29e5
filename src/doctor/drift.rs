//! What differs in a schema from how it should be built, and what would be wrong with any.

use std::collections::BTreeSet;

use super::{
    Fix, Kind, Severity,
    bodies::{self, Body},
    draft::{Covers, Draft},
    leaks::Leak,
    replaced::is_replaced,
    words::{Word, words},
};
use crate::structure::{self, Change, Difference, Structure, compare};

/// How a difference from what most have is told from one from what the migrations make.
pub(super) const BY_MAJORITY: &str = " (by the majority)";

/// What makes a constraint again as the migrations do.
const REPAIR: &str = "tenantry repair";

/// What a schema is compared with.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) structure: Structure,
    /// Whether the migrations made it, rather than that most tenants have it.
    pub(super) made: bool,
}

/// What is wrong with how a schema is built, which is called `own`: functions may name one schema in many.
pub(super) fn drafts(
    found: &Structure,
    leaks: &[Leak],
    bodies: &[Body],
    wanted: Option<&Wanted>,
    own: &str,
) -> Vec<Draft> {
    let mut drafts: Vec<Draft> = leaks.iter().map(Leak::outwards).collect();
    drafts.extend(bodies::outwards(bodies, own));
    drafts.extend(found.objects.iter().filter_map(suspicious));
    let Some(wanted) = wanted else { return drafts };
    let differences = compare(&wanted.structure, found);
    if lacks_all_tables(&wanted.structure, &differences) {
        return vec![super::history::half_provisioned(&["a version".into()])];
    }
    if wanted.made {
        // What the migrations themselves make is not the tenant's illness.
        let is_otherwise = |difference: &&Difference| !is_changed_type(difference);
        let differs: BTreeSet<Covers> = differences.iter().filter(is_otherwise).map(covers).collect();
        let tables: BTreeSet<&str> =
            differences.iter().filter(|other| other.kind == structure::Kind::Table).map(|table| &*table.name).collect();
        let is_own = |draft: &Draft| match &draft.covers {
            Some(object) => {
                !differs.contains(object) && !object.1.as_deref().is_some_and(|table| tables.contains(table))
            }
            None => false,
        };
        drafts.retain(|draft| !(draft.finding.kind == Kind::FunctionLeak && is_own(draft)));
        for draft in drafts.iter_mut().filter(|draft| is_own(draft)) {
            draft.finding.severity = Severity::Notice;
            draft.finding.fix = Fix::None("the migrations make it so: change it with another migration".into());
        }
        let replaced: BTreeSet<Covers> =
            differences.iter().filter(|one| is_replaced(one, &differences)).map(covers).collect();
        let is_replaced = |draft: &&mut Draft| {
            draft.finding.kind == Kind::ForeignKeyLeak
                && draft.covers.as_ref().is_some_and(|object| replaced.contains(object))
        };
        drafts.iter_mut().filter(is_replaced).for_each(|draft| draft.finding.fix = Fix::Command(REPAIR.into()));
    }
    let told: BTreeSet<Covers> = drafts.iter().filter_map(|draft| draft.covers.clone()).collect();
    // That there is a type says nothing of what it is.
    let is_untold = |difference: &&Difference| is_changed_type(difference) || !told.contains(&covers(difference));
    drafts.extend(differences.iter().filter(is_untold).map(|difference| {
        // A repair is of tenants.
        let is_replaced = wanted.made && own != "public" && is_replaced(difference, &differences);
        draft(difference, wanted.made, is_replaced)
    }));
    drafts
}

/// Who owns what, or who was granted what, other than with most.
pub(super) fn rights(kind: structure::Kind, name: &str, usual: &str, found: &str) -> Draft {
    let shown = |value: &str| if value.is_empty() { "nobody".to_owned() } else { value.to_owned() };
    let (kind, says) = match kind {
        structure::Kind::Owner => (Kind::Owner, format!("{name} belongs to {found}, and with most tenants to {usual}")),
        _ => (Kind::Grant, format!("{name} is granted to {}, and with most tenants to {}", shown(found), shown(usual))),
    };
    let fix = match kind {
        Kind::Owner => "if it is not on purpose, ALTER … OWNER TO the usual one",
        _ => "if it is not on purpose, GRANT or REVOKE what differs",
    };
    Draft::new(kind, says, Fix::None(fix.into())).examples(1, vec![name.into()])
}

fn lacks_all_tables(wanted: &Structure, differences: &[Difference]) -> bool {
    let is_table = |kind: structure::Kind| kind == structure::Kind::Table;
    let tables = wanted.objects.iter().filter(|object| is_table(object.kind)).count();
    let is_missing = |other: &&Difference| other.change == Change::Missing && is_table(other.kind);
    tables > 0 && differences.iter().filter(is_missing).count() == tables
}

fn covers(difference: &Difference) -> Covers {
    (difference.kind, difference.table.clone(), difference.name.clone())
}

fn is_changed_type(difference: &Difference) -> bool {
    (difference.kind, difference.change) == (structure::Kind::Type, Change::Changed)
}

fn draft(difference: &Difference, made: bool, is_replaced: bool) -> Draft {
    let (kind, severity) = match difference.change {
        Change::Missing => (Kind::Missing, Severity::Error),
        Change::Changed => (Kind::Changed, Severity::Error),
        Change::Extra if difference.blocks => (Kind::Extra, Severity::Warning),
        Change::Extra => (Kind::Extra, Severity::Notice),
        Change::Renamed => (Kind::Renamed, Severity::Notice),
    };
    let fix = match (&difference.cure, difference.change) {
        (Some(cure), _) => Fix::Sql(cure.clone()),
        (None, _) if is_replaced => Fix::Command(REPAIR.into()),
        (None, Change::Extra) => Fix::None("drop it, or have a migration make it everywhere".into()),
        (None, _) => Fix::None("nothing that would be safe and certain: compare it by hand".into()),
    };
    let says = match made {
        true => difference.says.clone(),
        false => format!("{}{BY_MAJORITY}", difference.says),
    };
    let draft = Draft::new(kind, says, fix).severity(severity).examples(1, vec![difference.name.clone()]);
    match (&difference.table, difference.kind) {
        (Some(table), _) => draft.table(table),
        (None, structure::Kind::Table) => draft.table(&difference.name),
        (None, _) => draft,
    }
}

/// What is wrong with an object wherever it is.
fn suspicious(object: &structure::Object) -> Option<Draft> {
    let fact = |at: usize| object.facts.get(at).map_or("", String::as_str);
    let table = object.table.as_deref().unwrap_or_default();
    let name = crate::quote::identifier(&object.name);
    let draft = match object.kind {
        structure::Kind::Type => {
            let fix = "move it to public, or use text with a CHECK: connections cache types by their names";
            Draft::new(Kind::TypeInTenant, format!("type {} is made in it", object.name), Fix::None(fix.into()))
        }
        structure::Kind::Index if fact(2) == "INVALID" => {
            let says = format!("index {} of {table} is not valid: its making has failed, or is under way", object.name);
            Draft::new(Kind::InvalidIndex, says, Fix::Sql(format!("REINDEX INDEX {name}"))).table(table)
        }
        structure::Kind::Constraint if fact(1).ends_with(" NOT VALID") => {
            let says = format!("constraint {} of {table} was never validated", object.name);
            let fix = format!("ALTER TABLE {} VALIDATE CONSTRAINT {name}", crate::quote::identifier(table));
            let mut draft = Draft::new(Kind::NotValid, says, Fix::Sql(fix)).table(table);
            draft.finding.columns = referring(fact(1));
            draft
        }
        _ => return None,
    };
    Some(draft.examples(1, vec![object.name.clone()]).covering(object.kind, object.table.as_deref(), &object.name))
}

/// The columns of a foreign key, from its definition.
fn referring(definition: &str) -> Vec<String> {
    let words = words(if definition.starts_with("FOREIGN KEY ") { definition } else { "" });
    let listed = words.iter().skip_while(|word| **word != Word::Mark('('));
    listed.take_while(|word| **word != Word::Mark(')')).filter_map(Word::name).map(str::to_owned).collect()
}
