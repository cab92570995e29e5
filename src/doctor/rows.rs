//! Asks the rows of many tenants: first whether any is ill, then which.

use diesel::{
    PgConnection, QueryResult, RunQueryDsl, sql_query,
    sql_types::{Array, BigInt, Bool, Integer, Nullable, Text},
};

use super::check::{Asked, Check, TableChecks};

/// A tenant and what is asked of it.
pub(super) struct Question<'q> {
    pub(super) asked: Asked<'q>,
    pub(super) tables: &'q [TableChecks],
}

/// An answer that tells of ill rows.
#[derive(Debug, Clone, diesel::QueryableByName)]
pub(super) struct Answer {
    #[diesel(sql_type = Integer)]
    pub(super) at: i32,
    #[diesel(sql_type = BigInt)]
    pub(super) rows: i64,
    #[diesel(sql_type = Text)]
    pub(super) more: String,
    #[diesel(sql_type = Array<Text>)]
    pub(super) examples: Vec<String>,
}

/// What one tenant has answered.
pub(super) struct Answers<'q> {
    /// What was asked, and what is ill.
    pub(super) ill: Vec<(&'q TableChecks, &'q Check, Answer)>,
    /// Whether the role may not read the sequences.
    pub(super) unread_sequences: bool,
}

/// Asks these tenants, in one message for all, and another for those that are ill.
pub(super) fn ask<'q>(conn: &mut PgConnection, questions: &[&Question<'q>]) -> QueryResult<Vec<Answers<'q>>> {
    #[derive(diesel::QueryableByName)]
    struct Row {
        #[diesel(sql_type = Integer)]
        tenant: i32,
        #[diesel(sql_type = Integer)]
        place: i32,
        #[diesel(sql_type = Array<Nullable<Bool>>)]
        ill: Vec<Option<bool>>,
    }
    let mut selects = Vec::new();
    for (tenant, question) in questions.iter().enumerate() {
        for (place, table) in question.tables.iter().enumerate() {
            selects.push(overview(&question.asked, table, tenant, place));
        }
    }
    let mut answers: Vec<Answers<'q>> =
        questions.iter().map(|_| Answers { ill: Vec::new(), unread_sequences: false }).collect();
    if selects.is_empty() {
        return Ok(answers);
    }
    let rows: Vec<Row> = sql_query(selects.join(" UNION ALL ")).load(conn)?;
    let mut open = Vec::new();
    for row in rows {
        let (tenant, place) = (row.tenant as usize, row.place as usize);
        let table = &questions[tenant].tables[place];
        for (check, ill) in table.checks.iter().zip(row.ill) {
            answers[tenant].unread_sequences |= ill.is_none();
            if ill != Some(true) {
                continue;
            }
            match check {
                Check::Twin { .. } => {
                    let twins = table.checks.iter().filter(|check| matches!(check, Check::Twin { .. }));
                    open.extend(twins.map(|check| (tenant, table, check)));
                }
                _ => open.push((tenant, table, check)),
            }
        }
    }
    let details = |chunk: &[(usize, &TableChecks, &Check)]| -> Vec<String> {
        let ask = |(at, (tenant, table, check)): (usize, &(usize, &TableChecks, &Check))| {
            check.details(table, &questions[*tenant].asked, at)
        };
        chunk.iter().enumerate().filter_map(ask).collect()
    };
    for chunk in open.chunks(DETAILS) {
        let found: Vec<Answer> = sql_query(details(chunk).join(" UNION ALL ")).load(conn)?;
        for answer in found.into_iter().filter(|answer| answer.rows > 0) {
            let (tenant, table, check) = chunk[answer.at as usize];
            answers[tenant].ill.push((table, check, answer));
        }
    }
    Ok(answers)
}

/// How many questions for details one message has.
const DETAILS: usize = 50;

/// Whether any row of a table is ill, for each of the questions.
fn overview(asked: &Asked<'_>, table: &TableChecks, tenant: usize, place: usize) -> String {
    let mut twins = 0;
    let mut any = |check: &Check| match check {
        // First only whether there is any, which serves for both.
        Check::Twin { .. } => {
            twins += 1;
            if twins == 1 { check.has_twin(&table.table) } else { None }
        }
        _ => check.any(asked),
    };
    let any: Vec<String> = table.checks.iter().map(|check| any(check).unwrap_or("false".into())).collect();
    format!(
        "SELECT {tenant} AS tenant, {place} AS place, ARRAY[{}] AS ill FROM {}",
        any.join(", "),
        table.from(asked.schema)
    )
}
