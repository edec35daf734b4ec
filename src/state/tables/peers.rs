//! Peer statistics: three cache lines a peer, shared by all workers, alive as long as the region.
//!
//! | word | what |
//! |---|---|
//! | 0 | key: [`balancer::key`](crate::balancer::key) of upstream, host and port |
//! | 1 | latency average and time of its last sample ([`Latency`]) |
//! | 2 | error-rate average and time ([`Errors`]) |
//! | 3 | ejection: {until, tick; whether the leader told of it, 1 bit; [`Cause`], 7 bits; times in a row, 24 bits} |
//! | 4 | passive health: failures in a row ([`Streak`]) |
//! | 5 | {picks that came to an end or are in flight, 48 bits; words of cells in use, 16 bits} |
//! | 6 | failures |
//! | 7 | since when it has been there, or back, microseconds: what `slow_start` counts from |
//! | 8 to 23 | in flight, a cell for each worker ([`Gauge`]) |
//!
//! The leader claims slots when it publishes an upstream and sweeps those whose peer no document names any more. The
//! key is made of names, so a document edit, or a peer that goes and comes back before the sweep, finds its numbers
//! again. A full table is no error: peers without a slot ([`NONE`]) count as never measured and share by static weight.
//!
//! Requests in flight hold a [`Peer`], slot and key, and touch a slot only while it has that key. What a killed worker
//! had in flight is forgotten by whoever takes its slot; a sample lost between two workers' compare-and-swaps is lost.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use super::gauge::{self, Gauge};
use super::slot::{Slot, Slots};
use crate::balancer::{
    Calls, Cause, Errors, Latency, Outcome, Standing, Statistics, Streak, Tick, ejection, remembered,
};
use crate::state::atomic::Atomic;
use crate::types::SECOND;

/// Words in a slot.
pub const WIDTH: usize = CELLS + gauge::WORDS;

/// The slot of a peer without one.
pub const NONE: u32 = u32::MAX;

const LATENCY: usize = 1;
const ERRORS: usize = 2;
const EJECTION: usize = 3;
const STREAK: usize = 4;
const LOAD: usize = 5;
const FAILURES: usize = 6;
const SINCE: usize = 7;
const CELLS: usize = 8;

/// One pick.
const PICK: u64 = 1 << PICK_SHIFT;
const PICK_SHIFT: u32 = gauge::WORDS as u32;
/// Calls are counted modulo so much.
pub const CALLS_MASK: u64 = (1 << (u64::BITS - PICK_SHIFT)) - 1;

/// The parts of an ejection word's low half: how many followed one another, why, and whether the leader told of it.
const TIMES: u64 = (1 << 24) - 1;
const CAUSE: u32 = 24;
const TOLD: u64 = 1 << 31;

/// No ejection is longer, in ticks (9 minutes): anything further ahead is one that ended long ago.
const EJECTION_MAX: u32 = 1 << 23;

/// After so long without a sample its time is moved up, as ticks go around; in ticks (1 hour).
const STALE: u32 = (3600 * SECOND / crate::balancer::TICK) as u32;

/// So long ago that a sample counts in full, in ticks (1 minute).
const LONG_AGO: u32 = STALE / 60;

/// The table of all peers.
pub struct Peers<'a, W = AtomicU64> {
    slots: Slots<'a, W>,
}

/// A peer as a request in flight holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Index of the statistics slot.
    pub slot: u32,
    /// The slot of the worker that counts it.
    pub worker: u32,
    /// The key that the slot had when the peer was picked; 0 = none.
    pub key: u64,
}

impl Peer {
    /// No peer, or one without statistics.
    pub const NONE: Self = Self { slot: NONE, worker: 0, key: 0 };
}

/// What became of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// It was ejected.
    Out,
    /// It is back.
    Back,
}

