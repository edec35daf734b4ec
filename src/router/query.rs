//! The query of a request.

use super::scan;

/// Whether a query can stand in a request line as it is.
///
/// nginx sends arguments unescaped, so a space ends the target and a line break the line: no byte below 0x21, no DEL.
#[inline]
#[must_use]
pub fn is_safe(args: &[u8]) -> bool {
    !scan::has_below_or_del(args, 0x21)
}

#[cfg(test)]
mod tests {
    #[test]
    fn queries() {
        for (args, expected) in [
            ("", true),
            ("a=b&c=%20", true),
            ("a=ü", true),
            ("a=b c", false),
            ("x\r\nX-Evil: 1", false),
            ("aaaaaaaaaaaaaaaaaaaaaaa\0", false),
            ("\x7faaaaaaaaaaaaaaaaaa", false),
        ] {
            assert_eq!(super::is_safe(args.as_bytes()), expected, "{args:?}");
        }
    }
}
