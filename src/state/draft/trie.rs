//! Changing the hash trie.

use super::Draft;
use crate::state::arena::NoRoom;
use crate::state::block::bucket::{DEEPEST, MERGE_UP_TO, MOST, SPLIT_ABOVE, tag};
use crate::state::block::{BRANCH, branch, bucket};
use crate::state::mem::{Memory, Ref};

/// What becomes of a word.
#[derive(Clone, Copy)]
enum Change {
    /// It is new. Those that it meets are hashed anew when a bucket is split.
    Insert(u64, HashOf),
    /// The first makes room for the second.
    Replace(u64, u64),
    Remove(u64),
}

/// The hash of what a word leads to.
pub(super) type HashOf = fn(&Memory, u64) -> u64;

impl Draft {
    /// Adds a word that is not there yet; the new root.
    pub(super) fn insert(&mut self, root: Ref, hash: u64, word: u64, hash_of: HashOf) -> Result<Ref, NoRoom> {
        self.change(root, 0, hash, Change::Insert(word, hash_of))
    }

    /// Puts `new` where `old` is.
    pub(super) fn exchange(&mut self, root: Ref, hash: u64, old: u64, new: u64) -> Result<Ref, NoRoom> {
        if old == new {
            return Ok(root);
        }
        self.change(root, 0, hash, Change::Replace(old, new))
    }

    /// Takes a word out; what it leads to is not released.
    pub(super) fn remove(&mut self, root: Ref, hash: u64, word: u64) -> Result<Ref, NoRoom> {
        self.change(root, 0, hash, Change::Remove(word))
    }

    fn change(&mut self, node: Ref, depth: u32, hash: u64, change: Change) -> Result<Ref, NoRoom> {
        if node & BRANCH == 0 {
            return self.change_bucket(node, depth, hash, change);
        }
        let index = branch::index(hash, depth);
        let own = self.own(node & !BRANCH, branch::SIZE)?;
        let old = branch::child(&self.memory, own, index);
        let child = self.change(old, depth + 1, hash, change)?;
        if child != old {
            branch::set_child(&self.memory, own, index, child);
        }
        if matches!(change, Change::Remove(_)) && child & BRANCH == 0 {
            return self.merge(own);
        }
        Ok(own | BRANCH)
    }

    fn change_bucket(&mut self, node: Ref, depth: u32, hash: u64, change: Change) -> Result<Ref, NoRoom> {
        let mut held = Entries::of(&self.memory, node);
        let old = held.len();
        match change {
            Change::Insert(word, hash_of) if old >= SPLIT_ABOVE && depth < DEEPEST => {
                let memory = self.memory;
                let mut hashed: Vec<_> = held.list().iter().map(|&(_, word)| (hash_of(&memory, word), word)).collect();
                hashed.push((hash, word));
                let split = self.split(&hashed, depth)?;
                self.release(node);
                return Ok(split);
            }
            Change::Insert(..) if old >= MOST => return Err(NoRoom),
            Change::Insert(word, _) => held.push((tag(hash), word)),
            Change::Replace(from, to) => {
                let Some(index) = held.list().iter().position(|(_, word)| *word == from) else { return Ok(node) };
                let block = self.own(node, bucket::size(old))?;
                bucket::set_word(&self.memory, block, index, to);
                return Ok(block);
            }
            Change::Remove(word) => held.remove(word),
        }
        let size = bucket::size(held.len());
        let block = match (node, held.len()) {
            (0, 0) => return Ok(0),
            (_, 0) => {
                self.release(node);
                return Ok(0);
            }
            (0, _) => self.allocate(size)?,
            _ => self.replace(node, bucket::size(old), size)?,
        };
        bucket::write(&self.memory, block, held.list());
        Ok(block)
    }

    fn split(&mut self, hashed: &[(u64, u64)], depth: u32) -> Result<Ref, NoRoom> {
        if hashed.len() <= SPLIT_ABOVE || depth >= DEEPEST {
            let block = self.allocate(bucket::size(hashed.len()))?;
            let entries: Vec<_> = hashed.iter().map(|(hash, word)| (tag(*hash), *word)).collect();
            bucket::write(&self.memory, block, &entries);
            return Ok(block);
        }
        let block = self.blank(branch::SIZE)?;
        let place = |hash: u64| branch::index(hash, depth);
        for &(hash, _) in hashed {
            if branch::child(&self.memory, block, place(hash)) == 0 {
                let part: Vec<_> = hashed.iter().copied().filter(|(other, _)| place(*other) == place(hash)).collect();
                let child = self.split(&part, depth + 1)?;
                branch::set_child(&self.memory, block, place(hash), child);
            }
        }
        Ok(block | BRANCH)
    }

    /// Makes a bucket of a branch that has little left below it. It takes fewer entries to merge than it took to
    /// split, or a key that comes and goes would have the branch do the same.
    fn merge(&mut self, own: Ref) -> Result<Ref, NoRoom> {
        let mut held = Entries::of(&self.memory, 0);
        for index in 0..branch::WIDTH {
            let child = branch::child(&self.memory, own, index);
            if child & BRANCH != 0 {
                return Ok(own | BRANCH);
            }
            for &entry in Entries::of(&self.memory, child).list() {
                held.push(entry);
            }
            if held.len() > MERGE_UP_TO {
                return Ok(own | BRANCH);
            }
        }
        let merged = match held.len() {
            0 => 0,
            count => {
                let block = self.allocate(bucket::size(count))?;
                bucket::write(&self.memory, block, held.list());
                block
            }
        };
        for index in 0..branch::WIDTH {
            let child = branch::child(&self.memory, own, index);
            if child != 0 {
                self.release(child);
            }
        }
        self.release(own);
        Ok(merged)
    }
}

/// The tags and words of a bucket: in place, for buckets have few.
enum Entries {
    Few([(u8, u64); SPLIT_ABOVE + 1], usize),
    /// Hashes that agree altogether.
    Many(Vec<(u8, u64)>),
}

impl Entries {
    fn of(memory: &Memory, node: Ref) -> Self {
        let count = if node == 0 { 0 } else { bucket::count(memory, node) };
        let entry = |index| (bucket::tag_at(memory, node, index), bucket::word(memory, node, index));
        if count > SPLIT_ABOVE {
            return Self::Many((0..count).map(entry).collect());
        }
        let mut few = [(0, 0); SPLIT_ABOVE + 1];
        few.iter_mut().take(count).enumerate().for_each(|(index, place)| *place = entry(index));
        Self::Few(few, count)
    }

    fn list(&self) -> &[(u8, u64)] {
        match self {
            Self::Few(few, count) => few.get(..*count).unwrap_or_default(),
            Self::Many(many) => many,
        }
    }

    fn len(&self) -> usize {
        self.list().len()
    }

    fn push(&mut self, entry: (u8, u64)) {
        match self {
            Self::Few(few, count) if *count < few.len() => {
                if let Some(place) = few.get_mut(*count) {
                    *place = entry;
                }
                *count += 1;
            }
            Self::Few(few, _) => {
                let mut many = few.to_vec();
                many.push(entry);
                *self = Self::Many(many);
            }
            Self::Many(many) => many.push(entry),
        }
    }

    fn remove(&mut self, word: u64) {
        let mut left = self.list().to_vec();
        left.retain(|(_, other)| *other != word);
        *self = Self::Many(left);
    }
}
