//! Promotions of canaries: what `canary::promote` decides, over the region.
//!
//! Beside a route with variants stand [`WORDS`] mutable words (behind the one that counts purges of its cache): the state, and two places for what the shards had counted
//! when the window began. They belong to what the document says of variants and promotion: any other edit of the route
//! carries them over, an edit of these begins anew. Only the leader compares; it writes what is counted into the place
//! that is not in use and then changes the state, which says that it is. So a leader that is killed in between, or loses
//! against somebody's command, has changed nothing.

use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::atomic::fence;

use super::leader::{Event, Severity};
use super::object::{ArchivedCanary, Route};
use super::publish::digest;
use super::worker::Worker;
use crate::canary::{BUCKETS, Event as Change, Phase, Promote, State, Tally, with_live};
use crate::config;
use crate::metrics::CanaryGauge;
use crate::state::{Blob, Region, Tree, View};
use crate::types::{Id, Now};

/// The state, and two times what is counted of two variants.
const WORDS: usize = 1 + 2 * HALF;
const HALF: usize = 2 * TALLY;
const TALLY: usize = 4;

/// What the words beside a route belong to, and how they begin.
pub(super) fn begin(canary: &config::Canary) -> (u64, [u64; WORDS]) {
    let variants = canary.variants.iter().map(|variant| (&variant.name, variant.weight, &variant.upstream));
    let fingerprint = digest(&(variants.collect::<Vec<_>>(), &canary.promote));
    let mut words = [0; WORDS];
    if let Some(state) = words.first_mut() {
        *state = State::begin(canary.promote.as_ref()).word();
    }
    (fingerprint, words)
}

/// The words of a route's canary; before them stands what counts purges.
#[inline]
pub(super) fn live_words<'v>(route: &Blob<'v, Route>) -> Option<&'v [AtomicU64]> {
    route.table()?.get(1..)
}

/// The routes that are promoted, looked up once a generation.
#[derive(Default)]
pub(super) struct Promotions {
    generation: u32,
    routes: Vec<Id>,
}

impl Promotions {
    /// Looks at each promotion; to be called once a second or so.
    pub(super) fn tick(&mut self, region: &Region, view: &View<'_>, now: Now, log: &mut dyn FnMut(Event)) {
        if self.generation != view.generation() {
            self.generation = view.generation();
            let promotes =
                |route: &Blob<'_, Route>| route.canary.as_ref().is_some_and(|canary| canary.promote.is_some());
            self.routes = view.each::<Route>().filter(promotes).map(|route| route.id()).collect();
        }
        for id in &self.routes {
            if let Some(route) = view.object::<Route>(*id) {
                step(region, &route, now, log);
            }
        }
    }
}

fn step(region: &Region, route: &Blob<'_, Route>, now: Now, log: &mut dyn FnMut(Event)) -> Option<()> {
    let canary = route.get().canary.as_ref()?;
    let plan = plan(canary)?;
    let words = live_words(route)?;
    let word = words.first()?;
    let old = word.load(Acquire);
    let state = State::of(old);
    let (baseline, candidate) = (canary.variants.first()?, canary.variants.last()?);
    let totals = [baseline.key.to_native(), candidate.key.to_native()].map(|key| total(region, route.id(), key));
    let [one, other] = start(words, state.half);
    let [baseline_now, candidate_now] = totals;
    let window = [baseline_now.since(one), candidate_now.since(other)];
    let (next, change) = state.advance(&plan, &window, now.mono);
    if next == state {
        return None;
    }
    if next.half != state.half {
        put(words, next.half, &totals);
        fence(Release);
    }
    word.compare_exchange(old, next.word(), AcqRel, Relaxed).ok()?;
    let (name, share) = (candidate.name.as_str(), f64::from(next.share) / 100.0);
    let (severity, text) = match change? {
        Change::Started => (Severity::Notice, format!("begins with {share} %")),
        Change::Raised => (Severity::Notice, format!("is raised to {share} %")),
        Change::Finished => (Severity::Notice, format!("has passed the last step and has {share} %")),
        Change::RolledBack(why) => (Severity::Warning, format!("is rolled back: {why}")),
        Change::Held(why) => (Severity::Warning, format!("is held at {share} %: {why}")),
    };
    log(Event { severity, text: format!("route \"{}\": variant \"{name}\" {text}", route.name()) });
    Some(())
}

fn plan(canary: &ArchivedCanary) -> Option<Promote> {
    rkyv::deserialize::<Promote, rkyv::rancor::Error>(canary.promote.as_ref()?).ok()
}

/// What all workers have counted.
fn total(region: &Region, route: Id, key: u64) -> Tally {
    let shards = (0..region.workers()).filter_map(|slot| Worker::shard(region, slot));
    shards.map(|shard| shard.tally(route, key)).fold(Tally::default(), |sum, one| Tally {
        good: sum.good.wrapping_add(one.good),
        errors: sum.errors.wrapping_add(one.errors),
        logs: sum.logs.wrapping_add(one.logs),
        squares: sum.squares.wrapping_add(one.squares),
    })
}

/// Where what was counted at the beginning of a window stands.
fn place(words: &[AtomicU64], half: bool) -> impl Iterator<Item = &AtomicU64> {
    words.iter().skip(1 + usize::from(half) * HALF).take(HALF)
}

