//! The signature base (RFC 9421, 2.5): what is signed, line by line.

use super::parse::{Item, is_tchar};
use crate::types::Request;

/// Derived components (RFC 9421, 2.2) that need no parameter; `@query-param` is known beside them.
pub const DERIVED: [&str; 7] =
    ["@method", "@target-uri", "@authority", "@scheme", "@request-target", "@path", "@query"];

/// Whether `name` can be that of a covered header field: a token in lower case.
pub fn is_field(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().all(|byte| is_tchar(*byte) && !byte.is_ascii_uppercase())
}

/// Writes the base over `items` of `request` behind what is in `base`; `parameters` is the canonical text of the
/// signature's entry. `None`: a component is unknown, or the request does not have it.
pub fn write(request: &impl Request, items: &[Item<'_>], parameters: &[u8], base: &mut Vec<u8>) -> Option<()> {
    for item in items {
        base.push(b'"');
        base.extend_from_slice(item.name);
        base.push(b'"');
        if let Some(name) = item.parameter {
            base.extend_from_slice(b";name=\"");
            base.extend_from_slice(name);
            base.push(b'"');
        }
        base.extend_from_slice(b": ");
        value(request, item, base)?;
        base.push(b'\n');
    }
    base.extend_from_slice(b"\"@signature-params\": ");
    base.extend_from_slice(parameters);
    Some(())
}

fn value(request: &impl Request, item: &Item<'_>, base: &mut Vec<u8>) -> Option<()> {
    let takes_name = item.name == b"@query-param";
    if item.is_foreign || item.parameter.is_some() != takes_name {
        return None;
    }
    let target = request.target();
    let (path, query) = split(target);
    match item.name {
        b"@method" => base.extend_from_slice(request.method_name()?),
        b"@authority" => authority(request, base)?,
        b"@scheme" => base.extend_from_slice(request.scheme()),
        b"@target-uri" => {
            base.extend_from_slice(request.scheme());
            base.extend_from_slice(b"://");
            authority(request, base)?;
            base.extend_from_slice(target.starts_with(b"/").then_some(target)?);
        }
        b"@request-target" => base.extend_from_slice(target),
        b"@path" => base.extend_from_slice(path.starts_with(b"/").then_some(path)?),
        b"@query" => {
            base.push(b'?');
            base.extend_from_slice(query);
        }
        b"@query-param" => parameter(query, item.parameter?, base)?,
        name if is_field(name) => field(request, name, base)?,
        _ => return None,
    }
    Some(())
}

fn split(target: &[u8]) -> (&[u8], &[u8]) {
    let end = target.iter().position(|byte| *byte == b'?').unwrap_or(target.len());
    (target.get(..end).unwrap_or_default(), target.get(end + 1..).unwrap_or_default())
}

/// In lower case, without the scheme's own port (RFC 9421, 2.2.3). It must be the host that the request is routed by:
/// an absolute request target may name another than the header does.
fn authority(request: &impl Request, base: &mut Vec<u8>) -> Option<()> {
    let written = request.authority();
    let (host, port) = host_and_port(written);
    let (routed, _) = host_and_port(request.host());
    let plain = |host: &[u8]| host.strip_suffix(b".").unwrap_or(host).len();
    let same = |a: &[u8], b: &[u8]| match (a.get(..plain(a)), b.get(..plain(b))) {
        (Some(a), Some(b)) => !a.is_empty() && a.eq_ignore_ascii_case(b),
        _ => false,
    };
    if !same(host, routed) {
        return None;
    }
    base.extend(host.iter().map(u8::to_ascii_lowercase));
    let own: &[u8] = if request.scheme() == b"https" { b"443" } else { b"80" };
    if !port.is_empty() && port != own {
        base.push(b':');
        base.extend_from_slice(port);
    }
    Some(())
}

/// A port is digits behind the last colon, and an IPv6 address stands in brackets.
fn host_and_port(authority: &[u8]) -> (&[u8], &[u8]) {
    match authority.iter().rposition(|byte| *byte == b':') {
        Some(colon) => {
            let (host, port) =
                (authority.get(..colon).unwrap_or_default(), authority.get(colon + 1..).unwrap_or_default());
            match port.iter().all(u8::is_ascii_digit) && (!host.starts_with(b"[") || host.ends_with(b"]")) {
                true => (host, port),
                false => (authority, b""),
            }
        }
        None => (authority, b""),
    }
}

/// All lines, each trimmed, joined by a comma and a blank (RFC 9421, 2.1).
fn field(request: &impl Request, name: &[u8], base: &mut Vec<u8>) -> Option<()> {
    let (mut lines, mut is_harmless) = (0, true);
    request.header_lines(name, &mut |line| {
        if lines > 0 {
            base.extend_from_slice(b", ");
        }
        // A line break would be taken for the beginning of another component.
        is_harmless &= !line.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0));
        base.extend_from_slice(line.trim_ascii());
        lines += 1;
    });
    (lines > 0 && is_harmless).then_some(())
}

