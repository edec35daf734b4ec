//! The one form of a query, which is what is forwarded and what is in the key.
//!
//! Percent-encodings of characters that need none are decoded and the others written with capitals (RFC 3986, 6.2.2),
//! parameters that are not part of the request are left out, the others sorted by name; those of one name stay in their
//! order, which means something. Nothing else is touched: `+`, `;`, a parameter without `=` and a broken encoding mean
//! what they mean to the server, and since it is sent the very bytes that are in the key, it cannot read into them what
//! another request would not be answered with.

use super::settings::ArchivedQuery;

/// The most parameters of a query that is brought into one form; requests with more are not answered from the cache.
pub const PARAMETERS_MAX: usize = 64;

/// What became of a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Canonical {
    /// It is in its one form.
    Same,
    /// Its form was written.
    Written,
    /// It has too many parameters.
    TooLong,
}

/// A parameter: the first bytes of its name as a number that compares as they do, and where it stands.
#[derive(Clone, Copy)]
struct Part {
    prefix: u64,
    start: u32,
    end: u32,
    name: u32,
}

impl Part {
    const NONE: Self = Self { prefix: 0, start: 0, end: 0, name: 0 };
}

/// Brings `query` into its one form; where that is another one, it is in `out`, which is empty before. `scratch` is
/// used on the way and empty afterwards.
#[inline]
pub fn canonical(query: &[u8], rule: &ArchivedQuery, out: &mut Vec<u8>, scratch: &mut Vec<u8>) -> Canonical {
    if query.is_empty() {
        return Canonical::Same;
    }
    let result = if memchr::memchr(b'%', query).is_none() {
        arrange(query, rule, out)
    } else {
        decode(query, scratch);
        match arrange(scratch, rule, out) {
            Canonical::Same if scratch.as_slice() != query => {
                out.extend_from_slice(scratch);
                Canonical::Written
            }
            result => result,
        }
    };
    scratch.clear();
    result
}

/// Leaves out and sorts; nothing is written where nothing changes.
fn arrange(query: &[u8], rule: &ArchivedQuery, out: &mut Vec<u8>) -> Canonical {
    let mut parts = [Part::NONE; PARAMETERS_MAX];
    let mut count = 0;
    let mut kept = 0;
    let mut changed = false;
    let mut sorted = true;
    let mut before: (u64, &[u8]) = (0, &[]);
    let mut start = 0;
    if query.len() > u32::MAX as usize {
        return Canonical::TooLong;
    }
    loop {
        let rest = query.get(start..).unwrap_or_default();
        let length = memchr::memchr(b'&', rest).unwrap_or(rest.len());
        let part = rest.get(..length).unwrap_or_default();
        if part.is_empty() {
            // `&&`, or an ampersand at either end.
            changed = true;
        } else {
            let name_end = memchr::memchr(b'=', part).unwrap_or(length);
            let name = part.get(..name_end).unwrap_or_default();
            kept += 1;
            if kept > PARAMETERS_MAX {
                return Canonical::TooLong;
            }
            if is_part(name, rule) {
                let prefix = prefix(name);
                sorted &= before.0 < prefix || before.0 == prefix && before.1 <= name;
                before = (prefix, name);
                if let Some(place) = parts.get_mut(count) {
                    *place = Part {
                        prefix,
                        start: start as u32,
                        end: (start + length) as u32,
                        name: (start + name_end) as u32,
                    };
                }
                count += 1;
            } else {
                changed = true;
            }
        }
        start += length + 1;
        if start > query.len() {
            break;
        }
    }
    if sorted && !changed {
        return Canonical::Same;
    }
    let parts = parts.get_mut(..count).unwrap_or_default();
    if !sorted {
        let name = |part: &Part| query.get(part.start as usize..part.name as usize).unwrap_or_default();
        sort(parts, |one, other| one.prefix > other.prefix || one.prefix == other.prefix && name(one) > name(other));
    }
    for (index, part) in parts.iter().enumerate() {
        if index > 0 {
            out.push(b'&');
        }
        out.extend_from_slice(query.get(part.start as usize..part.end as usize).unwrap_or_default());
    }
    Canonical::Written
}

/// Insertion: there are few, and they are often nearly in order. Equal ones stay as they are.
fn sort(parts: &mut [Part], is_after: impl Fn(&Part, &Part) -> bool) {
    for end in 1..parts.len() {
        let Some(sorted) = parts.get_mut(..=end) else { return };
        let Some((last, front)) = sorted.split_last_mut() else { return };
        let part = *last;
        let place = front.iter().rposition(|other| !is_after(other, &part)).map_or(0, |index| index + 1);
        if place < end {
            sorted.copy_within(place..end, place + 1);
            if let Some(slot) = sorted.get_mut(place) {
                *slot = part;
            }
        }
    }
}

#[inline]
fn prefix(name: &[u8]) -> u64 {
    match name.first_chunk::<8>() {
        Some(chunk) => u64::from_be_bytes(*chunk),
        None => {
            let bytes = name.iter().fold(0_u64, |all, &byte| all << 8 | u64::from(byte));
            bytes.checked_shl(8 * (8 - name.len() as u32)).unwrap_or(0)
        }
    }
}

