//! Public keys in PEM (RFC 7468): just the DER that SPKI and PKCS #1 need.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::error::KeyError;

/// What a PEM block held.
pub enum Public {
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
    /// An uncompressed point on P-256, P-384 or P-521, told apart by its length.
    Ec(Vec<u8>),
    Ed25519(Vec<u8>),
}

const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1];
const EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1];
const ED25519: &[u8] = &[0x2b, 0x65, 0x70];
const CURVES: [(&[u8], usize); 3] =
    [(&[0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7], 65), (&[0x2b, 0x81, 4, 0, 0x22], 97), (&[0x2b, 0x81, 4, 0, 0x23], 133)];

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 2;
const BIT_STRING: u8 = 3;
const NULL: u8 = 5;
const OBJECT: u8 = 6;

/// The public key in `text`, which holds one PEM block and nothing else.
pub fn public_key(text: &str) -> Result<Public, KeyError> {
    let (label, der) = block(text.trim())?;
    match label {
        "PUBLIC KEY" => spki(&der).ok_or(KeyError::Malformed("the PEM block is not a public key that is supported")),
        "RSA PUBLIC KEY" => pkcs1(&der).ok_or(KeyError::Malformed("the PEM block is not an RSA public key")),
        "CERTIFICATE" => Err(KeyError::Malformed(
            "a certificate is not a key: nothing here would check its dates; take the key out (openssl x509 -pubkey)",
        )),
        label if label.ends_with("PRIVATE KEY") => Err(KeyError::Private),
        _ => Err(KeyError::Malformed("the PEM block is not a public key")),
    }
}

/// The DER of the private key (PKCS #8) in `text`, which holds one PEM block and nothing else.
pub fn private_key(text: &str) -> Result<Vec<u8>, KeyError> {
    match block(text.trim())? {
        ("PRIVATE KEY", der) => Ok(der),
        _ => Err(KeyError::Malformed("the PEM block is not a private key in PKCS #8")),
    }
}

/// Label and content of the one PEM block in `text`.
pub fn block(text: &str) -> Result<(&str, Vec<u8>), KeyError> {
    const BAD: KeyError = KeyError::Malformed("not one PEM block");
    let (label, rest) = text.strip_prefix("-----BEGIN ").and_then(|rest| rest.split_once("-----")).ok_or(BAD)?;
    let (body, end) = rest.split_once("-----END ").ok_or(BAD)?;
    if end.strip_suffix("-----") != Some(label) {
        return Err(BAD);
    }
    let letters: Vec<u8> = body.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    Ok((label, STANDARD.decode(letters).map_err(|_| BAD)?))
}

fn spki(der: &[u8]) -> Option<Public> {
    let mut outer = Der(der);
    let mut info = Der(outer.take(SEQUENCE)?);
    outer.end()?;
    let mut algorithm = Der(info.take(SEQUENCE)?);
    let [0, key @ ..] = info.take(BIT_STRING)? else {
        return None;
    };
    info.end()?;
    let public = match algorithm.take(OBJECT)? {
        RSA => {
            algorithm.take(NULL).filter(|null| null.is_empty())?;
            pkcs1(key)?
        }
        EC => {
            let curve = algorithm.take(OBJECT)?;
            let (_, len) = CURVES.into_iter().find(|(name, _)| *name == curve)?;
            Public::Ec(Some(key).filter(|key| key.len() == len)?.to_vec())
        }
        ED25519 => Public::Ed25519(Some(key).filter(|key| key.len() == 32)?.to_vec()),
        _ => return None,
    };
    algorithm.end()?;
    Some(public)
}

fn pkcs1(der: &[u8]) -> Option<Public> {
    let mut outer = Der(der);
    let mut numbers = Der(outer.take(SEQUENCE)?);
    outer.end()?;
    let (n, e) = (numbers.positive()?, numbers.positive()?);
    numbers.end()?;
    Some(Public::Rsa { n, e })
}

struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// The content of the next element, which must have `tag` and the shortest form of its length.
    fn take(&mut self, tag: u8) -> Option<&'a [u8]> {
        let (&found, rest) = self.0.split_first()?;
        let (&first, rest) = rest.split_first()?;
        let (len, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            0x81 => rest.split_first().map(|(&a, rest)| (usize::from(a), rest)).filter(|(len, _)| *len > 0x7f)?,
            0x82 => {
                let ([a, b], rest) = rest.split_first_chunk()?;
                Some((usize::from(*a) << 8 | usize::from(*b), rest)).filter(|(len, _)| *len > 0xff)?
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(len)?;
        self.0 = rest;
        (found == tag).then_some(content)
    }

    fn positive(&mut self) -> Option<Vec<u8>> {
        match self.take(INTEGER)? {
            // A leading zero only where the number would look negative without it.
            [0, rest @ ..] if rest.first().is_some_and(|first| *first > 0x7f) => Some(rest.to_vec()),
            whole @ [1..=0x7f, ..] => Some(whole.to_vec()),
            _ => None,
        }
    }

    fn end(&self) -> Option<()> {
        self.0.is_empty().then_some(())
    }
}

/// The DER of a public key as SPKI (RFC 5280, 4.1.2.7; RFC 3279, 2.3; RFC 8410): what [`public_key`] reads.
pub fn write_spki(key: &Public) -> Vec<u8> {
    let (algorithm, bits) = match key {
        Public::Rsa { n, e } => {
            let numbers = [integer(n), integer(e)].concat();
            ([element(OBJECT, RSA), element(NULL, &[])].concat(), element(SEQUENCE, &numbers))
        }
        Public::Ec(point) => {
            let curve = CURVES.into_iter().find(|(_, len)| *len == point.len()).map_or(&[][..], |(name, _)| name);
            ([element(OBJECT, EC), element(OBJECT, curve)].concat(), point.clone())
        }
        Public::Ed25519(point) => (element(OBJECT, ED25519), point.clone()),
    };
    let bits = element(BIT_STRING, &[&[0], bits.as_slice()].concat());
    element(SEQUENCE, &[element(SEQUENCE, &algorithm), bits].concat())
}

fn integer(octets: &[u8]) -> Vec<u8> {
    let zeros = octets.iter().take_while(|octet| **octet == 0).count();
    let octets = octets.get(zeros..).unwrap_or_default();
    match octets.first() {
        Some(0x80..) => element(INTEGER, &[&[0], octets].concat()),
        _ => element(INTEGER, octets),
    }
}

fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let len = content.len();
    let mut out = vec![tag];
    match len {
        0..=0x7f => out.push(len as u8),
        0x80..=0xff => out.extend([0x81, len as u8]),
        // No key is longer than that.
        _ => out.extend([0x82, (len >> 8) as u8, len as u8]),
    }
    out.extend_from_slice(content);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for size in [1, 127, 256, 512, 1024] {
            for first in [1, 0x7f, 0x80, 0xff] {
                let mut n = vec![7; size];
                n[0] = first;
                let der = write_spki(&Public::Rsa { n: n.clone(), e: vec![1, 0, 1] });
                assert!(
                    matches!(spki(&der), Some(Public::Rsa { n: found, e }) if found == n && e == [1, 0, 1]),
                    "{size}"
                );
            }
        }
        for size in [65, 97, 133] {
            let point = vec![4; size];
            let der = write_spki(&Public::Ec(point.clone()));
            assert!(matches!(spki(&der), Some(Public::Ec(found)) if found == point), "{size}");
        }
        let der = write_spki(&Public::Ed25519(vec![9; 32]));
        assert!(matches!(spki(&der), Some(Public::Ed25519(found)) if found == [9; 32]));
    }
}
