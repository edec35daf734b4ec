//! What each fuzz target asserts. `fuzz_targets/` hands these functions to libFuzzer, `tests/fuzz.rs` hands them the
//! corpus.
#![allow(dead_code, reason = "each target uses a part")]
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "tests may")]

#[path = "bucket.rs"]
mod buckets;
#[path = "cache_control.rs"]
mod caches;
#[path = "document.rs"]
mod documents;
#[path = "host.rs"]
mod hosts;
#[path = "../support/jwt.rs"]
mod jwt;
#[path = "jwks.rs"]
mod key_sets;
#[path = "log_line.rs"]
mod lines;
#[path = "../router/model.rs"]
mod model;
#[path = "path.rs"]
mod paths;
#[path = "permission.rs"]
mod permissions;
#[path = "router.rs"]
mod routers;
#[path = "signature.rs"]
mod signatures;
#[path = "jwt.rs"]
mod tokens;

/// A target: fails on an input by panicking.
pub type Target = fn(&[u8]);

/// Every target with its name, which is that of its folder of the corpus.
pub const TARGETS: [(&str, Target); 11] = [
    ("path", path),
    ("host", host),
    ("router", router),
    ("document", document),
    ("jwt", jwt),
    ("jwks", jwks),
    ("signature", signature),
    ("permission", permission),
    ("bucket", bucket),
    ("cache_control", cache_control),
    ("log_line", log_line),
];

/// A line of the log, read back.
pub fn log_line(data: &[u8]) {
    lines::run(data);
}

/// What an answer says of its being kept, and the one form of a query.
pub fn cache_control(data: &[u8]) {
    caches::run(data);
}

/// A request target through nginx, our checks and what is sent, to a lenient server.
pub fn path(data: &[u8]) {
    paths::run(data);
}

/// A `Host` header.
pub fn host(data: &[u8]) {
    hosts::run(data);
}

/// Edits of routes, and requests: the tree against the naive matcher and against a fresh tree.
pub fn router(data: &[u8]) {
    routers::run(data);
}

/// A document, raw or as edits of the example.
pub fn document(data: &[u8]) {
    documents::run(data);
}

/// A token, or a header and a payload that are signed.
pub fn jwt(data: &[u8]) {
    tokens::run(data);
}

/// A set of keys, raw or put together; `Cache-Control`.
pub fn jwks(data: &[u8]) {
    key_sets::run(data);
}

/// A request with a signature, and the same signed by us and changed.
pub fn signature(data: &[u8]) {
    signatures::run(data);
}

/// Names that are granted and required; a list of what is revoked.
pub fn permission(data: &[u8]) {
    permissions::run(data);
}

/// A token bucket: rate, burst, and charges on a clock that goes any way.
pub fn bucket(data: &[u8]) {
    buckets::run(data);
}
