//! Certificates and keys that somebody configured: whether they can be read, and belong together.

use aws_lc_rs::rsa;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, ECDSA_P521_SHA512_ASN1_SIGNING, EcdsaKeyPair,
    Ed25519KeyPair, KeyPair,
};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::error::KeyError;
use super::pem;

/// Checks that `text` holds certificates in PEM (RFC 7468) and nothing else, and says how many.
///
/// # Errors
///
/// What cannot be read.
pub fn check_certificates(text: &str) -> Result<usize, KeyError> {
    certificates(text).map(|all| all.len())
}

/// Checks that `key` is the private key of the first certificate in `chain`, both in PEM.
///
/// # Errors
///
/// What cannot be read, or that they do not belong together.
pub fn check_pair(chain: &str, key: &str) -> Result<(), KeyError> {
    let all = certificates(chain)?;
    let leaf = all.first().ok_or(KeyError::Malformed("no certificate"))?;
    let (_, leaf) = X509Certificate::from_der(leaf).map_err(|_| UNREADABLE)?;
    match public_key(key)? == leaf.public_key().subject_public_key.data.as_ref() {
        true => Ok(()),
        false => Err(KeyError::Malformed("the private key is not that of the first certificate")),
    }
}

const UNREADABLE: KeyError = KeyError::Malformed("a PEM block that is no certificate");

/// The DER of each certificate.
fn certificates(text: &str) -> Result<Vec<Vec<u8>>, KeyError> {
    const END: &str = "-----END CERTIFICATE-----";
    let mut all = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        // Words before a block explain it (RFC 7468, 5.2).
        let start = rest.find("-----BEGIN ").ok_or(KeyError::Malformed("not certificates in PEM"))?;
        let from = rest.get(start..).unwrap_or_default();
        let (block, after) = from.find(END).and_then(|at| from.split_at_checked(at + END.len())).ok_or(UNREADABLE)?;
        let (label, der) = pem::block(block)?;
        if label != "CERTIFICATE" || X509Certificate::from_der(&der).is_err() {
            return Err(UNREADABLE);
        }
        all.push(der);
        rest = after.trim();
    }
    if all.is_empty() { Err(KeyError::Malformed("no certificate")) } else { Ok(all) }
}

/// The public part of a private key, as a certificate holds it.
fn public_key(text: &str) -> Result<Vec<u8>, KeyError> {
    const BAD: KeyError = KeyError::Malformed("a private key that is damaged, or of a kind that is not supported");
    if text.contains("ENCRYPTED") {
        return Err(KeyError::Malformed("the private key is encrypted; give it without a passphrase"));
    }
    let (label, der) = pem::block(text.trim())?;
    let ec = || {
        [&ECDSA_P256_SHA256_ASN1_SIGNING, &ECDSA_P384_SHA384_ASN1_SIGNING, &ECDSA_P521_SHA512_ASN1_SIGNING]
            .into_iter()
            .find_map(|curve| EcdsaKeyPair::from_private_key_der(curve, &der).ok())
            .map(|pair| pair.public_key().as_ref().to_vec())
    };
    let rsa = |pair: rsa::KeyPair| pair.public_key().as_ref().to_vec();
    match label {
        "PRIVATE KEY" => rsa::KeyPair::from_pkcs8(&der)
            .ok()
            .map(rsa)
            .or_else(ec)
            .or_else(|| {
                let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der).ok();
                pair.map(|pair| pair.public_key().as_ref().to_vec())
            })
            .ok_or(BAD),
        "RSA PRIVATE KEY" => rsa::KeyPair::from_der(&der).ok().map(rsa).ok_or(BAD),
        "EC PRIVATE KEY" => ec().ok_or(BAD),
        _ => Err(KeyError::Malformed("the PEM block is not a private key")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    macro_rules! pem {
        ($name:literal) => {
            include_str!(concat!("certificate/", $name, ".pem"))
        };
    }

    #[test]
    fn certificates_in_pem() {
        let two = format!("subject=/CN=a\n{}\n\n# the next\n{}", pem!("rsa"), pem!("ec"));
        for (text, expected) in [
            (pem!("rsa").to_owned(), Some(1)),
            (two, Some(2)),
            (String::new(), None),
            ("a certificate".to_owned(), None),
            (pem!("ec.key").to_owned(), None),
            (pem!("rsa").replace("MII", "MIJ"), None),
            (format!("{}rest", pem!("rsa")), None),
        ] {
            assert_eq!(check_certificates(&text).ok(), expected, "{text}");
        }
    }

    #[test]
    fn keys_and_their_certificates() {
        let chain = format!("{}{}", pem!("ec"), pem!("rsa"));
        for (certificate, key, right) in [
            (pem!("rsa"), pem!("rsa.key"), true),
            (pem!("rsa"), pem!("rsa1.key"), true),
            (pem!("ec"), pem!("ec.key"), true),
            (pem!("ec"), pem!("ec1.key"), true),
            (pem!("ed25519"), pem!("ed25519.key"), true),
            (&*chain, pem!("ec.key"), true),
            (&*chain, pem!("rsa.key"), false),
            (pem!("rsa"), pem!("ec.key"), false),
            (pem!("rsa"), pem!("rsa"), false),
            (pem!("rsa"), "", false),
        ] {
            assert_eq!(check_pair(certificate, key).is_ok(), right, "{certificate}\n{key}");
        }
        let error = check_pair(pem!("rsa"), pem!("encrypted.key")).unwrap_err().to_string();
        assert_eq!(error, "the private key is encrypted; give it without a passphrase");
    }
}
