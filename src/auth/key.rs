//! Keys from what people and issuers write: a secret, PEM, a JWK or a set of them. Control plane: it may allocate.
//!
//! No error holds a byte of a key.

use zeroize::Zeroize;

use super::base64url;
use super::crypto::{Crypto, View};
use super::error::KeyError;
use super::json::{Document, Kind, Value};
use super::pem::{self, Public};
use super::settings::{Algorithm, Key, Material};

/// The most keys that a set may hold.
const KEYS_MAX: usize = 100;

/// Secrets from manuals, tools and old configurations; they sign nothing, however long they are.
const KNOWN: &[&str] = &[
    "secret",
    "changeme",
    "change-me",
    "change_me",
    "password",
    "jwt-secret",
    "jwt_secret",
    "jwtsecret",
    "mysecret",
    "my-secret",
    "my_secret",
    "supersecret",
    "super-secret",
    "super_secret",
    "secretkey",
    "secret-key",
    "secret_key",
    "your-secret-key",
    "your_secret_key",
    "your-256-bit-secret",
    "your-384-bit-secret",
    "your-512-bit-secret",
    "your-secret-key-change-in-production",
    "your-super-secret-key-change-in-production",
    "your-super-secret-jwt-token-with-at-least-32-characters-long",
    "a-string-secret-at-least-256-bits-long",
    "a-valid-string-secret-that-is-at-least-384-bits-long",
    "a-valid-string-secret-that-is-at-least-512-bits-long-which-is-very-long",
];

impl Key {
    /// An HMAC key from the text of a secret, taken as it is, without decoding.
    ///
    /// # Errors
    /// An algorithm that takes no secret; a secret that is empty, shorter than the hash (RFC 7518, 3.2: 32, 48 or 64
    /// bytes) or known to everybody.
    pub fn from_secret(kid: Option<String>, algorithm: Algorithm, secret: &[u8]) -> Result<Self, KeyError> {
        checked(kid, algorithm, Material::Secret(secret.to_vec()))
    }

    /// A public key from PEM: `PUBLIC KEY` (SPKI, RFC 5280) or `RSA PUBLIC KEY` (PKCS #1). Certificates and private
    /// keys are refused. Without `algorithm` the curve decides; an RSA key needs it.
    ///
    /// # Errors
    /// Text that is not one such block, or a key that the algorithm cannot use.
    pub fn from_pem(kid: Option<String>, algorithm: Option<Algorithm>, text: &str) -> Result<Self, KeyError> {
        let (material, natural) = match pem::public_key(text)? {
            Public::Rsa { n, e } => (Material::Rsa { n, e }, None),
            Public::Ec(point) => {
                let natural = match point.len() {
                    65 => Algorithm::Es256,
                    97 => Algorithm::Es384,
                    _ => Algorithm::Es512,
                };
                (Material::Ec(point), Some(natural))
            }
            Public::Ed25519(point) => (Material::Ed25519(point), Some(Algorithm::EdDsa)),
        };
        checked(kid, algorithm.or(natural).ok_or(KeyError::AlgorithmMissing)?, material)
    }

    /// The DER of a public key as SPKI (RFC 5280); `None` for a secret.
    #[must_use]
    pub fn spki(&self) -> Option<Vec<u8>> {
        let public = match &self.material {
            Material::Secret(_) => return None,
            Material::Rsa { n, e } => Public::Rsa { n: n.clone(), e: e.clone() },
            Material::Ec(point) => Public::Ec(point.clone()),
            Material::Ed25519(point) => Public::Ed25519(point.clone()),
        };
        Some(pem::write_spki(&public))
    }

    /// A key from a JWK (RFC 7517): `oct`, `RSA`, `EC` (P-256, P-384, P-521) or `OKP` (Ed25519). `use` and `key_ops`
    /// must let it verify. Its own `alg` counts, and must equal `algorithm` where both are there; without either the
    /// curve decides, `oct` and `RSA` need one.
    ///
    /// # Errors
    /// Text that is not one JWK, or what is wrong with it, by its `kid`.
    pub fn from_jwk(text: &str, algorithm: Option<Algorithm>) -> Result<Self, KeyError> {
        let mut document = Document::default();
        document.read(text.as_bytes(), usize::MAX).map_err(|_| KeyError::Malformed("the JWK is not strict JSON"))?;
        let jwk = document.object().ok_or(KeyError::Malformed("the JWK is not a JSON object"))?;
        from_jwk(jwk, algorithm).map_err(|error| at(jwk, 0, error))
    }
}

/// A JWK set (RFC 7517, 5): its usable keys, and what is wrong with the others.
pub struct KeySet {
    /// Keys that verify; at least one.
    pub keys: Vec<Key>,
    /// The keys that were left out.
    pub left_out: Vec<KeyError>,
}

