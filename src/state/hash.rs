//! Hashes over what operators put into the tree: hosts, paths, names; and the checksum of blocks.
//!
//! Folded multiplication, a word at a time, under the region's secret: whoever may write documents, or have some
//! written, cannot work out which keys meet in one bucket. What a request brings is compared in full before it is
//! believed.

const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
const OTHER: u64 = 0xd6e8_feb8_6659_fd93;

/// What hashes of one region are keyed with; both halves go into every multiplication, so neither factor is known.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seed(pub u64, pub u64);

impl Seed {
    /// For checksums, which nobody aims at.
    pub(super) const NONE: Self = Self(0, 0);
}

/// How many segments of a path patterns and prefixes can tell apart.
pub(super) const SEGMENTS_MAX: usize = 32;

#[inline(always)]
pub(super) const fn fold(a: u64, b: u64) -> u64 {
    let product = a as u128 * b as u128;
    product as u64 ^ (product >> 64) as u64
}

/// Two hashes in order, in one.
#[inline(always)]
pub(super) const fn pair(a: u64, b: u64) -> u64 {
    fold(a ^ OTHER, b.rotate_left(23) ^ ODD)
}

/// Up to seven bytes as a word, zeros behind them.
#[inline(always)]
fn short(bytes: &[u8]) -> u64 {
    match (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
        (Some(low), Some(high)) => {
            let low = u32::from_le_bytes(*low) as u64;
            // The last four bytes overlap the first ones where there are fewer than eight.
            low | (u32::from_le_bytes(*high) as u64) << (8 * (bytes.len() & 7).saturating_sub(4))
        }
        _ => match *bytes {
            [a, b, c] => a as u64 | (b as u64) << 8 | (c as u64) << 16,
            [a, b] => a as u64 | (b as u64) << 8,
            [a] => a as u64,
            _ => 0,
        },
    }
}

/// The hash of `bytes`; `space` tells spaces of keys apart. Sixteen bytes a step, the last ones overlap those before.
#[inline(always)]
pub(super) fn bytes(seed: Seed, space: u64, bytes: &[u8]) -> u64 {
    let hash = seed.0 ^ space ^ ODD;
    let other = seed.1 ^ OTHER;
    let (low, high) = match (bytes.first_chunk::<8>(), bytes.last_chunk::<8>()) {
        (Some(first), Some(last)) if bytes.len() <= 16 => (u64::from_le_bytes(*first), u64::from_le_bytes(*last)),
        (Some(_), Some(_)) => return long(hash, other, bytes),
        _ => (short(bytes), 0),
    };
    finish(fold(low ^ other, high ^ hash), bytes.len())
}

#[inline]
fn long(seed: u64, other: u64, bytes: &[u8]) -> u64 {
    let mut hash = seed;
    let mut rest = bytes;
    while let Some((sixteen, behind)) = rest.split_first_chunk::<16>()
        && !behind.is_empty()
    {
        let (low, high) = halves(sixteen);
        hash = fold(low ^ other, high ^ hash);
        rest = behind;
    }
    let (low, high) = bytes.last_chunk::<16>().map_or((0, 0), halves);
    finish(fold(low ^ other, high ^ hash), bytes.len())
}

#[inline(always)]
const fn finish(hash: u64, length: usize) -> u64 {
    fold(hash ^ OTHER, length as u64 ^ ODD)
}

#[inline(always)]
const fn halves(bytes: &[u8; 16]) -> (u64, u64) {
    let whole = u128::from_le_bytes(*bytes);
    (whole as u64, (whole >> 64) as u64)
}

/// Whether two strings are equal. They are short and mostly are, so no byte is looked at to leave early.
#[inline(always)]
pub(super) fn same(one: &[u8], other: &[u8]) -> bool {
    if one.len() != other.len() {
        return false;
    }
    let (Some(a), Some(b)) = (one.last_chunk::<8>(), other.last_chunk::<8>()) else {
        return short(one) == short(other);
    };
    let mut odd = u64::from_le_bytes(*a) ^ u64::from_le_bytes(*b);
    for (a, b) in one.as_chunks::<8>().0.iter().zip(other.as_chunks::<8>().0) {
        odd |= u64::from_le_bytes(*a) ^ u64::from_le_bytes(*b);
    }
    odd == 0
}

