use std::hash::Hasher;

use rkyv::with::Niche;
use rkyv::{Archive, Deserialize, Serialize};
use siphasher::sip::SipHasher13;

/// Shares are counted in so many parts: hundredths of a percent.
pub const BUCKETS: u64 = 10_000;

/// The most variants of one route.
pub const VARIANTS_MAX: usize = 16;

/// How a route chooses among its variants, beside their weights.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Hash)]
pub struct Rules {
    /// Who says of itself where it goes; `None` = nobody may.
    #[rkyv(with = Niche)]
    pub overrides: Option<Box<Overrides>>,
    /// By what all others are told apart.
    pub key: Key,
    /// What is hashed with it.
    pub salt: Salt,
}

/// Who is let through to a variant by name. The last variant is the candidate, to which all these lead that name none.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Overrides {
    /// A request header, name in lower case.
    pub header: Option<Mark>,
    /// A cookie.
    pub cookie: Option<Mark>,
    /// Users, sorted.
    pub users: Vec<String>,
}

/// A header or a cookie that chooses: its value is the name of a variant, or `value`, which stands for the candidate.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Hash)]
pub struct Mark {
    /// The name of the header or cookie.
    pub name: String,
    /// The value that stands for the candidate.
    pub value: Option<String>,
}

/// By what callers are told apart. Who lacks it is told apart by address.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Hash, Default)]
pub enum Key {
    /// The token's subject, else the consumer.
    #[default]
    User,
    /// The client's address; IPv6 by its /64.
    Ip,
    /// A request header, name in lower case.
    Header(String),
    /// A cookie.
    Cookie(String),
}

/// A salt as it is written, and what the hash is keyed with.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Hash)]
pub struct Salt {
    /// As written, or the route's name.
    pub text: String,
    /// Two hashes of it.
    pub key: [u64; 2],
}

impl Salt {
    /// The salt that is written `text`. Every node makes the same of it, so a fleet sends a caller one way.
    #[must_use]
    pub fn new(text: String) -> Self {
        let key = [1, 2].map(|half| {
            let mut hasher = SipHasher13::new_with_keys(0x6361_6e61_7279, half);
            hasher.write(text.as_bytes());
            hasher.finish()
        });
        Self { text, key }
    }
}

/// What a variant called `name` is counted by; never 0.
#[must_use]
pub fn key_of(name: &str) -> u64 {
    let mut hasher = SipHasher13::new();
    hasher.write(name.as_bytes());
    hasher.finish().max(1)
}
