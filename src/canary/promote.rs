//! Promotion: the candidate's share rises step by step as long as it does no worse than the baseline.
//!
//! [`State`] is one word. Everything that may happen to it, whoever causes it, is a function from an old word to a new
//! one; in the region it changes by compare-and-swap, so that it survives whoever was about to change it.
//!
//! **What is compared.** Both variants over the same window, so that what troubles both (a slow database, the hour of the
//! day) is no fault of the candidate; never the candidate with its own past. The baseline is the first variant, also
//! where there are others between the two. A window belongs to one step and lasts `every`; it goes on for as long as either
//! variant has fewer than `minimum_requests` in it.
//!
//! **Errors**: the difference of both rates, less the margin that is allowed, in units of its standard error (with one
//! success and one failure added to each side, so that small counts do not look certain). **Latency**: the difference of
//! the means of the *logarithms* of the times to the response header, that is the ratio of what is typical. A plain mean
//! is decided by a few slow answers, and a 95th percentile needs far finer buckets than the ratio that is asked about;
//! logarithms of latencies are near enough to a bell curve that two sums give a mean and an honest error of it. What fails
//! is an error and has no latency, so that failing fast never looks fast. A tail that hits fewer than a few in a hundred
//! shows as errors (timeouts) or in the metrics, not here.
//!
//! **Two thresholds.** To go back, the candidate must be worse than allowed beyond chance: by three standard errors
//! ([`CERTAIN`]). This is asked once a second from the first moment that both samples are large enough, since a bad
//! release should not be served to the end of its window; three rather than two, because who looks often is misled often,
//! and the margin on top (which the tests simulate). To go on, what was measured must simply be within what is allowed.
//! In between the window grows until it is clear.

use std::fmt;

use rkyv::{Archive, Deserialize, Serialize};

use super::settings::BUCKETS;
use crate::types::SECOND;

/// So many standard errors beyond what is allowed are no chance.
pub const CERTAIN: f64 = 3.0;

/// The most steps of a promotion.
pub const STEPS_MAX: usize = 32;

/// Latencies say nothing before there are so many.
const LATENCIES_MIN: u64 = 30;

/// A rest is doubled after each rollback in a row, up to this; microseconds.
const REST_MAX: u64 = 24 * 3_600 * SECOND;

/// One unit of the times in a state is so many microseconds, as a power of two; 36 bits of them are 17 years.
const TICK: u32 = 13;

/// How a candidate is promoted.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Hash)]
pub struct Promote {
    /// The candidate's shares, hundredths of a percent, rising; at least one.
    pub steps: Vec<u16>,
    /// How long each step lasts at least, microseconds.
    pub every: u64,
    /// So many requests of each variant make a window.
    pub minimum_requests: u32,
    /// So much more of the candidate's requests may fail than of the baseline's, hundredths of a percent.
    pub max_error_rate: u32,
    /// So much slower the candidate may be, hundredths of a percent.
    pub max_latency: u32,
    /// How long a candidate that failed rests before it is tried again, microseconds.
    pub cool_down: u64,
    /// Whether a candidate that fails keeps its share, to be looked at.
    pub hold: bool,
}

/// What was counted of one variant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Requests that were answered.
    pub good: u64,
    /// Requests that failed.
    pub errors: u64,
    /// The sum of [`log`] over the times of those that were answered …
    pub logs: u64,
    /// … and of its squares.
    pub squares: u64,
}

/// The binary logarithm of a time in microseconds, in 256ths; within 1 % of a doubling.
#[must_use]
#[inline]
pub fn log(micros: u64) -> u64 {
    let micros = micros.clamp(1, u64::from(u32::MAX)) as u32;
    let whole = u64::from(micros.ilog2());
    // The mantissa behind its first one, 16 bits; a parabola through both ends makes up for its bow.
    let rest = u64::from((micros << micros.leading_zeros() << 1) >> 16);
    let bow = (((rest * (65_536 - rest)) >> 16) * 22_282) >> 16;
    (whole << 8) + ((rest + bow) >> 8)
}

impl Tally {
    /// What came since `start`.
    #[must_use]
    pub const fn since(self, start: Self) -> Self {
        Self {
            good: self.good.saturating_sub(start.good),
            errors: self.errors.saturating_sub(start.errors),
            logs: self.logs.saturating_sub(start.logs),
            squares: self.squares.saturating_sub(start.squares),
        }
    }

    const fn requests(self) -> u64 {
        self.good.saturating_add(self.errors)
    }

    fn error_rate(self) -> f64 {
        self.errors as f64 / self.requests().max(1) as f64
    }

    /// The square of the standard error of the rate.
    fn error_doubt(self) -> f64 {
        let count = self.requests() as f64 + 2.0;
        let rate = (self.errors as f64 + 1.0) / count;
        rate * (1.0 - rate) / count
    }

