//! Digests of bodies (RFC 9530), compared as the body passes.

use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::parse::Scanner;

/// What a body must hash to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyDigest {
    /// `sha-256`.
    Sha256([u8; 32]),
    /// `sha-512`.
    Sha512([u8; 64]),
}

/// A body that is being hashed.
#[derive(Clone)]
pub struct BodyHasher(digest::Context);

impl BodyDigest {
    /// The digest that a `Content-Digest` of this value says, `sha-512` before `sha-256`; insecure ones do not count.
    /// `None`: there is none that does, or the value is malformed.
    #[must_use]
    pub fn parse(value: &[u8]) -> Option<Self> {
        let mut scanner = Scanner::new(value);
        let (mut short, mut long) = (None, None);
        loop {
            let (name, text) = scanner.bytes()?;
            // Each one once: which of two would count is nobody's guess.
            match name {
                b"sha-256" if short.is_none() => short = Some(decoded(text)?),
                b"sha-512" if long.is_none() => long = Some(decoded(text)?),
                b"sha-256" | b"sha-512" => return None,
                _ => {}
            }
            if scanner.is_at_end() {
                return long.map(Self::Sha512).or(short.map(Self::Sha256));
            }
            scanner.next_member()?;
        }
    }

    /// Begins to hash a body that is to be compared with this.
    #[must_use]
    pub fn hasher(&self) -> BodyHasher {
        BodyHasher(digest::Context::new(match self {
            Self::Sha256(_) => &digest::SHA256,
            Self::Sha512(_) => &digest::SHA512,
        }))
    }

    /// Whether the whole body that went through `hasher` is the one.
    #[must_use]
    pub fn is_of(&self, hasher: BodyHasher) -> bool {
        let wanted: &[u8] = match self {
            Self::Sha256(digest) => digest,
            Self::Sha512(digest) => digest,
        };
        // Both are public: the time that this takes tells nothing.
        hasher.0.finish().as_ref() == wanted
    }
}

impl BodyHasher {
    /// The next piece of the body.
    pub fn update(&mut self, piece: &[u8]) {
        self.0.update(piece);
    }
}

impl std::fmt::Debug for BodyHasher {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("BodyHasher(…)")
    }
}

fn decoded<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    // The decoder counts in groups of three.
    let mut buffer = [0; 66];
    let length = STANDARD.decode_slice(text, &mut buffer).ok()?;
    buffer.get(..length)?.try_into().ok()
}

/// `Content-Digest` of `body`, with SHA-256. For whoever signs; it allocates.
#[must_use]
pub fn content_digest(body: &[u8]) -> String {
    format!("sha-256=:{}:", STANDARD.encode(digest::digest(&digest::SHA256, body)))
}

#[cfg(test)]
mod tests {
    use super::*;

    // RFC 9530, appendix B.
    const BODY: &[u8] = b"{\"hello\": \"world\"}\n";
    const SHA256: &str = "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:";
    const SHA512: &str =
        "sha-512=:YMAam51Jz/jOATT6/zvHrLVgOYTGFy1d6GJiOHTohq4yP+pgk4vf2aCsyRZOtw8MjkM7iw7yZ/WkppmM44T3qg==:";

    #[test]
    fn values() {
        let both = format!("{SHA256}, {SHA512}");
        let first = format!("md5=:YQ==:,{SHA256}");
        for (value, expected) in [
            (SHA256, Some(true)),
            (SHA512, Some(true)),
            (&both, Some(true)),
            (&first, Some(true)),
            (&SHA256.replace("RK", "RL"), Some(false)),
            // The stronger one decides.
            (&both.replace("RK", "RL"), Some(true)),
            (&both.replace("YMA", "YMB"), Some(false)),
            ("md5=:YQ==:", None),
            ("sha-256=:YQ==:", None),
            (&SHA256.replace("Dg=:", "Dg:"), None),
            (&SHA256.replace("=:R", "=R"), None),
            (&SHA256.to_uppercase(), None),
            (&format!("{SHA256},{SHA256}"), None),
            (&format!("{SHA256};x=1"), None),
            (&format!("{SHA256},"), None),
            ("", None),
        ] {
            let found = BodyDigest::parse(value.as_bytes()).map(|digest| {
                let mut hasher = digest.hasher();
                BODY.chunks(5).for_each(|piece| hasher.update(piece));
                digest.is_of(hasher)
            });
            assert_eq!(found, expected, "{value}");
        }
        let empty = BodyDigest::parse(content_digest(b"").as_bytes()).unwrap();
        assert!(empty.is_of(empty.hasher()));
    }
}