impl KeySet {
    /// Reads a set. Keys of unknown types, for other purposes or with errors are left out; those without `alg` get
    /// `algorithm`. From a `remote` place no symmetric key is taken: whoever may read the set could sign.
    ///
    /// # Errors
    /// Text that is not a set; more than 100 keys; two keys with one `kid`; secrets beside public
    /// keys; no usable key.
    pub fn from_json(text: &str, algorithm: Option<Algorithm>, remote: bool) -> Result<Self, KeyError> {
        Self::read(text, |jwk| from_jwk(jwk, algorithm), remote)
    }

    /// The same with several algorithms that keys may have, where the list is not empty: those without `alg` get the
    /// first of them that goes with their kind, the others are left out.
    ///
    /// # Errors
    /// As [`KeySet::from_json`].
    pub fn from_json_among(text: &str, allowed: &[Algorithm], remote: bool) -> Result<Self, KeyError> {
        let read = |jwk: Value<'_>| {
            let plain = from_jwk(jwk, None);
            match plain {
                Err(KeyError::AlgorithmMissing) => allowed
                    .iter()
                    .map(|algorithm| from_jwk(jwk, Some(*algorithm)))
                    .find(|key| !matches!(key, Err(KeyError::Kind(_))))
                    .unwrap_or(Err(KeyError::AlgorithmMissing)),
                Ok(key) if !allowed.is_empty() && !allowed.contains(&key.algorithm) => {
                    Err(KeyError::AlgorithmNotAmong(key.algorithm))
                }
                plain => plain,
            }
        };
        Self::read(text, read, remote)
    }

    fn read(text: &str, read: impl Fn(Value<'_>) -> Result<Key, KeyError>, remote: bool) -> Result<Self, KeyError> {
        let mut document = Document::default();
        document.read(text.as_bytes(), usize::MAX).map_err(|_| KeyError::Malformed("the set is not strict JSON"))?;
        let list = document
            .object()
            .and_then(|set| set.member("keys"))
            .filter(|keys| keys.kind() == Kind::Array)
            .ok_or(KeyError::Malformed("not a JWK set: no array `keys`"))?;
        if list.children().nth(KEYS_MAX).is_some() {
            return Err(KeyError::TooMany(KEYS_MAX));
        }
        let mut set = Self { keys: Vec::new(), left_out: Vec::new() };
        let mut kids = Vec::new();
        for (index, jwk) in list.children().enumerate() {
            let read = read(jwk);
            // Keys for other purposes may share a name with ours; broken ones may not, who knows what they were.
            if let Some(kid) = jwk.member("kid").and_then(Value::string)
                && !matches!(read, Err(KeyError::Use | KeyError::Unsupported(_)))
            {
                if kids.contains(&kid) {
                    return Err(KeyError::KidTwice(kid.to_owned()));
                }
                kids.push(kid);
            }
            match read {
                Ok(Key { material: Material::Secret(_), .. }) if remote => {
                    set.left_out.push(at(jwk, index, KeyError::Unsupported("oct in a remote set".to_owned())));
                }
                Ok(key) => set.keys.push(key),
                Err(error) => set.left_out.push(at(jwk, index, error)),
            }
        }
        let secrets = set.keys.iter().filter(|key| matches!(key.material, Material::Secret(_))).count();
        if secrets != 0 && secrets != set.keys.len() {
            return Err(KeyError::Mixed);
        }
        if set.keys.is_empty() { Err(KeyError::None) } else { Ok(set) }
    }
}

/// What is freed would otherwise stay readable, in a core dump for one.
impl Drop for Material {
    fn drop(&mut self) {
        if let Self::Secret(octets) = self {
            octets.zeroize();
        }
    }
}

impl std::fmt::Debug for Material {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Secret(_) => "Secret(..)",
            Self::Rsa { .. } => "Rsa { .. }",
            Self::Ec(_) => "Ec(..)",
            Self::Ed25519(_) => "Ed25519(..)",
        })
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key")
            .field("kid", &self.kid)
            .field("algorithm", &self.algorithm)
            .field("material", &self.material)
            .finish()
    }
}

impl std::fmt::Debug for KeySet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeySet").field("keys", &self.keys).field("left_out", &self.left_out).finish()
    }
}

/// The key, if the crypto library takes it and it is not a secret that everybody knows.
fn checked(kid: Option<String>, algorithm: Algorithm, material: Material) -> Result<Key, KeyError> {
    if let Material::Secret(secret) = &material
        && is_known(secret)
    {
        return Err(KeyError::SecretKnown);
    }
    Crypto::new(algorithm, View::from(&material))?;
    Ok(Key { kid, algorithm, material })
}

