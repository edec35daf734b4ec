//! Breakers: one slot of the slot protocol each, changed by every process that sends requests to the upstream.
//!
//! Word 1 is the state and decides alone: opening, closing and half-opening are one compare-and-swap of it each, seen
//! by everybody at once. While the breaker is closed, asking is one load of it and a success is reported without any.
//! The other words only help to decide: a failure that was tallied by a process that was killed before it looked at
//! the sum is in the next one's sum; a place that a killed prober took is free again when its time is over, or when
//! the leader finds the worker dead and calls [`forget`].
//!
//! A probe holds one of the first `probes` places while it is in flight, so there are never more of them, whatever the
//! processes do. It gives the place up after its report has changed the state; in the other order one more probe might
//! slip in before its failure reopens the breaker.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, SeqCst};

use super::slot::Slot;
use crate::breaker::{Breaker, PROBES_MAX, Place, State, TALLIES, Tally, Transition, Verdict, Word};
use crate::types::SECOND;

/// Words in a breaker's slot: key and state share a cache line, places take two, tallies four.
pub const WIDTH: usize = 64;

const STATE: usize = 1;
const PLACES: usize = 8;
const TALLY: usize = 24;

/// A request may be sent. It travels with the request and ends in one [`report`] or [`cancel`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permit {
    /// The word in the probe's place; 0 = the breaker was closed.
    word: u64,
    era: u32,
    place: u8,
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
}

/// Asks whether one more request may be sent at `now`. `worker` is the number of the caller's worker slot (its last 12
/// bits), by which a dead worker's probes are found.
#[inline]
pub fn allow(slot: Slot<'_>, settings: &Breaker, worker: u16, now: u64) -> Result<Permit, Refused> {
    let word = Word(slot.word(STATE).load(Acquire));
    match word.verdict(settings, now) {
        Verdict::Pass => Ok(Permit { word: 0, era: word.era(), place: 0 }),
        Verdict::Refuse(retry_after) => Err(Refused { retry_after }),
        Verdict::Probe(_) => probe(slot, settings, worker, now),
    }
}

/// Reports how the request with `permit` ended: `ok` is false for connect errors, timeouts and 5xx. Says so if the
/// breaker changed by it.
#[inline]
pub fn report(slot: Slot<'_>, settings: &Breaker, permit: Permit, ok: bool, now: u64) -> Option<Transition> {
    match (permit.is_probe(), ok) {
        (false, true) => None,
        (false, false) => failed(slot, settings, permit, now),
        (true, _) => probed(slot, settings, permit, ok, now),
    }
}

/// Ends `permit` without a result, because the request never got an answer that says anything about the service: the
/// client went away, or the gateway refused after all. A probe's place is free again.
#[inline]
pub fn cancel(slot: Slot<'_>, permit: Permit) {
    if permit.is_probe() {
        let _ = place(slot, permit.place.into()).compare_exchange(permit.word, 0, SeqCst, Relaxed);
    }
}

/// Where the breaker stands at `now`.
#[must_use]
pub fn state(slot: Slot<'_>, settings: &Breaker, now: u64) -> State {
    Word(slot.word(STATE).load(Acquire)).state_at(settings, now)
}

/// Frees the places of a worker that is dead; says how many they were.
pub fn forget(slot: Slot<'_>, worker: u16) -> u32 {
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
fn probe(slot: Slot<'_>, settings: &Breaker, worker: u16, now: u64) -> Result<Permit, Refused> {
    // Again only when the state changed meanwhile, which another process's report did.
    for _ in 0..16 {
        let word = Word(slot.word(STATE).load(SeqCst));
        let half_open = match word.verdict(settings, now) {
            Verdict::Pass => return Ok(Permit { word: 0, era: word.era(), place: 0 }),
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

fn take_place(slot: Slot<'_>, settings: &Breaker, era: u32, worker: u16, now: u64) -> Result<Permit, Refused> {
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
                Ok(_) => return Ok(Permit { word: taken.0, era, place: index as u8 }),
                Err(other) => word = other,
            }
        }
    }
    Err(Refused { retry_after })
}

#[cold]
fn failed(slot: Slot<'_>, settings: &Breaker, permit: Permit, now: u64) -> Option<Transition> {
    let word = Word(slot.word(STATE).load(Acquire));
    if word.state() != State::Closed || word.era() != permit.era {
        return None;
    }
    let part = Tally::part(settings, now);
    let add = |tally| Some(Tally(tally).plus_one(part, permit.era).0);
    let _ = tally(slot, part % TALLIES).fetch_update(SeqCst, SeqCst, add);
    let failures: u64 = (0..TALLIES).map(|index| Tally(tally(slot, index).load(SeqCst)).within(part, permit.era)).sum();
    if failures < settings.failures.into() {
        return None;
    }
    let opened = word.opened(settings, now);
    slot.word(STATE).compare_exchange(word.0, opened.0, SeqCst, Relaxed).ok().map(|_| Transition::Opened)
}

#[cold]
fn probed(slot: Slot<'_>, settings: &Breaker, permit: Permit, ok: bool, now: u64) -> Option<Transition> {
    let in_place = place(slot, permit.place.into()).load(SeqCst) == permit.word;
    let mut change = None;
    if in_place && Place(permit.word).ahead(settings, now).is_some() {
        let mut word = Word(slot.word(STATE).load(SeqCst));
        while word.state() == State::HalfOpen && word.era() == permit.era {
            let (next, transition) = match ok {
                true => word.succeeded(settings),
                false => (word.opened(settings, now), Some(Transition::Opened)),
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

fn place(slot: Slot<'_>, index: u32) -> &AtomicU64 {
    slot.word(PLACES + index as usize)
}

fn tally(slot: Slot<'_>, index: u64) -> &AtomicU64 {
    slot.word(TALLY + index as usize)
}
