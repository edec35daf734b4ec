//! How many requests are under way somewhere (at a peer, on a route): a counter for each worker, and their sum.
//!
//! One counter that all workers share cannot be put right when a worker is killed, for nobody knows how much of it was
//! the dead one's. Here each worker slot has a cell of 16 bits, four to a word, that its owner alone counts in, and what
//! is under way is their sum. Whoever takes over a slot empties its cell ([`Gauge::forget`]), and that is the whole
//! repair: a kill between any two instructions leaves a cell that is right, or one that is one request too high until
//! then, never a sum that is off for good.
//!
//! # Never above the limit
//! Who wants in ([`Gauge::enter_below`]) first counts itself and then looks at the sum, and steps back out when that is
//! above the limit. All of this is sequentially consistent, so of several that come at the same moment the last to be
//! counted sees all others; the sum of those that stay is never above the limit. The price: two workers that meet at the
//! last place may both step back, so a limit may refuse one request too many for each other worker, at that instant.
//!
//! # Reading
//! A word of bits says which of the 16 words were ever used, so that with four workers the sum is one word and not
//! sixteen. It is set before the first count in that word and stays.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;

use crate::state::atomic::Atomic;

/// Worker slots that there is a cell for.
pub const WORKERS: u32 = 64;

/// Words of cells.
pub const WORDS: usize = WORKERS as usize / IN_WORD as usize;

/// The most that one worker may have under way.
pub const MOST: u32 = CELL as u32;

/// Cells in a word.
const IN_WORD: u32 = 4;
const CELL_BITS: u32 = 16;
const CELL: u64 = (1 << CELL_BITS) - 1;
/// Every other cell of a word.
const EVEN: u64 = CELL | CELL << 32;

/// The gauge over a word of bits, of which it uses the lower 16, and up to [`WORDS`] words of cells; all zero at first.
#[derive(Debug)]
pub struct Gauge<'a, W = AtomicU64> {
    used: &'a W,
    cells: &'a [W],
}

super::copies!(Gauge);

impl<'a, W: Atomic> Gauge<'a, W> {
    /// The gauge over these words.
    #[must_use]
    #[inline]
    pub fn new(used: &'a W, cells: &'a [W]) -> Self {
        Self { used, cells }
    }

    /// How many are under way.
    #[must_use]
    #[inline]
    pub fn count(self) -> u32 {
        self.count_beside(u32::MAX, 0)
    }

    /// Counts one more of `worker`. Says whether it did: what is above [`MOST`] of one worker is not counted.
    #[inline]
    pub fn enter(self, worker: u32) -> bool {
        self.add(worker).is_some()
    }

    /// Counts one more of `worker` unless that makes more than `most`; says whether it did.
    #[must_use]
    #[inline]
    pub fn enter_below(self, worker: u32, most: u32) -> bool {
        let Some(before) = self.add(worker) else { return false };
        let (index, one) = place(worker);
        // Its own word as the count found it, with itself; the others as they are now.
        if self.count_beside(index, before.wrapping_add(one)) <= most {
            return true;
        }
        self.leave(worker);
        false
    }

    /// One of `worker` is over. Nothing happens where none is counted.
    #[inline]
    pub fn leave(self, worker: u32) {
        let (index, one) = place(worker);
        let Some(word) = self.cells.get(index as usize) else { return };
        let mut old = word.load(SeqCst);
        // Never by subtraction alone: where the cell was emptied meanwhile, it would borrow from the neighbour's.
        while old & (one * CELL) != 0 {
            match word.compare_exchange(old, old.wrapping_sub(one), SeqCst, SeqCst) {
                Ok(_) => return,
                Err(other) => old = other,
            }
        }
    }

    /// Empties the cell of `worker`, whose process is dead, for whoever has just taken its slot.
    pub fn forget(self, worker: u32) {
        let (index, one) = place(worker);
        let Some(word) = self.cells.get(index as usize) else { return };
        let mut old = word.load(SeqCst);
        while old & (one * CELL) != 0 {
            match word.compare_exchange(old, old & !(one * CELL), SeqCst, SeqCst) {
                Ok(_) => return,
                Err(other) => old = other,
            }
        }
    }

    /// Counts one more of `worker`, and says what its word was before.
    #[inline]
    fn add(self, worker: u32) -> Option<u64> {
        let (index, one) = place(worker);
        let word = self.cells.get(index as usize)?;
        // Nobody else counts in this cell, so it is not full later either.
        if word.load(SeqCst) & (one * CELL) == one * CELL {
            return None;
        }
        if self.used.load(SeqCst) & 1 << index == 0 {
            self.used.fetch_or(1 << index, SeqCst);
        }
        Some(word.fetch_add(one, SeqCst))
    }

