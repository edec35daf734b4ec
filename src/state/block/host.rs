//! What the tree knows of a host: its shapes in order of precedence, and counts.

use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;

use super::offset;
use crate::state::key::{End, HostKind, Shape};
use crate::state::mem::{Memory, Ref};

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
