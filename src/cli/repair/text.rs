//! What repairs did, as text for a person.

use crate::{
    cli::{
        render::{Columns, plural, time},
        safe,
    },
    repair::{
        Advanced, Constrained, Copied, Filled, How, Left, Outcome, PastChange, PastRepair, Report, UndoReport, Undone,
    },
};

/// How many changes of one table are listed before the rest is counted.
const SHOWN: usize = 5;

const NOT_TRIED: &str =
    "nothing was tried, since the role may not write: what the server would refuse is not foreseen\n";

/// What a repair did, or would do, tenant by tenant, and the counts.
pub(super) fn repair(report: &Report) -> String {
    let would = if report.dry_run { "would " } else { "" };
    let mut out = String::new();
    let (mut filled, mut copied, mut constraints, mut removed, mut left, mut failed) = (0, 0, 0, 0, 0, 0);
    let done = |verb: &str| if report.dry_run { format!("would {verb}") } else { past(verb).to_owned() };
    for tenant in &report.tenants {
        out += &safe::line(&tenant.schema);
        let nothing = Outcome::default();
        let outcome = tenant.result.as_ref().unwrap_or(&nothing);
        for Filled { table, column, rows } in &outcome.filled {
            filled += rows;
            out += &safe::line(format!("    {} {} of {table}.{column}", done("fill"), plural(*rows as usize, "null")));
        }
        for Copied { table, rows } in &outcome.copied {
            copied += rows;
            out +=
                &safe::line(format!("    {} {} of {table} from public", done("copy"), plural(*rows as usize, "row")));
        }
        for Advanced { table, column, last_value } in &outcome.sequences {
            out += &safe::line(format!("    {} the sequence of {table}.{column} to {last_value}", done("move")));
        }
        for Constrained { table, name, how } in &outcome.constraints {
            constraints += 1;
            out += &match how {
                How::Added => safe::line(format!("    {} {name} of {table}", done("add"))),
                How::Validated => safe::line(format!("    {} {name} of {table}", done("validate"))),
                How::Replaced => safe::line(format!("    {} {name} of {table}", done("replace"))),
                How::Required => safe::line(format!("    {} NOT NULL of {table}.{name}", done("add"))),
            };
        }
        for Copied { table, rows } in &outcome.removed {
            removed += rows;
            out +=
                &safe::line(format!("    {} {} of public.{table}", done("remove"), plural(*rows as usize, "original")));
        }
        for Left { table, key, reason, rows } in &outcome.left {
            left += 1;
            let referred = match *rows {
                0 => String::new(),
                rows => format!("; referred to by {} of the tenant", plural(rows as usize, "row")),
            };
            out += &safe::line(format!("    left alone: {table} {key} {reason}{referred}"));
        }
        if let Err(error) = &tenant.result {
            failed += 1;
            out += &safe::line(format!("    failed: {}", error.chain()));
        }
    }
    if report.tenants.is_empty() {
        out += "nothing to repair\n";
    }
    let mut counts = vec![
        format!("{} {}", done("copy"), plural(copied as usize, "row")),
        format!("{} {}", done("fill"), plural(filled as usize, "null")),
    ];
    if constraints > 0 {
        counts.push(format!("{would}put {} right", plural(constraints, "constraint")));
    }
    if removed > 0 {
        counts.push(format!("{} {}", done("remove"), plural(removed as usize, "original")));
    }
    out += &format!(
        "{} examined, {} ill: {}, left {left} alone, {failed} failed\n",
        plural(report.examined, "tenant"),
        report.tenants.len(),
        counts.join(", "),
    );
    if let Some(reason) = &report.not_compared {
        out += &safe::line(format!("constraints were not looked at: {reason}"));
    }
    if report.dry_run && !report.rehearsed {
        out += NOT_TRIED;
    }
    if let Some(repair) = report.repair {
        out += &safe::line(format!("remembered as repair {repair}: `tenantry repair undo {repair}` takes it back"));
    } else if !report.dry_run && report.tenants.iter().any(|tenant| tenant.result.as_ref().is_ok_and(Outcome::changes))
    {
        out += "not remembered: it cannot be taken back\n";
    }
    out
}

