//! Passive health: peers that fail are left alone for a while.
//!
//! The error rate alone is too slow for a peer that died: it needs a time constant to be believed, and until then more
//! tries fail than the retry budget can pay for. So a peer that fails several times in a row, with no good answer
//! between, is *ejected* by whoever saw the last failure: it gets nothing for 30 s, longer each time. That alone does
//! not find the peer that fails one request in three. The leader finds it, by comparing peers over an interval:
//! [`stands_out`] asks for a bad ratio *and* for one that is much worse than that of the others, as what all peers do
//! alike is not the fault of one (it is the breaker's business).
//!
//! Whatever the cause, no more than `max_ejection_percent` of an upstream's peers are out at a time ([`Ejected`]).

use super::{Ejection, TICK, Tick};
use crate::types::SECOND;

/// An ejection lasts so long, microseconds, times the ejections that followed one another, …
pub const EJECT_FOR: u64 = 30 * SECOND;
/// … but never longer than this.
pub const EJECT_MAX: u64 = 300 * SECOND;
/// After so long without one, in microseconds, an ejection less counts towards the length of the next.
pub const DECAY: u64 = 60 * SECOND;
/// Over so long the leader compares peers, microseconds.
pub const INTERVAL: u64 = 10 * SECOND;

/// More ejections in a row than these make none longer.
const TIMES_MAX: u32 = (EJECT_MAX / EJECT_FOR) as u32 - 1;
/// Whoever took a place among the ejected has used it after so long, in ticks (1 s).
const SETTLED: u32 = (SECOND / TICK) as u32;

/// The failures in a row of one peer, in one word: {when the first of those within the window came, tick; how many there
/// are in all, u16; how many within the window, u16}; 0 = none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Streak(pub u64);

impl Streak {
    /// One more failure. Those that came more than `window` microseconds before count as part of the row, but not of
    /// the window any more.
    #[must_use]
    pub const fn fail(self, window: u64, now: Tick) -> Self {
        let row = match self.row() {
            u16::MAX => u16::MAX,
            row => row + 1,
        };
        let age = now.since(Tick((self.0 >> 32) as u32)) as u64;
        let (first, within) = match self.within() {
            0 => (now.0, 1),
            _ if age > window / TICK => (now.0, 1),
            u16::MAX => ((self.0 >> 32) as u32, u16::MAX),
            within => ((self.0 >> 32) as u32, within + 1),
        };
        Self((first as u64) << 32 | (row as u64) << 16 | within as u64)
    }

    /// How many failures there are since the last good answer.
    #[must_use]
    pub const fn row(self) -> u16 {
        (self.0 >> 16) as u16
    }

    /// How many of them lie in the window.
    #[must_use]
    pub const fn within(self) -> u16 {
        self.0 as u16
    }

    /// Why the peer is to be ejected, if it is.
    #[must_use]
    pub const fn cause(self, settings: &Ejection) -> Option<Cause> {
        if self.within() >= settings.failures {
            return Some(Cause::Failures);
        }
        if settings.consecutive > 0 && self.row() >= settings.consecutive {
            return Some(Cause::Consecutive);
        }
        None
    }
}

/// Why a peer was ejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Cause {
    /// By hand.
    Hand = 0,
    /// Several failures in a row within the window of passive health.
    Failures = 1,
    /// Several failures in a row, however long that took.
    Consecutive = 2,
    /// It fails more often than `error_ratio`, and than its peers.
    Ratio = 3,
}

impl Cause {
    /// The cause with this number.
    #[must_use]
    pub const fn of(number: u8) -> Self {
        match number {
            1 => Self::Failures,
            2 => Self::Consecutive,
            3 => Self::Ratio,
            _ => Self::Hand,
        }
    }

    /// In words, after "ejected: ".
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Hand => "by hand",
            Self::Failures => "it failed again and again within health.passive's window",
            Self::Consecutive => "it failed outlier.consecutive_5xx times in a row",
            Self::Ratio => "it fails more often than outlier.error_ratio and than its peers",
        }
    }
}

/// What became of the tries that a peer, or several, were sent in an interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Calls {
    /// Tries that ended …
    pub ended: u64,
    /// … and those of them that failed.
    pub failed: u64,
}

/// Whether a peer with `own` calls is an outlier among its peers, who had `others` together: it has had enough calls, as
/// they have; a larger part of its own failed than `error_ratio`, and more than twice the part that failed of theirs.
#[must_use]
pub fn stands_out(own: Calls, others: Calls, settings: &Ejection) -> bool {
    let enough = u64::from(settings.minimum_calls.max(1));
    if settings.error_ratio == 0 || own.ended < enough || others.ended < enough {
        return false;
    }
    let product = |one: u64, other: u64| u128::from(one) * u128::from(other);
    product(own.failed, 1_000) > product(own.ended, settings.error_ratio.into())
        && product(own.failed, others.ended) > product(others.failed, own.ended).saturating_mul(2)
}

/// How many peers of an upstream are ejected, in one word: {when that changed last, tick; how many, u32}.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ejected(pub u64);

impl Ejected {
    /// One more, unless `most` are.
    #[must_use]
    pub const fn take(self, most: u32, now: Tick) -> Option<Self> {
        let count = self.0 as u32;
        if count >= most { None } else { Some(Self::new(count + 1, now)) }
    }

