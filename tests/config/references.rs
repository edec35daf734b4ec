//! What must fit together: names, references, defaults, routes that nothing tells apart.

use gateway::types::{Method, Methods, SECOND};

use super::{SECRET, assert_errors, errors, load, warnings};

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
        ("upstreams: [{name: u, nodes: []}]", &["f:2: upstreams[0].nodes: must have at least one entry"]),
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
        ("routes: [{name: a, paths: []}]", &["f:2: routes[0].paths: must have at least one entry"]),
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
    let tail = "and nothing tells them apart: give one a `priority`, or `methods` or `match` of its own";
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
    assert_eq!(consumer.labels, [("n".to_owned(), "5".to_owned()), ("team".to_owned(), "x".to_owned())]);
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
