use rkyv::{Archive, Deserialize, Serialize};

use super::signature::Signature;

/// The signature algorithms of RFC 7518 and RFC 8037 that are accepted; `none` is not among them.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Algorithm {
    Hs256,
    Hs384,
    Hs512,
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
    Es512,
    EdDsa,
}

/// A verification key as it is kept: parsed enough to be checked at load, turned into a crypto key once per process.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Hash)]
pub enum Material {
    /// The octets of an HMAC secret.
    Secret(Vec<u8>),
    /// RSA modulus and exponent, big-endian.
    Rsa {
        /// Modulus.
        n: Vec<u8>,
        /// Exponent.
        e: Vec<u8>,
    },
    /// An uncompressed point (0x04, x, y) on the curve that the algorithm names.
    Ec(Vec<u8>),
    /// An Ed25519 public key.
    Ed25519(Vec<u8>),
}

/// One key of a `jwt` entry. The key decides the algorithm, never the token's header.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Hash)]
pub struct Key {
    /// The `kid` that tokens name it by; `None` matches tokens without one.
    pub kid: Option<String>,
    /// The only algorithm that it verifies.
    pub algorithm: Algorithm,
    /// The key itself.
    pub material: Material,
}

/// Where the token is looked for, in this order.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// `Authorization: Bearer`.
    Header,
    /// A query parameter.
    Query(String),
    /// A cookie.
    Cookie(String),
}

/// A `jwt` entry of the document, checked: there is at least one key.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Hash)]
pub struct Jwt {
    /// The `iss` that tokens must have.
    pub issuer: Option<String>,
    /// The `aud` that tokens must have, alone or in an array.
    pub audience: Option<String>,
    /// The keys.
    pub keys: Vec<Key>,
    /// How far clocks may disagree, in seconds.
    pub leeway: u64,
    /// Claims that must be there (`exp` unless written otherwise).
    pub require: Vec<String>,
    /// The longest time between `iat` and `exp`, in seconds; 0 = any.
    pub max_lifetime: u64,
    /// Where tokens are looked for.
    pub source: Vec<Source>,
    /// The claim that names the consumer, dotted; `sub` unless written otherwise.
    pub consumer_claim: String,
    /// The claim that lists permissions, dotted.
    pub permissions_claim: Option<String>,
    /// The claim that lists roles, dotted.
    pub roles_claim: Option<String>,
    /// Request headers to set: name in lower case, claim.
    pub headers: Vec<(String, String)>,
}

/// An `auth` entry of the document.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Hash)]
pub struct Auth {
    /// Its name.
    pub name: String,
    /// Lets a request without credentials through; bad credentials are refused all the same.
    pub optional: bool,
    /// How credentials are checked.
    pub scheme: Scheme,
}

/// The ways to authenticate.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Hash)]
#[allow(clippy::large_enum_variant, reason = "there are few of them, and the tree holds them archived")]
pub enum Scheme {
    /// JSON Web Tokens, RFC 7519.
    Jwt(Jwt),
    /// Keys of consumers.
    ApiKey(ApiKey),
    /// HTTP Message Signatures, RFC 9421.
    Signature(Signature),
}

impl Auth {
    /// The request headers that it sets, name in lower case, each with the claim that says its value.
    #[must_use]
    pub fn headers(&self) -> &[(String, String)] {
        match &self.scheme {
            Scheme::Jwt(jwt) => &jwt.headers,
            Scheme::ApiKey(_) => &[],
            Scheme::Signature(_) => &[],
        }
    }
}

/// Where an API key is looked for.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Hash)]
pub enum KeySource {
    /// A header, name in lower case.
    Header(String),
    /// A query parameter.
    Query(String),
    /// A cookie.
    Cookie(String),
}

/// An `api_key` entry of the document, checked: there is at least one source. Whose keys they are, consumers say.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Hash)]
pub struct ApiKey {
    /// Where keys are looked for, in this order.
    pub source: Vec<KeySource>,
}
