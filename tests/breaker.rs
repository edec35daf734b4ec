//! Breakers against the recorded sequences, against a sequential model, and with threads and processes that die.
// Helpers of tests may fail as tests do; clippy knows only functions marked #[test].
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Barrier;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicU32, AtomicU64};

use gateway::breaker::{Breaker, Forced, State, Transition};
use gateway::state::tables::breaker::{Permit, WIDTH, allow, cancel, force, forget, report, state};
use gateway::state::tables::slot::{Slot, Slots};
use gateway::types::{MILLISECOND, SECOND};
use proptest::prelude::*;
use serde_json::Value;

const USUAL: Breaker = Breaker {
    failures: 10,
    failure_ratio: 0,
    minimum_calls: 20,
    slow_call: 0,
    window: 10 * SECOND,
    open_for: 30 * SECOND,
    open_for_max: 30 * SECOND,
    jitter: 0,
    probes: 5,
    closes_after: 5,
};

/// The cases of our copy of `name`, or of the environment's where it has them.
fn cases(name: &str) -> Vec<Value> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let vectors = std::env::var_os("GATEWAY_VECTORS").map_or_else(|| root.join("../shared/vectors"), PathBuf::from);
    let path = [vectors.join("own").join(name), root.join("tests/data/own").join(name)]
        .into_iter()
        .find(|path| path.exists())
        .unwrap_or_else(|| panic!("{name} is nowhere"));
    let file: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    file["cases"].as_array().unwrap().clone()
}

fn words() -> Vec<AtomicU64> {
    (0..4 * WIDTH).map(|_| AtomicU64::new(0)).collect()
}

fn slot(words: &[AtomicU64], key: u64) -> Slot<'_> {
    Slots::new(words, WIDTH).claim(key).unwrap().1
}

#[test]
fn breaker_sequences() {
    // Sequences that cannot pass, with the reason. There is none.
    const NOT_YET: [(&str, &str); 0] = [];
    let mut run = 0;
    for case in cases("breaker_sequences.json") {
        let id = case["id"].as_str().unwrap();
        if let Some((_, reason)) = NOT_YET.iter().find(|(name, _)| *name == id) {
            eprintln!("{id} is left out: {reason}");
            continue;
        }
        let number = |name: &str| case["params"][name].as_u64().unwrap();
        let settings = Breaker {
            failures: number("failures") as u32,
            window: number("window_s") * SECOND,
            open_for: number("open_s") * SECOND,
            open_for_max: number("open_s") * SECOND,
            probes: number("half_open_max") as u32,
            closes_after: number("half_open_successes") as u32,
            ..USUAL
        };
        let words = words();
        let mut now = 0;
        let mut pending: HashMap<u64, Permit> = HashMap::new();
        for (index, step) in case["steps"].as_array().unwrap().iter().enumerate() {
            let slot = slot(&words, if step["service"] == "other" { 2 } else { 1 });
            if let Some(seconds) = step["t"].as_f64() {
                now = (seconds * SECOND as f64).round() as u64;
            }
            if let Some(expected) = step["state"].as_str() {
                let expected = match expected {
                    "open" => State::Open,
                    "closed" => State::Closed,
                    "half_open" => State::HalfOpen,
                    other => panic!("{id}: state {other}"),
                };
                assert_eq!(state(slot, &settings, now), expected, "{id} step {index}");
                continue;
            }
            let permit = match step["finish"].as_u64() {
                Some(finished) => pending.remove(&finished).unwrap(),
                None => {
                    let answer = allow(slot, &settings, 1, now);
                    assert_eq!(answer.is_ok(), step["call"] == "allow", "{id} step {index}: {answer:?}");
                    let Ok(permit) = answer else { continue };
                    permit
                }
            };
            match step["result"].as_str().unwrap() {
                "pending" => {
                    pending.insert(step["id"].as_u64().unwrap(), permit);
                }
                "ok" => drop(report(slot, &settings, permit, true, now)),
                "fail" => drop(report(slot, &settings, permit, false, now)),
                status => {
                    let status: u16 = status.strip_prefix("status:").unwrap().parse().unwrap();
                    report(slot, &settings, permit, status < 500, now);
                }
            }
            run += 1;
        }
    }
    assert!(run >= 150, "only {run} calls");
}

