//! The host of a request, in the one form in which hosts are compared.

use std::io::Write;
use std::net::Ipv6Addr;

use crate::types::Reason;

/// The longest host, in bytes, without port and trailing dot (RFC 1035, 2.3.4, less the root label).
pub const HOST_MAX: usize = 253;

/// Brings the host of a request into the form in which hosts are compared: lower case, no port, no trailing dot.
///
/// An IPv6 literal keeps its brackets and gets the one spelling of RFC 5952. An empty host stays empty and reaches
/// only routes that name no host. Whatever else is no host is [`Reason::RequestMalformed`]: an empty label, a byte
/// that is neither letter, digit, `-`, `_` nor `.`, more than [`HOST_MAX`] bytes, a port that is no number.
#[inline]
pub fn normalise<'b>(raw: &[u8], buf: &'b mut [u8; 256]) -> Result<&'b [u8], Reason> {
    if raw.first() == Some(&b'[') {
        return literal(raw, buf);
    }

    let mut length = 0;
    let mut before = b'.';
    let mut rest = raw.iter();
    for (slot, &byte) in buf.iter_mut().zip(rest.by_ref()) {
        let folded = fold(byte);
        if folded == 0 {
            if byte == b':' && length > 0 && is_port(raw.get(length + 1..).unwrap_or_default()) {
                rest = [].iter();
                break;
            }
            return Err(Reason::RequestMalformed);
        }
        if folded == b'.' && before == b'.' {
            return Err(Reason::RequestMalformed);
        }
        *slot = folded;
        before = folded;
        length += 1;
    }
    if length > 0 && before == b'.' {
        length -= 1;
    }
    if length > HOST_MAX || rest.next().is_some() {
        return Err(Reason::RequestMalformed);
    }
    Ok(buf.get(..length).unwrap_or_default())
}

/// The byte in lower case if it may stand in a host name, else 0.
///
/// Stricter than RFC 3986, which also lets percent-encoding and sub-delims into a name: nothing that resolves has
/// them, and what reads one host out of `a,b` may read another one elsewhere.
#[inline]
#[allow(clippy::indexing_slicing, reason = "a byte is never outside a table of 256")]
pub(super) const fn fold(byte: u8) -> u8 {
    FOLD[byte as usize]
}

#[allow(clippy::indexing_slicing, reason = "runs in the compiler")]
const FOLD: [u8; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 128_u8 {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.') {
            table[byte as usize] = byte.to_ascii_lowercase();
        }
        byte += 1;
    }
    table
};

fn is_port(port: &[u8]) -> bool {
    port.len() <= 5 && port.iter().all(u8::is_ascii_digit)
}

#[cold]
fn literal<'b>(raw: &[u8], buf: &'b mut [u8; 256]) -> Result<&'b [u8], Reason> {
    let (address, port) = split_literal(raw).ok_or(Reason::RequestMalformed)?;
    if !(port.is_empty() || port.strip_prefix(b":").is_some_and(is_port)) {
        return Err(Reason::RequestMalformed);
    }
    let mut space = buf.as_mut_slice();
    write!(space, "[{address}]").map_err(|_| Reason::RequestMalformed)?;
    let left = space.len();
    Ok(buf.get(..256 - left).unwrap_or_default())
}

/// The address between the brackets, and what follows them.
pub(super) fn split_literal(raw: &[u8]) -> Option<(Ipv6Addr, &[u8])> {
    let inner = raw.strip_prefix(b"[")?;
    let end = memchr::memchr(b']', inner)?;
    let address = std::str::from_utf8(inner.get(..end)?).ok()?.parse().ok()?;
    Some((address, inner.get(end + 1..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        let long = format!("{}.com", "a".repeat(249));
        let longest = format!("{}.com:8080", "A".repeat(249));
        for (raw, expected) in [
            ("", Some("")),
            ("a.example", Some("a.example")),
            ("A.Example", Some("a.example")),
            ("a.example:8080", Some("a.example")),
            ("a.example:", Some("a.example")),
            ("a.example.", Some("a.example")),
            ("a.example.:80", Some("a.example")),
            ("gw_example", Some("gw_example")),
            ("xn--bcher-kva.example", Some("xn--bcher-kva.example")),
            ("10.0.0.1:80", Some("10.0.0.1")),
            ("[::1]", Some("[::1]")),
            ("[::1]:80", Some("[::1]")),
            ("[2001:DB8:0::1]:80", Some("[2001:db8::1]")),
            ("[::ffff:10.0.0.1]", Some("[::ffff:10.0.0.1]")),
            (&longest, Some(&long)),
            (&format!("{long}a"), None),
            (&format!("{long}."), Some(&long)),
            (&"a".repeat(256), None),
            (&"a".repeat(100_000), None),
            (".", None),
            ("..", None),
            ("a..example", None),
            ("a.example..", None),
            (".example", None),
            (":80", None),
            ("a.example:80:80", None),
            ("a.example:http", None),
            ("a.example:123456", None),
            ("a.example/admin", None),
            ("a.example\\admin", None),
            ("user@a.example", None),
            ("a.example,evil", None),
            ("a example", None),
            ("a\0example", None),
            ("a\x7fexample", None),
            ("a%2eexample", None),
            ("*.example", None),
            ("bücher.example", None),
            ("::1", None),
            ("[::1", None),
            ("[::1]x", None),
            ("[::1]:x", None),
            ("[::1].", None),
            ("[fe80::1%25eth0]", None),
            ("[]", None),
            ("[", None),
        ] {
            let mut buf = [0xaa; 256];
            let found = normalise(raw.as_bytes(), &mut buf).ok();
            assert_eq!(found, expected.map(str::as_bytes), "{raw}");
        }
    }
}
