//! The counters of what is in flight under loom: every order of their steps, kills included.
#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "tests may")]

#[path = "support/atom.rs"]
mod atom;

use atom::{Atom, STRICT, TORN, WEAK};
use gateway::state::tables::gauge::Gauge;
use loom::sync::Arc;
use loom::sync::atomic::AtomicU64;
use loom::sync::atomic::Ordering::Relaxed;
use loom::thread;

fn model(body: impl Fn() + Sync + Send + 'static) {
    atom::model(3, body);
}

struct Words<const KIND: u8> {
    used: Atom<KIND>,
    cells: [Atom<KIND>; 2],
    inside: AtomicU64,
}

impl<const KIND: u8> Words<KIND> {
    fn new() -> Arc<Self> {
        let atom = || Atom::new(0);
        Arc::new(Self { used: atom(), cells: [atom(), atom()], inside: AtomicU64::new(0) })
    }

    fn gauge(&self) -> Gauge<'_, Atom<KIND>> {
        Gauge::new(&self.used, &self.cells)
    }

    /// Goes in and out again, and says whether it got in.
    fn visit(&self, worker: u32, most: u32) -> bool {
        if !self.gauge().enter_below(worker, most) {
            return false;
        }
        assert!(self.inside.fetch_add(1, Relaxed) < u64::from(most), "above the limit");
        self.inside.fetch_sub(1, Relaxed);
        self.gauge().leave(worker);
        true
    }
}

/// Worker 0 and `other` compete for the only place.
fn one_place<const KIND: u8>(other: u32) {
    model(move || {
        let words = Words::<KIND>::new();
        let twin = Arc::clone(&words);
        let first = thread::spawn(move || twin.visit(0, 1));
        words.visit(other, 1);
        first.join().unwrap();
        assert_eq!(words.gauge().count(), 0);
    });
}

#[test]
fn neighbours_in_a_word_never_share_a_place() {
    one_place::<WEAK>(1);
    one_place::<STRICT>(1);
}

#[test]
fn workers_of_different_words_never_share_a_place() {
    one_place::<WEAK>(4);
    one_place::<STRICT>(4);
}

#[test]
#[should_panic(expected = "left: 1")]
fn a_count_that_is_lost_is_found_out() {
    one_place::<TORN>(1);
}

/// What the model is worth: who looks first and counts itself then is caught.
#[test]
#[should_panic(expected = "above the limit")]
fn who_looks_before_it_counts_is_found_out() {
    model(|| {
        let words = Words::<STRICT>::new();
        let visit = |words: Arc<Words<STRICT>>, worker| {
            if words.gauge().count() < 1 && words.gauge().enter(worker) {
                assert!(words.inside.fetch_add(1, Relaxed) < 1, "above the limit");
                words.inside.fetch_sub(1, Relaxed);
                words.gauge().leave(worker);
            }
        };
        let twin = Arc::clone(&words);
        let first = thread::spawn(move || visit(twin, 0));
        visit(words, 4);
        first.join().unwrap();
    });
}

#[test]
fn three_workers_are_never_above_two() {
    model(|| {
        let words = Words::<WEAK>::new();
        let others: Vec<_> = [1, 4]
            .map(|worker| {
                let words = Arc::clone(&words);
                thread::spawn(move || words.visit(worker, 2))
            })
            .into();
        words.visit(0, 2);
        for other in others {
            other.join().unwrap();
        }
        assert_eq!(words.gauge().count(), 0);
    });
}

/// Worker 1 was killed while it held a place, or half-way there; its heir empties the cell while worker 0 comes and goes.
#[test]
fn a_dead_workers_place_comes_back_and_nobody_elses_goes() {
    model(|| {
        let words = Words::<WEAK>::new();
        assert!(words.gauge().enter(1));
        let heir = Arc::clone(&words);
        let heir = thread::spawn(move || {
            heir.gauge().forget(1);
            heir.gauge().enter_below(1, 2)
        });
        assert!(words.gauge().enter_below(0, 2), "the other place was free all the time");
        assert!(heir.join().unwrap());
        assert_eq!(words.gauge().count(), 2);
        words.gauge().leave(0);
        assert_eq!(words.gauge().count(), 1);
    });
}
