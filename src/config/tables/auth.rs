use super::{ALGORITHM, CLAIM, DAY, GRANTED, NAME, POLICIES, PRIORITY, SOME_TEXT, field, needed};
use crate::config::auth::{check_fingerprint, check_san, check_source};
use crate::config::lists::check_file;
use crate::config::shape::Shape::{
    Bool, Duration, Headers, Jwk, Labels, List, Object, OnlyFalse, Secret, Secrets, Text,
};
use crate::config::shape::{Form, Resource, header};
use crate::config::{jwks, scalar};
use crate::types::SECOND;

/// A way to authenticate.
pub static AUTH: Resource = Resource {
    fields: &[
        needed("name", NAME),
        field("optional", Bool),
        field("jwt", Object(&JWT)),
        field("api_key", Object(&API_KEY)),
        field("basic", Object(&BASIC)),
        field("signature", Object(&super::SIGNATURE)),
        field("mtls", Object(&MTLS)),
    ],
    hints: &[
        ("key_auth", "our word is `api_key`"),
        ("key-auth", "our word is `api_key`"),
        ("jwt_auth", "our word is `jwt`"),
        ("jwt-auth", "our word is `jwt`"),
        ("basic_auth", "our word is `basic`"),
        ("basic-auth", "our word is `basic`"),
        ("hmac_auth", "our word is `signature`"),
        ("hmac-auth", "our word is `signature`"),
        ("anonymous", "write `optional: true`"),
        ("type", "the scheme is a field of its own: `jwt: {…}`"),
    ],
};

/// JSON Web Tokens.
pub static JWT: Resource = Resource {
    fields: &[
        field("issuer", SOME_TEXT),
        field("audience", SOME_TEXT),
        field("keys", List(&Object(&KEY), false)),
        field("jwks", Object(&JWKS)),
        field("algorithms", List(&ALGORITHM, false)),
        field("leeway", Duration { min: 0, max: DAY, step: SECOND }),
        field("require", List(&Text(&CLAIM), true)),
        field("max_lifetime", Duration { min: SECOND, max: 36_500 * DAY, step: SECOND }),
        field(
            "source",
            List(&Text(&Form { words: "`header`, `query:NAME` or `cookie:NAME`", check: check_source }), false),
        ),
        field("claims", Object(&CLAIMS)),
        field("revocation", Object(&REVOCATION)),
    ],
    hints: &[
        ("secret", "our word is `keys`, a list of `{kid, alg, secret}`"),
        ("key", "our word is `keys`, a list of `{kid, alg, secret}`"),
        ("public_key", "our word is `keys`, a list of `{kid, alg, pem}`"),
        ("algorithm", "each of `keys` has its `alg`"),
        ("iss", "our word is `issuer`"),
        ("aud", "our word is `audience`"),
        ("claims_to_verify", "our word is `require`"),
        ("key_claim_name", "our word is `claims: {consumer: …}`"),
        ("clock_skew", "our word is `leeway`"),
        ("lifetime_grace_period", "our word is `leeway`"),
        ("maximum_expiration", "our word is `max_lifetime`"),
        ("jwks_uri", "our word is `jwks`"),
    ],
};

/// What is revoked.
pub static REVOCATION: Resource = Resource {
    fields: &[field("file", Text(&Form { words: "an absolute path", check: check_file })), field("strict", OnlyFalse)],
    hints: &[("list", "our word is `file`")],
};

/// Where a set of keys comes from.
pub static JWKS: Resource = Resource {
    fields: &[
        field("url", Text(&Form { words: "a URL", check: jwks::check_url })),
        field("file", Text(&Form { words: "an absolute path", check: jwks::check_path })),
        field("ca", Text(&Form { words: "an absolute path", check: jwks::check_path })),
    ],
    hints: &[
        ("uri", "our word is `url`"),
        ("jwks_uri", "our word is `url`"),
        ("path", "our word is `file`"),
        ("cafile", "our word is `ca`"),
        ("keys", "keys written out are `keys` of the `jwt` entry"),
    ],
};

