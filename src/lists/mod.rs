//! Lists of addresses: who is let in, who is kept out, who is banned until when.

mod set;
mod settings;

pub use set::{ArchivedBans, ArchivedSet, Bans, Set, merge, wide};
pub use settings::{ArchivedBan, ArchivedList, ArchivedRange, Ban, List, Range};
