//! Slots, buckets, nonces, places and loads under loom: every order in which processes claim, charge, bring, enter,
//! sample and give back.
#![allow(clippy::unwrap_used, reason = "tests may")]

#[path = "support/atom.rs"]
mod atom;

use atom::{Atom, Room, STRICT, TORN, WEAK, both, model};
use gateway::limiter::Quota;
use gateway::overload::{Mode, Overload};
use gateway::state::tables::nonce::{Nonce, Nonces};
use gateway::state::tables::overload::Loads;
use gateway::state::tables::places::{self, Place, Places};
use gateway::state::tables::rate::{Outcome, RateTable};
use gateway::state::tables::slot::Slots;
use gateway::types::{MILLISECOND, SECOND};
use loom::sync::Arc;

/// Two slots of two words: keys 5 and 10 begin at the same one.
fn slots<const KIND: u8>(words: &[Atom<KIND>]) -> Slots<'_, Atom<KIND>> {
    Slots::new(words, 2)
}

fn claimers<const KIND: u8>(keys: [u64; 2], sweeps: bool) {
    model(2, move || {
        let words = Atom::<KIND>::words(4);
        let twin = Arc::clone(&words);
        let claim = |words: &[Atom<KIND>], key| slots(words).claim(key).map(|(index, _)| index);
        let (one, other) = both(
            move || {
                let swept = if sweeps { slots(&twin).sweep(|_| true) } else { 0 };
                assert!(swept <= 1);
                claim(&twin, keys[0])
            },
            || claim(&words, keys[1]),
        );
        let (one, other) = (one.unwrap(), other.unwrap());
        assert_eq!(one == other, keys[0] == keys[1], "a slot for each key");
        assert_eq!(slots(&words).iter().count(), if one == other { 1 } else { 2 }, "no more");
        for (key, index) in [(keys[0], one), (keys[1], other)] {
            assert_eq!(slots(&words).find(key).map(|(index, _)| index), Some(index), "who has it keeps it");
        }
    });
}

#[test]
fn two_claim_one_key_or_two() {
    for keys in [[5, 5], [5, 10]] {
        claimers::<WEAK>(keys, false);
        claimers::<STRICT>(keys, false);
    }
}

#[test]
fn the_leader_sweeps_while_another_claims() {
    claimers::<STRICT>([5, 5], true);
    claimers::<STRICT>([5, 10], true);
}

#[test]
#[should_panic(expected = "a slot for each key")]
fn a_slot_that_is_taken_twice_is_found_out() {
    claimers::<TORN>([5, 10], false);
}

const fn place(worker: u32, key: u64) -> Place {
    Place { slot: 0, worker, key }
}

fn new_place<const KIND: u8>(key: u64) -> Arc<Vec<Atom<KIND>>> {
    let words = Atom::words(places::WIDTH);
    assert_eq!(Places::new(&words).claim(key), Some(0));
    words
}

/// Two workers at the last place of a route; one of them is heir to a dead one that had it.
fn last_place<const KIND: u8>(heir: bool) {
    model(2, move || {
        let words = new_place::<KIND>(7);
        if heir {
            assert!(Places::new(&words).enter(place(1, 7), 1).is_some());
        }
        let room = Room::new(1);
        let visit = |words: &[Atom<KIND>], worker, room: &Room| {
            let places = Places::new(words);
            if let Some(taken) = places.enter(place(worker, 7), 1) {
                room.visit();
                places.leave(taken);
            }
        };
        let (twin, theirs) = (Arc::clone(&words), Arc::clone(&room));
        both(
            move || {
                if heir {
                    Places::new(&twin).forget(1);
                }
                visit(&twin, 1, &theirs);
            },
            || visit(&words, 0, &room),
        );
        assert_eq!(Places::new(&words).count(0, 7), Some(0), "all is given back");
    });
}

#[test]
fn the_last_place_is_taken_once() {
    for heir in [false, true] {
        last_place::<WEAK>(heir);
        last_place::<STRICT>(heir);
    }
}

#[test]
#[should_panic(expected = "all is given back")]
fn a_place_that_is_lost_is_found_out() {
    last_place::<TORN>(false);
}

/// The limit of a route goes while a request takes or gives back a place of it, and another route's gets the slot.
fn another_span<const KIND: u8>(before: bool) {
    model(3, move || {
        let words = new_place::<KIND>(7);
        let places = Places::new(&words);
        let held = before.then(|| places.enter(place(0, 7), 9).unwrap());
        let twin = Arc::clone(&words);
        both(
            move || {
                let places = Places::new(&twin);
                places.sweep(|_| false);
                assert_eq!(places.claim(8), Some(0));
                assert!(places.enter(place(1, 8), 9).is_some());
            },
            || {
                let held = held.or_else(|| places.enter(place(0, 7), 9)).unwrap();
                places.leave(held);
            },
        );
        assert_eq!(places.count(0, 8), Some(1), "what belongs to the new route");
    });
}