#[test]
fn a_process_whose_clock_is_behind_is_refused_as_all_others() {
    // Event loops read their clocks once a turn, so what one process writes may lie further ahead for another.
    const BEHIND: u64 = 3 * MILLISECOND;
    let settings = Breaker { failures: 1, probes: 1, ..USUAL };
    let (words, now) = (words(), 100 * SECOND);
    let slot = slot(&words, 1);
    call(slot, &settings, false, now);
    assert!(allow(slot, &settings, 2, now - BEHIND).is_err(), "open");
    assert_eq!(state(slot, &settings, now - BEHIND), State::Open);

    let later = now + 31 * SECOND;
    let probe = allow(slot, &settings, 1, later).unwrap();
    assert!(allow(slot, &settings, 2, later - BEHIND).is_err(), "the only place is taken");
    assert_eq!(report(slot, &settings, probe, false, later - BEHIND), Some(Transition::Opened));
    assert!(allow(slot, &settings, 3, later - 2 * BEHIND).is_err());

    // It has not been closed for a window by a clock that is behind, so it goes on growing.
    let growing = Breaker { open_for_max: 120 * SECOND, closes_after: 1, ..settings };
    let again = later + 31 * SECOND;
    let probe = allow(slot, &growing, 1, again).unwrap();
    assert_eq!(report(slot, &growing, probe, true, again), Some(Transition::Closed));
    call(slot, &growing, false, again - BEHIND);
    assert!(allow(slot, &growing, 1, again + 100 * SECOND).is_err(), "opened for the third time in a row");
}

#[test]
fn half_open_counts_and_closes() {
    let words = words();
    let slot = slot(&words, 1);
    for _ in 0..10 {
        let permit = allow(slot, &USUAL, 1, 0).unwrap();
        report(slot, &USUAL, permit, false, 0);
    }
    assert_eq!(allow(slot, &USUAL, 1, SECOND).unwrap_err().retry_after, 29 * SECOND);
    assert_eq!(state(slot, &USUAL, 30 * SECOND), State::HalfOpen, "nobody has asked yet");
    let now = 30 * SECOND;
    let probes: Vec<_> = (0..5).map(|worker| allow(slot, &USUAL, worker, now).unwrap()).collect();
    assert!(allow(slot, &USUAL, 9, now).is_err());
    // A cancelled probe counts for nothing and makes room for one.
    cancel(slot, probes[4]);
    cancel(slot, probes[4]);
    let fifth = allow(slot, &USUAL, 4, now + 1).unwrap();
    assert!(allow(slot, &USUAL, 9, now + 1).is_err());
    assert_eq!(report(slot, &USUAL, probes[4], false, now + 1), None, "it is no probe any more");
    // So does that of a dead worker.
    assert_eq!(forget(slot, 0), 1);
    let first = allow(slot, &USUAL, 10, now + 2).unwrap();
    assert_eq!(report(slot, &USUAL, probes[0], false, now + 2), None);
    for probe in [first, probes[1], probes[2], probes[3]] {
        assert_eq!(report(slot, &USUAL, probe, true, now + 3), None);
    }
    assert_eq!(report(slot, &USUAL, fifth, true, now + 3), Some(Transition::Closed));
    assert!(!allow(slot, &USUAL, 1, now + 3).unwrap().is_probe());
    // The failures that opened it are of a former era, though the window may still hold them.
    let long = Breaker { window: 3_600 * SECOND, ..USUAL };
    let permit = allow(slot, &long, 1, now + 4).unwrap();
    assert_eq!(report(slot, &long, permit, false, now + 4), None);
}