    /// The sum, with `known` for the word at `index`.
    #[inline]
    fn count_beside(self, index: u32, known: u64) -> u32 {
        let mut sum = halves(known);
        let mut used = self.used.load(SeqCst) & ((1 << WORDS) - 1);
        if index < WORDS as u32 {
            used &= !(1 << index);
        }
        while used != 0 {
            sum += self.cells.get(used.trailing_zeros() as usize).map_or(0, |word| halves(word.load(SeqCst)));
            used &= used - 1;
        }
        (sum as u32).wrapping_add((sum >> 32) as u32)
    }
}

/// The index of a worker's word, and one in its cell.
#[inline]
const fn place(worker: u32) -> (u32, u64) {
    (worker / IN_WORD, 1 << (worker % IN_WORD * CELL_BITS))
}

/// Four cells as two sums of 32 bits, which sixteen words cannot overflow.
#[inline]
const fn halves(word: u64) -> u64 {
    (word & EVEN) + (word >> CELL_BITS & EVEN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::array;
    use std::sync::atomic::Ordering::Relaxed;

    struct Words(AtomicU64, [AtomicU64; WORDS]);

    impl Words {
        fn new() -> Self {
            Self(AtomicU64::new(0), array::from_fn(|_| AtomicU64::new(0)))
        }

        fn gauge(&self) -> Gauge<'_> {
            Gauge::new(&self.0, &self.1)
        }
    }

    #[test]
    fn cells_do_not_run_into_one_another() {
        let words = Words::new();
        let gauge = words.gauge();
        for worker in 0..WORKERS {
            for _ in 0..=worker {
                assert!(gauge.enter(worker));
            }
        }
        assert_eq!(gauge.count(), WORKERS * (WORKERS + 1) / 2);
        gauge.forget(63);
        gauge.forget(2);
        assert_eq!(gauge.count(), WORKERS * (WORKERS + 1) / 2 - 64 - 3);
        gauge.leave(2);
        gauge.leave(63);
        gauge.leave(0);
        gauge.leave(0);
        assert_eq!(gauge.count(), WORKERS * (WORKERS + 1) / 2 - 64 - 3 - 1, "an empty cell borrows from nobody");
        assert!(!gauge.enter(WORKERS) && !gauge.enter_below(WORKERS, 10_000), "no such worker");
        gauge.leave(WORKERS);
        gauge.forget(WORKERS);
    }

    #[test]
    fn a_full_cell_stays_full() {
        let words = Words::new();
        let gauge = words.gauge();
        gauge.enter(4);
        gauge.enter(5);
        gauge.enter(6);
        words.1[1].store(1 | CELL << 16 | 1 << 32, Relaxed);
        assert_eq!(gauge.count(), 2 + MOST);
        assert!(!gauge.enter(5) && !gauge.enter_below(5, u32::MAX));
        assert_eq!(gauge.count(), 2 + MOST);
        gauge.leave(5);
        assert!(gauge.enter_below(5, 2 + MOST));
        assert_eq!(gauge.count(), 2 + MOST);
        words.1.iter().for_each(|word| word.store(u64::MAX, Relaxed));
        words.0.store(u64::MAX, Relaxed);
        assert_eq!(gauge.count(), WORKERS * MOST, "other bits of the first word mean nothing here");
    }

    #[test]
    fn the_last_place_is_taken_once() {
        let words = Words::new();
        let gauge = words.gauge();
        assert!(gauge.enter_below(0, 2) && gauge.enter_below(9, 2));
        assert!(!gauge.enter_below(0, 2) && !gauge.enter_below(33, 2) && !gauge.enter_below(1, 0));
        assert_eq!(gauge.count(), 2);
        gauge.leave(9);
        assert!(gauge.enter_below(33, 2) && !gauge.enter_below(9, 2));
    }

    #[test]
    fn threads_are_never_above_the_limit() {
        const MOST: u32 = 3;
        let words = Words::new();
        let (inside, total) = (AtomicU64::new(0), AtomicU64::new(0));
        std::thread::scope(|scope| {
            // Two in one word, two in others.
            for worker in [0, 1, 17, 60] {
                let (gauge, inside, total) = (words.gauge(), &inside, &total);
                scope.spawn(move || {
                    let mut entered = 0;
                    for _ in 0..200_000 {
                        if gauge.enter_below(worker, MOST) {
                            entered += 1;
                            assert!(inside.fetch_add(1, SeqCst) < u64::from(MOST));
                            if entered % 64 == 0 {
                                std::thread::yield_now();
                            }
                            inside.fetch_sub(1, SeqCst);
                            gauge.leave(worker);
                        }
                    }
                    total.fetch_add(entered, SeqCst);
                });
            }
        });
        // Which of them got in how often is the scheduler's choice.
        assert!(total.into_inner() > 0);
        assert_eq!(words.gauge().count(), 0);
    }
}
