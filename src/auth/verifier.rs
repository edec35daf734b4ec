//! Verification of JSON Web Tokens (RFC 7519, 7515, 8725).
//!
//! The order is: form, header, key, signature, claims. What stands before the signature is public (the header, the
//! algorithm, the `kid`), so how early a token fails tells nothing that its bearer did not write; no claim is read
//! before the signature holds. All failures have one public face (`types::Reason::public`).

use std::sync::atomic::{AtomicU64, Ordering};

use super::base64url;
use super::claims::{Claims, Times, printable};
use super::crypto::{Crypto, View};
use super::error::KeyError;
use super::header::{self, Header};
use super::json::{Kind, Value};
use super::settings::{Algorithm, ArchivedAlgorithm, ArchivedJwt, ArchivedKey, Jwt};
use crate::types::{Reason, SECOND};

/// The longest token that is looked at, in bytes.
pub const TOKEN_MAX: usize = 16 * 1024;

/// The last second that a time claim may name: the end of the year 9999. A token that counts in milliseconds names a
/// later one and is refused rather than valid for ever.
const LAST_SECOND: i64 = 253_402_300_799;

/// A `jwt` entry in the form that verifies; made once per process and generation of the entry.
///
/// Which key: a token with a `kid` is tried with the keys of exactly that name; where none has it, with the keys that
/// have no name, since a token cannot name those wrongly. A token without `kid` is tried with the keys without a name,
/// or with the only key there is. Of these only the keys whose algorithm the header repeats are tried.
///
/// Which claims: `iss` and `aud` must be there and equal ours where they are configured, and whatever `require` lists
/// must be there. `exp`, `nbf` and `iat` are held against the clock wherever they occur, `iss`, `sub`, `jti` and `aud`
/// must have their types, and no registered string holds control characters.
pub struct Verifier {
    /// Tells verifiers of this process apart; never 0.
    id: u64,
    keys: Box<[Key]>,
    issuer: Option<Box<str>>,
    audience: Option<Box<str>>,
    /// `exp` must be there.
    require_expiry: bool,
    /// The other claims that must be there.
    require: Box<[Box<str>]>,
    /// Microseconds.
    leeway: i64,
    /// Microseconds; 0 = any.
    max_lifetime: i64,
}

struct Key {
    kid: Option<Box<str>>,
    algorithm: Algorithm,
    crypto: Crypto,
}

impl Verifier {
    /// Parses the keys of an archived entry.
    ///
    /// # Errors
    /// The first key that cannot be used, by its `kid` or its place in the list.
    pub fn new(jwt: &ArchivedJwt) -> Result<Self, KeyError> {
        Self::with_keys(jwt, &jwt.keys)
    }

    /// The same with keys from elsewhere, such as a set that was fetched; those of algorithms that the entry does not
    /// list are left out.
    ///
    /// # Errors
    /// As [`Verifier::new`].
    pub fn with_keys(jwt: &ArchivedJwt, keys: &[ArchivedKey]) -> Result<Self, KeyError> {
        let allowed = |algorithm: &ArchivedAlgorithm| {
            let algorithm = Algorithm::from(algorithm);
            jwt.algorithms.is_empty() || jwt.algorithms.iter().any(|allowed| Algorithm::from(allowed) == algorithm)
        };
        let keys = keys.iter().filter(|key| allowed(&key.algorithm)).map(|key| {
            let material = View::from(&key.material);
            (key.kid.as_ref().map(|kid| kid.as_str()), Algorithm::from(&key.algorithm), material)
        });
        Self::build(
            keys,
            jwt.issuer.as_ref().map(|issuer| issuer.as_str()),
            jwt.audience.as_ref().map(|audience| audience.as_str()),
            jwt.require.iter().map(|claim| claim.as_str()),
            (jwt.leeway.to_native(), jwt.max_lifetime.to_native()),
        )
    }

