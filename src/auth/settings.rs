use std::fmt;

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

/// Where a set of keys comes from (RFC 7517, 5).
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Hash)]
pub enum Jwks {
    /// A file; an absolute path.
    File(String),
    /// An `https` or `http` URL.
    Url {
        /// The URL, checked.
        url: String,
        /// The certificates that its server is held against, an absolute path; `None` = those of the system.
        ca: Option<String>,
    },
}

/// A `jwt` entry of the document, checked: there is at least one key, or a place that keys come from.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Hash)]
pub struct Jwt {
    /// The `iss` that tokens must have.
    pub issuer: Option<String>,
    /// The `aud` that tokens must have, alone or in an array.
    pub audience: Option<String>,
    /// The keys; empty where they come from `jwks`.
    pub keys: Vec<Key>,
    /// Where keys come from; never together with `keys`.
    pub jwks: Option<Jwks>,
    /// The algorithms that keys from `jwks` may have; empty = any. `keys` have been held against them already.
    pub algorithms: Vec<Algorithm>,
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
    /// The absolute path of the list of what is revoked, if there is one.
    pub revocation_file: Option<String>,
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
    /// Certificates of clients.
    Mtls(Mtls),
    /// Users and passwords, RFC 7617.
    Basic(Basic),
    /// HTTP Message Signatures, RFC 9421.
    Signature(Signature),
}

impl Auth {
    /// The request headers that it sets, name in lower case, each with the claim that says its value.
    #[must_use]
    pub fn headers(&self) -> &[(String, String)] {
        match &self.scheme {
            Scheme::Jwt(jwt) => &jwt.headers,
            Scheme::ApiKey(_) | Scheme::Mtls(_) | Scheme::Basic(_) | Scheme::Signature(_) => &[],
        }
    }
}

impl ArchivedAuth {
    /// The query parameters in which it looks for credentials.
    pub fn secret_parameters(&self) -> impl Iterator<Item = &str> {
        let (tokens, keys) = match &self.scheme {
            ArchivedScheme::Jwt(jwt) => (jwt.source.as_slice(), &[][..]),
            ArchivedScheme::ApiKey(keys) => (&[][..], keys.source.as_slice()),
            _ => (&[][..], &[][..]),
        };
        let tokens = tokens.iter().filter_map(|source| match source {
            ArchivedSource::Query(name) => Some(name.as_str()),
            _ => None,
        });
        let keys = keys.iter().filter_map(|source| match source {
            ArchivedKeySource::Query(name) => Some(name.as_str()),
            _ => None,
        });
        tokens.chain(keys)
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

/// An `mtls` entry of the document, checked: there is at least one rule, and no two ask for the same.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Hash)]
pub struct Mtls {
    /// Whose certificates are taken, looked at in this order.
    pub rules: Vec<CertificateRule>,
}

/// A certificate and its consumer.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Hash)]
pub struct CertificateRule {
    /// What the certificate is known by.
    pub mark: Mark,
    /// The consumer's name.
    pub consumer: String,
}

/// What a certificate is known by.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, Hash)]
pub enum Mark {
    /// The subject's distinguished name as RFC 2253 writes it.
    Subject(String),
    /// One of the alternative names (RFC 5280, 4.2.1.6).
    San(SanKind, String),
    /// The SHA-256 of the certificate in DER.
    Fingerprint([u8; 32]),
}

/// The kinds of alternative names that a rule may ask for.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SanKind {
    /// `DNS`, in lower case.
    Dns,
    /// `URI`.
    Uri,
    /// `email`.
    Email,
}

/// A `basic` entry of the document, checked: there is at least one user. The user is the consumer.
#[derive(Archive, Serialize, Deserialize, Clone, PartialEq, Eq, Hash)]
pub struct Basic {
    /// User and hash, sorted by user; no user twice.
    pub users: Vec<(String, String)>,
    /// Whose hash stands in for those of users that nobody knows: of the kind and cost that most have.
    pub decoy: u32,
}

impl fmt::Debug for Basic {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Basic({} users)", self.users.len())
    }
}