#[test]
fn a_late_probe_changes_nothing() {
    let words = words();
    let slot = slot(&words, 1);
    let settings = Breaker { failures: 1, probes: 1, closes_after: 1, ..USUAL };
    let permit = allow(slot, &settings, 1, 0).unwrap();
    assert_eq!(report(slot, &settings, permit, false, 0), Some(Transition::Opened));
    let probe = allow(slot, &settings, 1, 30 * SECOND).unwrap();
    assert!(allow(slot, &settings, 1, 60 * SECOND - 1).is_err(), "the place is held until the last microsecond");
    assert_eq!(report(slot, &settings, probe, true, 60 * SECOND), None);
    assert_eq!(state(slot, &settings, 60 * SECOND), State::HalfOpen);
    let probe = allow(slot, &settings, 1, 60 * SECOND).unwrap();
    assert_eq!(report(slot, &settings, probe, true, 90 * SECOND - 1), Some(Transition::Closed));
}

/// With `open_for` shortened in between, a probe can be in time and yet of a former half-open era.
#[test]
fn a_probe_of_a_former_era_changes_nothing() {
    let long = Breaker { failures: 1, probes: 2, closes_after: 1, ..USUAL };
    let short = Breaker { open_for: 15 * SECOND, open_for_max: 15 * SECOND, ..long };
    for ok in [true, false] {
        let words = words();
        let slot = slot(&words, 1);
        let permit = allow(slot, &long, 1, 0).unwrap();
        report(slot, &long, permit, false, 0);
        let failing = allow(slot, &long, 1, 30 * SECOND).unwrap();
        let old = allow(slot, &long, 1, 40 * SECOND).unwrap();
        assert_eq!(report(slot, &short, failing, false, 50 * SECOND), Some(Transition::Opened));
        assert!(allow(slot, &long, 1, 66 * SECOND).unwrap().is_probe());
        assert_eq!(report(slot, &long, old, ok, 67 * SECOND), None);
        assert_eq!(state(slot, &short, 67 * SECOND), State::HalfOpen);
    }
}

/// The window slides in steps of a thirty-second: what is older does not count, what is younger than 31 of them does.
#[test]
fn the_window_holds_what_is_young_enough() {
    let settings = Breaker { failures: 2, ..USUAL };
    for start in [0, 1, 312_499, 312_500, 777_777_777] {
        for (age, opens) in [(0, true), (9_687_500, true), (10 * SECOND, false), (10 * SECOND + 1, false)] {
            let words = words();
            let slot = slot(&words, 1);
            for now in [start, start + age] {
                let permit = allow(slot, &settings, 1, now).unwrap();
                report(slot, &settings, permit, false, now);
            }
            assert_eq!(state(slot, &settings, start + age) == State::Open, opens, "{age} after {start}");
        }
    }
}

/// One request at `now` that ends at once.
fn call(slot: Slot<'_>, settings: &Breaker, ok: bool, now: u64) -> Option<Transition> {
    let permit = allow(slot, settings, 1, now).unwrap();
    report(slot, settings, permit, ok, now)
}

#[test]
fn a_share_of_failures_opens_it_from_so_many_calls_on() {
    let share = Breaker { failures: 0, failure_ratio: 500, minimum_calls: 10, ..USUAL };
    let words = words();
    let one = slot(&words, 1);
    // Nine failures of nine are too few calls, the tenth call makes them enough.
    for _ in 0..9 {
        assert_eq!(call(one, &share, false, 0), None);
    }
    assert_eq!(call(one, &share, false, 0), Some(Transition::Opened));
    // A third of very many is no half.
    let two = slot(&words, 2);
    for turn in 0..3_000 {
        assert_eq!(call(two, &share, turn % 3 != 0, turn), None, "at {turn}");
    }
    // Half of what is left in the window is: the successes have gone out of it.
    let later = 10 * SECOND + 3_000;
    for turn in 0..5 {
        assert_eq!(call(two, &share, true, later + turn), None);
    }
    for turn in 0..4 {
        assert_eq!(call(two, &share, false, later + turn), None);
    }
    assert_eq!(call(two, &share, false, later), Some(Transition::Opened));
    // With both rules the first that holds opens it.
    let both = Breaker { failures: 3, ..share };
    let three = slot(&words, 3);
    for turn in 0..100 {
        assert_eq!(call(three, &both, true, turn), None);
    }
    let changes: Vec<_> = (0..3).map(|_| call(three, &both, false, 100)).collect();
    assert_eq!(changes, [None, None, Some(Transition::Opened)]);
}

