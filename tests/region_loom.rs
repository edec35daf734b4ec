//! The epoch protocol under loom: every order of its steps, with the weak memory that x86 does not show.
//!
//! A block is a cell that loom watches: a read beside a write is found, whatever the values.
#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "tests may")]

#[path = "support/atom.rs"]
mod atom;

use atom::Atom;
use gateway::state::atomic::Atomic;
use gateway::state::epoch;
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::{Ordering, fence};
use loom::thread;

/// Nearly all that goes wrong does so with two preemptions, and with three the same takes minutes.
fn model(body: impl Fn() + Sync + Send + 'static) {
    atom::model(2, body);
}

fn atom(value: u64) -> Atom {
    Atom::new(value)
}

const DEAD: u64 = 9;

fn is_alive(identity: u64) -> bool {
    identity != DEAD
}

struct Shared {
    current: Atom,
    lease: Atom,
    slots: [(Atom, Atom); 2],
    blocks: [UnsafeCell<u64>; 2],
}

// SAFETY: loom reports every access that the protocol does not order.
unsafe impl Sync for Shared {}
// SAFETY: as above.
unsafe impl Send for Shared {}

/// A `current` word; the root of a generation is a block.
const fn word(generation: u64, block: u64) -> u64 {
    generation << 32 | block
}

impl Shared {
    /// Generation 1 is published in block 0; the slots belong to processes 1 and 2 if nobody else.
    fn new(owners: [u64; 2], announced: [u64; 2]) -> Arc<Self> {
        let slot = |index: usize| (atom(owners[index]), atom(announced[index]));
        Arc::new(Self {
            current: atom(word(1, 0)),
            lease: atom(0),
            slots: [slot(0), slot(1)],
            blocks: [UnsafeCell::new(1), UnsafeCell::new(0)],
        })
    }

    fn read(&self, slot: usize) {
        let announce = &self.slots[slot].1;
        let seen = epoch::enter(&self.current, announce);
        self.look(seen);
        epoch::leave(announce);
    }

    fn look(&self, seen: u64) {
        // SAFETY: loom reports a write at the same time.
        let content = self.blocks[(seen & 1) as usize].with(|block| unsafe { *block });
        assert_eq!(content, seen >> 32, "the block of another generation");
    }

    fn write(&self, block: u64, generation: u64) {
        // SAFETY: loom reports any other access at the same time.
        self.blocks[block as usize].with_mut(|block| unsafe { *block = generation });
    }

    fn oldest(&self, now: u32) -> Option<u32> {
        let held = self.slots.iter().filter_map(|(owner, announce)| epoch::held(owner, announce, now, is_alive));
        held.reduce(|one, two| if epoch::is_older(two, one) { two } else { one })
    }

    /// Publishes generation 2 in block 1, and generation 3 in the block of generation 1 if that is free by then.
    fn change_twice(&self) {
        self.write(1, 2);
        epoch::publish(&self.current, word(2, 1));
        if epoch::is_free(2, self.oldest(2)) {
            self.write(0, 3);
            epoch::publish(&self.current, word(3, 0));
        }
    }
}

#[test]
fn readers_never_see_a_block_that_is_used_again() {
    model(|| {
        let shared = Shared::new([1, 2], [0, 0]);
        let readers = [0, 1].map(|slot| {
            let shared = shared.clone();
            thread::spawn(move || shared.read(slot))
        });
        shared.change_twice();
        for reader in readers {
            reader.join().unwrap();
        }
    });
}

#[test]
fn a_reader_moves_on_from_one_generation_to_the_next() {
    model(|| {
        let shared = Shared::new([1, 2], [0, 0]);
        let reader = {
            let shared = shared.clone();
            thread::spawn(move || {
                shared.read(0);
                shared.read(0);
            })
        };
        shared.change_twice();
        if epoch::is_free(3, shared.oldest(3)) && shared.current.load(Ordering::Relaxed) == word(3, 0) {
            shared.write(1, 4);
            epoch::publish(&shared.current, word(4, 1));
        }
        reader.join().unwrap();
    });
}

