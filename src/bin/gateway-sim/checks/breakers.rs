//! Breakers against their promises: transitions, probes, open times, and that no probe is lost.

use std::collections::{BTreeMap, VecDeque};

use gateway::breaker::State;

use crate::document::{Breaker, Document};
use crate::fleet::LAG;
use crate::sight::Seen;
use crate::trace::{Checked, Violation, broken};

/// A dead worker's probes are given back within this time, microseconds: the next leader comes within 2 s, and looks
/// once a second.
const RECLAIM: u64 = 4_000_000;

const SECOND: u64 = 1_000_000;

/// What the checks know of one breaker.
struct Model {
    id: u64,
    settings: Breaker,
    state: State,
    /// When it came into this state.
    since: u64,
    /// Counts the states.
    era: u64,
    /// When calls of this era ended, and whether well.
    calls: VecDeque<(u64, bool)>,
    /// Probes under way by their requests, and until when each holds its place.
    probes: BTreeMap<u64, u64>,
    successes: u32,
    /// How often it has opened in a row, at least and at most.
    times: (u32, u32),
    /// What this step reported.
    failed: bool,
    failed_probe: bool,
}

/// What a request remembers of the breaker that let it through.
#[derive(Clone, Debug)]
pub struct Pass {
    pub upstream: String,
    id: u64,
    era: u64,
    probe: bool,
    /// Whose answer takes longer says no good of the upstream, microseconds; 0 = however long.
    pub slow_call: u64,
}

#[derive(Default)]
pub struct Breakers {
    models: BTreeMap<String, Model>,
    /// How often one opened.
    pub opened: u64,
}

impl Breakers {
    /// A request to `upstream` was let through.
    pub fn passed(&mut self, upstream: &str, flight: u64, probe: bool, time: u64) -> Result<Option<Pass>, Violation> {
        let Some(model) = self.models.get_mut(upstream) else { return Ok(None) };
        if probe && model.state == State::Open && time + LAG >= model.since + model.open_times().0 {
            // Nobody had looked since its time was over.
            model.turn(State::HalfOpen, time);
        }
        let state = model.state;
        let slow_call = u64::from(model.settings.slow_call) * 1_000;
        let pass = Pass { upstream: upstream.to_owned(), id: model.id, era: model.era, probe, slow_call };
        match (probe, state) {
            (false, State::Closed | State::ForcedClosed) => return Ok(Some(pass)),
            (true, State::HalfOpen) => {}
            _ => return broken("breaker", format!("{upstream} is {state:?} and let one through, probe: {probe}")),
        }
        model.probes.insert(flight, time + model.open_for());
        let held = model.probes.values().filter(|until| time + LAG < **until).count();
        if held > model.settings.probes as usize {
            let most = model.settings.probes;
            return broken("probes", format!("{upstream} has {held} probes in flight, {most} are allowed"));
        }
        Ok(Some(pass))
    }

    /// The breaker of `upstream` refused a request.
    pub fn refused(&self, upstream: &str, time: u64) -> Checked {
        let Some(model) = self.models.get(upstream) else {
            return broken("breaker", format!("{upstream} has none, and refused"));
        };
        match model.state {
            State::Closed | State::ForcedClosed => broken("breaker", format!("{upstream} is closed, and refused")),
            State::ForcedOpen => Ok(()),
            State::Open if time <= model.since + model.open_times().1 + LAG => Ok(()),
            // A worker's clock may not be there yet.
            State::HalfOpen if time < model.since + 2 * LAG => Ok(()),
            State::Open | State::HalfOpen => {
                let held = model.probes.values().filter(|until| time < **until + LAG).count();
                if held < model.settings.probes as usize {
                    let most = model.settings.probes;
                    return broken("lost probe", format!("{upstream} refused with {held} of {most} probes in flight"));
                }
                Ok(())
            }
        }
    }

    /// A request ended; `good` is what it says of the upstream, `None` = nothing.
    pub fn ended(&mut self, flight: u64, pass: &Pass, good: Option<bool>, time: u64) {
        let Some(model) = self.models.get_mut(&pass.upstream).filter(|model| model.id == pass.id) else { return };
        let held = model.probes.remove(&flight);
        let Some(good) = good.filter(|_| model.era == pass.era) else { return };
        // Late by its worker's clock or not: near the end nobody can say.
        match held.filter(|until| time < until + LAG) {
            Some(_) if good => model.successes += 1,
            Some(_) => model.failed_probe = true,
            None if !pass.probe => {
                model.calls.push_back((time, good));
                model.failed |= !good;
            }
            None => {}
        }
    }

    /// The worker of a request was killed.
    pub fn killed(&mut self, flight: u64, pass: &Pass, time: u64) {
        let model = self.models.get_mut(&pass.upstream).filter(|model| model.id == pass.id);
        if let Some(until) = model.and_then(|model| model.probes.get_mut(&flight)) {
            *until = (*until).min(time + RECLAIM);
        }
    }

    /// Somebody forces the breaker of `upstream`.
    pub fn forced(&mut self, upstream: &str, state: State, time: u64) {
        if let Some(model) = self.models.get_mut(upstream) {
            model.turn(state, time);
            model.times = (0, 0);
        }
    }