fn past(verb: &str) -> &'static str {
    match verb {
        "fill" => "filled",
        "copy" => "copied",
        "move" => "moved",
        "add" => "added",
        "validate" => "validated",
        "replace" => "replaced",
        _ => "removed",
    }
}

/// What an undo did, or would do, tenant by tenant.
pub(super) fn undo(report: &UndoReport) -> String {
    let would = if report.dry_run { "would be " } else { "" };
    let mut out = String::new();
    let mut kept = 0;
    for tenant in &report.tenants {
        out += &safe::line(&tenant.schema);
        let nothing = Undone::default();
        let undone = tenant.result.as_ref().unwrap_or(&nothing);
        for entry in &undone.returned {
            let rows = plural(entry.rows as usize, "row");
            out += &safe::line(format!("    {rows} of public.{} {would}put back", entry.table));
        }
        for constraint in &undone.constraints {
            out += &safe::line(format!("    {constraint} {would}as it was"));
        }
        for entry in &undone.emptied {
            let rows = plural(entry.rows as usize, "row");
            out += &safe::line(format!("    {}.{} of {rows} {would}emptied", entry.table, entry.column));
        }
        for entry in &undone.removed {
            let rows = plural(entry.rows as usize, "copied row");
            out += &safe::line(format!("    {rows} of {} {would}removed", entry.table));
        }
        for sequence in &undone.sequences {
            out += &safe::line(format!("    {sequence} {would}set back"));
        }
        for constraint in &undone.loosened {
            let is = if report.dry_run { "would be NOT VALID" } else { "is NOT VALID now" };
            out += &safe::line(format!("    {constraint} {is}: rows refer in vain again"));
        }
        for entry in &undone.kept {
            kept += 1;
            out += &safe::line(format!("    kept: {} {} {}", entry.table, entry.key, entry.why));
        }
        if let Err(error) = &tenant.result {
            out += &safe::line(format!("    failed: {}", error.chain()));
        }
    }
    if report.tenants.is_empty() {
        return safe::line(format!("repair {} was taken back before", report.repair));
    }
    let failed = report.tenants.iter().filter(|tenant| tenant.result.is_err()).count();
    let tenants = plural(report.tenants.len() - failed, "tenant");
    out +=
        &safe::line(format!("repair {} {would}taken back in {tenants}, kept {kept}, {failed} failed", report.repair));
    if report.dry_run && !report.rehearsed {
        out += NOT_TRIED;
    }
    out
}

/// The repairs that are remembered, the newest first.
pub(super) fn list(repairs: &[PastRepair]) -> String {
    if repairs.is_empty() {
        return "no repair is remembered yet\n".into();
    }
    let mut table = Columns::new();
    table.add_row(["REPAIR", "STARTED", "TENANTS", "CHANGES", "TAKEN BACK", "BY"]);
    for repair in repairs {
        table.add_row([
            repair.id.to_string(),
            time(repair.started_at),
            repair.tenants.to_string(),
            repair.changes.to_string(),
            repair.undone.to_string(),
            format!("{} from {}", repair.role, repair.client),
        ]);
    }
    table.text()
}

