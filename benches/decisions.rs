//! What each decision costs: `cargo bench --bench decisions` prints nanoseconds, `benches/instructions` counts
//! instructions by running `-- count NAME` under callgrind.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod harness;
#[path = "../tests/support/jwt.rs"]
mod jwt;
#[path = "harness/record.rs"]
mod record;
#[path = "../tests/support/mod.rs"]
mod support;

use std::hint::black_box;
use std::sync::atomic::AtomicU64;

use gateway::auth::{Algorithm, Claims, Jwt, Key, Material, Requirement, Verifier, allows};
use gateway::balancer::{self, Member, PickTable, Policy, Rng, Seat, Tried};
use gateway::cache::{ArchivedQuery, Canonical, Field, KeyHasher, Query, canonical};
use gateway::canary::{self, Salt, Who, place, with_live};
use gateway::config::{self, Document};
use gateway::gateway::{Decision, Entry, Outcome, Route, Ticket, TryEnd, Worker, publish};
use gateway::limiter::Quota;
use gateway::log::redact::Redact;
use gateway::router::pattern::{Host, Path, Rule};
use gateway::state::tables::breaker;
use gateway::state::tables::peers::{Peers, WIDTH};
use gateway::state::tables::rate::RateTable;
use gateway::state::tables::shards::Shard;
use gateway::state::tables::slot::Slots;
use gateway::state::{Captures, HeapRegion, Identity, Reader, Writer};
use gateway::types::{Id, Method, Methods, Now, SECOND};
use harness::{Asked, Job, Listed, summary, timed};
use jwt::entry;
use record::ORDINARY;
use serde_json::json;
use support::{Fake, SECRET, TestSecrets, at};

const DECISIONS: [Listed; 21] = [
    ("static_route_1k", || route(1_000, "/api/v1/service77/orders"), 1_000),
    ("static_route_100k", || route(100_000, "/api/v1/service77/orders"), 1_000),
    ("param_route_1k", || route(1_000, "/api/v1/service77/items/4711"), 1_000),
    ("param_route_100k", || route(100_000, "/api/v1/service77/items/4711"), 1_000),
    ("bucket_hot", bucket, 1_000),
    ("pick_3", || pick(balancer::Algorithm::Adaptive, 3), 1_000),
    ("pick_10k", || pick(balancer::Algorithm::Adaptive, 10_000), 1_000),
    ("hs256_verify", hs256, 200),
    ("permission", permission, 1_000),
    ("breaker_allow_report", breaker_pair, 1_000),
    ("canary_choice", canary_choice, 1_000),
    ("metrics_of_a_request", metrics, 1_000),
    ("log_line", log_line, 1_000),
    ("access_open_route", || access("/api/v1/open"), 500),
    ("access_canary_route", || access("/api/v1/split"), 500),
    ("access_no_route", || access("/nowhere"), 500),
    ("full_chain", full_chain, 200),
    ("cache_key_10_sorted", || cache_key("a=1&b=2&c=3&d=4&e=5&f=6&g=7&h=8&i=9&j=10"), 1_000),
    (
        "cache_key_10_mixed",
        || cache_key("page=2&sort=name&q=shoes&size=42&color=red&brand=x&lang=de&from=0&to=99&id=7"),
        1_000,
    ),
    ("write_one_route_100k", write_one, 50),
    ("publish_one_change_100k", publish_one, 3),
];

/// Picks by the other algorithms: measured in time, not bound in instructions.
const PICKS: [Listed; 10] = [
    ("round_robin_3", || pick(balancer::Algorithm::RoundRobin, 3), 1_000),
    ("round_robin_10k", || pick(balancer::Algorithm::RoundRobin, 10_000), 1_000),
    ("least_conn_3", || pick(balancer::Algorithm::LeastConn, 3), 1_000),
    ("least_conn_10k", || pick(balancer::Algorithm::LeastConn, 10_000), 1_000),
    ("p2c_ewma_3", || pick(balancer::Algorithm::P2cEwma, 3), 1_000),
    ("p2c_ewma_10k", || pick(balancer::Algorithm::P2cEwma, 10_000), 1_000),
    ("hash_3", || pick(balancer::Algorithm::Hash, 3), 1_000),
    ("hash_10k", || pick(balancer::Algorithm::Hash, 10_000), 1_000),
    ("random_3", || pick(balancer::Algorithm::Random, 3), 1_000),
    ("random_10k", || pick(balancer::Algorithm::Random, 10_000), 1_000),
];

