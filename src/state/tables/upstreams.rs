//! What all workers know of one upstream as a whole: one slot of the slot protocol each, keyed by the upstream's id.
//!
//! | word | what |
//! |---|---|
//! | 0 | key: the upstream's id |
//! | 1 | the retry budget ([`RetryBudget`]) |
//! | 2 | how many of its peers are ejected ([`Ejected`]) |
//! | 3 | ejections so far |
//!
//! The leader claims a slot when it publishes an upstream and frees it when no document names it any more. So an edit
//! of its peers, which makes a new pick table, neither resets nor refills anything here.
//!
//! **The ceiling of ejections is exact.** Whoever ejects takes a place among the ejected first, by compare-and-swap of
//! word 2, and gives it back where another process was faster with the same peer. A process that is killed in between
//! leaves a place taken and nobody ejected: the leader, who counts who is out, sets the word right once nobody has
//! changed it for a second. It is also what notices that an ejection's time is over, so until then a place is taken
//! for longer than it is needed, never shorter. A process that is *stopped* in between, for more than that second, and
//! then goes on may eject one too many: the leader brings one back when it counts the next time.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use super::peers::Peers;
use super::slot::{Slot, Slots};
use crate::balancer::{Cause, Ejected, RetryBudget, Tick};
use crate::state::atomic::Atomic;

/// Words in a slot. Two upstreams share a cache line: none of these words is written while nothing fails.
pub const WIDTH: usize = 4;

const BUDGET: usize = 1;
const EJECTED: usize = 2;
const EJECTIONS: usize = 3;

/// The slot of one upstream.
pub struct Upstream<'a, W = AtomicU64>(Slot<'a, W>);

/// The table of all upstreams.
pub struct Upstreams<'a, W = AtomicU64>(Slots<'a, W>);

super::copies!(Upstream, Upstreams);

impl<'a, W: Atomic> Upstreams<'a, W> {
    /// The table over `words`, [`WIDTH`] a slot, 64-byte aligned, zero at first.
    #[must_use]
    #[inline]
    pub fn new(words: &'a [W]) -> Self {
        Self(Slots::new(words, WIDTH))
    }

    /// The slot of the upstream with id word `key`, a new one if it had none; `None` where the table is full.
    #[must_use]
    pub fn claim(self, key: u64) -> Option<u32> {
        self.0.claim(key).map(|(slot, _)| slot)
    }

    /// Takes over the upstreams of `from` into a table that nobody uses yet; where the clock is another one (`booted`)
    /// nothing but how often peers were ejected.
    pub(in crate::state) fn carry(self, from: Self, booted: bool) {
        for (_, old) in from.0.iter() {
            let Some((_, new)) = self.0.claim(old.key()) else { continue };
            for word in if booted { EJECTIONS..WIDTH } else { 1..WIDTH } {
                new.word(word).store(old.word(word).load(Relaxed), Relaxed);
            }
        }
    }

    /// The slot at `index`, if it is that of the upstream with id word `key`.
    #[must_use]
    #[inline]
    pub fn owned(self, index: u32, key: u64) -> Option<Upstream<'a, W>> {
        self.0.owned(index, key).map(Upstream)
    }

    /// Frees the slots of upstreams that `keep` refuses; says how many. The leader calls it.
    pub fn sweep(self, keep: impl FnMut(u64) -> bool) -> u32 {
        self.0.sweep(keep)
    }
}

impl<'a> Upstream<'a> {
    /// How much may be tried again.
    #[must_use]
    #[inline]
    pub fn retries(self) -> RetryBudget<'a> {
        RetryBudget::new(self.0.word(BUDGET))
    }
}

