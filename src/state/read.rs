//! Readers: whoever looks at the policy, by entering the generation that is published.

use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use crate::types::{Id, Kind, Method, Object};

use super::block::Root;
use super::epoch;
use super::identity::Identity;
use super::mem::Region;
use super::route::{Captures, Lookup, RouteRef};
use super::tree::{Blob, Tree};

/// Words of a worker slot.
const ANNOUNCE: usize = 0;
const OWNER: usize = 1;
const IN_FLIGHT: usize = 2;

/// A thread's seat among the readers of a region. One for each thread that reads, made after the fork; the seat is
/// given back on drop, and taken from a process that died.
pub struct Reader {
    region: Region,
    slot: u32,
    me: u64,
    /// How many views there are, and the word that the first of them announced.
    depth: Cell<u32>,
    word: Cell<u64>,
}

impl Reader {
    /// Takes a free seat, or a dead process's; `None` when all are taken by the living.
    #[must_use]
    pub fn claim(region: Region, identity: Identity) -> Option<Self> {
        let me = identity.word();
        let is_alive = |word| Identity::from_word(word).is_alive();
        // Free seats first: to find out who is dead costs system calls.
        let take = |slot: &u32, only_free: bool| match region.slot_words(*slot) {
            [announce, owner, in_flight, ..] => {
                let open = !only_free || owner.load(Relaxed) == 0;
                let taken = open && epoch::claim(owner, announce, me, is_alive);
                if taken {
                    in_flight.store(0, Relaxed);
                }
                taken
            }
            _ => false,
        };
        let slots = 0..region.workers();
        let slot =
            slots.clone().find(|slot| take(slot, true)).or_else(|| slots.clone().find(|slot| take(slot, false)))?;
        Some(Self { region, slot, me, depth: Cell::new(0), word: Cell::new(0) })
    }

    /// Takes a seat whose owner died without giving it back; `None` when there is none. Whoever reaps it finds what the
    /// dead one left under that number.
    #[must_use]
    pub fn claim_dead(region: Region, identity: Identity) -> Option<Self> {
        let me = identity.word();
        let is_alive = |word| Identity::from_word(word).is_alive();
        let slot = (0..region.workers()).find(|slot| match region.slot_words(*slot) {
            [announce, owner, ..] => owner.load(Relaxed) != 0 && epoch::claim(owner, announce, me, is_alive),
            _ => false,
        })?;
        Some(Self { region, slot, me, depth: Cell::new(0), word: Cell::new(0) })
    }

    /// Ends as a process does that is killed: nothing is given back, and whoever asks finds the seat's owner dead;
    /// `inside`: while it was in a generation. For simulators, whose workers share one process.
    pub fn die(self, inside: bool) {
        if inside {
            std::mem::forget(self.enter());
        }
        self.seat_word(OWNER).store(Identity::NOBODY.word(), Release);
        std::mem::forget(self);
    }

    /// The number of the seat, which is also that of the metric shard.
    #[must_use]
    #[inline]
    pub fn slot(&self) -> u32 {
        self.slot
    }

    /// The region.
    #[must_use]
    #[inline]
    pub fn region(&self) -> &Region {
        &self.region
    }

    /// How many requests the thread has under way. It dies with the seat's owner, so a killed worker's requests do
    /// not count for ever.
    #[must_use]
    #[inline]
    pub fn in_flight(&self) -> &AtomicU64 {
        self.seat_word(IN_FLIGHT)
    }

    /// Enters the published generation, or once more the one that this thread is in already; `None`: there is no
    /// policy yet. Nothing that the view shows is freed before it is dropped, so drop it soon.
    #[must_use]
    #[inline]
    pub fn enter(&self) -> Option<View<'_>> {
        let depth = self.depth.get();
        if depth == 0 {
            let word = epoch::enter(self.region.current(), self.seat_word(ANNOUNCE));
            if word == 0 {
                return None;
            }
            self.word.set(word);
        }
        self.depth.set(depth + 1);
        let root = Root::read(&self.region.memory, self.word.get() as u32);
        Some(View { reader: self, tree: Tree::new(self.region.memory, root), thread: PhantomData })
    }

    #[inline(always)]
    fn seat_word(&self, index: usize) -> &AtomicU64 {
        static NOWHERE: AtomicU64 = AtomicU64::new(0);
        self.region.slot_words(self.slot).get(index).unwrap_or(&NOWHERE)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.in_flight().store(0, Relaxed);
        epoch::release(self.seat_word(OWNER), self.seat_word(ANNOUNCE), self.me);
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("slot", &self.slot).field("views", &self.depth.get()).finish()
    }
}

