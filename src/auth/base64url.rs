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
    let (eights, rest) = text.as_chunks::<8>();
    let (sixes, tail) = out.split_at_mut_checked(6 * eights.len()).ok_or(Malformed)?;
    let (sixes, _) = sixes.as_chunks_mut::<6>();
    for (eight, six) in eights.iter().zip(sixes) {
        let [a, b, c, d, e, f, g, h] = *eight;
        let (low, high) = (quad([a, b, c, d]), quad([e, f, g, h]));
        wrong |= low | high;
        [six[0], six[1], six[2], six[3], six[4], six[5], _, _] = (u64::from(low) | u64::from(high) << 24).to_le_bytes();
    }
    let (rest, tail) = match (rest, tail) {
        ([a, b, c, d, rest @ ..], [x, y, z, tail @ ..]) => {
            let bits = quad([*a, *b, *c, *d]);
            wrong |= bits;
            [*x, *y, *z, _] = bits.to_le_bytes();
            (rest, tail)
        }
        other => other,
    };
    match (rest, tail) {
        ([], []) => {}
        ([a, b], [x]) => {
            let bits = bits::<0>(*a) | bits::<1>(*b);
            // Bits that no octet takes must be zero.
            wrong |= bits | if bits & 0xff00 != 0 { INVALID } else { 0 };
            [*x, ..] = bits.to_le_bytes();
        }
        ([a, b, c], [x, y]) => {
            let bits = bits::<0>(*a) | bits::<1>(*b) | bits::<2>(*c);
            wrong |= bits | if bits & 0xff_0000 != 0 { INVALID } else { 0 };
            [*x, *y, ..] = bits.to_le_bytes();
        }
        _ => return Err(Malformed),
    }
    if wrong & INVALID == 0 { Ok(()) } else { Err(Malformed) }
}

/// The bit that no 24 bits have.
const INVALID: u32 = 1 << 31;

/// Three octets, the first in the lowest bits.
#[inline(always)]
fn quad([a, b, c, d]: [u8; 4]) -> u32 {
    bits::<0>(a) | bits::<1>(b) | bits::<2>(c) | bits::<3>(d)
}

/// The sextet of `letter` where it lies when it is number `PLACE` of four. The table is small where letters are: five
/// cache lines.
#[inline(always)]
fn bits<const PLACE: u32>(letter: u8) -> u32 {
    const { &table(PLACE) }.get(usize::from(letter)).copied().unwrap_or(INVALID)
}

const fn table(place: u32) -> [u32; 256] {
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut table = [INVALID; 256];
    let mut rest = alphabet.as_slice();
    let mut sextet = 0;
    while let [letter, behind @ ..] = rest {
        // A constant: an index beyond the table would not compile.
        #[allow(clippy::indexing_slicing)]
        {
            let bits: u32 = sextet << (18 - 6 * place);
            table[*letter as usize] = bits.swap_bytes() >> 8;
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