impl<W: Atomic> Upstream<'_, W> {
    /// Takes the peer with statistics `slot` out of the picks, unless it is out or `most` are; says whether it did.
    #[cold]
    pub fn eject(self, peers: Peers<'_, W>, slot: u32, cause: Cause, most: u32, mono: u64) -> bool {
        let (word, now) = (self.0.word(EJECTED), Tick::at(mono));
        let taken = word.fetch_update(Relaxed, Relaxed, |word| Some(Ejected(word).take(most, now)?.0));
        if taken.is_err() {
            return false;
        }
        super::interleave();
        if !peers.eject_failing(slot, cause, mono) {
            let _ = word.fetch_update(Relaxed, Relaxed, |word| Some(Ejected(word).give_back(now).0));
            return false;
        }
        self.0.word(EJECTIONS).fetch_add(1, Relaxed);
        true
    }

    /// Sets right how many peers are out, once nobody is in the middle of ejecting one. The leader calls it.
    pub fn settle(self, out: u32, mono: u64) {
        let word = self.0.word(EJECTED);
        let before = word.load(Relaxed);
        if let Some(after) = Ejected(before).settle(out, Tick::at(mono)) {
            let _ = word.compare_exchange(before, after.0, Relaxed, Relaxed);
        }
    }

    /// How many ejections there were.
    #[must_use]
    pub fn ejections(self) -> u64 {
        self.0.word(EJECTIONS).load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::super::peers;
    use super::super::tests::meet_others;
    use super::*;
    use crate::balancer::Statistics;
    use crate::types::SECOND;

    fn words(count: usize) -> Vec<AtomicU64> {
        (0..count).map(|_| AtomicU64::new(0)).collect()
    }

    #[test]
    fn workers_that_eject_at_once_stay_below_the_ceiling() {
        for round in 0..50 {
            let (own, peer_words) = (words(4 * WIDTH), words(64 * peers::WIDTH));
            let (upstreams, peers) = (Upstreams::new(&own), Peers::new(&peer_words));
            let slots: Vec<u32> = (1..=8).map(|key| peers.claim(key)).collect();
            let upstream = upstreams.owned(upstreams.claim(7).unwrap(), 7).unwrap();
            let done: usize = std::thread::scope(|scope| {
                let each = |first: usize| {
                    let slots = &slots;
                    scope.spawn(move || {
                        meet_others();
                        let order = (0..slots.len()).map(|step| slots[(first + step) % slots.len()]);
                        order.filter(|slot| upstream.eject(peers, *slot, Cause::Failures, 3, SECOND)).count()
                    })
                };
                let workers: Vec<_> = (0..4).map(each).collect();
                workers.into_iter().map(|worker| worker.join().unwrap()).sum()
            });
            let out = slots.iter().filter(|slot| !peers.standing(**slot, 2 * SECOND).available).count();
            assert_eq!((out, done, upstream.ejections()), (3, 3, 3), "round {round}");
        }
    }

    #[test]
    fn a_place_that_a_killed_process_took_is_free_again() {
        let (own, peer_words) = (words(4 * WIDTH), words(64 * peers::WIDTH));
        let (upstreams, peers) = (Upstreams::new(&own), Peers::new(&peer_words));
        let upstream = upstreams.owned(upstreams.claim(7).unwrap(), 7).unwrap();
        let slots: Vec<u32> = (1..=2).map(|key| peers.claim(key)).collect();
        let word = upstream.0.word(EJECTED);
        word.store(Ejected(0).take(1, Tick::at(SECOND)).unwrap().0, Relaxed);
        assert!(!upstream.eject(peers, slots[0], Cause::Failures, 1, SECOND), "it may be about to eject");
        upstream.settle(0, SECOND + SECOND / 2);
        assert!(!upstream.eject(peers, slots[0], Cause::Failures, 1, SECOND + SECOND / 2));
        upstream.settle(0, 3 * SECOND);
        assert!(upstream.eject(peers, slots[0], Cause::Failures, 1, 3 * SECOND));
        assert!(!upstream.eject(peers, slots[0], Cause::Failures, 2, 3 * SECOND), "it is out already");
        assert!(upstream.eject(peers, slots[1], Cause::Failures, 2, 3 * SECOND), "and took no second place");
    }
}
