//! Hashes of passwords as htpasswd files hold them: which are taken, and whether a password is the one.
//!
//! All but `{SHA}` are made to cost milliseconds, so nothing here is called where requests are decided.

use argon2::password_hash::PasswordVerifier;
use argon2::password_hash::phc;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// The highest cost of bcrypt that is taken: each step doubles the time, and 15 is over a second.
const BCRYPT_MAX: u32 = 15;
/// The most memory of argon2 that is taken, KiB, …
const ARGON2_MEMORY_MAX: u32 = 256 << 10;
/// … and the most work, passes times KiB.
const ARGON2_WORK_MAX: u64 = 4 << 20;
/// The most rounds of SHA-crypt that are taken.
const SHA_CRYPT_MAX: u32 = 1_000_000;

/// Checks that `text` is a hash of a kind that is taken, at a cost that is.
///
/// # Errors
///
/// What would be right.
pub fn check_hash(text: &str) -> Result<(), String> {
    const OTHERS: &str = "make it anew with `htpasswd -B` (bcrypt)";
    if let Some(rest) = ["$2a$", "$2b$", "$2y$"].iter().find_map(|prefix| text.strip_prefix(prefix)) {
        let broken = || "not a bcrypt hash".to_owned();
        let cost: u32 = rest.split('$').next().and_then(|cost| cost.parse().ok()).ok_or_else(broken)?;
        if text.len() != 60 || !rest.get(3..).is_some_and(is_crypt) {
            return Err(broken());
        }
        // Tells what the crate cannot read; a wrong password alone is `false`.
        match cost {
            4..=BCRYPT_MAX => text.parse::<bcrypt::HashParts>().map(drop).map_err(|_| broken()),
            _ => Err(format!("bcrypt's cost must be 4 to {BCRYPT_MAX}")),
        }
    } else if text.starts_with("$argon2") {
        check_argon2(text)
    } else if text.starts_with("$5$") || text.starts_with("$6$") {
        check_sha_crypt(text)
    } else if let Some(digest) = text.strip_prefix("{SHA}") {
        match STANDARD.decode(digest) {
            Ok(digest) if digest.len() == 20 => Ok(()),
            _ => Err("not a `{SHA}` hash".to_owned()),
        }
    } else if text.starts_with("$apr1$") || text.starts_with("$1$") {
        Err(format!("MD5-crypt (`$apr1$`, `$1$`) is not supported: {OTHERS}"))
    } else if text.starts_with('$') || text.starts_with('{') {
        Err(format!("a hash of an unknown kind: {OTHERS}"))
    } else if text.len() == 13 && is_crypt(text) {
        Err(format!("traditional DES crypt is not supported: {OTHERS}"))
    } else {
        Err(format!("neither a hash nor anything else that should stand here; plain text is not taken: {OTHERS}"))
    }
}

/// The letters of crypt(3).
fn is_crypt(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'/'))
}

fn check_argon2(text: &str) -> Result<(), String> {
    let broken = || "not an argon2 hash".to_owned();
    if !text.starts_with("$argon2id$") {
        return Err("of argon2 only `$argon2id$` is taken".to_owned());
    }
    let hash = phc::PasswordHash::new(text).map_err(|_| broken())?;
    let params = argon2::Params::try_from(&hash).map_err(|_| broken())?;
    if hash.salt.is_none() || hash.hash.is_none() {
        return Err(broken());
    }
    if params.m_cost() > ARGON2_MEMORY_MAX {
        return Err(format!("argon2's memory must be at most {ARGON2_MEMORY_MAX} KiB"));
    }
    if u64::from(params.m_cost()) * u64::from(params.t_cost()) > ARGON2_WORK_MAX {
        return Err(format!("argon2's memory times passes must be at most {ARGON2_WORK_MAX} KiB"));
    }
    Ok(())
}

fn check_sha_crypt(text: &str) -> Result<(), String> {
    let broken = || "not a SHA-crypt hash".to_owned();
    let length = if text.starts_with("$5$") { 43 } else { 86 };
    let mut fields = text.split('$').skip(2);
    let mut next = fields.next().ok_or_else(broken)?;
    if let Some(rounds) = next.strip_prefix("rounds=") {
        match rounds.parse::<u32>() {
            Ok(1_000..=SHA_CRYPT_MAX) => {}
            _ => return Err(format!("SHA-crypt's rounds must be 1000 to {SHA_CRYPT_MAX}")),
        }
        next = fields.next().ok_or_else(broken)?;
    }
    let (salt, digest) = (next, fields.next().ok_or_else(broken)?);
    let fits = (1..=16).contains(&salt.len()) && is_crypt(salt) && digest.len() == length && is_crypt(digest);
    if fits && fields.next().is_none() { Ok(()) } else { Err(broken()) }
}

/// What hashes of one kind and cost have in common.
#[must_use]
pub fn kind(hash: &str) -> &str {
    let length = match hash.as_bytes() {
        [b'$', b'2', ..] => 7,
        // `$argon2id$v=19$m=19456,t=2,p=1`.
        [b'$', b'a', ..] => hash.match_indices('$').nth(3).map_or(0, |(at, _)| at),
        [b'$', ..] if hash.contains("$rounds=") => hash.match_indices('$').nth(2).map_or(0, |(at, _)| at),
        [b'$', ..] => 3,
        _ => 5,
    };
    hash.get(..length).unwrap_or_default()
}

