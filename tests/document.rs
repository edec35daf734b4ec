//! The published schema, the canonical form and the diff.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use gateway::config::{Document, Secrets, diff, parse, schema, to_value};
use serde_json::Value;

struct Fixed;

impl Secrets for Fixed {
    fn env(&self, _: &str) -> Option<String> {
        Some("kD83nf0sL2mZq9xVb4tYw7cRh1uEj6GaPp".to_owned())
    }

    fn file(&self, _: &str) -> Result<Vec<u8>, String> {
        Ok(b"10.0.0.0/8\n".to_vec())
    }
}

fn load(text: &str) -> Document {
    parse(text, "f", &Fixed).unwrap().document
}

fn read(path: &str) -> String {
    std::fs::read_to_string(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

const WIDE: &str = r#"
version: 1
defaults: {limits: [{key: [ip], rate: 10/s}], retries: {budget: 2.5%}}
auth: [{name: k, jwt: {keys: [{kid: a, jwk: {kty: OKP, crv: Ed25519, x: 11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwaaPJHURo0}}]}}]
roles: [{name: r, permissions: ["a:*"]}]
consumers: [{name: c, roles: [r], labels: {b: x, a: y}}]
lists: [{name: l, cidrs: [10.0.0.0/9, "::/0", 192.168.0.1, 192.168.0.2]}, {name: f, file: /x}]
bans: [{cidr: "::/0", until: "2026-12-31T23:59:59Z", reason: r}, {cidr: 10.0.0.1}, {cidr: "2001:db8::/32"}]
upstreams: [{name: u, nodes: [{host: a, port: 1, labels: {z: a}}], breaker: {window: 250ms, failure_ratio: 2.5%, slow_call: 1s, open_for_max: 1m, jitter: 5%}, timeouts: {read: 1500ms}, fallback: {upstream: w}, algorithm: p2c_ewma, slow_start: 5s, max_in_flight: 3,
   health: {passive: {failures: 2, window: 1500ms}}, outlier: {error_ratio: 12.5%, minimum_calls: 7}, max_ejection_percent: 0, overload: {mode: off, max: 7}},
  {name: v, nodes: [{host: a, port: 1}], algorithm: hash, hash_on: [cookie:Sid, "claim:org.id"]}, {name: w, nodes: [{host: b, port: 1}], fallback: {stale: true}}]
routes:
  - name: a
    hosts: [a.example, "*.b.example"]
    paths: ["/a/{id}", "/b/{id}/*"]
    methods: [GET, POST]
    match: [{header: X, in: [b, a], not: true}, {query: q, exists: false}, {cookie: c, regex: "^a"}]
    upstream: u
    auth: [k]
    permissions: {all: ["a:b"]}
    rewrite: "/x%25%7B/{id}"
    headers: {X-B: "b {id}", X-A: a}
    allow: [l, 10.0.0.3]
    deny: [0.0.0.0/0]
    path_policy: strict
    protocols: [http]
    fallback: {body: {b: 1}, headers: {X-A: b}}
    cors: {origins: ["https://a.example"], credentials: true, max_age: 0s}
    cache: {zone: api, ttl: {200: 5m, any: 1s}, key: {query: {allow: [q, "a_*"]}, headers: [X-L], cookies: [c], consumer: shared}, methods: [HEAD], stale_if_error: 1h, lock: 250ms, tags: [b, a]}
  - name: v
    paths: [/v]
    upstream: {nodes: [{host: b, port: 2}], timeouts: {send: 2s}}
    timeouts: {read: 7s}
    canary:
      variants: [{name: x, weight: 90}, {name: y, weight: 0, upstream: u}, {name: z, weight: 1, upstream: u, retries: {attempts: 3}}]
      overrides: {header: X-A, cookie: "c=d", users: [b, a]}
      key: "header:X-B"
  - name: w
    paths: [/w]
    upstream: u
    canary:
      variants: [{name: x, weight: 1}, {name: y}]
      promote: {steps: [0.25%, 5%, 50%], every: 1500ms, on_failure: hold, max_latency: 120%}
  - {name: b, paths: [/b], limits: [{key: [global], rate: 5/h, mode: shadow}], upstream: {nodes: [{host: "::1", port: 2}]}}
  - {name: e, paths: [/e], upstream: u, cache: {zone: api, ttl: 5m, stale_while_revalidate: 1s}}
  - {name: c, paths: [/c], limits: [], reply: {status: 418, headers: {X-A: b}, body: {b: 1, a: [2]}}}
  - {name: d, paths: ["/d/{*rest}"], redirect: {to: "https://x.example/{rest}"}, enabled: false, priority: -1}
"#;

#[test]
fn the_canonical_form_is_read_as_the_same_document() {
    let document = load(WIDE);
    let value = to_value(&document);
    let again = load(&value.to_string());
    assert_eq!(again, document, "{value:#}");
    assert_eq!(to_value(&again), value);
}

#[test]
fn secrets_are_not_shown() {
    let text = to_value(&load(&read("conf/gateway.yaml"))).to_string();
    assert!(text.contains("(set)") && !text.contains("kD83"), "{text}");
}

#[test]
fn the_published_schema_is_the_tables() {
    assert_eq!(read("conf/gateway.schema.json"), schema(), "run `make schema`");
}

/// YAML as JSON: what the parser made of it, in its canonical form with secrets put back as references.
fn json(text: &str) -> Value {
    let text = to_value(&load(text)).to_string().replace("(set)", "$env://X");
    serde_json::from_str(&text).unwrap()
}

#[test]
fn an_independent_validator_agrees() {
    let schema: Value = serde_json::from_str(&schema()).unwrap();
    jsonschema::meta::validate(&schema).unwrap();
    let validator = jsonschema::draft202012::new(&schema).unwrap();
    for text in [WIDE, &read("conf/gateway.yaml"), &read("conf/demo/gateway.yaml")] {
        let errors: Vec<String> = validator.iter_errors(&json(text)).map(|error| error.to_string()).collect();
        assert_eq!(errors, [""; 0]);
    }
    // What has another shape is refused by both.
    for text in [
        r#"{}"#,
        r#"{"version": 2}"#,
        r#"{"version": 1, "routse": []}"#,
        r#"{"version": 1, "routes": [{"paths": ["/a"]}]}"#,
        r#"{"version": 1, "routes": [{"name": "a", "paths": []}]}"#,
        r#"{"version": 1, "routes": [{"name": "a", "paths": ["a"]}]}"#,
        r#"{"version": 1, "routes": [{"name": "a", "paths": ["/a"], "priority": "1"}]}"#,
        r#"{"version": 1, "routes": [{"name": "a", "paths": ["/a"], "cache": {}}]}"#,
        r#"{"version": 1, "defaults": {"name": "a"}}"#,
        r#"{"version": 1, "limiters": [{"name": "a", "key": ["ip"], "rate": "10"}]}"#,
        r#"{"version": 1, "bans": [{"cidr": "x"}]}"#,
    ] {
        assert!(parse(text, "f", &Fixed).is_err(), "{text}");
        assert!(!validator.is_valid(&serde_json::from_str(text).unwrap()), "{text}");
    }
}

#[test]
fn differences() {
    let lines = |old: &str, new: &str| diff(&load(old), &load(new)).iter().map(ToString::to_string).collect::<Vec<_>>();
    let one = "version: 1\nroutes: [{name: a, paths: [/a]}, {name: b, paths: [/b]}]\nbans: [{cidr: 10.0.0.1}]";
    let other = "version: 1\nroutes: [{name: c, paths: [/c]}, {name: a, paths: [/x], priority: 1}]\nbans: [{cidr: 10.0.0.1, reason: r}]";
    assert_eq!(lines(one, one), [""; 0]);
    assert_eq!(
        lines(one, other),
        ["- routes b", "+ routes c", "~ routes a: paths, priority", "~ bans 10.0.0.1: reason"]
    );
}
