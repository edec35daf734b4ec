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
    /// How many tokens a request takes.
    pub cost: u32,
    /// Counts and reports, refuses nothing.
    pub shadow: bool,
    /// Which headers the answer carries.
    pub headers: HeaderStyle,
}
