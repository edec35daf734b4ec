use super::{Overload, Samples};

/// The limit and the baseline that it rests on, in one word: {limit, f32; baseline, microseconds, f32}; 0 = nothing was
/// measured yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct State(pub u64);

/// A window moves the limit half of the way to what it calls for, by these factors at most.
const LEAST: f32 = 0.75;
const MOST: f32 = 1.5;
/// The part of the way that the baseline goes to a better window's latency …
const BETTER: f32 = 0.2;
/// … and to that of one at `min` which is still worse than tolerated.
const WORSE: f32 = 0.5;
/// Up to so many times `min`, and one, are the fewest that can be under way: requests that were let in at one moment, too.
const FEW: f32 = 1.5;
/// A limit grows while at least this part of it is used.
const USED: f32 = 1.0 / 3.0;

impl State {
    /// How many requests may be under way; `min` to begin with.
    #[must_use]
    #[inline]
    pub fn limit(self, settings: &Overload) -> f32 {
        let (min, max) = (settings.min.max(1) as f32, settings.max.max(1) as f32);
        // Not `clamp`: an edit may have put them in any order, and a word may be damaged.
        f32::from_bits((self.0 >> 32) as u32).min(max).max(min)
    }

    /// The latency of an upstream that is not pressed, microseconds; 0 where nothing was measured.
    #[must_use]
    #[inline]
    pub fn baseline(self) -> f32 {
        f32::from_bits(self.0 as u32)
    }

    /// The state after a window of `length` microseconds with these `samples`.
    #[must_use]
    pub fn next(self, settings: &Overload, samples: Samples, length: u64) -> Self {
        if samples.count() == 0 {
            return self;
        }
        let mean = (samples.sum() as f32 / samples.count() as f32).max(1.0);
        let (limit, tolerance) = (self.limit(settings), f32::from(settings.tolerance.max(1)));
        // Little's law: what was under way on average.
        let used = samples.sum() as f32 / length.max(1) as f32;
        let fewest = limit <= settings.min.max(1) as f32 && used <= limit.mul_add(FEW, 1.0);
        let baseline = match self.baseline() {
            known if known <= 0.0 => mean,
            known if mean < known => known + (mean - known) * BETTER,
            known if fewest && mean > known * tolerance => known + (mean - known) * WORSE,
            known => known,
        };
        // With more under way than the limit says it is their latency, not that of as many as the limit lets in.
        let called_for = limit.max(used) * (tolerance * baseline / mean);
        let moved = f32::midpoint(limit, called_for).clamp(limit * LEAST, limit * MOST);
        let next = if moved > limit && used < limit * USED { limit } else { moved };
        let next = Self(u64::from(next.to_bits()) << 32).limit(settings);
        Self(u64::from(next.to_bits()) << 32 | u64::from(baseline.to_bits()))
    }
}

/// The part of the limit that requests of `priority` may fill: four fifths at 0, a tenth more for each step up and less
/// for each step down, at most all and at least half.
#[must_use]
#[inline]
pub const fn share(priority: i32) -> f32 {
    let tenths = match priority {
        ..=-3 => 5,
        2.. => 10,
        near => 8 + near,
    };
    tenths as f32 / 10.0
}

/// Whether one more request of `priority` is within `limit` while `in_flight` are under way. One always is where none is
/// under way: it is how a limit that has become too low is found out.
#[must_use]
#[inline]
pub fn admits(limit: f32, in_flight: u32, priority: i32) -> bool {
    in_flight == 0 || (in_flight as f32) < limit * share(priority)
}

#[cfg(test)]
mod tests {
    use super::super::Mode;
    use super::*;

    const SETTINGS: Overload = Overload { mode: Mode::Enforce, min: 2, max: 100, tolerance: 2 };

    fn state(limit: f32, baseline: f32) -> State {
        State(u64::from(limit.to_bits()) << 32 | u64::from(baseline.to_bits()))
    }

    #[test]
    fn steps() {
        let window = 100_000;
        // Before; mean latency, requests in the window; after.
        for (before, mean, count, (limit, baseline)) in [
            (State(0), 1_000, 200, (3.0, 1_000.0)),                 // the first: from `min` up
            (state(10.0, 1_000.0), 1_000, 1_000, (15.0, 1_000.0)),  // not pressed, and used
            (state(10.0, 1_000.0), 1_000, 300, (10.0, 1_000.0)),    // not used
            (state(10.0, 1_000.0), 2_000, 500, (10.0, 1_000.0)),    // as slow as is tolerated
            (state(10.0, 1_000.0), 4_000, 10, (7.5, 1_000.0)),      // too slow, used or not
            (state(10.0, 1_000.0), 90_000, 10, (7.5, 1_000.0)),     // by a quarter at most
            (state(10.0, 1_000.0), 500, 2_000, (15.0, 900.0)),      // better than ever
            (state(2.0, 1_000.0), 5_000, 50, (2.5, 3_000.0)),       // too slow with the fewest: its own doing
            (state(2.0, 1_000.0), 5_000, 1_000, (3.0, 1_000.0)), // with many more than let in, as in shadow mode: not
            (state(30.0, 1_000.0), 4_000, 1_000, (25.0, 1_000.0)), // as many: what 40 took says that 20 would do
            (state(90.0, 1_000.0), 1_000, 9_000, (100.0, 1_000.0)), // `max`
            (state(f32::NAN, 1_000.0), 1_000, 1_000, (100.0, 1_000.0)),
        ] {
            let after = before.next(&SETTINGS, Samples(Samples::one(mean).0 * count), window);
            assert!((after.limit(&SETTINGS) - limit).abs() < 0.01, "{before:?} {mean}: {}", after.limit(&SETTINGS));
            assert!((after.baseline() - baseline).abs() < 1.0, "{before:?} {mean}: {}", after.baseline());
        }
        assert_eq!(state(9.0, 5.0).next(&SETTINGS, Samples(0), 1), state(9.0, 5.0));
    }

    #[test]
    fn shares() {
        let tenths = |priority| (share(priority) * 10.0).round() as u32;
        assert_eq!([i32::MIN, -3, -2, -1, 0, 1, 2, i32::MAX].map(tenths), [5, 5, 6, 7, 8, 9, 10, 10]);
        for (limit, in_flight, priority, expected) in [
            (10.0, 7, 0, true),
            (10.0, 8, 0, false),
            (10.0, 8, 1, true),
            (10.0, 9, 2, true),
            (10.0, 10, 2, false),
            (1.0, 0, i32::MIN, true),
            (1.0, 1, i32::MAX, false),
        ] {
            assert_eq!(admits(limit, in_flight, priority), expected, "{in_flight} of {limit} at {priority}");
        }
    }
}
