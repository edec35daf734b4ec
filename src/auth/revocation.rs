//! Tokens that are refused though they are good: a list of ids, of subjects, of tokens.

use std::hash::Hasher;

use siphasher::sip::SipHasher13;

/// What is revoked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Revoked {
    /// The token with this `jti`.
    Id(String),
    /// Tokens of this `sub` that were issued before a time, seconds since the epoch; `u32::MAX` = whenever.
    Subject(String, u32),
    /// The token with this SHA-256.
    Token([u8; 32]),
}

/// A line of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// What is revoked.
    pub what: Revoked,
    /// Until when the entry is of use, seconds since the epoch: what it refuses has expired by then. `u32::MAX` = for ever.
    pub until: u32,
}

/// The most entries of a list.
pub const REVOCATIONS_MAX: usize = 1_000_000;

impl Revoked {
    /// The kind as one bit: look-ups are made for kinds that there are.
    #[must_use]
    pub const fn kind(&self) -> u64 {
        match self {
            Self::Id(_) => ID,
            Self::Subject(..) => SUBJECT,
            Self::Token(_) => TOKEN,
        }
    }

    /// Tokens that were issued before this are refused, seconds since the epoch; `u32::MAX` = whenever.
    #[must_use]
    pub const fn before(&self) -> u32 {
        match self {
            Self::Subject(_, before) => *before,
            Self::Id(_) | Self::Token(_) => u32::MAX,
        }
    }

    /// The entry's key in the table, for tokens of the `auth` entry with id word `scope`.
    #[must_use]
    pub fn key(&self, secret: [u64; 2], scope: u64) -> u64 {
        match self {
            Self::Id(id) => key(secret, scope, ID, id.as_bytes()),
            Self::Subject(subject, _) => key(secret, scope, SUBJECT, subject.as_bytes()),
            Self::Token(digest) => key(secret, scope, TOKEN, digest),
        }
    }
}

/// Bits of [`Revoked::kind`].
pub const ID: u64 = 1;
/// See [`ID`].
pub const SUBJECT: u64 = 2;
/// See [`ID`].
pub const TOKEN: u64 = 4;

/// The key under which something is revoked: a keyed hash, for tokens are made by others.
#[must_use]
pub fn key([low, high]: [u64; 2], scope: u64, kind: u64, what: &[u8]) -> u64 {
    let mut hasher = SipHasher13::new_with_keys(low, high);
    hasher.write_u64(scope);
    hasher.write_u64(kind);
    hasher.write(what);
    hasher.finish()
}

/// Reads a list: an entry a line, `#` begins a comment.
///
/// ```text
/// jti 4711-0815 until 2027-01-01T00:00:00Z
/// sub anna before 2026-11-24T10:00:00Z
/// token sha256:2bb8…
/// ```
///
/// `time` reads a time as seconds since the epoch.
///
/// # Errors
/// The first line that is none, with its number.
pub fn parse(text: &str, time: impl Fn(&str) -> Result<u64, String>) -> Result<Vec<Revocation>, String> {
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split_ascii_whitespace();
        let Some(kind) = words.next() else { continue };
        if found.len() == REVOCATIONS_MAX {
            return Err(format!("has more than {REVOCATIONS_MAX} entries"));
        }
        let entry = entry(kind, words, &time).map_err(|message| format!("line {}: {message}", number + 1))?;
        found.push(entry);
    }
    Ok(found)
}

fn entry<'l>(
    kind: &str,
    mut words: impl Iterator<Item = &'l str>,
    time: impl Fn(&str) -> Result<u64, String>,
) -> Result<Revocation, String> {
    const FORM: &str =
        "must be `jti ID`, `sub SUBJECT [before TIME]` or `token sha256:HASH`, each with `until TIME` or not";
    let value = words.next().ok_or(FORM)?;
    let (mut before, mut until) = (None, None);
    while let Some(word) = words.next() {
        let at = time(words.next().ok_or(FORM)?)?;
        let at = u32::try_from(at).map_err(|_| "the time is too far away".to_owned())?;
        let place = match word {
            "before" if kind == "sub" => &mut before,
            "until" => &mut until,
            _ => return Err(FORM.to_owned()),
        };
        if place.replace(at).is_some() {
            return Err(format!("`{word}` stands here twice"));
        }
    }
    let what = match kind {
        "jti" => Revoked::Id(value.to_owned()),
        "sub" => Revoked::Subject(value.to_owned(), before.unwrap_or(u32::MAX)),
        "token" => Revoked::Token(value.strip_prefix("sha256:").and_then(digest).ok_or(FORM)?),
        _ => return Err(FORM.to_owned()),
    };
    Ok(Revocation { what, until: until.unwrap_or(u32::MAX) })
}

/// The digest that is written as 64 hexadecimal digits.
#[must_use]
pub fn digest(text: &str) -> Option<[u8; 32]> {
    let mut digest = [0; 32];
    if text.len() != 64 {
        return None;
    }
    for (byte, pair) in digest.iter_mut().zip(text.as_bytes().as_chunks::<2>().0) {
        let [high, low] = pair.map(|digit| char::from(digit).to_digit(16));
        *byte = (high? << 4 | low?) as u8;
    }
    Some(digest)
}

/// The SHA-256 of a whole token.
#[must_use]
pub fn token_digest(token: &[u8]) -> [u8; 32] {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, token);
    digest.as_ref().try_into().unwrap_or([0; 32])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists() {
        let time = |text: &str| text.parse::<u64>().map_err(|_| format!("no time: {text}"));
        let read = |text: &str| parse(text, time);
        let hash = "00".repeat(31) + "fF";
        let mut digest = [0; 32];
        digest[31] = 255;
        assert_eq!(
            read(&format!(
                "# who left\n\njti a-1 until 9\nsub anna\r\n sub bob before 7 until 8 # why\ntoken sha256:{hash}\n"
            )),
            Ok(vec![
                Revocation { what: Revoked::Id("a-1".into()), until: 9 },
                Revocation { what: Revoked::Subject("anna".into(), u32::MAX), until: u32::MAX },
                Revocation { what: Revoked::Subject("bob".into(), 7), until: 8 },
                Revocation { what: Revoked::Token(digest), until: u32::MAX },
            ])
        );
        for (text, expected) in [
            ("jti", "line 1: must be `jti ID`"),
            ("\nkid x", "line 2: must be `jti ID`"),
            ("jti x before 7", "line 1: must be `jti ID`"),
            ("jti x until", "line 1: must be `jti ID`"),
            ("jti x until y", "line 1: no time: y"),
            ("jti x until 1 until 2", "line 1: `until` stands here twice"),
            ("jti x until 4294967296", "line 1: the time is too far away"),
            ("token abc", "line 1: must be `jti ID`"),
            ("token sha256:zz", "line 1: must be `jti ID`"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.starts_with(expected), "{text}: {error}");
        }
    }

    #[test]
    fn keys_tell_scopes_and_kinds_apart() {
        let keys = [
            key([1, 2], 1, ID, b"a"),
            key([1, 2], 2, ID, b"a"),
            key([1, 2], 1, SUBJECT, b"a"),
            key([1, 3], 1, ID, b"a"),
        ];
        assert!((0..4).all(|one| (0..one).all(|other| keys[one] != keys[other])));
        assert_eq!(Revoked::Id("a".into()).key([1, 2], 1), keys[0]);
        assert_eq!(Revoked::Subject("a".into(), 5).key([1, 2], 1), keys[2]);
    }
}
