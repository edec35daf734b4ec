//! The one source of chance: equal seeds give equal runs.

use gateway::balancer::Rng;

/// A stream of random numbers. Who draws seldom has a stream of his own, so that one more draw there changes nothing
/// elsewhere.
pub struct Random(Rng);

impl Random {
    /// The stream called `name` of the run with `seed`.
    pub fn new(seed: u64, name: &str) -> Self {
        let mut rng =
            Rng::new(name.bytes().fold(seed, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)));
        // Neighbouring seeds begin far apart.
        let start = rng.next_u64();
        Self(Rng::new(start ^ rng.next_u64()))
    }

    pub fn word(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// 0 to 1 without 1.
    pub fn fraction(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A number below `bound`; 0 for a bound of 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.0.next_u64()) * u128::from(bound)) >> 64) as u64
    }

    /// `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low) + 1)
    }

    pub fn chance(&mut self, share: f64) -> bool {
        self.fraction() < share
    }

    /// The time to the next of events that come `rate` times a second on average, microseconds.
    pub fn wait(&mut self, rate: f64) -> u64 {
        (-(1.0 - self.fraction()).ln() / rate.max(1e-9) * 1e6) as u64 + 1
    }

    /// Around `middle` with a tail to the right, as service times are.
    pub fn service(&mut self, middle: u64) -> u64 {
        // A sum of uniform numbers is near enough to a normal one.
        let normal: f64 = (0..6).map(|_| self.fraction()).sum::<f64>() * 2.0 - 6.0;
        (middle as f64 * (normal * 0.25).exp()) as u64 + 1
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        from.get(self.below(from.len() as u64) as usize)
    }
}
