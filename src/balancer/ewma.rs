//! Averages over irregular samples, each with the time of its last sample in one word.
//!
//! A sample that comes `dt` after the one before weighs `1 - exp(-dt / TAU)`: exact for any spacing, so a burst of
//! samples counts as much as the time it covers. Words hold the value as f32 above and the time as [`Tick`] below.

use crate::types::SECOND;

/// The time constant, microseconds.
pub const TAU: u64 = 3 * SECOND;

/// Microseconds in a [`Tick`]. Coarse enough that a peer that answers 100,000 times a second is not written 100,000
/// times a second: of the samples within one tick, the first counts and the others touch nothing.
pub const TICK: u64 = 64;

const TAU_TICKS: f32 = (TAU / TICK) as f32;

/// An instant in units of [`TICK`], around the end of 32 bits (76 hours).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tick(pub u32);

impl Tick {
    /// How far clocks of two processes may seem to run backwards, in ticks (16 s). Any larger step back is read as
    /// the long time forward that it also may be.
    const BACKWARD: u32 = 1 << 18;

    /// The tick that holds the monotonic instant `mono`, microseconds.
    #[must_use]
    #[inline]
    pub const fn at(mono: u64) -> Self {
        Self((mono / TICK) as u32)
    }

    /// Ticks from `earlier` to here; 0 where `earlier` lies a little ahead.
    #[must_use]
    #[inline]
    pub const fn since(self, earlier: Self) -> u32 {
        match self.0.wrapping_sub(earlier.0) {
            ahead if ahead > u32::MAX - Self::BACKWARD => 0,
            ticks => ticks,
        }
    }
}

/// `1 - exp(-ticks / TAU)` with a relative error below 1e-5: a Taylor series of degree 6 up to half a time constant,
/// which is where nearly all samples fall, doubled beyond: `1 - exp(-2x) = g (2 - g)` for `g = 1 - exp(-x)`.
#[must_use]
#[inline]
pub(super) fn gain(ticks: u32) -> f32 {
    let mut x = ticks as f32 / TAU_TICKS;
    if x > 16.0 {
        return 1.0;
    }
    let mut doublings = 0;
    while x > 0.5 {
        x *= 0.5;
        doublings += 1;
    }
    let mut gain = x * (1.0 - x / 2.0 * (1.0 - x / 3.0 * (1.0 - x / 4.0 * (1.0 - x / 5.0 * (1.0 - x / 6.0)))));
    for _ in 0..doublings {
        gain *= 2.0 - gain;
    }
    gain
}

#[inline]
const fn pack(value: f32, tick: Tick) -> u64 {
    (value.to_bits() as u64) << 32 | tick.0 as u64
}

#[inline]
const fn unpack(word: u64) -> (f32, Tick) {
    (f32::from_bits((word >> 32) as u32), Tick(word as u32))
}

/// The latency average, in one word; 0 = never measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Latency(pub u64);

impl Latency {
    /// An average that begins at `ms` milliseconds.
    #[must_use]
    pub fn seeded(ms: f32, now: Tick) -> Self {
        Self(pack(ms.max(0.001), now))
    }

    /// The average in milliseconds, if anything was measured.
    #[must_use]
    #[inline]
    pub fn ms(self) -> Option<f32> {
        (self.0 != 0).then(|| unpack(self.0).0)
    }

    /// When the last sample came; `None` before the first.
    #[must_use]
    #[inline]
    pub fn last(self) -> Option<Tick> {
        (self.0 != 0).then(|| unpack(self.0).1)
    }

    /// The average after one more sample, in microseconds; `None` where nothing changes within this tick.
    #[must_use]
    #[inline]
    pub fn observe(self, micros: u64, now: Tick) -> Option<Self> {
        // Never 0: a word of 0 means that nothing was measured.
        let sample = (micros.max(1) as f32) / 1000.0;
        let (Some(ms), Some(last)) = (self.ms(), self.last()) else { return Some(Self(pack(sample, now))) };
        match now.since(last) {
            0 => None,
            ticks => Some(Self(pack((ms + gain(ticks) * (sample - ms)).max(0.001), now))),
        }
    }
}

/// The error-rate average, in one word.
///
/// Between samples it decays towards 0, which is exactly what a good sample does to it. Good tries therefore need not
/// write it at all: they leave their time in the latency word, and a failure weighs by the time since the last
/// sample of either kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errors(pub u64);

impl Errors {
    /// Below this a rate counts as 0, so that picks of a peer that healed need no exponential.
    const NOTHING: f32 = 1e-4;