fn main() {
    if let Asked::Report(filter) = harness::answer(&DECISIONS) {
        report(filter.as_deref());
    }
}

fn report(filter: Option<&str>) {
    println!("{:<26} {:>12} {:>12}", "decision", "ns (best)", "ns (median)");
    for (name, prepare, calls) in DECISIONS.into_iter().chain(PICKS) {
        if filter.is_some_and(|filter| !name.contains(filter)) {
            continue;
        }
        let mut job = prepare();
        let rounds = if calls < 10 { calls } else { calls * 20 };
        let turn = |_| timed(rounds as usize, || (0..rounds).for_each(|_| job()));
        let (best, median) = summary((0..15).map(turn).collect());
        println!("{name:<26} {best:>12.1} {median:>12.1}");
    }
}

/// `count` routes, half of them exact, half with a parameter, and one that is open; three peers, a breaker, two limits.
fn document(count: usize) -> Document {
    let text = r#"
version: 1
auth:
  - {name: staff, jwt: {issuer: "https://a", audience: api, keys: [{alg: HS256, secret: "$env://SECRET"}],
      claims: {permissions: permissions, headers: {X-User: sub}}}}
limiters:
  - {name: ip, key: [ip], rate: 1000000/s}
  - {name: user, key: [consumer, route], rate: 1000000/s}
upstreams:
  - {name: u, nodes: [{host: 127.0.0.1, port: 1}, {host: 127.0.0.1, port: 2}, {host: 127.0.0.1, port: 3}],
     breaker: {failures: 10}}
routes:
  - {name: open, paths: ["/api/v1/open"], upstream: u}
  - {name: split, paths: ["/api/v1/split"], upstream: u,
     canary: {variants: [{name: stable, weight: 95}, {name: v2, weight: 5}], overrides: {header: "X-Canary: true", cookie: canary=true}}}
  - {name: r, paths: ["/x"], methods: [GET], auth: [staff], permissions: {any: ["orders:read"]}, limits: [ip, user],
     upstream: u}
"#;
    let mut document = config::parse(text, "bench.yaml", &TestSecrets).unwrap().document;
    let model = document.routes.pop().unwrap();
    for n in 0..count {
        let path = match n % 2 {
            1 => format!("/api/v1/service{n}/orders"),
            _ => format!("/api/v1/service{}/items/{{id}}", n + 1),
        };
        let mut route = model.clone();
        route.name = format!("route-{n}");
        route.rules = vec![Rule { host: Host::Any, path: Path::parse(&path).unwrap() }];
        document.routes.push(route);
    }
    document
}

/// A region with `count` routes; it stays for the life of the process.
fn region(count: usize) -> (&'static HeapRegion, Writer, Document) {
    let size = if count > 10_000 { 256 << 20 } else { 64 << 20 };
    let heap: &'static HeapRegion = Box::leak(Box::new(HeapRegion::new(size, [1, 2]).unwrap()));
    let mut writer = Writer::take(heap.region(), Identity::current()).unwrap().unwrap();
    let document = document(count);
    publish(heap.region(), &mut writer, &document, at(0.0)).unwrap();
    (heap, writer, document)
}

fn route(count: usize, path: &'static str) -> Job {
    let (heap, ..) = region(count);
    let reader = Reader::claim(heap.region(), Identity::current()).unwrap();
    let mut captures = Captures::new();
    Box::new(move || {
        let view = reader.enter().unwrap();
        let found =
            view.route(black_box(b"api.example"), black_box(path.as_bytes()), Method::Get, &mut captures, |_| true);
        black_box(found.found().unwrap().id());
    })
}

fn bucket() -> Job {
    let (heap, ..) = region(1);
    let rates = RateTable::new(heap.rate_words());
    let quota = Quota::new(1_000_000, SECOND, 1_000_000).unwrap();
    let mut now = 1_000 * SECOND;
    Box::new(move || {
        now += 3;
        let _ = black_box(rates.take(black_box(0x1234_5678_9abc), &quota, 1, now));
    })
}

