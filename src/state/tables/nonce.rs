//! Nonces that were seen, until nobody can use them again.
//!
//! A slot is one word: the last second at which the nonce counts, and a fingerprint under the region's secret. A nonce
//! lives somewhere in the four cache lines from its home on; slots whose time is over are free. What a client chooses
//! is hashed with a key, so nobody can aim at a slot, and two nonces are taken for one in one of 10^10 requests at
//! worst, which refuses that request: never does a nonce count twice.
//!
//! **Of any number that bring one nonce at once, one wins.** A free slot is first taken on trial ([`TRIAL`]). The taker
//! then walks the window: it loses to a nonce that is settled and to a trial in an earlier slot, and throws out trials
//! in later ones; who met neither settles. Of two takers the one whose trial was written later walks after both stand.
//! It sees the other, and if that one is later in the window it is thrown out or has settled, and then it won. The
//! trial in the earliest slot can only lose to one that is settled, so somebody wins. Nobody waits for anybody. A trial
//! carries the number of its taker: who was thrown out cannot take for its own what another put there meanwhile.
//!
//! **A kill** between the two steps leaves a trial, which counts as a nonce that was seen: the request died with its
//! process, and whoever sends it again is refused until its time is over.
//!
//! **Time** is the wall clock's, since signatures carry it. Only seconds modulo 2^24 are kept, and what lies further
//! ahead than three days is over: that is more than any policy may ask for, and a clock that is set back by more makes
//! every signature of its future one from the future. A clock that goes ahead and back may have freed slots whose time
//! it comes back to; those signatures could be used again.

use std::hash::Hasher;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};

use siphasher::sip::SipHasher13;

use super::{copies, interleave};
use crate::state::atomic::Atomic;

/// How many slots, from its home on, may hold a nonce.
const WINDOW: usize = 32;
/// Slots of a cache line; homes begin one.
const LINE: usize = 8;
const TRIAL: u64 = 1 << 63;
const TIME_BITS: u32 = 24;
const TIME_SHIFT: u32 = 63 - TIME_BITS;
const PRINT: u64 = (1 << TIME_SHIFT) - 1;
const TIME: u64 = (1 << TIME_BITS) - 1;
/// While a slot is taken on trial, these bits of the fingerprint are the taker's number.
const TAKER: u64 = 63;

/// The furthest second ahead until which a nonce can be kept.
pub const AHEAD_MAX: u64 = 1 << 18;

/// What became of a nonce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nonce {
    /// Nobody has brought it before; now it is kept.
    Fresh,
    /// It was seen, or somebody brings it at this moment.
    Replayed,
    /// There is no room to keep it.
    Full,
}

/// The table over its words, which are zero at first.
pub struct Nonces<'a, W = AtomicU64> {
    words: &'a [W],
    secret: [u64; 2],
}

copies!(Nonces);

impl<'a, W: Atomic> Nonces<'a, W> {
    /// A table over `words`; fingerprints are made under `secret`.
    #[must_use]
    pub fn new(words: &'a [W], secret: [u64; 2]) -> Self {
        let whole = words.len() / LINE * LINE;
        Self { words: words.get(..whole).unwrap_or_default(), secret }
    }

    /// How many nonces there is room for.
    #[must_use]
    pub fn capacity(self) -> usize {
        self.words.len()
    }

