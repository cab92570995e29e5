//! Owners and grants that differ from most.

use std::collections::BTreeMap;

use super::{Patient, Visit, builds::CLOSELY};
use crate::{
    Error, SchemaName,
    doctor::{quiet::quietly, rights},
    structure::{Reader, Structure},
};

impl<'v> Visit<'v> {
    pub(super) fn rights(&mut self, patients: &[Patient]) -> Result<(), Error> {
        let mut groups = BTreeMap::<usize, Vec<&SchemaName>>::new();
        for patient in patients {
            if let Some(rights) = patient.rights {
                groups.entry(rights).or_default().push(&patient.entry.schema);
            }
        }
        if groups.len() < 2 {
            return Ok(());
        }
        let likes: Vec<SchemaName> = groups.values().map(|members| members[0].clone()).collect();
        let patience = self.doctor.statement_timeout;
        let (mut read, _) = self.crew.share(&likes, CLOSELY, |conn, chunk: &[&SchemaName]| {
            let chunk: Vec<SchemaName> = chunk.iter().map(|schema| (*schema).clone()).collect();
            quietly(conn, patience, |conn| Ok(Reader::new().only_rights().read(conn, &chunk)?.into_values().collect()))
        })?;
        read.sort_by(|one: &Structure, other| one.schema.cmp(&other.schema));
        let members = |like: &SchemaName| groups.values().find(|members| members[0] == like);
        let found: Vec<(Structure, usize)> = read
            .into_iter()
            .map(|structure| {
                let count = members(&structure.schema).map_or(0, Vec::len);
                (structure, count)
            })
            .collect();
        for ((structure, _), drafts) in found.iter().zip(rights::compare(&found)) {
            for schema in members(&structure.schema).into_iter().flatten() {
                drafts.iter().for_each(|draft| self.tell(schema, draft));
            }
        }
        Ok(())
    }
}
