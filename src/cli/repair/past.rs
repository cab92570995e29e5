//! What earlier repairs did, and the way back.

use anyhow::Result;
use diesel::PgConnection;
use serde_json::json;

use super::text;
use crate::{
    cli::{Health, confirm::confirm, output},
    repair::{self, Undo},
};

pub(super) fn list(conn: &mut PgConnection, limit: i64, json: bool) -> Result<Health> {
    let repairs = repair::list(conn, limit)?;
    if json {
        output::json(&repairs)?;
    } else {
        output::print(&text::list(&repairs));
    }
    Ok(Health::Good)
}

pub(super) fn show(conn: &mut PgConnection, id: i64, json: bool) -> Result<Health> {
    let (past, changes) = (repair::find(conn, id)?, repair::changes(conn, id)?);
    if json {
        output::json(&json!({ "repair": past, "changes": changes }))?;
    } else {
        output::print(&text::show(&past, &changes));
    }
    Ok(Health::Good)
}

pub(super) fn undo(conn: &mut PgConnection, undo: Undo, dry_run: bool, yes: bool, json: bool) -> Result<Health> {
    let plan = undo.clone().dry_run(true).run(conn)?;
    let report = match dry_run || plan.tenants.is_empty() {
        true => plan,
        false => {
            confirm(&text::undo(&plan), yes)?;
            undo.run(conn)?
        }
    };
    if json {
        output::json(&report)?;
    } else {
        output::print(&text::undo(&report));
    }
    Ok(Health::from(report.is_healthy()))
}