    /// Keeps `nonce`, which comes at second `now`, through second `until` of the wall clock. `taker`, below 64, is the
    /// caller's worker slot: nobody else uses the number at this moment.
    #[must_use]
    pub fn insert(self, nonce: &[u8], now: u64, until: u64, taker: u32) -> Nonce {
        if until.saturating_sub(now) > AHEAD_MAX {
            return Nonce::Full;
        }
        let (home, print) = self.place(nonce);
        // A round is repeated only when another took the very slot: at most so many others can.
        for _ in 0..4 * WINDOW {
            let mut free = None;
            for (index, slot) in self.window(home).enumerate() {
                let word = slot.load(SeqCst);
                match is_over(word, now) {
                    true if free.is_none() => free = Some((index, slot, word)),
                    true => {}
                    false if is_of(word, print) => return Nonce::Replayed,
                    false => {}
                }
            }
            let Some((index, slot, word)) = free else { return Nonce::Full };
            let settled = (until & TIME) << TIME_SHIFT | print;
            let trial = TRIAL | settled & !TAKER | u64::from(taker) & TAKER;
            interleave();
            if slot.compare_exchange(word, trial, SeqCst, Relaxed).is_err() {
                continue;
            }
            interleave();
            let is_alone = self.is_alone(home, index, print, now);
            interleave();
            if is_alone && slot.compare_exchange(trial, settled, SeqCst, Relaxed).is_ok() {
                return Nonce::Fresh;
            }
            // Who won has it; a trial that still stands gives its slot back.
            let _ = slot.compare_exchange(trial, 0, SeqCst, Relaxed);
            return Nonce::Replayed;
        }
        Nonce::Full
    }

    /// Frees what is over in `count` slots from `from` on, and says how many of them hold what is not. The leader calls
    /// it now and then: what nobody frees for half a year would begin to count again.
    pub fn sweep(self, from: usize, count: usize, now: u64) -> u64 {
        let mut live = 0;
        for slot in self.words.iter().skip(from).take(count) {
            let word = slot.load(Relaxed);
            if !is_over(word, now) {
                live += 1;
            } else if word != 0 {
                // Who takes it at this moment may have it.
                let _ = slot.compare_exchange(word, 0, SeqCst, Relaxed);
            }
        }
        live
    }

    /// Whether the trial in the slot at `mine` of the window may be settled; trials behind it are thrown out.
    fn is_alone(self, home: usize, mine: usize, print: u64, now: u64) -> bool {
        self.window(home).enumerate().filter(|(index, _)| *index != mine).all(|(index, slot)| {
            // A trial that changes as it is thrown out was settled, or withdrawn by its taker: then another may stand
            // there, of as many as there are.
            for _ in 0..4 * WINDOW {
                interleave();
                let word = slot.load(SeqCst);
                if !is_of(word, print) || is_over(word, now) {
                    return true;
                }
                if word & TRIAL == 0 || index < mine {
                    return false;
                }
                interleave();
                if slot.compare_exchange(word, 0, SeqCst, Relaxed).is_ok() {
                    return true;
                }
            }
            false
        })
    }

    fn place(self, nonce: &[u8]) -> (usize, u64) {
        let [low, high] = self.secret;
        let mut hasher = SipHasher13::new_with_keys(low, high);
        hasher.write(nonce);
        let print = hasher.finish();
        // Another hash, so that the home tells more than the fingerprint does.
        hasher.write_u8(0);
        let lines = (self.words.len() / LINE) as u64;
        let line = ((u128::from(hasher.finish()) * u128::from(lines)) >> 64) as usize;
        (line * LINE, (print & PRINT).max(TAKER + 1))
    }

    /// The slots that may hold a nonce, from its home on, around the end of the table; always in this order.
    fn window(self, home: usize) -> impl Iterator<Item = &'a W> {
        let (before, from) = self.words.split_at_checked(home).unwrap_or((&[], self.words));
        from.iter().chain(before).take(WINDOW)
    }
}

/// Whether a word is that of a nonce with this fingerprint; of a trial fewer bits can be compared.
fn is_of(word: u64, print: u64) -> bool {
    let compared = if word & TRIAL == 0 { PRINT } else { PRINT & !TAKER };
    (word ^ print) & compared == 0
}

/// Whether a slot is free at `now`. Trials are in time like the others.
fn is_over(word: u64, now: u64) -> bool {
    let until = word >> TIME_SHIFT & TIME;
    word & PRINT == 0 || until.wrapping_sub(now) & TIME > AHEAD_MAX
}

