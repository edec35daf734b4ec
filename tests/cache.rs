//! The cache as requests meet it: which of them are one, what a purge takes, and that an open breaker does not stand
//! between a request and what is kept.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "tests may")]

#[allow(dead_code, reason = "shared with tests/router.rs")]
#[path = "router/vectors.rs"]
mod files;
mod support;

use gateway::cache::control::{Answer, Asker, Verdict};
use gateway::cache::{ArchivedCache, Cache, PARAMETERS_MAX};
use gateway::config;
use gateway::gateway::{Decision, Entry, Notes, Outcome, Purge, Step, Ticket, TryEnd, dump};
use gateway::state::{Identity, Reader};
use gateway::types::{Method, Reason};
use proptest::prelude::*;
use serde_json::Value;
use support::{Fake, Gateway, TestSecrets, at};

const DOCUMENT: &str = r#"version: 1
auth:
  - {name: p, jwt: {issuer: i, audience: a, keys: [{alg: HS256, secret: "$env://SECRET"}], claims: {headers: {X-T: t}}}}
  - {name: k, optional: true, api_key: {header: X-Key}}
consumers: [{name: ann, api_key: "key-of-ann-0123456789"}, {name: bob, api_key: "key-of-bob-0123456789"}]
upstreams: [{name: u, nodes: [{host: 127.0.0.1, port: 1}], breaker: {failures: 1}}]
routes:
  - {name: none, paths: ["/none/*"], upstream: u}
  - {name: c, paths: ["/c/*", "/c", "/me/*"], upstream: u, cache: {zone: z, ttl: 5m}}
  - {name: v, paths: ["/v/*"], upstream: u, cache: {zone: z, key: {headers: [X-Api-Version], cookies: [a, b]}}}
  - {name: q, paths: ["/q/*"], upstream: u, cache: {zone: z, key: {query: {deny: ["utm_*"]}}}}
  - {name: s, paths: ["/s/*"], upstream: u, strip_prefix: true, cache: {zone: z, tags: [one, two]}}
  - {name: t, paths: ["/t/*"], upstream: u, cache: {zone: z, tags: [two], methods: [GET], lock: 1500ms}}
  - {name: known, paths: ["/known/*"], upstream: u, auth: [k], cache: {zone: z, ttl: 1s}}
  - {name: shared, paths: ["/shared/*"], upstream: u, auth: [k], cache: {zone: z, key: {consumer: shared}}}
"#;

fn gateway() -> Gateway {
    Gateway::new(DOCUMENT, 1)
}

fn ticket(gateway: &mut Gateway, request: &Fake) -> Ticket {
    let (decision, ticket) = gateway.access(0, request, at(0.0));
    assert_eq!(decision, Decision::Forward, "{:?}", String::from_utf8_lossy(&request.target));
    ticket
}

/// The key of a request; `None` where it is not for the cache.
fn key(gateway: &mut Gateway, request: &Fake) -> Option<[u8; 32]> {
    ticket(gateway, request).cache_key()
}

/// The path and the query that are sent on.
fn sent(gateway: &mut Gateway, request: &Fake) -> (Vec<u8>, Vec<u8>) {
    key(gateway, request);
    let worker = &gateway.workers[0];
    let path = worker.forwarded_path().unwrap_or(&request.path).to_vec();
    (path, worker.forwarded_query().unwrap_or(&request.query).to_vec())
}

