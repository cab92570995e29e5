//! What is wrong with the tenants' rows.

use super::{Patient, Visit};
use crate::{
    Error, SchemaName,
    doctor::{
        check::Asked,
        draft::Draft,
        quiet::quietly,
        rows::{self, Question},
    },
};

/// How many tenants' rows one transaction reads, of three tables each.
const CHUNK: usize = 25;

impl<'v> Visit<'v> {
    pub(super) fn ask_rows(&mut self, patients: &[Patient]) -> Result<(), Error> {
        if !self.doctor.wants_rows() {
            return Ok(());
        }
        let plans = std::mem::take(&mut self.plans);
        let question = |patient: &'_ Patient| -> Option<(SchemaName, Option<String>, usize)> {
            let plan = patient.plan.filter(|plan| !plans[*plan].is_empty())?;
            let id = patient.entry.id.map(|id| id.to_string());
            (!self.doubtful.contains_key(&patient.entry.schema)).then(|| (patient.entry.schema.clone(), id, plan))
        };
        let asked: Vec<_> = patients.iter().filter_map(question).collect();
        let questions: Vec<Question<'_>> = asked
            .iter()
            .map(|(schema, id, plan)| Question { asked: Asked { schema, id: id.clone() }, tables: &plans[*plan] })
            .collect();
        let (names, named_all) = (&self.names, self.named_all);
        let owner = |id: &str| match names.get(&id.to_lowercase()) {
            Some(schema) => format!("tenant {schema}"),
            None if named_all => format!("tenant {id}, which is not registered,"),
            None => format!("tenant {id}"),
        };
        let patience = self.doctor.statement_timeout;
        // Each table comes with its indexes, and each of those takes a lock.
        let widest = plans.iter().map(Vec::len).max().unwrap_or(1).max(1);
        let most = (CHUNK * 3 / widest).clamp(1, CHUNK);
        let (answers, failed) = self.crew.share(&questions, most, |conn, chunk: &[&Question<'_>]| {
            quietly(conn, patience, |conn| {
                let mut told = Vec::new();
                for (question, answers) in chunk.iter().zip(rows::ask(conn, chunk)?) {
                    let schema = question.asked.schema;
                    let drafts: Vec<Draft> = answers
                        .ill
                        .into_iter()
                        .map(|(table, check, answer)| {
                            let rows = answer.rows.unsigned_abs();
                            let draft = check.draft(table, rows, &answer.more, &owner, schema);
                            draft.examples(rows, answer.examples)
                        })
                        .collect();
                    if !drafts.is_empty() || answers.unread_sequences {
                        told.push((schema.clone(), drafts, answers.unread_sequences));
                    }
                }
                Ok(told)
            })
        })?;
        let failed: Vec<_> =
            failed.into_iter().map(|(question, error)| (question.asked.schema.clone(), error.chain())).collect();
        self.doubtful.extend(failed);
        for (schema, drafts, unread_sequences) in answers {
            drafts.iter().for_each(|draft| self.tell(&schema, draft));
            if unread_sequences {
                self.note("sequences", "the role may not SELECT from them", [&schema].into_iter());
            }
        }
        drop(questions);
        self.plans = plans;
        Ok(())
    }
}