#[cfg(test)]
mod tests {
    use super::super::tests::{meet_others, take_turns};
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;
    use std::sync::{Arc, Barrier, Condvar, Mutex};

    const SECRET: [u64; 2] = [3, 4];
    /// Orders of steps that are tried.
    const SEEDS: u64 = 20_000;

    fn words(count: usize) -> Vec<AtomicU64> {
        (0..count).map(|_| AtomicU64::new(0)).collect()
    }

    #[test]
    fn a_nonce_counts_once_until_its_time_is_over() {
        let words = words(64);
        let nonces = Nonces::new(&words, SECRET);
        // Around the wrap of the seconds that are kept, too.
        for base in [1_000, 1_800_000_000, (1 << TIME_BITS) - 200] {
            for (nonce, now, until, expected) in [
                ("a", 0, 330, Nonce::Fresh),
                ("a", 0, 330, Nonce::Replayed),
                ("b", 0, 10, Nonce::Fresh),
                ("a", 330, 340, Nonce::Replayed),
                ("b", 10, 20, Nonce::Replayed),
                ("b", 11, 400, Nonce::Fresh),
                ("a", 331, 661, Nonce::Fresh),
                ("", 331, 661, Nonce::Fresh),
                ("", 331, 661, Nonce::Replayed),
                ("c", 0, AHEAD_MAX + 1, Nonce::Full),
            ] {
                assert_eq!(
                    nonces.insert(nonce.as_bytes(), base + now, base + until, 0),
                    expected,
                    "{base} {nonce} {now}"
                );
            }
        }
    }

    #[test]
    fn full_is_full_until_something_is_over() {
        let words = words(WINDOW);
        let nonces = Nonces::new(&words, SECRET);
        for n in 0..WINDOW {
            assert_eq!(nonces.insert(&n.to_le_bytes(), 1_000, 1_010 + n as u64, 0), Nonce::Fresh, "{n}");
        }
        assert_eq!((nonces.sweep(0, WINDOW, 1_000), nonces.capacity()), (WINDOW as u64, WINDOW));
        for n in 0..WINDOW {
            assert_eq!(nonces.insert(&n.to_le_bytes(), 1_001, 1_400, 1), Nonce::Replayed, "{n}");
        }
        assert_eq!(nonces.insert(b"more", 1_010, 1_400, 1), Nonce::Full);
        assert_eq!(nonces.insert(b"more", 1_011, 1_400, 1), Nonce::Fresh);
        assert_eq!(nonces.insert(b"and more", 1_011, 1_400, 1), Nonce::Full);
        assert_eq!(Nonces::<AtomicU64>::new(&[], SECRET).insert(b"a", 1, 2, 1), Nonce::Full);
    }

    #[test]
    fn a_trial_that_a_dead_process_left_is_a_nonce_that_was_seen() {
        let words = words(64);
        let nonces = Nonces::new(&words, SECRET);
        let (home, print) = nonces.place(b"a");
        words[home].store(TRIAL | 1_300 << TIME_SHIFT | print & !TAKER | 5, SeqCst);
        assert_eq!(nonces.insert(b"a", 1_000, 1_300, 1), Nonce::Replayed);
        assert_eq!(nonces.insert(b"a", 1_301, 1_600, 1), Nonce::Fresh);
    }

