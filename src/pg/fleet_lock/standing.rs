//! What is known of the lock while its session is watched.

use std::time::{Duration, Instant};

/// How long an answer holds. Shorter than the time after which the server gives up a client that is gone.
pub(super) const LEASE: Duration = Duration::from_secs(10);

/// How long a lock that was lost is tried for. Longer than the time after which the server gives up a client that is
/// gone: that may have been this one.
pub(super) const RETAKE: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(super) enum Standing {
    /// It was held at this moment.
    Held(Instant),
    /// Its session is lost; another one is trying to take it.
    Lost,
    /// It was lost for good, and how.
    Gone(String),
    Released,
}

impl Standing {
    /// Whether the lock is held at this moment; `None` while that has to be waited for.
    pub(super) fn is_held(&mut self, now: Instant) -> Option<bool> {
        let silence = match self {
            Self::Held(at) => now.saturating_duration_since(*at),
            Self::Lost => return None,
            Self::Gone(_) | Self::Released => return Some(false),
        };
        if silence < LEASE {
            return Some(true);
        }
        if silence <= LEASE + RETAKE {
            return None;
        }
        *self = Self::Gone(format!("because its connection has not answered for {} s", silence.as_secs()));
        Some(false)
    }

    /// Changes to what was found out, and returns whether it has. A lock that was lost for good stays lost: tenants were
    /// skipped for it, and another run may have held it.
    pub(super) fn change(&mut self, to: Self) -> bool {
        let changes = !matches!(self, Self::Gone(_));
        if changes {
            *self = to;
        }
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_that_was_lost_for_good_stays_lost_when_its_connection_answers_late() {
        let asked = Instant::now();
        let mut standing = Standing::Held(asked);
        assert_eq!(standing.is_held(asked + LEASE / 2), Some(true));
        assert_eq!(standing.is_held(asked + LEASE + RETAKE), None, "it may still answer");
        let late = asked + LEASE + RETAKE + Duration::from_secs(1);
        assert_eq!(standing.is_held(late), Some(false));
        for answer in [Standing::Held(late), Standing::Lost, Standing::Gone("another way".into())] {
            assert!(!standing.change(answer));
            assert_eq!(standing.is_held(late), Some(false));
        }
        assert!(matches!(&standing, Standing::Gone(how) if how == "because its connection has not answered for 41 s"));
    }

    #[test]
    fn a_lock_that_is_taken_again_is_held() {
        let now = Instant::now();
        let mut standing = Standing::Held(now);
        assert!(standing.change(Standing::Lost));
        assert_eq!(standing.is_held(now), None);
        assert!(standing.change(Standing::Held(now)));
        assert_eq!(standing.is_held(now), Some(true));
    }
}
