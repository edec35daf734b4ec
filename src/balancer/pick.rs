use super::table::{Drawn, PickTable};
use super::weight::FLOOR;
use super::{Rng, Standing, Statistics, Tried};

/// Draws before the scan. Each fails only where a peer was tried, is gone, or lost much since the last build.
const DRAWS: u32 = 6;

/// So many peers are looked at in one go by a scan.
const WINDOW: u32 = 128;

impl PickTable<'_> {
    /// Picks a peer that was not tried yet, by its place; `None` when all were tried or have a static weight of 0.
    ///
    /// An ejected peer is picked only when no other is left. `mono` is in microseconds.
    #[inline]
    pub fn pick(self, statistics: &impl Statistics, tried: &Tried, rng: &mut Rng, mono: u64) -> Option<u32> {
        if self.len() == 1 {
            return (!tried.contains(0)).then_some(0);
        }
        let first = tried.is_empty();
        for _ in 0..DRAWS {
            let Some((drawn, fraction)) = self.draw(rng.next_u64()) else { break };
            if (first || !tried.contains(drawn.place))
                && self.accepts(&drawn, statistics.standing(drawn.slot, mono), fraction)
            {
                return Some(drawn.place);
            }
        }
        self.scan(statistics, tried, rng, mono)
    }

    /// Accepts with probability weight now / weight in the table; the static weight cancels out. `fraction` is random,
    /// 0 to 1. Nearly always true, and the only branch that hangs on a random number.
    #[inline]
    fn accepts(self, drawn: &Drawn, standing: Standing, fraction: f32) -> bool {
        if !standing.available && !self.panics() {
            return false;
        }
        let (now, then) = match drawn.reference {
            // Nobody's latency was known: whoever was measured first since then must not lose to those who were not.
            health if health < 0.0 => (standing.health(), -health),
            quality => (standing.quality(self.siblings_for(standing)), quality),
        };
        fraction * then <= now.max(then * FLOOR)
    }

    /// The mean latency where [`Standing::effective`] wants it; the header line stays cold otherwise.
    #[inline]
    fn siblings_for(self, standing: Standing) -> f32 {
        if standing.needs_siblings() { self.siblings() } else { 0.0 }
    }

    /// Weights as they are now, over who is left. Large tables are looked at window by window from a random place on,
    /// first for peers of the highest standing that can be had at once, so that the work stays bounded.
    #[cold]
    fn scan(self, statistics: &impl Statistics, tried: &Tried, rng: &mut Rng, mono: u64) -> Option<u32> {
        let len = self.len();
        if len > WINDOW {
            // The peers with weight all have one priority: that of whatever a draw finds.
            let serving = self.draw(rng.next_u64()).map_or(0, |(drawn, _)| self.settings(drawn.place).1);
            let start = rng.below(len);
            for from in (0..len).step_by(WINDOW as usize) {
                let window = (from..len.min(from + WINDOW)).map(|step| (start + step) % len);
                if let Some(place) = self.choose(window, Some(serving), statistics, tried, rng, mono) {
                    return Some(place);
                }
            }
        }
        self.choose(0..len, None, statistics, tried, rng, mono)
    }

    /// Picks by weight among the untried of the best rank in `places`: available ones first, then by priority. `only`
    /// asks for available peers of that priority and no others.
    fn choose(
        self,
        places: impl Iterator<Item = u32> + Clone,
        only: Option<u8>,
        statistics: &impl Statistics,
        tried: &Tried,
        rng: &mut Rng,
        mono: u64,
    ) -> Option<u32> {
        let panics = self.panics();
        let siblings = self.siblings();
        let candidates = places.filter(|place| !tried.contains(*place)).filter_map(|place| {
            let (weight, priority) = self.settings(place);
            let standing = statistics.standing(self.at(place)?.slot, mono);
            let rank = (!standing.available && !panics, priority);
            let wanted = weight > 0 && only.is_none_or(|only| rank == (false, only));
            wanted.then(|| (rank, place, weight, standing.quality(siblings)))
        });
        let (mut rank, mut first, _, mut best) = candidates.clone().next()?;
        for (other, place, _, quality) in candidates.clone() {
            if other < rank {
                (rank, first, best) = (other, place, quality);
            } else if other == rank {
                best = best.max(quality);
            }
        }
        // Each candidate takes over from the one before with its share of the weight so far. Statistics move between
        // the two passes: whoever was of the best rank a moment ago will do if nobody is any more.
        let mut sum = 0.0;
        let mut chosen = first;
        for (_, place, weight, quality) in candidates.filter(|(other, ..)| *other == rank) {
            let weight = if best > 0.0 { weight as f32 * quality.max(best * FLOOR) } else { 1.0 };
            sum += weight;
            if rng.fraction() * sum < weight {
                chosen = place;
            }
        }
        Some(chosen)
    }
}
