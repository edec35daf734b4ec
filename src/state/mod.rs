//! The region: all that outlives a request, in one flat block of memory.

pub mod tables;
