//! The writer: the one process that changes the policy, and its transactions.

mod refusal;
mod transaction;

use std::fmt;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};

pub use refusal::{Full, Refusal};
pub use transaction::Transaction;

use super::arena::Arena;
use super::block::Root;
use super::carry::Names;
use super::draft::Draft;
use super::epoch;
use super::identity::Identity;
use super::mark::{Corrupt, mark};
use super::mem::{Ref, Region};
use super::tree::Tree;

/// How the arena is used; bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stats {
    /// The published generation.
    pub generation: u32,
    /// Named objects in it.
    pub objects: usize,
    /// Bytes of the arena.
    pub arena: usize,
    /// Bytes that the published tree takes, rounded up to sizes of blocks.
    pub live: usize,
    /// Bytes that were replaced and wait for readers of old generations.
    pub waiting: usize,
    /// Bytes that are free.
    pub free: usize,
    /// How many generations have such bytes.
    pub batches: usize,
    /// How many generations the oldest reader is behind.
    pub behind: u32,
}

/// The lease, and with it the right to change the policy.
///
/// It is kept until it is dropped; when its process dies, the next one takes it over and finds the tree as the last
/// commit left it. Do not drop it in a child that was forked meanwhile.
pub struct Writer {
    region: Region,
    identity: Identity,
    draft: Draft,
    /// The published root record; 0 = none.
    published: Ref,
    generation: u32,
    /// What the draft begins with and goes back to.
    committed: Root,
}

impl Writer {
    /// Takes the lease if nobody alive has it (`None`: somebody has), and finds out what the tree uses. That takes
    /// time in proportion to the tree (some 20 ms for 100,000 routes), so the lease should stay where it is.
    ///
    /// Memory that the last writer had not given back is free again only when no reader is in a generation before
    /// the published one; until then a transaction may be refused with [`Refusal::Held`].
    pub fn take(region: Region, identity: Identity) -> Result<Option<Self>, Corrupt> {
        if !epoch::take_lease(region.lease(), identity.word(), |word| Identity::from_word(word).is_alive()) {
            return Ok(None);
        }
        let word = region.current().load(Acquire);
        let recovered = match word {
            0 => Ok(Self::empty(region, identity)),
            word => Self::recover(region, identity, word),
        };
        if recovered.is_err() {
            region.corruptions().fetch_add(1, Relaxed);
            epoch::release_lease(region.lease(), identity.word());
        }
        recovered.map(Some)
    }

    /// Takes the lease as [`Writer::take`] does and gives up whatever tree there is: for one that is [`Corrupt`].
    /// Readers find no policy until the next commit.
    pub fn reset(region: Region, identity: Identity) -> Option<Self> {
        if !epoch::take_lease(region.lease(), identity.word(), |word| Identity::from_word(word).is_alive()) {
            return None;
        }
        let word = region.current().load(Acquire);
        if word != 0 {
            region.floor().store(epoch::generation(word).into(), SeqCst);
            epoch::publish(region.current(), 0);
        }
        Some(Self::empty(region, identity))
    }

    fn empty(region: Region, identity: Identity) -> Self {
        let generation = region.floor().load(Acquire) as u32;
        let arena = Arena::new(region.plan.arena.0, region.plan.arena.1);
        let root = Root { generation, ..Root::default() };
        // A reader may still be in the last generation of a tree that was given up.
        let draft = Draft::new(region, arena, root, generation.wrapping_add(1));
        let mut writer = Self { region, identity, draft, published: 0, generation, committed: root };
        writer.reclaim();
        writer
    }

    fn recover(region: Region, identity: Identity, word: u64) -> Result<Self, Corrupt> {
        let generation = epoch::generation(word);
        let published = word as Ref;
        let blocks = mark(&region, published, generation)?;
        let arena = Arena::with(region.plan.arena.0, region.plan.arena.1, &blocks)
            .ok_or(Corrupt("blocks are in each other's way"))?;
        let root = Root::read(&region.memory, published);
        let draft = Draft::new(region, arena, root, generation);
        let mut writer = Self { region, identity, draft, published, generation, committed: root };
        writer.reclaim();
        Ok(writer)
    }

    /// Gives the names of the first transaction in an empty tree the ids that they had in another, whose last generation
    /// was `generation`. End it with [`Writer::adopt_no_more`].
    pub fn adopt(&mut self, generation: u32, names: Names) {
        if self.published == 0 {
            self.region.floor().store(generation.into(), SeqCst);
            self.generation = generation;
            self.draft.root.generation = generation;
            self.draft.adopt(names);
            self.committed = self.draft.root;
        }
    }

    /// Gives back the ids whose names did not come.
    pub fn adopt_no_more(&mut self) {
        self.draft.adopt_no_more();
    }

    /// Begins a transaction. Dropped without [`Transaction::commit`] it leaves no trace.
    pub fn begin(&mut self) -> Transaction<'_> {
        Transaction::new(self)
    }

    /// Frees what no reader can see any more. A commit does so too; call it now and then when nothing changes.
    pub fn reclaim(&mut self) {
        self.draft.reclaim();
    }

    /// How the arena is used.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let used = self.draft.arena.used();
        let waiting = self.draft.waiting();
        let oldest = self.region.seats().filter_map(|seat| seat.generation);
        let behind = oldest.map(|held| self.generation.wrapping_sub(held)).filter(|&behind| behind < 1 << 31).max();
        Stats {
            generation: self.generation,
            objects: self.draft.root.objects as usize,
            arena: self.draft.arena.capacity(),
            live: used - waiting,
            waiting,
            free: self.draft.arena.capacity() - used,
            batches: self.draft.batches(),
            behind: behind.unwrap_or(0),
        }
    }

    /// The policy as it is published, or empty where there is none yet.
    #[must_use]
    pub fn view(&self) -> Tree<'_> {
        self.draft.tree()
    }

    /// Compares the allocator with the tree: each block is reached once, none of them is free or waits to be, and
    /// together they are the arena. For tests and for doubts; takes as long as a takeover.
    pub fn check(&self) -> Result<(), Corrupt> {
        let blocks = match self.published {
            0 => Vec::new(),
            published => mark(&self.region, published, self.generation)?,
        };
        let arena = &self.draft.arena;
        let reached: usize = blocks.iter().map(|&(_, size)| arena.takes(size)).sum();
        let (free, slack) = arena.count_free();
        if reached + self.draft.waiting() != arena.used() {
            return Err(Corrupt("bytes in use do not add up"));
        }
        if arena.used() + free + slack != arena.capacity() {
            return Err(Corrupt("bytes of the arena do not add up"));
        }
        let mut others: std::collections::HashSet<Ref> = arena.free_blocks().collect();
        let count = others.len();
        others.extend(self.draft.waiting_blocks());
        if others.len() != count + self.draft.waiting_blocks().count() {
            return Err(Corrupt("a block waits and is free, or does so twice"));
        }
        if blocks.iter().any(|(block, _)| others.contains(block)) {
            return Err(Corrupt("a block is reached and free"));
        }
        Ok(())
    }

    /// Ends as a process does that is killed: as [`Reader::die`](super::Reader::die).
    pub fn die(self) {
        self.region.lease().store(Identity::NOBODY.word(), Release);
        std::mem::forget(self);
    }

    /// Gives the lease back, as dropping it does.
    pub fn release(self) {}
}

impl Drop for Writer {
    fn drop(&mut self) {
        epoch::release_lease(self.region.lease(), self.identity.word());
    }
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").field("stats", &self.stats()).finish()
    }
}
