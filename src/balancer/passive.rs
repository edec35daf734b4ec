//! Passive health: a peer that fails several times in a row, with no good answer between, is left alone for a while.
//!
//! The error rate alone is too slow for a peer that died: it needs a time constant to be believed, and until then more
//! tries fail than the retry budget can pay for.

use super::Tick;
use crate::types::SECOND;

/// So many failures in a row …
pub const FAILURES: u32 = 5;
/// … within this time, microseconds, eject a peer …
pub const WINDOW: u64 = 10 * SECOND;
/// … for so long, microseconds, times the ejections that followed one another, …
pub const EJECT_FOR: u64 = 30 * SECOND;
/// … but never longer than this. After as long without one, ejections count anew.
pub const EJECT_MAX: u64 = 300 * SECOND;

/// The failures in a row of one peer, in one word: {when the first of them came, tick; how many, u32}; 0 = none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Streak(pub u64);

impl Streak {
    /// One more failure. A row that is older than [`WINDOW`] begins anew with it.
    #[must_use]
    pub const fn fail(self, now: Tick) -> Self {
        const WINDOW_TICKS: u32 = (WINDOW / super::TICK) as u32;
        if self.count() == 0 || now.since(Tick((self.0 >> 32) as u32)) > WINDOW_TICKS {
            return Self((now.0 as u64) << 32 | 1);
        }
        Self(self.0 & !(u32::MAX as u64) | self.count().saturating_add(1) as u64)
    }

    /// How many failures are in the row.
    #[must_use]
    pub const fn count(self) -> u32 {
        self.0 as u32
    }
}

/// How long the ejection lasts that follows `times` others, microseconds.
#[must_use]
pub const fn ejection(times: u32) -> u64 {
    match EJECT_FOR.saturating_mul(times as u64 + 1) {
        long if long > EJECT_MAX => EJECT_MAX,
        short => short,
    }
}

/// Whether one more of `peers` may be ejected beside the `ejected`: half of them at most.
#[must_use]
pub const fn may_eject(ejected: usize, peers: usize) -> bool {
    (ejected + 1) * 2 <= peers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_failures_close_to_one_another_make_a_row() {
        let at = |seconds: u64| Tick::at(seconds * SECOND);
        for (times, expected) in [
            (&[1, 1, 1, 1, 1][..], 5),
            (&[1, 3, 5, 7, 10], 5),
            (&[1, 3, 5, 7, 12], 1), // eleven seconds after the first
            (&[1, 20, 21], 2),
        ] {
            let streak = times.iter().fold(Streak(0), |streak, seconds| streak.fail(at(*seconds)));
            assert_eq!(streak.count(), expected, "{times:?}");
        }
    }

    #[test]
    fn ejections_grow_to_a_limit() {
        let seconds: Vec<u64> = [0, 1, 8, 9, 10, u32::MAX].map(|times| ejection(times) / SECOND).to_vec();
        assert_eq!(seconds, [30, 60, 270, 300, 300, 300]);
    }

    #[test]
    fn half_of_the_peers_stay() {
        let most = |peers| (0..peers).take_while(|ejected| may_eject(*ejected, peers)).count();
        assert_eq!([0, 1, 2, 3, 4, 5].map(most), [0, 0, 1, 1, 2, 2]);
    }
}
