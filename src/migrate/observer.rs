use super::Line;

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
    /// So many tenants will be looked at.
    Started {
        /// How many.
        tenants: usize,
    },
    /// One of them is done.
    Finished(&'a Line),
}

/// An observer that listens to nothing.
#[derive(Debug, Clone, Copy)]
pub struct Silent;

impl Observer for Silent {}
