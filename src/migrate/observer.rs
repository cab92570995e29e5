use std::time::Duration;

use super::{Holder, Line};
use crate::SchemaName;

/// Is told how a run goes along. Every method does nothing unless it is written.
pub trait Observer: Sync {
    /// Something happened. Called from the workers' threads.
    fn on(&self, event: &Event<'_>) {
        let _ = event;
    }
}

/// What an [`Observer`] is told.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// Another run over the same database is waited for. Once for each that is.
    Waiting {
        /// Whose session holds the lock of the fleet.
        holder: &'a Holder,
        /// How long the run waits in all; `None` for as long as it takes.
        at_most: Option<Duration>,
    },
    /// So many tenants will be looked at.
    Started {
        /// How many.
        tenants: usize,
    },
    /// The tenants of a canary or of a wave are next.
    Wave {
        /// `canary`, or the wave's share of the fleet: `10%`.
        name: &'a str,
        /// How many tenants are in it.
        tenants: usize,
    },
    /// A tenant is worked on, alone or with others in one transaction.
    Began {
        /// Which.
        schema: &'a SchemaName,
    },
    /// Something that will pass was in a tenant's way: it is tried again when the others are done.
    Deferred {
        /// What happened so far.
        line: &'a Line,
    },
    /// A tenant is done.
    Finished(&'a Line),
}

/// An observer that listens to nothing.
#[derive(Debug, Clone, Copy)]
pub struct Silent;

impl Observer for Silent {}
