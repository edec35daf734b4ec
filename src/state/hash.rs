//! Hashes over what operators put into the tree: hosts, paths, names; and the checksum of blocks.
//!
//! Folded multiplication, a word at a time. Nobody but an operator puts keys in, so a bucket cannot be attacked, and
//! what a request brings is compared in full before it is believed.

const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
const OTHER: u64 = 0xd6e8_feb8_6659_fd93;

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

/// The hash of `bytes`; `seed` tells spaces of keys apart. Sixteen bytes a step, the last ones overlap those before.
#[inline(always)]
pub(super) fn bytes(seed: u64, bytes: &[u8]) -> u64 {
    let hash = seed ^ ODD;
    let (low, high) = match (bytes.first_chunk::<8>(), bytes.last_chunk::<8>()) {
        (Some(first), Some(last)) if bytes.len() <= 16 => (u64::from_le_bytes(*first), u64::from_le_bytes(*last)),
        (Some(_), Some(_)) => return long(hash, bytes),
        _ => (short(bytes), 0),
    };
    finish(fold(low ^ OTHER, high ^ hash), bytes.len())
}

#[inline]
fn long(seed: u64, bytes: &[u8]) -> u64 {
    let mut hash = seed;
    let mut rest = bytes;
    while let Some((sixteen, behind)) = rest.split_first_chunk::<16>()
        && !behind.is_empty()
    {
        let (low, high) = halves(sixteen);
        hash = fold(low ^ OTHER, high ^ hash);
        rest = behind;
    }
    let (low, high) = bytes.last_chunk::<16>().map_or((0, 0), halves);
    finish(fold(low ^ OTHER, high ^ hash), bytes.len())
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
    let different = word ^ LOW * byte as u64;
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
    /// Takes `path` apart; `None` for one that does not begin with a slash or is longer than spans can say.
    #[inline]
    pub(super) fn of(path: &[u8]) -> Option<Self> {
        let mut segments = Self { count: 0, empty: 0, starts: [0; SEGMENTS_MAX + 2], hashes: [0; SEGMENTS_MAX] };
        if path.is_empty() {
            return Some(segments);
        }
        if path.first() != Some(&b'/') || path.len() >= usize::from(u16::MAX) {
            return None;
        }
        let mut start = 1;
        let mut seed = ODD;
        for (index, (slot, hash)) in segments.starts.iter_mut().zip(&mut segments.hashes).enumerate() {
            *slot = start as u16;
            if start > path.len() {
                return Some(segments);
            }
            let end;
            (end, *hash) = segment(path, start, seed);
            segments.empty |= u32::from(end == start) << index;
            segments.count += 1;
            start = end + 1;
            seed = seed.wrapping_add(OTHER);
        }
        // As many as can be told apart, and maybe more.
        if let Some(slot) = segments.starts.get_mut(SEGMENTS_MAX) {
            *slot = start as u16;
        }
        segments.count += usize::from(start <= path.len());
        Some(segments)
    }
}

/// The end of the segment that begins at `start`, and its hash. One pass: a word with a slash in it is cut there.
#[inline(always)]
fn segment(path: &[u8], start: usize, seed: u64) -> (usize, u64) {
    let mut hash = seed;
    let mut at = start;
    loop {
        let (word, length) = word_at(path, at);
        // Where fewer than eight bytes are left, the end of the path is as good as a slash.
        let found = marks(word, b'/') | 1_u64.checked_shl(8 * length as u32 + 7).unwrap_or(0);
        if found != 0 {
            // The lowest mark is exact; bytes from it on are cut off.
            let bits = found.trailing_zeros() & !7;
            let kept = word & ((1 << bits) - 1);
            let end = at + bits as usize / 8;
            return (end, fold(hash ^ kept, ODD ^ (end - start) as u64));
        }
        hash = fold(hash ^ word, ODD);
        at += 8;
    }
}

/// Up to eight bytes from `at` on, zeros behind them, and how many they are.
#[inline(always)]
fn word_at(path: &[u8], at: usize) -> (u64, usize) {
    let rest = path.get(at..).unwrap_or_default();
    match (rest.first_chunk::<8>(), path.last_chunk::<8>()) {
        (Some(eight), _) => (u64::from_le_bytes(*eight), 8),
        (None, Some(_)) if rest.is_empty() => (0, 0),
        (None, Some(last)) => (u64::from_le_bytes(*last) >> (64 - 8 * rest.len()), rest.len()),
        _ => (short(rest), rest.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_hashes_alike_wherever_it_ends() {
        let segment = |path: &str, seed| segment(path.as_bytes(), 1, seed);
        for name in ["", "a", "abc", "abcd", "abcdefg", "abcdefgh", "abcdefghi", "abcdefghijklmnopq"] {
            let alone = segment(&format!("/{name}"), 3);
            assert_eq!(alone.0, 1 + name.len());
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

    #[test]
    fn pieces() {
        for (path, expected) in [
            ("/", vec![""]),
            ("/a", vec!["a"]),
            ("/a/", vec!["a", ""]),
            ("/users/12345678/items", vec!["users", "12345678", "items"]),
            ("//a//", vec!["", "a", "", ""]),
        ] {
            let segments = Segments::of(path.as_bytes()).unwrap();
            let found: Vec<_> = (0..segments.count)
                .map(|i| &path[usize::from(segments.starts[i])..usize::from(segments.starts[i + 1]) - 1])
                .collect();
            assert_eq!(found, expected, "{path}");
        }
        assert!(Segments::of(b"*").is_none() && Segments::of(b"").is_some_and(|segments| segments.count == 0));
        assert!(Segments::of(&[b'/'; 1 << 16]).is_none());
        assert_eq!(Segments::of(&[b'/'; 100]).unwrap().count, SEGMENTS_MAX + 1);
        let all = Segments::of(&[b'/'; 32]).unwrap();
        assert_eq!((all.count, all.starts[32], all.empty), (32, 33, u32::MAX));
    }

    #[test]
    fn every_byte_counts() {
        let mut seen = std::collections::HashSet::new();
        for length in 0..40 {
            let mut text = vec![0; length];
            assert!(seen.insert(bytes(1, &text)));
            for at in 0..length {
                text[at] = 1;
                assert!(seen.insert(bytes(1, &text)), "{length} {at}");
                text[at] = 0;
            }
        }
    }
}