/// A peer's statistics as the admin API shows them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Snapshot {
    /// The peer's key.
    pub key: u64,
    /// Averages and availability.
    pub standing: Standing,
    /// Requests that were sent and are not finished.
    pub in_flight: u32,
    /// How often it was picked, modulo 2^48.
    pub picks: u64,
    /// How often it failed.
    pub failures: u64,
}

super::copies!(Peers);

impl<'a, W: Atomic> Peers<'a, W> {
    /// The table over `words`, [`WIDTH`] a slot, 64-byte aligned, zero at first.
    #[must_use]
    #[inline]
    pub fn new(words: &'a [W]) -> Self {
        Self { slots: Slots::new(words, WIDTH) }
    }

    /// The slot of the peer with `key`, a new one if it had none; [`NONE`] where the table is full.
    #[must_use]
    pub fn claim(self, key: u64) -> u32 {
        self.slots.claim(key).map_or(NONE, |(slot, _)| slot)
    }

    /// The slot of the peer with `key`, if it has one.
    #[must_use]
    pub fn find(self, key: u64) -> Option<u32> {
        self.slots.find(key).map(|(slot, _)| slot)
    }

    /// The peer that has `slot`, for a request of `worker`.
    #[must_use]
    #[inline]
    pub fn peer(self, slot: u32, worker: u32) -> Peer {
        match self.slots.get(slot).map(Slot::key) {
            None | Some(0) => Peer::NONE,
            Some(key) => Peer { slot, worker, key },
        }
    }

    /// Counts a try of the worker with slot `worker` that goes to the peer with `slot`; the answer goes to
    /// [`Self::observe`] and [`Self::finished`].
    #[inline]
    pub fn started(self, slot: u32, worker: u32) -> Peer {
        let peer = self.peer(slot, worker);
        let Some(slot) = self.slots.get(slot).filter(|_| peer.key != 0) else { return peer };
        gauge(slot).enter(worker);
        Self::counted(slot, peer)
    }

    /// The same, unless that makes more than `most` in flight over all workers: then `None`, and nothing is counted. A
    /// peer without statistics has no limit.
    #[inline]
    #[must_use]
    pub fn started_below(self, slot: u32, worker: u32, most: u32) -> Option<Peer> {
        let peer = self.peer(slot, worker);
        let Some(slot) = self.slots.get(slot).filter(|_| peer.key != 0) else { return Some(peer) };
        gauge(slot).enter_below(worker, most).then(|| Self::counted(slot, peer))
    }

    /// Counts the pick of a try that was just counted as in flight.
    #[inline]
    fn counted(slot: Slot<'_, W>, peer: Peer) -> Peer {
        // It may have become another's just before: what nobody would give back is not to stay.
        if !slot.is(peer.key) {
            gauge(slot).leave(peer.worker);
            return Peer::NONE;
        }
        slot.word(LOAD).fetch_add(PICK, Relaxed);
        peer
    }

    /// The try came to nothing that says anything about the peer: it is not counted. Instead of [`Self::finished`].
    #[cold]
    pub fn withdrawn(self, peer: Peer) {
        self.finished(peer);
        if let Some(slot) = self.of(peer) {
            slot.word(LOAD).fetch_sub(PICK, Relaxed);
        }
    }

    /// The try is over, however it ended; once for each [`Self::started`].
    #[inline]
    pub fn finished(self, peer: Peer) {
        if let Some(slot) = self.of(peer) {
            gauge(slot).leave(peer.worker);
        }
    }

    /// How many tries are under way at the peer with `slot`, over all workers; 0 without statistics.
    #[inline]
    #[must_use]
    pub fn in_flight(self, slot: u32) -> u32 {
        self.slots.get(slot).map_or(0, |slot| gauge(slot).count())
    }

    /// What the former owner of worker slot `worker` had in flight is not any more: it is dead. For whoever has just
    /// taken that slot.
    pub fn forget(self, worker: u32) {
        self.slots.iter().for_each(|(_, slot)| gauge(slot).forget(worker));
    }

