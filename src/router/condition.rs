//! Whether a request is what a route's `match` asks for.
//!
//! A field may come several times, and servers differ in which of the values they take. So a condition that must hold
//! asks every value, and a condition that must not hold (`not`) is not got around by hiding the value among others:
//!
//! - *positive*: the field is there and each of its values passes the test;
//! - *`not`*: none of its values does; of a header neither a line, nor an element between commas, nor the lines joined
//!   by `, ` (RFC 9110, 5.3);
//! - what cannot be read (a broken percent-encoding, more than [`VALUE_MAX`] bytes) makes either of them fail.
//!
//! A header is compared whole: `1, 2` is not `2`. Query parameters are compared decoded, `+` as a blank; cookies
//! without the quotes that may stand around a value.

use super::path::hex;
pub use super::settings::{ArchivedCondition, ArchivedField, ArchivedTest};
use crate::types::Request;

/// The longest value of a query parameter, and the longest joined header, that is looked at; bytes.
pub const VALUE_MAX: usize = 4_096;

/// Whether `condition` holds for `request`. `search` says whether an expression is found in a text: compiled forms
/// belong to the caller.
pub fn holds(
    condition: &ArchivedCondition,
    request: &impl Request,
    search: &mut impl FnMut(&str, &[u8]) -> bool,
) -> bool {
    let mut seen = Seen { count: 0, all: true, any: false, unreadable: false };
    let mut test = |value: &[u8]| match &condition.test {
        ArchivedTest::Equals(wanted) => wanted.as_bytes() == value,
        ArchivedTest::In(wanted) => wanted.iter().any(|wanted| wanted.as_bytes() == value),
        ArchivedTest::Regex(text) => search(text, value),
        ArchivedTest::Exists => true,
    };
    match &condition.field {
        ArchivedField::Header(name) => header(name.as_bytes(), request, condition.not, &mut seen, &mut test),
        ArchivedField::Query(name) => query(name.as_bytes(), request.query(), &mut seen, &mut test),
        ArchivedField::Cookie(name) => {
            request.header_lines(b"cookie", &mut |line| cookies(name.as_bytes(), line, &mut seen, &mut test));
        }
    }
    match condition.not {
        _ if seen.unreadable => false,
        true => !seen.any,
        false => seen.count > 0 && seen.all,
    }
}

/// What was found of a field.
struct Seen {
    count: u32,
    all: bool,
    any: bool,
    unreadable: bool,
}

impl Seen {
    fn value(&mut self, passes: bool) {
        self.count += 1;
        self.all &= passes;
        self.any |= passes;
    }
}

fn header(name: &[u8], request: &impl Request, deny: bool, seen: &mut Seen, test: &mut impl FnMut(&[u8]) -> bool) {
    if !deny {
        return request.header_lines(name, &mut |line| seen.value(test(line)));
    }
    let mut joined = [0; VALUE_MAX];
    let mut length = 0;
    request.header_lines(name, &mut |line| {
        let comma: &[u8] = if seen.count == 0 { b"" } else { b", " };
        let passes =
            test(line) || (line.contains(&b',') && line.split(|&byte| byte == b',').any(|one| test(one.trim_ascii())));
        seen.value(passes);
        for bytes in [comma, line] {
            match joined.get_mut(length..length + bytes.len()) {
                Some(place) => place.copy_from_slice(bytes),
                None => seen.unreadable = true,
            }
            length = (length + bytes.len()).min(VALUE_MAX);
        }
    });
    if seen.count > 1 && !seen.unreadable {
        seen.any |= test(joined.get(..length).unwrap_or_default());
    }
}

fn query(name: &[u8], query: &[u8], seen: &mut Seen, test: &mut impl FnMut(&[u8]) -> bool) {
    let mut buffer = [0; VALUE_MAX];
    for parameter in query.split(|&byte| byte == b'&') {
        let (key, value) = match memchr::memchr(b'=', parameter).and_then(|at| parameter.split_at_checked(at)) {
            Some((key, value)) => (key, value.get(1..).unwrap_or_default()),
            None => (parameter, &[][..]),
        };
        if parameter.is_empty() || decode(key, &mut buffer) != Some(name) {
            continue;
        }
        match decode(value, &mut buffer) {
            Some(value) => seen.value(test(value)),
            None => seen.unreadable = true,
        }
    }
}

/// Decodes `application/x-www-form-urlencoded` into `buffer`; `None` where it is too long or no encoding.
fn decode<'b>(raw: &[u8], buffer: &'b mut [u8; VALUE_MAX]) -> Option<&'b [u8]> {
    let mut length = 0;
    let mut rest = raw;
    while let Some((&byte, mut after)) = rest.split_first() {
        let byte = match byte {
            b'+' => b' ',
            b'%' => {
                let (&[high, low], behind) = after.split_first_chunk::<2>()?;
                after = behind;
                hex(high, low)?
            }
            byte => byte,
        };
        *buffer.get_mut(length)? = byte;
        length += 1;
        rest = after;
    }
    buffer.get(..length)
}

