//! What a token's header may say. It selects the key and may contradict it; it decides nothing.

use super::json::{Document, Kind, Value};
use super::settings::Algorithm;
use crate::types::Reason;

/// The values that a header may hold, nested ones included: it is read before anything is verified.
pub const LIMIT: usize = 64;

/// The part of a JOSE header that counts.
pub struct Header<'a> {
    pub algorithm: Algorithm,
    pub kid: Option<&'a str>,
}

impl<'a> Header<'a> {
    /// Checks a header (RFC 7515, 4.1). `jwk`, `jku`, `x5u` and `x5c` are never looked at.
    pub fn check(document: &'a Document) -> Result<Self, Reason> {
        let object = document.object().ok_or(Reason::AuthMalformed)?;
        let (mut algorithm, mut kid) = (None, None);
        for member in object.children() {
            match member.key() {
                "alg" => algorithm = Some(member.string().ok_or(Reason::AuthAlgorithm)?),
                "kid" => kid = Some(member.string().ok_or(Reason::AuthMalformed)?),
                "typ" => is_jwt(member).then_some(()).ok_or(Reason::AuthMalformed)?,
                // We understand no extension, so a header that needs one is not for us (4.1.11); `b64` changes what
                // is signed (RFC 7797) and `enc` makes it a JWE, whoever marks them critical.
                "crit" | "b64" | "enc" => return Err(Reason::AuthMalformed),
                _ => {}
            }
        }
        let algorithm = algorithm.and_then(Algorithm::parse).ok_or(Reason::AuthAlgorithm)?;
        Ok(Self { algorithm, kid })
    }
}

/// Tokens for another purpose (logout, DPoP proofs) are not access tokens, although the same key signs them
/// (RFC 8725, 3.11). Media types compare without case, `application/` may be left out.
fn is_jwt(typ: Value<'_>) -> bool {
    if typ.kind() != Kind::String {
        return false;
    }
    let name = typ.text();
    let name = match name.split_at_checked(12) {
        Some((prefix, rest)) if prefix.eq_ignore_ascii_case("application/") => rest,
        _ => name,
    };
    name.eq_ignore_ascii_case("JWT") || name.eq_ignore_ascii_case("at+jwt")
}