    #[test]
    fn of_threads_with_one_nonce_exactly_one_wins() {
        const THREADS: usize = 6;
        // A small table, with others that come, go and are in the way.
        let words = words(2 * WINDOW);
        let nonces = Nonces::new(&words, SECRET);
        let barrier = Barrier::new(THREADS);
        let rounds = 3_000u64;
        let won: Vec<Vec<bool>> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS as u64)
                .map(|thread| {
                    let barrier = &barrier;
                    scope.spawn(move || {
                        meet_others();
                        (0..rounds)
                            .map(|round| {
                                barrier.wait();
                                // Everybody's clock is a little different, and slots become free between two looks.
                                let now = 1_000 + 3 * round + thread % 2;
                                let _ = nonces.insert(
                                    &[round.to_le_bytes(), thread.to_le_bytes()].concat(),
                                    now,
                                    now + thread,
                                    thread as u32,
                                );
                                nonces.insert(&round.to_le_bytes(), now, 1_000 + 3 * round + 9, thread as u32)
                                    == Nonce::Fresh
                            })
                            .collect()
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        for round in 0..rounds as usize {
            assert_eq!(won.iter().filter(|thread| thread[round]).count(), 1, "round {round}");
        }
    }

    /// Lets one thread run at a time, and at each of its steps draws who goes on.
    struct Turns {
        /// Who runs, who has not ended, and what is drawn from.
        state: Mutex<(usize, Vec<usize>, u64)>,
        changed: Condvar,
    }

    impl Turns {
        fn wait(&self, me: usize) {
            let state = self.state.lock().unwrap();
            drop(self.changed.wait_while(state, |(running, ..)| *running != me).unwrap());
        }

        fn draw(&self, ended: Option<usize>) {
            let mut state = self.state.lock().unwrap();
            let (running, threads, random) = &mut *state;
            threads.retain(|thread| Some(*thread) != ended);
            *random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            // Mostly the same one goes on: what is rare is who is held up, and where.
            if ended.is_some() || (*random >> 33).is_multiple_of(4) {
                if let Some(next) = threads.get((*random >> 40) as usize % threads.len().max(1)) {
                    *running = *next;
                }
                self.changed.notify_all();
            }
        }
    }

    #[test]
    fn whatever_the_order_of_steps_exactly_one_wins() {
        const THREADS: usize = 3;
        for seed in 0..SEEDS {
            let words: Arc<Vec<_>> = Arc::new(words(LINE));
            // The first slot is free for those alone whose clock is a second ahead.
            words[0].store((1_000 << TIME_SHIFT) | (TAKER + 1), SeqCst);
            let state = Mutex::new((0, (0..THREADS).collect(), seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
            let turns = Arc::new(Turns { state, changed: Condvar::new() });
            let threads: Vec<_> = (0..THREADS)
                .map(|me| {
                    let (words, turns) = (words.clone(), turns.clone());
                    std::thread::spawn(move || {
                        turns.wait(me);
                        let mine = turns.clone();
                        take_turns(move || {
                            mine.draw(None);
                            mine.wait(me);
                        });
                        let now = 1_000 + (me + seed as usize) as u64 % 2;
                        let found = Nonces::new(&words, SECRET).insert(b"a", now, 1_300, me as u32);
                        turns.draw(Some(me));
                        found
                    })
                })
                .collect();
            let found: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
            assert_eq!(found.iter().filter(|found| **found == Nonce::Fresh).count(), 1, "seed {seed}: {found:?}");
            assert!(!found.contains(&Nonce::Full), "seed {seed}");
        }
    }

    proptest! {
        #[test]
        fn as_a_map_would(steps in prop::collection::vec((0u8..40, 0u64..20, 1u64..60), 1..300)) {
            let words = words(256);
            let nonces = Nonces::new(&words, SECRET);
            let mut model: HashMap<u8, u64> = HashMap::new();
            let mut now = 1_800_000_000;
            for (name, pause, life) in steps {
                now += pause;
                let expected = match model.get(&name) {
                    Some(until) if now <= *until => Nonce::Replayed,
                    _ => Nonce::Fresh,
                };
                // Of 40 names at most 32 share a window, and the table has room for all.
                let found = nonces.insert(&[name], now, now + life, 63);
                prop_assert!(found == expected || found == Nonce::Full && expected == Nonce::Fresh);
                if found == Nonce::Fresh {
                    model.insert(name, now + life);
                }
                let live = model.values().filter(|until| now <= **until).count() as u64;
                let half = nonces.capacity() / 2;
                prop_assert_eq!(nonces.sweep(0, half, now) + nonces.sweep(half, half, now), live);
            }
        }
    }
}