const LOW: u64 = 0x0101_0101_0101_0101;
/// The highest bit of each byte.
pub(super) const HIGH: u64 = 0x8080_8080_8080_8080;

/// Marks, by their highest bits, the bytes of `word` that are `byte`. The lowest mark is exact; above it a byte that
/// differs in its last bit alone may be marked too.
#[inline(always)]
pub(super) const fn marks(word: u64, byte: u8) -> u64 {
    let different = word ^ (LOW * byte as u64);
    different.wrapping_sub(LOW) & !different & HIGH
}

/// A path in pieces: `/a/b` is `a`, `b`; `/a/` is `a` and an empty one; `/` is one empty segment, nothing is none.
pub(super) struct Segments {
    /// How many there are; one more than [`SEGMENTS_MAX`] means "more than that".
    pub count: usize,
    /// Bit i: segment i is empty.
    pub empty: u32,
    /// Offset of the first byte of each segment, and one further: `starts[i + 1] - 1` is where segment i ends.
    pub starts: [u16; SEGMENTS_MAX + 2],
    /// The hash of each segment with its position, so that sums of them are hashes of several.
    pub hashes: [u64; SEGMENTS_MAX],
}

impl Segments {
    /// Nothing was taken apart yet.
    #[inline(always)]
    pub(super) const fn new() -> Self {
        Self { count: 0, empty: 0, starts: [0; SEGMENTS_MAX + 2], hashes: [0; SEGMENTS_MAX] }
    }

    /// Takes `path` apart; false for one that does not begin with a slash or is longer than spans can say.
    #[inline]
    pub(super) fn take_apart(&mut self, seed: Seed, path: &[u8]) -> bool {
        if path.is_empty() {
            return true;
        }
        let Some(mut rest) = path.strip_prefix(b"/") else { return false };
        if path.len() >= usize::from(u16::MAX) {
            return false;
        }
        let mut start = 1;
        let odd = seed.1 | 1;
        let mut seed = seed.0 ^ ODD;
        let mut more = true;
        for (index, (slot, hash)) in self.starts.iter_mut().zip(&mut self.hashes).enumerate() {
            *slot = start as u16;
            if !more {
                self.count = index;
                return true;
            }
            let length;
            (length, *hash) = segment(path, rest, seed, odd);
            self.empty |= u32::from(length == 0) << index;
            start += length + 1;
            seed = seed.wrapping_add(OTHER);
            match rest.get(length + 1..) {
                Some(behind) => rest = behind,
                None => more = false,
            }
        }
        // As many as can be told apart, and maybe more.
        if let Some(slot) = self.starts.get_mut(SEGMENTS_MAX) {
            *slot = start as u16;
        }
        self.count = SEGMENTS_MAX + usize::from(more);
        true
    }
}

/// The length of the segment that `rest`, the end of `path`, begins with, and its hash. One pass: a word with a slash
/// in it is cut there.
#[inline(always)]
fn segment(path: &[u8], rest: &[u8], seed: u64, odd: u64) -> (usize, u64) {
    let mut hash = seed;
    let mut rest = rest;
    let mut length = 0;
    let (word, found) = loop {
        let Some((eight, behind)) = rest.split_first_chunk::<8>() else {
            let word = tail(path, rest);
            // The end of the path is as good as a slash.
            break (word, marks(word, b'/') | 0x80 << (8 * (rest.len() & 7)));
        };
        let word = u64::from_le_bytes(*eight);
        let found = marks(word, b'/');
        if found != 0 {
            break (word, found);
        }
        hash = fold(hash ^ word, odd);
        length += 8;
        rest = behind;
    };
    // The lowest mark is exact; bytes from it on are cut off.
    let bits = found.trailing_zeros() & 56;
    let kept = word & ((1 << bits) - 1);
    length += bits as usize / 8;
    (length, fold(hash ^ kept, odd ^ (length as u64) << 1))
}