/// Whether `hash`, which [`check_hash`] has passed, is of `password`. This takes its time.
#[must_use]
pub fn verify_password(password: &[u8], hash: &str) -> bool {
    match hash.as_bytes() {
        [b'$', b'2', ..] => bcrypt::verify(password, hash).unwrap_or(false),
        [b'$', b'a', ..] => argon2::Argon2::default().verify_password(password, hash).is_ok(),
        [b'$', b'5' | b'6', ..] => sha_crypt::ShaCrypt::default().verify_password(password, hash).is_ok(),
        [b'{', ..] => {
            let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY, password);
            let kept = hash.strip_prefix("{SHA}").and_then(|text| STANDARD.decode(text).ok()).unwrap_or_default();
            aws_lc_rs::constant_time::verify_slices_are_equal(&kept, digest.as_ref()).is_ok()
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of the password `secret`, as crypt(3) and openssl made them.
    const HASHES: [&str; 7] = [
        "$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a",
        "$2a$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a",
        "$2b$05$k14ZE4SgZHpvc6KT0KiQx.d8ejNz10RI.8MBq34JQcDfgoVoiiyCG",
        "$5$saltsalt$0IyaXrmV7.sGNS6tirgqHLqX/G.FBvgkYA.lpPdS5sA",
        "$5$rounds=1000$saltsalt$eKLZU9t9OoPWrqOQsoTIKG0aYkZ5rGOoOQhiIvoSWX2",
        "$6$saltsalt$TVLlQcbpFVof5W3Yz4DTP6gRstiNuHwwTt6GLc1E5n0U0aDehy0S5knV8wiOQSpT0Y77vwPZN.Pq.H91p5hVO1",
        "{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=",
    ];

    #[test]
    fn every_kind_of_hash() {
        for hash in HASHES {
            assert_eq!(check_hash(hash), Ok(()), "{hash}");
            assert!(verify_password(b"secret", hash), "{hash}");
            for wrong in ["Secret", "secre", "secret ", ""] {
                assert!(!verify_password(wrong.as_bytes(), hash), "{wrong:?} for {hash}");
            }
        }
    }

    #[test]
    fn published_vectors() {
        for (password, hash) in [
            // SHA-crypt.txt of U. Drepper, "test vectors".
            ("Hello world!", "$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5"),
            (
                "Hello world!",
                "$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1",
            ),
            (
                "Hello world!",
                "$6$rounds=10000$saltstringsaltst$OW1/O6BYHV6BcXZu8QVeXbDWra3Oeqh0sbHbbMCVNSnCM/UrjmM0Dp8vOuZeHBy/YTBmSK6H9qs/y3RnOaw5v.",
            ),
            // crypt_blowfish's own tests.
            ("U*U", "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW"),
            ("", "$2a$05$CCCCCCCCCCCCCCCCCCCCC.7uG0VCzI2bS7j6ymqJi9CdcdxiRTWNy"),
            // The test of phc-winner-argon2.
            ("password", "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4"),
            // The manual of Apache's htpasswd: SHA-1 of "password".
            ("password", "{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g="),
        ] {
            assert_eq!(check_hash(hash), Ok(()), "{hash}");
            assert!(verify_password(password.as_bytes(), hash), "{password} for {hash}");
        }
    }

    #[test]
    fn what_is_no_hash() {
        let bcrypt = HASHES[0];
        let high = bcrypt.replacen("$05$", "$16$", 1);
        for (text, expected) in [
            ("$apr1$abcdefgh$0123456789012345678901", "MD5-crypt"),
            ("$1$abcdefgh$0123456789012345678901", "MD5-crypt"),
            ("rl3uoGJGSCNoE", "DES"),
            ("secret", "plain text"),
            ("", "plain text"),
            ("{SSHA}AAAA", "unknown kind"),
            ("$7$x", "unknown kind"),
            ("{SHA}AAAA", "not a `{SHA}` hash"),
            (&bcrypt[..59], "not a bcrypt hash"),
            ("$2y$xx$", "not a bcrypt hash"),
            (&high, "cost must be 4 to 15"),
            ("$argon2i$v=19$m=16,t=2,p=1$c2FsdHNhbHQ$GuZqo0OZ4XJSTQ4MUSl+eQ", "only `$argon2id$`"),
            ("$argon2id$v=19$m=16,t=2,p=1$c2FsdHNhbHQ", "not an argon2 hash"),
            ("$argon2id$v=19$m=1048576,t=2,p=1$c2FsdHNhbHQ$GuZqo0OZ4XJSTQ4MUSl+eQ", "memory must be at most"),
            ("$argon2id$v=19$m=262144,t=17,p=1$c2FsdHNhbHQ$GuZqo0OZ4XJSTQ4MUSl+eQ", "times passes"),
            ("$5$$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc8", "not a SHA-crypt hash"),
            ("$5$salt", "not a SHA-crypt hash"),
            ("$6$salt$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc8", "not a SHA-crypt hash"),
            ("$5$rounds=999999999$salt$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc8", "rounds must be"),
        ] {
            let error = check_hash(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
            assert!(text.is_empty() || !error.contains(text), "{error} shows what was written");
        }
    }

    #[test]
    fn kinds() {
        for (hash, expected) in [
            (HASHES[0], "$2y$05$"),
            ("$5$saltstring$x", "$5$"),
            ("$6$rounds=10000$saltstringsaltst$x", "$6$rounds=10000"),
            ("{SHA}x", "{SHA}"),
            ("$argon2id$v=19$m=16,t=2,p=1$c2FsdHNhbHQ$GuZqo0OZ", "$argon2id$v=19$m=16,t=2,p=1"),
        ] {
            assert_eq!(kind(hash), expected, "{hash}");
        }
    }
}