fn is_known(secret: &[u8]) -> bool {
    let text = secret.trim_ascii();
    let repeated = matches!(secret, [first, second, ..] if first == second)
        && secret.iter().all(|octet| Some(octet) == secret.first());
    repeated || KNOWN.iter().any(|known| known.as_bytes().eq_ignore_ascii_case(text))
}

fn at(jwk: Value<'_>, index: usize, error: KeyError) -> KeyError {
    let kid = jwk.member("kid").and_then(Value::string);
    KeyError::At(kid.map_or_else(|| index.to_string(), |kid| format!("{kid:?}")), Box::new(error))
}

fn from_jwk(jwk: Value<'_>, algorithm: Option<Algorithm>) -> Result<Key, KeyError> {
    let kid = match jwk.member("kid") {
        Some(kid) => Some(kid.string().ok_or(KeyError::Malformed("`kid` is not a string"))?.to_owned()),
        None => None,
    };
    let purpose = jwk.member("use").is_none_or(|purpose| purpose.string() == Some("sig"));
    let operation = jwk.member("key_ops").is_none_or(|operations| {
        operations.kind() == Kind::Array && operations.children().any(|operation| operation.string() == Some("verify"))
    });
    if !purpose || !operation {
        return Err(KeyError::Use);
    }
    if jwk.member("d").is_some() {
        return Err(KeyError::Private);
    }
    let (material, natural) = match (required(jwk, "kty")?, jwk.member("crv").and_then(Value::string)) {
        ("oct", _) => (Material::Secret(octets(jwk, "k")?), None),
        ("RSA", _) => (Material::Rsa { n: octets(jwk, "n")?, e: octets(jwk, "e")? }, None),
        ("EC", Some("P-256")) => (point(jwk, 32)?, Some(Algorithm::Es256)),
        ("EC", Some("P-384")) => (point(jwk, 48)?, Some(Algorithm::Es384)),
        ("EC", Some("P-521")) => (point(jwk, 66)?, Some(Algorithm::Es512)),
        ("OKP", Some("Ed25519")) => (Material::Ed25519(octets(jwk, "x")?), Some(Algorithm::EdDsa)),
        (kty, None) => return Err(KeyError::Unsupported(brief(kty))),
        (kty, Some(curve)) => return Err(KeyError::Unsupported(brief(&format!("{kty} {curve}")))),
    };
    let own = match jwk.member("alg") {
        Some(name) => {
            let name = name.string().ok_or(KeyError::Malformed("`alg` is not a string"))?;
            Some(parse_algorithm(name)?)
        }
        None => None,
    };
    let algorithm = match (own, algorithm) {
        (Some(own), Some(wanted)) if own != wanted => return Err(KeyError::AlgorithmDiffers(own, wanted)),
        (own, wanted) => own.or(wanted).or(natural).ok_or(KeyError::AlgorithmMissing)?,
    };
    checked(kid, algorithm, material)
}

/// RFC 9864 names EdDSA on this curve `Ed25519`.
fn parse_algorithm(name: &str) -> Result<Algorithm, KeyError> {
    match name {
        "Ed25519" => Ok(Algorithm::EdDsa),
        name => Algorithm::parse(name).ok_or_else(|| KeyError::AlgorithmUnknown(brief(name))),
    }
}

/// Enough of a name to find it again.
fn brief(name: &str) -> String {
    name.chars().take(32).collect()
}

fn required<'a>(jwk: Value<'a>, name: &'static str) -> Result<&'a str, KeyError> {
    jwk.member(name).and_then(Value::string).ok_or(KeyError::Malformed(match name {
        "kty" => "`kty` is missing or not a string",
        "k" => "`k` is missing or not a string",
        "n" => "`n` is missing or not a string",
        "e" => "`e` is missing or not a string",
        "x" => "`x` is missing or not a string",
        _ => "`y` is missing or not a string",
    }))
}

fn octets(jwk: Value<'_>, name: &'static str) -> Result<Vec<u8>, KeyError> {
    let mut octets = Vec::new();
    base64url::decode(required(jwk, name)?.as_bytes(), &mut octets)
        .map_err(|_| KeyError::Malformed("a parameter of the JWK is not base64url"))?;
    Ok(octets)
}

/// Coordinates have the length of the field, leading zeros included (RFC 7518, 6.2.1.2).
fn point(jwk: Value<'_>, size: usize) -> Result<Material, KeyError> {
    let (x, y) = (octets(jwk, "x")?, octets(jwk, "y")?);
    if x.len() != size || y.len() != size {
        return Err(KeyError::Malformed("a coordinate has not the length of the curve's field"));
    }
    Ok(Material::Ec([&[4], x.as_slice(), y.as_slice()].concat()))
}
