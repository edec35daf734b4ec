//! Tokens that are refused though they are good: by their id, by their subject and when they were issued, or by
//! themselves. The leader writes, everybody reads.
//!
//! A slot is 16 bytes, [`GROUP`] of them a cache line. Word 0 is the entry's key, a keyed hash of what is revoked; word 1
//! holds two times in seconds since the epoch: tokens issued before the first are refused, and from the second on the
//! entry is of no use, since what it refuses has expired. The key is written last and read first, so a reader sees a
//! whole entry or none, and a writer that is killed leaves a free slot. Entries that still refuse something are never
//! given up for new ones: a full table is told to whoever adds.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

/// Slots of a cache line.
const GROUP: usize = 4;
/// So many lines, from its home on, may hold an entry.
const WINDOW: usize = 8;

/// An entry is for ever.
pub const FOR_EVER: u32 = u32::MAX;

/// A table over words of the region.
#[derive(Clone, Copy)]
pub struct Revocations<'a> {
    words: &'a [AtomicU64],
    groups: usize,
}

/// There is no room for one more entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableFull;

impl<'a> Revocations<'a> {
    /// A table over `words`, which are zero at first.
    #[must_use]
    pub fn new(words: &'a [AtomicU64]) -> Self {
        Self { words, groups: words.len() / (2 * GROUP) }
    }

    /// The time, in seconds since the epoch, before which tokens of the entry `key` are refused, if there is such an
    /// entry and it is still of use at `now`; [`FOR_EVER`] refuses all.
    #[inline]
    #[must_use]
    pub fn find(self, key: u64, now: u32) -> Option<u32> {
        let (word, body) = self.slot(key)?;
        let [before, until] = times(body.load(Acquire));
        // The place may have gone to another entry between the two loads; whoever sees its times sees its key, too.
        (until > now && word.load(Relaxed) == stored(key)).then_some(before)
    }

    /// Adds an entry, or changes the one that is there. For the leader alone.
    ///
    /// # Errors
    /// Every place that it could have is taken by an entry that is still of use.
    pub fn put(self, key: u64, before: u32, until: u32, now: u32) -> Result<(), TableFull> {
        let entry = u64::from(before) << 32 | u64::from(until);
        if let Some((_, body)) = self.slot(key) {
            body.store(entry, Relaxed);
            return Ok(());
        }
        for [word, body] in self.window(key) {
            let taken = word.load(Relaxed);
            if taken != 0 && times(body.load(Relaxed))[1] > now {
                continue;
            }
            // Nobody may see the old key with the new times, or the other way round.
            word.store(0, Release);
            body.store(entry, Release);
            word.store(stored(key), Release);
            return Ok(());
        }
        Err(TableFull)
    }

    /// Takes an entry out; whether there was one. For the leader alone.
    pub fn remove(self, key: u64) -> bool {
        self.slot(key).map(|(word, _)| word.store(0, Release)).is_some()
    }

    /// Takes out what is of no use any more at `now`, and what `keep` does not name. How many are left. For the leader
    /// alone.
    pub fn sweep(self, now: u32, keep: impl Fn(u64) -> bool) -> usize {
        let mut left = 0;
        for [word, body] in self.words.as_chunks::<2>().0 {
            match word.load(Relaxed) {
                0 => {}
                key if times(body.load(Relaxed))[1] > now && keep(key) => left += 1,
                _ => word.store(0, Release),
            }
        }
        left
    }

    /// Takes over the entries of `from` that are still of use at `now`, into a table that nobody uses yet.
    pub(in crate::state) fn carry(self, from: Revocations<'_>, now: u32) {
        for [word, body] in from.words.as_chunks::<2>().0 {
            let (key, [before, until]) = (word.load(Relaxed), times(body.load(Relaxed)));
            if key != 0 && until > now {
                // Where there is no room, whoever follows the lists finds that out, too.
                let _ = self.put(key, before, until, now);
            }
        }
    }

    /// How many entries there can be at most; a table that is nearly full has no room for some.
    #[must_use]
    pub fn capacity(self) -> usize {
        self.groups * GROUP
    }

    #[inline]
    fn slot(self, key: u64) -> Option<(&'a AtomicU64, &'a AtomicU64)> {
        let wanted = stored(key);
        self.window(key).find(|[word, _]| word.load(Acquire) == wanted).map(|[word, body]| (word, body))
    }

