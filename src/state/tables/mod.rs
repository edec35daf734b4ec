//! The fixed tables of the region: slots of atomic words, claimed and changed by compare-and-swap by any process.
//!
//! They refer to policy by id, never by place, and nothing in them is a lock: whatever instruction a process is
//! killed at, the others go on, and the documents of each table say what the dead one may have left behind.

pub mod breaker;
pub mod gauge;
pub mod lines;
pub mod nonce;
pub mod overload;
pub mod peers;
pub mod places;
pub mod rate;
pub mod revocations;
pub mod shards;
pub mod slot;
pub mod upstreams;

/// A handle on words of kind `W` is copied whatever they are.
macro_rules! copies {
    ($($handle:ident),+) => {$(
        impl<W> Clone for $handle<'_, W> {
            #[inline]
            fn clone(&self) -> Self {
                *self
            }
        }

        impl<W> Copy for $handle<'_, W> {}
    )+};
}
use copies;

/// A place where another process may come in between. Elsewhere this is nothing; in a test, threads that called
/// `tests::meet_others` wait here now and then until others have come by a few times, so that races which a small
/// machine hardly ever runs happen all the time.
#[inline(always)]
fn interleave() {
    #[cfg(test)]
    tests::interleave();
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::hash::{BuildHasher, RandomState};
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    static PASSED: AtomicU64 = AtomicU64::new(0);
    // 0 = this thread does not wait.
    thread_local!(static RANDOM: Cell<u64> = const { Cell::new(0) });
    thread_local!(static TURN: RefCell<Option<Box<dyn Fn()>>> = const { RefCell::new(None) });

    /// Has this thread call `turn` wherever another process may come in between.
    pub(super) fn take_turns(turn: impl Fn() + 'static) {
        TURN.set(Some(Box::new(turn)));
    }

    pub(super) fn meet_others() {
        RANDOM.set(RandomState::new().hash_one(0) | 1);
    }

    pub(super) fn interleave() {
        TURN.with_borrow(|turn| turn.iter().for_each(|turn| turn()));
        let mut random = RANDOM.get();
        if random == 0 {
            return;
        }
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        RANDOM.set(random);
        let passed = PASSED.fetch_add(1, Relaxed);
        if random.is_multiple_of(8) {
            // The others may have ended: not for ever.
            let enough = passed + (random >> 8) % 48;
            (0..50).take_while(|_| PASSED.load(Relaxed) < enough).for_each(|_| std::thread::yield_now());
        }
    }
}