/// A window of a day has parts of 45 minutes; what 20 bits cannot count is counted all the same.
#[test]
fn long_windows_count_millions() {
    let day = Breaker { failures: 0, failure_ratio: 10, minimum_calls: 1, window: 86_400 * SECOND, ..USUAL };
    let words = words();
    let slot = slot(&words, 1);
    for turn in 0..2_400_000 {
        assert_eq!(call(slot, &day, true, turn), None);
    }
    for turn in 0..24_242 {
        assert_eq!(call(slot, &day, false, 0), None, "after {turn}");
    }
    assert_eq!(call(slot, &day, false, 0), Some(Transition::Opened), "one in a hundred of 2,424,243");
}

#[test]
fn it_stays_open_twice_as_long_each_time_until_it_was_calm_for_a_window() {
    let settings =
        Breaker { failures: 1, probes: 1, closes_after: 1, open_for: SECOND, open_for_max: 6 * SECOND, ..USUAL };
    let words = words();
    let slot = slot(&words, 1);
    let mut now = 0;
    assert_eq!(call(slot, &settings, false, now), Some(Transition::Opened));
    // Failed probes double it, up to the most.
    for seconds in [1, 2, 4, 6, 6] {
        assert_eq!(allow(slot, &settings, 1, now).unwrap_err().retry_after, seconds * SECOND);
        now += seconds * SECOND;
        assert_eq!(call(slot, &settings, false, now), Some(Transition::Opened));
    }
    // It closes, and what fails within a window goes on where it was.
    now += 6 * SECOND;
    assert_eq!(call(slot, &settings, true, now), Some(Transition::Closed));
    now += 10 * SECOND - 1;
    assert_eq!(call(slot, &settings, false, now), Some(Transition::Opened));
    assert_eq!(allow(slot, &settings, 1, now).unwrap_err().retry_after, 6 * SECOND);
    // Calm for a window, it begins anew.
    now += 6 * SECOND;
    assert_eq!(call(slot, &settings, true, now), Some(Transition::Closed));
    now += 10 * SECOND;
    assert_eq!(call(slot, &settings, false, now), Some(Transition::Opened));
    assert_eq!(allow(slot, &settings, 1, now).unwrap_err().retry_after, SECOND);
    // A shorter open time in the document acts at once.
    let short = Breaker { open_for: SECOND / 2, open_for_max: SECOND / 2, ..settings };
    assert!(allow(slot, &short, 1, now).unwrap().is_probe());
}

#[test]
fn jitter_spreads_when_breakers_that_opened_together_are_asked_again() {
    let settings = Breaker { failures: 1, jitter: 200, ..USUAL };
    let words: Vec<_> = (0..64 * WIDTH).map(|_| AtomicU64::new(0)).collect();
    let times: Vec<u64> = (1..=32)
        .map(|key| {
            let slot = slot(&words, key);
            call(slot, &settings, false, 5);
            allow(slot, &settings, 1, 5).unwrap_err().retry_after
        })
        .collect();
    assert!(times.iter().all(|time| (30 * SECOND..=36 * SECOND).contains(time)), "{times:?}");
    let spread = times.iter().max().unwrap() - times.iter().min().unwrap();
    assert!(spread > 4 * SECOND, "{times:?}");
}

