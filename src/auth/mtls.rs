//! Certificates of clients: the server verifies them in the TLS handshake, rules say whose they are.

use siphasher::sip128::{Hasher128, SipHasher24};
use std::hash::Hasher;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::logins::random_key;
use super::pem;
use super::settings::{ArchivedMark, ArchivedMtls, ArchivedSanKind};

/// How many certificates a process knows.
const PLACES: usize = 256;

/// Certificates that were read a moment ago: a client sends hundreds of requests with the same one.
pub struct Certificates {
    key: [u8; 16],
    places: Box<[Place]>,
}

/// What was read, under a keyed hash of the PEM, which nobody can aim at.
type Place = Option<([u8; 16], Details)>;

impl Default for Certificates {
    fn default() -> Self {
        Self { key: random_key(), places: (0..PLACES).map(|_| None).collect() }
    }
}

impl Certificates {
    /// The consumer that the first rule which fits gives to a verified certificate; `None` where none fits.
    ///
    /// `subject` is its distinguished name as RFC 2253 writes it, `pem` the certificate, which is looked at only if a
    /// rule asks for more than the subject.
    #[must_use]
    pub fn owner<'s, 'r>(
        &mut self,
        settings: &'s ArchivedMtls,
        subject: &[u8],
        pem: impl Fn() -> &'r [u8],
    ) -> Option<&'s str> {
        let mut place = None;
        for rule in settings.rules.iter() {
            let fits = match &rule.mark {
                ArchivedMark::Subject(name) => name.as_bytes() == subject,
                mark => {
                    let index = *place.get_or_insert_with(|| self.read(pem()));
                    index.and_then(|index| self.places.get(index)?.as_ref()).is_some_and(|(_, found)| found.has(mark))
                }
            };
            if fits {
                return Some(rule.consumer.as_str());
            }
        }
        None
    }

    /// The place of a certificate, which is read unless it was a moment ago; `None` where it cannot be.
    fn read(&mut self, pem: &[u8]) -> Option<usize> {
        let mut hasher = SipHasher24::new_with_key(&self.key);
        hasher.write(pem);
        let tag = hasher.finish128().as_bytes();
        let index = usize::from(tag[0]);
        let place = self.places.get_mut(index)?;
        if place.as_ref().is_none_or(|(other, _)| *other != tag) {
            *place = Some((tag, Details::read(pem)?));
        }
        Some(index)
    }
}

/// What is read out of a certificate.
struct Details {
    fingerprint: [u8; 32],
    names: Vec<(ArchivedSanKind, String)>,
}

impl Details {
    fn read(pem: &[u8]) -> Option<Self> {
        let (_, der) = pem::block(std::str::from_utf8(pem).ok()?.trim()).ok()?;
        let (rest, certificate) = X509Certificate::from_der(&der).ok()?;
        if !rest.is_empty() {
            return None;
        }
        let names = certificate.subject_alternative_name().ok()?;
        let names = names.iter().flat_map(|extension| &extension.value.general_names).filter_map(|name| match name {
            // RFC 4343: without regard to case.
            GeneralName::DNSName(name) => Some((ArchivedSanKind::Dns, name.to_ascii_lowercase())),
            GeneralName::URI(name) => Some((ArchivedSanKind::Uri, (*name).to_owned())),
            GeneralName::RFC822Name(name) => Some((ArchivedSanKind::Email, (*name).to_owned())),
            _ => None,
        });
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &der);
        Some(Self { fingerprint: digest.as_ref().try_into().ok()?, names: names.collect() })
    }

    fn has(&self, mark: &ArchivedMark) -> bool {
        match mark {
            ArchivedMark::Subject(_) => false,
            ArchivedMark::San(kind, name) => {
                self.names.iter().any(|(other, text)| same(kind, other) && text == name.as_str())
            }
            ArchivedMark::Fingerprint(digest) => self.fingerprint == *digest,
        }
    }
}

fn same(left: &ArchivedSanKind, right: &ArchivedSanKind) -> bool {
    std::mem::discriminant(left) == std::mem::discriminant(right)
}

#[cfg(test)]
mod tests {
    use rkyv::rancor::Error;

    use super::*;
    use crate::auth::{CertificateRule, Mark, Mtls, SanKind};

    // openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 36500 -subj "/O=Acme/CN=acme"
    //   -addext "subjectAltName=DNS:ACME.example,URI:spiffe://td/acme,email:a@acme.example,IP:192.0.2.1"
    const PEM: &str = include_str!("mtls/acme.pem");
    const FINGERPRINT: &str = include_str!("mtls/acme.sha256");

    fn found(mark: Mark) -> Option<String> {
        let rule = |mark, consumer: &str| CertificateRule { mark, consumer: consumer.to_owned() };
        let settings = Mtls { rules: vec![rule(Mark::Subject("CN=other".into()), "other"), rule(mark, "acme")] };
        let bytes = rkyv::to_bytes::<Error>(&settings).unwrap();
        let archived = rkyv::access::<ArchivedMtls, Error>(&bytes).unwrap();
        let mut certificates = Certificates::default();
        let first = certificates.owner(archived, b"CN=acme,O=Acme", || PEM.as_bytes()).map(str::to_owned);
        let again = certificates.owner(archived, b"CN=acme,O=Acme", || PEM.as_bytes()).map(str::to_owned);
        assert_eq!(first, again);
        // What was read once is no other certificate's.
        assert!(certificates.read(b"x").is_none());
        first
    }

    #[test]
    fn marks() {
        let san = |kind, name: &str| Mark::San(kind, name.to_owned());
        let mut digest = [0; 32];
        for (byte, pair) in digest.iter_mut().zip(FINGERPRINT.trim().as_bytes().chunks(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
        }
        let mut near = digest;
        near[31] ^= 1;
        for (mark, expected) in [
            (Mark::Subject("CN=acme,O=Acme".into()), true),
            (Mark::Subject("CN=acme".into()), false),
            (Mark::Subject("cn=acme,o=acme".into()), false),
            (san(SanKind::Dns, "acme.example"), true),
            (san(SanKind::Dns, "a.acme.example"), false),
            (san(SanKind::Dns, "spiffe://td/acme"), false),
            (san(SanKind::Uri, "spiffe://td/acme"), true),
            (san(SanKind::Uri, "spiffe://td/acme/x"), false),
            (san(SanKind::Email, "a@acme.example"), true),
            (san(SanKind::Email, "acme.example"), false),
            (Mark::Fingerprint(digest), true),
            (Mark::Fingerprint(near), false),
        ] {
            assert_eq!(found(mark.clone()), expected.then(|| "acme".to_owned()), "{mark:?}");
        }
    }

    #[test]
    fn what_is_no_certificate_has_nothing() {
        for text in ["", "x", "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n"] {
            assert!(Details::read(text.as_bytes()).is_none(), "{text}");
        }
        let two = format!("{PEM}{PEM}");
        assert!(Details::read(two.as_bytes()).is_none());
    }
}
