use std::path::PathBuf;

use anyhow::Result;

use super::{Health, output};
use crate::lint::{Finding, Lint, Report, Rule, Severity, rules};

/// Check migrations before they ship. Reads their folders only, and needs no database
///
/// A comment with a reason allows what a rule would report in the statement that follows:
/// `-- tenantry:allow ban-drop-column: no release since 3.2 reads it`.
///
/// Exit codes: 0 no errors (nor warnings, with --strict), 1 could not run, 2 found some.
#[derive(clap::Args)]
pub(super) struct Args {
    /// The folder of the migrations for `public` [default, unless --tenant-set is given: migrations/public]
    #[arg(long, value_name = "FOLDER")]
    public_set: Option<PathBuf>,
    /// The folder of the migrations for every tenant [default, unless --public-set is given: migrations/tenant]
    #[arg(long, value_name = "FOLDER")]
    tenant_set: Option<PathBuf>,
    /// Report what Citus refuses, too
    #[arg(long)]
    citus: bool,
    /// Take only these rules; may be given several times, or with commas
    #[arg(long, value_name = "RULE", value_delimiter = ',', value_parser = rule)]
    only: Vec<&'static Rule>,
    /// Leave these rules out; may be given several times, or with commas
    #[arg(long, value_name = "RULE", value_delimiter = ',', value_parser = rule)]
    skip: Vec<&'static Rule>,
    /// Let warnings count as errors do
    #[arg(long)]
    strict: bool,
    /// List all rules, and read no migration
    #[arg(long)]
    rules: bool,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

impl Args {
    pub(super) fn run(&self) -> Result<Health> {
        if self.rules {
            let all: Vec<_> = rules().collect();
            if self.json {
                output::json(&all)?;
            } else {
                output::print(&list(&all));
            }
            return Ok(Health::Good);
        }
        let mut lint = Lint::new().citus(self.citus).only(self.only.clone()).skip(self.skip.clone());
        lint = match (&self.public_set, &self.tenant_set) {
            (None, None) => lint.public("migrations/public").tenant("migrations/tenant"),
            (Some(public), None) => lint.public(public),
            (None, Some(tenant)) => lint.tenant(tenant),
            (Some(public), Some(tenant)) => lint.public(public).tenant(tenant),
        };
        let report = lint.run()?;
        if self.json {
            output::json(&report)?;
        } else {
            output::print(&render(&report));
        }
        Ok(Health::from(report.is_healthy(self.strict)))
    }
}

fn rule(id: &str) -> Result<&'static Rule, String> {
    Rule::find(id).ok_or_else(|| "there is no such rule: `tenantry lint --rules` lists them".to_owned())
}

/// The findings under the names of their files, and the counts.
fn render(report: &Report) -> String {
    let mut out = String::new();
    let mut file = None;
    for finding in &report.findings {
        if file != Some(&finding.file) {
            file = Some(&finding.file);
            out += &format!("{}\n", finding.file);
        }
        out += &entry(finding);
    }
    if !report.findings.is_empty() {
        out.push('\n');
    }
    out + &format!(
        "{}: {}, {}\n",
        count(report.migrations, "migration"),
        count(report.errors, "error"),
        count(report.warnings, "warning")
    )
}

fn entry(finding: &Finding) -> String {
    let place = match (finding.line, finding.column) {
        (Some(line), Some(column)) => format!("{line}:{column} "),
        _ => String::new(),
    };
    let severity = word(finding.severity);
    format!("    {place}{severity} {}: {}\n        {}\n", finding.rule, finding.message, finding.cure)
}

/// Every rule, a line each.
fn list(rules: &[&Rule]) -> String {
    let width = rules.iter().map(|rule| rule.id.len()).max().unwrap_or_default();
    let line = |rule: &&Rule| format!("{:width$}  {:7}  {}\n", rule.id, word(rule.severity), rule.about);
    rules.iter().map(line).collect()
}

fn word(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    }
}

fn count(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}
