//! Lists of addresses: who is let in, who is kept out, who is banned until when.

mod settings;

pub use settings::{ArchivedBan, ArchivedList, ArchivedRange, Ban, List, Range};