#[test]
fn a_late_request_neither_takes_nor_gives_what_is_anothers() {
    for before in [true, false] {
        another_span::<WEAK>(before);
        another_span::<STRICT>(before);
    }
}

const SETTINGS: Overload = Overload { mode: Mode::Enforce, min: 2, max: 100, tolerance: 2 };

/// Two add the samples that end a window, and both want to end it.
fn windows<const KIND: u8>() {
    model(2, || {
        let words = new_place::<KIND>(7);
        let sample = |words: &[Atom<KIND>], worker, ms, now| {
            let loads = Loads::new(words);
            if loads.sample(place(worker, 7), ms * MILLISECOND, now) {
                loads.end_window(place(worker, 7), &SETTINGS, now);
            }
        };
        // The first one begins when it ends; so many are under way that the limit of the second is used.
        (0..1_010).for_each(|_| sample(&words, 0, 1, SECOND));
        let now = SECOND + 200 * MILLISECOND;
        let twin = Arc::clone(&words);
        both(
            move || sample(&twin, 1, 1, now),
            || {
                sample(&words, 0, 1, now);
                // Of the next window, which is not over: alone it would call for less.
                sample(&words, 0, 400, now);
            },
        );
        let limit = Loads::new(&words).load(place(0, 7)).unwrap().state.limit(&SETTINGS);
        // Once from 2, by half of that at most.
        assert!((limit - 3.0).abs() < 0.01, "the limit moved to {limit}");
    });
}

#[test]
fn a_window_moves_the_limit_once() {
    windows::<WEAK>();
    windows::<STRICT>();
}

#[test]
#[should_panic(expected = "the limit moved to")]
fn a_window_that_ends_twice_is_found_out() {
    windows::<TORN>();
}

/// Buckets of two tokens in a group of eight.
fn charge<const KIND: u8>(words: &[Atom<KIND>], key: u64, now: u64) -> bool {
    let quota = Quota::new(1, 3_600 * SECOND, 2).unwrap();
    matches!(RateTable::new(words).take(key, &quota, 1, now), Outcome::Taken(_))
}

/// Two charge a key each, twice: new ones, or those that were there before.
fn charges<const KIND: u8>(keys: [u64; 2], before: bool) {
    model(2, move || {
        let words = Atom::<KIND>::words(16);
        let mut taken = 0;
        if before {
            taken += u32::from(charge(&words, keys[0], SECOND));
        }
        let twice =
            move |words: &[Atom<KIND>], key| [0, 1].map(|_| u32::from(charge(words, key, SECOND))).iter().sum::<u32>();
        let twin = Arc::clone(&words);
        let (one, other) = both(move || twice(&twin, keys[0]), || twice(&words, keys[1]));
        taken += one + other;
        assert_eq!(taken, if keys[0] == keys[1] { 2 } else { 4 }, "as many tokens as there are");
        assert!(keys.iter().all(|key| !charge(&words, *key, SECOND)), "and none is left");
    });
}

#[test]
fn of_a_bucket_no_more_is_taken_than_is_there() {
    charges::<WEAK>([5, 5], false);
    charges::<STRICT>([5, 5], false);
    charges::<STRICT>([5, 5], true);
    charges::<STRICT>([5, 6], false);
}

#[test]
#[should_panic(expected = "as many tokens as there are")]
fn a_token_that_is_taken_twice_is_found_out() {
    charges::<TORN>([5, 5], true);
}

/// The leader frees what is full again while it is charged, by its own key or another's.
#[test]
fn a_bucket_that_is_swept_is_charged_all_the_same() {
    for key in [5, 6] {
        model(2, move || {
            let words = Atom::<STRICT>::words(16);
            assert!(charge(&words, 5, SECOND));
            let now = 10_000 * SECOND;
            let twin = Arc::clone(&words);
            both(move || RateTable::new(&twin).sweep(0, 1, now), || assert!(charge(&words, key, now)));
            assert!(charge(&words, key, now) && !charge(&words, key, now), "one token of two was left");
        });
    }
}

fn bring<const KIND: u8>() {
    model(2, || {
        let words = Atom::<KIND>::words(8);
        let twin = Arc::clone(&words);
        let insert = |words: &[Atom<KIND>], worker| Nonces::new(words, [3, 4]).insert(b"once", 1_000, 1_300, worker);
        let (one, other) = both(move || insert(&twin, 1), || insert(&words, 2));
        assert_eq!([one, other].iter().filter(|found| **found == Nonce::Fresh).count(), 1, "fresh: {one:?} {other:?}");
        assert_eq!(insert(&words, 3), Nonce::Replayed);
        assert_eq!(Nonces::new(&words, [3, 4]).sweep(0, 8, 1_000), 1);
    });
}

#[test]
fn a_nonce_is_fresh_once() {
    bring::<WEAK>();
    bring::<STRICT>();
}

#[test]
#[should_panic(expected = "fresh: Fresh Fresh")]
fn a_nonce_that_is_fresh_twice_is_found_out() {
    bring::<TORN>();
}
