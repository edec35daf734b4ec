//! What of a query is not for the log.

/// Names whose values are hidden wherever they stand, in lower case: what OAuth 2, cloud vendors' signed URLs and
/// usual applications call their secrets.
pub const NAMES: [&str; 32] = [
    "access_token",
    "api-key",
    "api_key",
    "apikey",
    "assertion",
    "auth",
    "authorization",
    "client_assertion",
    "client_secret",
    "code",
    "code_verifier",
    "credential",
    "credentials",
    "id_token",
    "jwt",
    "key",
    "pass",
    "passwd",
    "password",
    "pwd",
    "refresh_token",
    "secret",
    "session",
    "session_id",
    "sessionid",
    "sid",
    "sig",
    "signature",
    "token",
    "x-amz-credential",
    "x-amz-security-token",
    "x-amz-signature",
];

/// Whose values are hidden.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Redact {
    /// Everybody's.
    pub all: bool,
    /// In lower case, beside [`NAMES`].
    pub names: Vec<Box<[u8]>>,
}

impl Redact {
    /// Whether the value of the parameter `name`, as it stands in the query, is hidden. A name that is written with
    /// percent signs may be any.
    #[must_use]
    pub fn hides(&self, name: &[u8]) -> bool {
        self.all
            || name.contains(&b'%')
            || NAMES.iter().any(|known| name.eq_ignore_ascii_case(known.as_bytes()))
            || self.names.iter().any(|known| name.eq_ignore_ascii_case(known))
    }
}
