//! The algorithms that look at who is next, who is least busy, or whose key it is. Each answers `None` where it finds
//! nobody at once; the scan of [`PickTable::pick`] then looks at everybody.

use super::pick::Asks;
use super::ring;
use super::table::PickTable;
use super::{Rng, Statistics};

/// So many turns are looked at before the scan: those of who failed since the table was built, or was tried, are passed
/// over.
const TURNS: u32 = 32;

/// Up to so many peers `least_conn` compares all of them, as nginx does …
const ALL: u32 = 32;

/// … and beyond, so many that are drawn by weight: two would do to be exponentially better than chance, and the slots
/// of four are fetched from memory at the same time.
const SOME: u32 = 4;

/// nginx's: so many points that belong to nobody who can be had are passed over, then it goes round robin.
const POINTS: usize = 20;

/// `p2c_ewma` takes one in so many as it is drawn, so that who was slow is still measured.
const UNSEEN: u64 = 64;

impl PickTable<'_> {
    /// `round_robin`: the next in the sequence.
    ///
    /// Turns of who cannot be had are used up, not lent: else the one behind would get them all.
    #[inline]
    pub(super) fn by_turn(self, asks: &Asks<'_, impl Statistics>) -> Option<u32> {
        let turns = self.turns();
        for _ in 0..turns.min(TURNS) {
            let place = self.turn((self.take_turn() % u64::from(turns)) as u32)?;
            if self.takes(place, asks) {
                return Some(place);
            }
        }
        None
    }

    /// `least_conn`: the fewest in flight for its weight; of equals whose turn comes first.
    pub(super) fn by_load(self, asks: &Asks<'_, impl Statistics>, rng: &mut Rng) -> Option<u32> {
        if self.len() > ALL {
            return self.by_sample(asks, rng);
        }
        let group = self.serving();
        let load = |place| {
            let (weight, priority) = self.settings(place);
            let serves = weight > 0 && priority == group && self.takes(place, asks);
            serves.then(|| {
                (u64::from(asks.statistics.in_flight(self.slot(place).unwrap_or(u32::MAX))), u64::from(weight))
            })
        };
        let mut best: Option<(u32, u64, u64)> = None;
        let mut is_alone = true;
        for place in 0..self.len() {
            let Some((busy, weight)) = load(place) else { continue };
            match best {
                Some((_, other, its)) if busy * its > other * weight => {}
                Some((_, other, its)) if busy * its == other * weight => is_alone = false,
                _ => (best, is_alone) = (Some((place, busy, weight)), true),
            }
        }
        let (first, busy, weight) = best?;
        if is_alone {
            return Some(first);
        }
        // Turns of those that are busier are used up, so that the shares of equals are those of their weights. Answers
        // may come in between, and rare ones may have their turn far from here.
        let turns = self.turns();
        let next = || self.turn((self.take_turn() % u64::from(turns)) as u32);
        let is_equal = |place: &u32| load(*place).is_some_and(|(other, its)| other * weight == busy * its);
        Some((0..turns.min(2 * ALL)).filter_map(|_| next()).find(is_equal).unwrap_or(first))
    }

    fn by_sample(self, asks: &Asks<'_, impl Statistics>, rng: &mut Rng) -> Option<u32> {
        let mut best: Option<(u32, u64, u64)> = None;
        for _ in 0..SOME {
            let (drawn, _) = self.draw(rng.next_u64())?;
            if !self.takes(drawn.place, asks) {
                continue;
            }
            let (busy, weight) =
                (u64::from(asks.statistics.in_flight(drawn.slot)), u64::from(self.settings(drawn.place).0));
            if best.is_none_or(|(_, other, its)| busy * its < other * weight) {
                best = Some((drawn.place, busy, weight));
            }
        }
        best.map(|(place, ..)| place)
    }

    /// `p2c_ewma`: of two the one where the request costs less. Both are drawn by weight, so of equals the share is that
    /// of the weights, and what is in flight counts as on a peer of mean weight.
    pub(super) fn by_cost(self, asks: &Asks<'_, impl Statistics>, rng: &mut Rng) -> Option<u32> {
        let random = rng.next_u64();
        let (one, _) = self.draw(random)?;
        let (mut other, _) = self.draw(rng.next_u64())?;
        for _ in 0..2 {
            if other.place == one.place {
                (other, _) = self.draw(rng.next_u64())?;
            }
        }
        let takes_other = self.takes(other.place, asks);
        if !self.takes(one.place, asks) {
            return takes_other.then_some(other.place);
        }
        // The low bits decide between a cell and its alias, these ones are left over from drawing the cell.
        if !takes_other || other.place == one.place || (random >> 32).is_multiple_of(UNSEEN) {
            return Some(one.place);
        }
        let siblings = self.siblings();
        let look = |place, slot| {
            let weight = self.settings(place).0.max(1) as f32;
            let before = asks.statistics.in_flight(slot) as f32 * self.average() / weight;
            (asks.statistics.standing(slot, asks.mono), before)
        };
        let ((first, before), (second, beside)) = (look(one.place, one.slot), look(other.place, other.slot));
        let dearer = first.cost(siblings, before, beside) > second.cost(siblings, beside, before);
        Some(if dearer { other.place } else { one.place })
    }

    /// `hash`: whose point comes first at or behind the key's; without a key, round robin.
    pub(super) fn by_key(self, asks: &Asks<'_, impl Statistics>) -> Option<u32> {
        let ring = self.ring();
        let Some(key) = self.key.filter(|_| !ring.is_empty()) else { return self.by_turn(asks) };
        let home = ring::find(ring, key);
        for step in 0..=POINTS {
            let point = ring.get((home + step) % ring.len())?.load(std::sync::atomic::Ordering::Relaxed);
            if let Some(place) = self.address_of(point as u32, asks) {
                return Some(place);
            }
        }
        self.by_turn(asks)
    }

    /// Of the addresses of the node that begins at `first` one that can be had. Several take turns.
    #[inline]
    fn address_of(self, first: u32, asks: &Asks<'_, impl Statistics>) -> Option<u32> {
        let takes = |place: &u32| self.settings(*place).0 > 0 && self.takes(*place, asks);
        match u64::from(self.addresses(first)) {
            1 => Some(first).filter(takes),
            count => {
                let turn = (self.take_turn() % count) as u32;
                (turn..count as u32).chain(0..turn).take(64).map(|step| first.saturating_add(step)).find(takes)
            }
        }
    }

    /// Where requests with this table's key go while everybody can be had; for who explains.
    #[must_use]
    pub fn home(self) -> Option<u32> {
        let ring = self.ring();
        let point = ring.get(ring::find(ring, self.key?).checked_rem(ring.len())?)?;
        Some(point.load(std::sync::atomic::Ordering::Relaxed) as u32).filter(|place| *place < self.len())
    }
}
