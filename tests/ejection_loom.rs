//! Ejections under loom: every order in which processes and the leader take peers out and bring them back.
#![allow(clippy::unwrap_used, reason = "tests may")]

#[path = "support/atom.rs"]
mod atom;

use atom::{Atom, STRICT, TORN, WEAK, both, model};
use gateway::balancer::{Cause, Outcome, Statistics};
use gateway::state::tables::peers::{self, News, Peers};
use gateway::state::tables::upstreams::{self, Upstream, Upstreams};
use gateway::types::SECOND;
use loom::sync::Arc;

const NOW: u64 = 1_000 * SECOND;
/// Every ejection of `NOW` is over.
const LATER: u64 = NOW + 40 * SECOND;

/// An upstream with peers at slots 0 and 1.
#[derive(Clone)]
struct Words<const KIND: u8>(Arc<Vec<Atom<KIND>>>, Arc<Vec<Atom<KIND>>>);

impl<const KIND: u8> Words<KIND> {
    fn new() -> Self {
        let words = Self(Atom::words(upstreams::WIDTH), Atom::words(2 * peers::WIDTH));
        Upstreams::new(&words.0).claim(7).unwrap();
        let mut slots = [1, 2].map(|key| words.peers().claim(key));
        slots.sort_unstable();
        assert_eq!(slots, [0, 1]);
        words
    }

    fn upstream(&self) -> Upstream<'_, Atom<KIND>> {
        Upstreams::new(&self.0).owned(0, 7).unwrap()
    }

    fn peers(&self) -> Peers<'_, Atom<KIND>> {
        Peers::new(&self.1)
    }

    fn eject(&self, slot: u32, most: u32, now: u64) -> bool {
        self.upstream().eject(self.peers(), slot, Cause::Failures, most, now)
    }

    fn out(&self, now: u64) -> u32 {
        [0, 1].iter().filter(|slot| self.peers().ejected(**slot, now).is_some()).count() as u32
    }

    /// What the leader does: it counts who is out, tells, and sets the number right.
    fn lead(&self, now: u64) -> Vec<News> {
        let told = [0, 1].into_iter().filter_map(|slot| self.peers().news(slot, now)).collect();
        let out = self.out(now);
        self.upstream().settle(out, now);
        told
    }
}

fn two_ejectors<const KIND: u8>(slots: [u32; 2], most: u32, expected: u32) {
    model(3, move || {
        let words = Words::<KIND>::new();
        let twin = words.clone();
        let (one, other) = both(move || twin.eject(slots[0], most, NOW), || words.eject(slots[1], most, NOW));
        assert_eq!(words.out(NOW), expected, "out");
        assert_eq!(u32::from(one) + u32::from(other), expected, "who says so");
        assert_eq!(words.upstream().ejections(), u64::from(expected));
        // Nobody's place is lost: the other peer can go at once where one more may.
        if slots[0] == slots[1] {
            assert!(words.eject(1 - slots[0], most, NOW), "a place was lost");
        }
    });
}

#[test]
fn two_at_once_stay_below_the_ceiling() {
    two_ejectors::<WEAK>([0, 1], 1, 1);
    two_ejectors::<STRICT>([0, 1], 1, 1);
    two_ejectors::<STRICT>([0, 1], 2, 2);
}

#[test]
fn two_who_eject_the_same_peer_take_one_place() {
    two_ejectors::<WEAK>([0, 0], 2, 1);
    two_ejectors::<STRICT>([0, 0], 2, 1);
}

#[test]
#[should_panic(expected = "out")]
fn a_place_that_is_taken_twice_is_found_out() {
    two_ejectors::<TORN>([0, 1], 1, 1);
}

#[test]
#[should_panic(expected = "who says so")]
fn a_peer_that_is_ejected_twice_is_found_out() {
    two_ejectors::<TORN>([0, 0], 2, 1);
}

/// What the model is worth: who counts first who is out, and ejects then, is caught.
#[test]
#[should_panic(expected = "above the ceiling")]
fn who_looks_before_it_ejects_is_found_out() {
    model(3, || {
        let words = Words::<STRICT>::new();
        let eject =
            |words: &Words<STRICT>, slot| words.out(NOW) < 1 && words.peers().eject_failing(slot, Cause::Failures, NOW);
        let twin = words.clone();
        both(move || eject(&twin, 0), || eject(&words, 1));
        assert!(words.out(NOW) <= 1, "above the ceiling");
    });
}

