//! The blocks of the arena: what stands at which offset, and how large each kind is.
//!
//! Blocks are not tagged. Where a reference stands says what it leads to, and how many bytes a block has follows from
//! its own first words, which is all that mark and sweep needs.

pub(super) mod blob;
pub(super) mod host;
pub(super) mod ids;
pub(super) mod name;
pub(super) mod table;

use std::sync::atomic::Ordering::Relaxed;

use super::hash;
use super::key::{End, HostKind, KEY_HEADER, Key, Pattern, Shape, key_hash};
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
        hash::bytes(hash::Seed::NONE, u64::from(block), memory.bytes(offset(block) + 8, Self::SIZE - 8))
    }
}

/// A node of the hash trie with 64 children, by six bits of the hash: a lookup in 100,000 routes meets two or three.
pub(super) mod branch {
    use super::*;

    pub const SIZE: usize = 4 * WIDTH;
    pub const WIDTH: usize = 64;

    #[inline(always)]
    pub const fn index(hash: u64, depth: u32) -> usize {
        (hash >> (6 * depth) & 63) as usize
    }

    #[inline(always)]
    pub fn child(memory: &Memory, block: Ref, index: usize) -> Ref {
        memory.u32(offset(block) + 4 * index)
    }

    pub fn set_child(memory: &Memory, block: Ref, index: usize, child: Ref) {
        memory.put_u32(offset(block) + 4 * index, child);
    }
}

/// The end of a way through the hash trie: a word with a tag for each entry and their count, then the words that they
/// lead to: a record, or for paths what [`Place`] says. A full one is a cache line. Whole hashes are not kept, since
/// what the words lead to is compared anyway and can be hashed anew on the rare occasion of a split.
pub(super) mod bucket {
    use super::*;

    /// How many tags fit into the word in front.
    pub const SPLIT_ABOVE: usize = 7;
    pub const MERGE_UP_TO: usize = 4;
    /// From this depth on a bucket grows instead, since hashes that agree so far agree altogether; entries beyond the
    /// seventh have no tag.
    pub const DEEPEST: u32 = 10;
    pub const MOST: usize = 255;

    pub const fn size(count: usize) -> usize {
        8 + 8 * count
    }

    /// What an entry is told by before its word is looked at: the bits of the hash that no branch takes.
    #[inline(always)]
    pub const fn tag(hash: u64) -> u8 {
        (hash >> 56) as u8
    }

    #[inline(always)]
    pub fn count(memory: &Memory, block: Ref) -> usize {
        (memory.u64(offset(block)) >> 56) as usize
    }

    /// The tag of an entry; 0 where it has none.
    pub fn tag_at(memory: &Memory, block: Ref, index: usize) -> u8 {
        let tags = memory.u64(offset(block)).to_le_bytes();
        tags.get(..SPLIT_ABOVE).and_then(|tags| tags.get(index)).copied().unwrap_or(0)
    }

    #[inline(always)]
    pub fn word(memory: &Memory, block: Ref, index: usize) -> u64 {
        memory.u64(offset(block) + 8 + 8 * index)
    }

    pub fn set_word(memory: &Memory, block: Ref, index: usize, word: u64) {
        memory.put_u64(offset(block) + 8 + 8 * index, word);
    }

    pub fn write(memory: &Memory, block: Ref, entries: &[(u8, u64)]) {
        let mut head = [0; 8];
        for (place, (tag, _)) in head.iter_mut().zip(entries).take(SPLIT_ABOVE) {
            *place = *tag;
        }
        if let Some(count) = head.last_mut() {
            *count = entries.len() as u8;
        }
        memory.put_u64(offset(block), u64::from_le_bytes(head));
        for (index, (_, word)) in entries.iter().enumerate() {
            set_word(memory, block, index, *word);
        }
    }
}

