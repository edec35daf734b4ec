//! The persistent vector of ids: leaves of 16 entries {blob, birth} with their kinds beside them, so that looking for
//! the few objects of one kind reads no others; above them nodes of 32.

use super::offset;
use crate::state::mem::{Memory, Ref};

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
    memory.pair(offset(leaf) + 8 * index)
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