#[test]
fn forced_it_does_what_it_is_told_and_counts_nothing() {
    let settings = Breaker { failures: 1, probes: 2, closes_after: 1, ..USUAL };
    let words = words();
    let slot = slot(&words, 1);
    let before = allow(slot, &settings, 1, 0).unwrap();
    assert_eq!(force(slot, Some(Forced::Open)), State::Closed);
    assert_eq!(force(slot, Some(Forced::Open)), State::ForcedOpen);
    assert_eq!(report(slot, &settings, before, false, 0), None);
    for now in [0, 31 * SECOND, 1 << 50] {
        assert!(allow(slot, &settings, 1, now).is_err(), "no time ends it");
        assert_eq!(state(slot, &settings, now), State::ForcedOpen);
    }
    assert_eq!(force(slot, Some(Forced::Closed)), State::ForcedOpen);
    for _ in 0..100 {
        assert_eq!(call(slot, &settings, false, 0), None);
    }
    let during = allow(slot, &settings, 1, 0).unwrap();
    assert_eq!(force(slot, None), State::ForcedClosed);
    assert_eq!(force(slot, None), State::Closed, "there is nothing to end");
    assert_eq!(report(slot, &settings, during, false, 0), None, "it was let through by force");
    assert_eq!(call(slot, &settings, false, 0), Some(Transition::Opened));
    // A probe in flight says nothing once somebody has spoken, and what was open is closed after that.
    let probe = allow(slot, &settings, 1, 30 * SECOND).unwrap();
    force(slot, Some(Forced::Closed));
    assert_eq!(report(slot, &settings, probe, false, 30 * SECOND), None);
    assert_eq!(state(slot, &settings, 30 * SECOND), State::ForcedClosed);
    force(slot, None);
    assert_eq!(state(slot, &settings, 30 * SECOND), State::Closed);
}

/// The breaker as its description reads, for one caller at a time.
struct Model {
    settings: Breaker,
    state: State,
    era: u32,
    until: u64,
    successes: u32,
    /// How often it has opened since it was calm.
    times: u32,
    closed_at: u64,
    calls: Vec<u64>,
    failures: Vec<u64>,
    /// When each probe loses its place; `None` once it has ended.
    probes: Vec<Option<u64>>,
}

/// What the model gave out: the era, and the probe's number.
type Ticket = (u32, Option<usize>);

impl Model {
    fn change(&mut self, state: State) {
        (self.state, self.era, self.successes) = (state, self.era + 1, 0);
        self.calls.clear();
        self.failures.clear();
    }

    /// Opens for the time without jitter.
    fn open(&mut self, now: u64) -> Option<Transition> {
        if self.state == State::Closed && now - self.closed_at >= self.settings.window {
            self.times = 0;
        }
        let doubled = self.settings.open_for as u128 * (1u128 << self.times);
        let most = self.settings.open_for_max.max(self.settings.open_for);
        self.until = now + doubled.min(most.into()) as u64;
        self.times = (self.times + 1).min(31);
        self.change(State::Open);
        Some(Transition::Opened)
    }

    fn force(&mut self, forced: Option<Forced>) {
        let next = match forced {
            Some(Forced::Open) => State::ForcedOpen,
            Some(Forced::Closed) => State::ForcedClosed,
            None if matches!(self.state, State::ForcedOpen | State::ForcedClosed) => State::Closed,
            None => return,
        };
        if next != self.state {
            (self.times, self.closed_at) = (0, 0);
            self.change(next);
        }
    }

    fn allow(&mut self, now: u64) -> Result<Ticket, Option<u64>> {
        match self.state {
            State::Closed | State::ForcedClosed => return Ok((self.era, None)),
            State::ForcedOpen => return Err(Some(self.settings.open_for)),
            State::Open if now < self.until => return Err(Some(self.until - now)),
            State::Open => self.change(State::HalfOpen),
            State::HalfOpen => {}
        }
        if self.probes.iter().flatten().filter(|deadline| now < **deadline).count() >= self.settings.probes as usize {
            return Err(None);
        }
        self.probes.push(Some(now + self.settings.open_for));
        Ok((self.era, Some(self.probes.len() - 1)))
    }

