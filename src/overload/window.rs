use crate::types::MILLISECOND;

/// A window has at least so many samples, however long that takes: fewer say nothing.
pub const SAMPLES_MIN: u64 = 10;

/// No window is shorter …
const SHORTEST: u64 = 100 * MILLISECOND;
/// … or, given enough samples, longer than this, microseconds.
const LONGEST: u64 = 10_000 * MILLISECOND;

/// The latencies of a window in one word, so that one addition adds one: {how many, 20 bits; microseconds, 44 bits}.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Samples(pub u64);

const SUM_BITS: u32 = 44;
/// A longer latency counts as this one, 16 s: as many as there is room for cannot overflow the sum.
const LATENCY_MAX: u64 = (1 << (SUM_BITS - (u64::BITS - SUM_BITS))) - 1;

impl Samples {
    /// One sample, to be added.
    #[must_use]
    pub const fn one(micros: u64) -> Self {
        Self(1 << SUM_BITS | if micros > LATENCY_MAX { LATENCY_MAX } else { micros })
    }

    /// How many there are.
    #[must_use]
    pub const fn count(self) -> u64 {
        self.0 >> SUM_BITS
    }

    /// Their sum, microseconds.
    #[must_use]
    pub const fn sum(self) -> u64 {
        self.0 & ((1 << SUM_BITS) - 1)
    }
}

/// The stretch over which latencies are averaged: {began, ms, u32; length, ms, u32}. Longer than the latencies in it, so
/// that what a change of the limit did shows in the next one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Window(pub u64);

impl Window {
    /// The window that begins at `now`, microseconds, after one with a mean latency of `mean` microseconds.
    #[must_use]
    pub const fn begin(now: u64, mean: u64) -> Self {
        let length = match mean.saturating_mul(2) {
            long if long > LONGEST => LONGEST,
            short if short < SHORTEST => SHORTEST,
            length => length,
        };
        // Never the word of a window that has not begun.
        Self((((now / MILLISECOND) as u32 as u64) << 32) | (length / MILLISECOND))
    }

    /// How long it has lasted at `now`, microseconds; 0 before the first.
    #[must_use]
    pub const fn age(self, now: u64) -> u64 {
        match ((now / MILLISECOND) as u32).wrapping_sub((self.0 >> 32) as u32) {
            // A clock that is a little behind that of another process.
            ahead if ahead > u32::MAX - 60_000 => 0,
            age => age as u64 * MILLISECOND,
        }
    }

    /// Whether it ends with the given samples at `now`.
    #[must_use]
    pub const fn is_over(self, samples: Samples, now: u64) -> bool {
        samples.count() >= SAMPLES_MIN && self.age(now) >= (self.0 as u32 as u64) * MILLISECOND
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::SECOND;

    #[test]
    fn sums_do_not_overflow() {
        let many = Samples(Samples::one(u64::MAX).0.wrapping_mul((1 << 20) - 1));
        assert_eq!((many.count(), many.sum()), ((1 << 20) - 1, LATENCY_MAX * ((1 << 20) - 1)));
    }

    #[test]
    fn windows_are_longer_than_what_they_measure_and_have_samples() {
        let ten = Samples(Samples::one(5).0 * 10);
        for (mean, ends) in [(0, 100), (50_000, 100), (51_000, 102), (SECOND, 2_000), (60 * SECOND, 10_000)] {
            let window = Window::begin(7 * SECOND, mean);
            let at = |ms: u64| 7 * SECOND + ms * MILLISECOND;
            assert!(!window.is_over(ten, at(ends - 1)) && window.is_over(ten, at(ends)), "{mean}");
            assert!(!window.is_over(Samples(Samples::one(5).0 * 9), at(1_000_000)), "{mean}");
        }
        let early = Window::begin(u64::from(u32::MAX) * MILLISECOND, 0);
        assert_eq!(early.age((u64::from(u32::MAX) + 200) * MILLISECOND), 200 * MILLISECOND, "around the end");
        assert_eq!(early.age((u64::from(u32::MAX) - 9) * MILLISECOND), 0, "a clock behind");
    }
}
