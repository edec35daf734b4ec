//! The layout of a region and the only functions that touch its memory.
//!
//! Blocks of the arena are named by their offset from the base in units of 16 bytes. Every access checks
//! its bounds: whatever a damaged region says, nobody reads or writes outside of it. Words are read and written as
//! relaxed atomics, which cost nothing here and make a stale read a wrong value instead of undefined behaviour; what
//! makes values right is the order that [`epoch`](super::epoch) keeps.

use std::fmt;
use std::ptr::NonNull;
use std::slice;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64};

use super::hash::Seed;
use crate::types::Now;

/// A block of the arena, in units of 16 bytes from the base; 0 = none.
pub(super) type Ref = u32;

/// What references count in, and what blocks are aligned to.
pub(super) const UNIT: usize = 16;
/// "gwregion", as the first eight bytes of a little-endian machine; a big-endian one refuses the file, as it must.
const MAGIC: u64 = u64::from_le_bytes(*b"gwregion");
/// Changes whenever the meaning of a byte of the region does.
const LAYOUT: u64 = 11;

const PAGE: usize = 4096;
/// How many threads can read at a time in all but small zones: twice the workers of a large machine, since old ones
/// overlap with new ones at a reload.
pub(super) const SLOTS: usize = 64;
/// Words of a worker slot, which is one cache line.
pub(super) const SLOT_WORDS: usize = 8;
/// Two lines, which the prefetcher takes together.
const SHARD_ALIGN: usize = 128;
const COUNTERS: usize = 64;
/// Below this nothing useful fits; 1 MiB less what an allocator takes for itself.
const SMALLEST: usize = 960 << 10;
/// References reach 32 GiB: the top bit is a tag.
const LARGEST: usize = (1 << 31) * UNIT;

/// Offsets of the header's fields in bytes; what is written while others read stands on its own cache line.
mod field {
    pub const MAGIC: usize = 0;
    pub const LAYOUT: usize = 8;
    pub const SIZE: usize = 16;
    pub const SECRET: usize = 24;
    pub const PLAN: usize = 64;
    pub const CURRENT: usize = 256;
    pub const LEASE: usize = 320;
    pub const FLOOR: usize = 384;
    /// Two words, the masters of the one or two nginx that share the region. They stand here in every layout.
    pub const MASTERS: usize = 448;
    pub const COUNTERS: usize = 512;
    /// The last time: monotonic and wall clock, microseconds; which start of the machine the former belongs to.
    pub const TIME: usize = 1024;
    pub const BOOT: usize = 1040;
    /// 1 = nobody uses the region, and all of it is on the disk.
    pub const CLEAN: usize = 1048;
}

/// Where everything stands in a region of a given size; offsets and lengths in bytes, offsets page aligned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    peers: (usize, usize),
    breakers: (usize, usize),
    upstreams: (usize, usize),
    shards: (usize, usize),
    shard_count: usize,
    rates: (usize, usize),
    revocations: (usize, usize),
    nonces: (usize, usize),
    places: (usize, usize),
    /// The rest, up to the end.
    pub(super) arena: (usize, usize),
}

impl Plan {
    /// Divides `size` bytes: 3/8 to the rate table (a million live keys fill two thirds of it in a zone of 64 MiB),
    /// 1/16 to peers, 7/128 to breakers, 1/256 to upstreams (8,000), 1/8 to the metric shards, 1/32 each to revocations (131,072 in a zone of 64 MiB)
    /// and nonces (260,000), 1/128 to places on routes (2,700 routes), and what is left, nearly 5/16, to the arena.
    fn of(size: usize) -> Self {
        let end = size / PAGE * PAGE;
        let part = |eighths: usize, of: usize| size / of * eighths / PAGE * PAGE;
        let mut at = PAGE + SLOTS * SLOT_WORDS * 8;
        let mut take = |length: usize| {
            let start = at;
            at += length;
            (start, length)
        };
        let peers = take(part(1, 16));
        let breakers = take(part(7, 128));
        let upstreams = take(part(1, 256).max(PAGE));
        let shard_count = if size < 8 << 20 { SLOTS / 2 } else { SLOTS };
        let shards = take(part(1, 8) / (shard_count * SHARD_ALIGN) * (shard_count * SHARD_ALIGN));
        // The next table begins on a page again.
        take(shards.1.next_multiple_of(PAGE) - shards.1);
        let rates = take(part(3, 8));
        let revocations = take(part(1, 32));
        let nonces = take(part(1, 32));
        let places = take(part(1, 128));
        let arena = (at, end.saturating_sub(at));
        Self { peers, breakers, upstreams, shards, shard_count, rates, revocations, nonces, places, arena }
    }