#[inline]
fn is_part(name: &[u8], rule: &ArchivedQuery) -> bool {
    match rule {
        ArchivedQuery::All => true,
        ArchivedQuery::Allow(names) => names.iter().any(|pattern| fits(name, pattern.as_bytes())),
        ArchivedQuery::Deny(names) => !names.iter().any(|pattern| fits(name, pattern.as_bytes())),
    }
}

#[inline]
fn fits(name: &[u8], pattern: &[u8]) -> bool {
    match pattern {
        [start @ .., b'*'] => name.starts_with(start),
        whole => name == whole,
    }
}

/// Decodes what needs no encoding and writes the rest with capitals; what is no encoding stays.
fn decode(query: &[u8], out: &mut Vec<u8>) {
    out.clear();
    let mut rest = query;
    while let Some(at) = memchr::memchr(b'%', rest) {
        let (plain, encoded) = rest.split_at(at);
        out.extend_from_slice(plain);
        rest = match encoded {
            [_, high, low, after @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                let digit = |byte: u8| char::from(byte).to_digit(16).unwrap_or(0) as u8;
                match digit(*high) << 4 | digit(*low) {
                    byte if byte.is_ascii_alphanumeric() && !completes(out, byte) || b"-._~".contains(&byte) => {
                        out.push(byte);
                    }
                    _ => out.extend_from_slice(&[b'%', high.to_ascii_uppercase(), low.to_ascii_uppercase()]),
                }
                after
            }
            [percent, after @ ..] => {
                out.push(*percent);
                after
            }
            [] => encoded,
        };
    }
    out.extend_from_slice(rest);
}

/// Whether `byte` makes an encoding of a `%` that is none: `%%441` is not `%D1`.
fn completes(out: &[u8], byte: u8) -> bool {
    byte.is_ascii_hexdigit() && matches!(out, [.., b'%'] | [.., b'%', b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F'])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::Query;

    fn archived(rule: &Query) -> rkyv::util::AlignedVec {
        rkyv::to_bytes::<rkyv::rancor::Error>(rule).unwrap()
    }

    fn form(query: &str, rule: &Query) -> (Canonical, String) {
        let bytes = archived(rule);
        let rule = rkyv::access::<ArchivedQuery, rkyv::rancor::Error>(&bytes).unwrap();
        let (mut out, mut scratch) = (Vec::new(), Vec::new());
        let done = canonical(query.as_bytes(), rule, &mut out, &mut scratch);
        assert!(scratch.is_empty());
        let form = if done == Canonical::Same { query.to_owned() } else { String::from_utf8(out).unwrap() };
        // The form of the form is itself.
        if done != Canonical::TooLong {
            let (mut more, mut scratch) = (Vec::new(), Vec::new());
            assert_eq!(canonical(form.as_bytes(), rule, &mut more, &mut scratch), Canonical::Same, "{form}");
        }
        (done, form)
    }

    #[test]
    fn one_form() {
        for (query, expected) in [
            ("", ""),
            ("a=1", "a=1"),
            ("b=2&a=1", "a=1&b=2"),
            ("a=2&a=1", "a=2&a=1"),
            ("b&a=2&b=1&a=1", "a=2&a=1&b&b=1"),
            ("a", "a"),
            ("a=", "a="),
            ("=1", "=1"),
            ("a=1&&b=2&", "a=1&b=2"),
            ("&", ""),
            ("%61=%7e%7E%41", "a=~~A"),
            ("a=%2f%3d%26", "a=%2F%3D%26"),
            ("a=%", "a=%"),
            ("a=%zz%4", "a=%zz%4"),
            // What is no encoding does not become one by what is decoded behind it.
            ("a=%%441", "a=%%441"),
            ("a=%4%34%34", "a=%4%344"),
            ("a=%%67%4%67", "a=%g%4g"),
            ("a=1+2%20", "a=1+2%20"),
            ("a=1;b=2", "a=1;b=2"),
            ("%62=2&a=1", "a=1&b=2"),
            ("abcdefghb=1&abcdefgha=2", "abcdefgha=2&abcdefghb=1"),
            ("ab=1&a=2", "a=2&ab=1"),
            ("a%00=1&a=2", "a=2&a%00=1"),
        ] {
            assert_eq!(form(query, &Query::All).1, expected, "{query}");
        }
    }

    #[test]
    fn names_that_count() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let deny = Query::Deny(names(&["utm_*", "gclid"]));
        let allow = Query::Allow(names(&["q", "page"]));
        for (query, denied, allowed) in [
            ("q=1&utm_source=x&page=2", "page=2&q=1", "page=2&q=1"),
            ("utm_source=x", "", ""),
            ("%75tm_a=1&gclid&gclid2=1", "gclid2=1", ""),
            ("Q=1&utm=2", "Q=1&utm=2", ""),
        ] {
            assert_eq!(form(query, &deny).1, denied, "{query}");
            assert_eq!(form(query, &allow).1, allowed, "{query}");
        }
    }

    #[test]
    fn too_many() {
        let query = |count: usize| (0..count).map(|n| format!("a{}=1", 1_000 - n)).collect::<Vec<_>>().join("&");
        assert_eq!(form(&query(PARAMETERS_MAX), &Query::All).0, Canonical::Written);
        assert_eq!(form(&query(PARAMETERS_MAX + 1), &Query::All).0, Canonical::TooLong);
        assert_eq!(form(&query(1_000), &Query::Allow(vec!["x".into()])).0, Canonical::TooLong);
    }
}
