//! The blocks of the arena: what stands at which offset, and how large each kind is.
//!
//! Blocks are not tagged. Where a reference stands says what it leads to, and how many bytes a block has follows from
//! its own first words, which is all that mark and sweep needs.

use std::sync::atomic::Ordering::Relaxed;

use super::hash;
use super::key::{End, HostKind, KEY_HEADER, Shape};
use super::mem::{Memory, Ref, UNIT};

/// Tags a reference in the hash trie as one to a branch.
pub(super) const BRANCH: Ref = 1 << 31;

/// The offset of a block.
#[inline(always)]
pub(super) const fn offset(block: Ref) -> usize {
    (block & !BRANCH) as usize * UNIT
}

/// What a generation begins with: the roots of its structures. 64 bytes, written anew at each commit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Root {
    pub generation: u32,
    /// Hash trie of leaves, by host and path.
    pub paths: Ref,
    /// Hash trie of host records.
    pub hosts: Ref,
    /// Hash trie of name records.
    pub names: Ref,
    /// The persistent vector of ids, and how many levels it has.
    pub ids: Ref,
    pub levels: u32,
    pub next_slot: u32,
    pub objects: u32,
    /// Bit i: there is, or was, a wildcard host of i labels.
    pub label_counts: u64,
    pub wildcards: u32,
    /// The host record of routes without a host.
    pub any: Ref,
    /// How many keys have a priority other than 0.
    pub prioritised: u32,
}

impl Root {
    pub(super) const SIZE: usize = 64;

    #[inline(always)]
    pub(super) fn read(memory: &Memory, block: Ref) -> Self {
        let Some(words) = memory.words_at(offset(block), Self::SIZE / 8).first_chunk::<8>() else {
            return Self::default();
        };
        let [_, one, two, three, four, label_counts, five, six] = words.each_ref().map(|word| word.load(Relaxed));
        let halves = |word: u64| {
            let [a, b, c, d, e, f, g, h] = word.to_ne_bytes();
            (u32::from_ne_bytes([a, b, c, d]), u32::from_ne_bytes([e, f, g, h]))
        };
        let ((generation, paths), (hosts, names)) = (halves(one), halves(two));
        let ((ids, levels), (next_slot, objects)) = (halves(three), halves(four));
        let ((wildcards, any), (prioritised, _)) = (halves(five), halves(six));
        Self {
            generation,
            paths,
            hosts,
            names,
            ids,
            levels,
            next_slot,
            objects,
            label_counts,
            wildcards,
            any,
            prioritised,
        }
    }

    pub(super) fn write(&self, memory: &Memory, block: Ref) {
        let at = offset(block);
        let words = [
            self.generation,
            self.paths,
            self.hosts,
            self.names,
            self.ids,
            self.levels,
            self.next_slot,
            self.objects,
            0,
            0,
            self.wildcards,
            self.any,
            self.prioritised,
            0,
        ];
        for (index, word) in words.into_iter().enumerate() {
            memory.put_u32(at + 8 + 4 * index, word);
        }
        memory.put_u64(at + 40, self.label_counts);
        memory.put_u64(at, Self::checksum(memory, block));
    }

    /// Whether the record is what was written; asked at takeover only.
    pub(super) fn is_intact(memory: &Memory, block: Ref) -> bool {
        memory.u64(offset(block)) == Self::checksum(memory, block)
    }

    fn checksum(memory: &Memory, block: Ref) -> u64 {
        hash::bytes(u64::from(block), memory.bytes(offset(block) + 8, Self::SIZE - 8))
    }
}

/// A node of the hash trie with 16 children, by four bits of the hash.
pub(super) mod branch {
    use super::*;

    pub const SIZE: usize = 64;
    pub const WIDTH: usize = 16;

    #[inline(always)]
    pub const fn index(hash: u64, depth: u32) -> usize {
        (hash >> (4 * depth) & 15) as usize
    }