/// The policy of one generation, for as long as the view lives.
pub struct View<'r> {
    reader: &'r Reader,
    /// Handed out for no longer than the view itself lives.
    tree: Tree<'r>,
    thread: PhantomData<*const ()>,
}

impl View<'_> {
    /// The whole tree.
    #[must_use]
    #[inline]
    pub fn tree(&self) -> Tree<'_> {
        self.tree
    }

    /// The generation.
    #[must_use]
    #[inline]
    pub fn generation(&self) -> u32 {
        self.tree.generation()
    }

    /// The object behind `id` as it is in this generation; `None` when it is gone, whoever has its slot now, or when
    /// it is of another kind.
    #[must_use]
    #[inline]
    pub fn object<T: Object>(&self, id: Id) -> Option<Blob<'_, T>> {
        self.tree().object(id)
    }

    /// The object that has `name` among those of its kind.
    #[must_use]
    pub fn named<T: Object>(&self, name: &str) -> Option<Blob<'_, T>> {
        self.tree().named(name)
    }

    /// The id that `name` has among the objects of `kind`.
    #[must_use]
    pub fn id_of(&self, kind: Kind, name: &str) -> Option<Id> {
        self.tree().id_of(kind, name)
    }

    /// Every object of one kind.
    pub fn each<T: Object>(&self) -> impl Iterator<Item = Blob<'_, T>> {
        self.tree().each()
    }

    /// As [`Tree::route`].
    #[inline]
    pub fn route<'s>(
        &'s self,
        host: &[u8],
        path: &[u8],
        method: Method,
        captures: &mut Captures,
        accept: impl FnMut(RouteRef<'s>) -> bool,
    ) -> Lookup<'s> {
        let tree: &'s Tree<'s> = &self.tree;
        tree.route(host, path, method, captures, accept)
    }

    /// The mutable block that belongs to an object; its words may change at any time.
    #[must_use]
    #[inline]
    pub fn pick_table<'s, T>(&'s self, object: &Blob<'s, T>) -> Option<&'s [AtomicU64]> {
        object.table()
    }
}

impl Drop for View<'_> {
    #[inline]
    fn drop(&mut self) {
        let depth = self.reader.depth.get() - 1;
        self.reader.depth.set(depth);
        if depth == 0 {
            epoch::leave(self.reader.seat_word(ANNOUNCE));
        }
    }
}

impl fmt::Debug for View<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.tree.fmt(f)
    }
}

/// What a worker slot says of its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seat {
    /// The process.
    pub owner: Identity,
    /// The generation that it is in; `None` between requests.
    pub generation: Option<u32>,
    /// Requests under way.
    pub in_flight: u64,
}

impl Region {
    /// The seats that are taken.
    pub fn seats(&self) -> impl Iterator<Item = Seat> {
        (0..self.workers()).filter_map(|slot| match self.slot_words(slot) {
            [announce, owner, in_flight, ..] => {
                let owner = owner.load(Acquire);
                let word = announce.load(Acquire);
                let generation = (word != 0).then(|| epoch::generation(word));
                let seat = Seat { owner: Identity::from_word(owner), generation, in_flight: in_flight.load(Relaxed) };
                (owner != 0).then_some(seat)
            }
            _ => None,
        })
    }

    /// The oldest generation that a seat holds, those of the dead let go; `now` is a generation that no reader can
    /// enter an older one of any more.
    pub(super) fn oldest_held(&self, now: u32, is_alive: impl Fn(u64) -> bool) -> Option<u32> {
        (0..self.workers())
            .filter_map(|slot| match self.slot_words(slot) {
                [announce, owner, ..] => epoch::held(owner, announce, now, &is_alive),
                _ => None,
            })
            .reduce(|one, two| if epoch::is_older(two, one) { two } else { one })
    }
}
