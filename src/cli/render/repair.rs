use super::plural;
use crate::repair::{Outcome, Report};

/// What a repair did, or would do, tenant by tenant, and the counts.
pub(in crate::cli) fn repair(report: &Report) -> String {
    let mut out = String::new();
    let (mut filled, mut copied, mut left, mut failed) = (0, 0, 0, 0);
    let (fill, copy) = if report.dry_run { ("would fill", "would copy") } else { ("filled", "copied") };
    for tenant in &report.tenants {
        out += &format!("{}\n", tenant.schema);
        let nothing = Outcome::default();
        let outcome = tenant.result.as_ref().unwrap_or(&nothing);
        for entry in &outcome.filled {
            filled += entry.rows;
            out += &format!("    {fill} {} of {}.{}\n", plural(entry.rows as usize, "null"), entry.table, entry.column);
        }
        for entry in &outcome.copied {
            copied += entry.rows;
            out += &format!("    {copy} {} of {} from public\n", plural(entry.rows as usize, "row"), entry.table);
        }
        for entry in &outcome.left {
            left += 1;
            out += &format!("    left alone: {} {} {}", entry.table, entry.key, entry.reason);
            if entry.rows > 0 {
                out += &format!("; referred to by {} of the tenant", plural(entry.rows as usize, "row"));
            }
            out.push('\n');
        }
        if let Err(error) = &tenant.result {
            failed += 1;
            out += &format!("    failed: {}\n", error.chain());
        }
    }
    if report.tenants.is_empty() {
        out += "nothing to repair\n";
    }
    out += &format!(
        "{} examined, {} ill: {copy} {}, {fill} {}, left {left} alone, {failed} failed\n",
        plural(report.examined, "tenant"),
        report.tenants.len(),
        plural(copied as usize, "row"),
        plural(filled as usize, "null"),
    );
    out
}