    /// The rate as of `now`, 0 to 1.
    #[must_use]
    #[inline]
    pub fn rate(self, now: Tick) -> f32 {
        if self.0 == 0 {
            return 0.0;
        }
        let (rate, last) = unpack(self.0);
        match rate * (1.0 - gain(now.since(last))) {
            rate if rate < Self::NOTHING => 0.0,
            rate => rate,
        }
    }

    /// The average after a failure; `latency` tells when the last good sample came. `None` where nothing changes
    /// within this tick.
    #[must_use]
    pub fn fail(self, latency: Latency, now: Tick) -> Option<Self> {
        let failed = (self.0 != 0).then(|| now.since(unpack(self.0).1));
        let answered = latency.last().map(|last| now.since(last));
        let gain = match (failed, answered) {
            (None, None) => 1.0,
            (Some(ticks), None) | (None, Some(ticks)) => gain(ticks),
            (Some(one), Some(other)) => gain(one.min(other)),
        };
        (gain > 0.0).then(|| Self(pack((self.rate(now) + gain).min(1.0), now)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gain_is_as_exact_as_it_says() {
        for ticks in (0..2_000).chain((2_000..900_000).step_by(997)) {
            let exact = -(-f64::from(ticks) / f64::from(TAU_TICKS)).exp_m1();
            let error = (f64::from(gain(ticks)) - exact).abs();
            assert!(error <= exact * 1e-5, "{ticks}: {} for {exact}", gain(ticks));
        }
        assert_eq!(gain(u32::MAX), 1.0);
    }

    #[test]
    fn ticks_go_around() {
        for (now, then, since) in [
            (5, 3, 2),
            (3, 3, 0),
            (3, 5, 0),                              // another worker's clock was read later
            (2, u32::MAX, 3),                       // around the end
            (0, 1 << 19, u32::MAX - (1 << 19) + 1), // a long time
        ] {
            assert_eq!(Tick(now).since(Tick(then)), since, "{now} {then}");
        }
    }

    #[test]
    fn irregular_samples_average_as_the_formula_says() {
        let mut word = Latency(0);
        let mut exact: Option<(f64, u64)> = None;
        let mut now = 1_000_000;
        for step in 0..3_000_u64 {
            now += 64 * (1 + step * step % 700);
            let sample = 1_000 + step * 7_919 % 50_000;
            word = word.observe(sample, Tick::at(now)).unwrap();
            let ms = sample as f64 / 1000.0;
            exact = Some(match exact {
                None => (ms, now),
                Some((value, last)) => (value - (-((now - last) as f64) / TAU as f64).exp_m1() * (ms - value), now),
            });
        }
        let (expected, got) = (exact.unwrap().0, f64::from(word.ms().unwrap()));
        assert!((got / expected - 1.0).abs() < 1e-3, "{got} for {expected}");
    }

    #[test]
    fn a_step_is_followed_by_the_time_constant() {
        let mut word = Latency(0).observe(10_000, Tick::at(SECOND)).unwrap();
        for ms in 1..=3_000 {
            word = word.observe(100_000, Tick::at(SECOND + ms * 1_000)).unwrap();
        }
        // 63 % of the way after one time constant.
        assert!((word.ms().unwrap() - 66.9).abs() < 0.3, "{:?}", word.ms());
        assert_eq!(word.observe(5, Tick::at(4 * SECOND)), None, "within one tick");
    }

    #[test]
    fn a_steady_share_of_failures_is_the_rate() {
        for every in [2_u64, 10] {
            let (mut latency, mut errors) = (Latency(0), Errors(0));
            for step in 0..4_000 {
                let now = Tick::at(step * 5_000);
                if step % every == 0 {
                    errors = errors.fail(latency, now).unwrap_or(errors);
                } else {
                    latency = latency.observe(1_000, now).unwrap_or(latency);
                }
            }
            let rate = errors.rate(Tick::at(4_000 * 5_000));
            assert!((rate * every as f32 - 1.0).abs() < 0.02, "1 in {every}: {rate}");
        }
    }

    #[test]
    fn errors_decay_while_nothing_is_measured() {
        let errors = Errors(0).fail(Latency(0), Tick::at(0)).unwrap();
        for (seconds, low, high) in [(0, 1.0, 1.0), (3, 0.36, 0.37), (9, 0.049, 0.051), (40, 0.0, 0.0)] {
            let rate = errors.rate(Tick::at(seconds * SECOND));
            assert!((low..=high).contains(&rate), "after {seconds} s: {rate}");
        }
    }
}