    #[inline(always)]
    pub fn child(memory: &Memory, block: Ref, index: usize) -> Ref {
        memory.u32(offset(block) + 4 * index)
    }

    pub fn set_child(memory: &Memory, block: Ref, index: usize, child: Ref) {
        memory.put_u32(offset(block) + 4 * index, child);
    }
}

/// The end of a way through the hash trie: whole hashes, then the words that they lead to: a record, or for paths what
/// [`Place`] says.
pub(super) mod bucket {
    use super::*;

    pub const SPLIT_ABOVE: usize = 16;
    pub const MERGE_UP_TO: usize = 8;
    /// From this depth on a bucket grows instead, since hashes that agree so far agree altogether.
    pub const DEEPEST: u32 = 15;

    pub const fn size(count: usize) -> usize {
        8 + 16 * count
    }

    #[inline(always)]
    pub fn count(memory: &Memory, block: Ref) -> usize {
        memory.u32(offset(block)) as usize
    }

    #[inline(always)]
    pub fn hash(memory: &Memory, block: Ref, index: usize) -> u64 {
        memory.u64(offset(block) + 8 + 8 * index)
    }

    #[inline(always)]
    pub fn word(memory: &Memory, block: Ref, count: usize, index: usize) -> u64 {
        memory.u64(offset(block) + 8 + 8 * (count + index))
    }

    pub fn write(memory: &Memory, block: Ref, entries: &[(u64, u64)]) {
        let at = offset(block);
        memory.put_u32(at, entries.len() as u32);
        memory.put_u32(at + 4, 0);
        for (index, (hash, word)) in entries.iter().enumerate() {
            memory.put_u64(at + 8 + 8 * index, *hash);
            memory.put_u64(at + 8 + 8 * (entries.len() + index), *word);
        }
    }
}

/// The word of `hash` in the hash trie below `root` that `is` accepts.
#[inline(always)]
pub(super) fn find(memory: &Memory, root: Ref, hash: u64, mut is: impl FnMut(u64) -> bool) -> Option<u64> {
    let mut node = root;
    let mut depth = 0;
    while node & BRANCH != 0 {
        node = branch::child(memory, node, branch::index(hash, depth));
        depth += 1;
    }
    if node == 0 {
        return None;
    }
    let count = bucket::count(memory, node);
    for (index, other) in memory.words_at(offset(node) + 8, count).iter().enumerate() {
        if other.load(Relaxed) == hash {
            let word = bucket::word(memory, node, count, index);
            if is(word) {
                return Some(word);
            }
        }
    }
    None
}

/// [`find`] where words are records.
#[inline(always)]
pub(super) fn find_record(memory: &Memory, root: Ref, hash: u64, mut is: impl FnMut(Ref) -> bool) -> Option<Ref> {
    find(memory, root, hash, |word| is(word as Ref)).map(|word| word as Ref)
}

/// One route under a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub blob: Ref,
    pub methods: u16,
    /// Where the key stands in the blob, in units of 4 bytes.
    pub key: u16,
}

impl Entry {
    #[inline(always)]
    pub(super) const fn from_word(word: u64) -> Self {
        Self { blob: word as u32, methods: (word >> 32) as u16, key: (word >> 48) as u16 }
    }

    pub(super) const fn word(self) -> u64 {
        self.blob as u64 | (self.methods as u64) << 32 | (self.key as u64) << 48
    }
}

/// What a key leads to: one route, whose entry is the word itself, or a leaf with several, tagged by [`BRANCH`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place(pub u64);

impl Place {
    pub(super) const fn leaf(block: Ref) -> Self {
        Self((block | BRANCH) as u64)
    }

    /// The leaf, where there is one.
    #[inline(always)]
    pub(super) const fn block(self) -> Option<Ref> {
        let block = self.0 as Ref;
        if block & BRANCH != 0 { Some(block & !BRANCH) } else { None }
    }

    #[inline(always)]
    pub(super) fn count(self, memory: &Memory) -> usize {
        self.block().map_or(1, |block| leaf::count(memory, block))
    }

