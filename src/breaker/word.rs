use super::{Breaker, LATE, TIME_BITS, time, until};

/// The state of a breaker, which is one word so that every process sees a change at once: 3 bits of state, 5 of how
/// often it has been reopened, 14 of era, 42 of what the state needs (closed: since when; open: until when; half-open:
/// how many probes have succeeded). 0 is a new, closed breaker.
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
    /// Requests are refused until somebody says otherwise.
    ForcedOpen = 3,
    /// Requests pass whatever comes of them, until somebody says otherwise.
    ForcedClosed = 4,
}

/// What somebody who knows better has a breaker do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forced {
    /// Refuse everything.
    Open,
    /// Let everything pass.
    Closed,
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

const ERA_BITS: u32 = 14;
const ERA_MASK: u64 = (1 << ERA_BITS) - 1;
const TIMES_BITS: u32 = 5;
const TIMES_MAX: u32 = (1 << TIMES_BITS) - 1;
const STATE_SHIFT: u32 = TIME_BITS + ERA_BITS + TIMES_BITS;

impl Word {
    /// Where the breaker stands as of the last change; [`Word::state_at`] also looks at the time.
    #[must_use]
    #[inline]
    pub const fn state(self) -> State {
        match self.0 >> STATE_SHIFT {
            0 => State::Closed,
            1 => State::Open,
            2 => State::HalfOpen,
            3 => State::ForcedOpen,
            _ => State::ForcedClosed,
        }
    }

    /// Where the breaker stands at `now`: an open one whose time is over is half-open, though no request came yet.
    #[must_use]
    pub fn state_at(self, settings: &Breaker, now: u64) -> State {
        match (self.state(), self.verdict(settings, now)) {
            (State::Open, Verdict::Probe(_)) => State::HalfOpen,
            (state, _) => state,
        }
    }

    /// Counts the changes of state, 14 bits.
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
            State::Closed | State::ForcedClosed => Verdict::Pass,
            State::HalfOpen => Verdict::Probe(self),
            State::Open => match until(self.value(), now, settings.longest()) {
                Some(ahead) => Verdict::Refuse(ahead),
                None => Verdict::Probe(self.next(State::HalfOpen, self.times(), 0)),
            },
            State::ForcedOpen => Verdict::Refuse(settings.open_for),
        }
    }

    /// The word after a closed breaker has seen too many failures, or a half-open one a single failure. One that opens
    /// again before it has been closed for a window stays open longer.
    #[must_use]
    pub const fn opened(self, settings: &Breaker, now: u64, random: u64) -> Self {
        let closed_for = time(now.wrapping_sub(self.value()));
        // Whose clock is behind that of who closed it finds a time that has come around.
        let is_past = closed_for < time(LATE.wrapping_neg());
        let calm = matches!(self.state(), State::Closed) && is_past && closed_for >= settings.window;
        let times = if calm { 0 } else { self.times() };
        let more = if times < TIMES_MAX { times + 1 } else { times };
        self.next(State::Open, more, now.wrapping_add(settings.open_time(times, random)))
    }

    /// The word after one more probe has succeeded, at `now`.
    #[must_use]
    pub const fn succeeded(self, settings: &Breaker, now: u64) -> (Self, Option<Transition>) {
        let successes = self.value() + 1;
        if successes >= settings.closes_after as u64 {
            return (self.next(State::Closed, self.times(), now), Some(Transition::Closed));
        }
        (Self(self.0 + 1), None)
    }

    /// The word once the breaker does what somebody says; with `None` it begins anew, closed, if it was told something.
    #[must_use]
    pub const fn forced(self, forced: Option<Forced>) -> Self {
        match (forced, self.state()) {
            (Some(Forced::Open), State::ForcedOpen) | (Some(Forced::Closed), State::ForcedClosed) => self,
            (Some(Forced::Open), _) => self.next(State::ForcedOpen, 0, 0),
            (Some(Forced::Closed), _) => self.next(State::ForcedClosed, 0, 0),
            (None, State::ForcedOpen | State::ForcedClosed) => self.next(State::Closed, 0, 0),
            (None, _) => self,
        }
    }

    /// The same by a clock that is `by` microseconds ahead, wrapping; a new breaker stays new.
    #[must_use]
    pub const fn moved(self, by: u64) -> Self {
        match self.state() {
            State::Closed | State::Open if self.0 != 0 => {
                Self(self.0 - self.value() + time(self.value().wrapping_add(by)))
            }
            _ => self,
        }
    }

    const fn next(self, state: State, times: u32, value: u64) -> Self {
        let era = (self.era() as u64 + 1) & ERA_MASK;
        let state = (state as u64) << TIMES_BITS | times as u64;
        Self((state << ERA_BITS | era) << TIME_BITS | time(value))
    }

    /// How often it has opened since it was last closed for a window, 5 bits.
    const fn times(self) -> u32 {
        (self.0 >> (TIME_BITS + ERA_BITS)) as u32 & TIMES_MAX
    }

    const fn value(self) -> u64 {
        time(self.0)
    }
}
