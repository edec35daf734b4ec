use super::{check, hex, without_query};
use crate::types::Reason;

/// `path_policy: strict`: what [`check`] refuses, and every spelling by which some server is known to read another
/// path: `;` (parameters of servlets), `\` (a separator to some), a percent-encoding that is still there after
/// decoding, also in the `%uXXXX` form, bytes that are no UTF-8 (overlong forms among them), and characters that
/// compatibility folding turns into ASCII (fullwidth forms) or into dots and slashes.
///
/// Refuses with [`Reason::PathRefused`].
pub fn check_strict(path: &[u8], target: &[u8]) -> Result<(), Reason> {
    check(path, target)?;
    // A dot segment may have swallowed what stands in the target alone; its encoded form went with it.
    let is_clean = memchr::memchr2(b';', b'\\', path).is_none()
        && memchr::memchr2(b';', b'\\', without_query(target)).is_none()
        && !is_still_encoded(path)
        && is_plain_text(path);
    if is_clean { Ok(()) } else { Err(Reason::PathRefused) }
}

fn is_still_encoded(path: &[u8]) -> bool {
    memchr::memchr_iter(b'%', path).any(|at| match path.get(at..).unwrap_or_default() {
        [b'%', b'u' | b'U', high, low, ..] | [b'%', high, low, ..] => hex(*high, *low).is_some(),
        _ => false,
    })
}

fn is_plain_text(path: &[u8]) -> bool {
    path.is_ascii()
        || std::str::from_utf8(path).is_ok_and(|text| {
            !text.chars().any(|found| {
                matches!(
                    found,
                    '\u{ff01}'..='\u{ff5e}'
                        // Small full stop, small reverse solidus, one and two dot leaders, ellipsis.
                        | '\u{fe52}' | '\u{fe68}' | '\u{2024}'..='\u{2026}'
                        // Account of, addressed to, care of, cada una: each holds a slash.
                        | '\u{2100}' | '\u{2101}' | '\u{2105}' | '\u{2106}'
                )
            })
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strict() {
        for (path, target, expected) in [
            ("/a/b.c", "/a/b.c?x=;\\", true),
            ("/100%", "/100%25", true),
            ("/50%-off", "/50%25-off", true),
            ("/ü/日本", "/%C3%BC/%E6%97%A5%E6%9C%AC", true),
            ("/😀", "/%F0%9F%98%80", true),
            ("/..", "/..", false),
            ("/a;b", "/a;b", false),
            ("/a;b", "/a%3bb", false),
            ("/a", "/;/../a", false),
            ("/a\\b", "/a\\b", false),
            ("/%2e%2e/a", "/%252e%252e/a", false),
            ("/%u002e", "/%25u002e", false),
            ("/．．/a", "/%ef%bc%8e%ef%bc%8e/a", false),
            ("/ａdmin", "/%ef%bd%81dmin", false),
            ("/‥/a", "/%e2%80%a5/a", false),
        ] {
            assert_eq!(check_strict(path.as_bytes(), target.as_bytes()).is_ok(), expected, "{path:?} {target:?}");
        }
        for path in [&b"/\xc0\xae\xc0\xae/a"[..], b"/\xc0\xafa", b"/\xff\xfe", b"/a\xa0"] {
            assert_eq!(check_strict(path, path), Err(Reason::PathRefused), "{path:?}");
        }
    }
}
