//! What the tree knows of a host: its shapes in order of precedence, and counts.
//!
//! `[header][a byte for each shape, up to a multiple of 8][shapes][name]`. The bytes say how many segments a shape
//! has, so that those which cannot fit a request are passed over eight at a time; the filter of a shape says which
//! last literals none of its keys has, so that most of those which fit and lead nowhere are not looked for.

use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;

use super::offset;
use crate::state::hash::{HIGH, marks};
use crate::state::key::{End, HostKind, Shape};
use crate::state::mem::{Memory, Ref};

pub const HEADER: usize = 16;
pub const SHAPE: usize = 16;
/// A lookup walks all of them, so their number is its bound.
pub const SHAPES_MAX: usize = 128;

/// The byte of a shape that more segments than its own fit.
const OPEN: u8 = 0x80;
/// The byte that fits nothing: no request has so many segments.
const NONE: u8 = 0x7f;

/// A shape as a host has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listed {
    pub shape: Shape,
    /// How many keys have it.
    pub keys: u32,
    /// Bit by the hash of the last literal: a key has it, or had.
    pub filter: u32,
}

const fn shapes_at(shapes: usize) -> usize {
    HEADER + shapes.next_multiple_of(8)
}

pub const fn size(shapes: usize, name: usize) -> usize {
    shapes_at(shapes) + SHAPE * shapes + name
}

pub fn size_of(memory: &Memory, block: Ref) -> usize {
    size(shapes(memory, block), memory.u16(offset(block)).into())
}

#[inline(always)]
pub fn shapes(memory: &Memory, block: Ref) -> usize {
    memory.u16(offset(block) + 4).into()
}

/// The shapes.
#[inline(always)]
pub fn iter<'a>(memory: &Memory, block: Ref) -> impl Iterator<Item = Listed> + use<'a> {
    let count = shapes(memory, block);
    let words: &'a [AtomicU32] = memory.halves_at(offset(block) + shapes_at(count), 4 * count);
    words.as_chunks().0.iter().map(listed)
}

#[inline(always)]
fn listed([literal, kind, keys, filter]: &[AtomicU32; 4]) -> Listed {
    let [count, end, ..] = kind.load(Relaxed).to_ne_bytes();
    let shape = Shape { literal: literal.load(Relaxed), count, end: End::from_number(end) };
    Listed { shape, keys: keys.load(Relaxed), filter: filter.load(Relaxed) }
}

/// Calls `with` for each shape that a path of so many segments may fit, until it returns something.
#[inline(always)]
pub fn fitting<T>(
    memory: &Memory,
    block: Ref,
    segments: usize,
    mut with: impl FnMut(Listed) -> Option<T>,
) -> Option<T> {
    let at = offset(block);
    let count = shapes(memory, block);
    let shapes: &[AtomicU32] = memory.halves_at(at + shapes_at(count), 4 * count);
    let shapes = shapes.as_chunks().0;
    for (word, shapes) in memory.words_at(at + HEADER, count.div_ceil(8)).iter().zip(shapes.chunks(8)) {
        let word = u64::from_le(word.load(Relaxed));
        let mut fits = marks(word, segments as u8) | word & HIGH;
        while let Some(shape) = shapes.get(fits.trailing_zeros() as usize / 8) {
            if let Some(found) = with(listed(shape)) {
                return Some(found);
            }
            fits &= fits - 1;
        }
    }
    None
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

/// Sets both counts.
pub fn set_counts(memory: &Memory, block: Ref, [exact, prioritised]: [u32; 2]) {
    memory.put_u32(offset(block) + 8, exact);
    memory.put_u32(offset(block) + 12, prioritised);
}

/// Writes the counts and the filter of the shape at `index`, which is there already.
pub fn set_listed(memory: &Memory, block: Ref, index: usize, listed: Listed) {
    let at = offset(block) + shapes_at(shapes(memory, block)) + SHAPE * index;
    memory.put_u32(at + 8, listed.keys);
    memory.put_u32(at + 12, listed.filter);
}

pub fn kind(memory: &Memory, block: Ref) -> u8 {
    memory.u16(offset(block) + 2) as u8
}

#[inline(always)]
pub fn name<'a>(memory: &Memory, block: Ref) -> &'a [u8] {
    let at = offset(block);
    memory.bytes(at + size(shapes(memory, block), 0), memory.u16(at).into())
}

#[inline(always)]
pub fn is(memory: &Memory, block: Ref, kind: HostKind, name: &[u8]) -> bool {
    self::kind(memory, block) == kind as u8 && crate::state::hash::same(self::name(memory, block), name)
}

pub fn write(memory: &Memory, block: Ref, kind: HostKind, name: &[u8], counts: [u32; 2], shapes: &[Listed]) {
    let at = offset(block);
    memory.put_u16(at, name.len() as u16);
    memory.put_u16(at + 2, kind as u16);
    memory.put_u16(at + 4, shapes.len() as u16);
    memory.put_u16(at + 6, 0);
    set_counts(memory, block, counts);
    for (index, shapes) in shapes.chunks(8).enumerate() {
        let mut bytes = [NONE; 8];
        for (byte, Listed { shape, .. }) in bytes.iter_mut().zip(shapes) {
            *byte = if shape.end == End::Here { shape.count } else { OPEN };
        }
        memory.put_u64(at + HEADER + 8 * index, u64::from_le_bytes(bytes));
    }
    for (index, listed) in shapes.iter().enumerate() {
        let at = at + shapes_at(shapes.len()) + SHAPE * index;
        memory.put_u32(at, listed.shape.literal);
        memory.put_u16(at + 4, u16::from_ne_bytes([listed.shape.count, listed.shape.end as u8]));
        memory.put_u16(at + 6, 0);
        set_listed(memory, block, index, *listed);
    }
    memory.write(at + size(shapes.len(), 0), name);
}
