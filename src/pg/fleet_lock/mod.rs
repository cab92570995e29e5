//! The lock that one run holds for all of a fleet: an advisory lock of a session of its own, which is watched for as long
//! as the run lasts.

mod holder;
mod session;
mod standing;

use std::{
    mem,
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, Scope, Thread},
    time::{Duration, Instant},
};

use diesel::{PgConnection, QueryResult};

pub use holder::Holder;
use holder::holder;
use session::{Connect, Interloper, PULSE, Pulse, Session};
use standing::{LEASE, Standing};

use super::pooler;
use crate::Error;

/// The lock, held from [`take`](FleetLock::take) until this drops, unless its session is lost.
pub(crate) struct FleetLock {
    session: Mutex<Session>,
    standing: Mutex<Standing>,
    changed: Condvar,
    /// Whether the watch is over.
    done: AtomicBool,
}

impl FleetLock {
    /// Takes the lock on this connection, and waits so long for another run that holds it.
    ///
    /// `run` is what the run's other connections call themselves. `give_up` is asked at every attempt, and `waiting`
    /// is called once for each holder that is waited for.
    ///
    /// # Errors
    ///
    /// [`Error::RunInProgress`], [`Error::Stopped`] and [`Error::Pooler`].
    pub(crate) fn take(
        conn: PgConnection,
        run: &str,
        most: Duration,
        give_up: impl Fn() -> bool,
        waiting: impl Fn(&Holder),
    ) -> Result<Self, Error> {
        let mut session = Session::new(conn)?;
        let (started, mut pause, mut known) = (Instant::now(), Duration::from_millis(5), None);
        while !session.try_take()? {
            let waited = started.elapsed();
            match holder(session.conn())? {
                Some(holder) if waited >= most => return Err(Error::RunInProgress { holder: holder.to_string() }),
                Some(holder) if known != Some(holder.pid) => {
                    waiting(&holder);
                    known = Some(holder.pid);
                }
                // It has just ended.
                None if waited >= most.saturating_add(LEASE) => {
                    return Err(Error::RunInProgress { holder: "a session that the server does not show".into() });
                }
                _ => {}
            }
            if give_up() {
                return Err(Error::Stopped);
            }
            thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(200));
        }
        session.let_others_notice(run)?;
        let (session, standing) = (Mutex::new(session), Mutex::new(Standing::Held(Instant::now())));
        Ok(Self { session, standing, changed: Condvar::new(), done: AtomicBool::new(false) })
    }

    /// Watches over the lock until the guard drops: its session is kept busy and, when it is lost, replaced by another
    /// one that takes the lock again, unless another run has it by then or has had it.
    pub(crate) fn watch<'s, 'e>(
        &'e self,
        threads: &'s Scope<'s, 'e>,
        connect: &'e Connect<'e>,
        interloper: &'e Interloper<'e>,
    ) -> Watch<'e> {
        let watcher = threads.spawn(move || {
            while !self.done.load(Ordering::Relaxed) {
                self.check(connect, interloper);
                thread::park_timeout(PULSE);
            }
        });
        Watch { done: &self.done, watcher: watcher.thread().clone() }
    }

    fn check(&self, connect: &Connect<'_>, interloper: &Interloper<'_>) {
        if matches!(*self.standing(), Standing::Gone(_)) {
            return;
        }
        let mut session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        let asked = Instant::now();
        match session.pulse() {
            Pulse::Alive => drop(self.set(Standing::Held(asked))),
            // Cancelled, perhaps: the next answer shows.
            Pulse::Unclear => {}
            Pulse::Elsewhere => drop(self.set(Standing::Gone(format!("because {}", pooler::changed())))),
            Pulse::Lost => {
                tracing::warn!("The connection that holds the lock of the fleet is lost");
                if self.set(Standing::Lost) {
                    let standing = session.retake(connect, interloper, &self.done);
                    match &standing {
                        Standing::Gone(reason) => tracing::error!(reason, "The lock of the fleet is lost"),
                        _ => tracing::info!("The lock of the fleet is held again"),
                    }
                    self.set(standing);
                }
            }
        }
    }

    /// Whether the lock is held; while it is being taken again, waits for what comes of that, unless asked to give up.
    pub(crate) fn is_held(&self, give_up: impl Fn() -> bool) -> bool {
        let mut standing = self.standing();
        loop {
            match standing.is_held(Instant::now()) {
                Some(is_held) => return is_held,
                None if give_up() => return false,
                None => {
                    let waited = self.changed.wait_timeout(standing, PULSE);
                    standing = waited.unwrap_or_else(PoisonError::into_inner).0;
                }
            }
        }
    }

    /// Why the lock is not held any more, if it was lost for good.
    pub(crate) fn loss(&self) -> Option<String> {
        match &*self.standing() {
            Standing::Gone(how) => Some(format!("the lock of the fleet was lost {how}")),
            _ => None,
        }
    }

    /// Releases the lock, and returns why it was not held to the end, if it was not.
    pub(crate) fn release(mut self) -> Option<String> {
        self.let_go()
    }

    /// The server takes a while to notice that a connection is closed: without this the next run could be refused.
    fn let_go(&mut self) -> Option<String> {
        let loss = self.loss();
        let standing = self.standing.get_mut().unwrap_or_else(PoisonError::into_inner);
        if matches!(mem::replace(standing, Standing::Released), Standing::Released) {
            return None;
        }
        // A connection that answered too late still has the lock.
        let released = self.session.get_mut().unwrap_or_else(PoisonError::into_inner).release();
        let failure =
            || released.err().map(|error| format!("the lock of the fleet was lost before the end: {}", error.chain()));
        loss.or_else(failure)
    }

    fn standing(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what is known of the lock, and returns whether it has.
    fn set(&self, standing: Standing) -> bool {
        let changes = self.standing().change(standing);
        self.changed.notify_all();
        changes
    }
}

impl Drop for FleetLock {
    fn drop(&mut self) {
        if let Some(reason) = self.let_go() {
            tracing::warn!("{reason}");
        }
    }
}

/// Whether a run holds the lock, in this database.
pub(crate) fn is_taken(conn: &mut PgConnection) -> QueryResult<bool> {
    holder(conn).map(|holder| holder.is_some())
}

/// Ends the watch over a [`FleetLock`] when it drops.
pub(crate) struct Watch<'l> {
    done: &'l AtomicBool,
    watcher: Thread,
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        self.done.store(true, Ordering::Relaxed);
        self.watcher.unpark();
    }
}