    fn report(&mut self, (era, probe): Ticket, ok: bool, now: u64) -> Option<Transition> {
        let in_time = match probe {
            Some(probe) => self.probes[probe].take().is_some_and(|deadline| now < deadline),
            None => true,
        };
        if !in_time || era != self.era {
            return None;
        }
        match (self.state, ok) {
            (State::Closed, _) => {
                let Breaker { failures, failure_ratio, minimum_calls, window, .. } = self.settings;
                let part = |time: u64| time / window.div_ceil(32);
                let recent = |times: &[u64]| times.iter().filter(|time| part(now) - part(**time) < 32).count() as u64;
                self.calls.push(now);
                if ok {
                    return None;
                }
                self.failures.push(now);
                let (failed, called) = (recent(&self.failures), recent(&self.calls));
                let by_number = failures > 0 && failed >= failures.into();
                let by_share = failure_ratio > 0
                    && called >= minimum_calls.into()
                    && failed as f64 / called as f64 >= f64::from(failure_ratio) / 1_000.0;
                if by_number || by_share { self.open(now) } else { None }
            }
            (State::HalfOpen, false) => self.open(now),
            (State::HalfOpen, true) => {
                self.successes += 1;
                if self.successes < self.settings.closes_after {
                    return None;
                }
                self.change(State::Closed);
                self.closed_at = now;
                Some(Transition::Closed)
            }
            _ => None,
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Allow,
    Report(prop::sample::Index, bool),
    Cancel(prop::sample::Index),
    Wait(u64),
    Force(Option<Forced>),
}

fn step() -> impl Strategy<Value = Step> {
    let forced = prop_oneof![Just(Some(Forced::Open)), Just(Some(Forced::Closed)), Just(None), Just(None)];
    prop_oneof![
        24 => Just(Step::Allow),
        24 => (any::<prop::sample::Index>(), prop::bool::weighted(0.6)).prop_map(|(index, ok)| Step::Report(index, ok)),
        4 => any::<prop::sample::Index>().prop_map(Step::Cancel),
        8 => (0..400 * MILLISECOND).prop_map(Step::Wait),
        4 => (0..3 * SECOND).prop_map(Step::Wait),
        1 => forced.prop_map(Step::Force),
    ]
}

fn settings() -> impl Strategy<Value = Breaker> {
    let rules = prop_oneof![
        (1u32..4).prop_map(|failures| (failures, 0, 1)),
        (prop_oneof![Just(0), 2u32..8], 1u16..=1_000, 1u32..12),
    ];
    let times = (100 * MILLISECOND..2 * SECOND, prop_oneof![Just(0), 0..20 * SECOND]);
    (rules, 500 * MILLISECOND..4 * SECOND, times, prop_oneof![Just(0u16), 0u16..=1_000], 1u32..=16, 1u32..5).prop_map(
        |((failures, failure_ratio, minimum_calls), window, (open_for, more), jitter, probes, closes_after)| Breaker {
            failures,
            failure_ratio,
            minimum_calls,
            window,
            open_for,
            open_for_max: open_for + more,
            jitter,
            probes,
            closes_after,
            ..USUAL
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 1_500, ..ProptestConfig::default() })]

    #[test]
    fn a_breaker_is_its_description(
        settings in settings(),
        // Near the end of the 42 bits that words keep, too.
        start in prop_oneof![Just(0), (1u64 << 42) - 3 * SECOND..1 << 42],
        steps in prop::collection::vec(step(), 1..300),
    ) {
        let words = words();
        let slot = slot(&words, 7);
        let mut model = Model {
            settings,
            state: State::Closed,
            era: 0,
            until: 0,
            successes: 0,
            times: 0,
            closed_at: 0,
            calls: Vec::new(),
            failures: Vec::new(),
            probes: Vec::new(),
        };
        let mut now = start;
        let mut flying: Vec<(Permit, Ticket)> = Vec::new();
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Wait(micros) => now += micros,
                Step::Force(forced) => {
                    force(slot, forced);
                    model.force(forced);
                }
                Step::Allow => match (allow(slot, &settings, 3, now), model.allow(now)) {
                    (Ok(permit), Ok(ticket)) => {
                        prop_assert_eq!(permit.is_probe(), ticket.1.is_some());
                        flying.push((permit, ticket));
                    }
                    (Err(refused), Err(expected)) => {
                        prop_assert!(refused.retry_after > 0);
                        prop_assert!(expected.is_none_or(|expected| refused.retry_after == expected));
                    }
                    (ours, expected) => prop_assert!(false, "step {}: {:?}, not {:?}", number, ours, expected),
                },
                Step::Report(index, ok) if !flying.is_empty() => {
                    let (permit, ticket) = flying.swap_remove(index.index(flying.len()));
                    let ours = report(slot, &settings, permit, ok, now);
                    prop_assert_eq!(ours, model.report(ticket, ok, now), "step {}", number);
                    if ours == Some(Transition::Opened) {
                        // How much longer chance has it is between nothing and the jitter.
                        let exact = model.until - now;
                        let open = allow(slot, &settings, 3, now).unwrap_err().retry_after;
                        let most = exact + exact * u64::from(settings.jitter) / 1_000;
                        prop_assert!((exact..=most).contains(&open), "step {}: {} of {}", number, open, exact);
                        model.until = now + open;
                    }
                }
                Step::Cancel(index) if !flying.is_empty() => {
                    let (permit, ticket) = flying.swap_remove(index.index(flying.len()));
                    cancel(slot, permit);
                    ticket.1.map(|probe| model.probes[probe].take());
                }
                Step::Report(..) | Step::Cancel(_) => {}
            }
            prop_assert_eq!(state(slot, &settings, now), match model.state {
                State::Open if now >= model.until => State::HalfOpen,
                state => state,
            });
        }
    }
}