#[test]
fn vectors() {
    let mut gateway = gateway();
    let file = files::own("cache_key_cases.json");
    let side = |case: &Value, name: &str| {
        let side = &case[name];
        let target = side["target"].as_str().unwrap();
        let mut request = Fake::get(target).method(Method::parse(side["method"].as_str().unwrap().as_bytes()));
        // As nginx resolves it.
        request.path = String::from_utf8(request.path).unwrap().replace("/./", "/").replace("%2f", "/").into_bytes();
        for header in side["headers"].as_array().unwrap() {
            let (name, value) = (header[0].as_str().unwrap(), header[1].as_str().unwrap());
            match name {
                "X-Scheme" => request.scheme = if value == "http" { "http" } else { "https" },
                "Host" => request = request.host(value).header("host", value),
                name => request = request.header(name, value),
            }
        }
        request
    };
    let cache = config::parse(DOCUMENT, "f", &TestSecrets).unwrap().document.routes[1].cache.clone().unwrap();
    let no_ttl = Cache { ttl: Vec::new(), ..cache };
    let mut seen = 0;
    for case in file["cases"].as_array().unwrap() {
        let (name, expect) = (case["name"].as_str().unwrap(), case["expect"].as_str().unwrap());
        let (mut a, mut b) = (side(case, "a"), side(case, "b"));
        if name == "version header" {
            for request in [&mut a, &mut b] {
                *request = Fake { headers: request.headers.clone(), ..Fake::get("/v/c?x=1") };
            }
        }
        if name == "key concat collision" {
            // Not a request that comes through; the parts are what they are all the same.
            b.path = b"/c/c".to_vec();
            b.target = b"/c/c?x=1".to_vec();
        }
        let keys = [&a, &b].map(|request| match gateway.access(0, request, at(0.0)) {
            (Decision::Forward, ticket) => ticket.cache_key(),
            _ => None,
        });
        let same = keys[0].is_some() && keys[0] == keys[1];
        // `Vary` is the server's: it keeps answers of one key apart.
        let varies = name.starts_with("Vary");
        let told = &case["response_headers"];
        let mut answer = Answer { status: 200, ..Answer::default() };
        for (name, value) in told.as_object().unwrap() {
            match name.as_str() {
                "status" => answer.status = value.as_str().unwrap().parse().unwrap(),
                name => answer.line(name.to_ascii_lowercase().as_bytes(), value.as_str().unwrap().as_bytes()),
            }
        }
        let authorization = a.headers.iter().any(|(name, _)| name == "authorization");
        let verdict = with(&no_ttl, |cache| answer.verdict(Asker { authorization, known: false }, cache));
        let kept = matches!(verdict, Verdict::Keep { .. });
        let right = match expect {
            "hit" | "same_as_route" => same && kept,
            "miss" | "not_equal" | "not_poisoned" => !same || varies,
            "never" | "miss_or_never" => !(same && kept),
            "error_not_cached" | "revalidate_or_never" => !kept,
            // One entry, which is always the whole answer to a GET: how the server fills it is tested there.
            "not_from_head" | "no_partial_as_full" => same && kept,
            "either" | "either_no_panic" => true,
            other => panic!("{other}"),
        };
        assert!(right, "{name}: {expect}, keys {keys:?}, {verdict:?}");
        seen += 1;
    }
    assert_eq!(seen, 26);
}

fn with<T>(cache: &Cache, look: impl FnOnce(&ArchivedCache) -> T) -> T {
    let bytes = rkyv::to_bytes::<rkyv::rancor::Error>(cache).unwrap();
    look(rkyv::access::<ArchivedCache, rkyv::rancor::Error>(&bytes).unwrap())
}

