//! The three calls of a request from the outside, over a region on the heap with several workers.

#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "tests may")]

mod support;

#[path = "gateway/balancing.rs"]
mod balancing;
#[path = "gateway/dump.rs"]
mod dump;
#[path = "gateway/edits.rs"]
mod edits;
#[path = "gateway/entries.rs"]
mod entries;
#[path = "gateway/events.rs"]
mod events;
#[path = "gateway/explain.rs"]
mod explain;
#[path = "gateway/fallback.rs"]
mod fallback;
#[allow(dead_code, reason = "shared with tests/router.rs")]
#[path = "router/vectors.rs"]
mod files;
#[path = "gateway/identity.rs"]
mod identity;
#[path = "gateway/in_flight.rs"]
mod in_flight;
#[path = "gateway/limits.rs"]
mod limits;
#[path = "router/model.rs"]
mod model;
#[path = "gateway/outcomes.rs"]
mod outcomes;
#[path = "gateway/passwords.rs"]
mod passwords;
#[path = "gateway/revocation.rs"]
mod revocation;
#[path = "gateway/routing.rs"]
mod routing;
#[path = "gateway/terms.rs"]
mod terms;
#[path = "gateway/tries.rs"]
mod tries;
#[path = "gateway/vectors.rs"]
mod vectors;
#[path = "gateway/zone.rs"]
mod zone;

use gateway::gateway::{Decision, Peer, Reply, Ticket};
use gateway::types::Now;
use serde_json::{Value, json};
use support::{Gateway, SECRET};

/// A document with what most tests need, and `routes` and more top-level keys as given, in YAML.
fn document(rest: &str) -> String {
    format!(
        r#"version: 1
auth:
  - {{name: staff, jwt: {{issuer: "https://a", audience: api, keys: [{{alg: HS256, secret: "$env://SECRET"}}],
      claims: {{permissions: permissions, roles: roles, headers: {{X-User: sub}}}}}}}}
  - {{name: by-cookie, jwt: {{issuer: "https://b", audience: api, source: ["cookie:sid"],
      keys: [{{alg: HS256, secret: "$env://SECRET"}}]}}}}
  - {{name: maybe, optional: true, jwt: {{issuer: "https://a", audience: api,
      keys: [{{alg: HS256, secret: "$env://SECRET"}}], claims: {{permissions: permissions}}}}}}
{rest}"#
    )
}

fn sign(claims: &Value) -> String {
    let key = jsonwebtoken::EncodingKey::from_secret(SECRET.as_bytes());
    jsonwebtoken::encode(&jsonwebtoken::Header::default(), claims, &key).unwrap()
}

/// A token of issuer `https://a` for `sub`, with `more` claims.
fn token(sub: &str, more: Value) -> String {
    let mut claims = json!({"iss": "https://a", "aud": "api", "sub": sub, "exp": 4_000_000_000_u64});
    claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    sign(&claims)
}

fn reply(decision: Decision) -> Reply {
    match decision {
        Decision::Reply(reply) => reply,
        other => panic!("{other:?}"),
    }
}

/// The name of the peer that `worker` picks, or the code of the refusal.
fn pick(gateway: &mut Gateway, worker: usize, ticket: &mut Ticket, now: Now) -> String {
    let name = |peer: &Peer<'_>| peer.name.to_owned();
    gateway.workers[worker].pick(ticket, now, name).unwrap_or_else(|reply| reply.reason.code().to_owned())
}

/// The value of a line of the metrics text; 0 where there is none.
fn metric(text: &str, series: &str) -> f64 {
    text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok()).unwrap_or(0.0)
}
