use std::fmt;

use super::settings::Algorithm;

/// What is wrong with a key; it never tells of the key's bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyError {
    /// The entry holds no key.
    None,
    /// An HMAC secret is empty.
    SecretEmpty,
    /// An HMAC secret is shorter than the hash (RFC 7518, 3.2): its octets, octets needed.
    SecretShort(usize, usize),
    /// An HMAC secret stands in manuals, or is one byte repeated.
    SecretKnown,
    /// The algorithm does not go with this kind of key.
    Kind(Algorithm),
    /// Neither the key nor the configuration says which algorithm it verifies.
    AlgorithmMissing,
    /// The key says one algorithm, the configuration another.
    AlgorithmDiffers(Algorithm, Algorithm),
    /// An algorithm that is not supported, `none` among them.
    AlgorithmUnknown(String),
    /// The configuration lists algorithms, and this one is not among them.
    AlgorithmNotAmong(Algorithm),
    /// An RSA modulus outside 2048 to 8192 bits: its bits.
    RsaSize(usize),
    /// An RSA exponent that is even, 1, or longer than 32 bits.
    RsaExponent,
    /// An RSA modulus of the Infineon generator (ROCA, CVE-2017-15361): its factors can be found.
    RsaWeak,
    /// A set with symmetric and asymmetric keys: what may be public lies beside what must not.
    Mixed,
    /// The key cannot be read; the words say what was met.
    Malformed(&'static str),
    /// The JWK is not for verifying signatures (`use`, `key_ops`).
    Use,
    /// The JWK is of a type or on a curve that is not supported.
    Unsupported(String),
    /// A private key, where the public part would do.
    Private,
    /// The set holds more keys than are accepted.
    TooMany(usize),
    /// Two keys share this `kid`.
    KidTwice(String),
    /// The error of one key: its `kid`, or its place in the list.
    At(String, Box<KeyError>),
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => write!(f, "no usable key"),
            Self::SecretEmpty => write!(f, "the secret is empty"),
            Self::SecretShort(has, needs) => write!(f, "the secret has {has} bytes, the algorithm needs {needs}"),
            Self::SecretKnown => write!(f, "the secret is an example that everybody knows"),
            Self::Kind(algorithm) => write!(f, "{} does not go with this kind of key", algorithm.name()),
            Self::AlgorithmMissing => write!(f, "the key does not say its algorithm; set `alg`"),
            Self::AlgorithmDiffers(key, wanted) => {
                write!(f, "the key is for {}, the configuration says {}", key.name(), wanted.name())
            }
            Self::AlgorithmUnknown(name) => write!(f, "algorithm {name:?} is not supported"),
            Self::AlgorithmNotAmong(algorithm) => write!(f, "{} is not among `algorithms`", algorithm.name()),
            Self::RsaSize(bits) => write!(f, "an RSA modulus of {bits} bits; 2048 to 8192 are accepted"),
            Self::RsaExponent => write!(f, "the RSA exponent is even, 1, or too long"),
            Self::RsaWeak => write!(f, "an RSA modulus whose factors can be found (CVE-2017-15361)"),
            Self::Mixed => write!(f, "secrets and public keys in one set"),
            Self::Malformed(what) => write!(f, "{what}"),
            Self::Use => write!(f, "`use` or `key_ops` does not let the key verify signatures"),
            Self::Unsupported(name) => write!(f, "key type or curve {name:?} is not supported"),
            Self::Private => write!(f, "a private key; give the public part alone"),
            Self::TooMany(limit) => write!(f, "more than {limit} keys"),
            Self::KidTwice(kid) => write!(f, "two keys have the kid {kid:?}"),
            Self::At(which, error) => write!(f, "key {which}: {error}"),
        }
    }
}

impl std::error::Error for KeyError {}
