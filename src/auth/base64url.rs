//! Base64url as RFC 7515 uses it: no padding, no spare bits, no other byte. Every octet string therefore has exactly
//! one spelling, and a token cannot be written anew to get past a revocation.

/// The text is not canonical base64url.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// Replaces `out` with what `text` encodes; on failure `out` is empty.
pub fn decode(text: &[u8], out: &mut Vec<u8>) -> Result<(), Malformed> {
    out.clear();
    out.resize(text.len() / 4 * 3 + (text.len() % 4).saturating_sub(1), 0);
    let done = decode_into(text, out);
    if done.is_err() {
        out.clear();
    }
    done
}

fn decode_into(text: &[u8], out: &mut [u8]) -> Result<(), Malformed> {
    let mut wrong = 0;
    let blocks = text.chunks_exact(BLOCK);
    let rest = blocks.remainder();
    let (whole, tail) = out.split_at_mut_checked(blocks.len() * BLOCK / 4 * 3).ok_or(Malformed)?;
    for (block, room) in blocks.zip(whole.chunks_exact_mut(BLOCK / 4 * 3)) {
        // Two plain loops: the compiler turns the first into vector compares.
        let mut sextets = [0_u8; BLOCK];
        for (sextet, letter) in sextets.iter_mut().zip(block) {
            *sextet = value(*letter);
            wrong |= *sextet;
        }
        for (eight, six) in sextets.as_chunks::<8>().0.iter().zip(room.chunks_exact_mut(6)) {
            let [packed @ .., _, _] = pack(u64::from_be_bytes(*eight)).to_be_bytes();
            six.copy_from_slice(&packed);
        }
    }
    let quads = rest.chunks_exact(4);
    let last = quads.remainder();
    let (whole, tail) = tail.split_at_mut_checked(quads.len() * 3).ok_or(Malformed)?;
    for (quad, room) in quads.zip(whole.chunks_exact_mut(3)) {
        let mut bits = 0_u32;
        for letter in quad {
            let sextet = value(*letter);
            wrong |= sextet;
            bits = bits << 6 | u32::from(sextet & 63);
        }
        let [_, packed @ ..] = bits.to_be_bytes();
        room.copy_from_slice(&packed);
    }
    match (last, tail) {
        ([], []) => {}
        ([a, b], [x]) => {
            let (a, b) = (value(*a), value(*b));
            // Bits that no octet takes must be zero.
            wrong |= a | b | if b & 15 != 0 { INVALID } else { 0 };
            *x = a << 2 | b >> 4;
        }
        ([a, b, c], [x, y]) => {
            let (a, b, c) = (value(*a), value(*b), value(*c));
            wrong |= a | b | c | if c & 3 != 0 { INVALID } else { 0 };
            *x = a << 2 | b >> 4;
            *y = b << 4 | c >> 2;
        }
        _ => return Err(Malformed),
    }
    if wrong & INVALID == 0 { Ok(()) } else { Err(Malformed) }
}

/// Letters that are looked at together.
const BLOCK: usize = 32;
/// The bit that no sextet has.
const INVALID: u8 = 0x80;

#[inline(always)]
fn value(letter: u8) -> u8 {
    let upper = letter.wrapping_sub(b'A');
    let lower = letter.wrapping_sub(b'a');
    let digit = letter.wrapping_sub(b'0');
    let mut sextet = INVALID;
    sextet = if upper < 26 { upper } else { sextet };
    sextet = if lower < 26 { lower + 26 } else { sextet };
    sextet = if digit < 10 { digit + 52 } else { sextet };
    sextet = if letter == b'-' { 62 } else { sextet };
    if letter == b'_' { 63 } else { sextet }
}

/// Eight sextets, one a byte, to 48 bits at the high end.
#[inline(always)]
const fn pack(sextets: u64) -> u64 {
    let twelve = sextets & 0x003f_003f_003f_003f | (sextets & 0x3f00_3f00_3f00_3f00) >> 2;
    let four = twelve & 0x0000_0fff_0000_0fff | (twelve & 0x0fff_0000_0fff_0000) >> 4;
    (four & 0x00ff_ffff | (four >> 32 & 0x00ff_ffff) << 24) << 16
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    use super::*;

    #[test]
    fn agrees_with_the_base64_crate_at_every_length() {
        let mut out = Vec::new();
        for len in 0..200_usize {
            let octets: Vec<u8> = (0..len).map(|i| (i * 151 + len * 7) as u8).collect();
            let text = URL_SAFE_NO_PAD.encode(&octets);
            assert_eq!(decode(text.as_bytes(), &mut out), Ok(()), "{len} octets");
            assert_eq!(out, octets);
        }
    }

    #[test]
    fn every_byte_at_every_place() {
        let mut out = Vec::new();
        for len in [2, 3, 4, 6, 31, 32, 33, 66] {
            for place in 0..len {
                for byte in 0..=255_u8 {
                    let mut text = vec![b'A'; len];
                    text[place] = byte;
                    let oracle = URL_SAFE_NO_PAD.decode(&text);
                    assert_eq!(decode(&text, &mut out).ok(), oracle.as_ref().ok().map(|_| ()), "{byte} at {place}");
                    assert_eq!(out, oracle.unwrap_or_default());
                }
            }
        }
        for text in ["A", "AAAAA", "AA=", "AA==", "AB", "AAB", "A A", "AA\n"] {
            assert_eq!(decode(text.as_bytes(), &mut out), Err(Malformed), "{text:?}");
        }
    }
}
