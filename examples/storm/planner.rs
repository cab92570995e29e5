//! Decides what each visit does, from the seed alone, before any of it is done.

use rand::{RngExt, rngs::StdRng, seq::IndexedRandom};

use super::{
    Settings, fleet, generator,
    left_behind::LEFT_BEHIND,
    plan::{Act, InSession, Step, Tenant, Visit},
};

const BY_HAND: &[&str] = &[
    "ROLLBACK",
    "COMMIT",
    "END",
    "BEGIN",
    "ROLLBACK AND CHAIN",
    "COMMIT AND CHAIN",
    "ROLLBACK; BEGIN",
    "COMMIT; BEGIN",
];

/// What else a transaction does. The two are kept apart: a path set by hand and then committed by hand is beyond
/// what a scope can prevent.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mood {
    Calm,
    ByHand,
    SetPath,
}

const DEEPEST: u32 = 3;

/// The plan of a thread's visit of this number.
pub fn visit(settings: &Settings, thread: u16, number: u32) -> Visit {
    let generator = generator(settings.seed, 1 << 60 | u64::from(thread) << 32 | u64::from(number));
    let mut planner = Planner { generator, kept: settings.tenants, path_is_set: false, guard: None };
    let many = planner.generator.random_range(1..=4);
    let steps = (0..many).map(|_| planner.step()).collect();
    let left_behind = planner.once_in(4).then(|| planner.generator.random_range(0..LEFT_BEHIND.len()));
    Visit { steps, left_behind, ends_by_panic: planner.once_in(2) }
}

struct Planner {
    generator: StdRng,
    kept: usize,
    /// Whether the session's path may point at a tenant outside of scopes.
    path_is_set: bool,
    /// The tenant of the session guard.
    guard: Option<Tenant>,
}

impl Planner {
    fn once_in(&mut self, times: u32) -> bool {
        self.generator.random_ratio(1, times)
    }

    fn tenant(&mut self) -> Tenant {
        match self.once_in(12) {
            true => self.kept + self.generator.random_range(0..fleet::REPLACED),
            false => self.generator.random_range(0..self.kept),
        }
    }

    fn other_than(&mut self, tenant: Tenant) -> Tenant {
        (tenant + self.generator.random_range(1..self.kept)) % self.kept
    }

    fn step(&mut self) -> Step {
        let tenant = self.tenant();
        match self.generator.random_range(0..100) {
            0..60 => self.transaction(tenant),
            60..85 => {
                self.guard = Some(tenant);
                let many = self.generator.random_range(1..=3);
                let steps = (0..many).map(|_| self.in_session(tenant)).collect();
                self.guard = None;
                // The guard cannot reset the path while a cancel or a lost connection is in its way.
                self.path_is_set = true;
                Step::Session { tenant, steps }
            }
            85..91 => Step::SharedRow,
            91..96 if !self.path_is_set => Step::BareRow,
            _ => {
                self.path_is_set = true;
                Step::SetPath { tenant, local: self.once_in(2) }
            }
        }
    }

    fn transaction(&mut self, tenant: Tenant) -> Step {
        Step::Transaction { tenant, acts: self.whole(tenant) }
    }

    fn in_session(&mut self, tenant: Tenant) -> InSession {
        match self.generator.random_range(0..100) {
            0..45 => InSession::Row,
            45..60 => InSession::Savepoint(self.whole(tenant)),
            60..75 => InSession::Transaction { tenant, acts: self.whole(tenant) },
            75..90 => {
                let tenant = self.tenant();
                InSession::Transaction { tenant, acts: self.whole(tenant) }
            }
            _ => InSession::SetPath { tenant: self.other_than(tenant) },
        }
    }

    /// The acts of an outermost transaction.
    fn whole(&mut self, tenant: Tenant) -> Vec<Act> {
        // What follows a ROLLBACK goes to where the session's path points, so that must not be another tenant.
        let by_hand = match self.guard {
            Some(guard) => guard == tenant,
            None => !self.path_is_set,
        };
        let mood = match self.generator.random_range(0..10) {
            0..2 if by_hand => Mood::ByHand,
            2..4 => Mood::SetPath,
            _ => Mood::Calm,
        };
        self.acts(tenant, mood, 0)
    }

    fn acts(&mut self, tenant: Tenant, mood: Mood, depth: u32) -> Vec<Act> {
        let many = self.generator.random_range(1..=4);
        (0..many).map(|_| self.act(tenant, mood, depth)).collect()
    }

    fn act(&mut self, tenant: Tenant, mood: Mood, depth: u32) -> Act {
        match (self.generator.random_range(0..100), mood) {
            (0..14, _) if depth < DEEPEST => {
                let stays = self.once_in(2) || mood == Mood::ByHand && self.guard.is_some();
                let tenant = if stays { tenant } else { self.tenant() };
                Act::Scope { tenant, acts: self.acts(tenant, mood, depth + 1), caught: self.once_in(2) }
            }
            (14..24, _) if depth < DEEPEST => {
                Act::Savepoint { acts: self.acts(tenant, mood, depth + 1), caught: self.once_in(2) }
            }
            (24..27, _) => Act::Swallow,
            (27..31, _) => Act::Fail,
            (31..33, _) => Act::Panic,
            (33..35, _) => Act::DanglingRow,
            (35..60, Mood::ByHand) => Act::ByHand(BY_HAND.choose(&mut self.generator).expect("some")),
            (35..55, Mood::SetPath) => Act::SetPath { tenant: self.other_than(tenant), local: self.once_in(2) },
            _ => Act::Row,
        }
    }
}