fn start(words: &[AtomicU64], half: bool) -> [Tally; 2] {
    let mut numbers = place(words, half).map(|word| word.load(Relaxed));
    [(); 2].map(|()| {
        let mut next = || numbers.next().unwrap_or(0);
        Tally { good: next(), errors: next(), logs: next(), squares: next() }
    })
}

fn put(words: &[AtomicU64], half: bool, totals: &[Tally; 2]) {
    let numbers = totals.iter().flat_map(|tally| [tally.good, tally.errors, tally.logs, tally.squares]);
    place(words, half).zip(numbers).for_each(|(word, number)| word.store(number, Relaxed));
}

/// The share of every variant as it is now.
pub(super) fn shares<'v>(tree: &Tree<'v>) -> Vec<CanaryGauge<'v>> {
    let mut shares = Vec::new();
    for route in tree.each::<Route>() {
        let Some(canary) = route.get().canary.as_ref() else { continue };
        let weights = canary.variants.iter().map(|variant| u64::from(variant.weight.to_native()));
        let word = live_words(&route).and_then(<[_]>::first).map_or(0, |word| word.load(Relaxed));
        let weights: Vec<u64> = match State::live(word) {
            None => weights.collect(),
            Some(share) => with_live(weights, share).collect(),
        };
        let total = weights.iter().sum::<u64>().max(1) as f64;
        for (variant, weight) in canary.variants.iter().zip(weights) {
            shares.push(CanaryGauge { route: route.name(), variant: &variant.name, share: weight as f64 / total });
        }
    }
    shares
}

/// What may be done to a canary by hand. It holds until it is taken back or the document says something else of the
/// variants, through reloads and changes of the leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CanaryCommand {
    /// The candidate has this share, hundredths of a percent, and is not compared.
    Set(u16),
    /// It keeps its share and is not compared.
    Pause,
    /// A promotion goes on from the first step that is not below the share, with a new window.
    Resume,
    /// The candidate serves nobody but those whom an override sends to it.
    Abort,
    /// The document counts again: its weights, or the promotion from its first step.
    Release,
}

/// Why nothing was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CanaryError {
    /// There is no such route.
    NoRoute,
    /// The route has no `canary`.
    NoCanary,
    /// The canary has no `promote`.
    NoPromotion,
}

impl fmt::Display for CanaryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoRoute => "no route has that name",
            Self::NoCanary => "the route has no `canary`",
            Self::NoPromotion => "the route's `canary` has no `promote`",
        })
    }
}

impl std::error::Error for CanaryError {}

/// How a canary stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CanaryStatus {
    /// The route's name.
    pub route: String,
    /// The name of its candidate.
    pub candidate: String,
    /// Whether the document's weights count, or how far a promotion is.
    pub phase: Phase,
    /// The candidate's share, hundredths of a percent, rounded down.
    pub share: u16,
    /// The step of the promotion, from 0.
    pub step: u8,
    /// Rollbacks since the promotion began.
    pub rollbacks: u8,
}

impl Worker {
    /// Does `command` to the canary of the route called `route`.
    ///
    /// # Errors
    /// There is nothing to do it to.
    pub fn canary(&mut self, route: &str, command: CanaryCommand) -> Result<CanaryStatus, CanaryError> {
        let view = self.reader.enter().ok_or(CanaryError::NoRoute)?;
        self::command(&view, route, command)
    }

    /// How each canary stands, in the order of routes' places in the tree.
    pub fn canaries(&mut self) -> Vec<CanaryStatus> {
        let Some(view) = self.reader.enter() else { return Vec::new() };
        view.each::<Route>().filter_map(|route| status(&route)).collect()
    }
}

/// Does `command` to the canary of the route called `route`.
pub(super) fn command(view: &View<'_>, route: &str, command: CanaryCommand) -> Result<CanaryStatus, CanaryError> {
    let route = view.named::<Route>(route).ok_or(CanaryError::NoRoute)?;
    let canary = route.get().canary.as_ref().ok_or(CanaryError::NoCanary)?;
    let word = live_words(&route).and_then(<[_]>::first).ok_or(CanaryError::NoCanary)?;
    let plan = plan(canary);
    let promote = plan.as_ref().ok_or(CanaryError::NoPromotion);
    let mut old = word.load(Acquire);
    loop {
        let state = State::of(old);
        let next = match command {
            CanaryCommand::Set(share) => state.set(share),
            CanaryCommand::Pause => promote.map(|_| state.pause())?,
            CanaryCommand::Resume => state.resume(promote?),
            CanaryCommand::Abort => state.abort(),
            CanaryCommand::Release => State::begin(plan.as_ref()),
        };
        match word.compare_exchange(old, next.word(), AcqRel, Acquire) {
            Ok(_) => break,
            Err(other) => old = other,
        }
    }
    status(&route).ok_or(CanaryError::NoCanary)
}

pub(super) fn status(route: &Blob<'_, Route>) -> Option<CanaryStatus> {
    let canary = route.get().canary.as_ref()?;
    let candidate = canary.variants.last()?;
    let word = live_words(route)?.first()?.load(Relaxed);
    let State { phase, step, rollbacks, .. } = State::of(word);
    let total: u64 = canary.variants.iter().map(|variant| u64::from(variant.weight.to_native())).sum();
    let written = u64::from(candidate.weight.to_native()) * BUCKETS / total.max(1);
    let share = State::live(word).unwrap_or(written) as u16;
    Some(CanaryStatus {
        route: route.name().to_owned(),
        candidate: candidate.name.as_str().to_owned(),
        phase,
        share,
        step,
        rollbacks,
    })
}
