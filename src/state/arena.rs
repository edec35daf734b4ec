//! The allocator of the arena. All of its state is private memory of the writer: nothing in the region describes what
//! is free, so nothing there can be left half done.
//!
//! The arena is divided into chunks, and each chunk belongs to one size class, which keeps the hot levels of the trees
//! dense; larger blocks are runs of chunks. An empty chunk goes back to the pool when chunks run out.

use std::collections::BTreeSet;

use super::block::offset;
use super::mem::{Ref, UNIT};

/// Below this size of the arena a chunk for each class in use would cost too much of it.
const LARGE_ARENA: usize = 8 << 20;
/// Chunks that only removals may take, since a removal copies the path to what it takes out.
const RESERVE: usize = 12;

const FREE: u8 = 0;
/// The first chunk of a run.
const RUN: u8 = 254;
const RUN_BEHIND: u8 = 255;

/// No room for a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NoRoom;

pub(super) struct Arena {
    start: usize,
    chunk: usize,
    chunks: Vec<Chunk>,
    pool: BTreeSet<u32>,
    classes: Vec<Class>,
    /// Bit per 16 bytes: a block begins there that the transaction under way made.
    fresh: Vec<u64>,
    /// Bytes in blocks, rounded up to their class.
    used: usize,
}

#[derive(Clone, Copy, Default)]
struct Chunk {
    class: u8,
    /// Blocks in use; for a run its number of chunks.
    live: u32,
}

#[derive(Default)]
struct Class {
    free: Vec<Ref>,
    /// Where the next block of the chunk in use begins, and where that chunk ends; offsets.
    bump: (usize, usize),
    /// Chunks without a live block.
    empty: u32,
}

/// Bytes of the blocks of class `class`: steps of 16 to 256, then four to a doubling.
const fn class_size(class: u8) -> usize {
    let class = class as usize;
    if class <= 16 {
        return UNIT * class;
    }
    let (doubling, step) = ((class - 17) / 4, (class - 17) % 4);
    (256 << doubling) + (64 << doubling) * (step + 1)
}

const fn class_of(size: usize) -> u8 {
    if size <= 256 {
        return if size == 0 { 1 } else { size.div_ceil(UNIT) as u8 };
    }
    let doubling = (size - 1).ilog2() - 8;
    let step = (size - 1 - (256 << doubling)) / (64 << doubling);
    17 + 4 * doubling as u8 + step as u8
}

/// What a block of `size` bytes takes, with chunks of `chunk` bytes.
const fn rounded(size: usize, chunk: usize) -> usize {
    if size > chunk / 2 { size.div_ceil(chunk) * chunk } else { class_size(class_of(size)) }
}

impl Arena {
    /// An empty arena of `length` bytes at offset `start`.
    pub(super) fn new(start: usize, length: usize) -> Self {
        let chunk = if length < LARGE_ARENA { 4 << 10 } else { 16 << 10 };
        let count = length / chunk;
        let classes = (0..=class_of(chunk / 2)).map(|_| Class::default()).collect();
        Self {
            start,
            chunk,
            chunks: vec![Chunk::default(); count],
            pool: (0..count as u32).collect(),
            classes,
            fresh: vec![0; (count * chunk / UNIT).div_ceil(64)],
            used: 0,
        }
    }