/// Threads count their successes at once: none is lost while the part of the window is the same.
#[test]
fn calls_of_many_threads_are_all_counted() {
    const EACH: u64 = 20_000;
    let settings = Breaker { failures: 0, failure_ratio: 1, minimum_calls: 1, ..USUAL };
    let words = words();
    let slot = slot(&words, 1);
    // The first makes the tally this part's; from then on all only add.
    call(slot, &settings, true, 0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..EACH).for_each(|_| assert!(call(slot, &settings, true, 0).is_none())));
        }
    });
    // 80,001 calls and then a failure each: a thousandth of them is reached with the 81st.
    let opened = (1..200).position(|_| call(slot, &settings, false, 0).is_some());
    assert_eq!(opened, Some(80));
}

#[test]
fn threads_never_have_more_probes_in_flight_than_allowed() {
    const THREADS: usize = 4;
    let words = words();
    let slot = slot(&words, 1);
    let settings = Breaker { failures: 1, probes: 3, closes_after: 40, ..USUAL };
    let (flying, most, closed) = (AtomicU32::new(0), AtomicU32::new(0), AtomicU32::new(0));
    let start = Barrier::new(THREADS);
    std::thread::scope(|scope| {
        for thread in 0..THREADS as u64 {
            let (flying, most, closed, start) = (&flying, &most, &closed, &start);
            scope.spawn(move || {
                for round in 1..=150 {
                    // Time stands still within a round, so that no probe is late.
                    let now = round * 100 * SECOND;
                    if thread == 0 {
                        let permit = allow(slot, &settings, 0, now - 50 * SECOND).unwrap();
                        assert!(!permit.is_probe());
                        report(slot, &settings, permit, false, now - 50 * SECOND);
                    }
                    start.wait();
                    loop {
                        match allow(slot, &settings, thread as u16, now) {
                            Ok(permit) if permit.is_probe() => {
                                let count = flying.fetch_add(1, SeqCst) + 1;
                                most.fetch_max(count, SeqCst);
                                std::hint::spin_loop();
                                flying.fetch_sub(1, SeqCst);
                                if report(slot, &settings, permit, true, now).is_some() {
                                    closed.fetch_add(1, SeqCst);
                                }
                            }
                            Ok(_) => break,
                            Err(_) => std::thread::yield_now(),
                        }
                    }
                    start.wait();
                }
            });
        }
    });
    assert!(most.into_inner() <= 3);
    assert_eq!(closed.into_inner(), 150, "each round closed once");
}

