use std::sync::atomic::{AtomicU8, Ordering};

/// Asks a run to end early, from another thread or a signal's handler.
///
/// ```
/// use tenantry::migrate::Interrupt;
///
/// static INTERRUPT: Interrupt = Interrupt::new();
/// INTERRUPT.stop();
/// assert!(INTERRUPT.is_stopped() && !INTERRUPT.is_cancelled());
/// ```
#[derive(Debug, Default)]
pub struct Interrupt(AtomicU8);

impl Interrupt {
    /// Nothing asked for yet.
    pub const fn new() -> Self {
        Self(AtomicU8::new(0))
    }

    /// Asks to finish what is under way, and to begin nothing more.
    pub fn stop(&self) {
        self.0.fetch_max(1, Ordering::Relaxed);
    }

    /// Asks to have the server cancel what is under way, too: it is rolled back.
    pub fn cancel(&self) {
        self.0.fetch_max(2, Ordering::Relaxed);
    }

    /// Whether nothing more should begin.
    pub fn is_stopped(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }

    /// Whether what is under way should be cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 1
    }
}