    #[inline(always)]
    pub(super) fn entry(self, memory: &Memory, index: usize) -> Entry {
        match self.block() {
            None => Entry::from_word(self.0),
            Some(block) => leaf::entry(memory, block, index),
        }
    }
}

/// Several routes under one key, the one to try first first.
pub(super) mod leaf {
    use super::*;

    pub const fn size(count: usize) -> usize {
        8 + 8 * count
    }

    #[inline(always)]
    pub fn count(memory: &Memory, block: Ref) -> usize {
        memory.u32(offset(block)) as usize
    }

    #[inline(always)]
    pub fn entry(memory: &Memory, block: Ref, index: usize) -> Entry {
        Entry::from_word(memory.u64(offset(block) + 8 + 8 * index))
    }

    pub fn write(memory: &Memory, block: Ref, entries: &[Entry]) {
        let at = offset(block);
        memory.put_u32(at, entries.len() as u32);
        memory.put_u32(at + 4, 0);
        for (index, entry) in entries.iter().enumerate() {
            memory.put_u64(at + 8 + 8 * index, entry.word());
        }
    }
}

/// What the tree knows of a host: its shapes in order of precedence, and counts.
pub(super) mod host {
    use super::*;
    use std::sync::atomic::AtomicU32;

    pub const HEADER: usize = 24;
    pub const SHAPE: usize = 12;
    /// A lookup walks all of them, so their number is its bound.
    pub const SHAPES_MAX: usize = 128;

    pub const fn size(shapes: usize, name: usize) -> usize {
        HEADER + SHAPE * shapes + name
    }

    pub fn size_of(memory: &Memory, block: Ref) -> usize {
        size(shapes(memory, block), memory.u16(offset(block)).into())
    }

    #[inline(always)]
    pub fn shapes(memory: &Memory, block: Ref) -> usize {
        memory.u16(offset(block) + 4).into()
    }

    /// The shapes, each with how many keys have it.
    #[inline(always)]
    pub fn iter<'a>(memory: &Memory, block: Ref) -> impl Iterator<Item = (Shape, u32)> + use<'a> {
        let words: &'a [AtomicU32] = memory.halves_at(offset(block) + HEADER, 3 * shapes(memory, block));
        words.as_chunks().0.iter().map(|[literal, kind, keys]: &[AtomicU32; 3]| {
            let [count, end, ..] = kind.load(Relaxed).to_ne_bytes();
            (Shape { literal: literal.load(Relaxed), count, end: End::from_number(end) }, keys.load(Relaxed))
        })
    }

    /// How many keys with an exact path.
    #[inline(always)]
    pub fn exact(memory: &Memory, block: Ref) -> u32 {
        memory.u32(offset(block) + 8)
    }

    /// How many keys with a priority other than 0.
    #[inline(always)]
    pub fn prioritised(memory: &Memory, block: Ref) -> u32 {
        memory.u32(offset(block) + 12)
    }

    #[inline(always)]
    pub fn is(memory: &Memory, block: Ref, kind: HostKind, name: &[u8]) -> bool {
        let at = offset(block);
        let length = usize::from(memory.u16(at));
        length == name.len()
            && memory.u16(at + 2) == kind as u16
            && memory.bytes(at + HEADER + SHAPE * shapes(memory, block), length) == name
    }

    pub fn write(memory: &Memory, block: Ref, kind: HostKind, name: &[u8], counts: [u32; 2], shapes: &[(Shape, u32)]) {
        let at = offset(block);
        memory.put_u16(at, name.len() as u16);
        memory.put_u16(at + 2, kind as u16);
        memory.put_u16(at + 4, shapes.len() as u16);
        memory.put_u16(at + 6, 0);
        memory.put_u32(at + 8, counts[0]);
        memory.put_u32(at + 12, counts[1]);
        memory.put_u64(at + 16, 0);
        for (index, (shape, keys)) in shapes.iter().enumerate() {
            let at = at + HEADER + SHAPE * index;
            memory.put_u32(at, shape.literal);
            memory.put_u16(at + 4, u16::from_ne_bytes([shape.count, shape.end as u8]));
            memory.put_u16(at + 6, 0);
            memory.put_u32(at + 8, *keys);
        }
        memory.write(at + HEADER + SHAPE * shapes.len(), name);
    }
}

