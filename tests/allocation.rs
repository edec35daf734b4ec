//! Nothing is allocated for a request after the first few, allowed or refused.

#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "tests may")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::hint::black_box;

mod support;

use base64::Engine;
use gateway::auth::Algorithm;
use gateway::auth::signature::{Signer, content_digest};
use gateway::gateway::{Decision, Entry, Outcome, Ticket, TryEnd};
use gateway::types::{Method, Now, SECOND};
use serde_json::json;
use support::{Fake, Gateway, SECRET, at};

const PEM: &str = include_str!("../src/auth/mtls/acme.pem");

struct Counting;

thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: the system's allocator does the work; counting touches a thread-local cell without a destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// 1,000 routes with everything: token, permission, two limits, breaker, three peers.
fn document() -> String {
    let mut text = String::from(
        r#"version: 1
auth:
  - {name: staff, jwt: {issuer: "https://a", audience: api, keys: [{alg: HS256, secret: "$env://SECRET"}],
      claims: {permissions: permissions, headers: {X-User: sub}}}}
  - {name: fetched, jwt: {issuer: "https://a", audience: api, jwks: {file: "JWKS"}}}
  - {name: unfetched, jwt: {issuer: "https://a", audience: api, jwks: {file: "/nowhere/jwks.json"}}}
  - {name: logins, basic: {file: /htpasswd}}
  - {name: devices, mtls: {consumers: [{subject: "CN=a", consumer: a}, {san: acme.example, consumer: named}, {subject: "CN=b", consumer: acme}]}}
  - {name: signed, signature: {keys: [{keyid: k, alg: hmac-sha256, secret: "$env://SECRET"}]}}
consumers: [{name: acme, permissions: ["orders:*"]}]
limiters:
  - {name: ip, key: [ip], rate: 1000000/s}
  - {name: user, key: [consumer, route], rate: 1000000/s}
  - {name: one, key: [global], rate: 1/h, burst: 1}
upstreams:
  - {name: u, nodes: [{host: 127.0.0.1, port: 1}, {host: 127.0.0.1, port: 2}, {host: 127.0.0.1, port: 3}],
     breaker: {failures: 10}}
  - {name: broken, nodes: [{host: 127.0.0.1, port: 4}], breaker: {failures: 1}}
lists: [{name: office, cidrs: [198.51.100.0/24, "2001:db8::/32"]}]
bans: [{cidr: 203.0.113.0/24, reason: x}]
routes:
  - {name: fetched, paths: ["/fetched"], auth: [fetched]}
  - {name: unfetched, paths: ["/unfetched"], auth: [unfetched]}
  - {name: limited, paths: ["/limited"], limits: [ip, one]}
  - {name: login, paths: ["/login"], auth: [devices, logins], limits: [user], upstream: u}
  - {name: broken, paths: ["/broken"], upstream: broken}
  - {name: signed, paths: ["/signed/*"], auth: [signed], upstream: u}
  - {name: stripped, paths: ["/strip/*"], strip_prefix: true, upstream: u}
  - {name: rewritten, paths: ["/rewrite/{a}/{b}"], rewrite: "/r/{b}/{a}", headers: {X-A: "{a}-{b}"}, upstream: u}
  - {name: found, paths: ["~^/v\\d+/x$"], upstream: u}
  - {name: asked, paths: ["/asked"], match: [{header: X-A, regex: "^a+$"}, {query: q, in: [a b, c]}, {cookie: d, equals: e, not: true}], upstream: u}
  - {name: told, paths: ["/told"], reply: {status: 404, body: {error: none}, headers: {X-B: c}}, cors: {origins: ["https://*.example"]}}
  - {name: moved, paths: ["/moved/{*rest}"], redirect: {to: "https://b.example/{rest}", status: 308}}
  - {name: kept, paths: ["/kept/*"], strip_prefix: true, upstream: u, auth: [staff], cache: {zone: z, ttl: 1m, key: {query: {deny: ["utm_*"]}, headers: [accept], cookies: [a]}, tags: [t]}}
  - {name: near, paths: ["/near"], allow: [192.0.2.0/28, office], deny: [192.0.2.9], path_policy: strict}
"#,
    );
    for n in 0..1_000 {
        text += &format!(
            "  - {{name: r{n}, paths: [\"/api/v1/service{n}/orders/{{id}}\"], methods: [GET], auth: [staff], \
             permissions: {{any: [\"orders:read\"]}}, limits: [ip, user], upstream: u}}\n"
        );
    }
    text
}

