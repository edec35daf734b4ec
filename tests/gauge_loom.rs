//! The counters of what is in flight under loom: every order of their steps, kills included.
#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "tests may")]

use gateway::state::tables::gauge::{Gauge, Word};
use loom::sync::Arc;
use loom::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, SeqCst};
use loom::sync::atomic::{AtomicU64, fence};
use loom::thread;

/// At most three preemptions, or as many as `LOOM_MAX_PREEMPTIONS` says.
fn model(body: impl Fn() + Sync + Send + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound.get_or_insert(3);
    model.check(body);
}

/// Loom takes sequentially consistent accesses for acquire and release; fences around them stand for what is missing.
struct Atom(AtomicU64);

impl Word for Atom {
    fn load(&self) -> u64 {
        fence(SeqCst);
        self.0.load(Acquire)
    }

    fn add(&self, more: u64) -> u64 {
        let before = self.0.fetch_add(more, AcqRel);
        fence(SeqCst);
        before
    }

    fn set(&self, bits: u64) {
        self.0.fetch_or(bits, AcqRel);
        fence(SeqCst);
    }

    fn exchange(&self, old: u64, new: u64) -> Result<u64, u64> {
        self.0.compare_exchange(old, new, AcqRel, Acquire)
    }
}

struct Words {
    used: Atom,
    cells: [Atom; 2],
    inside: AtomicU64,
}

impl Words {
    fn new() -> Arc<Self> {
        let atom = || Atom(AtomicU64::new(0));
        Arc::new(Self { used: atom(), cells: [atom(), atom()], inside: AtomicU64::new(0) })
    }

    fn gauge(&self) -> Gauge<'_, Atom> {
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
fn one_place(other: u32) {
    model(move || {
        let words = Words::new();
        let twin = Arc::clone(&words);
        let first = thread::spawn(move || twin.visit(0, 1));
        words.visit(other, 1);
        first.join().unwrap();
        assert_eq!(words.gauge().count(), 0);
    });
}

#[test]
fn neighbours_in_a_word_never_share_a_place() {
    one_place(1);
}

#[test]
fn workers_of_different_words_never_share_a_place() {
    one_place(4);
}

#[test]
fn three_workers_are_never_above_two() {
    model(|| {
        let words = Words::new();
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
        let words = Words::new();
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
