//! Breakers against the recorded sequences, against a sequential model, and with threads and processes that die.
// Helpers of tests may fail as tests do; clippy knows only functions marked #[test].
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Barrier;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicU32, AtomicU64};

use gateway::breaker::{Breaker, State, Transition};
use gateway::state::tables::breaker::{Permit, WIDTH, allow, cancel, forget, report, state};
use gateway::state::tables::slot::{Slot, Slots};
use gateway::types::{MILLISECOND, SECOND};
use proptest::prelude::*;
use serde_json::Value;

const USUAL: Breaker = Breaker { failures: 10, window: 10 * SECOND, open_for: 30 * SECOND, probes: 5, closes_after: 5 };

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
            probes: number("half_open_max") as u32,
            closes_after: number("half_open_successes") as u32,
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
    let short = Breaker { open_for: 15 * SECOND, ..long };
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

/// The breaker as its description reads, for one caller at a time.
struct Model {
    settings: Breaker,
    state: State,
    era: u32,
    until: u64,
    successes: u32,
    failures: Vec<u64>,
    /// When each probe loses its place; `None` once it has ended.
    probes: Vec<Option<u64>>,
}

/// What the model gave out: the era, and the probe's number.
type Ticket = (u32, Option<usize>);

impl Model {
    fn change(&mut self, state: State) {
        (self.state, self.era, self.successes) = (state, self.era + 1, 0);
        self.failures.clear();
    }

    fn open(&mut self, now: u64) -> Option<Transition> {
        self.change(State::Open);
        self.until = now + self.settings.open_for;
        Some(Transition::Opened)
    }

    fn allow(&mut self, now: u64) -> Result<Ticket, Option<u64>> {
        if self.state == State::Open {
            if now < self.until {
                return Err(Some(self.until - now));
            }
            self.change(State::HalfOpen);
        }
        if self.state == State::Closed {
            return Ok((self.era, None));
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
            (State::Closed, false) => {
                let part = |time: u64| time / self.settings.window.div_ceil(32);
                self.failures.push(now);
                let recent = self.failures.iter().filter(|time| part(now) - part(**time) < 32).count();
                if recent >= self.settings.failures as usize { self.open(now) } else { None }
            }
            (State::HalfOpen, false) => self.open(now),
            (State::HalfOpen, true) => {
                self.successes += 1;
                if self.successes < self.settings.closes_after {
                    return None;
                }
                self.change(State::Closed);
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
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => Just(Step::Allow),
        6 => (any::<prop::sample::Index>(), prop::bool::weighted(0.6)).prop_map(|(index, ok)| Step::Report(index, ok)),
        1 => any::<prop::sample::Index>().prop_map(Step::Cancel),
        2 => (0..400 * MILLISECOND).prop_map(Step::Wait),
        1 => (0..3 * SECOND).prop_map(Step::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn a_breaker_is_its_description(
        failures in 1u32..4,
        probes in 1u32..=16,
        closes_after in 1u32..5,
        window in 500 * MILLISECOND..4 * SECOND,
        open_for in 100 * MILLISECOND..2 * SECOND,
        // Near the end of the 42 bits that words keep, too.
        start in prop_oneof![Just(0), (1u64 << 42) - 3 * SECOND..1 << 42],
        steps in prop::collection::vec(step(), 1..200),
    ) {
        let settings = Breaker { failures, window, open_for, probes, closes_after };
        let words = words();
        let slot = slot(&words, 7);
        let mut model = Model {
            settings,
            state: State::Closed,
            era: 0,
            until: 0,
            successes: 0,
            failures: Vec::new(),
            probes: Vec::new(),
        };
        let mut now = start;
        let mut flying: Vec<(Permit, Ticket)> = Vec::new();
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Wait(micros) => now += micros,
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
                }
                Step::Cancel(index) if !flying.is_empty() => {
                    let (permit, ticket) = flying.swap_remove(index.index(flying.len()));
                    cancel(slot, permit);
                    ticket.1.map(|probe| model.probes[probe].take());
                }
                Step::Report(..) | Step::Cancel(_) => {}
            }
        }
    }
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