#[test]
fn what_is_in_a_key() {
    let mut gateway = gateway();
    let get = Fake::get;
    let long = format!("/c/1?{}", (0..=PARAMETERS_MAX).map(|n| format!("a{n}=1")).collect::<Vec<_>>().join("&"));
    for (one, other, same) in [
        (get("/c/1?a=1&b=2"), get("/c/1?b=2&a=1"), true),
        (get("/c/1"), get("/c/1?"), true),
        (get("/c/1"), get("/c/1").method(Method::Head), true),
        (get("/c/1"), get("/c/2"), false),
        (get("/c/1"), get("/c/1").host("other.example"), false),
        (get("/c/1"), get("/c/1").host("GW.example."), false),
        (get("/c/1"), get("/c/1").header("host", "gw.example:81"), false),
        (get("/c/1"), Fake { scheme: "http", ..get("/c/1") }, false),
        (get("/c/1"), get("/me/1"), false),
        (get("/c/1"), get("/c/1").header("x-forwarded-prefix", "/x"), false),
        (get("/c/1"), get("/c/1").header("forwarded", "host=evil"), false),
        (get("/c/1"), get("/c/1").header("accept", "x"), true),
        (get("/c/1").header("authorization", "A"), get("/c/1").header("authorization", "B"), false),
        (get("/c/1").header("authorization", "A"), get("/c/1"), false),
        (get("/v/1").header("x-api-version", "1"), get("/v/1").header("x-api-version", "2"), false),
        (get("/v/1").header("x-api-version", ""), get("/v/1"), false),
        (get("/v/1").header("cookie", "a=1; b=2"), get("/v/1").header("cookie", "b=2;a=1"), true),
        (get("/v/1").header("cookie", "a=1"), get("/v/1").header("cookie", "b=1"), false),
        (get("/q/1?utm_a=1&a=1"), get("/q/1?a=1"), true),
        (
            get("/known/1").header("x-key", "key-of-ann-0123456789"),
            get("/known/1").header("x-key", "key-of-bob-0123456789"),
            false,
        ),
        (get("/known/1").header("x-key", "key-of-ann-0123456789"), get("/known/1"), false),
        (
            get("/shared/1").header("x-key", "key-of-ann-0123456789"),
            get("/shared/1").header("x-key", "key-of-bob-0123456789"),
            true,
        ),
        (
            get("/shared/1").header("x-key", "key-of-ann-0123456789"),
            get("/shared/1").header("authorization", "A"),
            true,
        ),
        (get("/s/1"), Fake { target: b"/s/%31".to_vec(), ..get("/s/1") }, true),
        (get("/c/1"), Fake { target: b"/c/%31".to_vec(), ..get("/c/1") }, false),
        (get("/c/1"), Fake { target: b"/c/x/../1".to_vec(), ..get("/c/1") }, true),
    ] {
        let keys = (key(&mut gateway, &one), key(&mut gateway, &other));
        assert!(keys.0.is_some() && keys.1.is_some());
        assert_eq!(keys.0 == keys.1, same, "{:?} {:?}", one.headers, String::from_utf8_lossy(&other.target));
    }
    for off in [
        get("/none/1"),
        get("/c/1").method(Method::Post),
        get("/t/1").method(Method::Head),
        get("/c/1").header("content-length", "1"),
        get("/c/1").header("transfer-encoding", "chunked"),
        Fake { protocol: gateway::types::Protocol::WebSocket, ..get("/c/1") },
        get(&long),
        get("/c/1").host(&"a.".repeat(120)).header("host", &"a".repeat(300)),
    ] {
        assert_eq!(key(&mut gateway, &off), None, "{:?}", off.headers);
    }
    assert!(key(&mut gateway, &get("/c/1").header("content-length", "0")).is_some());
    assert_eq!(sent(&mut gateway, &get("/q/1?b=1&utm_x=2&a=1")), (b"/q/1".to_vec(), b"a=1&b=1".to_vec()));
    assert_eq!(sent(&mut gateway, &get("/none/1?b=1&a=1")), (b"/none/1".to_vec(), b"b=1&a=1".to_vec()));
    assert_eq!(sent(&mut gateway, &get("/q/1?utm_x=2")), (b"/q/1".to_vec(), Vec::new()));
}

#[test]
fn a_subrequest_is_nobody_in_particular() {
    let mut gateway = gateway();
    let now = at(0.0);
    let request = Fake::get("/known/1").header("x-key", "key-of-ann-0123456789");
    let main = ticket(&mut gateway, &request);
    let mut enter = |request: &Fake| {
        let mut ticket = Ticket::new();
        let decision = gateway.workers[0].access(request, Entry::Subrequest(main.passed()), now, &mut ticket);
        (decision, ticket.is_cached())
    };
    assert_eq!(enter(&request), (Decision::Forward, false), "let in, and not for the cache");
    assert_eq!(enter(&Fake::get("/c/1")), (Decision::Forward, true), "where all may go, it is");
}

#[test]
fn variants_have_entries_of_their_own() {
    let text = DOCUMENT.replace(
        "name: v, paths: [\"/v/*\"], upstream: u,",
        "name: v, paths: [\"/v/*\"], upstream: u, canary: {key: ip, variants: [{name: one, weight: 1}, {name: two, weight: 1}], \
         overrides: {header: X-Variant}},",
    );
    assert_ne!(text, DOCUMENT);
    let mut gateway = Gateway::new(&text, 1);
    let mut of = |variant: &str| key(&mut gateway, &Fake::get("/v/1").header("x-variant", variant)).unwrap();
    let (one, two) = (of("one"), of("two"));
    assert_ne!(one, two);
    assert_eq!((of("one"), of("two")), (one, two));
}

