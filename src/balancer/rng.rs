/// wyrand: a multiplication a number, good enough to share out requests, predictable and therefore for nothing secret.
///
/// One a worker, each with a seed of its own, or all workers would pick alike.
#[derive(Debug)]
pub struct Rng(u64);

impl Rng {
    /// A generator; equal seeds give equal sequences.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    #[inline]
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x2d35_8dcc_aa6c_78a5);
        let product = u128::from(self.0) * u128::from(self.0 ^ 0x8bb8_4b93_962e_acc9);
        product as u64 ^ (product >> 64) as u64
    }

    /// The next fraction, 0 to 1 without 1.
    #[inline]
    pub fn fraction(&mut self) -> f32 {
        (self.next_u64() >> 40) as f32 / (1_u32 << 24) as f32
    }

    /// The next number below `bound`; 0 for a bound of 0.
    #[inline]
    pub fn below(&mut self, bound: u32) -> u32 {
        (((self.next_u64() >> 32) * u64::from(bound)) >> 32) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_decide_and_numbers_are_even() {
        let mut one = Rng::new(1);
        let mut other = Rng::new(2);
        assert_ne!(one.next_u64(), other.next_u64());
        assert_eq!(Rng::new(1).next_u64(), Rng::new(1).next_u64());

        let mut counts = [0_u32; 7];
        let mut sum = 0.0;
        for _ in 0..70_000 {
            counts[one.below(7) as usize] += 1;
            let fraction = one.fraction();
            assert!((0.0..1.0).contains(&fraction));
            sum += f64::from(fraction);
        }
        assert!(counts.iter().all(|count| (9_600..10_400).contains(count)), "{counts:?}");
        assert!((sum / 70_000.0 - 0.5).abs() < 0.005, "{sum}");
    }
}
