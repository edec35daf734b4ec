//! A name and its id; lives as long as the name does.

use super::offset;
use crate::state::hash;
use crate::state::mem::{Memory, Ref};
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

pub fn hash(seed: hash::Seed, kind: u8, name: &[u8]) -> u64 {
    hash::bytes(seed, 0x100 | u64::from(kind), name)
}

pub fn kind(memory: &Memory, block: Ref) -> u8 {
    memory.u16(offset(block) + 8) as u8
}

pub fn bytes<'a>(memory: &Memory, block: Ref) -> &'a [u8] {
    memory.bytes(offset(block) + HEADER, memory.u16(offset(block) + 10).into())
}

pub fn is(memory: &Memory, block: Ref, kind: u8, name: &[u8]) -> bool {
    self::kind(memory, block) == kind && hash::same(bytes(memory, block), name)
}

pub fn write(memory: &Memory, block: Ref, id: Id, kind: u8, name: &[u8]) {
    let at = offset(block);
    memory.put_u32(at, id.slot);
    memory.put_u32(at + 4, id.birth);
    memory.put_u16(at + 8, kind.into());
    memory.put_u16(at + 10, name.len() as u16);
    memory.write(at + HEADER, name);
}
