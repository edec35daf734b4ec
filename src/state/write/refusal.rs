//! Why a transaction cannot go on.

use std::fmt;

use crate::types::NAME_MAX;

/// Why an object was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The arena has no room.
    Room,
    /// The arena has no room as long as a reader stays in an old generation; later it may have.
    Held,
    /// A name is empty or longer than [`NAME_MAX`].
    Name,
    /// A host is empty, longer than 253 bytes or 32 labels (below a wildcard), or holds control bytes.
    Host,
    /// A path is longer than 4,096 bytes, 32 segments (where it is no exact path) or 16 parameters, or holds control
    /// bytes.
    Path,
    /// The keys of one route take more than 256 KiB.
    Keys,
    /// The patterns and prefixes of one host have more than 128 different shapes.
    Shapes,
    /// The value cannot be archived.
    Value,
}

/// The transaction cannot go on: nothing of it will be committed, and the live policy is untouched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full {
    /// Bytes that would have been needed at least; for [`Refusal::Room`] and [`Refusal::Held`]. How many a whole
    /// document takes, a transaction in a larger region says ([`Stats::live`](super::Stats::live),
    /// [`Region::size_for`](crate::state::Region::size_for)).
    pub needed: usize,
    /// Bytes that are free, some of them in pieces that are too small.
    pub free: usize,
    /// Why.
    pub why: Refusal,
}

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (needed, free) = (self.needed, self.free);
        match self.why {
            Refusal::Room => write!(f, "the zone is full: {needed} more bytes are needed and {free} are free"),
            Refusal::Held => write!(
                f,
                "the zone is full until a worker leaves an old generation: {needed} more bytes are needed and {free} are free"
            ),
            Refusal::Name => write!(f, "a name must have 1 to {NAME_MAX} bytes"),
            Refusal::Host => f.write_str("a host is longer than 253 bytes or 32 labels, or holds control bytes"),
            Refusal::Path => {
                f.write_str("a path is longer than 4096 bytes, 32 segments or 16 parameters, or holds control bytes")
            }
            Refusal::Keys => f.write_str("a route has too many hosts and paths: they take more than 256 KiB"),
            Refusal::Shapes => f.write_str("the patterns and prefixes of one host have more than 128 shapes"),
            Refusal::Value => f.write_str("the value cannot be archived"),
        }
    }
}

impl std::error::Error for Full {}
