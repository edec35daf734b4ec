use crate::types::MILLISECOND;

/// Upper bounds of the buckets, inclusive, microseconds; one more bucket takes what is above.
pub const BOUNDS: [u64; 13] = [
    MILLISECOND,
    2_500,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
];

/// Word of a histogram slot that sums microseconds.
pub(super) const SUM: usize = 1;

/// Word of a histogram slot that counts the first bucket; the others follow. Buckets are not cumulative. What ends
/// within 50 ms touches only the first cache line.
pub(super) const FIRST: usize = 2;

/// The word of a histogram slot that counts a duration of `micros`.
#[must_use]
#[inline]
pub fn bucket(micros: u64) -> usize {
    // Compares with all bounds at once rather than branch on a latency that nobody can predict.
    let micros = micros.min(i32::MAX as u64) as i32;
    FIRST + LANES.iter().map(|bound| i32::from(micros > *bound)).sum::<i32>() as usize
}

/// The bounds in whole vectors of what every processor compares; nothing is above those that fill up.
const LANES: [i32; 16] = {
    let mut lanes = [i32::MAX; 16];
    let mut rest: &[u64] = &BOUNDS;
    let mut lane: &mut [i32] = &mut lanes;
    while let ([bound, bounds @ ..], [first, others @ ..]) = (rest, lane) {
        *first = *bound as i32;
        (rest, lane) = (bounds, others);
    }
    lanes
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_belong_to_the_bucket_below() {
        for (micros, expected) in [
            (0, 0),
            (1_000, 0),
            (1_001, 1),
            (2_500, 1),
            (50_000, 5),
            (50_001, 6),
            (10_000_000, 12),
            (10_000_001, 13),
            (u64::MAX, 13),
        ] {
            assert_eq!(bucket(micros), FIRST + expected, "{micros}");
        }
        assert_eq!(bucket(u64::MAX), super::super::SLOT - 1);
    }
}