    fn words(&self) -> [usize; 19] {
        [
            self.peers.0,
            self.peers.1,
            self.breakers.0,
            self.breakers.1,
            self.upstreams.0,
            self.upstreams.1,
            self.shards.0,
            self.shards.1,
            self.shard_count,
            self.rates.0,
            self.rates.1,
            self.revocations.0,
            self.revocations.1,
            self.nonces.0,
            self.nonces.1,
            self.places.0,
            self.places.1,
            self.arena.0,
            self.arena.1,
        ]
    }
}

/// Why memory is not a region that this program can use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegionError {
    /// Fewer bytes than anything useful takes.
    TooSmall {
        /// The size that would do, in bytes.
        needed: usize,
    },
    /// More bytes than references reach.
    TooLarge {
        /// The size that would do, in bytes.
        most: usize,
    },
    /// The base is not aligned to 64 bytes.
    Unaligned,
    /// No region was ever formatted here.
    Magic,
    /// A region of another version of the layout.
    Layout {
        /// The version found.
        found: u64,
    },
    /// A region of another size.
    Size {
        /// The size found, in bytes.
        found: u64,
    },
    /// The operating system gave no memory; its error number.
    Memory(i32),
}

impl fmt::Display for RegionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooSmall { needed } => write!(f, "zone is too small: at least {needed} bytes are needed"),
            Self::TooLarge { most } => write!(f, "zone is too large: at most {most} bytes can be used"),
            Self::Unaligned => f.write_str("zone is not aligned to 64 bytes"),
            Self::Magic => f.write_str("zone holds something else"),
            Self::Layout { found } => write!(f, "zone has layout {found}, this program uses layout {LAYOUT}"),
            Self::Size { found } => write!(f, "zone was made for {found} bytes"),
            Self::Memory(number) => write!(f, "no memory for the zone: error {number}"),
        }
    }
}

impl std::error::Error for RegionError {}

/// Checked access to the bytes of a region.
#[derive(Clone, Copy)]
pub(super) struct Memory {
    base: NonNull<u8>,
    size: usize,
}