/// `rest`, the last seven bytes of `path` or fewer, as a word with zeros behind.
#[inline(always)]
fn tail(path: &[u8], rest: &[u8]) -> u64 {
    match path.last_chunk::<8>() {
        // In two steps, for there may be nothing.
        Some(last) => u64::from_le_bytes(*last) >> 8 >> (56 - 8 * (rest.len() & 7)),
        None => short(rest),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_hashes_alike_wherever_it_ends() {
        let segment = |path: &str, seed| segment(path.as_bytes(), &path.as_bytes()[1..], seed, 0x5851_f42d_4c95_7f2d);
        for name in ["", "a", "abc", "abcd", "abcdefg", "abcdefgh", "abcdefghi", "abcdefghijklmnopq"] {
            let alone = segment(&format!("/{name}"), 3);
            assert_eq!(alone.0, name.len());
            for behind in ["/", "/x", "/xxxxxxxxxxxxxxxxxx", "//////////", "/.", "/./."] {
                assert_eq!(segment(&format!("/{name}{behind}"), 3), alone, "{name}{behind}");
            }
            assert_ne!(segment(&format!("/{name}"), 4).1, alone.1);
        }
        assert_ne!(segment("/a\0", 0).1, segment("/a", 0).1);
    }

    #[test]
    fn equal_is_what_is_equal() {
        for length in 0..40 {
            let text = vec![7; length];
            assert!(same(&text, &text.clone()) && !same(&text, &vec![7; length + 1]));
            for at in 0..length {
                let mut other = text.clone();
                other[at] = 8;
                assert!(!same(&text, &other), "{length} {at}");
            }
        }
    }

    fn of(path: &[u8]) -> Option<Segments> {
        let mut segments = Segments::new();
        segments.take_apart(Seed(1, 2), path).then_some(segments)
    }

    #[test]
    fn pieces() {
        for (path, expected) in [
            ("/", vec![""]),
            ("/a", vec!["a"]),
            ("/a/", vec!["a", ""]),
            ("/users/12345678/items", vec!["users", "12345678", "items"]),
            ("//a//", vec!["", "a", "", ""]),
        ] {
            let segments = of(path.as_bytes()).unwrap();
            let found: Vec<_> = (0..segments.count)
                .map(|i| &path[usize::from(segments.starts[i])..usize::from(segments.starts[i + 1]) - 1])
                .collect();
            assert_eq!(found, expected, "{path}");
        }
        assert!(of(b"*").is_none() && of(b"").is_some_and(|segments| segments.count == 0));
        assert!(of(&[b'/'; 1 << 16]).is_none());
        assert_eq!(of(&[b'/'; 100]).unwrap().count, SEGMENTS_MAX + 1);
        let all = of(&[b'/'; 32]).unwrap();
        assert_eq!((all.count, all.starts[32], all.empty), (32, 33, u32::MAX));
    }

    /// A factor of zero takes whatever the other one says; without the secret nobody can write it.
    #[test]
    fn what_meets_under_one_secret_does_not_under_another() {
        let aimed = |front: u8| [&[front; 8][..], &(7 ^ ODD).to_le_bytes(), &[0; 24]].concat();
        let (one, other) = (aimed(1), aimed(2));
        assert_eq!(bytes(Seed::NONE, 7, &one), bytes(Seed::NONE, 7, &other));
        assert_ne!(bytes(Seed(3, 4), 7, &one), bytes(Seed(3, 4), 7, &other));
        let factor = |front: u8| [&[9; 16][..], &OTHER.to_le_bytes(), &[front; 8], &[0; 24]].concat();
        assert_eq!(bytes(Seed::NONE, 7, &factor(1)), bytes(Seed::NONE, 7, &factor(2)));
        assert_ne!(bytes(Seed(3, 4), 7, &factor(1)), bytes(Seed(3, 4), 7, &factor(2)));
        // Of segments: a word equal to the hash before it.
        let segments = |seed, odd, front: u8| {
            let hash = ODD;
            let first = fold(hash ^ u64::from_le_bytes([front; 8]), 1);
            let path = [b"/", &[front; 8][..], &first.to_le_bytes(), b"xyz"].concat();
            segment(&path, &path[1..], seed, odd).1
        };
        assert_eq!(segments(ODD, 1, 0x41), segments(ODD, 1, 0x42));
        assert_ne!(segments(ODD ^ 3, 5, 0x41), segments(ODD ^ 3, 5, 0x42));
    }

    #[test]
    fn every_byte_counts() {
        let mut seen = std::collections::HashSet::new();
        for length in 0..40 {
            let mut text = vec![0; length];
            assert!(seen.insert(bytes(Seed(1, 2), 1, &text)));
            for at in 0..length {
                text[at] = 1;
                assert!(seen.insert(bytes(Seed(1, 2), 1, &text)), "{length} {at}");
                text[at] = 0;
            }
        }
    }
}