fn cookies(name: &[u8], line: &[u8], seen: &mut Seen, test: &mut impl FnMut(&[u8]) -> bool) {
    for pair in line.split(|&byte| byte == b';').map(<[u8]>::trim_ascii) {
        let Some((key, value)) = memchr::memchr(b'=', pair).and_then(|at| pair.split_at_checked(at)) else { continue };
        if key.trim_ascii() != name {
            continue;
        }
        match value.get(1..).unwrap_or_default().trim_ascii() {
            [b'"', inner @ .., b'"'] => seen.value(test(inner)),
            value => seen.value(test(value)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::super::regex::Regex;
    use super::super::settings::{Condition, Field, Test};
    use super::*;
    use crate::types::{Header, Method, Protocol};

    struct Sent<'a>(&'a str, &'a [(&'a str, &'a str)]);

    impl Request for Sent<'_> {
        fn method(&self) -> Method {
            Method::Get
        }
        fn host(&self) -> &[u8] {
            b""
        }
        fn path(&self) -> &[u8] {
            b"/"
        }
        fn target(&self) -> &[u8] {
            b"/"
        }
        fn query(&self) -> &[u8] {
            self.0.as_bytes()
        }
        fn client(&self) -> IpAddr {
            IpAddr::V4(Ipv4Addr::LOCALHOST)
        }
        fn protocol(&self) -> Protocol {
            Protocol::Http
        }
        fn header(&self, _: &[u8]) -> Header<'_> {
            Header::Absent
        }
        fn header_lines(&self, name: &[u8], take: &mut dyn FnMut(&[u8])) {
            self.1.iter().filter(|(key, _)| key.as_bytes() == name).for_each(|(_, value)| take(value.as_bytes()));
        }
    }

    fn asks(field: Field, test: Test, not: bool, request: &Sent<'_>) -> bool {
        let condition = Condition { field, test, not };
        let bytes = rkyv::to_bytes::<rkyv::rancor::Error>(&condition).unwrap();
        let archived = rkyv::access::<ArchivedCondition, rkyv::rancor::Error>(&bytes).unwrap();
        holds(archived, request, &mut |text, value| Regex::new(text).unwrap().matches(value))
    }

    #[test]
    fn headers() {
        let field = || Field::Header("x".into());
        let equals = || Test::Equals("a".into());
        let within = || Test::In(vec!["a".into(), "b".into()]);
        let regex = || Test::Regex("^a".into());
        let long = "b".repeat(VALUE_MAX);
        for (lines, test, expected, negated) in [
            (&[][..], equals(), false, true),
            (&["a"], equals(), true, false),
            (&["A"], equals(), false, true),
            (&["a", "a"], equals(), true, false),
            (&["a", "b"], equals(), false, false),
            (&["b", "a"], equals(), false, false),
            (&["b", "c"], equals(), false, true),
            (&["b, a"], equals(), false, false),
            (&["b,a"], equals(), false, false),
            (&["b; a"], equals(), false, true),
            (&["a", "b"], within(), true, false),
            (&["a", "c"], within(), false, false),
            (&["ab"], regex(), true, false),
            (&["b", "ab"], regex(), false, false),
            (&["x", "y"], Test::Equals("x, y".into()), false, false),
            (&["x, y"], Test::Equals("x, y".into()), true, false),
            (&["x", "y"], Test::Regex("x, y".into()), false, false),
            (&[""], Test::Exists, true, false),
            (&[], Test::Exists, false, true),
            (&["b", &long], equals(), false, false),
        ] {
            let sent: Vec<_> = lines.iter().map(|line| ("x", *line)).collect();
            let request = Sent("", &sent);
            let found = (asks(field(), test.clone(), false, &request), asks(field(), test.clone(), true, &request));
            assert_eq!(found, (expected, negated), "{lines:?} {test:?}");
        }
    }

    #[test]
    fn queries() {
        let long = format!("v={}", "a".repeat(VALUE_MAX + 1));
        for (query, wanted, expected, negated) in [
            ("v=1", "1", true, false),
            ("w=1&v=1", "1", true, false),
            ("V=1", "1", false, true),
            ("%76=%31", "1", true, false),
            ("v=a+b%20c", "a b c", true, false),
            ("v=1&v=1", "1", true, false),
            ("v=1&v=2", "1", false, false),
            ("v=2&v=1", "1", false, false),
            ("v", "", true, false),
            ("v=", "", true, false),
            ("", "", false, true),
            ("v=a=b", "a=b", true, false),
            ("v=%zz", "1", false, false),
            ("v=1%", "1", false, false),
            ("v=%3", "3", false, false),
            ("vv=1;v=1", "1", false, true),
            (&long, "1", false, false),
        ] {
            let test = Test::Equals(wanted.into());
            let request = Sent(query, &[]);
            let field = || Field::Query("v".into());
            let found = (asks(field(), test.clone(), false, &request), asks(field(), test, true, &request));
            assert_eq!(found, (expected, negated), "{query}");
        }
    }

    #[test]
    fn cookies_of_all_lines() {
        for (lines, expected, negated) in [
            (&["canary=true"][..], true, false),
            (&["a=b; canary=true;c=d"], true, false),
            (&["a=b", "canary=true"], true, false),
            (&["canary=\"true\""], true, false),
            (&["canary = true"], true, false),
            (&["canary=true; canary=no"], false, false),
            (&["Canary=true"], false, true),
            (&["canary"], false, true),
            (&["xcanary=true"], false, true),
            (&[], false, true),
        ] {
            let sent: Vec<_> = lines.iter().map(|line| ("cookie", *line)).collect();
            let (request, test) = (Sent("", &sent), Test::Equals("true".into()));
            let field = || Field::Cookie("canary".into());
            let found = (asks(field(), test.clone(), false, &request), asks(field(), test, true, &request));
            assert_eq!(found, (expected, negated), "{lines:?}");
        }
    }
}
