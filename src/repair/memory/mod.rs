//! What repairs did, remembered in the schema `tenantry`, so that it can be taken back.

mod recall;
mod record;

pub use recall::{PastChange, PastRepair, What, changes, find, list};
pub(super) use recall::{given_as_own, is_there, mark_undone, may_write, pending, schemas, schemas_given};
pub(super) use record::{Change, Recorder};
