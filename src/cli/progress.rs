//! How a run goes along: a bar on a terminal, a line now and then elsewhere.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use super::{output, safe};
use crate::{
    Error,
    migrate::{Event, Observer},
};

pub(super) struct Progress {
    bar: ProgressBar,
    quiet: bool,
    total: AtomicUsize,
    done: AtomicUsize,
    in_flight: Arc<InFlight>,
}

/// When each tenant that is worked on was begun.
#[derive(Default)]
struct InFlight(Mutex<HashMap<String, Instant>>);

impl InFlight {
    fn change(&self, change: impl FnOnce(&mut HashMap<String, Instant>)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// The one that takes longest, once it takes a second.
    fn slowest(&self) -> Option<String> {
        let begun = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (schema, since) = begun.iter().min_by_key(|(_, since)| **since)?;
        let seconds = since.elapsed().as_secs();
        (seconds > 0).then(|| format!("{} for {seconds} s", safe::word(schema)))
    }
}

impl Progress {
    pub(super) fn new(quiet: bool) -> Self {
        let target = if quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let bar = ProgressBar::with_draw_target(None, target);
        let in_flight = Arc::new(InFlight::default());
        let slowest = in_flight.clone();
        let style = "{bar:30} {pos}/{len} tenants  {rate}  {elapsed}, {eta} left  {slowest}";
        if let Ok(style) = ProgressStyle::with_template(style) {
            let rate = |state: &ProgressState, out: &mut dyn fmt::Write| {
                let _ = write!(out, "{:.0}/s", state.per_sec());
            };
            let slowest = move |_: &ProgressState, out: &mut dyn fmt::Write| {
                let _ = write!(out, "{}", slowest.slowest().unwrap_or_default());
            };
            bar.set_style(style.with_key("rate", rate).with_key("slowest", slowest));
        }
        Self { bar, quiet, total: AtomicUsize::new(0), done: AtomicUsize::new(0), in_flight }
    }

    /// Tells above the bar, or on a line where there is none.
    fn tell(&self, line: &str) {
        let line = safe::word(line);
        if self.bar.is_hidden() {
            output::note(&line);
        } else {
            self.bar.println(line);
        }
    }
}

impl Observer for Progress {
    fn on(&self, event: &Event<'_>) {
        match event {
            Event::Waiting { holder, at_most } if !self.quiet => {
                let how_long = match at_most {
                    Some(time) => format!("for at most {} s", time.as_secs()),
                    None => "for as long as it takes".into(),
                };
                self.tell(&format!("waiting {how_long} for another run, by {holder}"));
            }
            Event::Waiting { .. } => {}
            Event::Started { tenants } => {
                self.bar.set_length(*tenants as u64);
                self.bar.enable_steady_tick(Duration::from_millis(200));
                self.total.store(*tenants, Ordering::Relaxed);
            }
            Event::Wave { name, tenants } if !self.quiet => self.tell(&format!("{name}: {tenants} tenants")),
            Event::Wave { .. } => {}
            Event::Began { schema } => self.in_flight.change(|begun| {
                begun.insert(schema.to_string(), Instant::now());
            }),
            Event::Deferred { line } => {
                self.in_flight.change(|begun| {
                    begun.remove(&line.schema);
                });
                let reason = line.result.as_ref().err().map(Error::chain).unwrap_or_default();
                if !self.quiet {
                    self.tell(&format!("{} put off: {reason}", line.schema));
                }
            }
            Event::Finished(line) => {
                self.in_flight.change(|begun| {
                    begun.remove(&line.schema);
                });
                self.bar.inc(1);
                if let Err(error) = &line.result
                    && !self.quiet
                {
                    self.tell(&format!("{} failed: {}", line.schema, error.chain()));
                }
                let done = self.done.fetch_add(1, Ordering::Relaxed) + 1;
                let total = self.total.load(Ordering::Relaxed);
                let now = done == total || done.is_multiple_of((total / 10).max(1));
                if now && self.bar.is_hidden() && !self.quiet {
                    output::note(&format!("{done} of {total} tenants done"));
                }
            }
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
