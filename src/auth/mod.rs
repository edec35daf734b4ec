//! Authentication: who sends this request, and what may they do.
//!
//! A request's token is looked for ([`find_token`]), verified ([`Verifier`]) and read ([`Claims`]); what it grants is
//! held against what the route requires ([`allows`]). The key decides the algorithm and the policy decides which
//! claims there must be; the token only proves. Nothing here reads a clock, a file or a socket, and after the first
//! tokens nothing is allocated in Rust (the crypto library allocates inside RSA and ECDSA).

mod api_key;
mod base64url;
mod cache;
mod claims;
mod crypto;
mod error;
mod header;
#[doc(hidden)]
pub mod json;
mod key;
mod pem;
mod permission;
mod settings;
pub mod signature;
mod source;
mod verifier;

pub use api_key::{KEY_MAX, KEY_MIN, KeyDigest, digest, find_key};
pub use cache::{Found, TokenCache};
pub use claims::{Claims, List};
pub use crypto::verify_message;
pub use error::KeyError;
pub use key::KeySet;
pub use permission::{ArchivedRequirement, PermissionError, Requirement, allows, check_granted, matches};
pub use settings::{
    Algorithm, ApiKey, ArchivedAlgorithm, ArchivedApiKey, ArchivedAuth, ArchivedJwt, ArchivedKey, ArchivedKeySource,
    ArchivedMaterial, ArchivedScheme, ArchivedSource, Auth, Jwt, Key, KeySource, Material, Scheme, Source,
};
pub use source::{Lookup, bearer, cookies, find_token, is_token, parameters, spells};
pub use verifier::{TOKEN_MAX, Verifier};
