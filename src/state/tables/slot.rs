//! The one slot protocol of the fixed tables.
//!
//! A table is a run of equally wide slots. Word 0 of a slot is the key of its owner, 0 while it is free; the other
//! words are the body and belong to the owner's table (breaker, peer statistics, …). A key lives somewhere in a
//! window of [`WINDOW`] slots that begins at its home. Slots are released now and then, so a free slot inside the
//! window proves nothing and a search looks at all of it; callers keep the index and search again only when the slot
//! at that index carries another key.
//!
//! **Two processes that claim one new key get one slot.** A free slot is first taken on trial ([`TRIAL`] set in its
//! key word). The claimer then walks the window: a trial of the same key elsewhere is thrown out, a settled one wins,
//! and only a walk that met neither may settle its own trial. Of two claimers the one whose trial was written later
//! walks after both trials stand, so it sees the other; if that one has settled meanwhile it is used, if not it is
//! thrown out and finds so when it wants to settle. Nobody waits for anybody.
//!
//! **A kill** during a claim leaves a trial: no search finds it, a later claim of the same key frees it on its way,
//! and [`Slots::sweep`] frees the rest. A kill during a release leaves the key with a body that is partly zero: the
//! slot still belongs to that key, so whoever sweeps owners that policy no longer names releases it again.
//!
//! **A late write** is possible: who compared the key and was then held up may change a word of a body that was
//! released meanwhile. Therefore a claimer zeroes the body before it settles, and a table may rely on a zero body at
//! birth, but must bear one stray write by someone who was held up for the whole life of a former owner's release and
//! a new owner's claim: statistics can, the breaker carries an era in its permits, and who counts itself in (at a peer,
//! on a route) compares the key once more after that and steps back out.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};

use super::{copies, interleave};
use crate::state::atomic::Atomic;

/// How many slots, from its home on, may hold a key.
pub const WINDOW: u32 = 32;

/// Set in the key word of a slot that is taken on trial; keys are used without this bit.
const TRIAL: u64 = 1 << 63;

/// A table: equally wide slots in a run of words.
pub struct Slots<'a, W = AtomicU64> {
    words: &'a [W],
    width: usize,
}

/// One slot of a table; word 0 is the key.
pub struct Slot<'a, W = AtomicU64> {
    words: &'a [W],
}

copies!(Slots, Slot);

impl<'a, W: Atomic> Slots<'a, W> {
    /// A table over `words`, which are zero at first, in slots of `width` words (at least 2, key included). What is
    /// left behind the last whole slot stays unused; at most 2^32 - 1 slots are used.
    #[must_use]
    pub fn new(words: &'a [W], width: usize) -> Self {
        Self { words, width: width.max(2) }
    }

    /// How many slots there are.
    #[must_use]
    #[inline]
    pub fn len(self) -> u32 {
        u32::try_from(self.words.len() / self.width).unwrap_or(u32::MAX)
    }

