//! Changing the hash trie.

use super::Draft;
use crate::state::arena::NoRoom;
use crate::state::block::bucket::{DEEPEST, MERGE_UP_TO, SPLIT_ABOVE};
use crate::state::block::{BRANCH, branch, bucket};
use crate::state::mem::Ref;

/// What becomes of a word.
#[derive(Clone, Copy)]
enum Change {
    /// It is new.
    Insert(u64),
    /// The first makes room for the second.
    Replace(u64, u64),
    Remove(u64),
}

impl Draft {
    /// Adds a word that is not there yet; the new root.
    pub(super) fn insert(&mut self, root: Ref, hash: u64, word: u64) -> Result<Ref, NoRoom> {
        self.change(root, 0, hash, Change::Insert(word))
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
        let mut entries = self.entries(node);
        let old = entries.len();
        match change {
            Change::Insert(word) => entries.push((hash, word)),
            Change::Replace(from, to) => {
                for entry in &mut entries {
                    if *entry == (hash, from) {
                        entry.1 = to;
                    }
                }
            }
            Change::Remove(word) => entries.retain(|entry| *entry != (hash, word)),
        }
        if entries.is_empty() {
            if node != 0 {
                self.release(node);
            }
            return Ok(0);
        }
        if entries.len() > SPLIT_ABOVE && depth < DEEPEST {
            let split = self.build(&entries, depth)?;
            self.release(node);
            return Ok(split);
        }
        let size = bucket::size(entries.len());
        let block = match node {
            0 => self.allocate(size)?,
            _ => self.replace(node, bucket::size(old), size)?,
        };
        bucket::write(&self.memory, block, &entries);
        Ok(block)
    }

    fn build(&mut self, entries: &[(u64, u64)], depth: u32) -> Result<Ref, NoRoom> {
        if entries.len() <= SPLIT_ABOVE || depth >= DEEPEST {
            let block = self.allocate(bucket::size(entries.len()))?;
            bucket::write(&self.memory, block, entries);
            return Ok(block);
        }
        let block = self.allocate(branch::SIZE)?;
        for index in 0..branch::WIDTH {
            let part: Vec<_> =
                entries.iter().copied().filter(|(hash, _)| branch::index(*hash, depth) == index).collect();
            let child = if part.is_empty() { 0 } else { self.build(&part, depth + 1)? };
            branch::set_child(&self.memory, block, index, child);
        }
        Ok(block | BRANCH)
    }

    /// Makes a bucket of a branch that has little left below it. It takes fewer entries to merge than it took to
    /// split, or a key that comes and goes would have the branch do the same.
    fn merge(&mut self, own: Ref) -> Result<Ref, NoRoom> {
        let children: [Ref; branch::WIDTH] = std::array::from_fn(|index| branch::child(&self.memory, own, index));
        let mut count = 0;
        for child in children {
            if child & BRANCH != 0 {
                return Ok(own | BRANCH);
            }
            count += if child == 0 { 0 } else { bucket::count(&self.memory, child) };
        }
        if count > MERGE_UP_TO {
            return Ok(own | BRANCH);
        }
        let entries: Vec<_> = children.into_iter().flat_map(|child| self.entries(child)).collect();
        let merged = match entries.len() {
            0 => 0,
            count => {
                let block = self.allocate(bucket::size(count))?;
                bucket::write(&self.memory, block, &entries);
                block
            }
        };
        for child in children.into_iter().filter(|child| *child != 0) {
            self.release(child);
        }
        self.release(own);
        Ok(merged)
    }

    fn entries(&self, node: Ref) -> Vec<(u64, u64)> {
        if node == 0 {
            return Vec::new();
        }
        let count = bucket::count(&self.memory, node);
        (0..count)
            .map(|index| (bucket::hash(&self.memory, node, index), bucket::word(&self.memory, node, count, index)))
            .collect()
    }
}
