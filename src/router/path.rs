//! What may stand in a path before routing, and what happens to it after.
//!
//! Routes see the path as nginx decodes and resolves it, a server behind us sees what we send. Bypasses live in the
//! difference, so whatever the two could read differently is refused before anybody is asked ([`check`],
//! [`check_strict`]), the client's own spelling goes out only where it says the same ([`is_verbatim`]), and what was
//! changed here is checked again and escaped ([`strip_prefix`], [`escape()`]).

mod escape;
mod strict;
mod strip;

pub use escape::{escape, escaped_len};
pub use strict::check_strict;
pub use strip::{Stripped, recheck, strip_prefix};

use super::scan;
use crate::types::Reason;

/// `path_policy: normal`: refuses, with [`Reason::PathRefused`], a request whose path could mean something else to the
/// server behind.
///
/// `path` is decoded and normalised, `target` is what came in the request line. Refused are: a path without its slash;
/// NUL, other control bytes and DEL; dot segments that survived; in the target before its query `%2F` and `%5C`, a
/// broken percent-encoding and a `#`, which no request line may hold (RFC 9112, 3.2) and which nginx takes for the end
/// of the path but sends on. A target in absolute form is fine.
#[inline]
pub fn check(path: &[u8], target: &[u8]) -> Result<(), Reason> {
    if is_resolved(path) && is_target_plain(target) { Ok(()) } else { Err(Reason::PathRefused) }
}

/// Whether `target` up to its query says the same as `path` and no more: nothing was resolved or merged, only decoded.
///
/// Then the target may be sent on byte for byte. Otherwise a server that resolves differently would see another path
/// than the one that was matched, and [`escape()`] of `path` is to be sent.
#[inline]
#[must_use]
pub fn is_verbatim(path: &[u8], target: &[u8]) -> bool {
    match target.strip_prefix(path) {
        Some([]) => true,
        Some([b'?', ..]) => true,
        _ => is_encoding_of(path, target),
    }
}

/// Begins with a slash, holds no control byte and no dot segment.
#[inline]
fn is_resolved(path: &[u8]) -> bool {
    path.first() == Some(&b'/') && (!scan::has_control_or_slash_dot(path) || is_resolved_after_all(path))
}

/// A hidden file is neither control byte nor dot segment.
#[cold]
fn is_resolved_after_all(path: &[u8]) -> bool {
    !scan::has_below_or_del(path, 0x20) && !has_dot_segment(path)
}

/// Of a path that begins with a slash. One pass, since a path of 10 KiB may be made of hidden files.
fn has_dot_segment(path: &[u8]) -> bool {
    let mut rest = path;
    while let [first, after @ ..] = rest {
        if *first == b'/' && matches!(after, [b'.'] | [b'.', b'/', ..] | [b'.', b'.'] | [b'.', b'.', b'/', ..]) {
            return true;
        }
        rest = after;
    }
    false
}

#[inline]
fn is_target_plain(target: &[u8]) -> bool {
    match memchr::memchr3(b'%', b'#', b'?', target).and_then(|at| target.get(at..)) {
        None | Some([b'?', ..]) => true,
        Some(rest @ [b'%', ..]) => is_encoding_plain(rest),
        Some(_) => false,
    }
}

/// The same without looking for the next one each time: where one byte is encoded, many are.
fn is_encoding_plain(target: &[u8]) -> bool {
    let mut rest = target;
    loop {
        rest = match rest {
            [] | [b'?', ..] => return true,
            [b'%', b'2', b'f' | b'F', ..] | [b'%', b'5', b'c' | b'C', ..] | [b'#', ..] => return false,
            [b'%', high, low, after @ ..] if hex(*high, *low).is_some() => after,
            [b'%', ..] => return false,
            [_, after @ ..] => after,
        };
    }
}

#[cold]
fn is_encoding_of(path: &[u8], target: &[u8]) -> bool {
    // A query may hold `://` and slashes of its own.
    let mut raw = origin_form(without_query(target));
    for &byte in path {
        let (found, after) = match raw {
            [b'%', high, low, after @ ..] => (hex(*high, *low), after),
            [b'#', ..] | [] => return false,
            [found, after @ ..] => (Some(*found), after),
        };
        if found != Some(byte) {
            return false;
        }
        raw = after;
    }
    raw.is_empty()
}