/// What one repair did, tenant by tenant.
pub(super) fn show(repair: &PastRepair, changes: &[PastChange]) -> String {
    let PastRepair { id, role, client, program, undone, .. } = repair;
    let (changes_made, tenants) =
        (plural(repair.changes as usize, "change"), plural(repair.tenants as usize, "tenant"));
    let when = time(repair.started_at);
    let mut out = safe::line(format!("repair {id} on {when} by {role} from {client} with {program}"));
    out += &safe::line(format!("{changes_made} in {tenants}, {undone} taken back"));
    let group = |change: &PastChange| (change.schema.clone(), change.what.clone(), change.table.clone());
    for alike in changes.chunk_by(|one, other| group(one) == group(other)) {
        let (schema, what, table) = group(&alike[0]);
        let keys: Vec<String> = alike.iter().take(SHOWN).map(|change| key(&change.key)).collect();
        let more = match alike.len().checked_sub(SHOWN) {
            Some(more @ 1..) => format!(" and {more} more"),
            _ => String::new(),
        };
        let undone = match alike.iter().filter(|change| change.undone_at.is_some()).count() {
            0 => String::new(),
            undone if undone == alike.len() => " (taken back)".into(),
            undone => format!(" ({undone} of {} taken back)", alike.len()),
        };
        let table = if what == "deleted" { format!("public.{table}") } else { table };
        out += &safe::line(format!("    {schema} {what} {table}: {}{more}{undone}", keys.join(", ")));
    }
    out
}

/// A key's values, without the names of the columns.
fn key(key: &serde_json::Value) -> String {
    let value = |value: &serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let values: Vec<String> = key.as_object().into_iter().flat_map(|columns| columns.values()).map(value).collect();
    values.join("/")
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;
    use crate::{
        Error,
        repair::{Kept, UndoneTenant},
    };

    #[test]
    fn an_undo_tells_what_goes_what_stays_and_what_was_not_tried() {
        let kept = |table: &str, why: &str| Kept { table: table.into(), key: "17".into(), why: why.into() };
        let undone = Undone {
            removed: vec![Copied { table: "invoices".into(), rows: 2 }],
            emptied: vec![Filled { table: "users".into(), column: "updated_at".into(), rows: 1 }],
            returned: vec![Copied { table: "invoices".into(), rows: 1 }],
            constraints: vec!["users_fk of users".into()],
            sequences: vec!["\"acme\".\"users_id_seq\"".into()],
            loosened: vec!["invoices_fk".into()],
            kept: vec![kept("public.invoices", "refers to a row of public.users that cannot come back")],
        };
        let tenants = [("acme", Ok(undone)), ("globex", Err(Error::NotReached { reason: "it was stopped".into() }))];
        let tenants = tenants.map(|(schema, result)| UndoneTenant { schema: schema.into(), result }).into();
        let mut report = UndoReport { repair: 3, dry_run: true, rehearsed: false, tenants };
        assert_snapshot!(undo(&report), @r#"
        acme
            1 row of public.invoices would be put back
            users_fk of users would be as it was
            users.updated_at of 1 row would be emptied
            2 copied rows of invoices would be removed
            "acme"."users_id_seq" would be set back
            invoices_fk would be NOT VALID: rows refer in vain again
            kept: public.invoices 17 refers to a row of public.users that cannot come back
        globex
            failed: not reached: it was stopped; run it again
        repair 3 would be taken back in 1 tenant, kept 1, 1 failed
        nothing was tried, since the role may not write: what the server would refuse is not foreseen
        "#);
        report.rehearsed = true;
        assert!(!undo(&report).contains("nothing was tried"));
    }

    #[test]
    fn a_line_of_a_row_is_one_line() {
        let why = "cannot come back: \u{1b}[2J".to_owned();
        let kept = Kept { table: "notes".into(), key: "17\nglobex".into(), why };
        let undone = Undone { kept: vec![kept], ..Undone::default() };
        let tenants = vec![UndoneTenant { schema: "acme".into(), result: Ok(undone) }];
        let report = UndoReport { repair: 3, dry_run: false, rehearsed: false, tenants };
        assert_snapshot!(undo(&report), @r"
        acme
            kept: notes 17\nglobex cannot come back: \u{1b}[2J
        repair 3 taken back in 1 tenant, kept 1, 0 failed
        ");
    }
}