    /// An arena in which exactly `blocks` (reference and size) are in use; `None` if two of them are in each other's
    /// way or one is outside.
    pub(super) fn with(start: usize, length: usize, blocks: &[(Ref, usize)]) -> Option<Self> {
        let mut arena = Self::new(start, length);
        let mut marked = vec![0_u64; arena.fresh.len()];
        for &(block, size) in blocks {
            let (chunk, within) = arena.locate(block)?;
            if size > arena.chunk / 2 {
                let count = size.div_ceil(arena.chunk);
                if within != 0 {
                    return None;
                }
                for index in chunk..chunk + count as u32 {
                    if !arena.pool.remove(&index) {
                        return None;
                    }
                    *arena.chunks.get_mut(index as usize)? = Chunk { class: RUN_BEHIND, live: 0 };
                }
                *arena.chunks.get_mut(chunk as usize)? = Chunk { class: RUN, live: count as u32 };
                arena.used += count * arena.chunk;
                continue;
            }
            let class = class_of(size);
            let info = arena.chunks.get_mut(chunk as usize)?;
            if info.class == FREE {
                info.class = class;
                arena.pool.remove(&chunk);
            }
            let width = class_size(class);
            if info.class != class || within % width != 0 || within + width > arena.chunk {
                return None;
            }
            info.live += 1;
            let (word, bit) = arena.bit(block)?;
            let marks = marked.get_mut(word)?;
            if *marks & bit != 0 {
                return None;
            }
            *marks |= bit;
            arena.used += width;
        }
        for index in (0..arena.chunks.len()).rev() {
            let class = arena.chunks.get(index)?.class;
            if matches!(class, FREE | RUN | RUN_BEHIND) {
                continue;
            }
            let width = class_size(class);
            let base = arena.start + index * arena.chunk;
            for place in (0..arena.chunk / width).rev() {
                let block = ((base + place * width) / UNIT) as Ref;
                let (word, bit) = arena.bit(block)?;
                if marked.get(word)? & bit == 0 {
                    arena.classes.get_mut(usize::from(class))?.free.push(block);
                }
            }
        }
        Some(arena)
    }

    /// A block of at least `size` bytes with any content. Removals may dip into the reserve.
    pub(super) fn allocate(&mut self, size: usize, removal: bool) -> Result<Ref, NoRoom> {
        if size > self.chunk / 2 {
            return self.allocate_run(size, removal);
        }
        let class = class_of(size);
        let width = class_size(class);
        let entry = self.classes.get_mut(usize::from(class)).ok_or(NoRoom)?;
        let block = if let Some(block) = entry.free.pop() {
            block
        } else {
            if entry.bump.0 + width > entry.bump.1 {
                let chunk = self.take_chunk(class, removal)?;
                let base = self.start + chunk as usize * self.chunk;
                self.classes.get_mut(usize::from(class)).ok_or(NoRoom)?.bump = (base, base + self.chunk);
            }
            let entry = self.classes.get_mut(usize::from(class)).ok_or(NoRoom)?;
            let block = (entry.bump.0 / UNIT) as Ref;
            entry.bump.0 += width;
            block
        };
        let (chunk, _) = self.locate(block).ok_or(NoRoom)?;
        if let (Some(info), Some(entry)) =
            (self.chunks.get_mut(chunk as usize), self.classes.get_mut(usize::from(class)))
        {
            entry.empty -= u32::from(info.live == 0);
            info.live += 1;
        }
        self.used += width;
        self.set_fresh(block);
        Ok(block)
    }

    /// Gives a block back at once.
    pub(super) fn free(&mut self, block: Ref) {
        self.clear_fresh(block);
        let Some((chunk, _)) = self.locate(block) else { return };
        let Some(info) = self.chunks.get_mut(chunk as usize) else { return };
        if info.class == RUN {
            let count = std::mem::take(info).live;
            self.used -= count as usize * self.chunk;
            for index in chunk..chunk + count {
                if let Some(info) = self.chunks.get_mut(index as usize) {
                    *info = Chunk::default();
                }
                self.pool.insert(index);
            }
            return;
        }
        info.live -= 1;
        self.used -= class_size(info.class);
        if let Some(entry) = self.classes.get_mut(usize::from(info.class)) {
            entry.free.push(block);
            entry.empty += u32::from(info.live == 0);
        }
    }

    /// Whether the transaction under way made the block.
    #[inline]
    pub(super) fn is_fresh(&self, block: Ref) -> bool {
        self.bit(block).is_some_and(|(word, bit)| self.fresh.get(word).is_some_and(|marks| marks & bit != 0))
    }