#[test]
fn tokens_of_one_caller_share_and_identities_do_not() {
    let text = DOCUMENT.replace("auth: [k], cache: {zone: z, ttl: 1s}", "auth: [p], cache: {zone: z, ttl: 1s}");
    let mut gateway = Gateway::new(&text, 1);
    let token = |sub: &str, tenant: &str, id: &str| {
        let claims =
            serde_json::json!({"iss": "i", "aud": "a", "sub": sub, "t": tenant, "jti": id, "exp": 4_000_000_000_u64});
        let key = jsonwebtoken::EncodingKey::from_secret(support::SECRET.as_bytes());
        let token = jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).unwrap();
        Fake::get("/known/1").bearer(&token)
    };
    let first = key(&mut gateway, &token("ann", "t1", "1")).unwrap();
    assert_eq!(key(&mut gateway, &token("ann", "t1", "2")), Some(first));
    assert_ne!(key(&mut gateway, &token("ann", "t2", "1")), Some(first));
    assert_ne!(key(&mut gateway, &token("bob", "t1", "1")), Some(first));
}

#[test]
fn a_purge_takes_what_it_names() {
    let mut gateway = gateway();
    let requests = ["/c/1", "/c/2", "/s/1", "/t/1", "/v/1"].map(Fake::get);
    let mut keys = requests.each_ref().map(|request| key(&mut gateway, request).unwrap());
    let mut changed = |gateway: &mut Gateway| {
        let now = requests.each_ref().map(|request| key(gateway, request).unwrap());
        let before = std::mem::replace(&mut keys, now);
        before.iter().zip(&now).map(|(before, now)| if before == now { '.' } else { 'x' }).collect::<String>()
    };
    for (purge, found, expected) in [
        (Purge::Route("c"), true, "xx..."),
        (Purge::Route("none"), false, "....."),
        (Purge::Route("nobody"), false, "....."),
        (Purge::Tag("one"), true, "..x.."),
        (Purge::Tag("two"), true, "..xx."),
        (Purge::Tag("/"), false, "....."),
        (Purge::Path { host: "gw.example", path: "/c/2" }, true, ".x..."),
        (Purge::Path { host: "other.example", path: "/c/2" }, true, "....."),
        (Purge::All, true, "xxxxx"),
    ] {
        assert_eq!(gateway.workers[0].purge(purge), found, "{purge:?}");
        assert_eq!(changed(&mut gateway), expected, "{purge:?}");
    }
    // The leader's is the same.
    assert!(gateway.leader.purge(Purge::Route("v")));
    assert_eq!(changed(&mut gateway), "....x");
    // An edit of the route keeps its entries and its purges, another order of routes does, too.
    gateway.load(
        &DOCUMENT.replace("name: c, paths", "name: c, priority: 1, paths").replace("ttl: 5m", "ttl: 6m"),
        at(1.0),
    );
    assert_eq!(changed(&mut gateway), ".....");
    // What goes and comes back begins anew: route, cache, tag.
    gateway.load(&DOCUMENT.replace("name: c, paths", "name: c, enabled: false, paths"), at(2.0));
    gateway.load(DOCUMENT, at(3.0));
    assert_eq!(changed(&mut gateway), "xx...");
    gateway.load(&DOCUMENT.replace(", cache: {zone: z, ttl: 5m}", ""), at(4.0));
    gateway.load(DOCUMENT, at(5.0));
    assert_eq!(changed(&mut gateway), "xx...");
    gateway.load(&DOCUMENT.replace("[one, two]", "[two]"), at(6.0));
    gateway.load(DOCUMENT, at(7.0));
    assert_eq!(changed(&mut gateway), "..x..");
    // All caches gone, and all back.
    let bare: String =
        DOCUMENT.lines().filter(|line| !line.contains("cache:")).map(|line| format!("{line}\n")).collect();
    gateway.load(&bare, at(8.0));
    gateway.load(DOCUMENT, at(9.0));
    assert_eq!(changed(&mut gateway), "xxxxx");
}

