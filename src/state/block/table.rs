//! A mutable block that belongs to an object; its words are atomics.

use super::offset;
use crate::state::mem::{Memory, Ref};

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
