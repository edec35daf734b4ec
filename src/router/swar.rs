//! Eight bytes at a time in one register: questions about a whole string that are nearly always answered with no.

/// Whether any byte is below `floor` (at most 128) or DEL.
#[inline]
pub(super) fn has_below_or_del(bytes: &[u8], floor: u8) -> bool {
    any(bytes, |word| below(word, floor) | equal(word, 0x7f), |byte| byte < floor || byte == 0x7f)
}

/// Whether any byte makes its lane of `word` or, where fewer than eight are left, `byte` say yes.
#[inline]
pub(super) fn any(bytes: &[u8], word: impl Fn(u64) -> u64, byte: impl Fn(u8) -> bool) -> bool {
    // The last word overlaps the one before it, which costs less than a loop over what is left.
    match bytes.last_chunk::<8>() {
        Some(last) => {
            let (chunks, _) = bytes.as_chunks::<8>();
            let found = chunks.iter().fold(0, |found, chunk| found | word(u64::from_ne_bytes(*chunk)));
            found | word(u64::from_ne_bytes(*last)) != 0
        }
        None => bytes.iter().any(|&found| byte(found)),
    }
}

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = ONES << 7;

/// Not zero where a byte of `word` is below `floor`, which is at most 128.
#[inline]
pub(super) const fn below(word: u64, floor: u8) -> u64 {
    word.wrapping_sub(ONES * floor as u64) & !word & HIGHS
}

/// Not zero where a byte of `word` is `byte`.
#[inline]
pub(super) const fn equal(word: u64, byte: u8) -> u64 {
    below(word ^ (ONES * byte as u64), 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_at_every_place() {
        for length in 1..=20 {
            for place in 0..length {
                for byte in 0..=255_u8 {
                    let mut bytes = vec![b'a'; length];
                    bytes[place] = byte;
                    assert_eq!(has_below_or_del(&bytes, 0x20), byte < 0x20 || byte == 0x7f, "{bytes:?}");
                    let is_dot = any(&bytes, |word| equal(word, b'.'), |byte| byte == b'.');
                    assert_eq!(is_dot, byte == b'.', "{bytes:?}");
                }
            }
        }
        assert!(!has_below_or_del(b"", 0x20));
    }
}