    /// One less.
    #[must_use]
    pub const fn give_back(self, now: Tick) -> Self {
        Self::new((self.0 as u32).saturating_sub(1), now)
    }

    /// The word after `out` were counted; `None` where that is what it says, or somebody may be about to eject one.
    #[must_use]
    pub const fn settle(self, out: u32, now: Tick) -> Option<Self> {
        let fresh = now.since(Tick((self.0 >> 32) as u32)) < SETTLED;
        if self.0 as u32 == out || (fresh && self.0 != 0) { None } else { Some(Self::new(out, now)) }
    }

    const fn new(count: u32, now: Tick) -> Self {
        Self((now.0 as u64) << 32 | count as u64)
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

/// How many of `times` ejections count when the last of them has been over for `ticks`.
#[must_use]
pub const fn remembered(times: u32, ticks: u32) -> u32 {
    let times = if times > TIMES_MAX { TIMES_MAX } else { times };
    times.saturating_sub((ticks as u64 / (DECAY / TICK)) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_failures_close_to_one_another_are_in_the_window() {
        let at = |seconds: u64| Tick::at(seconds * SECOND);
        for (times, within) in [
            (&[1, 1, 1, 1, 1][..], 5),
            (&[1, 3, 5, 7, 10], 5),
            (&[1, 3, 5, 7, 12], 1), // eleven seconds after the first
            (&[1, 20, 21], 2),
        ] {
            let streak = times.iter().fold(Streak(0), |streak, seconds| streak.fail(10 * SECOND, at(*seconds)));
            assert_eq!((streak.within(), usize::from(streak.row())), (within, times.len()), "{times:?}");
        }
        let endless = (0..70_000).fold(Streak(0), |streak, _| streak.fail(SECOND, at(1)));
        assert_eq!((endless.within(), endless.row()), (u16::MAX, u16::MAX));
    }

    #[test]
    fn causes() {
        let settings = Ejection { failures: 3, consecutive: 5, ..Ejection::default() };
        for (within, row, cause) in [
            (2, 4, None),
            (3, 4, Some(Cause::Failures)),
            (3, 9, Some(Cause::Failures)),
            (1, 5, Some(Cause::Consecutive)),
            (1, 4, None),
        ] {
            assert_eq!(Streak(row << 16 | within).cause(&settings), cause, "{within} of {row}");
        }
        let passive = Ejection { failures: 3, ..Ejection::default() };
        assert_eq!(Streak(9 << 16 | 2).cause(&passive), None, "off unless asked for");
        for cause in [Cause::Hand, Cause::Failures, Cause::Consecutive, Cause::Ratio] {
            assert_eq!(Cause::of(cause as u8), cause);
        }
    }

    #[test]
    fn an_outlier_is_worse_than_the_rule_and_than_its_peers() {
        let settings = Ejection { error_ratio: 200, minimum_calls: 20, ..Ejection::default() };
        let calls = |failed, ended| Calls { ended, failed };
        for (own, others, expected) in [
            (calls(30, 100), calls(1, 200), true),
            (calls(20, 100), calls(0, 200), false), // 20 % is not above 20 %
            (calls(21, 100), calls(0, 200), true),
            (calls(30, 100), calls(30, 200), false), // twice as bad as the others is not more than twice
            (calls(31, 100), calls(30, 200), true),
            (calls(100, 100), calls(200, 200), false), // all fail
            (calls(19, 19), calls(0, 200), false),     // too few of its own
            (calls(20, 20), calls(0, 19), false),      // too few of the others
            (calls(u64::MAX, u64::MAX), calls(0, u64::MAX), true),
        ] {
            assert_eq!(stands_out(own, others, &settings), expected, "{own:?} {others:?}");
        }
        assert!(!stands_out(calls(100, 100), calls(0, 100), &Ejection::default()), "off unless asked for");
    }

    #[test]
    fn ejections_grow_to_a_limit_and_are_forgotten_one_by_one() {
        let seconds: Vec<u64> = [0, 1, 8, 9, 10, u32::MAX].map(|times| ejection(times) / SECOND).to_vec();
        assert_eq!(seconds, [30, 60, 270, 300, 300, 300]);
        let ticks = |seconds: u64| (seconds * SECOND / TICK) as u32;
        for (times, rest, expected) in
            [(0, 0, 0), (3, 0, 3), (3, 59, 3), (3, 61, 2), (3, 181, 0), (99, 0, 9), (99, 539, 1), (99, 541, 0)]
        {
            assert_eq!(remembered(times, ticks(rest)), expected, "{times} after {rest} s");
        }
    }

    #[test]
    fn a_share_of_the_peers_stays() {
        let most = |peers, percent| Ejection { most: percent, ..Ejection::default() }.most(peers);
        assert_eq!([0, 1, 2, 3, 4, 5].map(|peers| most(peers, 50)), [0, 0, 1, 1, 2, 2]);
        assert_eq!([0, 10, 33, 100].map(|percent| most(3, percent)), [0, 0, 0, 3]);
        assert_eq!(most(10_000, 34), 3_400);
    }
}
