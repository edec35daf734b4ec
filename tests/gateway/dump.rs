//! A document is written from the tree as it went in.

use gateway::config::{self, Document};
use gateway::gateway::dump;
use gateway::state::{Identity, Reader};

use crate::document;
use crate::support::{Gateway, TestSecrets, at};

fn live(gateway: &Gateway) -> Document {
    let reader = Reader::claim(gateway.heap.region(), Identity::current()).unwrap();
    let view = reader.enter().unwrap();
    dump(&view.tree()).unwrap()
}

/// Goes on with the list of `auth`.
const SIGNED: &str = r#"  - {name: signed, signature: {keys: [{keyid: k, alg: hmac-sha256, secret: "$env://SECRET", consumer: acme}],
      components: ["@method", "@path", x-a], max_age: 60s, leeway: 5s, required: [created, tag], fail_open: true}}
"#;

const DOCUMENT: &str = r#"  - {name: passwords, basic: {file: /htpasswd}}
  - {name: certificates, mtls: {consumers: [{subject: "CN=a", consumer: a}, {san: "URI:spiffe://a", consumer: b}, {fingerprint: "sha256:0aef3ae9bdb91ee7b9aa37cf2ecbf58deea875b8fb87e6ae6efe4eabcacdf5ef", consumer: c}]}}
roles: [{name: reader, permissions: ["orders:read"]}]
consumers: [{name: acme, api_key: ["$env://SECRET", a-key-that-is-long-enough], roles: [reader], permissions: ["a:*"], priority: 3, labels: {tier: gold}}, {name: gone, enabled: false}]
lists: [{name: office, cidrs: [198.51.100.0/24, 10.0.0.1, "2001:db8::/32"]}]
bans: [{cidr: 203.0.113.0/24, reason: x}, {cidr: 203.0.114.7, until: "2030-01-01T00:00:00Z"}]
limiters: [{name: ip, key: [ip], rate: 10/s, burst: 20}, {name: user, key: [consumer, "path:id"], rate: 5/m, burst: 3, cost: 2, headers: both, mode: shadow},
  {name: guesses, key: [ip], rate: 5/m, burst: 3, on: auth_failure}, {name: used, key: [global], rate: 5/m, burst: 3, on: response, cost: "header:x-used", statuses: [200, 404]}]
upstreams:
  - {name: u, host: u.example, nodes: [{host: 127.0.0.1, port: 1, weight: 3, labels: {zone: a}}, {host: nobody.invalid, port: 2, priority: 1}],
     breaker: {failures: 3, failure_ratio: 12.5%, minimum_calls: 7, slow_call: 1500ms, open_for_max: 2m, jitter: 10%}, retries: {attempts: 3, on: [error, http_503], budget: 12.5%, per_try_timeout: 1s}, timeouts: {connect: 250ms}, fallback: {upstream: v}}
  - {name: v, nodes: [{host: "::1", port: 1}], algorithm: hash, hash_on: ["header:x-user", ip], max_in_flight: 7, tls: {sni: v.example, min_version: TLSv1.3}, fallback: {stale: true}}
  - {name: w, nodes: [{host: "::1", port: 3}], algorithm: least_conn, slow_start: 30s}
routes:
  - {name: a, hosts: [a.example, "*.b.example"], paths: ["/a", "/a/*", "/u/{id}/*", "/f/{*rest}", '~^/v\d+'], methods: [GET, PUT], priority: 7, upstream: u,
     canary: {variants: [{name: stable, weight: 9, timeouts: {send: 4s}}, {name: v2, weight: 1, upstream: v, fallback: {stale: true}, retries: {attempts: 1}}], key: "cookie:sid",
       overrides: {header: "X-Canary: true", cookie: c, users: [b, a], permission: "a:b"}, salt: s, mirror: {upstream: w, percent: 0.25%}},
     auth: [staff], permissions: {all: ["a:b", "c:d"]}, limits: [ip], max_in_flight: 12, strip_prefix: true, protocols: [http], labels: {team: x}, timeouts: {read: 5s}, fallback: {status: 200, headers: {X-A: b}, body: {a: 1}}}
  - {name: b, paths: ["/b/{id}/{what}"], upstream: v, rewrite: "/x/{what}/%25/{id}", headers: {X-Id: "{id}", X-Fixed: y}, max_body: 10m, location: "@b", limits: [ip, user], auth: [staff],
     match: [{header: X-A, equals: b}, {query: q, in: [x, y]}, {cookie: c, regex: "^d", not: true}, {header: X-E, exists: false}],
     cors: {origins: ["https://*.app.example"], methods: [GET], headers: [X-B], expose: [X-C], credentials: true, max_age: 5m}}
  - {name: p, paths: ["/p"], upstream: u, canary: {variants: [{name: stable, weight: 9}, {name: v2, upstream: v}], promote: {steps: [1%, 10%], every: 1m}}}
  - {name: c, paths: ["/c"], reply: {status: 404, headers: {X-A: b}, body: {error: none}}, allow: [office, 192.0.2.0/28], deny: [192.0.2.3], path_policy: strict}
  - {name: d, paths: ["/d/{*rest}"], redirect: {to: "/e/{rest}?x=y", status: 308}}
  - {name: e, hosts: [e.example]}
"#;

#[test]
fn what_went_in_comes_out() {
    let idp = "auth:\n  - {name: idp, jwt: {issuer: i, audience: a, algorithms: [ES256], jwks: {url: https://i.example/jwks, ca: /ca.pem}}}\n\
        \x20 - {name: own, jwt: {issuer: i, audience: a, jwks: {file: /etc/jwks.json}}}\n";
    let text = document(&format!("{SIGNED}{DOCUMENT}")).replacen("auth:\n", idp, 1);
    assert!(text.contains("/etc/jwks.json"));
    let gateway = Gateway::new(&text, 1);
    let read = config::parse(&text, "f", &TestSecrets).unwrap().document;
    let dumped = live(&gateway);
    assert_eq!(config::diff(&read, &dumped), []);
    assert_eq!(dumped, read);
}

#[test]
fn what_comes_out_changes_nothing_when_it_goes_in_again() {
    let text = document(
        r#"
bans: [{cidr: 203.0.113.0/24, reason: x, until: "2030-01-01T00:00:00Z"}, {cidr: 203.0.113.7}]
limiters: [{name: ip, key: [ip], rate: 10/s}, {name: user, key: [consumer], rate: 5/m}]
routes:
  - {name: late-first, paths: ["/a/{x}", "/a/{y}"], limits: [user, ip], auth: [staff]}
  - {name: off, paths: ["/b"], enabled: false}
"#,
    );
    let mut gateway = Gateway::new(&text, 1);
    for round in 0..2 {
        let dumped = live(&gateway);
        assert_eq!(dumped.routes.len(), 1);
        let done = gateway.leader.publish(&dumped, at(1.0)).unwrap();
        // The first time what was written in another way: one path twice, limits in another order, bans that overlap.
        assert_eq!((done.written, done.removed), (if round == 0 { 2 } else { 0 }, 0));
    }
}
