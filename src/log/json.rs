//! JSON written by hand: no tree, no memory but the buffer's, and no text that is looked at byte by byte unless it has
//! to be.

use super::redact::Redact;
use super::{HIDDEN, TEXT_MAX, Try};

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x8080_8080_8080_8080;

/// A line under way.
pub(super) struct Line<'o> {
    out: &'o mut Vec<u8>,
}

impl<'o> Line<'o> {
    pub fn new(out: &'o mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out }
    }

    /// Ends the object and the line.
    pub fn end(self) {
        // The comma behind the last member.
        self.out.pop();
        self.out.extend_from_slice(b"}\n");
    }

    /// Names are ours and need no escape.
    #[inline]
    fn name(&mut self, name: &str) {
        self.out.push(b'"');
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
    }

    #[inline]
    fn comma(&mut self) {
        self.out.push(b',');
    }

    /// A member that is JSON already.
    pub fn raw(&mut self, name: &str, pieces: &[&[u8]]) {
        self.name(name);
        pieces.iter().for_each(|piece| self.out.extend_from_slice(piece));
        self.comma();
    }

    #[inline]
    pub fn text(&mut self, name: &str, value: &[u8]) {
        self.name(name);
        self.put_text(value);
        self.comma();
    }

    pub fn number(&mut self, name: &str, value: u64) {
        self.name(name);
        self.put_number(value);
        self.comma();
    }

    /// `millis` as seconds.
    pub fn seconds(&mut self, name: &str, millis: u64) {
        self.name(name);
        self.put_seconds(millis);
        self.comma();
    }

    /// `micros` as seconds.
    pub fn micros(&mut self, name: &str, micros: u64) {
        self.name(name);
        self.put_parts(micros / 1_000_000, micros % 1_000_000, 6);
        self.comma();
    }

    /// `null` where there is no try, one value where there is one, a list where there are several.
    pub fn each(&mut self, name: &str, tries: &[Try<'_>], mut put: impl FnMut(&mut Self, &Try<'_>)) {
        self.name(name);
        match tries {
            [] => self.put_null(),
            [one] => put(self, one),
            several => {
                self.out.push(b'[');
                for one in several {
                    put(self, one);
                    self.comma();
                }
                self.out.pop();
                self.out.push(b']');
            }
        }
        self.comma();
    }

    /// A query, without what is to be hidden.
    pub fn query(&mut self, name: &str, query: &[u8], redact: &Redact) {
        if query.is_empty() {
            return self.text(name, b"");
        }
        self.name(name);
        self.out.push(b'"');
        self.put_query(query, redact);
        self.out.push(b'"');
        self.comma();
    }

    /// A URI, whose query is treated likewise.
    pub fn reference(&mut self, name: &str, uri: &[u8], redact: &Redact) {
        let Some(mark) = uri.iter().position(|byte| *byte == b'?') else { return self.text(name, uri) };
        let (before, query) = uri.split_at(mark + 1);
        self.name(name);
        self.out.push(b'"');
        self.escape(before);
        self.put_query(query, redact);
        self.out.push(b'"');
        self.comma();
    }

    fn put_query(&mut self, query: &[u8], redact: &Redact) {
        let (shown, more) = cut(query);
        let mut rest = shown;
        loop {
            let end = rest.iter().position(|byte| matches!(byte, b'&' | b';')).unwrap_or(rest.len());
            let (pair, behind) = rest.split_at(end);
            match pair.iter().position(|byte| *byte == b'=').map(|at| pair.split_at(at)) {
                Some((name, value)) if value.len() > 1 && redact.hides(name) => {
                    self.escape(name);
                    self.out.push(b'=');
                    self.out.extend_from_slice(HIDDEN.as_bytes());
                }
                _ => self.escape(pair),
            }
            let Some((separator, next)) = behind.split_first() else { break };
            self.out.push(*separator);
            rest = next;
        }
        if more {
            self.out.extend_from_slice(b"...");
        }
    }

    pub fn put_null(&mut self) {
        self.out.extend_from_slice(b"null");
    }

    /// `null` where it is empty.
    #[inline]
    pub fn put_text(&mut self, value: &[u8]) {
        if value.is_empty() {
            return self.put_null();
        }
        self.out.push(b'"');
        let (shown, more) = cut(value);
        self.escape(shown);
        if more {
            self.out.extend_from_slice(b"...");
        }
        self.out.push(b'"');
    }

    pub fn put_seconds(&mut self, millis: u64) {
        self.put_parts(millis / 1_000, millis % 1_000, 3);
    }

