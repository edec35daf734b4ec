//! What a role or a consumer grants, compiled: one look into a hash table for each shape of its names, however many
//! names there are.
//!
//! A shape says which segments of a name are `*` and whether it ends in `**`; a set has few. What is required fits a
//! shape by its number of segments, and the shape's literal segments make the key under which a name that covers it
//! would stand.

use rkyv::{Archive, Deserialize, Serialize};

use super::permission::matches;

/// The most segments of a name that the table holds; longer ones are searched one by one.
const SEGMENTS_MAX: usize = 32;

/// A set of granted permissions.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Default)]
pub struct Grants {
    /// The names, as they were written; those that are in no shape come last.
    names: Vec<String>,
    /// How many of `names` are in the table.
    tabled: u32,
    shapes: Vec<Shape>,
    /// Places in `names`, from 1, by the hash of shape and literal segments; 0 = free. A power of two of them.
    table: Vec<u32>,
}

/// Which segments of a name are literal, how many there are, and whether `**` follows them.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
struct Shape {
    literal: u32,
    count: u32,
    rest: bool,
}

impl Grants {
    /// The set of `names`, which are checked ([`super::check_granted`]).
    #[must_use]
    pub fn new(names: &[String]) -> Self {
        let (tabled, others): (Vec<&String>, Vec<&String>) =
            names.iter().partition(|name| name.split(':').count() <= SEGMENTS_MAX);
        let mut set = Self {
            tabled: tabled.len() as u32,
            // Half full at most, so that a search for what is not there ends soon.
            table: vec![0; (2 * tabled.len()).next_power_of_two()],
            names: tabled.into_iter().chain(others).cloned().collect(),
            shapes: Vec::new(),
        };
        for (place, name) in set.names.iter().take(set.tabled as usize).enumerate() {
            let mut shape = Shape { literal: 0, count: 0, rest: false };
            let mut hash = 0;
            for segment in name.split(':') {
                match segment {
                    "**" => shape.rest = true,
                    "*" => shape.count += 1,
                    literal => {
                        hash = fold(hash, segment_hash(literal.as_bytes()));
                        shape.literal |= 1 << shape.count;
                        shape.count += 1;
                    }
                }
            }
            if !set.shapes.contains(&shape) {
                set.shapes.push(shape);
            }
            let mask = set.table.len() - 1;
            let mut at = finish(hash, shape.literal, shape.count, shape.rest) as usize & mask;
            while set.table.get(at).is_some_and(|taken| *taken != 0) {
                at = (at + 1) & mask;
            }
            if let Some(free) = set.table.get_mut(at) {
                *free = place as u32 + 1;
            }
        }
        set
    }

    /// The names, those with more than 32 segments last.
    #[must_use]
    pub fn into_names(self) -> Vec<String> {
        self.names
    }
}

impl ArchivedGrants {
    /// Whether a name of the set covers `required`, which holds no wildcard.
    #[must_use]
    pub fn cover(&self, required: &str) -> bool {
        if self.names.is_empty() {
            return false;
        }
        let mut hashes = [0; SEGMENTS_MAX];
        let mut count = 0;
        for segment in required.as_bytes().split(|byte| *byte == b':') {
            if let Some(place) = hashes.get_mut(count) {
                *place = segment_hash(segment);
            }
            count += 1;
        }
        let found = self.shapes.iter().any(|shape| {
            let (literal, wanted) = (shape.literal.to_native(), shape.count.to_native());
            let fits = if shape.rest { count > wanted as usize } else { count == wanted as usize };
            fits && self.has(&hashes, literal, wanted, shape.rest, required)
        });
        let others = self.names.get(self.tabled.to_native() as usize..).unwrap_or_default();
        found || others.iter().any(|name| matches(name, required))
    }

    fn has(&self, hashes: &[u64; SEGMENTS_MAX], literal: u32, count: u32, rest: bool, required: &str) -> bool {
        let mut hash = 0;
        let mut left = literal;
        while left != 0 {
            let index = left.trailing_zeros() as usize;
            hash = fold(hash, hashes.get(index).copied().unwrap_or(0));
            left &= left - 1;
        }
        let mask = self.table.len().wrapping_sub(1);
        let mut at = finish(hash, literal, count, rest) as usize & mask;
        // A table is never full, so there is a free place at which to end.
        while let Some(place) = self.table.get(at).map(|place| place.to_native()).filter(|place| *place != 0) {
            if self.names.get(place as usize - 1).is_some_and(|name| matches(name, required)) {
                return true;
            }
            at = (at + 1) & mask;
        }
        false
    }
}

/// Operators write the names, so nobody looks for collisions; each is compared whole.
#[inline]
fn segment_hash(segment: &[u8]) -> u64 {
    let (chunks, rest) = segment.as_chunks::<8>();
    let mut hash = segment.len() as u64;
    for chunk in chunks {
        hash = fold(hash, u64::from_le_bytes(*chunk));
    }
    let mut last = [0; 8];
    if let Some(place) = last.get_mut(..rest.len()) {
        place.copy_from_slice(rest);
    }
    fold(hash, u64::from_le_bytes(last))
}

#[inline]
const fn fold(hash: u64, word: u64) -> u64 {
    let product = (hash ^ word ^ 0x9e37_79b9_7f4a_7c15) as u128 * 0xd6e8_feb8_6659_fd93;
    (product >> 64) as u64 ^ product as u64
}

#[inline]
const fn finish(hash: u64, literal: u32, count: u32, rest: bool) -> u64 {
    fold(hash, (literal as u64) << 32 | (count as u64) << 1 | rest as u64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rkyv::rancor::Error;

    use super::super::permission::check_granted;
    use super::*;

    fn cover(grants: &Grants, required: &str) -> bool {
        let bytes = rkyv::to_bytes::<Error>(grants).unwrap();
        rkyv::access::<ArchivedGrants, Error>(&bytes).unwrap().cover(required)
    }

    fn names(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|&text| text.to_owned()).collect()
    }

    #[test]
    fn nothing_and_everything() {
        assert!(!cover(&Grants::new(&[]), "a"));
        assert!(cover(&Grants::new(&names(&["**"])), "a:b:c"));
        assert!(cover(&Grants::new(&names(&["a", "*:b", "c:**"])), "x:b"));
        assert!(!cover(&Grants::new(&names(&["a", "*:b", "c:**"])), "c"));
        // Longer than the table holds.
        let long = vec!["s"; 40].join(":");
        let grants = Grants::new(&names(&[&long, "a"]));
        assert!(cover(&grants, &long) && cover(&grants, "a") && !cover(&grants, &long.replacen('s', "t", 1)));
        assert!(cover(&Grants::new(&names(&["s:**"])), &long));
        assert_eq!(grants.into_names(), ["a".to_owned(), long]);
    }

    proptest! {
        #[test]
        fn as_one_name_after_the_other(
            granted in prop::collection::vec("([ab*]|aa|\\*\\*)(:([ab*]|aa|\\*\\*)){0,3}", 0..20),
            required in prop::collection::vec("[abc*]?(:([ab]|aa|long-segment)){0,4}", 1..30),
        ) {
            let granted: Vec<String> = granted.into_iter().filter(|name| check_granted(name).is_ok()).collect();
            let grants = Grants::new(&granted);
            for required in required {
                let expected = granted.iter().any(|name| matches(name, &required));
                prop_assert_eq!(cover(&grants, &required), expected, "{:?} {}", granted, required);
            }
        }
    }
}
