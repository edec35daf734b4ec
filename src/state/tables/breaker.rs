//! Breakers: one slot of the slot protocol each, changed by every process that sends requests to the upstream.
//!
//! Word 1 is the state and decides alone: opening, closing and half-opening are one compare-and-swap of it each, seen
//! by everybody at once. While the breaker is closed, asking is one load of it and a success is reported without any;
//! where the share of failures matters, a success is one addition to the calls of its part of the window, which any
//! number of processes make at the same time without a retry.
//! The other words only help to decide: a failure that was tallied by a process that was killed before it looked at
//! the sum is in the next one's sum; a place that a killed prober took is free again when its time is over, or when
//! the leader finds the worker dead and calls [`forget`].
//!
//! A probe holds one of the first `probes` places while it is in flight, so there are never more of them, whatever the
//! processes do. It gives the place up after its report has changed the state; in the other order one more probe might
//! slip in before its failure reopens the breaker.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, SeqCst};

use super::slot::{Slot, Slots};
use crate::breaker::{Breaker, Forced, PROBES_MAX, Place, State, TALLIES, Tally, Transition, Verdict, Word};
use crate::state::atomic::Atomic;
use crate::state::carry::Carried;
use crate::types::SECOND;

/// Words in a breaker's slot: key and state share a cache line, places take two, tallies of failures four and of calls
/// four.
pub const WIDTH: usize = 88;

const STATE: usize = 1;
const PLACES: usize = 8;
const FAILURES: usize = 24;
const CALLS: usize = FAILURES + TALLIES as usize;

/// A request may be sent. It travels with the request and ends in one [`report`] or [`cancel`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permit {
    /// The word in the probe's place; 0 = the breaker was closed.
    word: u64,
    era: u32,
    place: u8,
    /// Whether its success matters, too.
    weighs: bool,
}

/// A request must not be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// After so many microseconds it is worth asking again.
    pub retry_after: u64,
}

impl Permit {
    /// Whether the request is a probe of a half-open breaker.
    #[must_use]
    pub const fn is_probe(self) -> bool {
        self.word != 0
    }

    /// Whether [`report`] changes nothing for a success.
    #[must_use]
    #[inline]
    pub const fn ignores_success(self) -> bool {
        !self.is_probe() && !self.weighs
    }
}

/// Asks whether one more request may be sent at `now`. `worker` is the number of the caller's worker slot (its last 12
/// bits), by which a dead worker's probes are found.
#[inline]
pub fn allow<W: Atomic>(slot: Slot<'_, W>, settings: &Breaker, worker: u16, now: u64) -> Result<Permit, Refused> {
    let word = Word(slot.word(STATE).load(Acquire));
    match word.verdict(settings, now) {
        Verdict::Pass => Ok(Permit { word: 0, era: word.era(), place: 0, weighs: settings.weighs() }),
        Verdict::Refuse(retry_after) => Err(Refused { retry_after }),
        Verdict::Probe(_) => probe(slot, settings, worker, now),
    }
}

/// Reports how the request with `permit` ended: `ok` is false for connect errors, timeouts, 5xx and slow answers. Says
/// so if the breaker changed by it.
#[inline]
pub fn report<W: Atomic>(
    slot: Slot<'_, W>,
    settings: &Breaker,
    permit: Permit,
    ok: bool,
    now: u64,
) -> Option<Transition> {
    match (permit.is_probe(), ok) {
        (false, true) => {
            if settings.weighs() {
                called(slot, Tally::part(settings, now), permit.era);
            }
            None
        }
        (false, false) => failed(slot, settings, permit, now),
        (true, _) => probed(slot, settings, permit, ok, now),
    }
}

/// Ends `permit` without a result, because the request never got an answer that says anything about the service: the
/// client went away, or the gateway refused after all. A probe's place is free again.
#[inline]
pub fn cancel<W: Atomic>(slot: Slot<'_, W>, permit: Permit) {
    if permit.is_probe() {
        let _ = place(slot, permit.place.into()).compare_exchange(permit.word, 0, SeqCst, Relaxed);
    }
}

/// Where the breaker stands at `now`.
#[must_use]
pub fn state<W: Atomic>(slot: Slot<'_, W>, settings: &Breaker, now: u64) -> State {
    Word(slot.word(STATE).load(Acquire)).state_at(settings, now)
}

/// Takes over the breakers of the words `from` into a table that nobody uses yet. Nobody probes there, and where the clock
/// is another one, tallies begin anew.
pub(in crate::state) fn carry(from: &[AtomicU64], to: &[AtomicU64], how: Carried) {
    let to = Slots::new(to, WIDTH);
    for (_, old) in Slots::new(from, WIDTH).iter() {
        let Some((_, new)) = to.claim(old.key()) else { continue };
        new.word(STATE).store(Word(old.word(STATE).load(Relaxed)).moved(how.by).0, Relaxed);
        if !how.booted {
            for (old, new) in old.words(FAILURES).iter().zip(new.words(FAILURES)) {
                new.store(old.load(Relaxed), Relaxed);
            }
        }
    }
}

/// Has the breaker do what somebody says, until the next such word; `None` = what its settings say, beginning closed.
/// Says where it stood before.
pub fn force<W: Atomic>(slot: Slot<'_, W>, forced: Option<Forced>) -> State {
    let change = |word| Some(Word(word).forced(forced).0);
    let before = slot.word(STATE).fetch_update(SeqCst, SeqCst, change);
    Word(before.unwrap_or_else(|same| same)).state()
}

