//! Breakers under loom: every order in which two processes ask, report, force and inherit.
#![allow(clippy::unwrap_used, reason = "tests may")]

#[path = "support/atom.rs"]
mod atom;

use atom::{Atom, Room, STRICT, TORN, WEAK, both, model};
use gateway::breaker::{Breaker, Forced, State, Transition};
use gateway::state::tables::breaker::{Permit, WIDTH, allow, force, forget, report, state};
use gateway::state::tables::slot::{Slot, Slots};
use gateway::types::SECOND;
use loom::sync::Arc;

const USUAL: Breaker = Breaker {
    failures: 2,
    failure_ratio: 0,
    minimum_calls: 1,
    slow_call: 0,
    window: 10 * SECOND,
    open_for: 30 * SECOND,
    open_for_max: 30 * SECOND,
    jitter: 0,
    probes: 1,
    closes_after: 2,
};
const BEFORE: u64 = 1_000 * SECOND;
/// A breaker that opened `BEFORE` is half-open.
const NOW: u64 = BEFORE + 31 * SECOND;

type Words<const KIND: u8> = Arc<Vec<Atom<KIND>>>;

fn new<const KIND: u8>() -> Words<KIND> {
    let words = Atom::words(WIDTH);
    Slots::new(&words, WIDTH).claim(7).unwrap();
    words
}

fn slot<const KIND: u8>(words: &Words<KIND>) -> Slot<'_, Atom<KIND>> {
    Slots::new(words, WIDTH).owned(0, 7).unwrap()
}

/// One that opened `BEFORE`.
fn opened<const KIND: u8>(settings: &Breaker) -> Words<KIND> {
    let words = new();
    for _ in 0..settings.failures {
        let permit = allow(slot(&words), settings, 0, BEFORE).unwrap();
        report(slot(&words), settings, permit, false, BEFORE);
    }
    assert_eq!(state(slot(&words), settings, BEFORE), State::Open);
    words
}

/// Two processes at the same time, with their numbers, at one breaker.
fn two<const KIND: u8, T: 'static>(
    words: &Words<KIND>,
    step: impl Fn(Slot<'_, Atom<KIND>>, u16) -> T + Clone + 'static,
) -> [T; 2] {
    let (twin, same) = (Arc::clone(words), step.clone());
    let (one, other) = both(move || same(slot(&twin), 1), || step(slot(words), 2));
    [one, other]
}

fn failures_at_once<const KIND: u8>() {
    model(3, || {
        let words = new::<KIND>();
        let told = two(&words, |slot, worker| {
            let permit = allow(slot, &USUAL, worker, NOW).unwrap();
            report(slot, &USUAL, permit, false, NOW)
        });
        assert_eq!(told.iter().flatten().count(), 1, "{told:?}: it opens once");
        assert_eq!(state(slot(&words), &USUAL, NOW), State::Open);
    });
}

#[test]
fn failures_at_once_open_it_once() {
    failures_at_once::<WEAK>();
    failures_at_once::<STRICT>();
}

#[test]
#[should_panic(expected = "it opens once")]
fn a_failure_that_is_lost_is_found_out() {
    failures_at_once::<TORN>();
}

/// Successes are added without any order; still whoever adds the last failure sees all calls that came before each.
fn shares_at_once<const KIND: u8>() {
    const HALF: Breaker = Breaker { failures: 0, failure_ratio: 500, minimum_calls: 4, ..USUAL };
    model(2, || {
        let words = new::<KIND>();
        let told = two(&words, |slot, worker| {
            for ok in [true, false] {
                let permit = allow(slot, &HALF, worker, NOW).unwrap();
                if let Some(change) = report(slot, &HALF, permit, ok, NOW) {
                    return Some(change);
                }
            }
            None
        });
        assert_eq!(told.iter().flatten().count(), 1, "{told:?}: two of four failed");
        assert_eq!(state(slot(&words), &HALF, NOW), State::Open);
    });
}

#[test]
fn no_call_is_lost_from_a_share() {
    shares_at_once::<WEAK>();
    shares_at_once::<STRICT>();
}

#[test]
#[should_panic(expected = "two of four failed")]
fn a_call_that_is_lost_is_found_out() {
    shares_at_once::<TORN>();
}

/// In a window that goes on to its next part, whoever is still in the last one: both failures count.
#[test]
fn a_window_moves_on_meanwhile() {
    model(2, || {
        let words = new::<STRICT>();
        let told = two(&words, |slot, worker| {
            let now = NOW + u64::from(worker) * SECOND;
            let permit = allow(slot, &USUAL, worker, now).unwrap();
            report(slot, &USUAL, permit, false, now)
        });
        assert_eq!(told.iter().flatten().count(), 1, "{told:?}");
    });
}