/// A name and its id; lives as long as the name does.
pub(super) mod name {
    use super::*;
    use crate::types::Id;

    const HEADER: usize = 12;

    pub const fn size(length: usize) -> usize {
        HEADER + length
    }

    pub fn size_of(memory: &Memory, block: Ref) -> usize {
        size(memory.u16(offset(block) + 10).into())
    }

    pub fn id(memory: &Memory, block: Ref) -> Id {
        let at = offset(block);
        Id { slot: memory.u32(at), birth: memory.u32(at + 4) }
    }

    pub fn hash(kind: u8, name: &[u8]) -> u64 {
        hash::bytes(0x100 | u64::from(kind), name)
    }

    pub fn is(memory: &Memory, block: Ref, kind: u8, name: &[u8]) -> bool {
        let at = offset(block);
        memory.u16(at + 8) == u16::from(kind)
            && usize::from(memory.u16(at + 10)) == name.len()
            && memory.bytes(at + HEADER, name.len()) == name
    }

    pub fn write(memory: &Memory, block: Ref, id: Id, kind: u8, name: &[u8]) {
        let at = offset(block);
        memory.put_u32(at, id.slot);
        memory.put_u32(at + 4, id.birth);
        memory.put_u16(at + 8, kind.into());
        memory.put_u16(at + 10, name.len() as u16);
        memory.write(at + HEADER, name);
    }
}

/// The persistent vector of ids: leaves of 16 entries {blob, birth} with their kinds beside them, so that looking for
/// the few objects of one kind reads no others; above them nodes of 32.
pub(super) mod ids {
    use super::*;

    pub const LEAF: usize = 16;
    pub const LEAF_SIZE: usize = 16 * 8 + 16;
    pub const NODE: usize = 32;
    pub const NODE_SIZE: usize = 32 * 4;

    /// How many slots `levels` levels hold.
    pub const fn capacity(levels: u32) -> u64 {
        match levels {
            0 => 0,
            _ => (LEAF as u64) << (5 * (levels - 1)),
        }
    }

    /// The index of `slot`'s child in a node `above` levels over the leaves.
    #[inline(always)]
    pub const fn index(slot: u32, above: u32) -> usize {
        (slot as u64 >> (5 * above - 1) & 31) as usize
    }

    #[inline(always)]
    pub fn leaf(memory: &Memory, root: Ref, levels: u32, slot: u32) -> Option<Ref> {
        if slot as u64 >= capacity(levels) {
            return None;
        }
        let mut node = root;
        for above in (1..levels).rev() {
            if node == 0 {
                return None;
            }
            node = memory.u32(offset(node) + 4 * index(slot, above));
        }
        (node != 0).then_some(node)
    }

    #[inline(always)]
    pub fn entry(memory: &Memory, leaf: Ref, index: usize) -> (Ref, u32) {
        let at = offset(leaf) + 8 * index;
        (memory.u32(at), memory.u32(at + 4))
    }

    pub fn kinds(memory: &Memory, leaf: Ref) -> [u8; LEAF] {
        let at = offset(leaf) + 8 * LEAF;
        let (low, high) = (memory.u64(at).to_ne_bytes(), memory.u64(at + 8).to_ne_bytes());
        std::array::from_fn(|index| low.iter().chain(&high).nth(index).copied().unwrap_or(0))
    }

    pub fn set(memory: &Memory, leaf: Ref, index: usize, blob: Ref, birth: u32, kind: u8) {
        let at = offset(leaf);
        memory.put_u32(at + 8 * index, blob);
        memory.put_u32(at + 8 * index + 4, birth);
        memory.write(at + 8 * LEAF + index, &[kind]);
    }
}

