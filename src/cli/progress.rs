//! How a run goes along: a bar on a terminal, a line now and then elsewhere.

use std::sync::atomic::{AtomicUsize, Ordering};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::output;
use crate::migrate::{Event, Observer};

pub(super) struct Progress {
    bar: ProgressBar,
    total: AtomicUsize,
    done: AtomicUsize,
}

impl Progress {
    pub(super) fn new() -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        let style = "{bar:40} {pos}/{len} tenants  {elapsed}  {msg}";
        if let Ok(style) = ProgressStyle::with_template(style) {
            bar.set_style(style);
        }
        Self { bar, total: AtomicUsize::new(0), done: AtomicUsize::new(0) }
    }

    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

impl Observer for Progress {
    fn on(&self, event: &Event<'_>) {
        match event {
            Event::Started { tenants } => {
                self.bar.set_length(*tenants as u64);
                self.total.store(*tenants, Ordering::Relaxed);
            }
            Event::Finished(line) => {
                self.bar.inc(1);
                if let Err(error) = &line.result {
                    let failed = format!("{} failed: {}", line.schema, error.chain());
                    // On a terminal the bar makes room for the line.
                    self.bar.println(&failed);
                    if self.bar.is_hidden() {
                        output::note(&failed);
                    }
                }
                let done = self.done.fetch_add(1, Ordering::Relaxed) + 1;
                let total = self.total.load(Ordering::Relaxed);
                if self.bar.is_hidden() && (done == total || done.is_multiple_of((total / 10).max(1))) {
                    output::note(&format!("{done} of {total} tenants done"));
                }
            }
        }
    }
}
