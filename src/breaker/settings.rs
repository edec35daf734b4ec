use rkyv::{Archive, Deserialize, Serialize};

/// When an upstream's breaker opens and how it closes again, checked. At least one of `failures` and `failure_ratio` is
/// above 0, and so is every other number that does not say what its 0 means.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Breaker {
    /// So many failures within the window open it; 0 = their number alone does not.
    pub failures: u32,
    /// Such a share of failures among the calls within the window opens it, in tenths of a percent; 0 = their share does
    /// not.
    pub failure_ratio: u16,
    /// The share counts from so many calls within the window on.
    pub minimum_calls: u32,
    /// A call whose response header takes longer is a failure, microseconds; 0 = however long it takes.
    pub slow_call: u64,
    /// How far back calls and failures are counted, microseconds.
    pub window: u64,
    /// How long it stays open, in microseconds; also how long a probe may take.
    pub open_for: u64,
    /// It stays open twice as long each time that it opens again, up to this; `open_for` = it does not.
    pub open_for_max: u64,
    /// Up to such a share longer, at random, in tenths of a percent: breakers that opened together probe one by one.
    pub jitter: u16,
    /// How many probes may be in flight at once, over all workers; at most [`super::PROBES_MAX`].
    pub probes: u32,
    /// How many successful probes close it.
    pub closes_after: u32,
}

impl Breaker {
    /// Whether successes matter while it is closed.
    #[must_use]
    #[inline]
    pub const fn weighs(&self) -> bool {
        self.failure_ratio != 0
    }

    /// How long it stays open, having been reopened `times` times in a row: `random` decides about the jitter.
    #[must_use]
    pub const fn open_time(&self, times: u32, random: u64) -> u64 {
        let doubled = self.open_for.saturating_mul(1u64 << (times & 63));
        self.jittered(if doubled < self.most() { doubled } else { self.most() }, random)
    }

    /// The longest that [`Breaker::open_time`] may come to.
    #[must_use]
    pub const fn longest(&self) -> u64 {
        self.jittered(self.most(), u64::MAX)
    }

    const fn most(&self) -> u64 {
        if self.open_for_max > self.open_for { self.open_for_max } else { self.open_for }
    }

    /// Sixteen bits of chance are plenty; so no product is beyond 64 bits, with times of at most a month.
    const fn jittered(&self, time: u64, random: u64) -> u64 {
        time + ((time * self.jitter as u64 / 1_000 * (random >> 48)) >> 16)
    }

    /// Whether such counts within the window open it.
    #[must_use]
    pub const fn opens(&self, failures: u64, calls: u64) -> bool {
        let by_number = self.failures != 0 && failures >= self.failures as u64;
        let by_share = self.weighs()
            && calls >= self.minimum_calls as u64
            && failures * 1_000 >= self.failure_ratio as u64 * calls;
        by_number || by_share
    }
}

impl ArchivedBreaker {
    /// The settings in the machine's own byte order.
    #[must_use]
    #[inline]
    pub fn settings(&self) -> Breaker {
        Breaker {
            failures: self.failures.to_native(),
            failure_ratio: self.failure_ratio.to_native(),
            minimum_calls: self.minimum_calls.to_native(),
            slow_call: self.slow_call.to_native(),
            window: self.window.to_native(),
            open_for: self.open_for.to_native(),
            open_for_max: self.open_for_max.to_native(),
            jitter: self.jitter.to_native(),
            probes: self.probes.to_native(),
            closes_after: self.closes_after.to_native(),
        }
    }
}