    /// The same for an entry that is not archived (tests, tools, the check at load).
    ///
    /// # Errors
    /// As [`Verifier::new`].
    pub fn from_settings(jwt: &Jwt) -> Result<Self, KeyError> {
        Self::build(
            jwt.keys.iter().map(|key| (key.kid.as_deref(), key.algorithm, View::from(&key.material))),
            jwt.issuer.as_deref(),
            jwt.audience.as_deref(),
            jwt.require.iter().map(String::as_str),
            (jwt.leeway, jwt.max_lifetime),
        )
    }

    fn build<'a>(
        keys: impl Iterator<Item = (Option<&'a str>, Algorithm, View<'a>)>,
        issuer: Option<&str>,
        audience: Option<&str>,
        require: impl Iterator<Item = &'a str>,
        (leeway, max_lifetime): (u64, u64),
    ) -> Result<Self, KeyError> {
        let keys = keys.enumerate().map(|(index, (kid, algorithm, material))| {
            let crypto = Crypto::new(algorithm, material).map_err(|error| {
                KeyError::At(kid.map_or_else(|| index.to_string(), |kid| format!("{kid:?}")), Box::new(error))
            })?;
            Ok(Key { kid: kid.map(Box::from), algorithm, crypto })
        });
        let keys = keys.collect::<Result<Box<[_]>, KeyError>>()?;
        if keys.is_empty() {
            return Err(KeyError::None);
        }
        let (expiry, require): (Vec<_>, Vec<_>) = require.partition(|name| *name == "exp");
        let micros = |seconds: u64| i64::try_from(seconds.min(LAST_SECOND as u64) * SECOND).unwrap_or(i64::MAX);
        Ok(Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            keys,
            issuer: issuer.map(Box::from),
            audience: audience.map(Box::from),
            require_expiry: !expiry.is_empty(),
            require: require.into_iter().map(Box::from).collect(),
            leeway: micros(leeway),
            max_lifetime: micros(max_lifetime),
        })
    }

    /// Verifies `token` (compact form) at `wall`, microseconds since the epoch, and leaves its claims in `claims`;
    /// after a failure there are none.
    ///
    /// # Errors
    /// Why it is refused, for the log; the client is told [`Reason::public`].
    #[inline]
    pub fn verify(&self, token: &[u8], wall: u64, claims: &mut Claims) -> Result<(), Reason> {
        let verified = self.signed(token, claims).and_then(|payload| {
            claims.payload.decode(payload, usize::MAX).map_err(|_| Reason::AuthMalformed)?;
            claims.times = self.check(claims, wall)?;
            Ok(())
        });
        if verified.is_err() {
            claims.clear();
        }
        verified
    }

    /// Whether a token that was refused with `reason` may have been signed by a key that its issuer has published since:
    /// it names one that is not here, or its issuer names none.
    #[must_use]
    pub fn may_be_outdated(&self, reason: Reason) -> bool {
        match reason {
            Reason::AuthKeyUnknown => true,
            Reason::AuthSignature => self.keys.iter().any(|key| key.kid.is_none()),
            _ => false,
        }
    }

    /// Until when, in microseconds since the epoch, the token with these claims is good: its `exp` and the leeway.
    #[must_use]
    pub fn good_until(&self, claims: &Claims) -> u64 {
        claims.expires().map_or(u64::MAX, |expires| expires.saturating_add(self.leeway.unsigned_abs()))
    }

    /// Verifies form, header and signature of a JWS in compact form, whatever its payload is; no claims come of it.
    ///
    /// # Errors
    /// As [`Verifier::verify`].
    pub fn verify_signature(&self, token: &[u8], claims: &mut Claims) -> Result<(), Reason> {
        let verified = self
            .signed(token, claims)
            .and_then(|payload| base64url::decode(payload, &mut claims.signature).map_err(|_| Reason::AuthMalformed));
        claims.clear();
        verified
    }

    /// The payload, still encoded, of a token whose signature holds.
    fn signed<'a>(&self, token: &'a [u8], claims: &mut Claims) -> Result<&'a [u8], Reason> {
        claims.clear();
        if token.len() > TOKEN_MAX {
            return Err(Reason::AuthMalformed);
        }
        let (message, signature) = split_last(token).ok_or(Reason::AuthMalformed)?;
        // An empty payload is a JWS, though never a JWT: it is no JSON.
        let (header, payload) = split_last(message).ok_or(Reason::AuthMalformed)?;
        if header.is_empty() || signature.is_empty() || memchr::memchr(b'.', header).is_some() {
            return Err(Reason::AuthMalformed);
        }
        // The same header at the same verifier comes to the same end.
        if claims.memo.verifier == self.id && claims.memo.header == header {
            let key = self.keys.get(claims.memo.key).ok_or(Reason::Internal)?;
            base64url::decode(signature, &mut claims.signature).map_err(|_| Reason::AuthMalformed)?;
            return match key.crypto.verify(message, &claims.signature) {
                true => Ok(payload),
                false => Err(Reason::AuthSignature),
            };
        }
        claims.header.decode(header, header::LIMIT).map_err(|_| Reason::AuthMalformed)?;
        let says = Header::check(&claims.header)?;
        let rule = self.rule(says.kid);
        let named = || self.keys.iter().enumerate().filter(|(_, key)| rule.takes(key.kid.as_deref()));
        let candidates = || named().filter(|(_, key)| key.algorithm == says.algorithm);
        if named().next().is_none() {
            return Err(Reason::AuthKeyUnknown);
        }
        if candidates().next().is_none() {
            return Err(Reason::AuthAlgorithm);
        }
        base64url::decode(signature, &mut claims.signature).map_err(|_| Reason::AuthMalformed)?;
        let (index, _) =
            candidates().find(|(_, key)| key.crypto.verify(message, &claims.signature)).ok_or(Reason::AuthSignature)?;
        if candidates().nth(1).is_none() {
            claims.memo.verifier = self.id;
            claims.memo.key = index;
            claims.memo.header.clear();
            claims.memo.header.extend_from_slice(header);
        }
        Ok(payload)
    }

    /// Which keys a token may be tried with, as the type's documentation says.
    fn rule<'a>(&self, kid: Option<&'a str>) -> Rule<'a> {
        match kid {
            Some(kid) if self.keys.iter().any(|key| key.kid.as_deref() == Some(kid)) => Rule::Named(kid),
            None if self.keys.len() == 1 => Rule::Any,
            _ => Rule::Unnamed,
        }
    }

    /// Checks the claims of a token whose signature holds.
    fn check(&self, claims: &Claims, wall: u64) -> Result<Times, Reason> {
        let object = claims.payload.object().ok_or(Reason::AuthMalformed)?;
        let (mut issuer, mut audience, mut not_before) = (None, None, None);
        let mut times = Times::default();
        for claim in object.children() {
            // Registered names have three letters: one comparison of one number each.
            let Ok(name) = <[u8; 3]>::try_from(claim.name()) else { continue };
            match &name {
                b"iss" => issuer = Some(text(claim)?),
                b"aud" => audience = Some(claim),
                b"sub" | b"jti" => drop(text(claim)?),
                b"exp" => times.expires = Some(time(claim)?),
                b"iat" => times.issued = Some(time(claim)?),
                b"nbf" => not_before = Some(time(claim)?),
                _ => {}
            }
        }
        let now = i64::try_from(wall).unwrap_or(i64::MAX);
        if let Some(expires) = times.expires
            && now >= expires.saturating_add(self.leeway)
        {
            return Err(Reason::AuthExpired);
        }
        let latest = now.saturating_add(self.leeway);
        if not_before.is_some_and(|at| at > latest) || times.issued.is_some_and(|at| at > latest) {
            return Err(Reason::AuthNotYet);
        }
        if let Some(wanted) = self.issuer.as_deref()
            && issuer != Some(wanted)
        {
            return Err(Reason::AuthClaims);
        }
        let for_us = match audience {
            Some(audience) => self.is_audience(audience)?,
            None => self.audience.is_none(),
        };
        let complete = || {
            // `exp`, which nearly everybody requires, has just been read; null would have been refused.
            (!self.require_expiry || times.expires.is_some())
                && self.require.iter().all(|name| object.member(name).is_some_and(|claim| claim.kind() != Kind::Null))
        };
        let short_lived = || {
            let lifetime = times.expires.zip(times.issued).map(|(expires, issued)| expires.saturating_sub(issued));
            self.max_lifetime == 0 || lifetime.is_some_and(|lifetime| lifetime <= self.max_lifetime)
        };
        if for_us && complete() && short_lived() { Ok(times) } else { Err(Reason::AuthClaims) }
    }

    /// Whether `audience`, a string or an array of strings, holds ours; anything does where none is configured.
    fn is_audience(&self, audience: Value<'_>) -> Result<bool, Reason> {
        let wanted = self.audience.as_deref();
        let fits = |name: &str| wanted.is_none_or(|wanted| wanted == name);
        match audience.kind() {
            Kind::String => Ok(fits(audience.text())),
            Kind::Array => {
                let mut found = wanted.is_none();
                for element in audience.children() {
                    found |= fits(element.string().ok_or(Reason::AuthClaims)?);
                }
                Ok(found)
            }
            _ => Err(Reason::AuthClaims),
        }
    }
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kids = self.keys.iter().map(|key| (key.kid.as_deref(), key.algorithm)).collect::<Vec<_>>();
        f.debug_struct("Verifier").field("keys", &kids).finish_non_exhaustive()
    }
}