// SAFETY: a region is memory that any process may use at any time; words are atomics, and bytes are read only in
// blocks that do not change while the reader is announced (see `epoch`).
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    #[inline(always)]
    fn at(&self, offset: usize, length: usize, align: usize) -> Option<NonNull<u8>> {
        debug_assert!(offset.is_multiple_of(align), "offset {offset} for {align} bytes");
        if offset > self.size.wrapping_sub(length) || offset & (align - 1) != 0 {
            return None;
        }
        // SAFETY: within the region. `size` is at least SMALLEST and `length` never above it where it is a constant;
        // where it is not, `bytes` and `write` have compared it.
        Some(unsafe { self.base.add(offset) })
    }

    /// The word at `offset` as an atomic; `None` outside the region.
    #[inline(always)]
    pub(super) fn atomic(&self, offset: usize) -> Option<&AtomicU64> {
        let at = self.at(offset, 8, 8)?;
        // SAFETY: inside the region, aligned, valid for any bits; every access to words goes through atomics.
        Some(unsafe { AtomicU64::from_ptr(at.cast().as_ptr()) })
    }

    #[inline(always)]
    fn atomic32(&self, offset: usize) -> Option<&AtomicU32> {
        let at = self.at(offset, 4, 4)?;
        // SAFETY: as for `atomic`.
        Some(unsafe { AtomicU32::from_ptr(at.cast().as_ptr()) })
    }

    #[inline(always)]
    fn atomic16(&self, offset: usize) -> Option<&AtomicU16> {
        let at = self.at(offset, 2, 2)?;
        // SAFETY: as for `atomic`.
        Some(unsafe { AtomicU16::from_ptr(at.cast().as_ptr()) })
    }

    /// What hashes in this region are keyed with.
    #[inline(always)]
    pub(super) fn seed(&self) -> Seed {
        Seed(self.u64(field::SECRET), self.u64(field::SECRET + 8))
    }

    /// The eight bytes at `offset`; 0 outside the region, like the others.
    #[inline(always)]
    pub(super) fn u64(&self, offset: usize) -> u64 {
        self.atomic(offset).map_or(0, |word| word.load(Relaxed))
    }

    #[inline(always)]
    pub(super) fn u32(&self, offset: usize) -> u32 {
        self.atomic32(offset).map_or(0, |word| word.load(Relaxed))
    }

    /// The two halves of the word at `offset`, in the order in which they stand there: one look for both.
    #[inline(always)]
    pub(super) fn pair(&self, offset: usize) -> (u32, u32) {
        let [a, b, c, d, e, f, g, h] = self.u64(offset).to_ne_bytes();
        (u32::from_ne_bytes([a, b, c, d]), u32::from_ne_bytes([e, f, g, h]))
    }

    #[inline(always)]
    pub(super) fn u16(&self, offset: usize) -> u16 {
        self.atomic16(offset).map_or(0, |word| word.load(Relaxed))
    }

    pub(super) fn put_u64(&self, offset: usize, value: u64) {
        if let Some(word) = self.atomic(offset) {
            word.store(value, Relaxed);
        }
    }

    pub(super) fn put_u32(&self, offset: usize, value: u32) {
        if let Some(word) = self.atomic32(offset) {
            word.store(value, Relaxed);
        }
    }

    pub(super) fn put_u16(&self, offset: usize, value: u16) {
        if let Some(word) = self.atomic16(offset) {
            word.store(value, Relaxed);
        }
    }

    /// Bytes of a published block, or of one that only the caller knows; empty outside the region.
    #[inline(always)]
    pub(super) fn bytes<'a>(&self, offset: usize, length: usize) -> &'a [u8] {
        if length > self.size {
            return &[];
        }
        let Some(at) = self.at(offset, length, 1) else { return &[] };
        // SAFETY: inside the region. The block is immutable from its publication until no announced reader can reach
        // it; the callers in `tree` and `route` tie the result to the reader's view, those in `draft` to the lease.
        unsafe { slice::from_raw_parts(at.as_ptr(), length) }
    }

    /// Writes into a block that nobody else can reach yet.
    pub(super) fn write(&self, offset: usize, bytes: &[u8]) {
        if bytes.len() > self.size {
            return;
        }
        if let Some(at) = self.at(offset, bytes.len(), 1) {
            // SAFETY: inside the region, and the lease's holder alone knows the block; `bytes` is not in it.
            unsafe { at.as_ptr().copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        }
    }

    /// Copies a block into one that nobody else can reach yet.
    pub(super) fn copy(&self, from: usize, to: usize, length: usize) {
        if length > self.size {
            return;
        }
        if let (Some(from), Some(to)) = (self.at(from, length, 1), self.at(to, length, 1)) {
            // SAFETY: both inside the region; two blocks of the arena do not overlap.
            unsafe { to.as_ptr().copy_from_nonoverlapping(from.as_ptr(), length) };
        }
    }

    #[inline(always)]
    fn words<'a>(&self, (offset, length): (usize, usize)) -> &'a [AtomicU64] {
        if length > self.size {
            return &[];
        }
        let Some(at) = self.at(offset, length, 8) else { return &[] };
        // SAFETY: inside the region, aligned; these words are only ever used as atomics.
        unsafe { slice::from_raw_parts(at.cast().as_ptr(), length / 8) }
    }

    /// `count` words at `offset` that are only ever used as atomics.
    #[inline(always)]
    pub(super) fn words_at<'a>(&self, offset: usize, count: usize) -> &'a [AtomicU64] {
        self.words((offset, count.saturating_mul(8)))
    }

    /// `count` halves of words at `offset`, likewise.
    #[inline(always)]
    pub(super) fn halves_at<'a>(&self, offset: usize, count: usize) -> &'a [AtomicU32] {
        let length = count.saturating_mul(4);
        if length > self.size {
            return &[];
        }
        let Some(at) = self.at(offset, length, 4) else { return &[] };
        // SAFETY: as for `words`.
        unsafe { slice::from_raw_parts(at.cast().as_ptr(), count) }
    }

    #[inline(always)]
    pub(super) fn size(&self) -> usize {
        self.size
    }
}

