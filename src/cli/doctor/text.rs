//! A doctor's report as text for a person.

use std::collections::BTreeMap;

use crate::{
    cli::{
        render::{listed, plural},
        safe,
    },
    doctor::{Finding, Fix, Kind, Report, Severity},
};

/// How many different findings of one kind are shown before the rest is counted.
const SHOWN: usize = 20;

/// The counts, then every kind with what was found, and what could not be compared.
pub(super) fn report(report: &Report) -> String {
    let tenants = plural(report.tenants, "tenant");
    let mut out = match report.findings.len() {
        0 => safe::line(format!("{tenants} examined in {:.1} s: nothing is wrong", report.elapsed.as_secs_f32())),
        _ => format!(
            "{tenants} examined in {:.1} s: {}, {}, {}\n",
            report.elapsed.as_secs_f32(),
            plural(report.count(Severity::Error), "error"),
            plural(report.count(Severity::Warning), "warning"),
            plural(report.count(Severity::Notice), "notice"),
        ),
    };
    for kind in Kind::ALL {
        let findings: Vec<&Finding> = report.of(*kind).collect();
        if !findings.is_empty() {
            out += &format!("\n{kind}: {} ({})\n", kind.says(), plural(findings.len(), word(&findings)));
            out += &of_kind(&findings);
        }
    }
    if report.findings.iter().any(|finding| matches!(finding.fix, Fix::Sql(_))) {
        out += "\nthe statements may have bare names: run them with the schema alone on the search_path\n";
    }
    if !report.not_compared.is_empty() {
        out += "\nnot looked at, or less closely:\n";
        for note in &report.not_compared {
            out += &safe::line(format!("    {} ({}): {}", note.what, plural(note.schemas, "schema"), note.reason));
        }
    }
    out
}

/// Every kind, how bad it is, and what it means.
pub(super) fn kinds() -> String {
    let line = |kind: &Kind| format!("{kind:<22} {:<8} {}\n", severity(kind.severity()), kind.says());
    Kind::ALL.iter().map(line).collect()
}

/// The same for a machine.
pub(super) fn kinds_as_json() -> serde_json::Value {
    let one = |kind: &Kind| serde_json::json!({ "kind": kind, "severity": kind.severity(), "says": kind.says() });
    Kind::ALL.iter().map(one).collect()
}

/// The findings of one kind, those together that are the same in several tenants.
fn of_kind(findings: &[&Finding]) -> String {
    let mut alike = Vec::<(&Finding, Vec<&str>)>::new();
    let mut known = BTreeMap::<(&str, &Fix, &[String]), usize>::new();
    for finding in findings {
        let at = *known.entry((&finding.says, &finding.fix, &finding.examples)).or_insert(alike.len());
        if at == alike.len() {
            alike.push((finding, Vec::new()));
        }
        alike[at].1.push(&finding.schema);
    }
    let mut out = String::new();
    for (at, (finding, schemas)) in alike.iter().take(SHOWN).enumerate() {
        out += &safe::line(format!("    {}: {}{}", listed(schemas), finding.says, examples(finding)));
        // One fix for several is told after the last of them.
        let next = alike.get(at + 1).filter(|_| at + 1 < SHOWN);
        if next.is_none_or(|(next, _)| next.fix != finding.fix) {
            out += &fix(&finding.fix);
        }
    }
    if let Some(more @ 1..) = alike.len().checked_sub(SHOWN) {
        out += &safe::line(format!("    … and {more} more: --json lists them"));
    }
    out
}

fn examples(finding: &Finding) -> String {
    // A key such as 1 is in many a sentence, and is not told by that.
    let is_told = || finding.examples.iter().all(|example| finding.says.contains(example.as_str()));
    let is_told = !finding.kind.is_of_rows() && is_told();
    if finding.examples.is_empty() || is_told {
        return String::new();
    }
    let more = if finding.count as usize > finding.examples.len() { ", …" } else { "" };
    format!(" ({}{more})", finding.examples.join(", "))
}

fn fix(fix: &Fix) -> String {
    match fix {
        Fix::Command(command) => safe::line(format!("        fix: {command}")),
        Fix::Sql(sql) => {
            let lines: Vec<&str> = sql.lines().collect();
            format!("        fix: {}\n", lines.join("\n             "))
        }
        Fix::None(why) => safe::line(format!("        no fix: {why}")),
    }
}

/// The word for the worst of them.
fn word(findings: &[&Finding]) -> &'static str {
    severity(findings.iter().map(|finding| finding.severity).max().unwrap_or(Severity::Notice))
}

fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Notice => "notice",
    }
}
