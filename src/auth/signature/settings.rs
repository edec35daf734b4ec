use rkyv::{Archive, Deserialize, Serialize};

use crate::auth::settings::{Algorithm, Key};

/// A `signature` entry of the document, checked: there is at least one key, and no two have one `keyid`.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Hash)]
pub struct Signature {
    /// The keys.
    pub keys: Vec<SignatureKey>,
    /// What every signature must cover: derived components and header fields, in lower case.
    pub components: Vec<String>,
    /// How old a signature may be, in seconds from `created`.
    pub max_age: u64,
    /// How far clocks may disagree, in seconds.
    pub leeway: u64,
    /// Parameters that every signature must have.
    pub required: Vec<Parameter>,
    /// Whether a request is let in whose nonce cannot be kept, because there is no room for it.
    pub fail_open: bool,
}

/// A key and whose it is.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Hash)]
pub struct SignatureKey {
    /// The key; its `kid` is the `keyid`.
    pub key: Key,
    /// The consumer that signs with it.
    pub consumer: String,
}

/// The parameters of a signature (RFC 9421, 2.3).
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[rkyv(derive(Clone, Copy, Debug, PartialEq, Eq))]
#[allow(missing_docs)]
pub enum Parameter {
    Created,
    Expires,
    KeyId,
    Nonce,
    Alg,
    Tag,
}

impl Parameter {
    /// Every parameter.
    pub const ALL: [Self; 6] = [Self::Created, Self::Expires, Self::KeyId, Self::Nonce, Self::Alg, Self::Tag];

    /// As it is written.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Expires => "expires",
            Self::KeyId => "keyid",
            Self::Nonce => "nonce",
            Self::Alg => "alg",
            Self::Tag => "tag",
        }
    }
}

/// The algorithms of RFC 9421 (3.3) that are accepted, under the names that its registry gives them.
pub const ALGORITHMS: [(&str, Algorithm); 5] = [
    ("hmac-sha256", Algorithm::Hs256),
    ("ed25519", Algorithm::EdDsa),
    ("ecdsa-p256-sha256", Algorithm::Es256),
    ("ecdsa-p384-sha384", Algorithm::Es384),
    ("rsa-pss-sha512", Algorithm::Ps512),
];

/// The name of `algorithm` in RFC 9421; `None` where it has none that is accepted.
#[must_use]
pub fn algorithm_name(algorithm: Algorithm) -> Option<&'static str> {
    ALGORITHMS.into_iter().find(|(_, other)| *other == algorithm).map(|(name, _)| name)
}

/// Checks what a document wants to be covered: a derived component that needs no parameter, or the name of a field.
///
/// # Errors
/// What would be right.
pub fn check_component(text: &str) -> Result<(), String> {
    match text {
        "@query-param" => Err("needs a name, which only a signature can give: write `@query`".to_owned()),
        derived if derived.starts_with('@') => match super::base::DERIVED.contains(&derived) {
            true => Ok(()),
            false => Err(format!("must be one of {}, or the name of a header", super::base::DERIVED.join(", "))),
        },
        field if super::base::is_field(field.as_bytes()) => Ok(()),
        _ => Err("must be a component such as `@method`, or the name of a header in lower case".to_owned()),
    }
}
