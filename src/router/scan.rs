//! Questions about a whole string that are nearly always answered with no.
//!
//! Loops over chunks of a fixed size without an early end: the compiler turns them into a few vector instructions of
//! whatever machine it builds for.

/// Whether any byte is below `floor` or DEL.
#[inline]
pub(super) fn has_below_or_del(bytes: &[u8], floor: u8) -> bool {
    any_pair(bytes, bytes, |byte, _| (byte < floor) | (byte == 0x7f))
}

/// Whether any byte but the first is below 0x20 or DEL, or a dot follows a slash.
#[inline]
pub(super) fn has_control_or_slash_dot(bytes: &[u8]) -> bool {
    let ([_, after @ ..], [before @ .., _]) = (bytes, bytes) else { return false };
    any_pair(before, after, |before, byte| (byte < 0x20) | (byte == 0x7f) | ((before == b'/') & (byte == b'.')))
}

/// Whether `is_odd` of any two bytes at the same place in two strings of one length.
#[inline]
fn any_pair(one: &[u8], other: &[u8], is_odd: impl Fn(u8, u8) -> bool + Copy) -> bool {
    in_chunks::<16>(one, other, is_odd)
        .or_else(|| in_chunks::<8>(one, other, is_odd))
        .unwrap_or_else(|| one.iter().zip(other).any(|(&one, &other)| is_odd(one, other)))
}

/// The same, `None` where the strings are shorter than a chunk.
#[inline]
fn in_chunks<const N: usize>(one: &[u8], other: &[u8], is_odd: impl Fn(u8, u8) -> bool + Copy) -> Option<bool> {
    let mut odd = [0; N];
    // The last chunk overlaps the one before it, which costs less than a loop over what is left.
    mark(&mut odd, one.last_chunk()?, other.last_chunk()?, is_odd);
    let (ones, _) = one.as_chunks();
    let (others, _) = other.as_chunks();
    for (one, other) in ones.iter().zip(others) {
        mark(&mut odd, one, other, is_odd);
    }
    Some(odd.iter().fold(0, |any, odd| any | odd) != 0)
}

#[inline]
fn mark<const N: usize>(odd: &mut [u8; N], one: &[u8; N], other: &[u8; N], is_odd: impl Fn(u8, u8) -> bool) {
    for ((odd, &one), &other) in odd.iter_mut().zip(one).zip(other) {
        *odd |= u8::from(is_odd(one, other));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_at_every_place() {
        for length in 1..=40 {
            for place in 0..length {
                for byte in 0..=255_u8 {
                    let mut bytes = vec![b'a'; length];
                    bytes[place] = byte;
                    for floor in [0x20, 0x21] {
                        assert_eq!(has_below_or_del(&bytes, floor), byte < floor || byte == 0x7f, "{bytes:?}");
                    }
                    let expected = place > 0 && (byte < 0x20 || byte == 0x7f);
                    assert_eq!(has_control_or_slash_dot(&bytes), expected, "{bytes:?}");
                }
            }
        }
        assert!(!has_below_or_del(b"", 0x20) && !has_control_or_slash_dot(b""));
    }

    #[test]
    fn every_pair_at_every_place() {
        for length in 2..=40 {
            for place in 0..length - 1 {
                for pair in [b"/.", b"./", b"..", b"//", b"/-", b"/\x2f", b"0.", b"\xaf.", b"/\xae"] {
                    for fill in [b'a', 0xff, b'/', b'.'] {
                        let mut bytes = vec![fill; length];
                        bytes[place] = pair[0];
                        bytes[place + 1] = pair[1];
                        let expected = bytes.windows(2).any(|pair| pair == b"/.");
                        assert_eq!(has_control_or_slash_dot(&bytes), expected, "{bytes:?}");
                    }
                }
            }
        }
    }
}