/// A handle to a region: where it begins, how large it is, and what stands where.
///
/// Copies are handles to the same region and carry no lifetime, because what they point at outlives every scope of
/// a worker: whoever made the memory keeps it mapped as long as any copy is in use.
#[derive(Clone, Copy)]
pub struct Region {
    pub(super) memory: Memory,
    pub(super) plan: Plan,
}

impl Region {
    /// Makes a region of zeroed memory. `secret` keys every hash over what clients choose.
    ///
    /// # Safety
    ///
    /// `base` points at `size` bytes that are zero, nobody else uses them yet, and they stay mapped while any copy of
    /// the handle is in use.
    pub unsafe fn format(base: NonNull<u8>, size: usize, secret: [u64; 2]) -> Result<Self, RegionError> {
        let region = Self::over(base, size)?;
        let memory = region.memory;
        memory.put_u64(field::LAYOUT, LAYOUT);
        memory.put_u64(field::SIZE, size as u64);
        memory.put_u64(field::SECRET, secret[0]);
        memory.put_u64(field::SECRET + 8, secret[1]);
        for (index, word) in region.plan.words().into_iter().enumerate() {
            memory.put_u64(field::PLAN + 8 * index, word as u64);
        }
        if let Some(magic) = memory.atomic(field::MAGIC) {
            magic.store(MAGIC, Release);
        }
        Ok(region)
    }

    /// Takes memory that was formatted before, by this program or another of the same layout. Another magic, layout
    /// or size is an error: nothing is ever misread.
    ///
    /// # Safety
    ///
    /// `base` points at `size` readable and writable bytes that stay mapped while any copy of the handle is in use,
    /// and whoever else uses them does so as a region.
    pub unsafe fn attach(base: NonNull<u8>, size: usize) -> Result<Self, RegionError> {
        let region = Self::over(base, size)?;
        let memory = region.memory;
        if memory.atomic(field::MAGIC).is_none_or(|magic| magic.load(Acquire) != MAGIC) {
            return Err(RegionError::Magic);
        }
        let plan = region.plan.words().into_iter().enumerate();
        match (memory.u64(field::LAYOUT), memory.u64(field::SIZE)) {
            (LAYOUT, found) if found != size as u64 => Err(RegionError::Size { found }),
            (LAYOUT, _) => Ok(()),
            (found, _) => Err(RegionError::Layout { found }),
        }?;
        if plan.into_iter().any(|(index, word)| memory.u64(field::PLAN + 8 * index) != word as u64) {
            return Err(RegionError::Magic);
        }
        Ok(region)
    }

    /// A region that nothing is known of; only its masters have a meaning.
    ///
    /// # Safety
    ///
    /// As for [`Region::attach`].
    pub(super) unsafe fn whatever(base: NonNull<u8>, size: usize) -> Result<Self, RegionError> {
        Self::over(base, size)
    }

    /// Fewer bytes are no region.
    pub(super) const SMALLEST: usize = SMALLEST;

    fn over(base: NonNull<u8>, size: usize) -> Result<Self, RegionError> {
        if !base.as_ptr().addr().is_multiple_of(64) {
            return Err(RegionError::Unaligned);
        }
        if size < SMALLEST {
            return Err(RegionError::TooSmall { needed: SMALLEST });
        }
        if size > LARGEST {
            return Err(RegionError::TooLarge { most: LARGEST });
        }
        Ok(Self { memory: Memory { base, size }, plan: Plan::of(size) })
    }

