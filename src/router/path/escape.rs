/// Percent-encodes a decoded path for a request line, handing the pieces to `out` in order.
///
/// What may stand raw is RFC 3986's `pchar` and the slash. All else is encoded, `%` included, so a path can hold
/// neither a second request nor a query that nobody matched.
#[inline]
pub fn escape(path: &[u8], out: &mut impl FnMut(&[u8])) {
    let mut rest = path;
    while let Some(at) = rest.iter().position(|&byte| !is_plain(byte)) {
        let (plain, after) = rest.split_at(at);
        let Some((&byte, after)) = after.split_first() else { break };
        if !plain.is_empty() {
            out(plain);
        }
        out(&[b'%', digit(byte >> 4), digit(byte & 15)]);
        rest = after;
    }
    if !rest.is_empty() {
        out(rest);
    }
}

/// The number of bytes that [`escape()`] hands out; the path needs no escaping where it equals the path's own.
#[inline]
#[must_use]
pub fn escaped_len(path: &[u8]) -> usize {
    path.len() + 2 * path.iter().filter(|&&byte| !is_plain(byte)).count()
}

const fn digit(nibble: u8) -> u8 {
    if nibble < 10 { b'0' + nibble } else { b'A' + nibble - 10 }
}

#[inline]
#[allow(clippy::indexing_slicing, reason = "a byte is never outside a table of 256")]
const fn is_plain(byte: u8) -> bool {
    PLAIN[byte as usize]
}

#[allow(clippy::indexing_slicing, reason = "runs in the compiler")]
const PLAIN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 128_u8 {
        table[byte as usize] = byte.is_ascii_alphanumeric()
            || matches!(
                byte,
                b'-' | b'.'
                    | b'_'
                    | b'~'
                    | b'!'
                    | b'$'
                    | b'&'
                    | b'\''
                    | b'('
                    | b')'
                    | b'*'
                    | b'+'
                    | b','
                    | b';'
                    | b'='
                    | b':'
                    | b'@'
                    | b'/'
            );
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_a_path_stays_as_it_is() {
        for (path, expected) in [
            ("/", "/"),
            ("", ""),
            ("/a-b._~!$&'()*+,;=:@", "/a-b._~!$&'()*+,;=:@"),
            ("/a b?x\r\nX-Evil: 1", "/a%20b%3Fx%0D%0AX-Evil:%201"),
            ("/100%", "/100%25"),
            ("/%2e%2e", "/%252e%252e"),
            ("/ü", "/%C3%BC"),
            ("/#\"<>[\\]^`{|}\0\x7f", "/%23%22%3C%3E%5B%5C%5D%5E%60%7B%7C%7D%00%7F"),
        ] {
            let mut found = Vec::new();
            escape(path.as_bytes(), &mut |piece| found.extend_from_slice(piece));
            assert_eq!(String::from_utf8_lossy(&found), expected);
            assert_eq!(escaped_len(path.as_bytes()), found.len(), "{path}");
        }
    }
}
