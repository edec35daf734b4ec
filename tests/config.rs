//! Documents as people write them, and the lines that they are told.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

#[path = "config/fields.rs"]
mod fields;

use gateway::config::{Checked, HostHeader, Secrets, parse};
use gateway::limiter::{HeaderStyle, KeyPart};
use gateway::router::pattern::{Host, Path};
use gateway::types::{Method, Methods, Protocol, SECOND};

const SECRET: &str = "kD83nf0sL2mZq9xVb4tYw7cRh1uEj6GaPp";

struct Fixed;

impl Secrets for Fixed {
    fn env(&self, name: &str) -> Option<String> {
        match name {
            "JWT_SECRET" => Some(SECRET.to_owned()),
            "EMPTY" => Some(String::new()),
            "CLASSIC" => Some("your-secret-key".to_owned()),
            _ => None,
        }
    }

    fn file(&self, path: &str) -> Result<Vec<u8>, String> {
        match path {
            "/run/secrets/jwt" => Ok(format!("{SECRET}\n").into_bytes()),
            _ => Err("No such file or directory (os error 2)".to_owned()),
        }
    }
}

fn load(text: &str) -> Result<Checked, String> {
    parse(text, "f", &Fixed).map_err(|errors| errors.to_string())
}

/// The lines of errors for a document that begins with `version: 1` in line 1.
fn errors(rest: &str) -> Vec<String> {
    match load(&format!("version: 1\n{rest}")) {
        Ok(_) => Vec::new(),
        Err(lines) => lines.lines().map(str::to_owned).collect(),
    }
}

fn warnings(rest: &str) -> Vec<String> {
    let checked = load(&format!("version: 1\n{rest}")).unwrap();
    checked.warnings.iter().map(ToString::to_string).collect()
}