#[test]
fn purges_by_many_at_once_are_all_counted() {
    let gateway = gateway();
    let region = gateway.heap.region();
    std::thread::scope(|scope| {
        for n in 0..4 {
            scope.spawn(move || {
                let mut worker = gateway::gateway::Worker::start(region, Identity::current(), [n, 1]).unwrap();
                (0..1_000).for_each(|_| assert!(worker.purge(Purge::Route("c"))));
            });
        }
    });
    let reader = Reader::claim(region, Identity::current()).unwrap();
    let view = reader.enter().unwrap();
    let route = view.named::<gateway::gateway::Route>("c").unwrap();
    let purges = route.table().unwrap()[0].load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!(purges & 0xffff_ffff, 4_000);
}

#[test]
fn the_breaker_is_asked_where_the_cache_has_no_answer() {
    let mut gateway = gateway();
    let now = at(0.0);
    let failed = Outcome { status: 502, upstream_status: 502, aborted: false };
    let mut first = ticket(&mut gateway, &Fake::get("/none/1"));
    gateway.workers[0].complete(&mut first, &failed, now);
    assert_eq!(gateway.verdict(0, &Fake::get("/none/1"), now), "breaker.open");
    assert_eq!(gateway.verdict(0, &Fake::get("/c/1").method(Method::Post), now), "breaker.open");
    // A request for the cache gets as far as the cache.
    let mut kept = ticket(&mut gateway, &Fake::get("/c/1"));
    let worker = &mut gateway.workers[0];
    assert_eq!(worker.forward(&mut kept, now).unwrap_err().reason, Reason::BreakerOpen);
    worker.refused(&mut kept, Reason::BreakerOpen);
    worker.complete(&mut kept, &Outcome { status: 503, ..Outcome::default() }, now);
    // Who picks without having asked is told the same.
    let mut kept = ticket(&mut gateway, &Fake::get("/c/1"));
    let refused = gateway.workers[0].pick(&mut kept, now, |_| ()).unwrap_err();
    assert_eq!((refused.reason, refused.retry_after > 0), (Reason::BreakerOpen, true));
    // One that was answered from the cache took no probe's place: the breaker of one probe at a time lets the next in.
    let later = at(100.0);
    for _ in 0..20 {
        let (decision, mut hit) = gateway.access(0, &Fake::get("/c/1"), later);
        assert_eq!(decision, Decision::Forward);
        gateway.workers[0].complete(&mut hit, &Outcome { status: 200, ..Outcome::default() }, later);
    }
    let (_, mut miss) = gateway.access(0, &Fake::get("/c/1"), later);
    let worker = &mut gateway.workers[0];
    worker.forward(&mut miss, later).unwrap();
    worker.forward(&mut miss, later).unwrap();
    worker.pick(&mut miss, later, |_| ()).unwrap();
    // And a request that fetches a new answer in the background asks for itself.
    let mut refresh = miss.refresh();
    assert_eq!(refresh.cache_key(), miss.cache_key());
    worker.forward(&mut refresh, later).unwrap();
    worker.pick(&mut refresh, later, |_| ()).unwrap();
    worker.tried(&mut refresh, TryEnd::Answered(200), later);
    worker.complete(&mut refresh, &Outcome { status: 200, upstream_status: 200, aborted: false }, later);
}

#[test]
fn it_is_explained_and_written_again() {
    let mut gateway = gateway();
    let mut notes = Notes::default();
    let mut told = |request: &Fake| {
        notes.0.clear();
        gateway.workers[0].access_with(request, Entry::First, at(0.0), &mut Ticket::new(), &mut notes);
        notes.0.iter().filter(|(step, _)| *step == Step::Cache).map(|(_, text)| text.clone()).collect::<Vec<_>>()
    };
    let [found] = told(&Fake::get("/c/1?b=1&a=1")).try_into().unwrap();
    assert!(found.starts_with("zone z, key ") && found.len() == "zone z, key ".len() + 32, "{found}");
    assert_eq!(told(&Fake::get("/c/1").method(Method::Post)), ["not for this request: its method"]);
    assert_eq!(told(&Fake::get("/none/1")), [""; 0]);
    let document = config::parse(DOCUMENT, "f", &TestSecrets).unwrap().document;
    let reader = Reader::claim(gateway.heap.region(), Identity::current()).unwrap();
    let view = reader.enter().unwrap();
    let written = dump(&view.tree()).unwrap();
    for route in document.routes {
        let other = written.routes.iter().find(|other| other.name == route.name).unwrap();
        assert_eq!(other.cache, route.cache);
    }
}