/// Frees the places of a worker that is dead; says how many they were.
pub fn forget<W: Atomic>(slot: Slot<'_, W>, worker: u16) -> u32 {
    let mut freed = 0;
    for index in 0..PROBES_MAX {
        let word = place(slot, index).load(Acquire);
        if Place(word).is_of(worker) && place(slot, index).compare_exchange(word, 0, SeqCst, Relaxed).is_ok() {
            freed += 1;
        }
    }
    freed
}

#[cold]
fn probe<W: Atomic>(slot: Slot<'_, W>, settings: &Breaker, worker: u16, now: u64) -> Result<Permit, Refused> {
    // Again only when the state changed meanwhile, which another process's report did.
    for _ in 0..16 {
        let word = Word(slot.word(STATE).load(SeqCst));
        let half_open = match word.verdict(settings, now) {
            Verdict::Pass => return Ok(Permit { word: 0, era: word.era(), place: 0, weighs: settings.weighs() }),
            Verdict::Refuse(retry_after) => return Err(Refused { retry_after }),
            Verdict::Probe(half_open) => half_open,
        };
        if half_open != word && slot.word(STATE).compare_exchange(word.0, half_open.0, SeqCst, Relaxed).is_err() {
            continue;
        }
        let permit = take_place(slot, settings, half_open.era(), worker, now)?;
        // A success may have been counted meanwhile; another era may not have begun.
        let word = Word(slot.word(STATE).load(SeqCst));
        if word.era() == half_open.era() {
            return Ok(permit);
        }
        cancel(slot, permit);
    }
    Err(Refused { retry_after: settings.open_for })
}

fn take_place<W: Atomic>(
    slot: Slot<'_, W>,
    settings: &Breaker,
    era: u32,
    worker: u16,
    now: u64,
) -> Result<Permit, Refused> {
    let taken = Place::take(era, worker, settings, now);
    // A probe usually ends long before its time is over.
    let mut retry_after = SECOND;
    for index in 0..settings.probes.min(PROBES_MAX) {
        let mut word = place(slot, index).load(SeqCst);
        loop {
            if let Some(ahead) = Place(word).ahead(settings, now) {
                retry_after = retry_after.min(ahead);
                break;
            }
            match place(slot, index).compare_exchange(word, taken.0, SeqCst, SeqCst) {
                Ok(_) => return Ok(Permit { word: taken.0, era, place: index as u8, weighs: false }),
                Err(other) => word = other,
            }
        }
    }
    Err(Refused { retry_after })
}

#[cold]
fn failed<W: Atomic>(slot: Slot<'_, W>, settings: &Breaker, permit: Permit, now: u64) -> Option<Transition> {
    let word = Word(slot.word(STATE).load(Acquire));
    if word.state() != State::Closed || word.era() != permit.era {
        return None;
    }
    let part = Tally::part(settings, now);
    let add = |tally| Some(Tally(tally).plus_one(part, permit.era).0);
    if settings.weighs() {
        called(slot, part, permit.era);
    }
    let _ = slot.word(FAILURES + (part % TALLIES) as usize).fetch_update(SeqCst, SeqCst, add);
    let sum = |first: usize| -> u64 {
        let tallies = (0..TALLIES as usize).map(|index| Tally(slot.word(first + index).load(SeqCst)));
        tallies.map(|tally| tally.within(part, permit.era)).sum()
    };
    let calls = if settings.weighs() { sum(CALLS) } else { 0 };
    if !settings.opens(sum(FAILURES), calls) {
        return None;
    }
    let opened = word.opened(settings, now, chance(slot, word, now));
    slot.word(STATE).compare_exchange(word.0, opened.0, SeqCst, Relaxed).ok().map(|_| Transition::Opened)
}

/// Counts a call. Who adds to a tally that has meanwhile become that of another part or era counts it there: one call
/// among many, by a process that was held up for a window.
#[inline]
fn called<W: Atomic>(slot: Slot<'_, W>, part: u64, era: u32) {
    let word = slot.word(CALLS + (part % TALLIES) as usize);
    if Tally(word.load(Relaxed)).takes(part, era) {
        word.fetch_add(1, Relaxed);
        return;
    }
    let _ = word.fetch_update(Relaxed, Relaxed, |tally| Some(Tally(tally).plus_one(part, era).0));
}

/// A number that differs from breaker to breaker and from time to time (splitmix64).
fn chance<W: Atomic>(slot: Slot<'_, W>, word: Word, now: u64) -> u64 {
    let mut mixed = slot.key() ^ u64::from(word.era()).rotate_left(32) ^ now.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ mixed >> 31
}

#[cold]
fn probed<W: Atomic>(slot: Slot<'_, W>, settings: &Breaker, permit: Permit, ok: bool, now: u64) -> Option<Transition> {
    let in_place = place(slot, permit.place.into()).load(SeqCst) == permit.word;
    let mut change = None;
    if in_place && Place(permit.word).ahead(settings, now).is_some() {
        let mut word = Word(slot.word(STATE).load(SeqCst));
        while word.state() == State::HalfOpen && word.era() == permit.era {
            let (next, transition) = match ok {
                true => word.succeeded(settings, now),
                false => (word.opened(settings, now, chance(slot, word, now)), Some(Transition::Opened)),
            };
            match slot.word(STATE).compare_exchange(word.0, next.0, SeqCst, SeqCst) {
                Ok(_) => {
                    change = transition;
                    break;
                }
                Err(other) => word = Word(other),
            }
        }
    }
    cancel(slot, permit);
    change
}

fn place<W: Atomic>(slot: Slot<'_, W>, index: u32) -> &W {
    slot.word(PLACES + index as usize)
}
