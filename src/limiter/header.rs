use super::Quota;
use crate::types::SECOND;

/// The value of a `Retry-After` header (RFC 9110, 10.2.3): whole seconds, rounded up, at least 1.
#[must_use]
#[inline]
pub const fn retry_after(micros: u64) -> u64 {
    match micros.div_ceil(SECOND) {
        0 => 1,
        seconds => seconds,
    }
}

/// The value of a response header, written into the caller's buffer.
///
/// An item goes in whole or not at all; when the buffer is full, later items are left out and the value is still well
/// formed. A value of `RateLimit` or `RateLimit-Policy` is a list, one item for each limit that applies.
pub struct HeaderText<'a> {
    buffer: &'a mut [u8],
    length: usize,
}

impl<'a> HeaderText<'a> {
    /// An empty value over `buffer`; 160 bytes hold an item with the longest name of plain characters.
    #[must_use]
    pub fn new(buffer: &'a mut [u8]) -> Self {
        Self { buffer, length: 0 }
    }

    /// What has been written.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.buffer.get(..self.length).unwrap_or_default()
    }

    /// What has been written, for as long as the buffer lives.
    #[must_use]
    pub fn into_bytes(self) -> &'a [u8] {
        let buffer: &'a [u8] = self.buffer;
        buffer.get(..self.length).unwrap_or_default()
    }

    /// An item of `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers): `"name";q=20;w=2`, the bucket's size and
    /// the seconds that it takes to fill. Says whether it fitted.
    pub fn policy(&mut self, name: &str, quota: &Quota) -> bool {
        self.item(name, b";q=", quota.burst().into(), b";w=", quota.window().div_ceil(SECOND))
    }

    /// An item of `RateLimit` (the same draft): `"name";r=3;t=1`, the tokens left and the seconds until the bucket is
    /// full; `reset` is in microseconds. Says whether it fitted.
    pub fn rate_limit(&mut self, name: &str, remaining: u32, reset: u64) -> bool {
        self.item(name, b";r=", remaining.into(), b";t=", reset.div_ceil(SECOND))
    }

    /// A bare number: `X-RateLimit-Limit` (tokens), `X-RateLimit-Remaining` (tokens), `X-RateLimit-Reset` (seconds
    /// from now), `Retry-After` (seconds from now). Says whether it fitted.
    pub fn number(&mut self, number: u64) -> bool {
        let start = self.length;
        self.digits(number) || self.back_to(start)
    }

    #[inline]
    fn item(&mut self, name: &str, first: &[u8; 3], one: u64, second: &[u8; 3], two: u64) -> bool {
        let start = self.length;
        let fits = (start == 0 || self.constant(b", "))
            && self.string(name)
            && self.constant(first)
            && self.digits(one)
            && self.constant(second)
            && self.digits(two);
        fits || self.back_to(start)
    }

    /// An sf-string (RFC 9651, 3.3.3), which knows only visible ASCII and blanks: anything else becomes a question mark.
    #[inline]
    fn string(&mut self, text: &str) -> bool {
        let plain = text.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\');
        self.constant(b"\"")
            && (if plain { self.push(text.as_bytes()) } else { self.escaped(text) })
            && self.constant(b"\"")
    }

    #[cold]
    fn escaped(&mut self, text: &str) -> bool {
        text.chars().all(|char| match char {
            '"' | '\\' => self.push(&[b'\\', char as u8]),
            ' '..='~' => self.push(&[char as u8]),
            _ => self.push(b"?"),
        })
    }

    #[inline]
    fn digits(&mut self, mut number: u64) -> bool {
        if number < 10 {
            return self.constant(&[b'0' + number as u8]);
        }
        let mut digits = [0; 20];
        let mut first = digits.len();
        for (place, digit) in digits.iter_mut().enumerate().rev() {
            *digit = b'0' + (number % 10) as u8;
            number /= 10;
            first = place;
            if number == 0 {
                break;
            }
        }
        digits.get(first..).is_some_and(|digits| self.push(digits))
    }

    /// As `push`, for what is so short that a call would cost more than the copy.
    #[inline(always)]
    fn constant<const N: usize>(&mut self, bytes: &[u8; N]) -> bool {
        let Some(place) = self.buffer.get_mut(self.length..).and_then(<[u8]>::first_chunk_mut) else { return false };
        *place = *bytes;
        self.length += N;
        true
    }

    fn push(&mut self, bytes: &[u8]) -> bool {
        let Some(place) = self.buffer.get_mut(self.length..self.length + bytes.len()) else { return false };
        place.copy_from_slice(bytes);
        self.length += bytes.len();
        true
    }

    fn back_to(&mut self, length: usize) -> bool {
        self.length = length;
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values() {
        let quota = Quota::new(10, SECOND, 20).unwrap();
        let mut buffer = [0; 64];
        let mut text = HeaderText::new(&mut buffer);
        assert!(text.policy("per-ip", &quota));
        assert_eq!(text.as_bytes(), b"\"per-ip\";q=20;w=2");
        assert!(text.policy("slow", &Quota::new(1, 3_600 * SECOND, 5).unwrap()));
        assert_eq!(text.as_bytes(), b"\"per-ip\";q=20;w=2, \"slow\";q=5;w=18000");
        assert!(!text.policy(&"x".repeat(64), &quota), "what does not fit is left out whole");
        assert_eq!(text.into_bytes(), b"\"per-ip\";q=20;w=2, \"slow\";q=5;w=18000");

        let mut text = HeaderText::new(&mut buffer);
        assert!(text.rate_limit("a\"b\\c\u{e9}\n", 3, 1));
        assert_eq!(text.as_bytes(), br#""a\"b\\c??";r=3;t=1"#);

        for (number, digits) in [(0, "0"), (7, "7"), (100, "100"), (u64::MAX, "18446744073709551615")] {
            let mut text = HeaderText::new(&mut buffer);
            assert!(text.number(number));
            assert_eq!(text.as_bytes(), digits.as_bytes());
        }
        assert!(!HeaderText::new(&mut [0; 2]).number(100));
    }

    #[test]
    fn seconds_are_rounded_up() {
        for (micros, seconds) in [(0, 1), (1, 1), (SECOND, 1), (SECOND + 1, 2), (u64::MAX, 18_446_744_073_710)] {
            assert_eq!(retry_after(micros), seconds, "{micros}");
        }
    }
}