fn pick(algorithm: balancer::Algorithm, count: u32) -> Job {
    let peers: &'static [AtomicU64] =
        (0..2 * WIDTH * count.max(64) as usize).map(|_| AtomicU64::new(0)).collect::<Vec<_>>().leak();
    let peers = Peers::new(peers);
    let policy = Policy { algorithm, ..Policy::default() };
    let seats: Vec<Seat> =
        (0..count).map(|n| Seat { weight: 1 + n % 3, priority: 0, slot: peers.claim(u64::from(n) + 1) }).collect();
    let names: Vec<String> = (0..count).map(|n| format!("10.0.{}.{}:80", n >> 8, n & 255)).collect();
    // A ring may weigh so much and no more.
    let node = |(server, place)| Member { server, weight: 1, priority: 0, first: place, count: 1 };
    let nodes: Vec<Member<'_>> = names.iter().map(String::as_str).zip(0..).map(node).collect();
    let words: &'static [AtomicU64] = PickTable::lay(policy, &seats, &nodes).leak();
    let table = PickTable::new(words, count).unwrap().under(policy);
    table.build(seats, &peers, at(0.0).mono);
    let (mut rng, mut key) = (Rng::new(7), 0_u32);
    Box::new(move || {
        key = key.wrapping_add(0x9e37_79b9);
        black_box(table.keyed(Some(key)).pick(&peers, &Tried::new(), &mut rng, at(0.0).mono)).unwrap();
    })
}

fn token() -> String {
    let claims = json!({
        "iss": "https://a", "aud": "api", "sub": "user-1234567", "exp": 4_102_444_800_u64, "iat": 1_767_225_000,
        "jti": "0f8fad5bd9cb", "permissions": ["items:read", "orders:read"],
    });
    let key = jsonwebtoken::EncodingKey::from_secret(SECRET.as_bytes());
    jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).unwrap()
}

fn hs256() -> Job {
    let key = Key { kid: None, algorithm: Algorithm::Hs256, material: Material::Secret(SECRET.as_bytes().to_vec()) };
    let jwt = Jwt {
        issuer: Some("https://a".into()),
        audience: Some("api".into()),
        leeway: 60,
        require: vec!["exp".into()],
        ..entry(vec![key])
    };
    let verifier = Verifier::from_settings(&jwt).unwrap();
    let (token, mut claims) = (token(), Claims::new());
    Box::new(move || verifier.verify(black_box(token.as_bytes()), at(0.0).wall, &mut claims).unwrap())
}

fn permission() -> Job {
    let requirement = Requirement { all: false, required: vec!["orders:read".into()] };
    let bytes: &'static [u8] = Box::leak(Box::new(rkyv::to_bytes::<rkyv::rancor::Error>(&requirement).unwrap()));
    let required = rkyv::access::<gateway::auth::ArchivedRequirement, rkyv::rancor::Error>(bytes).unwrap();
    Box::new(move || {
        let granted = ["items:read", "users:*:read", "orders:*"];
        assert!(allows(black_box(granted).into_iter(), black_box(required)));
    })
}

fn breaker_pair() -> Job {
    let (heap, ..) = region(1);
    let slots = Slots::new(heap.breaker_words(), breaker::WIDTH);
    let (_, slot) = slots.claim(99).unwrap();
    let settings = document(0).upstreams[0].breaker.unwrap();
    Box::new(move || {
        let permit = breaker::allow(slot, black_box(&settings), 1, at(0.0).mono).unwrap();
        black_box(breaker::report(slot, &settings, permit, true, at(0.0).mono));
    })
}

/// A known user between two variants, of which one is being promoted.
fn canary_choice() -> Job {
    let key = Salt::new("orders".to_owned()).key;
    Box::new(move || {
        let bucket = canary::bucket(black_box(key), Who::Name(black_box(b"user-1234567")));
        black_box(place(bucket, with_live([95, 5].into_iter(), black_box(2_500))));
    })
}

fn log_line() -> Job {
    let (mut clock, redact, mut out) = (gateway::log::Clock::default(), Redact::default(), Vec::new());
    Box::new(move || {
        black_box(&ORDINARY).write(&mut clock, &redact, &mut out);
        black_box(&out);
    })
}