    /// Whether there is no slot at all.
    #[must_use]
    #[inline]
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// The slot at `index`, whoever owns it: compare [`Slot::key`] before use.
    #[must_use]
    #[inline]
    pub fn get(self, index: u32) -> Option<Slot<'a, W>> {
        let start = (index as usize).checked_mul(self.width)?;
        Some(Slot { words: self.words.get(start..start.checked_add(self.width)?)? })
    }

    /// The slot at `index` if `key` owns it.
    #[must_use]
    #[inline]
    pub fn owned(self, index: u32, key: u64) -> Option<Slot<'a, W>> {
        self.get(index).filter(|slot| slot.is(key))
    }

    /// The slot that `key` owns and its index. `key` is not 0; its top bit is ignored.
    #[must_use]
    pub fn find(self, key: u64) -> Option<(u32, Slot<'a, W>)> {
        self.window(key).find(|(_, slot)| slot.is(key))
    }

    /// The slot that `key` owns, made its own if there was none; the body of a new one is zero. `None`: every slot of
    /// the key's window belongs to others, or `key` is 0.
    #[must_use]
    pub fn claim(self, key: u64) -> Option<(u32, Slot<'a, W>)> {
        let key = key & !TRIAL;
        if key == 0 {
            return None;
        }
        // A round is repeated only when another process took the very slot, or threw out this one's trial.
        for _ in 0..4 * WINDOW {
            if let Some(found) = self.find(key) {
                return Some(found);
            }
            interleave();
            let takes = |slot: Slot<'a, W>| {
                slot.owner().compare_exchange(0, key | TRIAL, SeqCst, Relaxed).is_ok()
                    // What a claimer of this key left that was killed.
                    || slot.owner().load(Relaxed) == key | TRIAL
            };
            let Some((index, slot)) = self.window(key).find(|(_, slot)| takes(*slot)) else {
                // The last free slot may have gone to this very key.
                return self.find(key);
            };
            interleave();
            slot.clear();
            interleave();
            if self.alone(key, index) && slot.owner().compare_exchange(key | TRIAL, key, SeqCst, Relaxed).is_ok() {
                return Some((index, slot));
            }
            // Somebody else has the key: the trial, if it still stands, is taken back.
            let _ = slot.owner().compare_exchange(key | TRIAL, 0, SeqCst, Relaxed);
        }
        None
    }

    /// Frees the slot at `index` if `key` owns it, and says whether it did. The body is zeroed before the key is.
    pub fn release(self, index: u32, key: u64) -> bool {
        let Some(slot) = self.owned(index, key) else { return false };
        slot.clear();
        slot.owner().compare_exchange(key & !TRIAL, 0, Release, Relaxed).is_ok()
    }

    /// Frees every slot that was taken on trial and every one whose owner `keep` refuses; says how many. The leader
    /// calls it now and then. A claim that is under way meanwhile begins again.
    pub fn sweep(self, mut keep: impl FnMut(u64) -> bool) -> u32 {
        let mut freed = 0;
        for (index, slot) in self.iter_all() {
            let word = slot.owner().load(Acquire);
            freed += u32::from(match word {
                0 => false,
                _ if word & TRIAL != 0 => slot.owner().compare_exchange(word, 0, AcqRel, Relaxed).is_ok(),
                _ => !keep(word) && self.release(index, word),
            });
        }
        freed
    }

    /// Every slot that has an owner, with its index.
    pub fn iter(self) -> impl Iterator<Item = (u32, Slot<'a, W>)> {
        self.iter_all().filter(|(_, slot)| slot.key() != 0)
    }

    fn iter_all(self) -> impl Iterator<Item = (u32, Slot<'a, W>)> {
        (0..self.len()).filter_map(move |index| Some((index, self.get(index)?)))
    }

    /// The slots that may hold `key`, from its home on, around the end of the table.
    fn window(self, key: u64) -> impl Iterator<Item = (u32, Slot<'a, W>)> {
        let len = self.len();
        // Keys are ids and hashes that no client chooses; one multiplication spreads neighbouring ids.
        let spread = (key & !TRIAL).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        let home = ((spread * u64::from(len)) >> 32) as u32;
        (0..WINDOW.min(len)).filter_map(move |step| {
            let to_end = len - home;
            let index = if step < to_end { home + step } else { step - to_end };
            Some((index, self.get(index)?))
        })
    }

    /// Whether nobody else settled `key`; trials of it elsewhere are thrown out.
    fn alone(self, key: u64, mine: u32) -> bool {
        self.window(key).filter(|(index, _)| *index != mine).all(|(_, slot)| {
            interleave();
            match slot.owner().compare_exchange(key | TRIAL, 0, SeqCst, SeqCst) {
                Ok(_) => true,
                Err(other) => other != key,
            }
        })
    }
}

impl<'a, W: Atomic> Slot<'a, W> {
    /// The owner's key; 0 = free, or not settled yet.
    #[must_use]
    #[inline]
    pub fn key(self) -> u64 {
        match self.owner().load(Acquire) {
            word if word & TRIAL == 0 => word,
            _ => 0,
        }
    }

    /// Whether `key`, which is not 0, owns the slot.
    #[must_use]
    #[inline]
    pub fn is(self, key: u64) -> bool {
        self.owner().load(Acquire) == key & !TRIAL
    }