    /// Takes over the statistics of `from` into a table that nobody uses yet: nothing is in flight there.
    pub(in crate::state) fn carry(self, from: Self) {
        for (index, old) in from.slots.iter() {
            let Some((_, new)) = self.slots.claim(old.key()) else { continue };
            for word in LATENCY..CELLS {
                new.word(word).store(old.word(word).load(Relaxed), Relaxed);
            }
            // What is in flight now ends where it began.
            let ended = from.calls(index).map_or(0, |calls| calls.ended);
            new.word(LOAD).store(ended << PICK_SHIFT, Relaxed);
        }
    }

    /// Counts how a try ended, at `mono` microseconds: a latency at the response header, a failure when it is one.
    #[inline]
    pub fn observe(self, peer: Peer, outcome: Outcome, mono: u64) {
        let Some(slot) = self.of(peer) else { return };
        let now = Tick::at(mono);
        match outcome {
            Outcome::Latency(micros) => {
                if slot.word(STREAK).load(Relaxed) != 0 {
                    slot.word(STREAK).store(0, Relaxed);
                }
                update(slot.word(LATENCY), |word| Latency(word).observe(micros, now).map(|latency| latency.0));
            }
            Outcome::Failure => {
                slot.word(FAILURES).fetch_add(1, Relaxed);
                let latency = Latency(slot.word(LATENCY).load(Relaxed));
                update(slot.word(ERRORS), |word| Errors(word).fail(latency, now).map(|errors| errors.0));
            }
        }
    }

    /// One more failure in a row, `window` microseconds being what passive health looks at.
    #[cold]
    pub fn failed_again(self, peer: Peer, window: u64, mono: u64) -> Streak {
        let Some(slot) = self.of(peer) else { return Streak(0) };
        let add = |word| Streak(word).fail(window, Tick::at(mono));
        let before = slot.word(STREAK).fetch_update(Relaxed, Relaxed, |word| Some(add(word).0));
        add(before.unwrap_or(0))
    }

    /// Takes the peer with `slot` out of the picks: the longer, the more ejections followed one another. Says whether
    /// it did: not where the peer is out already, or another process is just seeing to it.
    #[cold]
    pub fn eject_failing(self, slot: u32, cause: Cause, mono: u64) -> bool {
        let Some(slot) = self.slots.get(slot) else { return false };
        let (before, now) = (slot.word(EJECTION).load(Relaxed), Tick::at(mono));
        if is_ejected(before, now) {
            return false;
        }
        let times = remembered_times(before, now);
        let word = out_until(mono.saturating_add(ejection(times)), mono, times + 1, cause);
        super::interleave();
        let done = slot.word(EJECTION).compare_exchange(before, word, Relaxed, Relaxed).is_ok();
        if done {
            slot.word(STREAK).store(0, Relaxed);
        }
        done
    }

    /// Takes the peer with `slot` out of the picks until `until`, or brings it back where `until` has passed; both
    /// monotonic microseconds. An ejection is at most 9 minutes long.
    pub fn eject(self, slot: u32, until: u64, mono: u64) {
        let Some(slot) = self.slots.get(slot) else { return };
        update(slot.word(EJECTION), |word| {
            let (told, times) = (word & TOLD, word & TIMES);
            Some(match until > mono {
                false => told | times,
                true => out_until(until, mono, times as u32 + 1, Cause::Hand),
            })
        });
    }

    /// Whether the peer with `slot` is out at `mono`, why, and for how many more microseconds.
    #[must_use]
    pub fn ejected(self, slot: u32, mono: u64) -> Option<(Cause, u64)> {
        let word = self.slots.get(slot)?.word(EJECTION).load(Relaxed);
        let left = u64::from(((word >> 32) as u32).wrapping_sub(Tick::at(mono).0)) * crate::balancer::TICK;
        is_ejected(word, Tick::at(mono)).then_some((cause_of(word), left))
    }