fn metrics() -> Job {
    let (heap, ..) = region(1);
    let shard = Shard::new(heap.shard_words(40)).unwrap();
    let id = Id { slot: 5, birth: 1 };
    Box::new(move || {
        shard.connected();
        shard.upstream(black_box(77), 900);
        shard.disconnected();
        shard.request(black_box(id), Method::Get, 200, 1_000);
    })
}

fn access(path: &'static str) -> Job {
    let (heap, ..) = region(1_000);
    let mut worker = Worker::start(heap.region(), Identity::current(), [1, 2]).unwrap();
    let request = Fake::get(path);
    let mut ticket = Ticket::new();
    Box::new(move || {
        black_box(worker.access(black_box(&request), Entry::First, at(0.0), &mut ticket));
        worker.complete(&mut ticket, &Outcome { status: 404, ..Outcome::default() }, at(0.0));
    })
}

fn full_chain() -> Job {
    let (heap, ..) = region(1_000);
    let mut worker = Worker::start(heap.region(), Identity::current(), [1, 2]).unwrap();
    let request = Fake::get("/api/v1/service77/items/4711?page=2").bearer(&token());
    let mut now = at(0.0);
    Box::new(move || {
        now = now.plus(50);
        chain(&mut worker, black_box(&request), now);
    })
}

/// All calls of one request.
fn chain(worker: &mut Worker, request: &Fake, now: Now) {
    let mut ticket = Ticket::new();
    assert_eq!(worker.access(request, Entry::First, now, &mut ticket), Decision::Forward);
    black_box(worker.request_headers().count());
    worker.pick(&mut ticket, now, |peer| black_box(peer.port)).unwrap();
    worker.answered(&mut ticket, now.plus(900));
    worker.tried(&mut ticket, TryEnd::Answered(200), now.plus(1_000));
    worker.complete(&mut ticket, &Outcome { status: 200, upstream_status: 200, aborted: false }, now.plus(1_000));
}

fn write_one() -> Job {
    let (heap, mut writer, document) = region(100_000);
    let route = document.routes.last().unwrap();
    let (name, rules) = (route.name.clone(), route.rules.clone());
    let reader = Reader::claim(heap.region(), Identity::current()).unwrap();
    let mut value: Route = {
        let view = reader.enter().unwrap();
        let found = view.named::<Route>(&name).unwrap();
        rkyv::deserialize::<Route, rkyv::rancor::Error>(found.get()).unwrap()
    };
    let mut digest = 1;
    Box::new(move || {
        digest += 1;
        value.timeouts.read = digest;
        let mut change = writer.begin();
        change.put_route(&name, &value, digest, &rules, Methods::ANY, 0, 0).unwrap();
        black_box(change.commit());
    })
}

/// The key of a request with `query`: fields and digest as `access` has them, without a route's own choices.
fn cache_key(query: &'static str) -> Job {
    let all = rkyv::to_bytes::<rkyv::rancor::Error>(&Query::All).unwrap();
    let (mut out, mut scratch) = (Vec::with_capacity(4_096), Vec::new());
    Box::new(move || {
        let rule = rkyv::access::<ArchivedQuery, rkyv::rancor::Error>(&all).unwrap();
        out.clear();
        let form = match canonical(black_box(query.as_bytes()), rule, &mut out, &mut scratch) {
            Canonical::Written => &out,
            _ => query.as_bytes(),
        };
        let mut key = KeyHasher::new([1, 2], 7);
        key.field(Field::Scheme, b"https").field(Field::Host, b"api.example.com");
        key.field(Field::Authority, b"api.example.com").field(Field::Path, black_box(b"/api/v1/service77/orders"));
        key.field(Field::Query, form).generation(7, 1).generation(8, 1);
        black_box(key.finish());
    })
}

fn publish_one() -> Job {
    let (heap, mut writer, mut document) = region(100_000);
    Box::new(move || {
        let route = document.routes.last_mut().unwrap();
        route.timeouts.read += 1;
        let done = publish(heap.region(), &mut writer, &document, at(0.0)).unwrap();
        assert_eq!(done.written, 1);
    })
}
