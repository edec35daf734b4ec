//! HTTP Message Signatures (RFC 9421) with digests of bodies (RFC 9530).
//!
//! The key decides the algorithm; the policy decides what must be covered and which parameters there must be; a
//! signature only proves. All that is checked before the signature itself (form, key, window of time) was written by
//! whoever sent it, so how early it fails tells nothing. What a signature cannot say by itself is left to the caller:
//! whether its nonce was seen before ([`Buffers::nonce`], [`Signed::until`]) and whether the body is the one that it
//! speaks of ([`Signed::digest`]).
//!
//! Of several signatures the first whose `keyid` is known decides. Values of `Signature-Input` are written anew in
//! their one canonical form, as RFC 9421 (2.3) wants it. Component parameters other than the `name` of `@query-param`
//! are refused.

mod base;
mod digest;
mod parse;
mod settings;
mod sign;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

pub use digest::{BodyDigest, BodyHasher, content_digest};
pub use settings::{
    ALGORITHMS, ArchivedParameter, ArchivedSignature, ArchivedSignatureKey, Parameter, Signature, SignatureKey,
    algorithm_name, check_component,
};
pub use sign::{SignError, Signer, is_plain};

use self::parse::{Input, LABELS_MAX, Scanner};
use super::crypto::{Crypto, View};
use super::error::KeyError;
use super::settings::Algorithm;
use crate::types::{Reason, Request, SECOND};

/// The longest `Signature-Input` and the longest `Signature` that are looked at, all lines together, bytes.
pub const SIGNATURE_MAX: usize = 8 * 1024;
/// The longest nonce, bytes.
pub const NONCE_MAX: usize = 128;
/// A signature of the largest RSA key that is accepted, and what the decoder needs beyond.
const BYTES_MAX: usize = 1024 + 3;

/// A `signature` entry in the form that verifies; made once per process and generation of the entry.
pub struct SignatureVerifier {
    keys: Box<[Key]>,
    components: Box<[Box<[u8]>]>,
    required: Box<[Parameter]>,
    /// Seconds.
    max_age: u64,
    leeway: u64,
}

struct Key {
    keyid: Box<[u8]>,
    name: &'static str,
    crypto: Crypto,
    /// A digest of the key: where it is used, under whatever name, a nonce is one and the same.
    scope: [u8; 32],
}

impl Key {
    fn all<'a>(keys: impl Iterator<Item = (&'a str, Algorithm, View<'a>)>) -> Result<Box<[Self]>, KeyError> {
        keys.map(|(keyid, algorithm, material)| {
            Ok(Self {
                keyid: keyid.as_bytes().into(),
                name: algorithm_name(algorithm).ok_or(KeyError::Kind(algorithm))?,
                crypto: Crypto::new(algorithm, material)?,
                scope: scope(material),
            })
        })
        .collect()
    }
}

/// Memory that is used again from one request to the next.
#[derive(Default)]
pub struct Buffers {
    input: Vec<u8>,
    signature: Vec<u8>,
    parameters: Vec<u8>,
    base: Vec<u8>,
    nonce: Vec<u8>,
}

impl Buffers {
    /// The nonce of the signature that was verified last, with the key that it belongs to; empty without one.
    #[must_use]
    pub fn nonce(&self) -> &[u8] {
        &self.nonce
    }
}

/// What a signature that holds says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signed {
    /// The place of its key in the entry.
    pub key: usize,
    /// What the body must hash to; `None` where `Content-Digest` is not covered.
    pub digest: Option<BodyDigest>,
    /// When it was made, seconds since the Unix epoch, where it says so.
    pub created: Option<u64>,
    /// The last second, since the Unix epoch, at which the signature would be accepted again: until then its nonce must
    /// be remembered.
    pub until: u64,
}

impl SignatureVerifier {
    /// Parses the keys of an archived entry.
    ///
    /// # Errors
    /// The first key that cannot be used.
    pub fn new(settings: &ArchivedSignature) -> Result<Self, KeyError> {
        let keys = settings.keys.iter().map(|entry| {
            let keyid = entry.key.kid.as_ref().map_or("", |kid| kid.as_str());
            (keyid, Algorithm::from(&entry.key.algorithm), View::from(&entry.key.material))
        });
        Ok(Self {
            keys: Key::all(keys)?,
            components: settings.components.iter().map(|name| name.as_bytes().into()).collect(),
            required: settings.required.iter().map(Parameter::from).collect(),
            max_age: settings.max_age.to_native(),
            leeway: settings.leeway.to_native(),
        })
    }

