//! What a peer is worth.

/// The least weight of a peer that may get requests, as a part of the best one's.
pub const FLOOR: f32 = 0.01;

/// Above this error rate a peer is less and less believed to be as fast as it looks.
const DOUBT: f32 = 0.5;

/// A peer as its statistics show it at some instant.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Standing {
    /// Average time to the response header, milliseconds; `None` = never measured.
    pub latency: Option<f32>,
    /// Average error rate, 0 to 1.
    pub errors: f32,
    /// Whether it may get requests: not ejected, not down.
    pub available: bool,
}

impl Standing {
    /// A peer of which nothing is known.
    pub const UNKNOWN: Self = Self { latency: None, errors: 0.0, available: true };

    /// The share of good tries.
    #[must_use]
    #[inline]
    pub fn health(self) -> f32 {
        1.0 - self.errors
    }

    /// The latency that counts, milliseconds, `siblings` being the mean of the others: what was measured, as long as
    /// most tries succeed. The few good answers of a peer that fails 90 % in a millisecond say nothing about what it
    /// would take to do the work, and taken at their word they outweigh any number of failures: from an error rate of
    /// one half on, the mean of its siblings counts more and more unless it is slower anyway.
    #[must_use]
    #[inline]
    pub fn effective(self, siblings: f32) -> f32 {
        let ms = self.latency.unwrap_or(siblings);
        if self.errors <= DOUBT || ms >= siblings {
            return ms;
        }
        ms + (siblings - ms) * (self.errors - DOUBT) / (1.0 - DOUBT)
    }

    /// Whether [`Self::effective`] looks at the siblings at all.
    #[must_use]
    #[inline]
    pub fn needs_siblings(self) -> bool {
        self.errors > DOUBT || self.latency.is_none()
    }

    /// What a request costs here that finds `before` others in flight, where it would find `beside` at the sibling that
    /// this one is compared with; the less, the better. Who fails fast has little in flight, which is no merit: the more
    /// it fails the less it counts.
    #[must_use]
    #[inline]
    pub(super) fn cost(self, siblings: f32, before: f32, beside: f32) -> f32 {
        let before = before + (beside - before).max(0.0) * (self.errors / DOUBT).min(1.0);
        (before + 1.0) / self.quality(siblings)
    }

    /// Weight per unit of static weight: `1000 / (latency ms + 1) x (1 - error rate)`.
    #[must_use]
    #[inline]
    pub fn quality(self, siblings: f32) -> f32 {
        1000.0 / (self.effective(siblings) + 1.0) * self.health()
    }
}

/// The least part of its weight that a peer begins with while it ramps up: without any requests nobody warms up.
const COLD: f64 = 0.1;

/// Units of [`effective`] weight in one of the document's.
const UNIT: f64 = 256.0;

/// The weight of a peer that has been there for `age` while weights grow over `slow_start`, both microseconds; in parts
/// of 1/256, and never 0 unless `weight` is.
#[must_use]
pub(super) fn effective(weight: u32, age: u64, slow_start: u64) -> u32 {
    let part = if age >= slow_start { 1.0 } else { (age as f64 / slow_start as f64).max(COLD) };
    // Saturates at 2^32 / 256, far above what a document may say.
    (f64::from(weight) * UNIT * part).ceil() as u32
}

/// Where standings come from; the region's peer table, or a test's vector.
pub trait Statistics {
    /// How the peer with statistics `slot` stands at `mono`, microseconds. An unknown slot is [`Standing::UNKNOWN`].
    fn standing(&self, slot: u32, mono: u64) -> Standing;

    /// Lets a peer that was never measured begin at `ms` milliseconds.
    fn seed(&self, slot: u32, ms: f32, mono: u64);

    /// How many requests are in flight at the peer.
    fn in_flight(&self, slot: u32) -> u32 {
        let _ = slot;
        0
    }

    /// For how long, microseconds, it has been there, or back.
    fn age(&self, slot: u32, mono: u64) -> u64 {
        let _ = (slot, mono);
        u64::MAX
    }

    /// Lets its age begin now: it is away.
    fn away(&self, slot: u32, mono: u64) {
        let _ = (slot, mono);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_formula() {
        for (latency, errors, siblings, expected) in [
            (Some(9.0), 0.0, 50.0, 100.0),
            (Some(99.0), 0.0, 50.0, 10.0),
            (Some(99.0), 0.25, 50.0, 7.5),
            (Some(9.0), 0.5, 50.0, 50.0),      // still taken at its word
            (Some(1.0), 0.75, 99.0, 4.901_96), // half believed
            (Some(199.0), 0.9, 99.0, 0.5),     // slower than the others: no doubt about that
            (Some(9.0), 1.0, 50.0, 0.0),
            (None, 0.0, 99.0, 10.0),
        ] {
            let quality = Standing { latency, errors, available: true }.quality(siblings);
            assert!((quality - expected).abs() < 1e-3, "{latency:?} {errors}: {quality}");
        }
    }

    #[test]
    fn weights_grow_from_a_tenth() {
        for (weight, age, slow_start, expected) in [
            (3, 0, 0, 768),
            (3, 5, 0, 768),
            (1, 0, 10, 26),
            (1, 1, 10, 26),
            (1, 5, 10, 128),
            (1, 10, 10, 256),
            (0, 0, 10, 0),
            (1_000_000, u64::MAX, 10, 256_000_000),
            (u32::MAX, 0, 0, u32::MAX),
        ] {
            assert_eq!(effective(weight, age, slow_start), expected, "{weight} {age} {slow_start}");
        }
    }
}