/// API keys.
pub static API_KEY: Resource = Resource {
    fields: &[
        field("header", Text(&Form { words: "the name of a header", check: header })),
        field("query", Text(&Form { words: "the name of a query parameter", check: token })),
        field("cookie", Text(&Form { words: "the name of a cookie", check: token })),
    ],
    hints: &[
        ("key_names", "our words are `header`, `query` and `cookie`, each with one name"),
        ("key_in_header", "our word is `header`"),
        ("key_in_query", "our word is `query`"),
        ("keys", "keys belong to `consumers`"),
        ("key", "keys belong to `consumers`"),
    ],
};

/// Users and passwords.
pub static BASIC: Resource = Resource {
    fields: &[field("file", SOME_TEXT), field("users", Labels)],
    hints: &[
        ("username", "users are `file`, an htpasswd file, or `users`"),
        ("password", "passwords stand nowhere in clear: `htpasswd -B` makes hashes"),
        ("user_file", "our word is `file`"),
        ("htpasswd", "our word is `file`"),
    ],
};

/// Certificates of clients.
pub static MTLS: Resource = Resource {
    fields: &[field("consumers", List(&Object(&CERTIFICATE), false))],
    hints: &[("ca", "nginx verifies certificates: `ssl_client_certificate` and `ssl_verify_client`")],
};

/// A certificate's consumer.
pub static CERTIFICATE: Resource = Resource {
    fields: &[
        field("subject", SOME_TEXT),
        field("san", Text(&Form { words: "a host name, `URI:…` or `email:…`", check: check_san })),
        field("fingerprint", Text(&Form { words: "`sha256:` and 64 hexadecimal digits", check: check_fingerprint })),
        needed("consumer", Text(&Form { words: "text", check: scalar::consumer })),
    ],
    hints: &[
        ("name", "our word is `consumer`"),
        ("dn", "our word is `subject`"),
        ("sha256", "our word is `fingerprint`"),
    ],
};

fn token(text: &str) -> Result<(), String> {
    match scalar::is_token(text) {
        true => Ok(()),
        false => Err("must be a name without blanks".to_owned()),
    }
}

/// A key of JSON Web Tokens.
pub static KEY: Resource = Resource {
    fields: &[
        field("kid", SOME_TEXT),
        field("alg", ALGORITHM),
        field("secret", Secret),
        field("pem", Secret),
        field("jwk", Jwk),
    ],
    hints: &[
        ("algorithm", "our word is `alg`"),
        ("id", "our word is `kid`"),
        ("keyid", "our word is `kid`"),
        ("public_key", "our word is `pem`"),
        ("key", "our words are `secret`, `pem` and `jwk`"),
    ],
};

/// What is taken from a token's claims.
pub static CLAIMS: Resource = Resource {
    fields: &[
        field("consumer", Text(&CLAIM)),
        field("permissions", Text(&CLAIM)),
        field("roles", Text(&CLAIM)),
        field("headers", Headers),
    ],
    hints: &[("groups", "our word is `roles`"), ("scope", "write `permissions: scope`")],
};

/// A consumer.
pub static CONSUMER: Resource = Resource {
    fields: &[
        needed("name", Text(&Form { words: "text", check: scalar::consumer })),
        field("api_key", Secrets),
        field("permissions", List(&Text(&GRANTED), true)),
        field("roles", List(&SOME_TEXT, true)),
        field("priority", PRIORITY),
        field("labels", Labels),
        field("enabled", Bool),
    ],
    hints: &[
        ("username", "our word is `name`"),
        ("custom_id", "our word is `name`"),
        ("id", "our word is `name`"),
        ("group", "groups are `roles`"),
        ("groups", "groups are `roles`"),
        ("group_id", "groups are `roles`"),
        ("consumer_groups", "groups are `roles`"),
        ("acls", "groups are `roles`"),
        ("plugins", POLICIES),
        ("key", "our word is `api_key`"),
        ("keyauth_credentials", "our word is `api_key`"),
        ("tags", "our word is `labels`"),
        ("desc", "our word is `labels`"),
    ],
};

/// A role.
pub static ROLE: Resource = Resource {
    fields: &[
        needed("name", Text(&Form { words: "text", check: scalar::consumer })),
        needed("permissions", List(&Text(&GRANTED), true)),
    ],
    hints: &[("id", "our word is `name`")],
};
