use super::{hex, is_resolved};
use crate::types::Reason;

/// A path after its prefix was taken off: begins with one slash, holds nothing that climbs. Still decoded: it goes
/// through [`escape()`](super::escape()) before it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stripped<'a>(&'a [u8]);

impl<'a> Stripped<'a> {
    /// The bytes, decoded.
    #[must_use]
    pub const fn as_bytes(self) -> &'a [u8] {
        self.0
    }
}

/// Takes `prefix`, the literal prefix of the rule that matched, off a decoded path, once.
///
/// The prefix ends where a segment ends, so `/api` is no prefix of `/api../admin`; a slash at its end does not count.
/// What is left is checked by [`recheck`]. [`Reason::PathRefused`] where the prefix does not fit or the rest is
/// refused.
#[inline]
pub fn strip_prefix<'a>(path: &'a [u8], prefix: &[u8]) -> Result<Stripped<'a>, Reason> {
    let prefix = prefix.strip_suffix(b"/").unwrap_or(prefix);
    match path.strip_prefix(prefix) {
        Some([]) => Ok(Stripped(b"/")),
        Some(rest @ [b'/', ..]) => recheck(rest),
        _ => Err(Reason::PathRefused),
    }
}

/// Checks a decoded path that was made here, by stripping or rewriting, before it is sent: what must hold is more than
/// a client's path must, for the client's own was matched by a route and this one was not.
///
/// Several slashes at the front become one, which would otherwise be read as a host. Refused with
/// [`Reason::PathRefused`] are control bytes, dot segments, and whatever a lenient server turns into a dot segment by
/// decoding again, by taking `\` for a slash or by dropping what follows a `;`.
#[inline]
pub fn recheck(path: &[u8]) -> Result<Stripped<'_>, Reason> {
    let slashes = path.iter().take_while(|&&byte| byte == b'/').count();
    let path = path.get(slashes.saturating_sub(1)..).unwrap_or_default();
    let is_fit = is_resolved(path) && (memchr::memchr3(b'%', b';', b'\\', path).is_none() || !climbs(path));
    if is_fit { Ok(Stripped(path)) } else { Err(Reason::PathRefused) }
}

/// Whether a lenient server finds a dot segment. A path of 10 KiB may be made for this loop, so a byte costs it two
/// look-ups.
#[allow(clippy::indexing_slicing, reason = "the tables have an entry for every index that is possible")]
fn climbs(path: &[u8]) -> bool {
    let mut segment = EMPTY;
    let mut rest = path;
    while let [first, after @ ..] = rest {
        let byte;
        (byte, rest) = if *first == b'%' { decoded(after) } else { (*first, after) };
        segment = NEXT[usize::from(segment % 8)][usize::from(CLASS[usize::from(byte)] % 4)];
    }
    matches!(segment, DOT | TWO_DOTS | DOTS_AND_MORE | CLIMBS)
}

/// What of a segment has been seen: nothing; no dot segment, whatever follows; dots; dots and a `;`, behind which some
/// drop what follows. The last one is for the whole path.
const EMPTY: u8 = 0;
const OTHER: u8 = 1;
const DOT: u8 = 2;
const TWO_DOTS: u8 = 3;
const DOTS_AND_MORE: u8 = 4;
const CLIMBS: u8 = 5;

/// What a byte is: 0 anything else, 1 a separator to some, 2 a dot, 3 a `;`.
#[allow(clippy::indexing_slicing, reason = "runs in the compiler")]
const CLASS: [u8; 256] = {
    let mut table = [0; 256];
    table[b'/' as usize] = 1;
    table[b'\\' as usize] = 1;
    table[b'.' as usize] = 2;
    table[b';' as usize] = 3;
    table
};

/// The next state, by state and by the class of the next byte.
const NEXT: [[u8; 4]; 8] = [
    [OTHER, EMPTY, DOT, OTHER],
    [OTHER, EMPTY, OTHER, OTHER],
    [OTHER, CLIMBS, TWO_DOTS, DOTS_AND_MORE],
    [OTHER, CLIMBS, OTHER, DOTS_AND_MORE],
    [DOTS_AND_MORE, CLIMBS, DOTS_AND_MORE, DOTS_AND_MORE],
    [CLIMBS; 4],
    // No state; with eight rows no bound has to be checked.
    [CLIMBS; 4],
    [CLIMBS; 4],
];

/// The byte behind a `%`, decoded as often as it was encoded, and what follows it; a `%` that encodes nothing is one.
#[inline]
fn decoded(behind: &[u8]) -> (u8, &[u8]) {
    let mut rest = behind;
    // `%252e` is an encoded `%2e`, and so on.
    while let [b'2', b'5', after @ ..] = rest {
        rest = after;
    }
    match rest {
        [high, low, after @ ..] => hex(*high, *low).map_or((b'%', rest), |byte| (byte, after)),
        _ => (b'%', rest),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stripping() {
        for (path, prefix, expected) in [
            ("/api", "/api", Some("/")),
            ("/api/", "/api", Some("/")),
            ("/api/x", "/api", Some("/x")),
            ("/api/x/", "/api", Some("/x/")),
            ("/api/api/x", "/api", Some("/api/x")),
            ("/a/b/c", "/a/b", Some("/c")),
            ("/api/x", "/api/", Some("/x")),
            ("/x", "", Some("/x")),
            ("/", "", Some("/")),
            ("/", "/", Some("/")),
            ("/api//x", "/api", Some("/x")),
            ("/api//", "/api", Some("/")),
            ("/api/x;v=1/y", "/api", Some("/x;v=1/y")),
            ("/api/a\\b", "/api", Some("/a\\b")),
            ("/api/100%", "/api", Some("/100%")),
            ("/api/...", "/api", Some("/...")),
            ("/api/.hidden", "/api", Some("/.hidden")),
            ("/api/..hidden;x", "/api", Some("/..hidden;x")),
            ("/api../admin", "/api", None),
            ("/apix", "/api", None),
            ("/ap", "/api", None),
            ("", "/api", None),
            ("", "", Some("/")),
            ("/api/..", "/api", None),
            ("/api/../admin", "/api", None),
            ("/api/..;/admin", "/api", None),
            ("/api/..;x=y/admin", "/api", None),
            ("/api/x/.;/admin", "/api", None),
            ("/api/..\\admin", "/api", None),
            ("/api/\\..\\admin", "/api", None),
            ("/api/%2e%2e/admin", "/api", None),
            ("/api/%252e%252e/admin", "/api", None),
            ("/api/%2e.%2fadmin", "/api", None),
            ("/api/..%2fadmin", "/api", None),
            ("/api/..%5cadmin", "/api", None),
            ("/api/..%3b/admin", "/api", None),
            ("/api/a\0b", "/api", None),
            ("/api/a\r\nb", "/api", None),
        ] {
            let found = strip_prefix(path.as_bytes(), prefix.as_bytes()).ok().map(Stripped::as_bytes);
            assert_eq!(found, expected.map(str::as_bytes), "{path:?} without {prefix}");
        }
    }
}