    /// Word `index` of the slot; 0 is the key, the body begins at 1.
    #[must_use]
    #[inline]
    pub fn word(self, index: usize) -> &'a W {
        debug_assert!(index < self.words.len(), "word {index} of a slot of {}", self.words.len());
        self.words.get(index).unwrap_or_else(|| W::nowhere())
    }

    /// The words from `index` on to the slot's end.
    #[must_use]
    #[inline]
    pub fn words(self, index: usize) -> &'a [W] {
        self.words.get(index..).unwrap_or_default()
    }

    fn owner(self) -> &'a W {
        self.word(0)
    }

    fn clear(self) {
        // Release: whoever adds to a word after that, and looks at the key then, sees that it is another's.
        for word in self.words.iter().skip(1) {
            word.store(0, Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;
    use std::sync::Barrier;

    fn words(count: usize) -> Vec<AtomicU64> {
        (0..count).map(|_| AtomicU64::new(0)).collect()
    }

    #[test]
    fn a_key_keeps_its_slot_until_it_is_released() {
        let words = words(8 * 100);
        let table = Slots::new(&words, 8);
        assert_eq!(table.len(), 100);
        let (index, slot) = table.claim(7).unwrap();
        slot.word(3).store(5, Relaxed);
        assert_eq!(table.claim(7).unwrap().0, index);
        assert_eq!(table.find(7).unwrap().1.word(3).load(Relaxed), 5);
        assert!(table.owned(index, 7).is_some() && table.owned(index, 8).is_none());
        assert!(!table.release(index, 8), "another's key frees nothing");
        assert!(table.release(index, 7) && !table.release(index, 7));
        assert!(table.find(7).is_none());
        assert_eq!(slot.word(3).load(Relaxed), 0);
        assert!(table.claim(0).is_none() && table.get(100).is_none());
        assert!(Slots::new(&words[..7], 8).claim(1).is_none(), "a table without a slot");
    }

    #[test]
    fn a_full_window_refuses_and_a_sweep_makes_room() {
        let words = words(2 * 16);
        let table = Slots::new(&words, 2);
        for key in 1..=16 {
            assert!(table.claim(key).is_some());
        }
        assert!(table.claim(17).is_none());
        assert_eq!(table.iter().count(), 16);
        assert_eq!(table.sweep(|key| key != 3), 1);
        assert!(table.claim(17).is_some());
        assert!(table.find(3).is_none() && table.find(4).is_some());
    }

    #[test]
    fn what_a_killed_claimer_left_is_taken_over_or_swept() {
        let words = words(4 * 64);
        let table = Slots::new(&words, 4);
        let (index, slot) = table.window(9).nth(2).unwrap();
        slot.owner().store(9 | TRIAL, Relaxed);
        slot.word(2).store(1, Relaxed);
        assert!(table.find(9).is_none());
        assert_eq!(table.iter().count(), 0);
        let (claimed, slot) = table.claim(9).unwrap();
        assert_ne!(claimed, index);
        assert_eq!(slot.word(2).load(Relaxed), 0);
        assert_eq!(table.get(index).unwrap().owner().load(Relaxed), 0, "the trial was thrown out");

        table.get(index).unwrap().owner().store(10 | TRIAL, Relaxed);
        assert_eq!(table.sweep(|_| true), 1);
    }

    #[test]
    fn claimers_of_one_key_get_one_slot_while_others_come_and_go() {
        const THREADS: u64 = 4;
        const ROUNDS: u64 = 300;
        let words = words(4 * 64);
        let table = Slots::new(&words, 4);
        let start = Barrier::new(THREADS as usize);
        let claims: Vec<Vec<(u64, u32)>> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS)
                .map(|thread| {
                    let start = &start;
                    scope.spawn(move || {
                        super::super::tests::meet_others();
                        let mut claims = Vec::new();
                        for round in 0..ROUNDS {
                            start.wait();
                            let own = 1_000_000 + round * THREADS + thread;
                            let passing = table.claim(own);
                            claims.push((round + 1, table.claim(round + 1).unwrap().0));
                            if let Some((index, _)) = passing {
                                assert!(table.release(index, own));
                            }
                            start.wait();
                            if thread == 0 && round % 16 == 15 {
                                table.sweep(|key| key > round);
                            }
                            start.wait();
                        }
                        claims
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let mut slots = HashMap::new();
        for (key, index) in claims.into_iter().flatten() {
            assert_eq!(*slots.entry(key).or_insert(index), index, "key {key}");
        }
    }
}
