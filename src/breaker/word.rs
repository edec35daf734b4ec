use super::{Breaker, TIME_BITS, time, until};

/// The state of a breaker, which is one word so that every process sees a change at once: 2 bits of state, 20 of era,
/// 42 of what the state needs (open: until when; half-open: how many probes have succeeded). 0 is a new, closed breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Word(pub u64);

/// Where a breaker stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// Requests pass, failures are counted.
    Closed = 0,
    /// Requests are refused.
    Open = 1,
    /// A few requests pass as probes.
    HalfOpen = 2,
}

/// What a word says to one more request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It passes.
    Pass,
    /// It passes if it gets a place among the probes, once the word is the given one (which it may be already).
    Probe(Word),
    /// It does not, for so many microseconds.
    Refuse(u64),
}

/// A change of state that a report brought about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Transition {
    Opened,
    Closed,
}

const ERA_BITS: u32 = 20;
const ERA_MASK: u64 = (1 << ERA_BITS) - 1;

impl Word {
    /// Where the breaker stands as of the last change; [`Word::state_at`] also looks at the time.
    #[must_use]
    #[inline]
    pub const fn state(self) -> State {
        match self.0 >> (ERA_BITS + TIME_BITS) {
            0 => State::Closed,
            1 => State::Open,
            _ => State::HalfOpen,
        }
    }

    /// Where the breaker stands at `now`: an open one whose time is over is half-open, though no request came yet.
    #[must_use]
    pub fn state_at(self, settings: &Breaker, now: u64) -> State {
        match self.verdict(settings, now) {
            Verdict::Pass => State::Closed,
            Verdict::Probe(_) => State::HalfOpen,
            Verdict::Refuse(_) => State::Open,
        }
    }

    /// Counts the changes of state, 20 bits.
    #[must_use]
    #[inline]
    pub const fn era(self) -> u32 {
        (self.0 >> TIME_BITS & ERA_MASK) as u32
    }

    /// What one more request at `now` is told.
    #[must_use]
    #[inline]
    pub fn verdict(self, settings: &Breaker, now: u64) -> Verdict {
        match self.state() {
            State::Closed => Verdict::Pass,
            State::HalfOpen => Verdict::Probe(self),
            State::Open => match until(self.value(), now, settings.open_for) {
                Some(ahead) => Verdict::Refuse(ahead),
                None => Verdict::Probe(self.next(State::HalfOpen, 0)),
            },
        }
    }

    /// The word after a closed breaker has seen too many failures, or a half-open one a single failure.
    #[must_use]
    pub const fn opened(self, settings: &Breaker, now: u64) -> Self {
        self.next(State::Open, now.wrapping_add(settings.open_for))
    }

    /// The word after one more probe has succeeded.
    #[must_use]
    pub const fn succeeded(self, settings: &Breaker) -> (Self, Option<Transition>) {
        let successes = self.value() + 1;
        if successes >= settings.closes_after as u64 {
            return (self.next(State::Closed, 0), Some(Transition::Closed));
        }
        (Self(self.0 + 1), None)
    }

    const fn next(self, state: State, value: u64) -> Self {
        let era = (self.era() as u64 + 1) & ERA_MASK;
        Self((state as u64) << (ERA_BITS + TIME_BITS) | era << TIME_BITS | time(value))
    }

    const fn value(self) -> u64 {
        time(self.0)
    }
}
