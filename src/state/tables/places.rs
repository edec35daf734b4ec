//! Places on routes that let in so many requests at a time (`max_in_flight`).
//!
//! A slot is a key and a [`Gauge`]. The key belongs to one span of time in which the route had a limit without a break:
//! the leader makes it of the generation in which the limit came and the route's id. So a request that began under a
//! limit that is gone, and ends when there is a new one, finds another key and gives back nothing that it never took.
//! Whatever instruction a process is killed at, the slot is right once its cell is emptied ([`Places::forget`]).

use std::sync::atomic::AtomicU64;

use super::gauge::{self, Gauge};
use super::slot::{Slot, Slots};
use crate::state::atomic::Atomic;

const USED: usize = 1;
const CELLS: usize = 2;

/// Words in a slot: three cache lines, so that no two routes share one. The last six are those of `overload`, which
/// counts on upstreams in the same way.
pub const WIDTH: usize = (CELLS + gauge::WORDS).next_multiple_of(8);

/// The table.
pub struct Places<'a, W = AtomicU64> {
    slots: Slots<'a, W>,
}

/// A place as a request holds it, or none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Index of the slot.
    pub slot: u32,
    /// The slot of the worker that took it.
    pub worker: u32,
    /// The key of the slot; 0 = no place.
    pub key: u64,
}

super::copies!(Places);

impl<'a, W: Atomic> Places<'a, W> {
    /// The table over `words`, [`WIDTH`] a slot, 64-byte aligned, zero at first.
    #[must_use]
    #[inline]
    pub fn new(words: &'a [W]) -> Self {
        Self { slots: Slots::new(words, WIDTH) }
    }

    /// A slot for `key`, all of its places free; `None` where the table is full.
    #[must_use]
    pub fn claim(self, key: u64) -> Option<u32> {
        self.slots.claim(key).map(|(slot, _)| slot)
    }

    /// Whether `slot` is that of `key`.
    #[must_use]
    pub fn is(self, slot: u32, key: u64) -> bool {
        self.slots.owned(slot, key).is_some()
    }

    /// Takes `place` if no more than `most` are then taken over all workers; says whether it did. Where the slot is
    /// another's by now there is no limit any more, and no place is taken either.
    #[inline]
    #[must_use]
    pub fn enter(self, place: Place, most: u32) -> Option<Place> {
        let Some(slot) = self.slots.owned(place.slot, place.key) else { return Some(Place::default()) };
        if !gauge(slot).enter_below(place.worker, most) {
            return None;
        }
        // It may have become another's just before: what nobody would give back is not to stay.
        if !slot.is(place.key) {
            gauge(slot).leave(place.worker);
            return Some(Place::default());
        }
        Some(place)
    }

    /// Gives `place` back; once for each that was taken.
    #[inline]
    pub fn leave(self, place: Place) {
        if let Some(slot) = self.slots.owned(place.slot, place.key) {
            gauge(slot).leave(place.worker);
        }
    }

    /// How many places of `slot` are taken, if it is that of `key`.
    #[must_use]
    pub fn count(self, slot: u32, key: u64) -> Option<u32> {
        self.slots.owned(slot, key).map(|slot| gauge(slot).count())
    }

    /// Gives back what the former owner of worker slot `worker` held, for whoever has just taken that slot: it is dead.
    pub fn forget(self, worker: u32) {
        self.slots.iter().for_each(|(_, slot)| gauge(slot).forget(worker));
    }

    /// Frees the slots of keys that `keep` refuses; says how many. The leader calls it.
    pub fn sweep(self, keep: impl FnMut(u64) -> bool) -> u32 {
        self.slots.sweep(keep)
    }
}

#[inline]
pub(super) fn gauge<W: Atomic>(slot: Slot<'_, W>) -> Gauge<'_, W> {
    Gauge::new(slot.word(USED), slot.words(CELLS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_belongs_to_one_span_of_one_limit() {
        let words: Vec<AtomicU64> = (0..WIDTH).map(|_| AtomicU64::new(0)).collect();
        let places = Places::new(&words);
        let slot = places.claim(1).unwrap();
        assert!(places.claim(2).is_none() && places.is(slot, 1));
        let mine = |worker, key| Place { slot, worker, key };
        assert_eq!(places.enter(mine(0, 1), 2), Some(mine(0, 1)));
        assert_eq!(places.enter(mine(63, 1), 2), Some(mine(63, 1)));
        assert_eq!(places.enter(mine(5, 1), 2), None);
        assert_eq!(places.count(slot, 1), Some(2));
        places.forget(63);
        assert_eq!(places.count(slot, 1), Some(1));
        assert_eq!(places.enter(mine(0, 7), 0), Some(Place::default()), "a limit that is gone limits nothing");
        places.leave(Place::default());

        assert_eq!(places.sweep(|key| key != 1), 1);
        assert_eq!(places.claim(2), Some(slot));
        assert_eq!(places.enter(mine(0, 2), 1), Some(mine(0, 2)));
        places.leave(mine(0, 1));
        assert_eq!(places.count(slot, 2), Some(1), "what was taken of the old one goes back to nobody");
        assert_eq!(places.count(slot, 1), None);
    }
}
