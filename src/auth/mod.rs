//! Authentication: who sends this request, and what may they do.
//!
//! A request's token is looked for ([`find_token`]), verified ([`Verifier`]) and read ([`Claims`]); what it grants is
//! held against what the route requires ([`allows`]). The key decides the algorithm and the policy decides which
//! claims there must be; the token only proves. Nothing here reads a clock, a file or a socket, and after the first
//! tokens nothing is allocated in Rust (the crypto library allocates inside RSA and ECDSA).

mod api_key;
mod base64url;
mod basic;
mod cache;
mod certificate;
mod claims;
mod crypto;
mod error;
mod grants;
mod header;
#[doc(hidden)]
pub mod json;
pub mod jwks;
mod key;
mod logins;
mod mtls;
mod operators;
mod password;
mod pem;
mod permission;
pub mod revocation;
mod settings;
pub mod signature;
mod source;
mod url;
mod verifier;

pub use api_key::{KEY_MAX, KEY_MIN, KeyDigest, digest, find_key};
pub use basic::{CREDENTIALS_MAX, Credentials, find_credentials};
pub use cache::{Found, TokenCache};
pub use certificate::{check_certificates, check_pair};
pub use claims::{Claims, List};
pub use crypto::verify_message;
pub use error::KeyError;
pub use grants::{ArchivedGrants, Grants};
pub use key::KeySet;
pub use logins::{Busy, LOGINS_MAX, Login, LoginAnswer, LoginQuestion, Logins};
pub use mtls::Certificates;
pub use operators::{Operators, TOKEN_MIN, TOKENS_MAX};
pub use password::{check_hash, kind, verify_password};
pub use permission::{ArchivedRequirement, PermissionError, Requirement, allows, check_granted, holds, matches};
pub use settings::{
    Algorithm, ApiKey, ArchivedAlgorithm, ArchivedApiKey, ArchivedAuth, ArchivedBasic, ArchivedJwks, ArchivedJwt,
    ArchivedKey, ArchivedKeySource, ArchivedMaterial, ArchivedMtls, ArchivedScheme, ArchivedSource, Auth, Basic,
    CertificateRule, Jwks, Jwt, Key, KeySource, Mark, Material, Mtls, SanKind, Scheme, Source,
};
pub use source::{Lookup, bearer, cookies, find_token, is_token, parameters, spells};
pub use url::Url;
pub use verifier::{TOKEN_MAX, Verifier};
