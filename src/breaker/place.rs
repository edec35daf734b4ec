use super::{Breaker, TIME_BITS, time, until};

/// A probe in flight: until when its result counts (42 bits), which worker sent it (12 bits) and the era's last 9 bits,
/// followed by a 1. 0 is a free place.
///
/// The permit carries this word, and a report counts only while the place still holds it: whoever lost the place to a
/// later probe, by being late or because its worker was declared dead, changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place(pub u64);

const WORKER_BITS: u32 = 12;
const REST_BITS: u32 = u64::BITS - TIME_BITS - WORKER_BITS;

impl Place {
    /// A probe that `worker` sends at `now`.
    #[must_use]
    pub const fn take(era: u32, worker: u16, settings: &Breaker, now: u64) -> Self {
        let worker = worker as u64 & ((1 << WORKER_BITS) - 1);
        let rest = (era as u64) << 1 & ((1 << REST_BITS) - 1) | 1;
        Self(time(now.wrapping_add(settings.open_for)) << (WORKER_BITS + REST_BITS) | worker << REST_BITS | rest)
    }

    /// Microseconds that the probe still has; `None` if the place is free or the probe late.
    #[must_use]
    pub fn ahead(self, settings: &Breaker, now: u64) -> Option<u64> {
        if self.0 == 0 {
            return None;
        }
        until(self.0 >> (WORKER_BITS + REST_BITS), now, settings.open_for)
    }

    /// Whether `worker` sent this probe.
    #[must_use]
    pub const fn is_of(self, worker: u16) -> bool {
        self.0 != 0 && self.0 >> REST_BITS & ((1 << WORKER_BITS) - 1) == worker as u64 & ((1 << WORKER_BITS) - 1)
    }
}
