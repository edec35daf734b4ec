//! Texts with the values of path parameters in them.

use super::settings::{ArchivedPart, ArchivedTemplate};

/// Where a text goes, and so how a value is put into it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A decoded path: as it is. The whole goes through `path::recheck` before it is sent.
    Path,
    /// A URL (RFC 3986): unreserved characters and slashes as they are, everything else percent-encoded, so that a
    /// value adds neither query nor fragment nor line.
    Url,
    /// The value of a header: as it is, without control bytes.
    Header,
}

/// Appends `template` to `out`. False where a parameter has no value, or one that cannot stand there; what was
/// appended by then is of no use.
pub fn render<'p>(
    template: &ArchivedTemplate,
    place: Place,
    value: impl Fn(&str) -> Option<&'p [u8]>,
    out: &mut Vec<u8>,
) -> bool {
    let begins = out.len();
    for part in template.0.iter() {
        match part {
            ArchivedPart::Text(text) => out.extend_from_slice(text.as_bytes()),
            ArchivedPart::Param(name) => {
                let Some(value) = value(name) else { return false };
                match place {
                    Place::Path => out.extend_from_slice(value),
                    Place::Url => encode(value, out),
                    Place::Header if value.iter().any(|&byte| byte < b' ' || byte == 0x7f) => return false,
                    Place::Header => out.extend_from_slice(value),
                }
            }
        }
    }
    let whole = out.get(begins..).unwrap_or_default();
    // What begins with two slashes is another host to a browser, whoever wrote them.
    place != Place::Url || !whole.starts_with(b"//")
}

fn encode(value: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for &byte in value {
        match byte {
            b'/' | b'-' | b'.' | b'_' | b'~' => out.push(byte),
            byte if byte.is_ascii_alphanumeric() => out.push(byte),
            byte => {
                let digit = |half: u8| DIGITS.get(usize::from(half & 15)).copied().unwrap_or(b'0');
                out.extend_from_slice(&[b'%', digit(byte >> 4), digit(byte)]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::settings::{Part, Template};
    use super::*;

    #[test]
    fn values_in_their_places() {
        let text = |text: &str| Part::Text(text.to_owned());
        let id = || Part::Param("id".to_owned());
        let (path, url, header) = (Place::Path, Place::Url, Place::Header);
        for (parts, place, value, expected) in [
            (vec![text("/x/"), id(), text("/y")], path, &b"a b?"[..], Some("/x/a b?/y")),
            (vec![text("/x/"), id()], url, b"a b?c#d%e&f=g;h\\i:@", Some("/x/a%20b%3Fc%23d%25e%26f%3Dg%3Bh%5Ci%3A%40")),
            (vec![text("/x/"), id()], url, b"a/b-._~", Some("/x/a/b-._~")),
            (vec![text("/x/"), id()], url, b"\r\nSet-Cookie: a", Some("/x/%0D%0ASet-Cookie%3A%20a")),
            (vec![text("/x/"), id()], url, "ü".as_bytes(), Some("/x/%C3%BC")),
            (vec![text("/"), id()], url, b"/evil.example", None),
            (vec![text("/"), id()], url, b"\\evil.example", Some("/%5Cevil.example")),
            (vec![text("https://a.example/"), id()], url, b"/x", Some("https://a.example//x")),
            (vec![text("v "), id()], header, b"a b", Some("v a b")),
            (vec![id()], header, b"a\r\nX: y", None),
            (vec![Part::Param("other".to_owned())], header, b"a", None),
            (vec![text("plain")], header, b"a", Some("plain")),
        ] {
            let template = Template(parts.clone());
            let bytes = rkyv::to_bytes::<rkyv::rancor::Error>(&template).unwrap();
            let archived = rkyv::access::<ArchivedTemplate, rkyv::rancor::Error>(&bytes).unwrap();
            let mut out = Vec::new();
            let done = render(archived, place, |name| (name == "id").then_some(value), &mut out);
            assert_eq!(done.then(|| String::from_utf8(out).unwrap()).as_deref(), expected, "{parts:?} {place:?}");
        }
    }
}
