//! The protocol between readers and the writer: who may still look at what.
//!
//! One word, `current`, names the published generation and its root (`generation << 32 | root`, 0 = nothing yet).
//! Each reader has a slot with two words: `owner`, the identity of its process, and `announce`, the `current` word
//! that it works on (0 = none).
//!
//! A reader stores what it read from `current` into `announce` and looks at `current` again; the writer stores into
//! `current` and then looks at every `announce`. Store, fence, load on both sides: either the reader sees the new
//! word and starts over, or the writer sees the announcement and keeps the memory. What a transaction replaced
//! becomes a batch with the new generation as its tag and is freed when every announced generation has reached the
//! tag. A reader that is stopped keeps memory, however long; nothing is ever freed by time.
//!
//! A writer that takes over after a death knows no batches: all that the tree does not reach is one batch with the
//! current generation as its tag, because a reader may still be inside an older one.
//!
//! The functions work on any kind of atomic word, so that loom can run the very same code (`tests/region_loom.rs`).

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};

use super::atomic::Atomic;

/// The generation in a word of `current` or `announce`.
#[must_use]
pub const fn generation(word: u64) -> u32 {
    (word >> 32) as u32
}

/// Whether generation `one` came before `other`; generations wrap around.
#[must_use]
pub const fn is_older(one: u32, other: u32) -> bool {
    (one.wrapping_sub(other) as i32) < 0
}

/// Reader: announces the published word and returns it; 0 = nothing is published, and nothing announced.
#[inline]
pub fn enter<W: Atomic>(current: &W, announce: &W) -> u64 {
    let mut word = current.load(Acquire);
    loop {
        // Release: who moves from one generation to the next without leaving has finished reading the former.
        announce.store(word, Release);
        W::fence(SeqCst);
        let again = current.load(Acquire);
        if again == word {
            return word;
        }
        word = again;
    }
}

/// Reader: what was announced is not looked at any more.
#[inline]
pub fn leave<W: Atomic>(announce: &W) {
    announce.store(0, Release);
}

/// Reader: makes a slot its own that is free or whose owner is dead.
pub fn claim<W: Atomic>(owner: &W, announce: &W, me: u64, is_alive: impl Fn(u64) -> bool) -> bool {
    let found = owner.load(Acquire);
    let free = found == 0 || (found != me && !is_alive(found));
    if !free || owner.compare_exchange(found, me, AcqRel, Relaxed).is_err() {
        return false;
    }
    announce.store(0, Release);
    true
}

/// Reader: gives its slot back.
pub fn release<W: Atomic>(owner: &W, announce: &W, me: u64) {
    announce.store(0, Release);
    // Somebody who took us for dead owns it otherwise, and that cannot happen to the living.
    let _ = owner.compare_exchange(me, 0, Release, Relaxed);
}

/// Writer: publishes `word`. What it replaces is a batch with `generation(word)` as its tag.
pub fn publish<W: Atomic>(current: &W, word: u64) {
    current.store(word, SeqCst);
    W::fence(SeqCst);
}

/// Writer: the oldest generation that a slot holds, if it holds one; a dead owner's announcement is cleared.
///
/// Only slots that hold an older generation than `now` are asked for life: that costs a system call. An announcement is
/// cleared only if its word is still the one that was seen, which no new owner can write: words of `current` never
/// repeat, and this one is already history. The slot stays the dead one's, so that whoever puts in order what it left
/// finds it.
pub fn held<W: Atomic>(owner: &W, announce: &W, now: u32, is_alive: impl Fn(u64) -> bool) -> Option<u32> {
    let word = announce.load(Acquire);
    if word == 0 {
        return None;
    }
    let held = generation(word);
    if is_older(held, now) {
        let found = owner.load(Acquire);
        if (found == 0 || !is_alive(found)) && announce.compare_exchange(word, 0, AcqRel, Relaxed).is_ok() {
            return None;
        }
    }
    Some(held)
}

/// Writer: whether a batch with this tag can be freed when `oldest` is the oldest generation held.
#[must_use]
pub fn is_free(tag: u32, oldest: Option<u32>) -> bool {
    oldest.is_none_or(|oldest| !is_older(oldest, tag))
}

/// Takes the lease if nobody has it or its holder is dead; never by time, because shared memory has no fencing
/// against a holder that was paused and goes on.
pub fn take_lease<W: Atomic>(lease: &W, me: u64, is_alive: impl Fn(u64) -> bool) -> bool {
    let found = lease.load(Acquire);
    let free = found == 0 || (found != me && !is_alive(found));
    free && lease.compare_exchange(found, me, AcqRel, Relaxed).is_ok()
}

/// Gives the lease back.
pub fn release_lease<W: Atomic>(lease: &W, me: u64) {
    let _ = lease.compare_exchange(me, 0, Release, Relaxed);
}
