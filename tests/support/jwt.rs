//! What the tests and benches of tokens share.

use gateway::auth::{Jwt, Key, Source};

/// An entry that asks for nothing but a good signature by one of `keys`, in the `Authorization` header.
pub fn entry(keys: Vec<Key>) -> Jwt {
    Jwt {
        issuer: None,
        audience: None,
        keys,
        jwks: None,
        algorithms: Vec::new(),
        leeway: 0,
        require: Vec::new(),
        max_lifetime: 0,
        source: vec![Source::Header],
        consumer_claim: "sub".into(),
        permissions_claim: None,
        roles_claim: None,
        headers: Vec::new(),
        revocation_file: None,
    }
}
