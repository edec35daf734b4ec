use super::table::{Drawn, PickTable};
use super::weight::FLOOR;
use super::{Algorithm, Rng, Standing, Statistics, Tried};

/// Draws before the scan. Each fails only where a peer was tried, is gone, or lost much since the last build.
const DRAWS: u32 = 6;

/// So many peers are looked at in one go by a scan.
const WINDOW: u32 = 128;

/// What one pick looks at.
pub(super) struct Asks<'p, S> {
    pub statistics: &'p S,
    pub tried: &'p Tried,
    /// Microseconds.
    pub mono: u64,
    /// Whether nobody was tried.
    pub is_first: bool,
}

impl PickTable<'_> {
    /// Picks a peer that was not tried yet and is below its limit, by its place; `None` when there is none, or all such
    /// have a static weight of 0.
    ///
    /// An ejected peer is picked only when no other is left. `mono` is in microseconds.
    #[inline]
    pub fn pick(self, statistics: &impl Statistics, tried: &Tried, rng: &mut Rng, mono: u64) -> Option<u32> {
        let asks = Asks { statistics, tried, mono, is_first: tried.is_empty() };
        if self.len() == 1 {
            return (asks.is_first && self.has_room(self.slot(0)?, statistics)).then_some(0);
        }
        let found = match self.policy.algorithm {
            Algorithm::Adaptive => {
                self.by_draw(&asks, rng, |drawn, standing, fraction| self.accepts(drawn, standing, fraction))
            }
            Algorithm::Random => self.by_draw(&asks, rng, |_, standing, _| standing.available || self.panics()),
            Algorithm::RoundRobin => self.by_turn(&asks),
            Algorithm::LeastConn => self.by_load(&asks, rng),
            Algorithm::P2cEwma => self.by_cost(&asks, rng),
            Algorithm::Hash => self.by_key(&asks),
        };
        if found.is_some() { found } else { self.scan(&asks, rng) }
    }

    /// Whether anybody with a weight is below the limit; where there is none, everybody is.
    #[must_use]
    pub fn is_busy(self, statistics: &impl Statistics, from: u64) -> bool {
        let len = self.len();
        let start = (from % u64::from(len.max(1))) as u32;
        let has_room = |place| match (self.settings(place), self.slot(place)) {
            ((weight, _), Some(slot)) => (weight > 0 || len == 1) && self.has_room(slot, statistics),
            _ => false,
        };
        self.policy.max_in_flight > 0 && !(start..len).chain(0..start).any(has_room)
    }

    #[inline]
    fn has_room(self, slot: u32, statistics: &impl Statistics) -> bool {
        self.policy.max_in_flight == 0 || statistics.in_flight(slot) < self.policy.max_in_flight
    }

    /// Whether the peer at `place` can be had: not tried, below its limit, and available unless nobody is.
    #[inline]
    pub(super) fn takes(self, place: u32, asks: &Asks<'_, impl Statistics>) -> bool {
        let Some(slot) = self.slot(place) else { return false };
        (asks.is_first || !asks.tried.contains(place))
            && (asks.statistics.standing(slot, asks.mono).available || self.panics())
            && self.has_room(slot, asks.statistics)
    }

    /// Draws until one is accepted.
    #[inline]
    fn by_draw(
        self,
        asks: &Asks<'_, impl Statistics>,
        rng: &mut Rng,
        accepts: impl Fn(&Drawn, Standing, f32) -> bool,
    ) -> Option<u32> {
        for _ in 0..DRAWS {
            let Some((drawn, fraction)) = self.draw(rng.next_u64()) else { break };
            if (asks.is_first || !asks.tried.contains(drawn.place))
                && accepts(&drawn, asks.statistics.standing(drawn.slot, asks.mono), fraction)
                && self.has_room(drawn.slot, asks.statistics)
            {
                return Some(drawn.place);
            }
        }
        None
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
    fn scan(self, asks: &Asks<'_, impl Statistics>, rng: &mut Rng) -> Option<u32> {
        let len = self.len();
        if len > WINDOW {
            // The peers with weight all have one priority: that of whatever a draw finds.
            let serving = self.draw(rng.next_u64()).map_or(0, |(drawn, _)| self.settings(drawn.place).1);
            let start = rng.below(len);
            for from in (0..len).step_by(WINDOW as usize) {
                let window = (from..len.min(from + WINDOW)).map(|step| (start + step) % len);
                if let Some(place) = self.choose(window, Some(serving), asks, rng) {
                    return Some(place);
                }
            }
        }
        self.choose(0..len, None, asks, rng)
    }

    /// Picks by weight among those in `places` that are untried, below their limit and of the best rank: available ones
    /// first, then by priority. `only` asks for available peers of that priority and no others.
    fn choose(
        self,
        places: impl Iterator<Item = u32> + Clone,
        only: Option<u8>,
        asks: &Asks<'_, impl Statistics>,
        rng: &mut Rng,
    ) -> Option<u32> {
        let panics = self.panics();
        let siblings = self.siblings();
        let candidates = places.filter(|place| !asks.tried.contains(*place)).filter_map(|place| {
            let (weight, priority) = self.settings(place);
            let slot = self.slot(place)?;
            let standing = asks.statistics.standing(slot, asks.mono);
            let rank = (!standing.available && !panics, priority);
            let wanted =
                weight > 0 && only.is_none_or(|only| rank == (false, only)) && self.has_room(slot, asks.statistics);
            let quality = match self.policy.algorithm {
                Algorithm::Adaptive | Algorithm::P2cEwma => standing.quality(siblings),
                _ => 1.0,
            };
            wanted.then_some((rank, place, weight, quality))
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