/// A mutable block that belongs to an object; its words are atomics.
pub(super) mod table {
    use super::*;

    pub const HEADER: usize = 16;

    pub const fn size(words: usize) -> usize {
        HEADER + 8 * words
    }

    pub fn count(memory: &Memory, block: Ref) -> usize {
        memory.u32(offset(block) + 8) as usize
    }

    pub fn fingerprint(memory: &Memory, block: Ref) -> u64 {
        memory.u64(offset(block))
    }

    pub fn write(memory: &Memory, block: Ref, fingerprint: u64, words: &[u64]) {
        let at = offset(block);
        memory.put_u64(at, fingerprint);
        memory.put_u32(at + 8, words.len() as u32);
        memory.put_u32(at + 12, 0);
        for (index, word) in words.iter().enumerate() {
            memory.put_u64(at + HEADER + 8 * index, *word);
        }
    }
}

/// An object: a header, for routes their keys, the name, and the archived value at a multiple of 16.
pub(super) mod blob {
    use super::*;
    use crate::types::Id;

    pub const HEADER: usize = 64;
    /// Leaves count keys in units of four bytes in sixteen bits.
    pub const KEYS_MAX: usize = 4 * u16::MAX as usize - HEADER;

    /// What a blob is made of.
    pub struct Parts<'a> {
        pub kind: u8,
        pub id: Id,
        pub seq: u32,
        pub digest: u64,
        pub table: Ref,
        pub priority: i32,
        pub methods: u16,
        pub conditions: u16,
        pub keys: &'a [u8],
        pub key_count: u16,
        pub name: &'a [u8],
        pub payload: &'a [u8],
    }

    impl Parts<'_> {
        fn payload_at(&self) -> usize {
            (HEADER + self.keys.len() + self.name.len()).next_multiple_of(UNIT)
        }

        pub fn size(&self) -> usize {
            self.payload_at() + self.payload.len()
        }

        pub fn write(&self, memory: &Memory, block: Ref) {
            let at = offset(block);
            memory.put_u32(at, self.size() as u32);
            memory.put_u16(at + 4, self.kind.into());
            memory.put_u16(at + 6, self.name.len() as u16);
            memory.put_u64(at + 16, self.digest);
            memory.put_u32(at + 24, self.id.slot);
            memory.put_u32(at + 28, self.id.birth);
            memory.put_u32(at + 32, self.seq);
            memory.put_u32(at + 36, self.table);
            memory.put_u32(at + 40, self.priority as u32);
            memory.put_u16(at + 44, self.methods);
            memory.put_u16(at + 46, self.conditions);
            memory.put_u32(at + 48, self.keys.len() as u32);
            memory.put_u32(at + 52, self.key_count.into());
            memory.put_u32(at + 56, self.payload_at() as u32);
            memory.put_u32(at + 60, self.payload.len() as u32);
            memory.write(at + HEADER, self.keys);
            let name_end = HEADER + self.keys.len() + self.name.len();
            memory.write(at + HEADER + self.keys.len(), self.name);
            memory.write(at + name_end, [0; UNIT].get(..self.payload_at() - name_end).unwrap_or_default());
            memory.write(at + self.payload_at(), self.payload);
            memory.put_u64(at + 8, checksum(memory, block));
        }
    }

    pub fn size_of(memory: &Memory, block: Ref) -> usize {
        memory.u32(offset(block)) as usize
    }

    #[inline(always)]
    pub fn kind(memory: &Memory, block: Ref) -> u8 {
        memory.u16(offset(block) + 4) as u8
    }

    pub fn digest(memory: &Memory, block: Ref) -> u64 {
        memory.u64(offset(block) + 16)
    }

    #[inline(always)]
    pub fn id(memory: &Memory, block: Ref) -> Id {
        let at = offset(block);
        Id { slot: memory.u32(at + 24), birth: memory.u32(at + 28) }
    }

    #[inline(always)]
    pub fn seq(memory: &Memory, block: Ref) -> u32 {
        memory.u32(offset(block) + 32)
    }

    #[inline(always)]
    pub fn table(memory: &Memory, block: Ref) -> Ref {
        memory.u32(offset(block) + 36)
    }

    #[inline(always)]
    pub fn priority(memory: &Memory, block: Ref) -> i32 {
        memory.u32(offset(block) + 40) as i32
    }

    pub fn methods(memory: &Memory, block: Ref) -> u16 {
        memory.u16(offset(block) + 44)
    }

    pub fn conditions(memory: &Memory, block: Ref) -> u16 {
        memory.u16(offset(block) + 46)
    }

    pub fn keys<'a>(memory: &Memory, block: Ref) -> &'a [u8] {
        memory.bytes(offset(block) + HEADER, memory.u32(offset(block) + 48) as usize)
    }

    pub fn key_count(memory: &Memory, block: Ref) -> usize {
        memory.u32(offset(block) + 52) as usize
    }

    pub fn name<'a>(memory: &Memory, block: Ref) -> &'a [u8] {
        let at = offset(block);
        memory.bytes(at + HEADER + memory.u32(at + 48) as usize, memory.u16(at + 6).into())
    }

    #[inline(always)]
    pub fn payload<'a>(memory: &Memory, block: Ref) -> &'a [u8] {
        let at = offset(block);
        memory.bytes(at + memory.u32(at + 56) as usize, memory.u32(at + 60) as usize)
    }

    /// The fold over all bytes but the checksum itself.
    pub fn checksum(memory: &Memory, block: Ref) -> u64 {
        let at = offset(block);
        let head = hash::bytes(memory.u64(at), memory.bytes(at + 16, HEADER - 16));
        hash::bytes(head, memory.bytes(at + HEADER, size_of(memory, block).saturating_sub(HEADER)))
    }

    pub fn is_intact(memory: &Memory, block: Ref) -> bool {
        size_of(memory, block) >= HEADER && memory.u64(offset(block) + 8) == checksum(memory, block)
    }
}

