//! The other side, for tools and tests: it makes signatures. It allocates.

use std::fmt;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{self, EcdsaKeyPair, Ed25519KeyPair, RsaKeyPair};
use aws_lc_rs::{hmac, rand};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::base;
use super::parse::Scanner;
use super::settings::algorithm_name;
use crate::auth::pem;
use crate::auth::settings::Algorithm;
use crate::types::Request;

/// Signs requests with one key.
pub struct Signer {
    algorithm: Algorithm,
    keyid: String,
    key: Private,
}

#[allow(clippy::large_enum_variant, reason = "there is one of them")]
enum Private {
    Hmac(hmac::Key),
    Ed25519(Ed25519KeyPair),
    Ecdsa(EcdsaKeyPair),
    Rsa(RsaKeyPair),
}

/// Why nothing is signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SignError {
    /// RFC 9421 has no such algorithm, or it is not accepted.
    Algorithm,
    /// The key is not of the algorithm's kind; the words say what is expected.
    Key(&'static str),
    /// What this is called is empty, or has a character that cannot stand in it.
    Text(&'static str),
    /// A component is unknown, or the request does not have it.
    Component,
    /// The crypto library failed.
    Crypto,
}

impl fmt::Display for SignError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Algorithm => write!(out, "no such algorithm"),
            Self::Key(expected) => write!(out, "the key is not {expected}"),
            Self::Text(name) => write!(out, "the {name} must be visible ASCII without quotes and backslashes"),
            Self::Component => write!(out, "a component is unknown, or the request does not have it"),
            Self::Crypto => write!(out, "the key cannot sign"),
        }
    }
}

impl std::error::Error for SignError {}

impl Signer {
    /// A signer with the octets of a secret, or with a private key in PEM (PKCS #8).
    ///
    /// # Errors
    /// A key that does not go with the algorithm, or a name of it that cannot be written.
    pub fn new(algorithm: Algorithm, keyid: &str, key: &[u8]) -> Result<Self, SignError> {
        const PEM: SignError = SignError::Key("a private key of the algorithm in PEM (PKCS #8)");
        let der = || std::str::from_utf8(key).ok().and_then(|text| pem::private_key(text).ok()).ok_or(PEM);
        algorithm_name(algorithm).ok_or(SignError::Algorithm)?;
        text("keyid", keyid)?;
        let ecdsa = |curve| Ok(Private::Ecdsa(EcdsaKeyPair::from_pkcs8(curve, &der()?).map_err(|_| PEM)?));
        let key = match algorithm {
            Algorithm::Hs256 if key.len() < 32 => return Err(SignError::Key("a secret of at least 32 bytes")),
            Algorithm::Hs256 => Private::Hmac(hmac::Key::new(hmac::HMAC_SHA256, key)),
            Algorithm::EdDsa => Private::Ed25519(Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der()?).map_err(|_| PEM)?),
            Algorithm::Es256 => ecdsa(&signature::ECDSA_P256_SHA256_FIXED_SIGNING)?,
            Algorithm::Es384 => ecdsa(&signature::ECDSA_P384_SHA384_FIXED_SIGNING)?,
            _ => Private::Rsa(RsaKeyPair::from_pkcs8(&der()?).map_err(|_| PEM)?),
        };
        Ok(Self { algorithm, keyid: keyid.to_owned(), key })
    }

    /// The values of `Signature-Input` and `Signature` over `components` of `request`, created at `created`, seconds
    /// since the Unix epoch, with `nonce`.
    ///
    /// # Errors
    /// See [`SignError`].
    pub fn sign(
        &self,
        request: &impl Request,
        components: &[&str],
        created: u64,
        nonce: &str,
    ) -> Result<(String, String), SignError> {
        text("nonce", nonce)?;
        let names: Vec<String> = components.iter().map(|name| format!("\"{name}\"")).collect();
        let alg = algorithm_name(self.algorithm).ok_or(SignError::Algorithm)?;
        let input = format!(
            "sig1=({});created={created};keyid=\"{}\";alg=\"{alg}\";nonce=\"{nonce}\"",
            names.join(" "),
            self.keyid
        );
        let mut parameters = Vec::new();
        let entry = Scanner::new(input.as_bytes()).input(&mut parameters).ok_or(SignError::Component)?;
        let mut message = Vec::new();
        base::write(request, entry.items(), &parameters, &mut message).ok_or(SignError::Component)?;
        let signature = self.message(&message)?;
        Ok((input, format!("sig1=:{}:", STANDARD.encode(signature))))
    }

    fn message(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        let random = SystemRandom::new();
        match &self.key {
            Private::Hmac(key) => Ok(hmac::sign(key, message).as_ref().to_vec()),
            Private::Ed25519(key) => Ok(key.sign(message).as_ref().to_vec()),
            Private::Ecdsa(key) => {
                key.sign(&random, message).map(|signature| signature.as_ref().to_vec()).map_err(|_| SignError::Crypto)
            }
            Private::Rsa(key) => {
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(&signature::RSA_PSS_SHA512, &random, message, &mut signature)
                    .map(|()| signature)
                    .map_err(|_| SignError::Crypto)
            }
        }
    }

    /// A nonce that nobody guesses and that does not come twice: 128 random bits.
    ///
    /// # Errors
    /// The operating system has no randomness.
    pub fn nonce() -> Result<String, SignError> {
        let mut bytes = [0; 16];
        rand::fill(&mut bytes).map_err(|_| SignError::Crypto)?;
        Ok(base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes))
    }
}

/// Whether `text` can be written between quotes in one way alone (`sf-string` of RFC 8941, 3.3.3), and compared as it
/// comes: whoever could end the quotes could add parameters.
#[must_use]
pub fn is_plain(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\'))
}

fn text(name: &'static str, value: &str) -> Result<(), SignError> {
    match is_plain(value) {
        true => Ok(()),
        false => Err(SignError::Text(name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_would_end_the_quotes() {
        for keyid in ["", "a\tb", "a\"", "a\\", "a\";tag=\"x", "\u{e9}"] {
            let made = Signer::new(Algorithm::Hs256, keyid, &[7; 32]);
            assert_eq!(made.err(), Some(SignError::Text("keyid")), "{keyid:?}");
        }
        assert!(Signer::new(Algorithm::Hs256, "a; b='c',", &[7; 32]).is_ok());
    }
}
