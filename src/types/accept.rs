//! `Accept`, as far as our own answers need it.

use std::cmp::Ordering;

/// Whether a client that sends this `Accept` (RFC 9110, 12.5.1) would rather read HTML than JSON. HTML has to be named:
/// who takes anything gets JSON. Between equals the one that is named more
/// exactly wins, then the one that is named first.
#[must_use]
pub fn prefers_html(accept: &[u8]) -> bool {
    // Weight in thousandths, how exactly it is named, and in which place.
    let (mut html, mut json) = (Found::default(), Found::default());
    for (place, range) in accept.split(|byte| *byte == b',').enumerate() {
        let mut parts = range.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
        let Some(kind) = parts.next() else { continue };
        let is = |other: &[u8]| kind.eq_ignore_ascii_case(other);
        let weight = parts.find_map(weight).unwrap_or(1_000);
        let ends_in_json =
            kind.len() > 5 && kind.get(kind.len() - 5..).is_some_and(|end| end.eq_ignore_ascii_case(b"+json"));
        if is(b"text/html") || is(b"application/xhtml+xml") {
            html.take(3, weight, place);
        } else if is(b"text/*") {
            html.take(2, weight, place);
        } else if is(b"application/json") || ends_in_json {
            json.take(3, weight, place);
        } else if is(b"application/*") {
            json.take(2, weight, place);
        } else if is(b"*/*") {
            json.take(1, weight, place);
        }
    }
    match html.weight.cmp(&json.weight) {
        Ordering::Greater => true,
        Ordering::Equal if html.weight > 0 => (json.rank, html.place) < (html.rank, json.place),
        _ => false,
    }
}

/// The most exact range that a type was found in.
#[derive(Default)]
struct Found {
    rank: u8,
    weight: u16,
    place: usize,
}

impl Found {
    /// Of ranges that are equally exact the one with the most weight counts.
    fn take(&mut self, rank: u8, weight: u16, place: usize) {
        if rank > self.rank || (rank == self.rank && weight > self.weight) {
            *self = Self { rank, weight, place };
        }
    }
}

/// The value of `q=0.123` in thousandths; what is none weighs nothing.
fn weight(parameter: &[u8]) -> Option<u16> {
    let value = match parameter {
        [b'q' | b'Q', b'=', value @ ..] => value,
        _ => return None,
    };
    let (whole, digits) = match value {
        [whole @ (b'0' | b'1')] => (whole, &[][..]),
        [whole @ (b'0' | b'1'), b'.', digits @ ..] if digits.len() <= 3 => (whole, digits),
        _ => return Some(0),
    };
    let mut thousandths = u16::from(whole - b'0') * 1_000;
    for (digit, worth) in digits.iter().zip([100, 10, 1]) {
        match digit {
            b'0'..=b'9' => thousandths += u16::from(digit - b'0') * worth,
            _ => return Some(0),
        }
    }
    Some(thousandths.min(1_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_reads_html() {
        for (accept, html) in [
            ("", false),
            ("*/*", false),
            ("application/json", false),
            ("text/html", true),
            ("TEXT/HTML", true),
            ("text/html;level=1", true),
            ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", true),
            ("text/html, */*", true),
            ("*/*, text/html", true),
            ("text/html, application/json", true),
            ("application/json, text/html", false),
            ("application/problem+json, text/html", false),
            ("text/html;q=0.1, application/json", false),
            ("application/json;q=0.2, text/html", true),
            ("text/html;q=0, */*", false),
            ("text/html;q=0", false),
            ("text/html; q=0.001", true),
            ("text/html;q=2, */*;q=0.1", false),
            ("text/html;q=0.5x", false),
            ("text/*", true),
            ("application/*, text/*;q=0.9", false),
            ("image/png", false),
            ("text/htmlx", false),
            (",;,q=1,", false),
        ] {
            assert_eq!(prefers_html(accept.as_bytes()), html, "{accept}");
        }
    }
}
