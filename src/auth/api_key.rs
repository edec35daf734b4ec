//! API keys: long random words that clients send as they are. What is kept is their SHA-256.

use super::settings::ArchivedKeySource;
use super::source::{Lookup, cookie, parameter};
use crate::types::{Header, Request};

/// The longest key that is looked at, bytes.
pub const KEY_MAX: usize = 512;

/// The shortest key that a document may hold in clear, bytes: 16 letters that nobody chose.
pub const KEY_MIN: usize = 16;

/// Digests of keys are named by 64 hexadecimal digits.
pub type KeyDigest = [u8; 64];

/// Looks for a key in `sources`, in their order; the first that holds anything decides.
#[inline]
pub fn find_key<'a>(request: &'a impl Request, sources: &[ArchivedKeySource]) -> Lookup<'a> {
    for source in sources {
        let found = match source {
            ArchivedKeySource::Header(name) => match request.header(name.as_bytes()) {
                Header::Absent => Lookup::Absent,
                Header::One(value) => key(value),
                Header::Many => Lookup::Malformed,
            },
            ArchivedKeySource::Query(name) => parameter(request, name).and(key),
            ArchivedKeySource::Cookie(name) => cookie(request, name).and(key),
        };
        if found != Lookup::Absent {
            return found;
        }
    }
    Lookup::Absent
}

/// An empty key counts as absent; visible characters are a key.
fn key(value: &[u8]) -> Lookup<'_> {
    match value {
        [] => Lookup::Absent,
        value if value.len() > KEY_MAX || !value.iter().all(u8::is_ascii_graphic) => Lookup::Malformed,
        value => Lookup::Found(value),
    }
}

/// The SHA-256 of a key, as 64 hexadecimal digits in lower case.
#[must_use]
pub fn digest(key: &[u8]) -> KeyDigest {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, key);
    let mut text = [b'0'; 64];
    for (pair, byte) in text.as_chunks_mut::<2>().0.iter_mut().zip(digest.as_ref()) {
        *pair = [digit(byte >> 4), digit(byte & 15)];
    }
    text
}

const fn digit(nibble: u8) -> u8 {
    if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests() {
        // FIPS 180-2, B.1.
        let expected = b"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(&digest(b"abc"), expected);
    }

    #[test]
    fn what_a_key_is() {
        let long = "x".repeat(KEY_MAX + 1);
        for (value, expected) in [
            ("", Lookup::Absent),
            ("a", Lookup::Found(b"a".as_slice())),
            ("a-b_c.d/e+f=", Lookup::Found(b"a-b_c.d/e+f=")),
            ("a b", Lookup::Malformed),
            ("a\u{e9}", Lookup::Malformed),
            ("a\n", Lookup::Malformed),
            (&long, Lookup::Malformed),
        ] {
            assert_eq!(key(value.as_bytes()), expected, "{value:?}");
        }
    }
}