    pub(super) fn clear_fresh(&mut self, block: Ref) {
        if let Some((word, bit)) = self.bit(block)
            && let Some(marks) = self.fresh.get_mut(word)
        {
            *marks &= !bit;
        }
    }

    /// Whether a block of `old` bytes can become one of `new` bytes where it is.
    pub(super) fn is_same_class(&self, old: usize, new: usize) -> bool {
        rounded(old, self.chunk) == rounded(new, self.chunk)
    }

    /// What a block of `size` bytes takes.
    pub(super) fn takes(&self, size: usize) -> usize {
        rounded(size, self.chunk)
    }

    /// What the block at `block` takes.
    pub(super) fn size_of(&self, block: Ref) -> usize {
        let info = self.locate(block).and_then(|(chunk, _)| self.chunks.get(chunk as usize));
        match info {
            Some(Chunk { class: RUN, live }) => *live as usize * self.chunk,
            Some(info) => class_size(info.class),
            None => 0,
        }
    }

    /// Bytes in blocks.
    pub(super) fn used(&self) -> usize {
        self.used
    }

    /// Bytes that blocks can have altogether.
    pub(super) fn capacity(&self) -> usize {
        self.chunks.len() * self.chunk
    }

    /// Bytes of what is not in use, as (free blocks and chunks, slack at the end of chunks); counted anew, for tests.
    pub(super) fn count_free(&self) -> (usize, usize) {
        let mut free = self.pool.len() * self.chunk;
        let mut slack = 0;
        for class in 1..self.classes.len() as u8 {
            let width = class_size(class);
            let chunks = self.chunks.iter().filter(|chunk| chunk.class == class).count();
            slack += chunks * (self.chunk % width);
            if let Some(entry) = self.classes.get(usize::from(class)) {
                free += entry.free.len() * width + (entry.bump.1 - entry.bump.0) / width * width;
            }
        }
        (free, slack)
    }

    /// Every block that waits in a free list.
    pub(super) fn free_blocks(&self) -> impl Iterator<Item = Ref> {
        self.classes.iter().flat_map(|class| class.free.iter().copied())
    }

    fn set_fresh(&mut self, block: Ref) {
        if let Some((word, bit)) = self.bit(block)
            && let Some(marks) = self.fresh.get_mut(word)
        {
            *marks |= bit;
        }
    }

    fn allocate_run(&mut self, size: usize, removal: bool) -> Result<Ref, NoRoom> {
        let count = size.div_ceil(self.chunk);
        let keep = if removal { 0 } else { self.reserve() };
        for round in 0..2 {
            if self.pool.len() >= count + keep
                && let Some(first) = self.find_run(count)
            {
                for index in first..first + count as u32 {
                    self.pool.remove(&index);
                    if let Some(info) = self.chunks.get_mut(index as usize) {
                        *info = Chunk { class: RUN_BEHIND, live: 0 };
                    }
                }
                if let Some(info) = self.chunks.get_mut(first as usize) {
                    *info = Chunk { class: RUN, live: count as u32 };
                }
                self.used += count * self.chunk;
                let block = ((self.start + first as usize * self.chunk) / UNIT) as Ref;
                self.set_fresh(block);
                return Ok(block);
            }
            if round == 0 && !self.return_empty() {
                break;
            }
        }
        Err(NoRoom)
    }

    fn find_run(&self, count: usize) -> Option<u32> {
        let mut first = 0;
        let mut length = 0;
        for &index in &self.pool {
            if length == 0 || index != first + length {
                (first, length) = (index, 0);
            }
            length += 1;
            if length as usize == count {
                return Some(first);
            }
        }
        None
    }

    fn take_chunk(&mut self, class: u8, removal: bool) -> Result<u32, NoRoom> {
        let keep = if removal { 0 } else { self.reserve() };
        if self.pool.len() <= keep && (!self.return_empty() || self.pool.len() <= keep) {
            return Err(NoRoom);
        }
        let chunk = self.pool.pop_first().ok_or(NoRoom)?;
        if let Some(info) = self.chunks.get_mut(chunk as usize) {
            *info = Chunk { class, live: 0 };
        }
        if let Some(entry) = self.classes.get_mut(usize::from(class)) {
            entry.empty += 1;
        }
        Ok(chunk)
    }