/// Of many threads that fail at once, one opens; of many probes that fail at once, one reopens.
#[test]
fn one_report_makes_the_change() {
    let words = words();
    let slot = slot(&words, 1);
    let settings = Breaker { failures: 8, probes: 16, ..USUAL };
    for round in 0..100 {
        let now = round * 100 * SECOND;
        let permits: Vec<_> = (0..8).map(|_| allow(slot, &settings, 0, now).unwrap()).collect();
        let opened: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = permits
                .chunks(4)
                .map(|part| {
                    scope.spawn(move || part.iter().filter_map(|p| report(slot, &settings, *p, false, now)).count())
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(opened, 1, "round {round}");
        assert_eq!(state(slot, &settings, now), State::Open);
        if round % 3 == 2 {
            for _ in 0..5 {
                let probe = allow(slot, &settings, 0, now + 40 * SECOND).unwrap();
                report(slot, &settings, probe, true, now + 40 * SECOND);
            }
            assert_eq!(state(slot, &settings, now + 40 * SECOND), State::Closed);
        }
    }
}

/// Children take probes and are killed with them, somewhere inside; the breaker is never stuck, and never has more
/// probes out than it may.
#[test]
fn killed_probers_lose_their_places() {
    let settings = Breaker { failures: 3, probes: 4, closes_after: u32::MAX, ..USUAL };
    // SAFETY: an anonymous mapping of that many bytes, zeroed and page-aligned by the kernel, never unmapped.
    let words: &'static [AtomicU64] = unsafe {
        let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
        let bytes = 4 * WIDTH * size_of::<AtomicU64>();
        let place = libc::mmap(std::ptr::null_mut(), bytes, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0);
        assert_ne!(place, libc::MAP_FAILED);
        std::slice::from_raw_parts(place.cast(), 4 * WIDTH)
    };
    let slot = slot(words, 1);
    let running = &words[2 * WIDTH];
    for _ in 0..3 {
        let permit = allow(slot, &settings, 0, 0).unwrap();
        report(slot, &settings, permit, false, 0);
    }
    let mut now = 30 * SECOND;
    for child in 1..60u16 {
        running.store(0, SeqCst);
        // SAFETY: the child touches only memory that exists already and leaves through a signal.
        let pid = unsafe { libc::fork() };
        assert!(pid >= 0);
        if pid == 0 {
            loop {
                if let Ok(permit) = allow(slot, &settings, child, now) {
                    report(slot, &settings, permit, true, now);
                }
                running.fetch_add(1, SeqCst);
            }
        }
        while running.load(SeqCst) < 100 + u64::from(child) {
            // SAFETY: our own child; a look that does not wait.
            let ended = unsafe { libc::waitpid(pid, std::ptr::null_mut(), libc::WNOHANG) };
            assert_eq!(ended, 0, "the child ended by itself");
        }
        // SAFETY: our own child, which is waited for.
        unsafe {
            libc::kill(pid, libc::SIGKILL);
            assert_eq!(libc::waitpid(pid, std::ptr::null_mut(), 0), pid);
        }
        if child % 2 == 0 {
            // The leader noticed …
            assert!(forget(slot, child) <= 1);
        } else {
            // … or the probes' time went by.
            now += settings.open_for;
        }
        let probes: Vec<_> = (0..4).map_while(|_| allow(slot, &settings, 0, now).ok()).collect();
        assert_eq!(probes.len(), 4, "after child {child}");
        assert!(allow(slot, &settings, 0, now).is_err());
        probes.into_iter().for_each(|probe| cancel(slot, probe));
    }
}
