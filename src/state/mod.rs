//! The region: all that outlives a request, in one flat block of memory.
//!
//! `[header][worker slots][fixed tables][arena … end]`, all of it offsets, fixed sizes and atomics, so that any
//! process may map it anywhere and be killed at any instruction. The arena holds the **policy tree**: immutable
//! blocks below one root record. One [`Writer`] (a lease that moves only when its holder is dead) copies the path to
//! what changes and publishes the new root with one store; a [`Reader`] announces the generation that it is in,
//! reads in place, and leaves; replaced blocks are freed when no live reader can reach them ([`epoch`]).
//!
//! [`mem`] is the layout, [`tree`] and [`route`] read and allocate nothing, [`mod@write`] is everything that changes.
//! The allocator's state is private to the writer and rebuilt by mark and sweep when the lease moves ([`mark`]): the
//! region holds the header, the tables and the live tree, and nothing else that would have to be trusted.
//!
//! What outlives the region itself is in files of a [`Folder`]; a region may be one ([`file`]), and its content goes over
//! into another with [`carry`].

mod arena;
pub mod atomic;
mod block;
pub mod carry;
mod cores;
mod draft;
pub mod epoch;
pub mod file;
mod folder;
mod hash;
mod heap;
pub mod identity;
mod key;
pub mod mark;
pub mod mem;
pub mod owner;
pub mod read;
pub mod route;
mod signals;
pub mod tables;
pub mod tree;
pub mod write;

pub use file::{FileError, FileRegion, Found};
pub use folder::Folder;
pub use heap::give_back;
pub use identity::Identity;
pub use mark::Corrupt;
pub use mem::{Region, RegionError};
pub use owner::{HeapRegion, SharedRegion};
pub use read::{Reader, Seat, View};
pub use route::{Captures, Lookup, RouteRef};
pub use signals::without_signals;
pub use tree::{Blob, Tree};
pub use write::{Full, Refusal, Stats, Transaction, Writer};
