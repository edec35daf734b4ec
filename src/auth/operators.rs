//! Tokens of those who may administer: a file of them, and whether one that is shown is among them.
//!
//! What is kept is the SHA-256 of each. A token that is shown is hashed and compared with all of them, each in constant
//! time, so that the time tells neither how much of it was right nor whose it nearly was.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};

use super::source::is_token;

/// The most tokens of a file.
pub const TOKENS_MAX: usize = 1_000;

/// The fewest bytes of a token: 16 random letters and digits are 95 bits.
pub const TOKEN_MIN: usize = 16;

/// Who may administer.
#[derive(Clone, Default)]
pub struct Operators(Vec<(String, [u8; 32])>);

impl std::fmt::Debug for Operators {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Operators({})", self.0.len())
    }
}

impl Operators {
    /// Reads a file of tokens, one a line: `TOKEN`, or `NAME TOKEN`; empty lines and those that begin with `#` are none.
    ///
    /// # Errors
    ///
    /// The line, and what would be right; never what stands there.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut all: Vec<(String, [u8; 32])> = Vec::new();
        for (number, line) in text.lines().enumerate().map(|(index, line)| (index + 1, line.trim())) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (name, token) = match line.split_once(char::is_whitespace) {
                Some((name, token)) => (name.to_owned(), token.trim_start()),
                None => (format!("line {number}"), line),
            };
            if token.contains(char::is_whitespace) {
                return Err(format!("line {number}: must be `TOKEN` or `NAME TOKEN`"));
            }
            if token.len() < TOKEN_MIN || !is_token(token.as_bytes()) {
                return Err(format!(
                    "line {number}: a token has at least {TOKEN_MIN} characters, letters, digits and -._~+/ (RFC 6750)"
                ));
            }
            if name.len() > 64 {
                return Err(format!("line {number}: a name has at most 64 bytes"));
            }
            if all.iter().any(|(other, _)| *other == name) {
                return Err(format!("line {number}: the name stands here twice"));
            }
            all.push((name, hashed(token.as_bytes())));
            if all.len() > TOKENS_MAX {
                return Err(format!("has more than {TOKENS_MAX} tokens"));
            }
        }
        if all.is_empty() {
            return Err("has no token".to_owned());
        }
        Ok(Self(all))
    }

    /// Whose `token` is; `None` = nobody's.
    #[must_use]
    pub fn find(&self, token: &[u8]) -> Option<&str> {
        let shown = hashed(token);
        let mut found = None;
        for (name, kept) in &self.0 {
            if verify_slices_are_equal(kept, &shown).is_ok() {
                found = Some(name.as_str());
            }
        }
        found
    }
}

fn hashed(token: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, token).as_ref());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files() {
        for (text, expected) in [
            ("", "has no token"),
            ("# nothing\n\n", "has no token"),
            ("short", "line 1: a token has at least 16 characters, letters, digits and -._~+/ (RFC 6750)"),
            (
                "\nann 0123456789abcdé",
                "line 2: a token has at least 16 characters, letters, digits and -._~+/ (RFC 6750)",
            ),
            ("ann 0123456789abcdef x", "line 1: must be `TOKEN` or `NAME TOKEN`"),
            ("a 0123456789abcdef\na 0123456789abcdeg", "line 2: the name stands here twice"),
        ] {
            let error = Operators::parse(text).unwrap_err();
            assert_eq!(error, expected);
            assert!(!error.contains("abcd"));
        }
    }

    #[test]
    fn tokens_are_found() {
        let all = Operators::parse("# ops\nann   0123456789abcdef\n\nfedcba9876543210\r\n").unwrap();
        for (token, expected) in [
            ("0123456789abcdef", Some("ann")),
            ("fedcba9876543210", Some("line 4")),
            ("0123456789abcdeF", None),
            ("0123456789abcde", None),
            ("", None),
            ("ann", None),
        ] {
            assert_eq!(all.find(token.as_bytes()), expected, "for {token}");
        }
        assert_eq!(format!("{all:?}"), "Operators(2)");
    }
}
