//! Metric shards: one a worker slot of the region, written by one process, read by whoever renders.
//!
//! One writer means that counting is a plain load and a plain store of words that no other core writes. A shard
//! outlives its process; the next owner of the worker slot adopts it and counts on, so a counter never falls.
//!
//! A shard is an open-addressed table of [`SLOT`]-word slots, word 0 the [`Series`], behind [`RESERVED`] slots that
//! need no search. A series goes to the first free slot from its home on, at most [`PROBES`] away, as long as no more
//! than three quarters are taken; what finds none is counted in a reserved slot and shows as `other`.
//!
//! Slots whose names are gone are freed by the owner ([`Shard::sweep`]), who adds their numbers to `other`, where they
//! showed already. `metrics::render` reads a shard again when it was swept meanwhile.
//!
//! A kill in a sweep may leave numbers that were added to `other` and are not taken from the slot yet: whoever adopts
//! the shard finishes, and adds them once more rather than let a counter fall. A kill between the counter of a status and the bucket of its latency leaves the two families one apart, and one
//! during a claim may leave a free slot with what the dead process had begun to write: the next claimer overwrites it.

use std::sync::atomic::Ordering::{Relaxed, Release};
use std::sync::atomic::{AtomicU64, fence};

use crate::canary;
use crate::metrics::{
    HEAD, Names, OTHER_DURATION, OTHER_REQUESTS, OTHER_UPSTREAM, RESERVED, SLOT, Series, bucket, head, status_place,
};
use crate::types::{Id, Method, Reason};

/// How far from its home a series may live.
pub const PROBES: usize = 32;

/// The key of a slot that was freed: no series, and a search goes on behind it.
const FREED: u64 = 1;

/// A worker's shard. Only the process that owns the worker slot may count, and from one thread.
#[derive(Clone, Copy)]
pub struct Shard<'a> {
    words: &'a [AtomicU64],
    /// Hashed slots.
    len: usize,
}

/// A slot to count in.
#[derive(Clone, Copy)]
struct Counters<'a>(&'a [AtomicU64]);

impl<'a> Shard<'a> {
    /// The words of a shard with room for about `series` slots: a (route, method) takes two (more with rare
    /// statuses), a peer and a (route, rule) one each.
    #[must_use]
    pub const fn words(series: usize) -> usize {
        (RESERVED + series + series / 3 + 1) * SLOT
    }

    /// The shard over `words`, 128-byte aligned, zero at first; `None` where there is not even room for the reserved
    /// slots.
    #[must_use]
    #[inline]
    pub fn new(words: &'a [AtomicU64]) -> Option<Self> {
        let len = (words.len() / SLOT).checked_sub(RESERVED)?;
        Some(Self { words, len })
    }

    /// Makes the shard of a former process one's own: its counters stay, its gauge begins anew. To be called once by
    /// each process that takes a worker slot, and by whoever finds the owner of one dead.
    pub fn adopt(self) {
        let head = self.slot(HEAD);
        head.put(head::CONNECTIONS, 0);
        if let Some(index) = head::swept_slot(head.word(head::SWEEP)) {
            self.free(index);
        }
        // The former owner may have been killed between a claim and its count.
        let used = (0..self.len).filter(|index| self.slot(RESERVED + index).word(0) > FREED).count();
        head.put(head::USED, used as u64);
    }

    /// Frees the series whose names are gone and says how many there were; their numbers go to `other`. It looks at
    /// every slot and asks for every name, so the owner calls it when [`Self::fill`] is high, and not in a request.
    pub fn sweep(self, names: &dyn Names) -> usize {
        let gone = |index: &usize| {
            let counters = self.slot(*index);
            let about = [counters.word(1), counters.word(2)];
            counters.word(0) > FREED && Series(counters.word(0)).labels(about, names).is_none()
        };
        (RESERVED..RESERVED + self.len).filter(gone).map(|index| self.free(index)).count()
    }