    fn reserve(&self) -> usize {
        RESERVE.min(self.chunks.len() / 8)
    }

    /// Gives the chunks without a live block back to the pool; whether there were any.
    fn return_empty(&mut self) -> bool {
        let mut any = false;
        for class in 1..self.classes.len() {
            let Some(entry) = self.classes.get_mut(class) else { continue };
            if entry.empty == 0 {
                continue;
            }
            any = true;
            entry.empty = 0;
            let (start, chunk) = (self.start, self.chunk);
            let chunks = &self.chunks;
            let is_live = |at: usize| chunks.get((at - start) / chunk).is_some_and(|info| info.live > 0);
            entry.free.retain(|&block| is_live(offset(block)));
            if entry.bump.1 > 0 && !is_live(entry.bump.1 - 1) {
                entry.bump = (0, 0);
            }
            for (index, info) in self.chunks.iter_mut().enumerate() {
                if usize::from(info.class) == class && info.live == 0 {
                    *info = Chunk::default();
                    self.pool.insert(index as u32);
                }
            }
        }
        any
    }

    /// The chunk of a block and the block's offset in it.
    fn locate(&self, block: Ref) -> Option<(u32, usize)> {
        let at = offset(block).checked_sub(self.start)?;
        let chunk = at / self.chunk;
        (chunk < self.chunks.len()).then_some((chunk as u32, at % self.chunk))
    }

    #[inline]
    fn bit(&self, block: Ref) -> Option<(usize, u64)> {
        let unit = offset(block).checked_sub(self.start)? / UNIT;
        Some((unit / 64, 1 << (unit % 64)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_fit_their_sizes() {
        for size in 1..=8192 {
            let class = class_of(size);
            assert!(class_size(class) >= size, "{size}");
            assert!(class == 1 || class_size(class - 1) < size, "{size}");
            assert_eq!(class_size(class) % UNIT, 0);
        }
        assert!(class_of(8192) < RUN);
    }

    #[test]
    fn what_is_freed_can_be_had_again_in_any_size() {
        for length in [400 << 10, 9 << 20] {
            let mut arena = Arena::new(4096, length);
            let total = arena.capacity();
            for size in [16, 40, 200, 1000, 5000, 60_000, 24] {
                let mut blocks = Vec::new();
                while let Ok(block) = arena.allocate(size, false) {
                    assert!(arena.is_fresh(block));
                    blocks.push(block);
                }
                assert!(blocks.len() * size > total / 2, "{size}: {}", blocks.len());
                let (free, slack) = arena.count_free();
                assert_eq!(arena.used() + free + slack, total, "{size}");
                let sizes: Vec<_> = blocks.iter().map(|&block| (block, size)).collect();
                let again = Arena::with(4096, length, &sizes).unwrap();
                assert_eq!(again.used(), arena.used());
                let (free, slack) = again.count_free();
                assert_eq!(again.used() + free + slack, total, "{size}");
                for block in blocks {
                    arena.free(block);
                }
                assert_eq!(arena.used(), 0);
            }
        }
    }

    #[test]
    fn blocks_in_each_others_way_are_no_arena() {
        let block = 4096 / UNIT as Ref;
        assert!(Arena::with(4096, 1 << 20, &[(block, 16), (block + 1, 16)]).is_some());
        for blocks in [
            &[(block, 16), (block, 16)][..],
            &[(block, 16), (block + 2, 32)],
            &[(block, 5000), (block + 8, 16)],
            &[(block + 1, 5000)],
            &[(0, 16)],
            &[(Ref::MAX >> 1, 16)],
        ] {
            assert!(Arena::with(4096, 1 << 20, blocks).is_none(), "{blocks:?}");
        }
    }
}