    /// `whole`, a point, and `part` with so many digits.
    fn put_parts(&mut self, whole: u64, part: u64, digits: usize) {
        self.put_number(whole);
        self.out.push(b'.');
        let from = self.out.len();
        self.out.resize(from + digits, b'0');
        let mut rest = part;
        for digit in self.out.iter_mut().skip(from).rev() {
            *digit = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
    }

    pub fn put_number(&mut self, value: u64) {
        let mut digits = [0_u8; 20];
        let (mut from, mut rest) = (digits.len(), value);
        for digit in digits.iter_mut().rev() {
            *digit = b'0' + (rest % 10) as u8;
            rest /= 10;
            from -= 1;
            if rest == 0 {
                break;
            }
        }
        self.out.extend_from_slice(digits.get(from..).unwrap_or_default());
    }

    /// The inside of a JSON string.
    #[inline]
    fn escape(&mut self, value: &[u8]) {
        if is_plain(value) { self.out.extend_from_slice(value) } else { self.escape_slowly(value) }
    }

    #[cold]
    fn escape_slowly(&mut self, value: &[u8]) {
        for chunk in value.utf8_chunks() {
            for character in chunk.valid().chars() {
                match character {
                    '"' => self.out.extend_from_slice(b"\\\""),
                    '\\' => self.out.extend_from_slice(b"\\\\"),
                    '\n' => self.out.extend_from_slice(b"\\n"),
                    '\r' => self.out.extend_from_slice(b"\\r"),
                    '\t' => self.out.extend_from_slice(b"\\t"),
                    // DEL and those above it are allowed, and make terminals do things all the same.
                    control if control.is_control() => {
                        let byte = control as u8;
                        let hex = |digit: u8| b"0123456789abcdef".get(usize::from(digit)).copied().unwrap_or(b'0');
                        self.out.extend_from_slice(&[b'\\', b'u', b'0', b'0', hex(byte >> 4), hex(byte & 15)]);
                    }
                    other => self.out.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
                }
            }
            if !chunk.invalid().is_empty() {
                self.out.extend_from_slice("\u{fffd}".as_bytes());
            }
        }
    }
}

/// At most [`TEXT_MAX`] bytes, and whether there were more. A character that is cut in two ends before.
fn cut(value: &[u8]) -> (&[u8], bool) {
    let Some(shown) = value.get(..TEXT_MAX).filter(|_| value.len() > TEXT_MAX) else { return (value, false) };
    let is_inside = |byte: Option<&u8>| byte.is_some_and(|byte| byte & 0xc0 == 0x80);
    let end = (TEXT_MAX - 3..=TEXT_MAX).rev().find(|end| !is_inside(value.get(*end))).unwrap_or(TEXT_MAX);
    (shown.get(..end).unwrap_or(shown), true)
}

/// Whether nothing in `value` needs an escape: printable ASCII but quotes and backslashes. Eight bytes at a time.
#[inline]
fn is_plain(value: &[u8]) -> bool {
    let mut chunks = value.chunks_exact(8);
    let odd = chunks
        .by_ref()
        .fold(0, |odd, chunk| odd | chunk.try_into().map_or(HIGH, |chunk| marks(u64::from_le_bytes(chunk))));
    let mut last = [b' '; 8];
    let rest = chunks.remainder();
    if let Some(place) = last.get_mut(..rest.len()) {
        place.copy_from_slice(rest);
    }
    odd | marks(u64::from_le_bytes(last)) == 0
}

/// The high bit of each byte that needs an escape; others only above one that does.
#[inline]
const fn marks(word: u64) -> u64 {
    const fn zeros(word: u64) -> u64 {
        word.wrapping_sub(ONES) & !word
    }
    let control = word.wrapping_sub(ONES * 0x20) & !word;
    let quote = zeros(word ^ (ONES * b'"' as u64));
    let backslash = zeros(word ^ (ONES * b'\\' as u64));
    let delete = zeros(word ^ (ONES * 0x7f));
    (control | quote | backslash | delete | word) & HIGH
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(value: &[u8]) -> String {
        let mut out = Vec::new();
        let mut line = Line::new(&mut out);
        line.text("x", value);
        line.end();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn each_byte_is_plain_or_escaped_in_every_place() {
        for byte in 0..=255_u8 {
            let is_odd = !(0x20..0x7f).contains(&byte) || matches!(byte, b'"' | b'\\');
            for length in 1..20 {
                for place in 0..length {
                    let mut text = vec![b'a'; length];
                    text[place] = byte;
                    assert_eq!(is_plain(&text), !is_odd, "{byte:#x} at {place} of {length}");
                }
            }
        }
    }

    #[test]
    fn escapes() {
        for (value, expected) in [
            (&b""[..], r#"{"x":null}"#),
            (b"plain", r#"{"x":"plain"}"#),
            (b"a\"b\\c", r#"{"x":"a\"b\\c"}"#),
            (b"line\r\n\ttab", r#"{"x":"line\r\n\ttab"}"#),
            (b"\x00\x1b[2J\x7f", r#"{"x":"\u0000\u001b[2J\u007f"}"#),
            ("\u{9b}2J\u{a0}".as_bytes(), "{\"x\":\"\\u009b2J\u{a0}\"}"),
            ("zażółć".as_bytes(), r#"{"x":"zażółć"}"#),
            (b"bad \xff\xfe utf\xc3", "{\"x\":\"bad \u{fffd}\u{fffd} utf\u{fffd}\"}"),
        ] {
            assert_eq!(shown(value), format!("{expected}\n"));
        }
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        let exact = "x".repeat(TEXT_MAX);
        assert_eq!(shown(exact.as_bytes()), format!("{{\"x\":\"{exact}\"}}\n"));
        assert_eq!(shown(format!("{exact}y").as_bytes()), format!("{{\"x\":\"{exact}...\"}}\n"));
        let wide = format!("{}ż and more", "x".repeat(TEXT_MAX - 1));
        assert_eq!(shown(wide.as_bytes()), format!("{{\"x\":\"{}...\"}}\n", "x".repeat(TEXT_MAX - 1)));
    }

    #[test]
    fn numbers() {
        let mut out = Vec::new();
        let mut line = Line::new(&mut out);
        line.number("a", 0);
        line.number("b", u64::MAX);
        line.seconds("c", 12_034);
        line.micros("d", 7);
        line.end();
        assert_eq!(out, b"{\"a\":0,\"b\":18446744073709551615,\"c\":12.034,\"d\":0.000007}\n");
    }
}
