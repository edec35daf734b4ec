//! The region's words under loom: every order of a protocol's steps, with the weak memory that x86 does not show.
#![allow(dead_code, clippy::unwrap_used, reason = "tests may, and do not use all of it")]

use gateway::state::atomic::Atomic;
use loom::sync::Arc;
use loom::sync::atomic::Ordering::{self, AcqRel, Acquire, Relaxed, Release, SeqCst};
use loom::sync::atomic::{AtomicU64, fence};
use loom::thread;

/// Explores every order with at most so many preemptions, or as many as `LOOM_MAX_PREEMPTIONS` says.
pub fn model(preemptions: usize, body: impl Fn() + Sync + Send + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound.get_or_insert(preemptions);
    model.max_branches = 10_000;
    model.check(body);
}

/// With the orders that the protocol asks for, so that loads may find old values. Loom takes sequentially consistent
/// accesses for acquire and release; fences around them stand for what is missing.
pub const WEAK: u8 = 0;
/// Loom forgets that another thread has loaded a word once its own has, so before a load followed by an exchange it
/// leaves orders out. Here each access is one that writes: every order is tried, with the newest values.
pub const STRICT: u8 = 1;
/// The same, but to exchange, and to add, takes two steps: what a protocol must not survive.
pub const TORN: u8 = 2;

/// A word of one of these kinds.
pub struct Atom<const KIND: u8 = WEAK>(AtomicU64);

impl<const KIND: u8> Atom<KIND> {
    pub fn new(value: u64) -> Self {
        Self(AtomicU64::new(value))
    }

    /// So many, zero at first, for threads to share.
    pub fn words(count: usize) -> Arc<Vec<Self>> {
        Arc::new((0..count).map(|_| Self::new(0)).collect())
    }
}

const fn weaker(order: Ordering) -> Ordering {
    match order {
        SeqCst => AcqRel,
        other => other,
    }
}

fn fence_if(order: Ordering) {
    if order == SeqCst {
        fence(SeqCst);
    }
}

impl<const KIND: u8> Atomic for Atom<KIND> {
    fn load(&self, order: Ordering) -> u64 {
        if KIND != WEAK {
            return self.0.fetch_or(0, AcqRel);
        }
        fence_if(order);
        self.0.load(if order == SeqCst { Acquire } else { order })
    }

    fn store(&self, value: u64, order: Ordering) {
        if KIND != WEAK {
            self.0.swap(value, AcqRel);
            return;
        }
        // No fence: who needs one behind a store has its own.
        self.0.store(value, if order == SeqCst { Release } else { order });
    }

    fn swap(&self, value: u64, order: Ordering) -> u64 {
        let before = self.0.swap(value, weaker(order));
        fence_if(order);
        before
    }

    fn compare_exchange(&self, old: u64, new: u64, done: Ordering, failed: Ordering) -> Result<u64, u64> {
        if KIND == TORN {
            let found = self.load(done);
            if found != old {
                return Err(found);
            }
            self.store(new, done);
            return Ok(found);
        }
        let failed = if failed == SeqCst { Acquire } else { failed };
        let result = self.0.compare_exchange(old, new, weaker(done), failed);
        fence_if(done);
        result
    }

    fn fetch_add(&self, more: u64, order: Ordering) -> u64 {
        if KIND == TORN {
            let found = self.load(order);
            self.store(found.wrapping_add(more), order);
            return found;
        }
        let before = self.0.fetch_add(more, weaker(order));
        fence_if(order);
        before
    }

    fn fetch_sub(&self, less: u64, order: Ordering) -> u64 {
        self.fetch_add(less.wrapping_neg(), order)
    }

    fn fetch_or(&self, bits: u64, order: Ordering) -> u64 {
        let before = self.0.fetch_or(bits, weaker(order));
        fence_if(order);
        before
    }

    fn fence(order: Ordering) {
        fence(order);
    }

    fn nowhere() -> &'static Self {
        unreachable!("a word beyond a slot")
    }
}

/// Runs both at the same time.
pub fn both<A: 'static, B>(one: impl FnOnce() -> A + 'static, other: impl FnOnce() -> B) -> (A, B) {
    let one = thread::spawn(one);
    let other = other();
    (one.join().unwrap(), other)
}

/// How many are somewhere where there is room for so many: what a protocol is to guarantee.
pub struct Room(AtomicU64, u64);

impl Room {
    pub fn new(most: u64) -> Arc<Self> {
        Arc::new(Self(AtomicU64::new(0), most))
    }

    pub fn visit(&self) {
        assert!(self.0.fetch_add(1, Relaxed) < self.1, "above the limit");
        self.0.fetch_sub(1, Relaxed);
    }
}