/// The one parameter of the query that is called `name`; both are compared and signed decoded and encoded again
/// (RFC 9421, 2.2.8). Two of that name are nobody's guess.
fn parameter(query: &[u8], name: &[u8], base: &mut Vec<u8>) -> Option<()> {
    let mut values = query.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty()).filter_map(|pair| {
        let end = pair.iter().position(|byte| *byte == b'=').unwrap_or(pair.len());
        let (key, value) = (pair.get(..end)?, pair.get(end + 1..).unwrap_or_default());
        spells(key, name).then_some(value)
    });
    let value = values.next()?;
    if values.next().is_some() {
        return None;
    }
    recode(value, |byte| base.push(byte));
    Some(())
}

fn spells(key: &[u8], name: &[u8]) -> bool {
    let mut rest = name.iter();
    let mut same = true;
    recode(key, |byte| same &= rest.next() == Some(&byte));
    same && rest.next().is_none()
}

/// Decodes what a form encoded, and encodes it as the WHATWG's URL standard does, with a blank as `%20`.
fn recode(text: &[u8], mut put: impl FnMut(u8)) {
    let mut rest = text;
    while let Some((&first, behind)) = rest.split_first() {
        rest = behind;
        let byte = match (first, behind) {
            (b'+', _) => b' ',
            (b'%', [high, low, after @ ..]) => match (digit(*high), digit(*low)) {
                (Some(high), Some(low)) => {
                    rest = after;
                    high << 4 | low
                }
                _ => b'%',
            },
            _ => first,
        };
        if byte.is_ascii_alphanumeric() || b"*-._".contains(&byte) {
            put(byte);
        } else {
            let hex = |nibble: u8| if nibble < 10 { b'0' + nibble } else { b'A' + nibble - 10 };
            put(b'%');
            put(hex(byte >> 4));
            put(hex(byte & 15));
        }
    }
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).map(|digit| digit as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorities() {
        for (text, expected) in [
            ("a.example", ("a.example", "")),
            ("a.example:80", ("a.example", "80")),
            ("a.example:", ("a.example", "")),
            ("[::1]", ("[::1]", "")),
            ("[::1]:8080", ("[::1]", "8080")),
            ("a:b", ("a:b", "")),
            ("", ("", "")),
        ] {
            assert_eq!(host_and_port(text.as_bytes()), (expected.0.as_bytes(), expected.1.as_bytes()), "{text}");
        }
    }

    #[test]
    fn parameters_of_the_query() {
        // RFC 9421, 2.2.8.
        let query = b"var=this%20is%20a%20big%0Amultiline%20value&bar=with+plus+whitespace&fa%C3%A7ade%22%3A%20=something&e=&f&d=1&d=2";
        for (name, expected) in [
            ("var", Some("this%20is%20a%20big%0Amultiline%20value")),
            ("bar", Some("with%20plus%20whitespace")),
            ("fa%C3%A7ade%22%3A%20", Some("something")),
            ("fa%c3%a7ade%22%3a%20", None),
            ("e", Some("")),
            ("f", Some("")),
            ("d", None),
            ("va", None),
            ("vars", None),
            ("", None),
        ] {
            let mut value = Vec::new();
            let found = parameter(query, name.as_bytes(), &mut value).map(|()| String::from_utf8(value).unwrap());
            assert_eq!(found.as_deref(), expected, "{name}");
        }
    }
}