    /// Counts a request that ended with `status` after `micros` microseconds. [`Id::NONE`] is the route of what
    /// reached none.
    #[inline]
    pub fn request(self, route: Id, method: Method, status: u16, micros: u64) {
        let (group, word) = status_place(status);
        match self.claim(Series::requests(route, method, group)) {
            Some(counters) => counters.add(word, 1),
            None if group == 0 => self.slot(OTHER_REQUESTS).add(word, 1),
            None => self.slot(HEAD).add(head::OTHER_STATUS, 1),
        }
        self.claim(Series::duration(route, method)).unwrap_or(self.slot(OTHER_DURATION)).time(micros);
    }

    /// Counts `micros` microseconds from the start of a try to the response header of the peer with `key`
    /// ([`balancer::key`](crate::balancer::key)).
    #[inline]
    pub fn upstream(self, key: u64, micros: u64) {
        self.claim(Series::upstream(key)).unwrap_or(self.slot(OTHER_UPSTREAM)).time(micros);
    }

    /// Counts a request on `route` that limiter `rule` refused.
    pub fn limited(self, route: Id, rule: Id) {
        let about = [route.word(), rule.word()];
        match self.claim_about(Series::limited(route, rule), about) {
            Some(counters) => counters.add(Series::LIMITED_COUNT, 1),
            None => self.slot(HEAD).add(head::OTHER_LIMITED, 1),
        }
    }

    /// Counts a request to the variant with `key` of `route`: the time to its answer, or `None` where it failed.
    #[inline]
    pub fn variant(self, route: Id, key: u64, micros: Option<u64>) {
        let found = self.claim_about(Series::variant(route, key), [route.word(), key]);
        match (found, micros) {
            (Some(counters), Some(micros)) => {
                let log = canary::log(micros);
                counters.add(Series::VARIANT_GOOD, 1);
                counters.add(Series::VARIANT_MICROS, micros);
                counters.add(Series::VARIANT_LOGS, log);
                counters.add(Series::VARIANT_SQUARES, log * log);
            }
            (Some(counters), None) => counters.add(Series::VARIANT_ERRORS, 1),
            (None, Some(micros)) => {
                self.slot(HEAD).add(head::OTHER_VARIANT, 1);
                self.slot(HEAD).add(head::OTHER_VARIANT_MICROS, micros);
            }
            (None, None) => self.slot(HEAD).add(head::OTHER_VARIANT_ERRORS, 1),
        }
    }

    /// What this shard has counted of the variant with `key` of `route`; for whoever compares, not only the owner.
    #[must_use]
    pub fn tally(self, route: Id, key: u64) -> canary::Tally {
        let Some(counters) = self.find(Series::variant(route, key)) else { return canary::Tally::default() };
        canary::Tally {
            good: counters.word(Series::VARIANT_GOOD),
            errors: counters.word(Series::VARIANT_ERRORS),
            logs: counters.word(Series::VARIANT_LOGS),
            squares: counters.word(Series::VARIANT_SQUARES),
        }
    }

    /// Counts a request on `route` that would have been refused for `reason`.
    #[cold]
    pub fn shadowed(self, route: Id, reason: Reason) {
        match self.claim(Series::shadowed(route, reason)) {
            Some(counters) => counters.add(1, 1),
            None => self.slot(HEAD).add(head::OTHER_SHADOWED, 1),
        }
    }

    /// One connection more.
    #[inline]
    pub fn connected(self) {
        self.slot(HEAD).add(head::CONNECTIONS, 1);
    }

    /// One connection less.
    #[inline]
    pub fn disconnected(self) {
        self.slot(HEAD).add(head::CONNECTIONS, u64::MAX);
    }

    /// Sets the number of connections at this moment, for adapters whose server counts them.
    pub fn set_connections(self, connections: u64) {
        self.slot(HEAD).put(head::CONNECTIONS, connections);
    }

    /// Counts a panic that was caught.
    pub fn panicked(self) {
        self.slot(HEAD).add(head::PANICS, 1);
    }

    /// Counts a configuration that was refused.
    pub fn config_error(self) {
        self.slot(HEAD).add(head::CONFIG_ERRORS, 1);
    }

