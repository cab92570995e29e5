//! Ctrl-C and SIGTERM: the first lets what is under way finish, the second has the server cancel it, and the third
//! does not wait for that either.

use std::process;

use super::output;
use crate::migrate::Interrupt;

static INTERRUPT: Interrupt = Interrupt::new();

/// What the signals ask for, from now on.
pub(super) fn watched() -> &'static Interrupt {
    let handler = || {
        if INTERRUPT.is_cancelled() {
            // The server rolls back what it has not committed.
            process::exit(2);
        } else if INTERRUPT.is_stopped() {
            INTERRUPT.cancel();
            output::note("cancelling what is under way; once more to leave at once");
        } else {
            INTERRUPT.stop();
            output::note("stopping: what is under way is finished first; once more to cancel it");
        }
    };
    watch(handler)
}

/// The same for what nothing can cancel: the second leaves at once.
pub(super) fn stoppable() -> &'static Interrupt {
    watch(|| {
        if INTERRUPT.is_stopped() {
            process::exit(2);
        }
        INTERRUPT.stop();
        output::note("stopping: what is under way is finished first; once more to leave at once");
    })
}

fn watch(handler: impl FnMut() + Send + 'static) -> &'static Interrupt {
    if let Err(error) = ctrlc::set_handler(handler) {
        tracing::warn!(%error, "Ctrl-C ends it at once");
    }
    &INTERRUPT
}
