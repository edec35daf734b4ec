//! Keys in the form that the crypto library verifies with, parsed once.

use aws_lc_rs::hmac;
use aws_lc_rs::signature::{self, ParsedPublicKey, RsaParameters, RsaPublicKeyComponents};

use super::error::KeyError;
use super::settings::{Algorithm, ArchivedAlgorithm, ArchivedMaterial, Material};

/// Key material where it lies, archived or not.
#[derive(Clone, Copy)]
pub enum View<'a> {
    Secret(&'a [u8]),
    Rsa { n: &'a [u8], e: &'a [u8] },
    Ec(&'a [u8]),
    Ed25519(&'a [u8]),
}

impl<'a> From<&'a Material> for View<'a> {
    fn from(material: &'a Material) -> Self {
        match material {
            Material::Secret(octets) => Self::Secret(octets),
            Material::Rsa { n, e } => Self::Rsa { n, e },
            Material::Ec(point) => Self::Ec(point),
            Material::Ed25519(point) => Self::Ed25519(point),
        }
    }
}

impl<'a> From<&'a ArchivedMaterial> for View<'a> {
    fn from(material: &'a ArchivedMaterial) -> Self {
        match material {
            ArchivedMaterial::Secret(octets) => Self::Secret(octets),
            ArchivedMaterial::Rsa { n, e } => Self::Rsa { n, e },
            ArchivedMaterial::Ec(point) => Self::Ec(point),
            ArchivedMaterial::Ed25519(point) => Self::Ed25519(point),
        }
    }
}

impl From<&ArchivedAlgorithm> for Algorithm {
    fn from(algorithm: &ArchivedAlgorithm) -> Self {
        match algorithm {
            ArchivedAlgorithm::Hs256 => Self::Hs256,
            ArchivedAlgorithm::Hs384 => Self::Hs384,
            ArchivedAlgorithm::Hs512 => Self::Hs512,
            ArchivedAlgorithm::Rs256 => Self::Rs256,
            ArchivedAlgorithm::Rs384 => Self::Rs384,
            ArchivedAlgorithm::Rs512 => Self::Rs512,
            ArchivedAlgorithm::Ps256 => Self::Ps256,
            ArchivedAlgorithm::Ps384 => Self::Ps384,
            ArchivedAlgorithm::Ps512 => Self::Ps512,
            ArchivedAlgorithm::Es256 => Self::Es256,
            ArchivedAlgorithm::Es384 => Self::Es384,
            ArchivedAlgorithm::Es512 => Self::Es512,
            ArchivedAlgorithm::EdDsa => Self::EdDsa,
        }
    }
}

impl Algorithm {
    /// Every algorithm.
    pub const ALL: [Self; 13] = [
        Self::Hs256,
        Self::Hs384,
        Self::Hs512,
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
        Self::Ps256,
        Self::Ps384,
        Self::Ps512,
        Self::Es256,
        Self::Es384,
        Self::Es512,
        Self::EdDsa,
    ];

    /// The algorithm that RFC 7518 or RFC 8037 calls `name`; case counts.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }

    /// Its name in a token's header.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hs256 => "HS256",
            Self::Hs384 => "HS384",
            Self::Hs512 => "HS512",
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::Es512 => "ES512",
            Self::EdDsa => "EdDSA",
        }
    }
}

/// A key that verifies.
pub struct Crypto {
    engine: Engine,
    signature_len: usize,
}

enum Engine {
    /// Boxed for its size: contexts of both passes, a kilobyte.
    Hmac(Box<hmac::Key>),
    Public(ParsedPublicKey),
}

