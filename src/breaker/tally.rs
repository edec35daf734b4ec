use super::Breaker;

/// How many parts the window is counted in: it slides in steps of a thirty-second of its length.
pub const TALLIES: u64 = 32;

/// The failures, or the calls, of one part of the window: which part, counted from time 0 (24 bits), the last 10 bits of
/// the era, and how many (30 bits: a window of a day has parts of 45 minutes). Parts of another time or era do not
/// count, so nothing has to be cleared when a breaker closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tally(pub u64);

const PART_BITS: u32 = 24;
const ERA_BITS: u32 = 10;
const COUNT_BITS: u32 = 30;
const BEHIND: i64 = -(TALLIES as i64);
const COUNT_MAX: u64 = (1 << COUNT_BITS) - 1;

impl Tally {
    /// The number of the part that `now` is in; it is kept in the tally with this number modulo [`TALLIES`].
    #[must_use]
    pub const fn part(settings: &Breaker, now: u64) -> u64 {
        match settings.window.div_ceil(TALLIES) {
            0 => now,
            length => now / length,
        }
    }

    /// Whether one more in `part` of `era` is this word plus 1, however many others add to it at the same time.
    #[must_use]
    #[inline]
    pub const fn takes(self, part: u64, era: u32) -> bool {
        // As many threads as there may be could add to it before they see that it is full.
        self.age(era) == 0 && self.distance(part) == 0 && self.count() < COUNT_MAX >> 1
    }

    /// One more, in `part` of `era`; unchanged if the tally is of a later era.
    #[must_use]
    pub const fn plus_one(self, part: u64, era: u32) -> Self {
        let age = self.age(era);
        if age != 0 && age < 1 << (ERA_BITS - 1) {
            return self;
        }
        // The part one window ahead is that of a process that looked at the clock later: the call counts there. What
        // seems to be further ahead is so old that its number has come around.
        if age == 0 && matches!(self.distance(part), BEHIND..=0) {
            return Self(if self.count() < COUNT_MAX { self.0 + 1 } else { self.0 });
        }
        let (part, era) = (part & ((1 << PART_BITS) - 1), era as u64 & ((1 << ERA_BITS) - 1));
        Self(part << (ERA_BITS + COUNT_BITS) | era << COUNT_BITS | 1)
    }

    /// How many of its calls lie in the window that ends in `part` of `era`.
    #[must_use]
    pub const fn within(self, part: u64, era: u32) -> u64 {
        let near = self.distance(part).unsigned_abs() < TALLIES;
        if near && self.age(era) == 0 { self.count() } else { 0 }
    }

    const fn count(self) -> u64 {
        self.0 & COUNT_MAX
    }

    /// How many parts after this one `part` is; negative = before.
    const fn distance(self, part: u64) -> i64 {
        let shift = u64::BITS - PART_BITS;
        (part.wrapping_sub(self.0 >> (ERA_BITS + COUNT_BITS)) << shift) as i64 >> shift
    }

    /// How many eras after `era` this tally is of, around the end.
    const fn age(self, era: u32) -> u64 {
        (self.0 >> COUNT_BITS).wrapping_sub(era as u64) & ((1 << ERA_BITS) - 1)
    }
}