    /// The places that an entry may have, line by line.
    #[inline]
    fn window(self, key: u64) -> impl Iterator<Item = &'a [AtomicU64; 2]> {
        // The low bits choose the line; the whole key is compared.
        let home = ((key as u128 * self.groups as u128) >> 64) as usize;
        let window = (0..WINDOW.min(self.groups)).map(move |step| {
            let group = home + step;
            if group < self.groups { group } else { group - self.groups }
        });
        window.flat_map(move |group| {
            let line = self.words.get(2 * GROUP * group..2 * GROUP * (group + 1)).unwrap_or_default();
            line.as_chunks::<2>().0
        })
    }
}

/// No key is 0, which is what a free slot has.
#[inline]
const fn stored(key: u64) -> u64 {
    if key == 0 { 1 } else { key }
}

#[inline]
const fn times(word: u64) -> [u32; 2] {
    [(word >> 32) as u32, word as u32]
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn words(lines: usize) -> Vec<AtomicU64> {
        (0..2 * GROUP * lines).map(|_| AtomicU64::new(0)).collect()
    }

    fn mix(number: u64) -> u64 {
        let mixed = (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed ^ mixed >> 29
    }

    #[test]
    fn an_entry_by_the_hand() {
        let words = words(16);
        let table = Revocations::new(&words);
        assert_eq!(table.find(7, 100), None);
        table.put(7, FOR_EVER, 200, 100).unwrap();
        table.put(0, 50, FOR_EVER, 100).unwrap();
        assert_eq!(
            (table.find(7, 100), table.find(7, 199), table.find(7, 200)),
            (Some(FOR_EVER), Some(FOR_EVER), None)
        );
        assert_eq!(table.find(0, u32::MAX - 1), Some(50));
        table.put(0, 60, FOR_EVER, 100).unwrap();
        assert_eq!(table.find(0, 100), Some(60));
        assert!(table.remove(0) && !table.remove(0));
        assert_eq!(table.find(0, 100), None);
        assert_eq!(table.sweep(200, |_| true), 0);
        // No table at all is a table without entries.
        let none = Revocations::new(&[]);
        assert_eq!((none.find(7, 0), none.put(7, 1, 1, 0), none.capacity()), (None, Err(TableFull), 0));
    }

    #[test]
    fn nothing_that_is_of_use_gives_way() {
        let words = words(64);
        let table = Revocations::new(&words);
        let mut held = Vec::new();
        let mut refused = 0;
        for number in 0..1_000 {
            match table.put(mix(number), FOR_EVER, 200, 100) {
                Ok(()) => held.push(mix(number)),
                Err(TableFull) => refused += 1,
            }
        }
        assert!(refused >= 1_000 - table.capacity() && held.len() > table.capacity() * 3 / 4, "{}", held.len());
        assert!(held.iter().all(|key| table.find(*key, 100) == Some(FOR_EVER)));
        // What has expired does.
        for number in 2_000..2_100 {
            table.put(mix(number), 1, 300, 200).unwrap();
        }
        assert_eq!(table.sweep(200, |key| key != mix(2_000)), 99);
    }

    #[test]
    fn a_reader_sees_whole_entries() {
        let words = words(1);
        let table = Revocations::new(&words);
        // Two keys take turns in one place; the times say which of them wrote.
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for round in 0..200_000_u32 {
                    let key = u64::from(round % 2) + 1;
                    table.sweep(0, |_| false);
                    table.put(key, key as u32, FOR_EVER, 0).unwrap();
                }
            });
            for _ in 0..200_000 {
                for key in [1, 2] {
                    let found = table.find(key, 0);
                    assert!(found.is_none_or(|before| u64::from(before) == key), "{key} {found:?}");
                }
            }
        });
    }

    proptest! {
        #[test]
        fn as_a_map(ops in prop::collection::vec((0..40_u64, 0..4_u8, 0..6_u32), 0..200)) {
            let words = words(64);
            let table = Revocations::new(&words);
            let mut map: HashMap<u64, (u32, u32)> = HashMap::new();
            for (now, (number, what, time)) in ops.into_iter().enumerate() {
                let (key, now) = (mix(number), now as u32 / 8);
                match what {
                    0 => {
                        table.put(key, time, now + time, now).unwrap();
                        map.insert(key, (time, now + time));
                    }
                    1 => {
                        table.remove(key);
                        map.remove(&key);
                    }
                    2 => {
                        map.retain(|_, (_, until)| *until > now);
                        prop_assert_eq!(table.sweep(now, |_| true), map.len());
                    }
                    _ => {}
                }
                let expected = map.get(&key).filter(|(_, until)| *until > now).map(|(before, _)| *before);
                prop_assert_eq!(table.find(key, now), expected);
            }
        }
    }
}