/// Compares the errors of each document with what is expected, all of the table at once.
#[track_caller]
fn assert_errors(table: &[(&str, &[&str])]) {
    let mut wrong = String::new();
    for (text, expected) in table {
        let found = errors(text);
        if found != *expected {
            wrong.push_str(&format!("--- for\n{text}\n  found    {found:#?}\n  expected {expected:#?}\n"));
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

fn read_data(path: &str) -> String {
    std::fs::read_to_string(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

#[test]
fn the_example_loads() {
    let checked = load(&read_data("conf/gateway.yaml")).unwrap();
    assert_eq!(checked.warnings, []);
    let document = checked.document;
    let names = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();

    let [site, orders, legacy] = document.routes.as_slice() else { panic!() };
    assert_eq!(site.rules.len(), 1);
    assert_eq!((&site.rules[0].host, &site.rules[0].path), (&Host::Any, &Path::Prefix(vec![])));
    assert_eq!((site.upstream.as_deref(), &site.limits), (Some("site"), &names(&["per-ip"])));
    assert_eq!(site.methods, Methods::ANY);
    assert!(site.protocols.contains(Protocol::Grpc) && site.enabled && !site.strip_prefix);
    assert_eq!((site.timeouts.connect, site.timeouts.send, site.timeouts.read), (SECOND, 30 * SECOND, 30 * SECOND));

    assert_eq!(orders.rules.len(), 2);
    assert!(orders.rules.iter().all(|rule| rule.host == Host::Exact(b"api.example.com".to_vec())));
    assert_eq!(orders.methods, Methods::NONE.with(Method::Get).with(Method::Post));
    assert_eq!((&orders.auth, &orders.limits), (&names(&["staff"]), &names(&["per-ip", "per-user"])));
    let permissions = orders.permissions.as_ref().unwrap();
    assert_eq!((permissions.all, &permissions.required), (false, &names(&["orders:read"])));
    assert_eq!((orders.retries.attempts, orders.retries.budget, orders.retries.on.statuses), (2, 200, 0b110));

    assert_eq!((legacy.upstream.as_deref(), legacy.limits.len()), (None, 0));

    let upstream = &document.upstreams[0];
    assert_eq!(
        upstream.nodes.iter().map(|node| (node.weight, node.priority)).collect::<Vec<_>>(),
        [(2, 0), (1, 0), (1, 1)]
    );
    let breaker = upstream.breaker.as_ref().unwrap();
    assert_eq!(
        (breaker.failures, breaker.window, breaker.open_for, breaker.probes, breaker.closes_after),
        (10, 10 * SECOND, 30 * SECOND, 5, 5)
    );
    assert_eq!(upstream.host, HostHeader::Preserve);
    assert!(document.upstreams[1].breaker.is_none() && document.upstreams[1].retries.is_none());

    let limiter = &document.limiters[1];
    assert_eq!(limiter.key, [KeyPart::Consumer, KeyPart::Route]);
    assert_eq!((limiter.count, limiter.per, limiter.burst, limiter.cost), (10, SECOND, 20, 1));
    assert!(!limiter.shadow && limiter.headers == HeaderStyle::Ietf);

    assert_eq!(document.consumers[0].permissions, names(&["orders:*"]));
    assert!(document.consumers[0].enabled);
    let gateway::auth::Scheme::Jwt(jwt) = &document.auth[0].scheme;
    assert_eq!((jwt.leeway, jwt.max_lifetime, &*jwt.consumer_claim, &jwt.require), (60, 0, "sub", &names(&["exp"])));
    assert!(!document.auth[0].optional);
}

#[test]
fn the_full_example_is_refused_for_what_is_not_built_alone() {
    let lines = load(&read_data("tests/data/config/example.yaml")).unwrap_err();
    assert_eq!(
        lines.lines().collect::<Vec<_>>(),
        [
            "f:13: auth[1].api_key: not supported yet",
            "f:15: consumers[0].api_key: not supported yet",
            "f:26: upstreams[0].slow_start: not supported yet",
            "f:27: upstreams[0].health: not supported yet",
            "f:30: upstreams[1].tls: not supported yet",
            "f:33: routes[0].cache: not supported yet",
            "f:42: routes[1].cors: not supported yet",
            "f:43: routes[1].canary: not supported yet",
            "f:47: routes[1].transform: not supported yet",
            "f:48: routes[1].fallback: not supported yet",
        ]
    );
}

#[test]
fn json_is_read_the_same_way() {
    let yaml = load(&read_data("conf/gateway.yaml")).unwrap().document;
    let json = serde_json::json!({
        "version": 1,
        "defaults": {"timeouts": {"connect": "1s", "send": "30s", "read": "30s"}, "limits": ["per-ip"]},
        "auth": [{"name": "staff", "jwt": {
            "issuer": "https://login.example.com", "audience": "api",
            "keys": [{"kid": "k1", "alg": "HS256", "secret": "$env://JWT_SECRET"}],
            "claims": {"consumer": "sub", "permissions": "permissions"}
        }}],
        "consumers": [{"name": "acme", "permissions": ["orders:*"]}],
        "limiters": [
            {"name": "per-ip", "key": ["ip"], "rate": "50/s", "burst": 100},
            {"name": "per-user", "key": ["consumer", "route"], "rate": "10/s", "burst": 20}
        ],
        "upstreams": [
            {"name": "orders", "algorithm": "adaptive", "nodes": [
                {"host": "10.0.0.11", "port": 8080, "weight": 2}, {"host": "10.0.0.12", "port": 8080},
                {"host": "10.0.0.13", "port": 8080, "priority": 1}
            ],
            "retries": {"attempts": 2, "on": ["error", "timeout", "http_502", "http_503"], "budget": "20%"},
            "breaker": {"failures": 10, "window": "10s", "open_for": "30s", "probes": 5}},
            {"name": "orders-v2", "nodes": [{"host": "10.0.0.21", "port": 8443}]},
            {"name": "site", "nodes": [{"host": "10.0.0.31", "port": 8080}]}
        ],
        "routes": [
            {"name": "site", "paths": ["/*"], "upstream": "site"},
            {"name": "orders", "hosts": ["api.example.com"], "paths": ["/orders/*", "/orders/{id}/items"],
             "methods": ["GET", "POST"], "upstream": "orders", "auth": ["staff"],
             "permissions": {"any": ["orders:read"]}, "limits": ["per-ip", "per-user"]},
            {"name": "legacy", "paths": ["/legacy/*"], "auth": ["staff"], "limits": []}
        ]
    });
    for text in [
        json.to_string(),
        serde_json::to_string_pretty(&json).unwrap(),
        serde_json::to_string_pretty(&json).unwrap().replace("  ", "\t"),
    ] {
        assert!(load(&text).unwrap().document == yaml);
    }
}

#[test]
fn the_document_itself() {
    for (text, expected) in [
        ("", "f: the document is empty; it begins with `version: 1`"),
        ("# nothing\n", "f: the document is empty; it begins with `version: 1`"),
        ("routes: []\n", "f:1: needs `version`: a whole number"),
        ("version: 2\n", "f:1: version: must be at most 1"),
        ("version: 0\n", "f:1: version: must be above 0"),
        ("version: \"1\"\n", "f:1: version: must be a whole number, found text"),
        ("- a\n", "f:1: must be an object, found a list"),
        ("just text\n", "f:1: must be an object, found text"),
        ("version: 1\nversion: 1\n", "f:2: `version` stands here a second time; the first is in line 1"),
        ("version: 1\nroutes: [\n", "f:3: while parsing a node, did not find expected node content"),
    ] {
        assert_eq!(load(text).unwrap_err(), expected, "for {text:?}");
    }
    assert!(load("version: 1\n").is_ok());
    assert!(load("version: 1\nroutes: []\nupstreams: []\nauth: []\n").is_ok());
}

#[test]
fn unknown_fields_get_a_hint() {
    assert_errors(&[
        ("route: []", &["f:2: unknown field `route`, did you mean `routes`?"]),
        ("services: []", &["f:2: unknown field `services`; there are no services: an upstream is one (`upstreams`)"]),
        ("zebra: 1", &["f:2: unknown field `zebra`"]),
        ("<<: {a: 1}", &["f:2: unknown field `<<`; merge keys are not part of YAML 1.2, use aliases or `defaults`"]),
        (
            "routes:\n- name: a\n  paths: [/a]\n  host: x\n  uris: [/b]\n  upstream_id: 1\n  plugins: {}\n",
            &[
                "f:5: routes[0]: unknown field `host`, did you mean `hosts`?",
                "f:6: routes[0]: unknown field `uris`; our word is `paths`",
                "f:7: routes[0]: unknown field `upstream_id`; our word is `upstream`, with the upstream's name",
                "f:8: routes[0]: unknown field `plugins`; policies are fields of a route: `auth`, `permissions`, `limits`, `timeouts`, `retries`",
            ],
        ),
        (
            "consumers: [{username: x}]",
            &[
                "f:2: consumers[0]: needs `name`: text",
                "f:2: consumers[0]: unknown field `username`; our word is `name`",
            ],
        ),
        (
            "upstreams: [{name: u, nodes: [{host: a, port: 1, wieght: 2}]}]",
            &["f:2: upstreams[0].nodes[0]: unknown field `wieght`, did you mean `weight`?"],
        ),
        (
            "limiters: [{name: l, key: [ip], rate: 1/s, time_window: 60}]",
            &["f:2: limiters[0]: unknown field `time_window`; our word is `rate`, such as `600/m`"],
        ),
    ]);
}

#[test]
fn what_is_not_built_is_refused_by_name() {
    assert_errors(&[
        ("bans: []\nlists: []", &["f:2: bans: not supported yet", "f:3: lists: not supported yet"]),
        (
            "routes: [{name: a, paths: [\"~^/v\\\\d+\"]}]",
            &[
                "f:2: routes[0].paths[0]: regular expressions (`~`) are not supported yet: write `{name}` for a segment, `/*` for the rest",
            ],
        ),
        (
            "routes: [{name: a, paths: [/a], path_policy: strict}]",
            &["f:2: routes[0].path_policy: `strict` is not supported yet"],
        ),
        ("defaults: {cors: {}}", &["f:2: defaults.cors: not supported yet"]),
        (
            "upstreams: [{name: u, algorithm: round_robin, nodes: [{host: a, port: 1}]}]",
            &["f:2: upstreams[0].algorithm: `round_robin` is not supported yet"],
        ),
        (
            "upstreams: [{name: u, nodes: [{host: a, port: 1}], max_in_flight: 5, breaker: {failure_ratio: 50%}}]",
            &[
                "f:2: upstreams[0].max_in_flight: not supported yet",
                "f:2: upstreams[0].breaker.failure_ratio: not supported yet",
            ],
        ),
        (
            "limiters: [{name: l, key: [ip], rate: 1/s, store: redis, strict: true, on: response, on_store_error: deny, cost: \"header:X\"}]",
            &[
                "f:2: limiters[0].store: `redis` is not supported yet",
                "f:2: limiters[0].strict: `true` is not supported yet",
                "f:2: limiters[0].on: `response` is not supported yet",
                "f:2: limiters[0].on_store_error: `deny` is not supported yet",
                "f:2: limiters[0].cost: `header:…` is not supported yet",
            ],
        ),
        ("auth: [{name: a, basic: {file: x}}]", &["f:2: auth[0].basic: not supported yet"]),
        ("auth: [{name: a, jwt: {jwks: {file: x}}}]", &["f:2: auth[0].jwt.jwks: not supported yet"]),
    ]);
    // What is built may be said aloud.
    assert_errors(&[(
        "limiters: [{name: l, key: [ip], rate: 1/s, store: local, strict: false, on: request, on_store_error: local, mode: shadow, headers: both}]\n\
         routes: [{name: a, paths: [/a], path_policy: normal, limits: [l]}]",
        &[],
    )]);
}

#[test]
fn wrong_types_say_what_was_found() {
    assert_errors(&[
        ("routes: {}", &["f:2: routes: must be a list of objects, found an object"]),
        ("routes: [a]", &["f:2: routes[0]: must be an object, found text"]),
        ("routes:", &["f:2: routes: must be a list of objects, found nothing"]),
        ("routes: [{name: 1, paths: [/a]}]", &["f:2: routes[0].name: must be text, found a number"]),
        ("routes: [{name: a, paths: /a}]", &["f:2: routes[0].paths: must be a list, found text"]),
        (
            "routes: [{name: a, paths: [1]}]",
            &["f:2: routes[0].paths[0]: must be a path such as `/orders/*`, found a number"],
        ),
        (
            "routes: [{name: a, paths: [/a], enabled: yes}]",
            &["f:2: routes[0].enabled: must be true or false, found text"],
        ),
        (
            "routes: [{name: a, paths: [/a], priority: 1.5}]",
            &["f:2: routes[0].priority: must be a whole number, found a number"],
        ),
        (
            "routes: [{name: a, paths: [/a], timeouts: 10s}]",
            &["f:2: routes[0].timeouts: must be an object, found text"],
        ),
        (
            "routes: [{name: a, paths: [/a], timeouts: {read: 10}}]",
            &["f:2: routes[0].timeouts.read: must be a duration such as `10s`, found a number"],
        ),
        (
            "routes: [{name: a, paths: [/a], labels: {a: [b]}}]",
            &["f:2: routes[0].labels.a: must be text, found a list"],
        ),
        (
            "routes: [{name: a, paths: [/a], upstream: [u]}]",
            &["f:2: routes[0].upstream: must be a name or an object, found a list"],
        ),
        (
            "routes: [{name: a, paths: [/a], permissions: [a]}]",
            &["f:2: routes[0].permissions: must be an object, found a list"],
        ),
        ("defaults: x", &["f:2: defaults: must be an object, found text"]),
    ]);
}

#[test]
fn numbers_and_units() {
    let limiter = |fields: &str| format!("limiters: [{{name: l, key: [ip], {fields}}}]");
    for (fields, expected) in [
        ("rate: 0/s", vec!["f:2: limiters[0].rate: must be above 0"]),
        ("rate: 10", vec!["f:2: limiters[0].rate: must be a rate such as `10/s`, found a number"]),
        ("rate: fast", vec!["f:2: limiters[0].rate: must be a rate such as `10/s`, `600/m` or `5/h`"]),
        ("rate: 10r/s", vec![]),
        ("rate: 10/s, burst: 0", vec!["f:2: limiters[0].burst: must be above 0"]),
        ("rate: 10/s, cost: -1", vec!["f:2: limiters[0].cost: must not be negative"]),
        ("rate: 10/s, cost: 0", vec![]),
        (
            "rate: 10/s, cost: 11",
            vec!["f:2: limiters[0].cost: is above the burst of 10, so that no request would ever pass"],
        ),
        ("rate: 10/s, burst: 99999999999", vec!["f:2: limiters[0].burst: must be at most 4294967295"]),
        ("rate: 10/s, burst: 99999999999999999999999", vec!["f:2: limiters[0].burst: must be at most 4294967295"]),
        (
            "rate: 1/h, burst: 10000",
            vec!["f:2: limiters[0]: a bucket of this `burst` would take more than 50 days to fill at this `rate`"],
        ),
        ("burst: 5", vec!["f:2: limiters[0]: needs `rate`: a rate such as `10/s`"]),
        ("rate: 5/h, key: [ip]", vec!["f:2: `key` stands here a second time; the first is in line 2"]),
    ] {
        assert_eq!(errors(&limiter(fields)), expected, "for {fields}");
    }
    assert_errors(&[
        (
            "limiters: [{name: l, key: [], rate: 1/s}]",
            &["f:2: limiters[0].key: must not be empty; leave it out instead"],
        ),
        ("limiters: [{name: l, key: [ip, ip], rate: 1/s}]", &["f:2: limiters[0].key[1]: stands here twice"]),
        ("limiters: [{name: l, key: [remote_addr], rate: 1/s}]", &["f:2: limiters[0].key[0]: our word is `ip`"]),
        ("upstreams: [{name: u, nodes: [{host: a, port: 0}]}]", &["f:2: upstreams[0].nodes[0].port: must be above 0"]),
        (
            "upstreams: [{name: u, nodes: [{host: a, port: 70000}]}]",
            &["f:2: upstreams[0].nodes[0].port: must be at most 65535"],
        ),
        (
            "upstreams: [{name: u, nodes: [{host: \"a:80\", port: 80}]}]",
            &["f:2: upstreams[0].nodes[0].host: must be without the port; write `port: 80`"],
        ),
        (
            "upstreams: [{name: u, nodes: [{host: a, port: 1, weight: 0}]}]",
            &["f:2: upstreams[0].nodes[0].weight: must be above 0"],
        ),
        (
            "upstreams: [{name: u, nodes: [{host: a, port: 1}], breaker: {probes: 17, window: 0s, open_for: 25h}}]",
            &[
                "f:2: upstreams[0].breaker.probes: must be at most 16",
                "f:2: upstreams[0].breaker.window: must be above 0",
                "f:2: upstreams[0].breaker.open_for: must be at most `24h`",
            ],
        ),
        (
            "upstreams: [{name: u, nodes: [{host: a, port: 1}], retries: {attempts: 17, budget: 101%, on: [http_501], methods: get}}]",
            &[
                "f:2: upstreams[0].retries.attempts: must be at most 16",
                "f:2: upstreams[0].retries.budget: must be at most 100%",
                "f:2: upstreams[0].retries.on[0]: must be one of `error`, `timeout`, `http_500`, `http_502`, `http_503`, `http_504`, `http_403`, `http_404`, `http_429`, found `http_501`, did you mean `http_500`?",
                "f:2: upstreams[0].retries.methods: must be one of `idempotent`, `all`, found `get`",
            ],
        ),
        (
            "routes: [{name: a, paths: [/a], methods: [get, FOO]}]",
            &[
                "f:2: routes[0].methods[0]: must be one of `GET`, `HEAD`, `POST`, `PUT`, `DELETE`, `PATCH`, `OPTIONS`, `CONNECT`, `TRACE`, found `get`, did you mean `GET`?",
                "f:2: routes[0].methods[1]: must be one of `GET`, `HEAD`, `POST`, `PUT`, `DELETE`, `PATCH`, `OPTIONS`, `CONNECT`, `TRACE`, found `FOO`",
            ],
        ),
        (
            "auth: [{name: a, jwt: {issuer: i, audience: a, leeway: 500ms, keys: [{alg: HS256, secret: $env://JWT_SECRET}]}}]",
            &["f:2: auth[0].jwt.leeway: must be whole seconds"],
        ),
    ]);
}

#[test]
fn objects_fit_together() {
    assert_errors(&[
        (
            "routes:\n- {name: a, paths: [/a]}\n- {name: a, paths: [/b]}",
            &["f:4: routes[1].name: `a` is the name of routes[0] too, in line 3"],
        ),
        (
            "upstreams: [{name: orders, nodes: [{host: a, port: 1}]}]\nroutes: [{name: a, paths: [/a], upstream: ordres}]",
            &["f:3: routes[0].upstream: no upstream is called `ordres`, did you mean `orders`?"],
        ),
        (
            "routes: [{name: a, paths: [/a], auth: [x], limits: [y]}]",
            &[
                "f:2: routes[0].auth[0]: no entry of `auth` is called `x`",
                "f:2: routes[0].limits[0]: no limiter is called `y`",
            ],
        ),
        (
            "consumers: [{name: a, roles: [admn]}]\nroles: [{name: admin, permissions: [\"**\"]}]",
            &["f:2: consumers[0].roles[0]: no role is called `admn`, did you mean `admin`?"],
        ),
        (
            "limiters: [{name: l, key: [ip], rate: 1/s}]\nroutes: [{name: a, paths: [/a], limits: [l, l]}]",
            &["f:3: routes[0].limits[1]: stands here twice"],
        ),
        ("upstreams: [{name: u}]", &["f:2: upstreams[0]: needs `nodes`: a list of objects"]),
        ("upstreams: [{name: u, nodes: []}]", &["f:2: upstreams[0].nodes: must not be empty; leave it out instead"]),
        (
            "upstreams: [{name: u, nodes: [{host: a, port: 1}, {host: A., port: 1}]}]",
            &["f:2: upstreams[0].nodes[1]: is the same host and port as nodes[0]; give one node a higher weight"],
        ),
        (
            "routes: [{name: a, paths: [/a], permissions: {any: [\"a:b\"]}}]",
            &["f:2: routes[0].permissions: need `auth`: without it nobody is permitted anything"],
        ),
        (
            "defaults: {permissions: {all: [x]}}\nroutes:\n- {name: a, paths: [/a]}",
            &[
                "f:4: routes[0]: has `permissions` by `defaults` and needs `auth`: without it nobody is permitted anything",
            ],
        ),
        (
            "routes: [{name: a, paths: [/a], permissions: {}}]",
            &["f:2: routes[0].permissions: needs `any` or `all`: a list of permissions such as `orders:read`"],
        ),
        (
            "routes: [{name: a, paths: [/a], permissions: {any: [\"a:*\"], all: [b]}}]",
            &[
                "f:2: routes[0].permissions: needs `any` or `all`, not both",
                "f:2: routes[0].permissions.any[0]: required permission \"a:*\" holds a wildcard",
            ],
        ),
        (
            "routes: [{name: a}]",
            &["f:2: routes[0]: needs `paths`, `hosts` or both; `paths: [\"/*\"]` takes every request"],
        ),
        ("routes: [{name: a, paths: []}]", &["f:2: routes[0].paths: must not be empty; leave it out instead"]),
        (
            "routes: [{name: a, hosts: [a, A.], paths: [/a, /%61]}]",
            &["f:2: routes[0].hosts[1]: stands here twice", "f:2: routes[0].paths[1]: stands here twice"],
        ),
        ("routes: [{name: defaults, paths: [/a]}]", &["f:2: routes[0]: a route cannot be called `defaults`"]),
        ("routes: [{name: a/b, paths: [/a]}]", &["f:2: routes[0].name: a name cannot hold '/'"]),
        (
            "defaults: {name: x}",
            &["f:2: defaults.name: must be left out here; what has a name stands in the list of its kind"],
        ),
    ]);
    let long = "x".repeat(129);
    assert_errors(&[(
        &format!("routes: [{{name: {long}, paths: [/a]}}]"),
        &["f:2: routes[0].name: must be at most 128 bytes long, not 129"],
    )]);
}

#[test]
fn routes_that_nothing_tells_apart() {
    let tail = "and nothing tells them apart: give one a `priority`, or `methods` of its own";
    let pair = |first: &str, second: &str| errors(&format!("routes:\n- {{name: a, {first}}}\n- {{name: b, {second}}}"));
    for (first, second, what) in [
        ("paths: [/a]", "paths: [/a]", Some("/a")),
        ("paths: [/a]", "paths: [/%61]", Some("/a")),
        ("paths: [/a/*]", "paths: [/b, /a/*]", Some("/a/*")),
        ("paths: [\"/u/{id}\"]", "paths: [\"/u/{uid}\"]", Some("/u/{uid}")),
        ("paths: [/a], hosts: [x.example]", "paths: [/a], hosts: [X.example.]", Some("x.example/a")),
        ("paths: [/a], methods: [GET, PUT]", "paths: [/a], methods: [PUT]", Some("/a")),
        ("paths: [/a], methods: [GET]", "paths: [/a]", None),
        ("paths: [/a], methods: [GET]", "paths: [/a], methods: [GET, PUT]", Some("/a")),
        ("hosts: [x]", "hosts: [x], paths: [/*]", Some("x/*")),
        ("paths: [/a], methods: [GET]", "paths: [/a], methods: [POST]", None),
        ("paths: [/a], priority: 1", "paths: [/a]", None),
        ("paths: [/a], enabled: false", "paths: [/a]", None),
        ("paths: [/a]", "paths: [/a/]", None),
        ("paths: [/a]", "paths: [/a/*]", None),
        ("paths: [/a], hosts: [x]", "paths: [/a]", None),
        ("paths: [/a], hosts: [x]", "paths: [/a], hosts: [\"*.x\"]", None),
        ("paths: [\"/u/{id}\"]", "paths: [\"/u/{*id}\"]", None),
        ("paths: [\"/u/{id}\"]", "paths: [\"/{id}/u\"]", None),
        ("paths: [\"/a\", \"/u/{a}\", \"/u/{b}\"]", "paths: [/b]", None),
    ] {
        let expected: Vec<String> = what
            .map(|what| format!("f:4: routes[1]: `b` and `a` of routes[0] (line 3) both take {what}, {tail}"))
            .into_iter()
            .collect();
        assert_eq!(pair(first, second), expected, "for {first} and {second}");
    }
}

#[test]
fn inline_objects_get_a_name() {
    let document = load(
        "version: 1\n\
         defaults: {limits: [{key: [ip], rate: 5/s}]}\n\
         routes:\n\
         - {name: orders, paths: [/a], limits: [{key: [global], rate: 1/s}], upstream: {nodes: [{host: h, port: 1}], timeouts: {read: 5s}}}\n\
         - {name: b, paths: [/b]}\n",
    )
    .unwrap()
    .document;
    let names: Vec<&str> = document.limiters.iter().map(|limiter| &*limiter.name).collect();
    assert_eq!(names, ["defaults/limits[0]", "orders/limits[0]"]);
    assert_eq!(document.routes[0].limits, ["orders/limits[0]"]);
    assert_eq!(document.routes[1].limits, ["defaults/limits[0]"]);
    assert_eq!(document.routes[0].upstream.as_deref(), Some("orders/upstream"));
    assert_eq!(document.upstreams[0].name, "orders/upstream");
    assert_eq!(document.routes[0].timeouts.read, 5 * SECOND);
    assert_errors(&[
        (
            "routes: [{name: a, paths: [/a], limits: [{name: x, key: [ip], rate: 5/s}]}]",
            &["f:2: routes[0].limits[0].name: must be left out here; what has a name stands in the list of its kind"],
        ),
        (
            "routes: [{name: a, paths: [/a], limits: [{key: [ip], rate: 0/s}]}]",
            &["f:2: routes[0].limits[0].rate: must be above 0"],
        ),
    ]);
}

#[test]
fn what_a_route_leaves_out_comes_from_its_upstream_and_the_defaults() {
    let document = load(
        "version: 1\n\
         defaults: {timeouts: {connect: 1s, send: 2s, read: 3s}, retries: {attempts: 4, budget: 10%}, methods: [GET], priority: 7, protocols: [http]}\n\
         upstreams: [{name: u, nodes: [{host: h, port: 1}], timeouts: {send: 20s, read: 30s}, retries: {attempts: 3}}]\n\
         routes:\n\
         - {name: a, paths: [/a], upstream: u, timeouts: {read: 300s}, retries: {methods: all}, methods: [PUT]}\n\
         - {name: b, paths: [/b]}\n",
    )
    .unwrap()
    .document;
    let [a, b] = document.routes.as_slice() else { panic!() };
    assert_eq!((a.timeouts.connect, a.timeouts.send, a.timeouts.read), (SECOND, 20 * SECOND, 300 * SECOND));
    assert_eq!((a.retries.attempts, a.retries.budget, a.retries.idempotent_only), (3, 100, false));
    assert_eq!((a.methods, a.priority), (Methods::NONE.with(Method::Put), 7));
    assert_eq!((b.timeouts.connect, b.timeouts.send, b.timeouts.read), (SECOND, 2 * SECOND, 3 * SECOND));
    assert_eq!((b.retries.attempts, b.retries.budget, b.retries.idempotent_only), (4, 100, true));
    assert!(b.protocols.http && !b.protocols.grpc);
    let own = document.upstreams[0].retries.as_ref().unwrap();
    assert_eq!((own.attempts, own.budget), (3, 200));
}

#[test]
fn warnings_stand_beside_a_good_document() {
    let jwt = "auth: [{name: a, jwt: {issuer: i, audience: a, keys: [{alg: HS256, secret: $env://JWT_SECRET}]}}]";
    assert_eq!(warnings(jwt), [""; 0]);
    assert_eq!(
        warnings(&format!("auth: [{{name: a, jwt: {{require: [], keys: [{{alg: HS256, secret: {SECRET}}}]}}}}]")),
        [
            "f:2: auth[0].jwt: no `issuer`: whoever has one of the keys may issue tokens",
            "f:2: auth[0].jwt: no `audience`: tokens that were issued for another service are accepted",
            "f:2: auth[0].jwt: `exp` is not required: tokens without it are valid for ever",
            "f:2: auth[0].jwt.keys[0].secret: a secret in clear; write `$env://NAME` or `$file:///path`",
        ]
    );
    let limiters = "limiters: [{name: u, key: [consumer], rate: 1/s}, {name: ip, key: [ip], rate: 1/s}]";
    assert_eq!(
        warnings(&format!(
            "{limiters}\nroutes:\n- {{name: a, paths: [/a], limits: [ip, u]}}\n- {{name: b, paths: [/b], limits: [ip]}}\n"
        )),
        [
            "f:4: routes[0].limits[1]: counts by who the caller is, which nobody knows on a route without `auth`: all such requests share one bucket"
        ]
    );
    let limiters = "limiters: [{name: p, key: [\"path:id\"], rate: 1/s}, {name: u, key: [upstream], rate: 1/s}]\ndefaults: {limits: [p, u]}";
    assert_eq!(
        warnings(&format!("{limiters}\nroutes: [{{name: a, paths: [\"/u/{{id}}\", /u/me]}}]\n")),
        [
            "f:4: routes[0]: limits[0] (by `defaults`) counts by the parameter `id`, which /u/me does not have: all such requests share one bucket",
            "f:4: routes[0]: limits[1] (by `defaults`) counts by upstream, and the route has none: all such requests share one bucket",
        ]
    );
}

#[test]
fn secrets_are_checked_and_never_shown() {
    let key =
        |fields: &str| errors(&format!("auth: [{{name: a, jwt: {{issuer: i, audience: a, keys: [{{{fields}}}]}}}}]"));
    let at = "f:2: auth[0].jwt.keys[0]";
    for (fields, expected) in [
        ("alg: HS256, secret: $env://JWT_SECRET", ""),
        ("alg: HS256, secret: \"$file:///run/secrets/jwt\"", ""),
        ("alg: HS256, secret: $env://NOPE", ".secret: the environment variable `NOPE` is not set"),
        ("alg: HS256, secret: $file:///nope", ".secret: cannot read `/nope`: No such file or directory (os error 2)"),
        ("alg: HS256, secret: \"${JWT_SECRET}\"", ".secret: a reference is written `$env://NAME` or `$file:///path`"),
        ("alg: HS256", ": needs exactly one of `secret`, `pem` and `jwk`"),
        ("alg: RS256, secret: $env://JWT_SECRET", ".secret: RS256 does not go with this kind of key"),
        ("secret: $env://JWT_SECRET", ": the key does not say its algorithm; set `alg`"),
        (
            "alg: none, secret: $env://JWT_SECRET",
            ".alg: must be one of `HS256`, `HS384`, `HS512`, `RS256`, `RS384`, `RS512`, `PS256`, `PS384`, `PS512`, `ES256`, `ES384`, `ES512`, `EdDSA`, found `none`",
        ),
        (
            "alg: HS256, secret: 5",
            ".secret: must be a reference such as `$env://NAME` or `$file:///path`, found a number",
        ),
    ] {
        let expected: Vec<String> =
            Some(format!("{at}{expected}")).filter(|_| !expected.is_empty()).into_iter().collect();
        assert_eq!(key(fields), expected, "for {fields}");
    }
    for (fields, part) in [
        ("alg: HS256, secret: $env://EMPTY", "empty"),
        ("alg: HS256, secret: $env://CLASSIC", "know"),
        ("alg: HS256, secret: hunter2hunter2", "32"),
    ] {
        let found = key(fields);
        assert!(found.len() == 1 && found[0].contains(part), "for {fields}: {found:?}");
        assert!(!found[0].contains("hunter2") && !found[0].contains("your-secret-key"), "{found:?}");
    }

    let text = format!("version: 1\nauth: [{{name: a, jwt: {{keys: [{{alg: HS256, secret: {SECRET}}}]}}}}]\n");
    let shown = format!("{:?}", load(&text).unwrap());
    assert!(!shown.contains(SECRET) && !shown.contains(&format!("{:?}", SECRET.as_bytes())), "{shown}");
}

#[test]
fn public_keys() {
    let vectors: serde_json::Value = serde_json::from_str(&read_data("tests/data/own/jwks_cases.json")).unwrap();
    let rsa = &vectors["meta"]["good_key"];
    let pem = "-----BEGIN PUBLIC KEY-----\\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\\n-----END PUBLIC KEY-----";
    let keys = |fields: &str| format!("version: 1\nauth: [{{name: a, jwt: {{issuer: i, audience: a, {fields}}}}}]\n");
    let read = |fields: &str| {
        let checked = load(&keys(fields)).unwrap();
        assert_eq!(checked.warnings, [], "for {fields}");
        let gateway::auth::Scheme::Jwt(jwt) = checked.document.auth.into_iter().next().unwrap().scheme;
        jwt.keys.into_iter().map(|key| (key.kid.unwrap_or_default(), key.algorithm.name())).collect::<Vec<_>>()
    };
    let of = |kid: &str, name: &'static str| vec![(kid.to_owned(), name)];
    assert_eq!(read(&format!("keys: [{{jwk: {rsa}}}]")), of("rsa1", "RS256"));
    assert_eq!(read(&format!("keys: [{{jwk: '{rsa}', kid: mine}}]")), of("mine", "RS256"));
    assert_eq!(read(&format!("keys: [{{kid: e, pem: \"{pem}\"}}]")), of("e", "EdDSA"));
    for (fields, expected) in [
        (format!("algorithms: [ES256], keys: [{{jwk: {rsa}}}]"), ".keys[0]: RS256 is not among `algorithms`"),
        (
            format!("keys: [{{jwk: {rsa}, alg: PS256}}]"),
            ".keys[0].jwk: the key is for RS256, the configuration says PS256",
        ),
        (
            format!("keys: [{{kid: k, alg: RS256, pem: \"{pem}\"}}]"),
            ".keys[0].pem: RS256 does not go with this kind of key",
        ),
        (format!("keys: [{{jwk: {rsa}}}, {{jwk: {rsa}}}]"), ".keys[1]: has the `kid` of a key before it"),
        ("keys: [{pem: nonsense}]".to_owned(), ".keys[0].pem: not one PEM block"),
        ("keys: [{jwk: {kty: RSA}}]".to_owned(), ".keys[0].jwk: `n` is missing or not a string"),
        ("keys: []".to_owned(), ".keys: must not be empty; leave it out instead"),
        (
            "leeway: 1s".to_owned(),
            ": needs `keys`: a list of `{kid, alg, secret}`, or with `pem` or `jwk` instead of `secret`",
        ),
    ] {
        assert_eq!(load(&keys(&fields)).unwrap_err(), format!("f:2: auth[0].jwt{expected}"), "for {fields}");
    }
    let oct = "keys: [{jwk: {kty: oct, alg: HS256, k: a0Q4M25mMHNMMm1acTl4VmI0dFl3N2NSaDF1RWo2R2FQcA}}]";
    let warnings = load(&keys(oct)).unwrap().warnings;
    assert_eq!(warnings.len(), 1);
    assert_eq!(warnings[0].message, "a secret in clear; write `$env://NAME` or `$file:///path`");
}

#[test]
fn the_rest_of_a_jwt_entry() {
    let text = "version: 1\nauth:\n- name: a\n  optional: true\n  jwt:\n    issuer: i\n    audience: b\n    keys: [{alg: HS256, secret: $env://JWT_SECRET}]\n    \
        leeway: 5s\n    max_lifetime: 1h\n    require: [exp, nbf]\n    source: [header, \"query:t\", \"cookie:T\"]\n    \
        claims: {consumer: client.id, roles: r, headers: {X-User: sub}}\n";
    let auth = load(text).unwrap().document.auth.remove(0);
    let gateway::auth::Scheme::Jwt(jwt) = auth.scheme;
    assert!(auth.optional);
    assert_eq!((jwt.leeway, jwt.max_lifetime, jwt.require.len()), (5, 3600, 2));
    use gateway::auth::Source;
    assert_eq!(jwt.source, [Source::Header, Source::Query("t".into()), Source::Cookie("T".into())]);
    assert_eq!(
        (&*jwt.consumer_claim, jwt.roles_claim.as_deref(), jwt.permissions_claim),
        ("client.id", Some("r"), None)
    );
    assert_eq!(jwt.headers, [("x-user".to_owned(), "sub".to_owned())]);
    let with = |fields: &str| {
        errors(&format!(
            "auth: [{{name: a, jwt: {{issuer: i, audience: b, keys: [{{alg: HS256, secret: $env://JWT_SECRET}}], {fields}}}}}]"
        ))
    };
    for (fields, expected) in [
        ("claims: {headers: {Host: sub}}", "claims.headers.Host: this header is not a claim's to set"),
        (
            "claims: {headers: {X_User: sub}}",
            "claims.headers.X_User: nginx drops headers with an underscore in their name; write `-`",
        ),
        (
            "claims: {headers: {X-A: sub, x-a: sub}}",
            "claims.headers.x-a: stands here twice; the case of a header's name does not count",
        ),
        ("claims: {headers: {\"a b\": sub}}", "claims.headers.`a b`: must be the name of a header"),
        (
            "claims: {consumer: a..b}",
            "claims.consumer: must be the name of a claim, dotted to walk objects, of at most 128 bytes",
        ),
        ("source: [body]", "source[0]: must be `header`, `query:NAME` or `cookie:NAME`"),
        ("max_lifetime: 0s", "max_lifetime: must be above 0"),
    ] {
        assert_eq!(with(fields), [format!("f:2: auth[0].jwt.{expected}")], "for {fields}");
    }
    assert_errors(&[
        ("auth: [{name: a}]", &["f:2: auth[0]: needs a scheme: `jwt`"]),
        ("auth: [{name: a, jwt: {keys: [x]}}]", &["f:2: auth[0].jwt.keys[0]: must be an object, found text"]),
    ]);
}

#[test]
fn consumers_and_roles() {
    let document = load(
        "version: 1\n\
         roles: [{name: admin, permissions: [\"**\"]}]\n\
         consumers:\n\
         - {name: \"https://id.example/a b\", roles: [admin], permissions: [\"a:*\"], priority: -3, labels: {team: x, n: 5}, enabled: false}\n",
    )
    .unwrap()
    .document;
    let consumer = &document.consumers[0];
    assert_eq!((&*consumer.name, consumer.priority, consumer.enabled), ("https://id.example/a b", -3, false));
    assert_eq!(consumer.labels, [("team".to_owned(), "x".to_owned()), ("n".to_owned(), "5".to_owned())]);
    assert_eq!(document.roles[0].permissions, ["**"]);
    assert_errors(&[
        (
            "consumers: [{name: a, permissions: [\"a:b*\", \"\"]}]",
            &[
                "f:2: consumers[0].permissions[0]: permission \"a:b*\": `*` is a whole segment, `**` the last one",
                "f:2: consumers[0].permissions[1]: must not be empty",
            ],
        ),
        ("roles: [{name: a}]", &["f:2: roles[0]: needs `permissions`: a list"]),
        (
            "consumers: [{name: a}, {name: a}]",
            &["f:2: consumers[1].name: `a` is the name of consumers[0] too, in line 2"],
        ),
    ]);
}
