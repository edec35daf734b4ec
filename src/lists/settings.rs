use rkyv::{Archive, Deserialize, Serialize};

/// Addresses from `first` to `last`, both included; IPv4 as v4-mapped IPv6, so that one order holds for both.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Range {
    /// The first address.
    pub first: u128,
    /// The last address.
    pub last: u128,
}

impl ArchivedRange {
    /// The range in the machine's own byte order.
    #[must_use]
    pub fn range(&self) -> Range {
        Range { first: self.first.to_native(), last: self.last.to_native() }
    }
}

/// A set of addresses: ranges in order, without overlap and without neighbours that could be one.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Hash)]
pub struct List {
    /// Its name.
    pub name: String,
    /// The ranges.
    pub ranges: Vec<Range>,
}

/// Addresses that are refused before anything else.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Hash)]
pub struct Ban {
    /// The addresses.
    pub range: Range,
    /// Until when, seconds since the Unix epoch; 0 = until it is lifted.
    pub until: u64,
    /// Why, for the log.
    pub reason: String,
}
