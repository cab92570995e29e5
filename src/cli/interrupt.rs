//! Ctrl-C and SIGTERM: the first lets what is under way finish, the second does not.

use std::{
    process,
    sync::atomic::{AtomicBool, Ordering},
};

use super::output;

static STOP: AtomicBool = AtomicBool::new(false);

/// The flag that is set by the first signal.
pub(super) fn flag() -> &'static AtomicBool {
    let handler = || {
        if STOP.swap(true, Ordering::Relaxed) {
            // The server rolls back what it has not committed.
            process::exit(2);
        }
        output::note("stopping: what is under way is finished first; once more to stop at once");
    };
    if let Err(error) = ctrlc::set_handler(handler) {
        tracing::warn!(%error, "Ctrl-C ends the run at once");
    }
    &STOP
}