fn token(sub: &str, permissions: &str) -> String {
    named(sub, permissions, None)
}

fn named(sub: &str, permissions: &str, kid: Option<&str>) -> String {
    let claims = json!({
        "iss": "https://a", "aud": "api", "sub": sub, "exp": 4_000_000_000_u64, "permissions": permissions,
    });
    let key = jsonwebtoken::EncodingKey::from_secret(SECRET.as_bytes());
    let header = jsonwebtoken::Header { kid: kid.map(str::to_owned), ..jsonwebtoken::Header::default() };
    jsonwebtoken::encode(&header, &claims, &key).unwrap()
}

/// A request from its first to its last call.
fn run(gateway: &mut Gateway, request: &Fake, now: Now) -> &'static str {
    let mut ticket = Ticket::new();
    let worker = &mut gateway.workers[0];
    let mut decision = worker.access(request, Entry::First, now, &mut ticket);
    while let Decision::Ask(_) = decision {
        let answer = worker.question().unwrap().answer();
        worker.learn(answer, now);
        decision = worker.resume(answer, request, now, &mut ticket);
    }
    black_box(worker.forwarded_path());
    black_box(worker.forwarded_query());
    black_box(ticket.cache_key());
    black_box(worker.request_headers().count());
    black_box(worker.is_replaced(b"X-User"));
    black_box(worker.response_headers().count());
    let mut buffer = [0; 512];
    black_box(ticket.limit_headers(&mut buffer).count());
    let mut outcome = Outcome { status: 200, upstream_status: 200, aborted: false };
    let code = match decision {
        Decision::Forward => {
            if ticket.is_routed() {
                worker.pick(&mut ticket, now, |peer| black_box(peer.port)).unwrap();
                worker.tried(&mut ticket, TryEnd::Failed, now.plus(50));
                worker.pick(&mut ticket, now, |peer| black_box(peer.port)).ok();
                worker.answered(&mut ticket, now.plus(1_000));
                worker.tried(&mut ticket, TryEnd::Answered(200), now.plus(1_500));
            }
            "forward"
        }
        Decision::Reply(reply) => {
            outcome = Outcome { status: reply.reason.status(), ..Outcome::default() };
            reply.reason.code()
        }
        Decision::Respond(_) => {
            let (status, body) = worker.response();
            black_box(body);
            outcome = Outcome { status, ..Outcome::default() };
            "respond"
        }
        Decision::Ask(_) => "ask",
    };
    worker.complete(&mut ticket, &outcome, now.plus(1_500));
    code
}

