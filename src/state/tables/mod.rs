//! The fixed tables of the region: slots of atomic words, claimed and changed by compare-and-swap by any process.
//!
//! They refer to policy by id, never by place, and nothing in them is a lock: whatever instruction a process is
//! killed at, the others go on, and the documents of each table say what the dead one may have left behind.

pub mod breaker;
pub mod peers;
pub mod rate;
pub mod shards;
pub mod slot;