static NEXT: AtomicU64 = AtomicU64::new(1);

enum Rule<'a> {
    Named(&'a str),
    Unnamed,
    Any,
}

impl Rule<'_> {
    #[inline]
    fn takes(&self, kid: Option<&str>) -> bool {
        match self {
            Self::Named(name) => kid == Some(*name),
            Self::Unnamed => kid.is_none(),
            Self::Any => true,
        }
    }
}

/// What stands before and behind the last dot.
#[inline]
fn split_last(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let dot = memchr::memrchr(b'.', text)?;
    let (before, behind) = text.split_at_checked(dot)?;
    Some((before, behind.get(1..)?))
}

/// A claim that must be a string; control characters in it serve only to break what it is written into.
fn text(claim: Value<'_>) -> Result<&str, Reason> {
    claim.string().filter(|text| printable(text)).ok_or(Reason::AuthClaims)
}

/// A NumericDate (RFC 7519, 2) in microseconds.
fn time(claim: Value<'_>) -> Result<i64, Reason> {
    if claim.kind() != Kind::Number {
        return Err(Reason::AuthClaims);
    }
    let number = claim.text();
    if let Some(seconds) = whole(number.as_bytes()) {
        return Ok(seconds * SECOND as i64);
    }
    let seconds = match number.parse::<i64>() {
        Ok(seconds) => return if in_range(seconds) { Ok(seconds * SECOND as i64) } else { Err(Reason::AuthClaims) },
        Err(_) => number.parse::<f64>().map_err(|_| Reason::AuthClaims)?,
    };
    // Rounded down, so that a fraction never lengthens a life.
    match seconds.is_finite() && in_range(seconds as i64) {
        true => Ok((seconds * SECOND as f64).floor() as i64),
        false => Err(Reason::AuthClaims),
    }
}

/// The seconds of a time as nearly all are: nothing but digits. At most eleven, so that it is in range.
#[inline]
fn whole(digits: &[u8]) -> Option<i64> {
    if digits.len() > 11 {
        return None;
    }
    let mut seconds = 0;
    for digit in digits {
        let value = digit.wrapping_sub(b'0');
        if value > 9 {
            return None;
        }
        seconds = seconds * 10 + i64::from(value);
    }
    Some(seconds)
}

const fn in_range(seconds: i64) -> bool {
    seconds >= -LAST_SECOND && seconds <= LAST_SECOND
}
