use rkyv::{Archive, Deserialize, Serialize};

/// What a limiter counts by; the parts of a key are hashed together.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Hash)]
pub enum KeyPart {
    /// The client's address; IPv6 by its /64.
    Ip,
    /// The consumer that auth found.
    Consumer,
    /// The route.
    Route,
    /// The upstream.
    Upstream,
    /// Nothing: one bucket for all.
    Global,
    /// The value of a request header, name in lower case.
    Header(String),
    /// A claim of the token, dotted.
    Claim(String),
    /// A cookie.
    Cookie(String),
    /// A parameter of the route's path.
    Path(String),
}

impl KeyPart {
    /// Whether the value is known only after auth.
    #[must_use]
    pub const fn needs_identity(&self) -> bool {
        matches!(self, Self::Consumer | Self::Claim(_))
    }
}

/// Which response headers tell a client where it stands.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Default, Hash)]
pub enum HeaderStyle {
    /// `RateLimit` and `RateLimit-Policy` (IETF draft).
    #[default]
    Ietf,
    /// `X-RateLimit-Limit`, `-Remaining`, `-Reset`.
    X,
    /// Both families.
    Both,
}

/// What a limiter counts.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Default, Hash)]
pub enum Event {
    /// Requests, as they come.
    #[default]
    Request,
    /// Credentials that are refused; while none are left, nobody with that key gets as far as showing any.
    AuthFailure,
    /// Answers, once they are over; while none are left, no request goes on.
    Response,
}

/// How many tokens one takes.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Hash)]
pub enum Cost {
    /// Always as many.
    Fixed(u32),
    /// As many as a header says, name in lower case: of the request, or for [`Event::Response`] of the answer.
    Header(String),
}

/// A number of tokens as a header has it: digits alone, at most what 32 bits hold.
#[must_use]
pub fn parse_cost(value: &[u8]) -> Option<u32> {
    let digits = !value.is_empty() && value.len() <= 10 && value.iter().all(u8::is_ascii_digit);
    if digits { std::str::from_utf8(value).ok()?.parse().ok() } else { None }
}

/// A limiter of the document, checked: `count` and `per` are above 0, `burst` is at least 1.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Hash)]
pub struct Limiter {
    /// Its name.
    pub name: String,
    /// What it counts by; never empty.
    pub key: Vec<KeyPart>,
    /// So many tokens …
    pub count: u32,
    /// … come back in this many microseconds.
    pub per: u64,
    /// How many tokens a bucket holds.
    pub burst: u32,
    /// What it counts.
    pub on: Event,
    /// How many tokens one takes.
    pub cost: Cost,
    /// The statuses of answers that count; empty = all. Only for [`Event::Response`].
    pub statuses: Vec<u16>,
    /// Counts and reports, refuses nothing.
    pub shadow: bool,
    /// Which headers the answer carries.
    pub headers: HeaderStyle,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_are_digits_alone() {
        for (value, cost) in [
            ("0", Some(0)),
            ("7", Some(7)),
            ("0000000012", Some(12)),
            ("4294967295", Some(u32::MAX)),
            ("4294967296", None),
            ("00000000001", None),
            ("", None),
            ("-1", None),
            ("+1", None),
            ("1.0", None),
            (" 1", None),
            ("1, 2", None),
            ("\u{661}", None),
        ] {
            assert_eq!(parse_cost(value.as_bytes()), cost, "{value:?}");
        }
    }
}
