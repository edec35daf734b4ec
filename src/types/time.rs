//! Time is a value that callers bring; the library reads no clock.

/// Microseconds in a millisecond.
pub const MILLISECOND: u64 = 1_000;
/// Microseconds in a second.
pub const SECOND: u64 = 1_000_000;

/// One instant, on both clocks.
///
/// Limits, breakers, statistics and timeouts run on `mono`; only what other machines stamped (JWT, signatures) is
/// compared with `wall`. A step of the wall clock therefore refills no bucket and closes no breaker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Microseconds of a clock that never steps back and is the same in all processes of the machine.
    pub mono: u64,
    /// Microseconds since the Unix epoch.
    pub wall: u64,
}

impl Now {
    /// This instant, `micros` later on both clocks.
    #[must_use]
    pub const fn plus(self, micros: u64) -> Self {
        Self { mono: self.mono.saturating_add(micros), wall: self.wall.saturating_add(micros) }
    }
}