    /// What nobody was told of yet: that the peer with `slot` is out, or is back. The leader calls it and tells.
    pub fn news(self, slot: u32, mono: u64) -> Option<News> {
        let word = self.slots.get(slot)?.word(EJECTION);
        let before = word.load(Relaxed);
        let out = is_ejected(before, Tick::at(mono));
        if out == (before & TOLD != 0) {
            return None;
        }
        word.compare_exchange(before, before ^ TOLD, Relaxed, Relaxed).ok()?;
        Some(if out { News::Out } else { News::Back })
    }

    /// How the tries that went to the peer with `slot` ended so far, modulo 2^48.
    #[must_use]
    pub fn calls(self, slot: u32) -> Option<Calls> {
        let slot = self.slots.get(slot)?;
        let ended = (slot.word(LOAD).load(Relaxed) >> PICK_SHIFT).wrapping_sub(gauge(slot).count().into()) & CALLS_MASK;
        Some(Calls { ended, failed: slot.word(FAILURES).load(Relaxed) & CALLS_MASK })
    }

    /// Keeps times from going around: forgets ended ejections and decayed errors, moves old samples up. The leader
    /// calls it once an hour or more often.
    pub fn tend(self, mono: u64) {
        let now = Tick::at(mono);
        for (_, slot) in self.slots.iter() {
            update(slot.word(ERRORS), |word| (word != 0 && Errors(word).rate(now) == 0.0).then_some(0));
            update(slot.word(EJECTION), |word| {
                // How many there were counts for the next one, for a while; and it is to be told that it ended.
                let over = word != 0 && word & TOLD == 0 && !is_ejected(word, now);
                (over && remembered_times(word, now) == 0).then_some(0)
            });
            update(slot.word(LATENCY), |word| {
                let last = Latency(word).last()?;
                (now.since(last) > STALE).then_some(word >> 32 << 32 | u64::from(now.0.wrapping_sub(LONG_AGO)))
            });
        }
    }

    /// Frees the slots of peers that `keep` refuses and that have nothing in flight, or had no sample for a minute;
    /// says how many. The leader calls it.
    pub fn sweep(self, mut keep: impl FnMut(u64) -> bool, mono: u64) -> u32 {
        let now = Tick::at(mono);
        let mut freed = self.slots.sweep(|_| true);
        for (index, slot) in self.slots.iter() {
            let key = slot.key();
            let idle = || {
                let last = Latency(slot.word(LATENCY).load(Relaxed)).last();
                last.is_none_or(|last| now.since(last) >= LONG_AGO)
            };
            let busy = gauge(slot).count() != 0;
            freed += u32::from(!keep(key) && (!busy || idle()) && self.slots.release(index, key));
        }
        freed
    }

    /// Every peer with its slot.
    pub fn snapshots(self, mono: u64) -> impl Iterator<Item = (u32, Snapshot)> {
        self.slots.iter().map(move |(index, slot)| (index, snapshot(slot, mono)))
    }

    /// The statistics of the peer with `key`.
    #[must_use]
    pub fn snapshot(self, key: u64, mono: u64) -> Option<Snapshot> {
        self.slots.find(key).map(|(_, slot)| snapshot(slot, mono))
    }

    /// The part of the slots that is taken, 0 to 1.
    #[must_use]
    pub fn fill(self) -> f64 {
        self.slots.iter().count() as f64 / f64::from(self.slots.len().max(1))
    }

    #[inline]
    fn of(self, peer: Peer) -> Option<Slot<'a, W>> {
        if peer.key == 0 { None } else { self.slots.owned(peer.slot, peer.key) }
    }
}