/// What the model is worth: without its second look a reader is caught.
#[test]
#[should_panic]
fn a_reader_that_does_not_look_again_is_found_out() {
    model(|| {
        let shared = Shared::new([1, 2], [0, 0]);
        let reader = {
            let shared = shared.clone();
            thread::spawn(move || {
                let announce = &shared.slots[0].1;
                let seen = shared.current.load(Ordering::Acquire);
                announce.store(seen, Ordering::Release);
                fence(Ordering::SeqCst);
                shared.look(seen);
                epoch::leave(announce);
            })
        };
        shared.change_twice();
        reader.join().unwrap();
    });
}

/// As above, for the fence between the announcement and the second look.
#[test]
#[should_panic]
fn a_reader_without_a_fence_is_found_out() {
    model(|| {
        let shared = Shared::new([1, 2], [0, 0]);
        let reader = {
            let shared = shared.clone();
            thread::spawn(move || {
                let announce = &shared.slots[0].1;
                let seen = shared.current.load(Ordering::Acquire);
                announce.store(seen, Ordering::Release);
                if shared.current.load(Ordering::Acquire) == seen {
                    shared.look(seen);
                }
                epoch::leave(announce);
            })
        };
        shared.change_twice();
        reader.join().unwrap();
    });
}

#[test]
fn a_dead_readers_slot_is_cleared_and_claimed_at_once() {
    model(|| {
        // The dead reader was in generation 1, and so is the live one maybe.
        let shared = Shared::new([DEAD, 2], [word(1, 0), 0]);
        let claimer = {
            let shared = shared.clone();
            thread::spawn(move || {
                let (owner, announce) = &shared.slots[0];
                if epoch::claim(owner, announce, 1, is_alive) {
                    shared.read(0);
                    epoch::release(owner, announce, 1);
                }
            })
        };
        let reader = {
            let shared = shared.clone();
            thread::spawn(move || shared.read(1))
        };
        shared.change_twice();
        claimer.join().unwrap();
        reader.join().unwrap();
    });
}

#[test]
fn two_claim_the_slot_of_a_dead_reader() {
    model(|| {
        let shared = Shared::new([DEAD, 2], [word(1, 0), 0]);
        let claim = |me: u64| {
            let shared = shared.clone();
            move || {
                let (owner, announce) = &shared.slots[0];
                let won = epoch::claim(owner, announce, me, is_alive);
                if won {
                    shared.read(0);
                }
                won
            }
        };
        let one = thread::spawn(claim(3));
        let other = thread::spawn(claim(4));
        shared.write(1, 2);
        epoch::publish(&shared.current, word(2, 1));
        let _ = shared.oldest(2);
        let (one, other) = (one.join().unwrap(), other.join().unwrap());
        assert!(!(one && other), "one slot, one owner");
    });
}

/// The writer died after it published and its list of what it replaced died with it. Two take over at once; the one
/// that gets the lease sweeps, and waits for readers of the former generation.
#[test]
fn a_new_writer_waits_for_the_readers_of_the_dead_one() {
    model(|| {
        let shared = Shared::new([1, 2], [0, 0]);
        shared.lease.store(DEAD, Ordering::Relaxed);
        let reader = {
            let shared = shared.clone();
            thread::spawn(move || shared.read(0))
        };
        let take_over = |me: u64| {
            let shared = shared.clone();
            move || {
                if !epoch::take_lease(&shared.lease, me, is_alive) {
                    return false;
                }
                let now = epoch::generation(shared.current.load(Ordering::Acquire));
                // All that the root does not reach is one batch with the current generation as its tag.
                if epoch::is_free(now, shared.oldest(now)) {
                    shared.write(0, 3);
                    epoch::publish(&shared.current, word(3, 0));
                }
                true
            }
        };
        // What the dead writer had done.
        shared.write(1, 2);
        epoch::publish(&shared.current, word(2, 1));
        let other = thread::spawn(take_over(7));
        let mine = take_over(8)();
        let theirs = other.join().unwrap();
        assert!(mine != theirs, "one lease, one holder");
        reader.join().unwrap();
    });
}