    /// The same for an entry that is not archived, for tests and tools.
    ///
    /// # Errors
    /// As [`SignatureVerifier::new`].
    pub fn from_settings(settings: &Signature) -> Result<Self, KeyError> {
        let keys = settings.keys.iter().map(|entry| {
            (entry.key.kid.as_deref().unwrap_or_default(), entry.key.algorithm, View::from(&entry.key.material))
        });
        Ok(Self {
            keys: Key::all(keys)?,
            components: settings.components.iter().map(|name| name.as_bytes().into()).collect(),
            required: settings.required.iter().copied().collect(),
            max_age: settings.max_age,
            leeway: settings.leeway,
        })
    }

    /// Verifies the signature of `request` at `wall`, microseconds since the Unix epoch. `None`: it has none.
    ///
    /// # Errors
    /// Why it does not count.
    pub fn verify(&self, request: &impl Request, wall: u64, buffers: &mut Buffers) -> Result<Option<Signed>, Reason> {
        let Buffers { input, signature, parameters, base, nonce } = buffers;
        nonce.clear();
        let inputs = collect(request, b"signature-input", input)?;
        let signatures = collect(request, b"signature", signature)?;
        match (inputs, signatures) {
            (true, true) => {}
            (false, false) => return Ok(None),
            _ => return Err(Reason::AuthMalformed),
        }
        let (entry, key) = self.select(input, parameters)?;
        let index = self.keys.iter().position(|other| std::ptr::eq(other, key)).unwrap_or_default();
        if entry.alg.is_some_and(|alg| alg != key.name.as_bytes()) {
            return Err(Reason::AuthAlgorithm);
        }
        self.covers(&entry)?;
        let until = self.last_second(&entry, wall / SECOND)?;
        let is_nonce = |value: &[u8]| (1..=NONCE_MAX).contains(&value.len()) && value.iter().all(u8::is_ascii_graphic);
        if !entry.nonce.is_none_or(is_nonce) {
            return Err(Reason::AuthMalformed);
        }

        let mut bytes = [0; BYTES_MAX];
        let bytes = signature_of(entry.label, signature, &mut bytes).ok_or(Reason::AuthMalformed)?;
        base.clear();
        base::write(request, entry.items(), parameters, base).ok_or(Reason::AuthMalformed)?;
        if !key.crypto.verify(base, bytes) {
            return Err(Reason::AuthSignature);
        }

        if let Some(value) = entry.nonce {
            nonce.extend_from_slice(&key.scope);
            nonce.extend_from_slice(value);
        }
        let digest = match entry.items().iter().any(|item| item.name == b"content-digest") {
            // The lines of the field are one list.
            true => {
                base.clear();
                collect(request, b"content-digest", base)?;
                Some(BodyDigest::parse(base).ok_or(Reason::AuthDigest)?)
            }
            false => None,
        };
        Ok(Some(Signed { key: index, digest, created: entry.created, until }))
    }