    /// The part of the room for series that is taken, 0 to 1; at 1 new ones go to `other`.
    #[must_use]
    pub fn fill(self) -> f64 {
        self.slot(HEAD).word(head::USED) as f64 / self.room().max(1) as f64
    }

    /// The words, for `metrics::render`.
    #[must_use]
    pub const fn as_words(self) -> &'a [AtomicU64] {
        self.words
    }

    /// How many series fit: beyond three quarters, searches get long.
    const fn room(self) -> usize {
        self.len - self.len / 4
    }

    #[inline]
    fn claim(self, series: Series) -> Option<Counters<'a>> {
        self.claim_about(series, [])
    }

    /// The slot of `series`; a new one begins with the words `about` behind the key.
    #[inline]
    fn claim_about<const N: usize>(self, series: Series, about: [u64; N]) -> Option<Counters<'a>> {
        let mut freed = None;
        let home = ((u64::from(series.hash()) * self.len as u64) >> 32) as usize;
        for step in 0..PROBES.min(self.len) {
            let index = match home + step {
                index if index < self.len => index,
                beyond => beyond - self.len,
            };
            let counters = self.slot(RESERVED + index);
            match counters.word(0) {
                owner if owner == series.0 => return Some(counters),
                0 => return self.take(freed.unwrap_or(counters), series, &about),
                FREED => freed = freed.or(Some(counters)),
                _ => {}
            }
        }
        self.take(freed?, series, &about)
    }

    fn find(self, series: Series) -> Option<Counters<'a>> {
        let home = ((u64::from(series.hash()) * self.len as u64) >> 32) as usize;
        let slots = (0..PROBES.min(self.len)).map(|step| self.slot(RESERVED + (home + step) % self.len));
        slots.take_while(|counters| counters.word(0) != 0).find(|counters| counters.word(0) == series.0)
    }

    #[cold]
    fn take(self, counters: Counters<'a>, series: Series, about: &[u64]) -> Option<Counters<'a>> {
        let head = self.slot(HEAD);
        if head.word(head::USED) >= self.room() as u64 {
            return None;
        }
        for word in 1..SLOT {
            counters.put(word, about.get(word - 1).copied().unwrap_or(0));
        }
        // Readers that see the key see the words before it.
        counters.0.first()?.store(series.0, Release);
        head.add(head::USED, 1);
        Some(counters)
    }

    /// Adds the numbers of slot `index` to those of `other` and frees it; readers know by [`head::SWEEP`].
    fn free(self, index: usize) {
        let (head, counters) = (self.slot(HEAD), self.slot(index));
        let series = Series(counters.word(0));
        let sweeps = (head.word(head::SWEEP) >> 32).wrapping_add(1);
        head.put(head::SWEEP, sweeps << 32 | (index as u64 + 1));
        fence(Release);
        match series.heir() {
            _ if series.is_variant() => {
                head.add(head::OTHER_VARIANT, counters.word(Series::VARIANT_GOOD));
                head.add(head::OTHER_VARIANT_ERRORS, counters.word(Series::VARIANT_ERRORS));
                head.add(head::OTHER_VARIANT_MICROS, counters.word(Series::VARIANT_MICROS));
            }
            _ if series.is_shadowed() => head.add(head::OTHER_SHADOWED, counters.word(1)),
            _ if series.is_limited() => head.add(head::OTHER_LIMITED, counters.word(Series::LIMITED_COUNT)),
            None if series.0 <= FREED => {}
            None => head.add(head::OTHER_STATUS, (1..SLOT).map(|word| counters.word(word)).sum()),
            Some(heir) => (1..SLOT).for_each(|word| self.slot(heir).add(word, counters.word(word))),
        }
        counters.put(0, FREED);
        head.put(head::USED, head.word(head::USED).saturating_sub(1));
        if let Some(word) = head.0.get(head::SWEEP) {
            word.store(sweeps << 32, Release);
        }
    }

    #[inline]
    fn slot(self, index: usize) -> Counters<'a> {
        Counters(self.words.get(index * SLOT..(index + 1) * SLOT).unwrap_or(&[]))
    }
}

