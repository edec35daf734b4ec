//! What all workers know of an upstream's load: the words of [`overload`](crate::overload) in the spare ones of a slot
//! of [`places`](super::places), whose gauge counts the requests that wait for their response header.
//!
//! A sample is one addition. Whoever adds the one that ends a window begins the next by compare-and-swap, takes the
//! samples and moves the limit; so each window moves it once. A process that is killed in between loses a window; one
//! that is slow adds its sample to the next.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use super::places::{Place, WIDTH, gauge};
use super::slot::{Slot, Slots};
use crate::overload::{Overload, Samples, State, Window};
use crate::state::atomic::Atomic;

const STATE: usize = 18;
const WINDOW: usize = 19;
const SAMPLES: usize = 20;
const SHED: usize = 21;

/// How one upstream stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Limit and baseline.
    pub state: State,
    /// Requests that wait for their response header.
    pub in_flight: u32,
    /// Requests above the limit so far, refused or not.
    pub shed: u64,
}

/// The table.
pub struct Loads<'a, W = AtomicU64>(Slots<'a, W>);

super::copies!(Loads);

impl<'a, W: Atomic> Loads<'a, W> {
    /// The table over the words of places, 64-byte aligned.
    #[must_use]
    #[inline]
    pub fn new(words: &'a [W]) -> Self {
        Self(Slots::new(words, WIDTH))
    }

    /// How the upstream with this place stands; `None` where the slot is another's.
    #[must_use]
    #[inline]
    pub fn load(self, place: Place) -> Option<Load> {
        let slot = self.of(place)?;
        Some(Load {
            state: State(slot.word(STATE).load(Relaxed)),
            in_flight: gauge(slot).count(),
            shed: slot.word(SHED).load(Relaxed),
        })
    }

    /// Counts a request above the limit.
    #[cold]
    pub fn shed(self, place: Place) {
        if let Some(slot) = self.of(place) {
            slot.word(SHED).fetch_add(1, Relaxed);
        }
    }

    /// Adds a try that took `micros` to its response header; says whether a window is to be ended.
    #[must_use]
    #[inline]
    pub fn sample(self, place: Place, micros: u64, mono: u64) -> bool {
        let Some(slot) = self.of(place) else { return false };
        let one = Samples::one(micros).0;
        let samples = Samples(slot.word(SAMPLES).fetch_add(one, Relaxed).wrapping_add(one));
        Window(slot.word(WINDOW).load(Relaxed)).is_over(samples, mono)
    }

    /// A try failed after `micros`: that is a sample only if it is a long time.
    #[must_use]
    pub fn failed(self, place: Place, micros: u64, mono: u64) -> bool {
        let slow = |slot: Slot<'_, W>| micros as f32 > State(slot.word(STATE).load(Relaxed)).baseline();
        self.of(place).is_some_and(slow) && self.sample(place, micros, mono)
    }

    /// Ends the window, unless another process was faster.
    #[cold]
    pub fn end_window(self, place: Place, settings: &Overload, mono: u64) {
        let Some(slot) = self.of(place) else { return };
        let window = Window(slot.word(WINDOW).load(Relaxed));
        let samples = Samples(slot.word(SAMPLES).load(Relaxed));
        if !window.is_over(samples, mono) {
            return;
        }
        let next = Window::begin(mono, samples.sum() / samples.count().max(1));
        super::interleave();
        if slot.word(WINDOW).compare_exchange(window.0, next.0, Relaxed, Relaxed).is_err() {
            return;
        }
        let samples = Samples(slot.word(SAMPLES).swap(0, Relaxed));
        let length = window.age(mono);
        // The first window began when nobody looked.
        if window != Window::default() {
            let _ = slot
                .word(STATE)
                .fetch_update(Relaxed, Relaxed, |state| Some(State(state).next(settings, samples, length).0));
        }
    }

    #[inline]
    fn of(self, place: Place) -> Option<Slot<'a, W>> {
        if place.key == 0 { None } else { self.0.owned(place.slot, place.key) }
    }
}