impl<W: Atomic> Statistics for Peers<'_, W> {
    #[inline]
    fn standing(&self, slot: u32, mono: u64) -> Standing {
        self.slots.get(slot).map_or(Standing::UNKNOWN, |slot| standing(slot, mono))
    }

    fn seed(&self, slot: u32, ms: f32, mono: u64) {
        if let Some(slot) = self.slots.get(slot) {
            let seeded = Latency::seeded(ms, Tick::at(mono));
            let _ = slot.word(LATENCY).compare_exchange(0, seeded.0, Relaxed, Relaxed);
        }
    }

    #[inline]
    fn in_flight(&self, slot: u32) -> u32 {
        Peers::in_flight(*self, slot)
    }

    fn age(&self, slot: u32, mono: u64) -> u64 {
        let Some(slot) = self.slots.get(slot) else { return u64::MAX };
        match slot.word(SINCE).load(Relaxed) {
            0 => {
                // The first look of whoever ramps weights up; a peer from before that is as new as all its siblings.
                slot.word(SINCE).store(mono.max(1), Relaxed);
                0
            }
            // A time to come is one of another boot.
            since => mono.checked_sub(since).unwrap_or(u64::MAX),
        }
    }

    fn away(&self, slot: u32, mono: u64) {
        if let Some(slot) = self.slots.get(slot) {
            slot.word(SINCE).store(mono.max(1), Relaxed);
        }
    }
}

#[inline]
fn standing<W: Atomic>(slot: Slot<'_, W>, mono: u64) -> Standing {
    let now = Tick::at(mono);
    let ejection = slot.word(EJECTION).load(Relaxed);
    Standing {
        latency: Latency(slot.word(LATENCY).load(Relaxed)).ms(),
        errors: Errors(slot.word(ERRORS).load(Relaxed)).rate(now),
        available: ejection == 0 || !is_ejected(ejection, now),
    }
}

fn snapshot<W: Atomic>(slot: Slot<'_, W>, mono: u64) -> Snapshot {
    Snapshot {
        key: slot.key(),
        standing: standing(slot, mono),
        in_flight: gauge(slot).count(),
        picks: slot.word(LOAD).load(Relaxed) >> PICK_SHIFT,
        failures: slot.word(FAILURES).load(Relaxed),
    }
}