    /// The smallest zone, in bytes, whose arena has `arena` bytes: what to tell the operator whose document was
    /// refused.
    #[must_use]
    pub fn size_for(arena: usize) -> usize {
        let mut size = SMALLEST.next_multiple_of(1 << 20);
        while Plan::of(size).arena.1 < arena && size < LARGEST {
            size += (size / 8).next_multiple_of(1 << 20);
        }
        size
    }

    /// Bytes of the whole region.
    #[must_use]
    pub fn size(&self) -> usize {
        self.memory.size()
    }

    /// Whether both are handles to the same memory.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        self.extent() == other.extent()
    }

    /// Where its memory begins, and how many bytes it has.
    #[must_use]
    pub fn extent(&self) -> (NonNull<u8>, usize) {
        (self.memory.base, self.memory.size)
    }

    /// The key of every hash over what clients choose.
    #[must_use]
    pub fn secret(&self) -> [u64; 2] {
        [self.memory.u64(field::SECRET), self.memory.u64(field::SECRET + 8)]
    }

    /// The generation that is published; 0 = no policy yet.
    #[must_use]
    pub fn generation(&self) -> u32 {
        (self.current().load(Relaxed) >> 32) as u32
    }

    /// The identity word of the writer; 0 = none.
    #[must_use]
    pub fn writer(&self) -> u64 {
        self.lease().load(Relaxed)
    }

    /// How many worker slots there are, each with a metric shard of its own: 32 below 8 MiB, else 64.
    #[must_use]
    pub fn workers(&self) -> u32 {
        self.plan.shard_count as u32
    }

    /// The table of rate keys, in slots of two words.
    #[must_use]
    #[inline]
    pub fn rate_words(&self) -> &[AtomicU64] {
        self.memory.words(self.plan.rates)
    }

    /// The table of revocations, in slots of two words.
    #[must_use]
    #[inline]
    pub fn revocation_words(&self) -> &[AtomicU64] {
        self.memory.words(self.plan.revocations)
    }

    /// The table of nonces, in slots of one word.
    #[must_use]
    #[inline]
    pub fn nonce_words(&self) -> &[AtomicU64] {
        self.memory.words(self.plan.nonces)
    }

    /// The table of places on routes, in slots of 24 words.
    #[must_use]
    #[inline]
    pub fn place_words(&self) -> &[AtomicU64] {
        self.memory.words(self.plan.places)
    }

    /// The table of peer statistics, in slots of 24 words.
    #[must_use]
    #[inline]
    pub fn peer_words(&self) -> &[AtomicU64] {
        self.memory.words(self.plan.peers)
    }

    /// The table of breakers, in slots of 88 words.
    #[must_use]
    #[inline]
    pub fn breaker_words(&self) -> &[AtomicU64] {
        self.memory.words(self.plan.breakers)
    }

    /// The table of upstreams, in slots of four words.
    #[must_use]
    #[inline]
    pub fn upstream_words(&self) -> &[AtomicU64] {
        self.memory.words(self.plan.upstreams)
    }

    /// The metric shard of a worker slot, aligned to 128 bytes; empty beyond the last. Only the slot's owner counts in
    /// it, and it goes on with the next one.
    #[must_use]
    #[inline]
    pub fn shard_words(&self, worker_slot: u32) -> &[AtomicU64] {
        let (start, length) = self.plan.shards;
        if worker_slot as usize >= self.plan.shard_count {
            return &[];
        }
        let each = length / self.plan.shard_count;
        self.memory.words((start + worker_slot as usize * each, each))
    }

    /// Counters of the whole region. The first two are [`Region::panics`] and [`Region::corruptions`], those from 8 on
    /// are free for whoever uses the region.
    #[must_use]
    pub fn counters(&self) -> &[AtomicU64] {
        self.memory.words((field::COUNTERS, COUNTERS * 8))
    }

    /// How many panics were caught.
    #[must_use]
    pub fn panics(&self) -> &AtomicU64 {
        self.header(field::COUNTERS)
    }

    /// How often a takeover of the lease found the tree damaged.
    #[must_use]
    pub fn corruptions(&self) -> &AtomicU64 {
        self.header(field::COUNTERS + 8)
    }

    /// `generation << 32 | root record`; 0 = no policy yet.
    #[inline(always)]
    pub(super) fn current(&self) -> &AtomicU64 {
        self.header(field::CURRENT)
    }

    /// The identity word of the writer.
    pub(super) fn lease(&self) -> &AtomicU64 {
        self.header(field::LEASE)
    }

    /// The last generation of a tree that was given up, so that generations never repeat.
    pub(super) fn floor(&self) -> &AtomicU64 {
        self.header(field::FLOOR)
    }

    /// The identity words of the masters that share it; 0 = none.
    pub(super) fn masters(&self) -> [&AtomicU64; 2] {
        [self.header(field::MASTERS), self.header(field::MASTERS + 8)]
    }

    /// Notes what time it is, for whoever finds the region after all processes have ended.
    pub fn stamp(&self, now: Now) {
        self.header(field::TIME).store(now.mono, Relaxed);
        self.header(field::TIME + 8).store(now.wall, Relaxed);
    }

    /// The time that was noted last.
    #[must_use]
    pub fn stamped(&self) -> Now {
        Now { mono: self.header(field::TIME).load(Relaxed), wall: self.header(field::TIME + 8).load(Relaxed) }
    }

    /// Which start of the machine the monotonic clock belongs to; 0 = not said.
    pub(super) fn boot(&self) -> &AtomicU64 {
        self.header(field::BOOT)
    }

    /// Whether the last user has left it in order.
    pub(super) fn clean(&self) -> &AtomicU64 {
        self.header(field::CLEAN)
    }

    /// The words of a worker slot; empty beyond the last.
    #[inline(always)]
    pub(super) fn slot_words<'a>(&self, slot: u32) -> &'a [AtomicU64] {
        if slot as usize >= SLOTS {
            return &[];
        }
        self.memory.words((PAGE + slot as usize * SLOT_WORDS * 8, SLOT_WORDS * 8))
    }

    #[inline(always)]
    fn header(&self, offset: usize) -> &AtomicU64 {
        static NOWHERE: AtomicU64 = AtomicU64::new(0);
        self.memory.atomic(offset).unwrap_or(&NOWHERE)
    }
}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Region").field("size", &self.size()).field("generation", &self.generation()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_fills_the_region_without_overlap() {
        for size in [SMALLEST, 1 << 20, 1_040_384, 2_080_768, 8_335_360, 64 << 20, (64 << 20) * 994 / 1000, 1 << 30] {
            let plan = Plan::of(size);
            let mut at = PAGE + SLOTS * SLOT_WORDS * 8;
            let Plan { peers, breakers, upstreams, shards, rates, revocations, nonces, places, arena, .. } = plan;
            let parts = [peers, breakers, upstreams, shards, rates, revocations, nonces, places, arena];
            for (start, length) in parts {
                assert_eq!(start % PAGE, 0, "{size}");
                assert!(start >= at && start < at + PAGE && length > 0, "{size}");
                at = start + length;
            }
            assert!(at <= size && at + PAGE > size, "{size}");
            assert!(plan.arena.1 >= size * 3 / 10, "{size}: {}", plan.arena.1);
            assert_eq!(plan.shards.1 / plan.shard_count % SHARD_ALIGN, 0);
        }
        assert!(1_000_000.0 / (Plan::of((64 << 20) * 994 / 1000).rates.1 / 16) as f64 <= 0.7);
    }

    #[test]
    fn the_size_that_would_do_does() {
        for arena in [1, 1 << 20, 5 << 20, 100 << 20] {
            assert!(Plan::of(Region::size_for(arena)).arena.1 >= arena);
        }
    }
}
