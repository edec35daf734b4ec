//! The tree as a transaction changes it.
//!
//! An edit copies the blocks on the path to what changes, except those that the same transaction made, which it
//! patches where they are: one code for a single change and for a bulk load. What is replaced is retired, not freed;
//! what the transaction itself made and replaces is freed at once.

mod ids;
mod routes;
mod trie;

use std::collections::{HashMap, VecDeque};

use super::arena::{Arena, NoRoom};
use super::block::{Root, offset};
use super::epoch;
use super::identity::Identity;
use super::mem::{Memory, Ref, Region};
use crate::types::{Id, Kind};

pub(super) use routes::KeyError;

pub(super) struct Draft {
    region: Region,
    pub memory: Memory,
    pub arena: Arena,
    pub root: Root,
    /// Published blocks that the transaction replaced.
    retired: Vec<Ref>,
    /// Blocks that the transaction made; some are freed by now, or freed and made again: the arena's marks decide.
    made: Vec<Ref>,
    /// Slots of ids that nobody has.
    free_slots: Vec<u32>,
    /// Slots that the transaction took from there, and those that it will give back.
    taken_slots: Vec<u32>,
    freed_slots: Vec<u32>,
    /// Ids of names that are to come.
    adopted: HashMap<(Kind, String), Id>,
    /// Removals may use the last chunks.
    pub removing: bool,
    /// What transactions replaced, each with the generation that replaced it and its bytes.
    batches: VecDeque<Batch>,
    /// The batch of unknown blocks: whatever the tree did not reach at takeover. Until no reader is older than this,
    /// nothing can be allocated.
    unknown: Option<u32>,
    waiting: usize,
}

struct Batch {
    tag: u32,
    blocks: Vec<Ref>,
    bytes: usize,
}

impl Draft {
    /// A draft over `arena`, whose free blocks may be seen by readers of generations before `unknown`.
    pub(super) fn new(region: Region, arena: Arena, root: Root, unknown: u32) -> Self {
        let mut draft = Self {
            region,
            memory: region.memory,
            arena,
            root,
            retired: Vec::new(),
            made: Vec::new(),
            free_slots: Vec::new(),
            taken_slots: Vec::new(),
            freed_slots: Vec::new(),
            adopted: HashMap::new(),
            removing: false,
            batches: VecDeque::new(),
            unknown: Some(unknown),
            waiting: 0,
        };
        draft.find_free_slots();
        draft
    }

    /// Ends the transaction in favour of what it made; returns what it replaced.
    pub(super) fn settle(&mut self) -> Vec<Ref> {
        for block in self.made.drain(..) {
            self.arena.clear_fresh(block);
        }
        self.taken_slots.clear();
        self.free_slots.append(&mut self.freed_slots);
        std::mem::take(&mut self.retired)
    }

    /// Ends the transaction as if it had not been.
    pub(super) fn forget(&mut self, root: Root) {
        self.root = root;
        if self.made.is_empty() {
            return;
        }
        for index in 0..self.made.len() {
            let Some(&block) = self.made.get(index) else { break };
            if self.arena.is_fresh(block) {
                self.arena.free(block);
            }
        }
        self.made.clear();
        self.retired.clear();
        self.freed_slots.clear();
        self.free_slots.append(&mut self.taken_slots);
        // Slots that the transaction was the first to use are beyond the end again.
        self.free_slots.retain(|&slot| slot < root.next_slot);
    }

    pub(super) fn allocate(&mut self, size: usize) -> Result<Ref, NoRoom> {
        if self.unknown.is_some() {
            return Err(NoRoom);
        }
        let block = match self.arena.allocate(size, self.removing) {
            Ok(block) => block,
            Err(NoRoom) => {
                // A reader may have left since the last commit.
                self.reclaim();
                self.arena.allocate(size, self.removing)?
            }
        };
        self.made.push(block);
        Ok(block)
    }

    /// `blocks` are free when no reader is older than `tag`, which replaced them.
    pub(super) fn wait(&mut self, tag: u32, blocks: Vec<Ref>) {
        let bytes = blocks.iter().map(|&block| self.arena.size_of(block)).sum();
        self.waiting += bytes;
        self.batches.push_back(Batch { tag, blocks, bytes });
        self.reclaim_of_the_living();
    }

    /// Frees the batches that no reader can see; readers that are dead see nothing.
    pub(super) fn reclaim(&mut self) {
        self.free(|word| Identity::from_word(word).is_alive());
    }

    /// The same without asking the system who is dead, which costs more than a whole transaction: what the dead hold waits
    /// for the next [`Draft::reclaim`], which comes when room is needed, and now and then.
    pub(super) fn reclaim_of_the_living(&mut self) {
        self.free(|_| true);
    }

    fn free(&mut self, is_alive: impl Fn(u64) -> bool) {
        if self.batches.is_empty() && self.unknown.is_none() {
            return;
        }
        let now = match self.region.generation() {
            // The tree was given up: no reader can enter the last generation of it any more either.
            0 => self.unknown.unwrap_or(0),
            now => now,
        };
        let oldest = self.region.oldest_held(now, is_alive);
        if self.unknown.is_some_and(|tag| epoch::is_free(tag, oldest)) {
            self.unknown = None;
        }
        while let Some(batch) = self.batches.front()
            && epoch::is_free(batch.tag, oldest)
        {
            self.waiting -= batch.bytes;
            for block in self.batches.pop_front().map(|batch| batch.blocks).unwrap_or_default() {
                if cfg!(debug_assertions) {
                    // Whoever still reads it should notice.
                    self.memory.write(offset(block), &vec![0xdd; self.arena.size_of(block)]);
                }
                self.arena.free(block);
            }
        }
    }

    /// Bytes that wait for readers.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    pub(super) fn batches(&self) -> usize {
        self.batches.len()
    }

    pub(super) fn waiting_blocks(&self) -> impl Iterator<Item = Ref> {
        self.batches.iter().flat_map(|batch| batch.blocks.iter().copied())
    }

    /// Whether nothing can be had before a reader leaves.
    pub(super) fn is_held(&self) -> bool {
        self.unknown.is_some()
    }

    /// The tree does not reach the block any more.
    pub(super) fn release(&mut self, block: Ref) {
        if self.arena.is_fresh(block) {
            self.arena.free(block);
        } else {
            self.retired.push(block);
        }
    }

    /// The block itself if the transaction made it, else a copy.
    fn own(&mut self, block: Ref, size: usize) -> Result<Ref, NoRoom> {
        if self.arena.is_fresh(block) {
            return Ok(block);
        }
        let copy = self.allocate(size)?;
        self.memory.copy(offset(block), offset(copy), size);
        self.release(block);
        Ok(copy)
    }

    /// A block of `new` bytes in place of one of `old` bytes, whose content is given up: the same one where it can
    /// be. The new one is there before the old one goes, or they might be taken for the same.
    fn replace(&mut self, block: Ref, old: usize, new: usize) -> Result<Ref, NoRoom> {
        if self.arena.is_fresh(block) && self.arena.is_same_class(old, new) {
            return Ok(block);
        }
        let other = self.allocate(new)?;
        self.release(block);
        Ok(other)
    }
}
