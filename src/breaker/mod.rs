//! Circuit breakers: closed, open, half-open.
//!
//! A closed breaker counts failures and opens at `failures` of them within `window`, or when they are such a share of
//! the calls there, whichever comes first; a call that took too long is a failure. An open one refuses for `open_for`,
//! and longer each time that it opens again. After that it is half-open: at most `probes` requests at a time are let
//! through; `closes_after` successes among them close it, one failure opens it again. Every change begins a new *era*,
//! and what a request reports counts only in the era that let it through: the success of a request that was sent before
//! the breaker opened says nothing about the service now. Somebody who knows better may force it open or closed; then
//! nothing counts until that is taken back.
//!
//! The share is looked at when a call fails, as only that raises it; so while a breaker is closed a success costs
//! nothing, or where shares matter one addition that needs no order.
//!
//! All of that is three kinds of words, [`Word`] (the state), [`Place`] (a probe in flight) and [`Tally`] (failures or
//! calls of a part of the window), each a value that a function turns into the next; `state::tables::breaker` keeps
//! them and swaps them. Chance is an argument. Times are microseconds of the monotonic clock, kept in 42 bits, which
//! wrap after 50 days: they are read as distances that cannot be longer than the longest open time, so what looks
//! further ahead is past. 25 days is the longest that works.

mod place;
mod settings;
mod tally;
mod word;

pub use place::Place;
pub use settings::{ArchivedBreaker, Breaker};
pub use tally::{TALLIES, Tally};
pub use word::{Forced, State, Transition, Verdict, Word};

use crate::types::MILLISECOND;

/// The most probes that may be in flight at once.
pub const PROBES_MAX: u32 = 16;

/// Bits of a time inside a word.
const TIME_BITS: u32 = 42;

/// `now` as words keep it.
const fn time(micros: u64) -> u64 {
    micros & ((1 << TIME_BITS) - 1)
}

/// A process reads its clock once a turn of its event loop, so what another one has just written may lie so many
/// microseconds further ahead of it than it was put.
const LATE: u64 = 250 * MILLISECOND;

/// Microseconds from `now` until `time`, both as words keep them; `None` if it is past, which everything is that lies
/// more than `longest` ahead, and for as long as clocks may differ.
fn until(when: u64, now: u64, longest: u64) -> Option<u64> {
    Some(time(when.wrapping_sub(now))).filter(|ahead| (1..=longest.saturating_add(LATE)).contains(ahead))
}