/// Parts of a request from small sets, so that equal ones come up.
#[derive(Clone, Debug, PartialEq)]
struct Parts {
    https: bool,
    host: usize,
    path: usize,
    parameters: Vec<(usize, usize)>,
    version: Option<usize>,
    authorization: Option<usize>,
}

impl Parts {
    fn any() -> impl Strategy<Value = Self> {
        let parameters = prop::collection::vec((0..3_usize, 0..3_usize), 0..4);
        (any::<bool>(), 0..2_usize, 0..3_usize, parameters, prop::option::of(0..2_usize), prop::option::of(0..2_usize))
            .prop_map(|(https, host, path, parameters, version, authorization)| Self {
                https,
                host,
                path,
                parameters,
                version,
                authorization,
            })
    }

    /// With parameters of different names in another order, as `seed` has it, and some bytes encoded.
    fn request(&self, seed: u64) -> Fake {
        let mut parameters: Vec<(usize, String)> = self
            .parameters
            .iter()
            .map(|(name, value)| {
                let name_text = ["a", "ab", "b~"][*name];
                let name_text = if seed & 2 != 0 {
                    name_text.replace('~', "%7E").replace('b', "%62")
                } else {
                    name_text.to_owned()
                };
                let value = ["", "=1", "=%26"][*value];
                (*name, format!("{name_text}{value}"))
            })
            .collect();
        if seed & 1 != 0 {
            // Stable, so equal names stay in their order.
            parameters.sort_by_key(|(name, _)| usize::MAX - *name);
        }
        let query = parameters.into_iter().map(|(_, text)| text).collect::<Vec<_>>().join("&");
        let path = ["/v/1", "/v/1/2", "/v/12"][self.path];
        let target = if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") };
        let host = ["a.example", "a.examplea"][self.host];
        let host = if seed & 4 != 0 { host.to_ascii_uppercase() } else { host.to_owned() };
        let mut request = Fake::get(&target).host(&host);
        request.scheme = if self.https { "https" } else { "http" };
        if let Some(version) = self.version {
            request = request.header("x-api-version", ["1", ""][version]);
        }
        if let Some(authorization) = self.authorization {
            request = request.header("authorization", ["A", "B"][authorization]);
        }
        request
    }

    /// What makes it the request that it is: the values of each name in their order, however the names are mixed.
    fn meaning(&self) -> Self {
        let mut parts = self.clone();
        parts.parameters.sort_by_key(|(name, _)| *name);
        parts
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn equal_requests_are_equal_and_different_ones_different(
        all in prop::collection::vec((Parts::any(), any::<u64>()), 2..40)
    ) {
        let mut gateway = gateway();
        let keys: Vec<_> = all.iter().map(|(parts, seed)| key(&mut gateway, &parts.request(*seed)).unwrap()).collect();
        for (index, (one, _)) in all.iter().enumerate() {
            for (other_index, (other, _)) in all.iter().enumerate().take(index) {
                let equal = one.meaning() == other.meaning();
                prop_assert_eq!(keys[index] == keys[other_index], equal, "{:?} {:?}", one, other);
            }
        }
    }

    #[test]
    fn what_is_sent_is_what_is_in_the_key(one in Parts::any(), other in Parts::any(), seeds in any::<(u64, u64)>()) {
        let mut gateway = gateway();
        let (one, other) = (one.request(seeds.0), other.request(seeds.1));
        if key(&mut gateway, &one) == key(&mut gateway, &other) {
            prop_assert_eq!(sent(&mut gateway, &one), sent(&mut gateway, &other));
        }
    }
}