impl Crypto {
    /// Parses `material` for `algorithm`.
    pub fn new(algorithm: Algorithm, material: View<'_>) -> Result<Self, KeyError> {
        match (hash(algorithm), padding(algorithm), curve(algorithm), material) {
            (Some(hash), _, _, View::Secret(secret)) => {
                let signature_len = hash.tag_len();
                if secret.is_empty() {
                    return Err(KeyError::SecretEmpty);
                }
                if secret.len() < signature_len {
                    return Err(KeyError::SecretShort(secret.len(), signature_len));
                }
                Ok(Self { engine: Engine::Hmac(Box::new(hmac::Key::new(hash, secret))), signature_len })
            }
            (_, Some(padding), _, View::Rsa { n, e }) => {
                let n = trim(n);
                let e = trim(e);
                let bits = n.first().map_or(0, |first| n.len() * 8 - first.leading_zeros() as usize);
                if !(2048..=8192).contains(&bits) {
                    return Err(KeyError::RsaSize(bits));
                }
                if e.len() > 4 || e == [1] || e.last().is_none_or(|last| last & 1 == 0) {
                    return Err(KeyError::RsaExponent);
                }
                if is_roca(n) {
                    return Err(KeyError::RsaWeak);
                }
                let key = RsaPublicKeyComponents { n, e }
                    .to_parsed_public_key(padding)
                    .map_err(|_| KeyError::Malformed("not an RSA key"))?;
                Ok(Self { engine: Engine::Public(key), signature_len: n.len() })
            }
            (_, _, Some((curve, size)), View::Ec(point)) => {
                if point.len() != 2 * size + 1 || point.first() != Some(&4) {
                    return Err(KeyError::Malformed("not an uncompressed point on the algorithm's curve"));
                }
                let key = ParsedPublicKey::new(curve, point)
                    .map_err(|_| KeyError::Malformed("the point is not on the algorithm's curve"))?;
                Ok(Self { engine: Engine::Public(key), signature_len: 2 * size })
            }
            (_, _, _, View::Ed25519(point)) if algorithm == Algorithm::EdDsa => {
                let key = Some(point)
                    .filter(|point| point.len() == 32)
                    .and_then(|point| ParsedPublicKey::new(&signature::ED25519, point).ok())
                    .ok_or(KeyError::Malformed("not an Ed25519 public key"))?;
                Ok(Self { engine: Engine::Public(key), signature_len: 64 })
            }
            _ => Err(KeyError::Kind(algorithm)),
        }
    }

    /// Whether `signature` is this key's signature of `message`; MACs are compared in constant time.
    #[inline]
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        // Fixed by the algorithm, so the length is no secret.
        if signature.len() != self.signature_len {
            return false;
        }
        match &self.engine {
            Engine::Hmac(key) => hmac::verify(key, message, signature).is_ok(),
            Engine::Public(key) => key.verify_sig(message, signature).is_ok(),
        }
    }
}

fn hash(algorithm: Algorithm) -> Option<hmac::Algorithm> {
    match algorithm {
        Algorithm::Hs256 => Some(hmac::HMAC_SHA256),
        Algorithm::Hs384 => Some(hmac::HMAC_SHA384),
        Algorithm::Hs512 => Some(hmac::HMAC_SHA512),
        _ => None,
    }
}

fn padding(algorithm: Algorithm) -> Option<&'static RsaParameters> {
    match algorithm {
        Algorithm::Rs256 => Some(&signature::RSA_PKCS1_2048_8192_SHA256),
        Algorithm::Rs384 => Some(&signature::RSA_PKCS1_2048_8192_SHA384),
        Algorithm::Rs512 => Some(&signature::RSA_PKCS1_2048_8192_SHA512),
        Algorithm::Ps256 => Some(&signature::RSA_PSS_2048_8192_SHA256),
        Algorithm::Ps384 => Some(&signature::RSA_PSS_2048_8192_SHA384),
        Algorithm::Ps512 => Some(&signature::RSA_PSS_2048_8192_SHA512),
        _ => None,
    }
}

/// The curve and the octets of its field.
fn curve(algorithm: Algorithm) -> Option<(&'static signature::EcdsaVerificationAlgorithm, usize)> {
    match algorithm {
        Algorithm::Es256 => Some((&signature::ECDSA_P256_SHA256_FIXED, 32)),
        Algorithm::Es384 => Some((&signature::ECDSA_P384_SHA384_FIXED, 48)),
        Algorithm::Es512 => Some((&signature::ECDSA_P521_SHA512_FIXED, 66)),
        _ => None,
    }
}

/// Whether `n` has the fingerprint of CVE-2017-15361: modulo each of these primes it is a power of 65537. A modulus
/// made otherwise has it once in 2^27.
fn is_roca(n: &[u8]) -> bool {
    const PRIMES: [u32; 17] = [11, 13, 17, 19, 37, 53, 61, 71, 73, 79, 97, 103, 107, 109, 127, 151, 157];
    PRIMES.into_iter().all(|prime| {
        let rest = n.iter().fold(0, |rest, octet| (rest << 8 | u32::from(*octet)) % prime);
        std::iter::successors(Some(1), |power| Some(power * 65537 % prime))
            .take(prime as usize)
            .any(|power| power == rest)
    })
}

/// Without leading zeros: DER has one where the top bit is set.
fn trim(octets: &[u8]) -> &[u8] {
    let zeros = octets.iter().take_while(|octet| **octet == 0).count();
    octets.get(zeros..).unwrap_or_default()
}

/// Whether `signature` is `material`'s signature of `message`, parsing the key for this one time.
///
/// # Errors
/// What is wrong with the key.
pub fn verify_message(
    algorithm: Algorithm,
    material: &Material,
    message: &[u8],
    signature: &[u8],
) -> Result<bool, KeyError> {
    Ok(Crypto::new(algorithm, View::from(material))?.verify(message, signature))
}
