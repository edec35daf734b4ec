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
    let (quads, last) = text.as_chunks::<4>();
    let (triples, tail) = out.as_chunks_mut::<3>();
    for ([a, b, c, d], triple) in quads.iter().zip(triples) {
        let bits = bits::<18>(*a) | bits::<12>(*b) | bits::<6>(*c) | bits::<0>(*d);
        wrong |= bits;
        [_, triple[0], triple[1], triple[2]] = bits.to_be_bytes();
    }
    match (last, tail) {
        ([], []) => {}
        ([a, b], [x]) => {
            let bits = bits::<18>(*a) | bits::<12>(*b);
            // Bits that no octet takes must be zero.
            wrong |= bits | if bits & 0xffff != 0 { INVALID } else { 0 };
            [_, *x, _, _] = bits.to_be_bytes();
        }
        ([a, b, c], [x, y]) => {
            let bits = bits::<18>(*a) | bits::<12>(*b) | bits::<6>(*c);
            wrong |= bits | if bits & 0xff != 0 { INVALID } else { 0 };
            [_, *x, *y, _] = bits.to_be_bytes();
        }
        _ => return Err(Malformed),
    }
    if wrong & INVALID == 0 { Ok(()) } else { Err(Malformed) }
}

/// The bit that no 24 bits have.
const INVALID: u32 = 1 << 31;

/// The sextet of `letter` at its place among four. The table is small where letters are: five cache lines.
#[inline(always)]
fn bits<const SHIFT: u32>(letter: u8) -> u32 {
    const { &table(SHIFT) }.get(usize::from(letter)).copied().unwrap_or(INVALID)
}

const fn table(shift: u32) -> [u32; 256] {
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut table = [INVALID; 256];
    let mut rest = alphabet.as_slice();
    let mut sextet = 0;
    while let [letter, behind @ ..] = rest {
        // A constant: an index beyond the table would not compile.
        #[allow(clippy::indexing_slicing)]
        {
            table[*letter as usize] = sextet << shift;
        }
        sextet += 1;
        rest = behind;
    }
    table
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
