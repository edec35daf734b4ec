use rkyv::{Archive, Deserialize, Serialize};

/// When an upstream's breaker opens and how it closes again, checked: every number is above 0.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Breaker {
    /// So many failures …
    pub failures: u32,
    /// … within this many microseconds open it.
    pub window: u64,
    /// How long it stays open, in microseconds, at most 25 days; also how long a probe may take.
    pub open_for: u64,
    /// How many probes may be in flight at once, over all workers; at most [`super::PROBES_MAX`].
    pub probes: u32,
    /// How many successful probes close it.
    pub closes_after: u32,
}

impl ArchivedBreaker {
    /// The settings in the machine's own byte order.
    #[must_use]
    #[inline]
    pub fn settings(&self) -> Breaker {
        Breaker {
            failures: self.failures.to_native(),
            window: self.window.to_native(),
            open_for: self.open_for.to_native(),
            probes: self.probes.to_native(),
            closes_after: self.closes_after.to_native(),
        }
    }
}
