//! HTTP Basic authentication, RFC 7617: what a request brings, and whose password that may be.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::settings::ArchivedBasic;
use crate::types::{Header, Request};

/// The longest user, colon and password, bytes.
pub const CREDENTIALS_MAX: usize = 1_024;

/// What a look for a user and a password found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credentials<'b> {
    /// Both, as UTF-8 without control characters.
    Found {
        /// The user.
        user: &'b str,
        /// The password.
        password: &'b str,
    },
    /// Another scheme, or nothing.
    Absent,
    /// Something else under this scheme's name.
    Malformed,
}

/// Looks into `Authorization`; what is found stands in `buffer`.
#[inline]
pub fn find_credentials<'b>(request: &impl Request, buffer: &'b mut [u8; CREDENTIALS_MAX]) -> Credentials<'b> {
    match request.header(b"authorization") {
        Header::Absent => Credentials::Absent,
        Header::One(value) => credentials(value, buffer),
        Header::Many => Credentials::Malformed,
    }
}

fn credentials<'b>(value: &[u8], buffer: &'b mut [u8; CREDENTIALS_MAX]) -> Credentials<'b> {
    let text = match value.split_at_checked(5) {
        Some((scheme, [b' ', rest @ ..])) if scheme.eq_ignore_ascii_case(b"basic") => {
            let spaces = rest.iter().take_while(|byte| **byte == b' ').count();
            rest.get(spaces..).unwrap_or_default()
        }
        Some((scheme, [])) if scheme.eq_ignore_ascii_case(b"basic") => return Credentials::Malformed,
        _ => return Credentials::Absent,
    };
    read(text, buffer).map_or(Credentials::Malformed, |(user, password)| Credentials::Found { user, password })
}

/// The first colon ends the user (RFC 7617, 2), in whom there can be none.
fn read<'b>(text: &[u8], buffer: &'b mut [u8; CREDENTIALS_MAX]) -> Option<(&'b str, &'b str)> {
    // What is decoded has a third less: longer texts need not be decoded to be too long.
    if text.len() > CREDENTIALS_MAX.div_ceil(3) * 4 {
        return None;
    }
    let length = STANDARD.decode_slice(text, buffer).ok()?;
    let decoded = std::str::from_utf8(buffer.get(..length)?).ok()?;
    if decoded.chars().any(char::is_control) {
        return None;
    }
    decoded.split_once(':')
}

impl ArchivedBasic {
    /// The hash of `user`'s password. Of one that nobody has, the hash of somebody else's and `false`, so that it costs
    /// as much time to find out that it is not theirs.
    #[must_use]
    pub fn hash_of(&self, user: &str) -> (&str, bool) {
        match self.users.binary_search_by(|entry| entry.0.as_str().cmp(user)) {
            Ok(index) => (self.users.get(index).map_or("", |entry| entry.1.as_str()), true),
            Err(_) => (self.users.get(self.decoy.to_native() as usize).map_or("", |entry| entry.1.as_str()), false),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorization() {
        let encoded = |text: &[u8]| format!("Basic {}", STANDARD.encode(text));
        let long = |length: usize| [b"u:".as_slice(), &vec![b'x'; length - 2]].concat();
        let longest = String::from_utf8(long(CREDENTIALS_MAX)).unwrap();
        let found = |user, password| Credentials::Found { user, password };
        for (value, expected) in [
            // RFC 7617, 2 and 2.1.
            ("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==".to_owned(), found("Aladdin", "open sesame")),
            ("Basic dGVzdDoxMjPCow==".to_owned(), found("test", "123£")),
            ("bAsIc   YTpi".to_owned(), found("a", "b")),
            (encoded(b"a:b:c"), found("a", "b:c")),
            (encoded(b"a:"), found("a", "")),
            (encoded(b":b"), found("", "b")),
            (encoded(longest.as_bytes()), found("u", &longest[2..])),
            (encoded(&long(CREDENTIALS_MAX + 1)), Credentials::Malformed),
            (encoded(b"no colon"), Credentials::Malformed),
            (encoded(b"a:b\0"), Credentials::Malformed),
            (encoded(b"a\n:b"), Credentials::Malformed),
            (encoded("a:\u{85}".as_bytes()), Credentials::Malformed),
            (encoded(b"a:\xe9"), Credentials::Malformed),
            ("Basic".to_owned(), Credentials::Malformed),
            ("Basic ".to_owned(), Credentials::Malformed),
            ("Basic YTpi=".to_owned(), Credentials::Malformed),
            ("Basic YTpi YTpi".to_owned(), Credentials::Malformed),
            ("Basic YTpi,Basic YTpi".to_owned(), Credentials::Malformed),
            ("Basic YTpj\t".to_owned(), Credentials::Malformed),
            ("BasicYTpi".to_owned(), Credentials::Absent),
            ("Basics YTpi".to_owned(), Credentials::Absent),
            ("Bearer YTpi".to_owned(), Credentials::Absent),
            (String::new(), Credentials::Absent),
        ] {
            assert_eq!(credentials(value.as_bytes(), &mut [0; CREDENTIALS_MAX]), expected, "{value}");
        }
    }
}