/// The header of a key where it stands in a blob.
#[derive(Clone, Copy)]
pub(super) struct StoredKey {
    at: usize,
    pub shape: Shape,
    pub host_kind: u8,
    /// The tail is captured.
    pub is_captured: bool,
    host_length: u16,
    path_length: u16,
    pub rule: u16,
}

impl StoredKey {
    #[inline(always)]
    pub(super) fn of(memory: &Memory, entry: Entry) -> Self {
        let at = offset(entry.blob) + 4 * usize::from(entry.key);
        let header = memory.halves_at(at, KEY_HEADER / 4).first_chunk::<4>();
        let [literal, kinds, lengths, rule] =
            header.map_or([0; 4], |words| words.each_ref().map(|word| word.load(Relaxed)));
        let [count, end, host_kind, captured] = kinds.to_ne_bytes();
        let pair = |word: u32| {
            let [a, b, c, d] = word.to_ne_bytes();
            (u16::from_ne_bytes([a, b]), u16::from_ne_bytes([c, d]))
        };
        let ((host_length, path_length), (rule, _)) = (pair(lengths), pair(rule));
        let shape = Shape { literal, count, end: End::from_number(end) };
        Self { at, shape, host_kind, is_captured: captured != 0, host_length, path_length, rule }
    }

    #[inline(always)]
    pub(super) fn host<'a>(&self, memory: &Memory) -> &'a [u8] {
        memory.bytes(self.at + KEY_HEADER, self.host_length.into())
    }

    #[inline(always)]
    pub(super) fn path<'a>(&self, memory: &Memory) -> &'a [u8] {
        memory.bytes(self.at + KEY_HEADER + usize::from(self.host_length), self.path_length.into())
    }

    /// Bytes up to the next key.
    pub(super) fn size(&self) -> usize {
        (KEY_HEADER + usize::from(self.host_length) + usize::from(self.path_length)).next_multiple_of(4)
    }
}