#[inline]
fn gauge<W: Atomic>(slot: Slot<'_, W>) -> Gauge<'_, W> {
    Gauge::new(slot.word(LOAD), slot.words(CELLS))
}

#[inline]
const fn is_ejected(word: u64, now: Tick) -> bool {
    let left = ((word >> 32) as u32).wrapping_sub(now.0);
    word >> 32 != 0 && left > 0 && left <= EJECTION_MAX
}

/// The word of an ejection that ends at `until`.
fn out_until(until: u64, mono: u64, times: u32, cause: Cause) -> u64 {
    let ticks = Tick::at(until.saturating_sub(mono)).0.clamp(1, EJECTION_MAX);
    // 0 means that there is none; one tick more does not matter.
    let until = Tick::at(mono).0.wrapping_add(ticks).max(1);
    u64::from(until) << 32 | (cause as u64) << CAUSE | u64::from(times) & TIMES
}

const fn cause_of(word: u64) -> Cause {
    Cause::of((word >> CAUSE) as u8 & 0x7f)
}

/// How many ejections count for the length of the next, the last one being over.
const fn remembered_times(word: u64, now: Tick) -> u32 {
    remembered((word & TIMES) as u32, now.since(Tick((word >> 32) as u32)))
}

/// Changes a word by compare-and-swap. Whoever loses four times in a row leaves it: the winners' samples are as good.
#[inline]
fn update<W: Atomic>(word: &W, change: impl Fn(u64) -> Option<u64>) {
    let mut old = word.load(Relaxed);
    for _ in 0..4 {
        let Some(new) = change(old) else { return };
        match word.compare_exchange_weak(old, new, Relaxed, Relaxed) {
            Ok(_) => return,
            Err(other) => old = other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::MILLISECOND;

    fn words(slots: usize) -> Vec<AtomicU64> {
        (0..slots * WIDTH).map(|_| AtomicU64::new(0)).collect()
    }

    #[test]
    fn counts_hold_over_threads() {
        const THREADS: u64 = 4;
        const TRIES: u64 = 20_000;
        let words = words(16);
        let peers = Peers::new(&words);
        let slot = peers.claim(77);
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                scope.spawn(move || {
                    for step in 0..TRIES {
                        let peer = peers.started(slot, thread as u32);
                        let outcome = if step % 4 == 0 { Outcome::Failure } else { Outcome::Latency(20_000) };
                        peers.observe(peer, outcome, (step * THREADS + thread) * 50);
                        peers.finished(peer);
                    }
                });
            }
        });
        let end = THREADS * TRIES * 50;
        let snapshot = peers.snapshot(77, end).unwrap();
        assert_eq!((snapshot.picks, snapshot.in_flight), (THREADS * TRIES, 0));
        assert_eq!(snapshot.failures, THREADS * TRIES / 4);
        assert!((snapshot.standing.latency.unwrap() - 20.0).abs() < 1e-3, "{snapshot:?}");
        assert!(snapshot.standing.errors > 0.0 && snapshot.standing.errors < 1.0, "{snapshot:?}");
    }

    #[test]
    fn a_request_of_a_former_owner_touches_nothing() {
        let words = words(1);
        let peers = Peers::new(&words);
        let slot = peers.claim(1);
        let late = peers.started(slot, 0);
        let twin = peers.started(slot, 1);
        assert_eq!(peers.sweep(|_| true, 0), 0);
        peers.observe(twin, Outcome::Latency(5), SECOND);
        peers.finished(twin);
        assert_eq!(peers.sweep(|_| false, 2 * SECOND), 0, "in flight");
        assert_eq!(peers.sweep(|_| false, 62 * SECOND), 1, "but not for ever");
        assert_eq!(peers.claim(2), slot);
        peers.observe(late, Outcome::Failure, 63 * SECOND);
        peers.finished(late);
        let snapshot = peers.snapshot(2, 63 * SECOND).unwrap();
        assert_eq!((snapshot.picks, snapshot.in_flight, snapshot.failures), (0, 0, 0));
        assert_eq!(snapshot.standing, Standing::UNKNOWN);
    }

    #[test]
    fn finishing_twice_borrows_nothing_from_the_picks() {
        let words = words(4);
        let peers = Peers::new(&words);
        let peer = peers.started(peers.claim(1), 5);
        peers.finished(peer);
        peers.finished(peer);
        let snapshot = peers.snapshot(1, 0).unwrap();
        assert_eq!((snapshot.picks, snapshot.in_flight), (1, 0));
    }

    #[test]
    fn a_dead_workers_tries_are_forgotten_and_limits_hold_over_workers() {
        let words = words(4);
        let peers = Peers::new(&words);
        let (one, other) = (peers.claim(1), peers.claim(2));
        let held = peers.started(one, 3);
        peers.started(other, 3);
        let dead = [peers.started(one, 40), peers.started(other, 40), peers.started(one, 40)];
        assert_eq!((peers.in_flight(one), peers.in_flight(other)), (3, 2));
        assert_eq!(peers.started_below(one, 7, 3), None);
        peers.forget(40);
        assert_eq!((peers.in_flight(one), peers.in_flight(other)), (1, 1));
        assert!(peers.started_below(one, 7, 2).is_some() && peers.started_below(one, 40, 2).is_none());
        peers.finished(dead[0]);
        assert_eq!(peers.in_flight(one), 2, "nothing is counted under its number");
        peers.finished(held);
        assert_eq!(peers.in_flight(one), 1);
    }

    #[test]
    fn a_full_table_leaves_peers_without_statistics() {
        let words = words(2);
        let peers = Peers::new(&words);
        assert!(peers.claim(1) != NONE && peers.claim(2) != NONE);
        assert_eq!(peers.claim(3), NONE);
        assert_eq!(peers.started(NONE, 0), Peer::NONE);
        assert_eq!(peers.started_below(NONE, 0, 0), Some(Peer::NONE));
        assert_eq!(peers.in_flight(NONE), 0);
        peers.observe(Peer::NONE, Outcome::Failure, 0);
        peers.finished(Peer::NONE);
        assert_eq!(peers.standing(NONE, 0), Standing::UNKNOWN);
        assert_eq!(peers.fill(), 1.0);
    }

    #[test]
    fn an_ejection_ends_by_itself_or_by_hand_and_never_comes_back() {
        let words = words(4);
        let peers = Peers::new(&words);
        let slot = peers.claim(1);
        let available = |mono| peers.standing(slot, mono).available;
        peers.eject(slot, 40 * SECOND, 10 * SECOND);
        for (second, expected) in [(10, false), (39, false), (40, true), (3_600, true), (100_000, true)] {
            assert_eq!(available(second * SECOND), expected, "{second}");
        }
        peers.tend(3_600 * SECOND);
        // Ticks have gone around once: without `tend` it would be out again.
        let around = (u64::from(u32::MAX) + 1) * crate::balancer::TICK;
        assert!(available(around + 35 * SECOND));
        peers.eject(slot, 40 * SECOND, 10 * SECOND);
        peers.eject(slot, 20 * SECOND, 20 * SECOND);
        assert!(available(21 * SECOND), "brought back by hand");
    }

    #[test]
    fn who_fails_in_a_row_is_out_for_longer_and_longer() {
        let words = words(16);
        let peers = Peers::new(&words);
        let slot = peers.claim(5);
        let peer = peers.peer(slot, 0);
        let out = |at: u64| !peers.standing(slot, at).available;
        let row = |times: u32, at: u64| {
            (0..times).fold(0, |_, _| {
                peers.observe(peer, Outcome::Failure, at);
                peers.failed_again(peer, 10 * SECOND, at).within()
            })
        };
        let mut now = SECOND;
        assert_eq!(row(4, now), 4);
        peers.observe(peer, Outcome::Latency(900), now);
        assert_eq!(row(5, now), 5, "a good answer ended the row");
        for seconds in [30, 60, 90] {
            assert!(peers.eject_failing(slot, Cause::Failures, now));
            assert!(!peers.eject_failing(slot, Cause::Ratio, now + SECOND), "it is out already");
            assert_eq!(peers.ejected(slot, now), Some((Cause::Failures, seconds * SECOND)));
            assert_eq!((peers.news(slot, now), peers.news(slot, now)), (Some(News::Out), None), "told once");
            assert!(out(now + (seconds - 1) * SECOND) && !out(now + (seconds + 1) * SECOND), "{seconds}");
            now += (seconds + 2) * SECOND;
            peers.tend(now);
            assert_eq!((peers.news(slot, now), peers.news(slot, now)), (Some(News::Back), None));
            assert_eq!(peers.ejected(slot, now), None);
            assert_eq!(row(1, now), 1, "a new row");
        }
        now += 301 * SECOND;
        assert!(peers.eject_failing(slot, Cause::Failures, now));
        assert!(out(now + 29 * SECOND) && !out(now + 31 * SECOND), "ejections long ago are forgotten");
    }

    #[test]
    fn tending_keeps_averages_and_forgets_what_has_decayed() {
        let words = words(4);
        let peers = Peers::new(&words);
        let peer = peers.peer(peers.claim(1), 0);
        peers.observe(peer, Outcome::Latency(50 * MILLISECOND), SECOND);
        peers.observe(peer, Outcome::Failure, 2 * SECOND);
        peers.tend(3 * SECOND);
        assert!(peers.standing(peer.slot, 3 * SECOND).errors > 0.1);
        let mut mono = 3 * SECOND;
        // A week without a request.
        for _ in 0..7 * 24 {
            mono += 3_601 * SECOND;
            peers.tend(mono);
            assert_eq!(peers.standing(peer.slot, mono).errors, 0.0);
        }
        assert_eq!(peers.standing(peer.slot, mono).latency, Some(50.0));
        peers.observe(peer, Outcome::Latency(10 * MILLISECOND), mono);
        let ms = peers.standing(peer.slot, mono).latency.unwrap();
        assert!((ms - 10.0).abs() < 0.001, "the first sample after a week counts in full: {ms}");
    }
}
