/// When a bucket will be full again, in one word of 63 bits: whole microseconds (43 bits) and a fraction (20 bits)
/// that counts in the quota's own ticks, [`super::Quota::ticks`] to the microsecond.
///
/// Fractions are what keeps 3 tokens a second exact: a token takes 333,333⅓ µs, which is one million ticks of a third
/// of a microsecond, and no charge ever rounds. Because the whole microseconds stand in the same place for every
/// quota, a table can tell which of two buckets is full sooner without knowing their rates.
///
/// 43 bits of microseconds wrap after 101 days, so times are compared by their distance and read as near to now as a
/// bucket can be: [`super::Quota`] takes what is further ahead than a full debt (and an hour, for clocks that were
/// stepped back) for long past. The top bit is never set; it belongs to the table that keeps the word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due(pub u64);

/// How far ahead of now a due time may lie, microseconds: half of what the word can tell apart, 50 days.
pub(super) const AHEAD_MAX: u64 = 1 << (Due::MICROS_BITS - 1);

impl Due {
    pub(super) const FRACTION_BITS: u32 = 20;
    const MICROS_BITS: u32 = 43;
    const MICROS_MASK: u64 = (1 << Self::MICROS_BITS) - 1;

    /// The due time of a bucket that has never been used: full at `now`.
    #[must_use]
    #[inline]
    pub const fn rest(now: u64) -> Self {
        Self::at(now, 0)
    }

    /// Whole microseconds from `now` until the bucket is full; `None` when it is full. Exact up to 50 days in both
    /// directions, whatever the quota.
    #[must_use]
    #[inline]
    pub const fn ahead(self, now: u64) -> Option<u64> {
        let distance = self.distance(now);
        if distance >= AHEAD_MAX || (distance == 0 && self.fraction() == 0) { None } else { Some(distance) }
    }

    /// The same instant by a clock that is `by` microseconds ahead, wrapping.
    #[must_use]
    pub const fn moved(self, by: u64) -> Self {
        Self::at((self.0 >> Self::FRACTION_BITS).wrapping_add(by), self.fraction())
    }

    pub(super) const fn at(micros: u64, fraction: u64) -> Self {
        Self((micros & Self::MICROS_MASK) << Self::FRACTION_BITS | fraction)
    }

    /// From `now` on, around the end of the clock's 43 bits: what is past looks far ahead.
    pub(super) const fn distance(self, now: u64) -> u64 {
        (self.0 >> Self::FRACTION_BITS).wrapping_sub(now) & Self::MICROS_MASK
    }

    pub(super) const fn fraction(self) -> u64 {
        self.0 & ((1 << Self::FRACTION_BITS) - 1)
    }
}