    /// Compares what each breaker came to in this step with what it may.
    pub fn step(&mut self, seen: &[Seen], document: &Document, time: u64) -> Checked {
        self.models.retain(|name, _| seen.iter().any(|seen| seen.name == *name && seen.breaker.is_some()));
        for seen in seen {
            let Some(state) = seen.breaker else { continue };
            let Some(settings) = document.upstreams.get(&seen.name).and_then(|upstream| upstream.breaker) else {
                continue;
            };
            let known = self.models.get_mut(&seen.name);
            let Some(model) = known.filter(|model| model.id == seen.id && model.settings == settings) else {
                self.models.insert(seen.name.clone(), Model::new(seen.id, settings, state, time));
                continue;
            };
            model.legal(&seen.name, state, time)?;
            if model.state != state {
                self.opened += u64::from(state == State::Open);
                model.turn(state, time);
            }
            (model.failed, model.failed_probe) = (false, false);
            model.probes.retain(|_, until| time < *until + 2 * LAG);
        }
        Ok(())
    }
}

impl Model {
    fn new(id: u64, settings: Breaker, state: State, time: u64) -> Self {
        Self {
            id,
            settings,
            state,
            // What is there at first is there as if for ever.
            since: 0,
            era: time,
            calls: VecDeque::new(),
            probes: BTreeMap::new(),
            successes: 0,
            times: (0, 0),
            failed: false,
            failed_probe: false,
        }
    }

    fn open_for(&self) -> u64 {
        u64::from(self.settings.open_for) * SECOND
    }

    fn window(&self) -> u64 {
        u64::from(self.settings.window) * SECOND
    }

    /// How long it is open, at least and at most, having opened as often as it has.
    fn open_times(&self) -> (u64, u64) {
        let grown = |times: u32| {
            (self.open_for() << times.saturating_sub(1).min(20)).min(u64::from(self.settings.open_for_max) * SECOND)
        };
        (grown(self.times.0), grown(self.times.1) * u64::from(100 + self.settings.jitter) / 100)
    }

    fn turn(&mut self, state: State, time: u64) {
        if state == State::Open {
            let (least, most) = self.times;
            // Closed for a window, it begins anew; near that nobody can say.
            let calm = |slack: i64| time.saturating_sub(self.since) as i64 >= self.window() as i64 + slack;
            let was_closed = self.state == State::Closed;
            let least = if was_closed && calm(-2 * LAG as i64) { 0 } else { least };
            let most = if was_closed && calm(2 * LAG as i64) { 0 } else { most };
            self.times = ((least + 1).min(31), (most + 1).min(31));
        }
        self.state = state;
        self.since = time;
        self.era += 1;
        self.successes = 0;
        self.calls.clear();
    }

    fn legal(&mut self, name: &str, next: State, time: u64) -> Checked {
        let wrong = |why: &str| broken("transition", format!("{name} went from {:?} to {next:?}: {why}", self.state));
        // The window slides in steps of a thirty-second of its length.
        let step = self.window() / 32 + 2 * LAG;
        let within = |span: u64| {
            let calls = || self.calls.iter().filter(|(at, _)| at + span > time);
            (calls().filter(|(_, good)| !good).count() as u64, calls().count() as u64)
        };
        let (few_failures, few_calls) = within(self.window().saturating_sub(2 * step));
        let (failures, calls) = within(self.window() + step);
        let must = self.failed && self.settings.opens(few_failures, few_calls, calls);
        let may = self.failed && self.settings.opens(failures, calls, few_calls);
        match (self.state, next) {
            (State::Closed, State::Closed) if must => return wrong(&format!("{failures} failures of {calls}")),
            (State::Closed, State::Open) if !may => return wrong(&format!("{failures} failures of {calls}")),
            (State::Open, State::HalfOpen) if time + LAG < self.since + self.open_times().0 => {
                return wrong("its time is not over");
            }
            (State::Open, State::Open) if time > self.since + self.open_times().1 + LAG => {
                return wrong("its time is over");
            }
            (State::HalfOpen, State::Open) if !self.failed_probe => return wrong("no probe has failed"),
            (State::HalfOpen, State::Closed) if self.successes < self.settings.closes_after => {
                return wrong(&format!("{} probes have succeeded", self.successes));
            }
            (State::Closed, State::HalfOpen) | (State::Open, State::Closed) => return wrong("there is no such way"),
            (one, other) if one != other && is_forced(one) | is_forced(other) => return wrong("nobody said so"),
            _ => {}
        }
        let window = self.window() + step;
        while self.calls.front().is_some_and(|(at, _)| at + window < time) {
            self.calls.pop_front();
        }
        Ok(())
    }
}

fn is_forced(state: State) -> bool {
    matches!(state, State::ForcedOpen | State::ForcedClosed)
}

impl Breaker {
    /// Whether so many failures open it, of so many calls: `enough` to look at the share, `among` to take it of.
    fn opens(&self, failures: u64, enough: u64, among: u64) -> bool {
        let by_number = self.failures > 0 && failures >= self.failures.into();
        let by_share =
            self.ratio > 0 && enough >= self.minimum_calls.into() && failures * 100 >= u64::from(self.ratio) * among;
        by_number || by_share
    }
}
