//! An object: a header, for routes their keys, the name, and the archived value at a multiple of 16.

use super::offset;
use crate::state::hash;
use crate::state::mem::{Memory, Ref, UNIT};
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
    let (slot, birth) = memory.pair(offset(block) + 24);
    Id { slot, birth }
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
    let (start, length) = memory.pair(at + 56);
    memory.bytes(at + start as usize, length as usize)
}

/// The fold over all bytes but the checksum itself.
pub fn checksum(memory: &Memory, block: Ref) -> u64 {
    let at = offset(block);
    let head = hash::bytes(hash::Seed::NONE, memory.u64(at), memory.bytes(at + 16, HEADER - 16));
    hash::bytes(hash::Seed::NONE, head, memory.bytes(at + HEADER, size_of(memory, block).saturating_sub(HEADER)))
}

pub fn is_intact(memory: &Memory, block: Ref) -> bool {
    size_of(memory, block) >= HEADER && memory.u64(offset(block) + 8) == checksum(memory, block)
}