    /// The mean of the natural logarithms, and the square of its standard error.
    fn latency(self) -> (f64, f64) {
        let unit = std::f64::consts::LN_2 / 256.0;
        let count = self.good.max(1) as f64;
        let mean = self.logs as f64 / count;
        let variance = (self.squares as f64 / count - mean * mean).max(1.0);
        (mean * unit, variance * unit * unit / count)
    }
}

/// Where a promotion stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// There is none: the document's weights count.
    Off,
    /// A window is to be opened.
    Starting,
    /// The candidate is compared.
    Running,
    /// The candidate failed, serves nobody, and will be tried again.
    Resting,
    /// The candidate failed and keeps its share until somebody has looked at it.
    Held,
    /// Somebody has set the share, or stopped the comparison.
    Paused,
    /// Somebody has given it up; the candidate serves nobody.
    Aborted,
    /// The last step was passed. Below 100 % the candidate is still compared.
    Done,
}

impl Phase {
    const ALL: [Self; 8] =
        [Self::Off, Self::Starting, Self::Running, Self::Resting, Self::Held, Self::Paused, Self::Aborted, Self::Done];

    /// In a word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Resting => "resting",
            Self::Held => "held",
            Self::Paused => "paused",
            Self::Aborted => "aborted",
            Self::Done => "done",
        }
    }
}

/// A promotion, in one word: from the top share 14 bits, phase 3, step 5, rollbacks in a row 5, which half of the
/// snapshots is the window's 1, and since when 36. 0 is that there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    /// Where it stands.
    pub phase: Phase,
    /// The step that it is in.
    pub step: u8,
    /// The candidate's share, hundredths of a percent.
    pub share: u16,
    /// Rollbacks since somebody started it.
    pub rollbacks: u8,
    /// In which of two places stands what was counted when the window began. Another one than before means a new
    /// window: the totals are to be written there before the state is.
    pub half: bool,
    /// When the window or the rest began, units of 8,192 microseconds of the monotonic clock.
    since: u64,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Event {
    /// The candidate has its first share.
    Started,
    /// It has a larger one.
    Raised,
    /// It has passed the last step.
    Finished,
    /// It has failed and serves nobody.
    RolledBack(Why),
    /// It has failed and keeps its share.
    Held(Why),
}

/// Why a candidate failed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Why {
    /// Too many errors: the rates of baseline and candidate.
    Errors(f64, f64),
    /// Too slow: so many times the baseline's typical latency.
    Latency(f64),
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Errors(baseline, candidate) => {
                write!(f, "{:.2} % errors against {:.2} %", candidate * 100.0, baseline * 100.0)
            }
            Self::Latency(ratio) => write!(f, "{ratio:.2} times the latency"),
        }
    }
}

/// What a comparison says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Verdict {
    /// Too few requests yet, or too close to tell.
    Open,
    /// No worse than allowed.
    Fine,
    /// Worse than allowed, beyond chance.
    Worse(Why),
}

impl Promote {
    /// Compares baseline and candidate over one window.
    #[must_use]
    pub fn judge(&self, [baseline, candidate]: &[Tally; 2]) -> Verdict {
        if baseline.requests().min(candidate.requests()) < u64::from(self.minimum_requests) {
            return Verdict::Open;
        }
        let part = |hundredths: u32| f64::from(hundredths) / BUCKETS as f64;
        let beyond = candidate.error_rate() - baseline.error_rate() - part(self.max_error_rate);
        if beyond > CERTAIN * (candidate.error_doubt() + baseline.error_doubt()).sqrt() {
            return Verdict::Worse(Why::Errors(baseline.error_rate(), candidate.error_rate()));
        }
        let mut is_fine = beyond <= 0.0;
        if baseline.good.min(candidate.good) >= LATENCIES_MIN {
            let ((base, base_doubt), (found, found_doubt)) = (baseline.latency(), candidate.latency());
            let slower = found - base - part(self.max_latency).ln_1p();
            if slower > CERTAIN * (found_doubt + base_doubt).sqrt() {
                return Verdict::Worse(Why::Latency((found - base).exp()));
            }
            is_fine &= slower <= 0.0;
        }
        if is_fine { Verdict::Fine } else { Verdict::Open }
    }

    fn share(&self, step: u8) -> u16 {
        self.steps.get(usize::from(step)).or(self.steps.last()).copied().unwrap_or(0)
    }

    fn rest(&self, rollbacks: u8) -> u64 {
        let doubled = self.cool_down.saturating_mul(1 << rollbacks.saturating_sub(1).min(20));
        doubled.min(REST_MAX.max(self.cool_down))
    }
}

impl State {
    /// That there is no promotion.
    pub const OFF: Self = Self { phase: Phase::Off, step: 0, share: 0, rollbacks: 0, half: false, since: 0 };

    /// How a route begins whose document has, or has not, `promote`.
    #[must_use]
    pub fn begin(promote: Option<&Promote>) -> Self {
        promote.map_or(Self::OFF, |plan| Self { phase: Phase::Starting, share: plan.share(0), ..Self::OFF })
    }