    /// The first entry whose key is known, with its canonical text in `parameters`. All entries are read.
    fn select<'a>(&self, input: &'a [u8], parameters: &mut Vec<u8>) -> Result<(Input<'a>, &Key), Reason> {
        const BAD: Reason = Reason::AuthMalformed;
        let mut scanner = Scanner::new(input);
        let (mut labels, mut count): ([&[u8]; LABELS_MAX], usize) = ([b""; LABELS_MAX], 0);
        let mut found = None;
        parameters.clear();
        loop {
            let before = parameters.len();
            let entry = scanner.input(parameters).ok_or(BAD)?;
            if labels.contains(&entry.label) {
                return Err(BAD);
            }
            *labels.get_mut(count).ok_or(BAD)? = entry.label;
            count += 1;
            let key = match found {
                None => self.keys.iter().find(|key| entry.keyid == Some(&*key.keyid)).or_else(|| self.only(&entry)),
                Some(_) => None,
            };
            match key {
                Some(key) => found = Some((entry, key)),
                None => parameters.truncate(before),
            }
            if scanner.is_at_end() {
                return found.ok_or(Reason::AuthKeyUnknown);
            }
            scanner.next_member().ok_or(BAD)?;
        }
    }

    /// A signature that names no key can only be made with the only one, where it need not name it.
    fn only(&self, entry: &Input<'_>) -> Option<&Key> {
        match &*self.keys {
            [key] if entry.keyid.is_none() && !self.required.contains(&Parameter::KeyId) => Some(key),
            _ => None,
        }
    }

    /// Whether the entry covers what it must, and has the parameters that it must have.
    fn covers(&self, entry: &Input<'_>) -> Result<(), Reason> {
        let has = |parameter: &Parameter| match parameter {
            Parameter::Created => entry.created.is_some(),
            Parameter::Expires => entry.expires.is_some(),
            Parameter::KeyId => entry.keyid.is_some(),
            Parameter::Nonce => entry.nonce.is_some(),
            Parameter::Alg => entry.alg.is_some(),
            Parameter::Tag => entry.tag.is_some(),
        };
        let covered = |name: &[u8]| entry.items().iter().any(|item| item.name == name && !item.is_foreign);
        match self.required.iter().all(has) && self.components.iter().all(|name| covered(name)) {
            true => Ok(()),
            false => Err(Reason::AuthClaims),
        }
    }

    /// The last second at which the entry is accepted; an error where `now`, seconds, is outside of its window.
    fn last_second(&self, entry: &Input<'_>, now: u64) -> Result<u64, Reason> {
        let aged = |from: u64| from.saturating_add(self.max_age).saturating_add(self.leeway);
        let mut until = match entry.created {
            Some(created) if created > now.saturating_add(self.leeway) => return Err(Reason::AuthNotYet),
            Some(created) => aged(created),
            // Without a time it is as good as made now; what it cannot do is to reach further than one made now.
            None => aged(now),
        };
        if let Some(expires) = entry.expires {
            if entry.created.is_some_and(|created| expires < created) {
                return Err(Reason::AuthMalformed);
            }
            if entry.created.is_none() && expires > aged(now) {
                return Err(Reason::AuthNotYet);
            }
            until = until.min(expires.saturating_add(self.leeway));
        }
        if now > until { Err(Reason::AuthExpired) } else { Ok(until) }
    }
}

impl From<&ArchivedParameter> for Parameter {
    fn from(parameter: &ArchivedParameter) -> Self {
        match parameter {
            ArchivedParameter::Created => Self::Created,
            ArchivedParameter::Expires => Self::Expires,
            ArchivedParameter::KeyId => Self::KeyId,
            ArchivedParameter::Nonce => Self::Nonce,
            ArchivedParameter::Alg => Self::Alg,
            ArchivedParameter::Tag => Self::Tag,
        }
    }
}

/// All lines of a field as one list; false where there is none.
fn collect(request: &impl Request, name: &[u8], text: &mut Vec<u8>) -> Result<bool, Reason> {
    text.clear();
    let (mut lines, mut fits) = (0, true);
    request.header_lines(name, &mut |line| {
        fits &= text.len() + line.len() + 2 <= SIGNATURE_MAX;
        if fits {
            if lines > 0 {
                text.extend_from_slice(b", ");
            }
            text.extend_from_slice(line);
        }
        lines += 1;
    });
    if fits { Ok(lines > 0) } else { Err(Reason::AuthMalformed) }
}

/// The bytes under `label`; every member of the field is read, and a label that comes twice is refused.
fn signature_of<'b>(label: &[u8], text: &[u8], bytes: &'b mut [u8; BYTES_MAX]) -> Option<&'b [u8]> {
    let mut scanner = Scanner::new(text);
    let mut found = None;
    for _ in 0..LABELS_MAX {
        let (name, base64) = scanner.bytes()?;
        if name == label && found.replace(base64).is_some() {
            return None;
        }
        if scanner.is_at_end() {
            let length = STANDARD.decode_slice(found?, bytes).ok()?;
            return bytes.get(..length);
        }
        scanner.next_member()?;
    }
    None
}

fn scope(key: View<'_>) -> [u8; 32] {
    let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    match key {
        View::Secret(bytes) | View::Ec(bytes) | View::Ed25519(bytes) => context.update(bytes),
        View::Rsa { n, e } => {
            context.update(n);
            context.update(e);
        }
    }
    let mut scope = [0; 32];
    scope.iter_mut().zip(context.finish().as_ref()).for_each(|(to, from)| *to = *from);
    scope
}