/// The word of `hash` in the hash trie below `root` that `is` accepts.
#[inline(always)]
pub(super) fn find(memory: &Memory, root: Ref, hash: u64, mut is: impl FnMut(u64) -> bool) -> Option<u64> {
    let mut node = root;
    let mut left = hash;
    while node & BRANCH != 0 {
        node = branch::child(memory, node, branch::index(left, 0));
        left >>= 6;
    }
    if node == 0 {
        return None;
    }
    let head = memory.u64(offset(node));
    let count = (head >> 56) as usize;
    let mut marks = hash::marks(head, bucket::tag(hash)) & ((1 << (8 * count.min(bucket::SPLIT_ABOVE))) - 1);
    let mut untagged = bucket::SPLIT_ABOVE;
    loop {
        let index = if marks != 0 {
            marks.trailing_zeros() as usize / 8
        } else if untagged < count {
            untagged += 1;
            untagged - 1
        } else {
            return None;
        };
        let word = bucket::word(memory, node, index);
        if is(word) {
            return Some(word);
        }
        marks &= marks.saturating_sub(1);
    }
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
    /// Bytes of the expression that follows the path; 0 = none does.
    regex_length: u16,
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
        let ((host_length, path_length), (rule, regex_length)) = (pair(lengths), pair(rule));
        let shape = Shape { literal, count, end: End::from_number(end) };
        Self { at, shape, host_kind, is_captured: captured != 0, host_length, path_length, rule, regex_length }
    }

    /// Whether the key of `entry` is the one of an exact path: in one look at its bytes.
    #[inline(always)]
    pub(super) fn is_exact(memory: &Memory, entry: Entry, kind: HostKind, host: &[u8], path: &[u8]) -> bool {
        let at = offset(entry.blob) + 4 * usize::from(entry.key);
        let Some((header, rest)) =
            memory.bytes(at, KEY_HEADER + host.len() + path.len()).split_first_chunk::<KEY_HEADER>()
        else {
            return false;
        };
        let Some((found_host, found_path)) = rest.split_at_checked(host.len()) else { return false };
        let (Ok(host_length), Ok(path_length)) = (u16::try_from(host.len()), u16::try_from(path.len())) else {
            return false;
        };
        let ([a, b], [c, d]) = (host_length.to_ne_bytes(), path_length.to_ne_bytes());
        // No literals to ask for, no segments, nothing captured.
        let wanted = [0, 0, 0, 0, 0, End::Exact as u8, kind as u8, 0, a, b, c, d];
        header.first_chunk() == Some(&wanted) && hash::same(found_path, path) && hash::same(found_host, host)
    }

    /// The hash under which it stands in the trie.
    pub(super) fn hash(&self, memory: &Memory) -> u64 {
        key_hash(memory.seed(), self.host_kind, self.host(memory), self.shape, self.path(memory))
    }

    #[inline(always)]
    pub(super) fn host<'a>(&self, memory: &Memory) -> &'a [u8] {
        memory.bytes(self.at + KEY_HEADER, self.host_length.into())
    }

    #[inline(always)]
    pub(super) fn path<'a>(&self, memory: &Memory) -> &'a [u8] {
        memory.bytes(self.at + KEY_HEADER + usize::from(self.host_length), self.path_length.into())
    }

    /// The expression, where the key ends in one, with the length of its literal prefix.
    #[inline(always)]
    pub(super) fn regex<'a>(&self, memory: &Memory) -> Option<(u16, &'a [u8])> {
        if self.regex_length == 0 {
            return None;
        }
        let bytes = memory.bytes(self.end(), 2 + usize::from(self.regex_length));
        let (prefix, text) = bytes.split_first_chunk::<2>()?;
        Some((u16::from_ne_bytes(*prefix), text))
    }

    /// The key as it was encoded.
    pub(super) fn decode(&self, memory: &Memory) -> Key {
        Key {
            host_kind: match self.host_kind {
                0 => HostKind::Exact,
                1 => HostKind::Wildcard,
                _ => HostKind::Any,
            },
            host: self.host(memory).to_vec(),
            shape: self.shape,
            path: self.path(memory).to_vec(),
            captured: self.is_captured,
            regex: self.regex(memory).map(|(prefix, text)| Pattern { text: text.to_vec(), prefix }),
            rule: self.rule,
        }
    }

    /// Bytes up to the next key.
    pub(super) fn size(&self) -> usize {
        let regex = if self.regex_length == 0 { 0 } else { 2 + usize::from(self.regex_length) };
        (self.end() - self.at + regex).next_multiple_of(4)
    }

    const fn end(&self) -> usize {
        self.at + KEY_HEADER + self.host_length as usize + self.path_length as usize
    }
}
