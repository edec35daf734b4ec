//! Finding every block that a root reaches: what a new writer builds its allocator from, and what `check` compares.

use std::fmt;

use super::block::{BRANCH, Entry, Place, Root, StoredKey, blob, branch, bucket, host, ids, leaf, name, offset, table};
use super::mem::{Memory, Ref, Region, UNIT};

/// The tree is not what a writer would have left: the program wrote where it should not have, or the memory is bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Corrupt(pub &'static str);

impl fmt::Display for Corrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the policy tree is damaged: {}", self.0)
    }
}

impl std::error::Error for Corrupt {}

/// Every block that the root record at `root` reaches, itself included, each with its size; no block twice.
pub(super) fn mark(region: &Region, root: Ref, generation: u32) -> Result<Vec<(Ref, usize)>, Corrupt> {
    let (start, length) = region.plan.arena;
    let units = length.div_ceil(UNIT);
    let mut marker = Marker {
        memory: region.memory,
        start,
        end: start + length,
        marks: vec![0; units.div_ceil(64)],
        blobs: vec![0; units.div_ceil(64)],
        blocks: Vec::new(),
        entries: Vec::new(),
        objects: 0,
    };
    marker.root(root, generation)?;
    Ok(marker.blocks)
}

/// What a reference in a hash trie leads to.
#[derive(Clone, Copy)]
enum Record {
    Leaf,
    Host,
    Name,
}

struct Marker {
    memory: Memory,
    start: usize,
    end: usize,
    /// Bit per 16 bytes: a block begins there; and whether it is a blob.
    marks: Vec<u64>,
    blobs: Vec<u64>,
    blocks: Vec<(Ref, usize)>,
    entries: Vec<Entry>,
    objects: u32,
}

impl Marker {
    fn root(&mut self, block: Ref, generation: u32) -> Result<(), Corrupt> {
        self.visit(block, Root::SIZE)?;
        let root = Root::read(&self.memory, block);
        if !Root::is_intact(&self.memory, block) || root.generation != generation {
            return Err(Corrupt("the root record does not add up"));
        }
        self.trie(root.paths, 0, Record::Leaf)?;
        self.trie(root.hosts, 0, Record::Host)?;
        self.trie(root.names, 0, Record::Name)?;
        if root.any != 0 {
            self.record(root.any, Record::Host)?;
        }
        if root.ids != 0 {
            self.ids(root.ids, root.levels)?;
        }
        if self.objects != root.objects {
            return Err(Corrupt("objects do not add up"));
        }
        std::mem::take(&mut self.entries).into_iter().try_for_each(|entry| self.entry(entry))
    }

    fn trie(&mut self, node: Ref, depth: u32, record: Record) -> Result<(), Corrupt> {
        if node == 0 {
            return Ok(());
        }
        if node & BRANCH != 0 {
            self.visit(node & !BRANCH, branch::SIZE)?;
            if depth > bucket::DEEPEST {
                return Err(Corrupt("a trie is too deep"));
            }
            for index in 0..branch::WIDTH {
                self.trie(branch::child(&self.memory, node, index), depth + 1, record)?;
            }
            return Ok(());
        }
        self.visit(node, 8)?;
        let count = bucket::count(&self.memory, node);
        self.resize(node, bucket::size(count))?;
        for index in 0..count {
            let word = bucket::word(&self.memory, node, index);
            match (record, Place(word).block()) {
                (Record::Leaf, None) => self.entries.push(Entry::from_word(word)),
                (Record::Leaf, Some(leaf)) => self.record(leaf, record)?,
                _ => self.record(word as Ref, record)?,
            }
        }
        Ok(())
    }

    fn record(&mut self, block: Ref, record: Record) -> Result<(), Corrupt> {
        self.visit(block, 8)?;
        let size = match record {
            Record::Leaf => {
                let size = leaf::size(leaf::count(&self.memory, block));
                self.bounds(block, size)?;
                let count = leaf::count(&self.memory, block);
                self.entries.extend((0..count).map(|index| leaf::entry(&self.memory, block, index)));
                size
            }
            Record::Host => host::size_of(&self.memory, block),
            Record::Name => name::size_of(&self.memory, block),
        };
        self.resize(block, size)
    }

    fn ids(&mut self, node: Ref, levels: u32) -> Result<(), Corrupt> {
        match levels {
            0 => Err(Corrupt("ids without a level")),
            1 => {
                self.visit(node, ids::LEAF_SIZE)?;
                for index in 0..ids::LEAF {
                    let (block, _) = ids::entry(&self.memory, node, index);
                    if block != 0 {
                        self.blob(block)?;
                    }
                }
                Ok(())
            }
            _ => {
                self.visit(node, ids::NODE_SIZE)?;
                for index in 0..ids::NODE {
                    let child = self.memory.u32(offset(node) + 4 * index);
                    if child != 0 {
                        self.ids(child, levels - 1)?;
                    }
                }
                Ok(())
            }
        }
    }

    fn blob(&mut self, block: Ref) -> Result<(), Corrupt> {
        self.visit(block, blob::HEADER)?;
        self.resize(block, blob::size_of(&self.memory, block))?;
        if !blob::is_intact(&self.memory, block) {
            return Err(Corrupt("an object does not add up"));
        }
        let (word, bit) = self.bit(block);
        if let Some(marks) = self.blobs.get_mut(word) {
            *marks |= bit;
        }
        self.objects += 1;
        match blob::table(&self.memory, block) {
            0 => Ok(()),
            table => {
                self.visit(table, table::HEADER)?;
                self.resize(table, table::size(table::count(&self.memory, table)))
            }
        }
    }

    fn entry(&self, entry: Entry) -> Result<(), Corrupt> {
        let (word, bit) = self.bit(entry.blob);
        if self.blobs.get(word).is_none_or(|marks| marks & bit == 0) {
            return Err(Corrupt("a key leads to no object"));
        }
        let end = blob::HEADER + blob::keys(&self.memory, entry.blob).len();
        if 4 * usize::from(entry.key) + StoredKey::of(&self.memory, entry).size() > end {
            return Err(Corrupt("a key is outside of its object"));
        }
        Ok(())
    }

    /// Marks a block of which at least `size` bytes must be there.
    fn visit(&mut self, block: Ref, size: usize) -> Result<(), Corrupt> {
        self.bounds(block, size)?;
        let (word, bit) = self.bit(block);
        let marks = self.marks.get_mut(word).ok_or(Corrupt("a block is outside of the arena"))?;
        if *marks & bit != 0 {
            return Err(Corrupt("a block is reached twice"));
        }
        *marks |= bit;
        self.blocks.push((block, size));
        Ok(())
    }

    /// The block just visited turned out to have `size` bytes.
    fn resize(&mut self, block: Ref, size: usize) -> Result<(), Corrupt> {
        self.bounds(block, size)?;
        match self.blocks.last_mut() {
            Some((last, bytes)) if *last == block => *bytes = size,
            _ => return Err(Corrupt("a block is reached out of order")),
        }
        Ok(())
    }

    fn bounds(&self, block: Ref, size: usize) -> Result<(), Corrupt> {
        let at = offset(block);
        if block & BRANCH != 0 || at < self.start || at.checked_add(size).is_none_or(|end| end > self.end) {
            return Err(Corrupt("a block is outside of the arena"));
        }
        Ok(())
    }

    fn bit(&self, block: Ref) -> (usize, u64) {
        let unit = offset(block).wrapping_sub(self.start) / UNIT;
        (unit / 64, 1 << (unit % 64))
    }
}