/// A failed probe opens it: no other is let through, neither beside it nor after it.
fn one_probe<const KIND: u8>() {
    model(3, || {
        let words = opened::<KIND>(&USUAL);
        let room = Room::new(1);
        let told = two(&words, move |slot, worker| {
            let permit = allow(slot, &USUAL, worker, NOW).ok()?;
            assert!(permit.is_probe());
            room.visit();
            Some(report(slot, &USUAL, permit, false, NOW))
        });
        assert_eq!(told.iter().flatten().count(), 1, "{told:?}: one got in");
        assert_eq!(told.iter().flatten().flatten().count(), 1, "{told:?}: and it opened");
        assert_eq!(state(slot(&words), &USUAL, NOW), State::Open);
    });
}

#[test]
fn a_probe_is_alone_and_none_comes_after_its_failure() {
    one_probe::<WEAK>();
    one_probe::<STRICT>();
}

#[test]
#[should_panic(expected = "got in")]
fn two_probes_in_one_place_are_found_out() {
    one_probe::<TORN>();
}

/// Two probes that end at the same time, each in its way.
fn probes_end<const KIND: u8>(ends: [bool; 2], expected: (State, Transition)) {
    const TWO: Breaker = Breaker { probes: 2, ..USUAL };
    model(3, move || {
        let words = opened::<KIND>(&TWO);
        let permits: [Permit; 2] = [1, 2].map(|worker| allow(slot(&words), &TWO, worker, NOW).unwrap());
        let told = two(&words, move |slot, worker| {
            let index = usize::from(worker == 2);
            let (permit, ok) = if index == 0 { (permits[0], ends[0]) } else { (permits[1], ends[1]) };
            report(slot, &TWO, permit, ok, NOW)
        });
        let changes: Vec<Transition> = told.into_iter().flatten().collect();
        assert_eq!(changes, [expected.1], "{ends:?}");
        assert_eq!(state(slot(&words), &TWO, NOW), expected.0, "{ends:?}");
        assert_eq!([1, 2].map(|worker| forget(slot(&words), worker)), [0, 0], "places are free");
    });
}

#[test]
fn probes_that_end_at_once_all_count() {
    probes_end::<WEAK>([true, true], (State::Closed, Transition::Closed));
    probes_end::<STRICT>([true, true], (State::Closed, Transition::Closed));
    probes_end::<WEAK>([true, false], (State::Open, Transition::Opened));
    probes_end::<STRICT>([true, false], (State::Open, Transition::Opened));
    probes_end::<WEAK>([false, false], (State::Open, Transition::Opened));
    probes_end::<STRICT>([false, false], (State::Open, Transition::Opened));
}

#[test]
#[should_panic(expected = "[true, true]")]
fn a_success_that_is_lost_is_found_out() {
    probes_end::<TORN>([true, true], (State::Closed, Transition::Closed));
}

/// Whatever was reported at that moment: it does what somebody says.
fn forced<const KIND: u8>(said: Forced, expected: State) {
    const ONE: Breaker = Breaker { failures: 1, ..USUAL };
    model(3, move || {
        let words = new::<KIND>();
        let permit = allow(slot(&words), &ONE, 1, NOW).unwrap();
        two(&words, move |slot, worker| match worker {
            1 => drop(report(slot, &ONE, permit, false, NOW)),
            _ => drop(force(slot, Some(said))),
        });
        assert_eq!(state(slot(&words), &ONE, NOW), expected, "what is said stands");
        assert_eq!(force(slot(&words), None), expected);
        assert_eq!(report(slot(&words), &ONE, permit, false, NOW), None, "a permit of another era");
        assert_eq!(state(slot(&words), &ONE, NOW), State::Closed);
    });
}

#[test]
fn what_is_forced_stands_whatever_is_reported() {
    forced::<WEAK>(Forced::Open, State::ForcedOpen);
    forced::<STRICT>(Forced::Open, State::ForcedOpen);
    forced::<WEAK>(Forced::Closed, State::ForcedClosed);
    forced::<STRICT>(Forced::Closed, State::ForcedClosed);
}

#[test]
#[should_panic(expected = "what is said stands")]
fn a_report_over_a_forced_state_is_found_out() {
    forced::<TORN>(Forced::Open, State::ForcedOpen);
}

/// Worker 1 was killed with a probe in flight. Its heir gives the place back while worker 2 wants one.
fn inherited<const KIND: u8>() {
    model(3, || {
        let words = opened::<KIND>(&USUAL);
        let dead = allow(slot(&words), &USUAL, 1, NOW).unwrap();
        assert!(dead.is_probe());
        let room = Room::new(1);
        let inside = two(&words, move |slot, worker| {
            let freed = if worker == 1 { forget(slot, 1) } else { 0 };
            let permit = allow(slot, &USUAL, worker, NOW).ok();
            if permit.is_some() {
                room.visit();
                room.visit();
            }
            assert!(freed <= 1);
            permit
        });
        assert!(inside.iter().flatten().count() == 1, "{inside:?}: one place, which is free again");
        assert_eq!([1, 2].map(|worker| forget(slot(&words), worker)).iter().sum::<u32>(), 1);
    });
}

#[test]
fn a_dead_probers_place_is_inherited_once() {
    inherited::<WEAK>();
    inherited::<STRICT>();
}

#[test]
#[should_panic(expected = "one place")]
fn a_place_that_is_inherited_twice_is_found_out() {
    inherited::<TORN>();
}