/// An ejection is over. The leader sees it, tells it and frees its place while a process wants one.
fn comes_back<const KIND: u8>() {
    model(2, || {
        let words = Words::<KIND>::new();
        assert!(words.eject(0, 1, NOW));
        assert_eq!(words.lead(NOW), [News::Out]);
        let twin = words.clone();
        let (told, _) = both(move || twin.lead(LATER), || words.eject(1, 1, LATER));
        let later = LATER + 2 * SECOND;
        let told = [told, words.lead(later)].concat();
        assert_eq!(told.iter().filter(|news| **news == News::Back).count(), 1, "told once");
        // Whoever was refused gets its place once the leader has been there, and nobody another.
        let waits = words.upstream().ejections() == 1;
        assert_eq!(words.eject(1, 1, later), waits);
        assert_eq!(words.out(later), 1);
    });
}

#[test]
fn a_place_is_free_again_when_the_leader_says_so() {
    comes_back::<WEAK>();
    comes_back::<STRICT>();
}

/// Somebody brings a peer back by hand while another process ejects it or its sibling.
fn by_hand<const KIND: u8>(slot: u32) {
    model(3, move || {
        let words = Words::<KIND>::new();
        assert!(words.eject(0, 1, NOW));
        let twin = words.clone();
        let (_, done) = both(move || twin.peers().eject(0, NOW, NOW), || words.eject(slot, 2, NOW));
        // Whether it was out still when it was to be ejected, or again by then, or not.
        assert_eq!(words.out(NOW), u32::from(done));
        assert!(done || slot == 0, "its sibling is nobody else's");
        words.lead(NOW + 2 * SECOND);
        let out = words.out(NOW + 2 * SECOND);
        for slot in [0, 1] {
            words.eject(slot, 1, NOW + 2 * SECOND);
        }
        assert_eq!((out, words.out(NOW + 2 * SECOND)), (u32::from(done), 1), "no place is lost, none there twice");
    });
}

#[test]
fn a_peer_that_is_brought_back_by_hand_is_back() {
    for slot in [0, 1] {
        by_hand::<WEAK>(slot);
        by_hand::<STRICT>(slot);
    }
}

/// The former process of worker slot 1 was killed with a try in flight.
fn statistics<const KIND: u8>() {
    model(3, || {
        let words = Words::<KIND>::new();
        words.peers().started(0, 1);
        let twin = words.clone();
        both(
            move || {
                twin.peers().forget(1);
                let peer = twin.peers().started(0, 1);
                twin.peers().observe(peer, Outcome::Failure, NOW);
                twin.peers().finished(peer);
            },
            || {
                let peer = words.peers().started(0, 0);
                words.peers().observe(peer, Outcome::Failure, NOW);
                words.peers().finished(peer);
            },
        );
        let calls = words.peers().calls(0).unwrap();
        assert_eq!((calls.ended, calls.failed, words.peers().in_flight(0)), (3, 2, 0), "counts");
        assert!(words.peers().standing(0, NOW).errors > 0.0);
    });
}

#[test]
fn counts_of_a_peer_are_exact() {
    statistics::<WEAK>();
    statistics::<STRICT>();
}

#[test]
#[should_panic(expected = "counts")]
fn a_count_that_is_lost_is_found_out() {
    statistics::<TORN>();
}

/// A peer goes while a try begins at it, and another peer gets its slot.
fn another_peer<const KIND: u8>(limited: bool) {
    model(2, move || {
        let words = Words::<KIND>::new();
        let key = words.peers().peer(0, 0).key;
        let twin = words.clone();
        both(
            move || {
                twin.peers().sweep(|other| other != key, NOW);
                assert_eq!(twin.peers().claim(3), 0);
            },
            || {
                let peer = match limited {
                    true => words.peers().started_below(0, 5, 9).unwrap(),
                    false => words.peers().started(0, 5),
                };
                words.peers().finished(peer);
            },
        );
        assert_eq!(words.peers().in_flight(0), 0, "nobody gives that back");
    });
}

#[test]
fn a_late_try_is_not_counted_at_another_peer() {
    for limited in [false, true] {
        another_peer::<WEAK>(limited);
        another_peer::<STRICT>(limited);
    }
}
