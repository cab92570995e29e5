//! The storm: [`run`] lets it loose on a database and reports the rows and connections that are not as they should be.

mod broken;
mod chaos;
mod checkout;
mod disturb;
mod fault;
mod fleet;
mod ledger;
mod left_behind;
mod migrations;
mod perform;
mod plan;
mod planner;
mod proxy;
mod report;
mod scope;
mod settings;
mod tally;
mod transaction;
mod verdict;
mod writer;

use std::{
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use rand::{SeedableRng, rngs::StdRng};
use tenantry::testing::TestDatabase;

use self::{
    checkout::Fresh, fleet::Tenants, ledger::Ledger, perform::Borrower, proxy::Proxy, scope::Scope, tally::Tally,
    verdict::Verdict,
};
pub use self::{report::Report, settings::Settings};

/// What all threads of a storm share.
struct Storm<'s> {
    settings: &'s Settings,
    db: &'s TestDatabase,
    scope: &'s dyn Scope,
    tenants: &'s Tenants,
    fresh: &'s Fresh,
    ledger: &'s Ledger,
    tally: &'s Tally,
    over: AtomicBool,
}

impl Storm<'_> {
    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// A generator of its own for each part of the storm.
    fn generator(&self, part: u64) -> StdRng {
        generator(self.settings.seed, part)
    }
}

fn generator(seed: u64, part: u64) -> StdRng {
    StdRng::seed_from_u64(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ part)
}

/// Runs a storm on an empty database.
///
/// # Panics
///
/// When the database cannot be prepared or read, or a thread of the storm fails in a way that was not planned.
pub fn run(settings: &Settings, db: &TestDatabase) -> Report {
    let started = Instant::now();
    let tenants = Tenants::create(settings.tenants, db);
    let (ledger, tally) = (Ledger::default(), Tally::default());
    thread::scope(|threads| {
        let proxy = Proxy::start(threads, db.url(), settings.seed, &tally);
        let scope = settings.scope.open(proxy.url(), settings.pool);
        let fresh = Fresh::of(&*scope);
        let over = AtomicBool::new(false);
        let storm = Storm {
            settings,
            db,
            scope: &*scope,
            tenants: &tenants,
            fresh: &fresh,
            ledger: &ledger,
            tally: &tally,
            over,
        };
        weather(&storm);
    });
    let verdict = Verdict::of(&ledger, &tenants, &ledger::read(db, &tenants));
    Report { settings: settings.clone(), took: started.elapsed(), tally, verdict }
}

/// Runs all threads until the borrowers are done.
fn weather(storm: &Storm<'_>) {
    let deadline = Instant::now() + Duration::from_secs(storm.settings.seconds);
    thread::scope(|threads| {
        for disturbance in [chaos::cancel, disturb::migrate, disturb::rename, disturb::replace] {
            threads.spawn(move || disturbance(storm));
        }
        let borrowers: Vec<_> =
            (0..storm.settings.threads).map(|thread| threads.spawn(move || borrow(storm, thread, deadline))).collect();
        let ended: Vec<_> = borrowers.into_iter().map(|borrower| borrower.join()).collect();
        storm.over.store(true, Ordering::Relaxed);
        ended.into_iter().for_each(|ended| ended.unwrap_or_else(|panic| resume_unwind(panic)));
    });
}

/// One thread's visits to the pool.
fn borrow(storm: &Storm<'_>, thread: u16, deadline: Instant) {
    for number in 0..storm.settings.rounds {
        if Instant::now() >= deadline {
            break;
        }
        let visit = planner::visit(storm.settings, thread, number);
        let mut borrower = Borrower::new(storm, thread, number);
        // A connection that is returned while its thread panics is one of the things to try.
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| borrower.visit(&visit)))
            && !panic.is::<transaction::Planned>()
        {
            resume_unwind(panic);
        }
    }
}
