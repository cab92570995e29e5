use serde::{Serialize, Serializer, ser::SerializeStruct};

use crate::{
    Error,
    repair::{Copied, Filled},
};

/// What an undo did, or would do, tenant by tenant.
#[derive(Debug, Serialize)]
pub struct UndoReport {
    /// The repair that was taken back.
    pub repair: i64,
    /// Whether nothing was written.
    pub dry_run: bool,
    /// Whether a dry run tried what it tells, and rolled it back. A role that may only read cannot.
    pub rehearsed: bool,
    /// The tenants that the repair had changed, but for those in which it was taken back before.
    pub tenants: Vec<UndoneTenant>,
}

/// What an undo did, or would do, in one tenant.
#[derive(Debug)]
pub struct UndoneTenant {
    /// The tenant's schema.
    pub schema: String,
    /// What was taken back. On an error, nothing was.
    pub result: Result<Undone, Error>,
}

/// What was taken back in one tenant, or would be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Undone {
    /// Copies that were removed.
    pub removed: Vec<Copied>,
    /// Columns that were emptied.
    pub emptied: Vec<Filled>,
    /// Originals that were put back into `public`.
    pub returned: Vec<Copied>,
    /// Constraints that are as they were.
    pub constraints: Vec<String>,
    /// Sequences that are where they were.
    pub sequences: Vec<String>,
    /// Valid foreign keys that are NOT VALID now, since rows refer in vain again, as they had done in spite of them.
    pub loosened: Vec<String>,
    /// What was kept as the repair had made it.
    pub kept: Vec<Kept>,
}

/// Something that was not taken back, since that would undo what others have done since.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Kept {
    /// The table.
    pub table: String,
    /// The row's key, or the name of the sequence or the constraint.
    pub key: String,
    /// Why.
    pub why: String,
}

impl UndoReport {
    /// Whether all of it was taken back, or would be.
    pub fn is_healthy(&self) -> bool {
        self.tenants.iter().all(|tenant| tenant.result.as_ref().is_ok_and(|undone| undone.kept.is_empty()))
    }
}

impl Serialize for UndoneTenant {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut tenant = serializer.serialize_struct("UndoneTenant", 3)?;
        tenant.serialize_field("schema", &self.schema)?;
        tenant.serialize_field("undone", &self.result.as_ref().ok())?;
        tenant.serialize_field("error", &self.result.as_ref().err().map(Error::chain))?;
        tenant.end()
    }
}
