//! Where a token stands in a request.

use super::settings::ArchivedSource;
use crate::types::{Header, Request};

/// What a look for a token found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup<'a> {
    /// One token, not verified. Its characters are those that RFC 6750 allows, but for [`find_token`] in a header: there
    /// nobody has looked at them yet.
    Found(&'a [u8]),
    /// No token in any source.
    Absent,
    /// Something that is not one token: a second one, or bytes that no token has.
    Malformed,
}

impl<'a> Lookup<'a> {
    /// What `then` makes of that which was found.
    pub(super) fn and(self, then: fn(&'a [u8]) -> Self) -> Self {
        match self {
            Self::Found(value) => then(value),
            other => other,
        }
    }
}

/// Looks for a token in `sources`, in their order; the first source that holds anything decides.
///
/// The characters of what a header holds are left to whoever verifies it ([`is_token`]): one that was verified a moment
/// ago need not be looked at letter by letter again.
#[inline]
pub fn find_token<'a>(request: &'a impl Request, sources: &[ArchivedSource]) -> Lookup<'a> {
    for source in sources {
        let found = match source {
            ArchivedSource::Header => match request.header(b"authorization") {
                Header::Absent => Lookup::Absent,
                Header::One(value) => credentials(value),
                Header::Many => Lookup::Malformed,
            },
            ArchivedSource::Query(name) => parameter(request, name).and(token),
            ArchivedSource::Cookie(name) => cookie(request, name).and(token),
        };
        if found != Lookup::Absent {
            return found;
        }
    }
    Lookup::Absent
}

/// The token of an `Authorization` value: the scheme in any case, one or more spaces, one token, nothing behind it
/// (RFC 6750, 2.1 and RFC 9110, 11.4). Another scheme is not ours and counts as absent.
#[must_use]
pub fn bearer(value: &[u8]) -> Lookup<'_> {
    credentials(value).and(token)
}

/// [`bearer`] without a look at the characters behind the scheme.
#[inline]
fn credentials(value: &[u8]) -> Lookup<'_> {
    match value.split_at_checked(6) {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case(b"bearer") => match rest {
            [] => Lookup::Malformed,
            [b' ', ..] => {
                let spaces = rest.iter().take_while(|byte| **byte == b' ').count();
                match rest.get(spaces..).unwrap_or_default() {
                    [] => Lookup::Malformed,
                    text => Lookup::Found(text),
                }
            }
            // `Bearer` and a tab, a comma: not a longer scheme name, so it was meant for us.
            [next, ..] if !is_tchar(*next) => Lookup::Malformed,
            _ => Lookup::Absent,
        },
        _ => Lookup::Absent,
    }
}

/// The parameters of a query, undecoded, in order: name and value. A parameter without `=` has an empty value.
pub fn parameters(query: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    query.split(|byte| *byte == b'&').filter(|parameter| !parameter.is_empty()).map(|parameter| {
        match memchr::memchr(b'=', parameter).and_then(|at| parameter.split_at_checked(at)) {
            Some((name, value)) => (name, value.get(1..).unwrap_or_default()),
            None => (parameter, Default::default()),
        }
    })
}

/// The cookies of a `Cookie` value (RFC 6265, 4.2.1), in order: name and value, without the quotes that may stand
/// around a value. What has no `=` is skipped, as browsers' nameless cookies are nobody's.
pub fn cookies(value: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    // Thousands of semicolons make no cookie and shall cost next to nothing.
    value.split(|byte| *byte == b';').filter(|pair| !pair.is_empty()).filter_map(|pair| {
        let pair = pair.trim_ascii();
        let (name, value) = pair.split_at_checked(memchr::memchr(b'=', pair)?)?;
        let value = match value.get(1..)? {
            [b'"', inner @ .., b'"'] => inner,
            value => value,
        };
        Some((name, value))
    })
}

/// Whether `raw`, a name from a query, is a spelling of `name`: percent-encoding counts as what it encodes.
#[must_use]
pub fn spells(raw: &[u8], name: &[u8]) -> bool {
    let mut rest = raw;
    let mut name = name.iter();
    loop {
        let (byte, behind) = match rest {
            [] => return name.next().is_none(),
            [b'%', high, low, behind @ ..] => match (hex(*high), hex(*low)) {
                (Some(high), Some(low)) => (high << 4 | low, behind),
                _ => (b'%', rest.get(1..).unwrap_or_default()),
            },
            [b'+', behind @ ..] => (b' ', behind),
            [byte, behind @ ..] => (*byte, behind),
        };
        if name.next() != Some(&byte) {
            return false;
        }
        rest = behind;
    }
}

/// What the one parameter of this name holds. An empty one counts as absent, two are malformed.
pub(super) fn parameter<'a>(request: &'a impl Request, name: &str) -> Lookup<'a> {
    single(parameters(request.query()).filter(|(key, _)| spells(key, name.as_bytes())))
}

/// What the one cookie of this name holds. An empty one counts as absent: it is what a logout leaves behind.
pub(super) fn cookie<'a>(request: &'a impl Request, name: &str) -> Lookup<'a> {
    match request.header(b"cookie") {
        Header::Absent => Lookup::Absent,
        Header::One(value) => single(cookies(value).filter(|(key, _)| *key == name.as_bytes())),
        Header::Many => Lookup::Malformed,
    }
}