/// The path of `target` as it is sent where that goes out as it came.
#[inline]
#[must_use]
pub fn sent(target: &[u8]) -> &[u8] {
    origin_form(without_query(target))
}

/// What of a target begins with the path: all, or in absolute form what follows scheme and host.
fn origin_form(target: &[u8]) -> &[u8] {
    if target.first() == Some(&b'/') {
        return target;
    }
    let authority = memchr::memmem::find(target, b"://").and_then(|at| target.get(at + 3..)).unwrap_or_default();
    memchr::memchr(b'/', authority).and_then(|at| authority.get(at..)).unwrap_or_default()
}

/// The target up to its query.
fn without_query(target: &[u8]) -> &[u8] {
    memchr::memchr(b'?', target).and_then(|at| target.get(..at)).unwrap_or(target)
}

/// The byte that two hexadecimal digits stand for.
#[inline]
pub(super) const fn hex(high: u8, low: u8) -> Option<u8> {
    match (digit(high), digit(low)) {
        (Some(high), Some(low)) => Some(high << 4 | low),
        _ => None,
    }
}

const fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normal() {
        for (path, target, expected) in [
            ("/", "/", true),
            ("/a/b.c", "/a/b.c?x=%2f#", true),
            ("/.hidden", "/.hidden", true),
            ("/a..b/...", "/a..b/...", true),
            ("/~user", "/%7Euser", true),
            ("/ü", "/%C3%BC", true),
            ("/a b;c\\", "/a%20b;c\\", true),
            ("/100%", "/100%25", true),
            ("/a", "http://gw.example/a", true),
            ("/admin", "/x/../admin", true),
            ("", "", false),
            ("a", "a", false),
            ("/a\0", "/a", false),
            ("/aaaaaaaaa\n", "/aaaaaaaaa%0a", false),
            ("/a\x7f", "/a%7f", false),
            ("/a\t", "/a%09", false),
            ("/..", "/..", false),
            ("/a/..", "/a/..", false),
            ("/../a", "/../a", false),
            ("/a/./b", "/a/./b", false),
            ("/a/.", "/a/.", false),
            ("/a/b", "/a%2fb", false),
            ("/a/b", "/a%2Fb", false),
            ("/a\\b", "/a%5cb", false),
            ("/a\\b", "/a%5Cb?c", false),
            ("/ab", "/%61b%2F", false),
            ("/a", "/a#", false),
            ("/a", "/a#/../b?c", false),
            ("/a", "/a%", false),
            ("/a", "/a%2", false),
            ("/a", "/a%zz", false),
        ] {
            assert_eq!(check(path.as_bytes(), target.as_bytes()).is_ok(), expected, "{path:?} {target:?}");
        }
    }

    #[test]
    fn verbatim() {
        for (path, target, expected) in [
            ("/", "/", true),
            ("/a", "/a", true),
            ("/a", "/a?b", true),
            ("/a b", "/a%20b", true),
            ("/a b", "/a%20b?c=/../d", true),
            ("/100%", "/100%25", true),
            ("/a", "http://gw.example/a?b", true),
            ("/a", "http://gw.example/%61", true),
            ("/a", "//a", false),
            ("/a", "/./a", false),
            ("/a", "/b/../a", false),
            ("/a", "/a#", false),
            ("/a", "/a/", false),
            ("/a/", "/a", false),
            ("/a", "/ab", false),
            ("/a", "/a%2", false),
            ("/", "http://gw.example", false),
            ("/", "http://gw.example?a", false),
            ("/", "http://gw.example?a/", false),
            ("/", "http://gw.example?a://b/", false),
            ("/", "?a://b/", false),
            ("/", "", false),
        ] {
            assert_eq!(is_verbatim(path.as_bytes(), target.as_bytes()), expected, "{path:?} {target:?}");
        }
    }
}