    /// The state that `word` holds.
    #[must_use]
    #[inline]
    pub fn of(word: u64) -> Self {
        let phase = Phase::ALL.get((word >> 47) as usize & 7).copied().unwrap_or(Phase::Off);
        Self {
            phase,
            step: (word >> 42) as u8 & 31,
            share: (word >> 50) as u16,
            rollbacks: (word >> 37) as u8 & 31,
            half: word >> 36 & 1 != 0,
            since: word & SINCE,
        }
    }

    /// The word that holds it.
    #[must_use]
    pub fn word(self) -> u64 {
        let phase = Phase::ALL.iter().position(|phase| *phase == self.phase).unwrap_or(0) as u64;
        u64::from(self.share) << 50
            | phase << 47
            | u64::from(self.step & 31) << 42
            | u64::from(self.rollbacks & 31) << 37
            | u64::from(self.half) << 36
            | self.since & SINCE
    }

    /// The share that `word` gives the candidate; `None` = the document's weights count.
    #[must_use]
    #[inline]
    pub const fn live(word: u64) -> Option<u64> {
        if word == 0 { None } else { Some(word >> 50) }
    }

    /// What is to come at `now`, microseconds of the monotonic clock, given what both variants did since the window
    /// began.
    #[must_use]
    pub fn advance(self, plan: &Promote, window: &[Tally; 2], now: u64) -> (Self, Option<Event>) {
        let tick = now >> TICK & SINCE;
        let Some(elapsed) = tick.checked_sub(self.since).map(|ticks| ticks << TICK) else {
            // The machine was started anew, or somebody's clock was ahead: what was counted belongs to another time.
            return (self.at(tick), None);
        };
        match self.phase {
            Phase::Off | Phase::Held | Phase::Paused | Phase::Aborted => (self, None),
            Phase::Starting => (Self { phase: Phase::Running, ..self.at(tick) }, Some(Event::Started)),
            Phase::Resting if elapsed < plan.rest(self.rollbacks) => (self, None),
            Phase::Resting => {
                let next = Self { phase: Phase::Running, step: 0, share: plan.share(0), ..self.at(tick) };
                (next, Some(Event::Started))
            }
            // Nobody is left to compare with.
            Phase::Done if u64::from(self.share) == BUCKETS => (self, None),
            Phase::Running | Phase::Done => match plan.judge(window) {
                Verdict::Worse(why) if plan.hold => (Self { phase: Phase::Held, ..self }, Some(Event::Held(why))),
                Verdict::Worse(why) => {
                    let rollbacks = self.rollbacks.saturating_add(1).min(31);
                    let next = Self { phase: Phase::Resting, step: 0, share: 0, rollbacks, ..self.at(tick) };
                    (next, Some(Event::RolledBack(why)))
                }
                Verdict::Fine if elapsed >= plan.every => self.passed(plan, tick),
                Verdict::Fine | Verdict::Open => (self, None),
            },
        }
    }

    /// The step is over, and well.
    fn passed(self, plan: &Promote, tick: u64) -> (Self, Option<Event>) {
        let next = self.at(tick);
        let is_last = usize::from(self.step) + 1 >= plan.steps.len();
        match self.phase {
            Phase::Done => (next, None),
            _ if is_last => (Self { phase: Phase::Done, ..next }, Some(Event::Finished)),
            _ => {
                let (step, share) = (self.step + 1, plan.share(self.step + 1));
                // With everybody there is nothing left to wait for.
                let all = u64::from(share) == BUCKETS;
                let phase = if all { Phase::Done } else { Phase::Running };
                let event = if all { Event::Finished } else { Event::Raised };
                (Self { phase, step, share, ..next }, Some(event))
            }
        }
    }

    /// A new window, or rest, from `tick` on.
    const fn at(self, tick: u64) -> Self {
        Self { since: tick, half: !self.half, ..self }
    }

    /// With this share, by hand, and no comparison until it is resumed.
    #[must_use]
    pub fn set(self, share: u16) -> Self {
        Self { phase: Phase::Paused, share: share.min(BUCKETS as u16), ..self }
    }

    /// As it is, without comparison until it is resumed.
    #[must_use]
    pub const fn pause(self) -> Self {
        Self { phase: Phase::Paused, ..self }
    }

    /// Given up: the candidate serves nobody.
    #[must_use]
    pub const fn abort(self) -> Self {
        Self { phase: Phase::Aborted, share: 0, step: 0, ..self }
    }

    /// Goes on in the first step whose share is not below the one that it has.
    #[must_use]
    pub fn resume(self, plan: &Promote) -> Self {
        let found = plan.steps.iter().position(|share| *share >= self.share);
        let step = found.unwrap_or(plan.steps.len().saturating_sub(1)).min(STEPS_MAX - 1) as u8;
        Self { phase: Phase::Starting, step, share: plan.share(step), rollbacks: 0, since: 0, ..self }
    }
}

const SINCE: u64 = (1 << 36) - 1;