fn single<'a>(mut values: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> Lookup<'a> {
    match (values.next(), values.next()) {
        (None, _) | (Some((_, [])), None) => Lookup::Absent,
        (Some((_, value)), None) => Lookup::Found(value),
        (Some(_), Some(_)) => Lookup::Malformed,
    }
}

/// Whether `text` is made of the characters of a `b64token` (RFC 6750, 2.1).
#[must_use]
pub fn is_token(text: &[u8]) -> bool {
    token(text) != Lookup::Malformed
}

/// `text` if it is a `b64token` (RFC 6750, 2.1).
fn token(text: &[u8]) -> Lookup<'_> {
    let padding = text.iter().rev().take_while(|byte| **byte == b'=').count();
    let letters = text.get(..text.len() - padding).unwrap_or_default();
    // Chunks of 32 and no branch, so that they are compared as vectors.
    let (chunks, rest) = letters.as_chunks::<32>();
    let mut wrong = [0; 32];
    for chunk in chunks {
        for (wrong, byte) in wrong.iter_mut().zip(chunk) {
            *wrong |= u8::from(!is_letter(*byte));
        }
    }
    let wrong = wrong.iter().fold(0, |sum, wrong| sum | wrong) != 0;
    match letters.is_empty() || wrong || !rest.iter().all(|byte| is_letter(*byte)) {
        true => Lookup::Malformed,
        false => Lookup::Found(text),
    }
}

/// Letters, digits and `-._~+/`, in few comparisons: `-./` and the digits are neighbours.
#[inline(always)]
const fn is_letter(byte: u8) -> bool {
    ((byte | 0x20).wrapping_sub(b'a') < 26)
        | (byte.wrapping_sub(b'-') < 13)
        | (byte == b'_')
        | (byte == b'~')
        | (byte == b'+')
}

const fn is_tchar(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
        )
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorization() {
        for (value, expected) in [
            ("Bearer a.b-_~+/c=", Lookup::Found(b"a.b-_~+/c=".as_slice())),
            ("bearer x", Lookup::Found(b"x")),
            ("BEARER    x", Lookup::Found(b"x")),
            ("Bearer", Lookup::Malformed),
            ("Bearer ", Lookup::Malformed),
            ("Bearer\tx", Lookup::Malformed),
            ("Bearer,x", Lookup::Malformed),
            ("Bearer x ", Lookup::Malformed),
            ("Bearer x y", Lookup::Malformed),
            ("Bearer x, Bearer y", Lookup::Malformed),
            ("Bearer x=y", Lookup::Malformed),
            ("Bearer =", Lookup::Malformed),
            ("Bearer x\u{e9}", Lookup::Malformed),
            ("xBearer x", Lookup::Absent),
            ("Bearerx y", Lookup::Absent),
            (" Bearer x", Lookup::Absent),
            ("Basic Bearer x", Lookup::Absent),
            ("x", Lookup::Absent),
            ("", Lookup::Absent),
        ] {
            assert_eq!(bearer(value.as_bytes()), expected, "{value:?}");
        }
    }

    #[test]
    fn every_byte_at_every_place_of_a_token() {
        for len in [1, 2, 31, 32, 33, 64, 65, 100] {
            for place in 0..len {
                for byte in 0..=255_u8 {
                    let mut text = vec![b'x'; len];
                    text[place] = byte;
                    let padding = byte == b'=' && place == len - 1 && len > 1;
                    let fits = byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte) || padding;
                    let expected = if fits { Lookup::Found(text.as_slice()) } else { Lookup::Malformed };
                    assert_eq!(token(&text), expected, "{byte} at {place} of {len}");
                }
            }
        }
    }

    #[test]
    fn queries() {
        let find = |query: &'static str| {
            single(parameters(query.as_bytes()).filter(|(name, _)| spells(name, b"access_token"))).and(token)
        };
        assert_eq!(find("a=1&access_token=x.y&b"), Lookup::Found(b"x.y"));
        assert_eq!(find("access%5Ftoken=x"), Lookup::Found(b"x"));
        assert_eq!(find("access_token=x&access%5ftoken=y"), Lookup::Malformed, "two spellings are one name");
        assert_eq!(find("access_token=x&access_token=x"), Lookup::Malformed);
        assert_eq!(find("access_token=x%2ey"), Lookup::Malformed, "a token needs no encoding");
        assert_eq!(find("access_token=x+y z"), Lookup::Malformed);
        for query in ["", "&&", "access_token", "access_token=", "Access_token=x", "xaccess_token=x", "access_token2=x"]
        {
            assert_eq!(find(query), Lookup::Absent, "{query}");
        }
        assert!(spells(b"a%2", b"a%2") && spells(b"%zz", b"%zz") && !spells(b"%", b"") && spells(b"a+b", b"a b"));
    }

    #[test]
    fn cookie_values() {
        let find =
            |value: &'static str| single(cookies(value.as_bytes()).filter(|(name, _)| *name == b"jwt")).and(token);
        assert_eq!(find("a=1; jwt=x.y; b=2"), Lookup::Found(b"x.y"));
        assert_eq!(find("jwt=\"x.y\""), Lookup::Found(b"x.y"));
        assert_eq!(find("jwt=x;jwt=y"), Lookup::Malformed);
        assert_eq!(find("jwt=x y"), Lookup::Malformed);
        assert_eq!(find("jwt=\"x"), Lookup::Malformed);
        for value in ["", "jwt", "jwt=", "JWT=x", "xjwt=x", ";;;", "a=jwt=x"] {
            assert_eq!(find(value), Lookup::Absent, "{value}");
        }
    }
}
