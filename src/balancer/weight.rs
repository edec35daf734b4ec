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

    /// Weight per unit of static weight: `1000 / (latency ms + 1) x (1 - error rate)`.
    #[must_use]
    #[inline]
    pub fn quality(self, siblings: f32) -> f32 {
        1000.0 / (self.effective(siblings) + 1.0) * self.health()
    }
}

/// Where standings come from; the region's peer table, or a test's vector.
pub trait Statistics {
    /// How the peer with statistics `slot` stands at `mono`, microseconds. An unknown slot is [`Standing::UNKNOWN`].
    fn standing(&self, slot: u32, mono: u64) -> Standing;

    /// Lets a peer that was never measured begin at `ms` milliseconds.
    fn seed(&self, slot: u32, ms: f32, mono: u64);
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
}