impl Counters<'_> {
    #[inline]
    fn word(self, index: usize) -> u64 {
        self.0.get(index).map_or(0, |word| word.load(Relaxed))
    }

    #[inline]
    fn put(self, index: usize, value: u64) {
        if let Some(word) = self.0.get(index) {
            word.store(value, Relaxed);
        }
    }

    /// A load and a store: nobody else writes here.
    #[inline]
    fn add(self, index: usize, more: u64) {
        if let Some(word) = self.0.get(index) {
            word.store(word.load(Relaxed).wrapping_add(more), Relaxed);
        }
    }

    /// Counts a duration in a histogram.
    #[inline]
    fn time(self, micros: u64) {
        self.add(1, micros);
        self.add(bucket(micros), 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(count: usize) -> Vec<AtomicU64> {
        (0..count).map(|_| AtomicU64::new(0)).collect()
    }

    const ROUTE: Id = Id { slot: 1, birth: 1 };

    #[test]
    fn a_series_keeps_its_slot() {
        let words = words(Shard::words(64));
        let shard = Shard::new(&words).unwrap();
        for _ in 0..10 {
            shard.request(ROUTE, Method::Get, 200, 700);
            shard.request(ROUTE, Method::Get, 404, 2_000);
            shard.request(ROUTE, Method::Get, 418, 2_000);
        }
        let counts = shard.claim(Series::requests(ROUTE, Method::Get, 0)).unwrap();
        assert_eq!((counts.word(1), counts.word(6)), (10, 10));
        let times = shard.claim(Series::duration(ROUTE, Method::Get)).unwrap();
        assert_eq!((times.word(1), times.word(2), times.word(3)), (10 * 4_700, 10, 20));
        assert_eq!(shard.slot(HEAD).word(head::USED), 3);
    }

    #[test]
    fn a_full_shard_counts_into_other_and_loses_nothing() {
        const ROUTES: u32 = 500;
        let words = words(Shard::words(64));
        let shard = Shard::new(&words).unwrap();
        for round in 0..3_u64 {
            for slot in 0..ROUTES {
                let route = Id { slot, birth: 9 };
                shard.request(route, Method::Get, 200, 700);
                shard.request(route, Method::Post, 999, 700);
                shard.upstream(u64::from(slot) << 20 | 1, 700);
                shard.limited(route, Id { slot: 1, birth: 1 });
            }
            assert!(shard.fill() <= 1.0, "{round}");
        }
        // What was counted anywhere, by kind.
        let sum = |pick: &dyn Fn(usize, Counters) -> u64| -> u64 {
            words.chunks(SLOT).enumerate().map(|(index, slot)| pick(index, Counters(slot))).sum()
        };
        let all = u64::from(ROUTES) * 3;
        let kind = |slot: Counters| slot.word(0) >> 60;
        let body = |slot: Counters| (1..SLOT).map(|word| slot.word(word)).sum::<u64>();
        let requests = sum(&|index, slot| match index {
            HEAD => slot.word(head::OTHER_STATUS),
            OTHER_REQUESTS => body(slot),
            RESERVED.. if kind(slot) == 1 => body(slot),
            _ => 0,
        });
        assert_eq!(requests, 2 * all);
        let micros = sum(&|index, slot| match index {
            OTHER_DURATION | OTHER_UPSTREAM => slot.word(1),
            RESERVED.. if kind(slot) == 2 || kind(slot) == 3 => slot.word(1),
            _ => 0,
        });
        assert_eq!(micros, 3 * all * 700);
        let limited = sum(&|index, slot| match index {
            HEAD => slot.word(head::OTHER_LIMITED),
            RESERVED.. if kind(slot) == 4 => slot.word(Series::LIMITED_COUNT),
            _ => 0,
        });
        assert_eq!(limited, all);
        assert!(shard.slot(HEAD).word(head::USED) as usize <= shard.room());
    }

    #[test]
    fn most_of_the_room_can_be_used() {
        let words = words(Shard::words(3_000));
        let shard = Shard::new(&words).unwrap();
        for slot in 0..1_500 {
            shard.request(Id { slot, birth: 1 + slot / 7 }, Method::Get, 200, 1);
        }
        let (requests, durations) = (shard.slot(OTHER_REQUESTS).word(1), shard.slot(OTHER_DURATION).word(2));
        assert!(requests + durations < 15, "{requests} + {durations} of 3,000 found no slot");
    }

    #[test]
    fn who_adopts_a_shard_counts_on() {
        let words = words(Shard::words(16));
        let shard = Shard::new(&words).unwrap();
        shard.connected();
        shard.panicked();
        shard.request(ROUTE, Method::Get, 200, 1);
        shard.slot(HEAD).put(head::USED, 0);
        shard.adopt();
        shard.request(ROUTE, Method::Get, 200, 1);
        let head = shard.slot(HEAD);
        assert_eq!((head.word(head::CONNECTIONS), head.word(head::PANICS), head.word(head::USED)), (0, 1, 2));
        assert_eq!(shard.claim(Series::requests(ROUTE, Method::Get, 0)).unwrap().word(1), 2);
    }

    /// Knows no name, so every series but that of no route is gone.
    struct Nobody;

    impl Names for Nobody {
        fn route(&self, _: u32, _: u16) -> Option<&str> {
            None
        }
        fn rule(&self, _: Id) -> Option<&str> {
            None
        }
        fn peer(&self, _: u64) -> Option<(&str, &str)> {
            None
        }
    }

    #[test]
    fn a_sweep_makes_room_and_changes_no_sum() {
        let words = words(Shard::words(16));
        let shard = Shard::new(&words).unwrap();
        let text = || crate::metrics::render([&words[..]], &Nobody, &Default::default()).unwrap();
        for round in 0..50_u32 {
            let route = Id { slot: round, birth: 1 };
            shard.request(Id::NONE, Method::Get, 404, 9);
            shard.request(route, Method::Get, 200, 10);
            shard.request(route, Method::Get, 418, 70_000);
            shard.upstream(u64::from(round) + 1, 80);
            shard.limited(route, ROUTE);
            let before = text();
            let gone = shard.sweep(&Nobody);
            assert!(gone >= 5, "{round}: {gone}");
            assert_eq!(text(), before, "{round}");
            assert_eq!(shard.sweep(&Nobody), 0);
            assert_eq!(shard.slot(HEAD).word(head::USED), 2, "the two of no route stay");
        }
        assert!(text().contains("status=\"other\"} 50\n"), "{}", text());
        assert_eq!(shard.claim(Series::requests(Id::NONE, Method::Get, 0)).unwrap().word(6), 50);
    }

    #[test]
    fn who_adopts_a_shard_finishes_its_sweep() {
        for moved in [false, true] {
            let words = words(Shard::words(16));
            let shard = Shard::new(&words).unwrap();
            shard.request(ROUTE, Method::Get, 200, 10);
            let series = Series::requests(ROUTE, Method::Get, 0);
            let index = words.iter().position(|word| word.load(Relaxed) == series.0).unwrap() / SLOT;
            shard.slot(HEAD).put(head::SWEEP, 1 << 32 | (index as u64 + 1));
            if moved {
                shard.slot(OTHER_REQUESTS).add(1, 1);
            }
            shard.adopt();
            assert_eq!(shard.slot(index).word(0), FREED);
            assert_eq!(shard.slot(OTHER_REQUESTS).word(1), 1 + u64::from(moved), "never less than it showed");
            assert_eq!(head::swept_slot(shard.slot(HEAD).word(head::SWEEP)), None);
            assert_eq!(shard.slot(HEAD).word(head::USED), 1);
        }
    }

    #[test]
    fn too_few_words_are_no_shard() {
        assert!(Shard::new(&words(RESERVED * SLOT - 1)).is_none());
        let words = words(RESERVED * SLOT);
        let shard = Shard::new(&words).unwrap();
        shard.request(ROUTE, Method::Get, 200, 1);
        assert_eq!(shard.slot(OTHER_REQUESTS).word(1), 1);
    }
}