#[test]
fn a_request_allocates_nothing_after_the_first_few() {
    let file = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("allocation-jwks.json");
    let secret = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(SECRET);
    let set = json!({"keys": [{"kty": "oct", "kid": "a", "alg": "HS256", "k": secret}]});
    std::fs::write(&file, set.to_string()).unwrap();
    let mut gateway = Gateway::new(&document().replace("JWKS", file.to_str().unwrap()), 1);
    gateway.leader.tick(at(0.0), &mut |_| {});
    let known = named("acme", "", Some("a"));
    let good = token("acme", "orders:read");
    let poor = token("anna", "a:b orders:write");
    let path = |n: usize| format!("/api/v1/service{n}/orders/4711?page=2");
    let long = Fake::get(&format!("/strip/{}", "a%20b/".repeat(100)));
    let decoded = Fake { path: format!("/strip/{}", "a b/".repeat(100)).into_bytes(), ..long };
    let mut cases: Vec<(Fake, &str)> =
        (0..1_000).step_by(37).map(|n| (Fake::get(&path(n)).bearer(&good), "forward")).collect();
    cases.extend([
        (Fake::get("/fetched").bearer(&known), "forward"),
        (Fake::get("/fetched").bearer(&named("acme", "", Some("b"))), "auth.key_unknown"),
        (Fake::get("/fetched").bearer(&format!("{}AAAA", &known[..known.len() - 4])), "auth.signature"),
        (Fake::get("/unfetched").bearer(&known), "auth.keys_unavailable"),
        (decoded, "forward"),
        (Fake::get(&path(1)).bearer(&poor), "permission.missing"),
        (Fake::get(&path(1)), "auth.missing"),
        (Fake::get(&path(1)).bearer("x.y.z"), "auth.malformed"),
        (Fake::get(&path(1)).bearer(&format!("{good}x")), "auth.signature"),
        (Fake::get(&path(1)).bearer(&token("acme", "orders:read").replace('.', "..")), "auth.malformed"),
        (Fake::get(&path(1)).method(Method::Put).bearer(&good), "route.method"),
        (Fake::get("/nowhere"), "route.none"),
        (Fake::get("/a/../b"), "path.refused"),
        (Fake::get("/").host("a b"), "request.malformed"),
        (Fake { path: b"/rewrite/a b/c".to_vec(), ..Fake::get("/rewrite/a%20b/c") }, "forward"),
        (Fake::get("/v22/x"), "forward"),
        (Fake::get("/asked?q=a+b").header("X-A", "aaa").header("Cookie", "d=f"), "forward"),
        (Fake::get("/asked?q=a+b").header("X-A", "aaab"), "route.none"),
        (Fake::get("/told").header("Origin", "https://a.example"), "respond"),
        (
            Fake::get("/told")
                .method(Method::Options)
                .header("Origin", "https://a.example")
                .header("Access-Control-Request-Method", "PUT"),
            "respond",
        ),
        (Fake::get("/moved/a/b"), "respond"),
        (Fake::get("/near"), "forward"),
        (Fake::get("/kept/x?b=%7e&a=1&utm_x=2&a=%2f").bearer(&good).header("cookie", "a=b"), "forward"),
        (Fake::get("/near").client(9), "access.denied"),
        (Fake::get("/near").client(99), "access.denied"),
        (Fake { client: "203.0.113.7".parse().unwrap(), ..Fake::get("/near") }, "access.banned"),
        (Fake::get("/login").basic("ann", "secret"), "forward"),
        (Fake::get("/login").basic("ann", "wrong"), "auth.password"),
        (Fake::get("/login").basic("nobody", "secret"), "auth.password"),
        (Fake::get("/login").basic("ann", "sec\0ret"), "auth.malformed"),
        (Fake { certificate: Some((Some("CN=b".into()), PEM)), ..Fake::get("/login") }, "forward"),
        (Fake { certificate: Some((None, "")), ..Fake::get("/login") }, "auth.certificate"),
        (Fake::get("/limited"), "limit.exceeded"),
        (Fake::get("/broken"), "breaker.open"),
    ]);
    // The bucket's one token goes, the breaker's one failure comes.
    run(&mut gateway, &Fake::get("/limited"), at(0.0));
    let (_, mut ticket) = gateway.access(0, &Fake::get("/broken"), at(0.0));
    let failed = Outcome { status: 502, upstream_status: 502, aborted: false };
    gateway.workers[0].complete(&mut ticket, &failed, at(0.0));
    // In rounds: a token that is kept takes the buffers of the one before along.
    for _ in 0..3 {
        for (request, _) in &cases {
            run(&mut gateway, request, at(0.0));
        }
    }
    let mut wrong = Vec::new();
    for (request, expected) in &cases {
        let before = COUNT.get();
        let code = run(&mut gateway, request, at(1.0));
        let count = COUNT.get() - before;
        if code != *expected || count != 0 {
            wrong.push(format!(
                "{} {code}, not {expected}: {count} allocations",
                String::from_utf8_lossy(&request.target)
            ));
        }
    }
    // A signature is good once, so each of these is another request.
    for n in 0..6 {
        let signer = Signer::new(Algorithm::Hs256, "k", SECRET.as_bytes()).unwrap();
        let request = Fake::get("/signed/a?b=c").header("content-digest", &content_digest(b""));
        let covered = ["@method", "@target-uri", "content-digest"];
        let (input, signature) = signer.sign(&request, &covered, at(1.0).wall / SECOND, &format!("n{n}")).unwrap();
        let request = request.header("signature-input", &input).header("signature", &signature);
        let before = COUNT.get();
        let code = run(&mut gateway, &request, at(1.0));
        let count = COUNT.get() - before;
        if code != "forward" || count != 0 && n >= 3 {
            wrong.push(format!("signed {code}: {count} allocations"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let before = COUNT.get();
    drop(black_box(vec![1]));
    assert_eq!(COUNT.get() - before, 1, "the counter counts");
}
