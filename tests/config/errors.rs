//! One field at a time: unknown, of the wrong type, out of range, not built.

use gateway::router::pattern::{Host, Path};

use super::{assert_errors, errors, load};

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
fn expressions_as_paths() {
    assert_errors(&[
        (
            "routes: [{name: a, paths: [\"~^/(a\"]}]",
            &["f:2: routes[0].paths[0]: what follows `~` is no regular expression: unclosed group"],
        ),
        ("routes: [{name: a, paths: [\"~\"]}]", &["f:2: routes[0].paths[0]: what follows `~` must not be empty"]),
        (
            "routes: [{name: a, paths: [\"~*^/a\"]}]",
            &[
                "f:2: routes[0].paths[0]: what follows `~` is no regular expression: repetition operator missing expression; write `~(?i)` for nginx's `~*`",
            ],
        ),
    ]);
}

#[test]
fn who_sets_which_header() {
    assert_errors(&[
        (
            "auth: [{name: staff, jwt: {issuer: \"https://a\", audience: b, keys: [{alg: HS256, secret: \"$env://JWT_SECRET\"}], claims: {headers: {X-User: sub}}}}]\nroutes:\n  - {name: a, paths: [/a], headers: {x-user: b, X-Request-Id: c}}\n  - {name: b, paths: [/b], headers: {X-User: d}}",
            &[
                "f:4: routes[0].headers.x-user: is set from a claim by `auth` `staff`: nobody else may set it",
                "f:4: routes[0].headers.X-Request-Id: this header is set by nginx or the gateway",
                "f:5: routes[1].headers.X-User: is set from a claim by `auth` `staff`: nobody else may set it",
            ],
        ),
        (
            &format!(
                "routes: [{{name: a, paths: [/a], cors: {{origins: [\"*\"], expose: [{}]}}}}]",
                (0..65).map(|n| format!("X-{n}")).collect::<Vec<_>>().join(", ")
            ),
            &["f:2: routes[0].cors.expose: has 65 entries, at most 64 are possible"],
        ),
    ]);
}

#[test]
fn what_is_not_built_is_refused_by_name() {
    assert_errors(&[
        ("graphql: []\nversions: []", &["f:2: graphql: not supported yet", "f:3: versions: not supported yet"]),
        ("defaults: {transform: {}}", &["f:2: defaults.transform: not supported yet"]),
        (
            "upstreams: [{name: u, nodes: [{host: a, port: 1}], pool: p}]",
            &["f:2: upstreams[0].pool: not supported yet"],
        ),
        (
            "limiters: [{name: l, key: [ip], rate: 1/s, store: redis, strict: true, on_store_error: deny}]",
            &[
                "f:2: limiters[0].store: `redis` is not supported yet",
                "f:2: limiters[0].strict: `true` is not supported yet",
                "f:2: limiters[0].on_store_error: `deny` is not supported yet",
            ],
        ),
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
        ("limiters: [{name: l, key: [], rate: 1/s}]", &["f:2: limiters[0].key: must have at least one entry"]),
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
            "upstreams: [{name: u, nodes: [{host: a, port: 1}], breaker: {failure_ratio: 0%, jitter: 101%, slow_call: 2, open_for_max: 29s}}]",
            &[
                "f:2: upstreams[0].breaker.failure_ratio: must be above 0%",
                "f:2: upstreams[0].breaker.jitter: must be at most 100%",
                "f:2: upstreams[0].breaker.slow_call: must be a duration such as `10s`, found a number",
                "f:2: upstreams[0].breaker.open_for_max: must not be below `open_for`, which is `30s` where none is written",
            ],
        ),
        (
            "upstreams: [{name: u, nodes: [{host: a, port: 1}], breaker: {minimum_calls: 5, min_requests: 1}}]",
            &[
                "f:2: upstreams[0].breaker.minimum_calls: belongs to `failure_ratio`, which is not there",
                "f:2: upstreams[0].breaker: unknown field `min_requests`; our word is `minimum_calls`",
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
fn hosts_and_paths() {
    let route = |fields: &str| format!("version: 1\nroutes: [{{name: a, {fields}}}]\n");
    let rule = |fields: &str| load(&route(fields)).unwrap().document.routes.remove(0).rules.remove(0);
    let exact = |text: &str| Path::Exact(text.into());
    for (written, expected) in [
        ("/a b", exact("/a b")),
        ("/a%20b", exact("/a b")),
        ("/%C3%BC", exact("/\u{fc}")),
        ("/\u{fc}", exact("/\u{fc}")),
        ("/%7Bid%7D", exact("/{id}")),
        ("/a/*", Path::Prefix("/a".into())),
        ("/*", Path::Prefix(Vec::new())),
    ] {
        assert_eq!(rule(&format!("paths: [\"{written}\"]")).path, expected, "for {written}");
    }
    for (written, expected) in [
        ("API.Example.com.", Host::Exact(b"api.example.com".to_vec())),
        ("\"*.Example.com\"", Host::Wildcard(b"example.com".to_vec())),
        ("xn--bcher-kva.example", Host::Exact(b"xn--bcher-kva.example".to_vec())),
    ] {
        let rule = rule(&format!("hosts: [{written}]"));
        assert_eq!((rule.host, rule.path), (expected, Path::Prefix(Vec::new())), "for {written}");
    }
    for (written, part) in [
        ("/a/../b", "`..` never matches"),
        ("/a/%2e%2e/b", "never matches"),
        ("/a//b", "write one slash"),
        ("/a%2Fb", "%2F"),
        ("/a%00", "control character 0x00"),
        ("/a\\u0001", "control character 0x01"),
        ("/a%", "no percent-encoding"),
        ("a", "write `/a`"),
        ("/a*", "a star stands alone"),
        ("/a{id}", "a parameter is a whole segment"),
        ("/{id}/{id}", "two parameters are called `id`"),
    ] {
        let found = load(&route(&format!("paths: [\"{written}\"]"))).unwrap_err();
        assert!(found.starts_with("f:2: routes[0].paths[0]: ") && found.contains(part), "for {written}: {found}");
    }
    for (written, part) in [
        ("b\u{fc}cher.example", "xn--"),
        ("a.example:8080", "write `a.example`"),
        ("https://a.example", "write `a.example`"),
        ("a.*.example", "a star stands alone"),
        ("a..example", "empty label"),
    ] {
        let found = load(&route(&format!("hosts: [\"{written}\"]"))).unwrap_err();
        assert!(found.starts_with("f:2: routes[0].hosts[0]: ") && found.contains(part), "for {written}: {found}");
    }
}

#[test]
fn limiters_that_count_something_else_say_what_they_lack() {
    assert_errors(&[
        (
            "limiters:\n\
             - {name: a, key: [ip, consumer, \"claim:x\"], rate: 1/s, on: auth_failure}\n\
             - {name: b, key: [ip], rate: 1/s, statuses: [404]}\n\
             - {name: c, key: [ip], rate: 1/s, on: response, statuses: [404, 42, x]}\n\
             - {name: d, key: [ip], rate: 1/s, on: failure}\n\
             - {name: e, key: [ip], rate: 1/s, cost: \"X-Cost\"}\n\
             - {name: f, key: [ip], rate: 1/s, cost: \"header:a b\"}",
            &[
                "f:3: limiters[0].key[1]: is known only once auth succeeds, and this limiter counts failures",
                "f:3: limiters[0].key[2]: is known only once auth succeeds, and this limiter counts failures",
                "f:4: limiters[1].statuses: needs `on: response`",
                "f:5: limiters[2].statuses[1]: must be at least 100",
                "f:5: limiters[2].statuses[2]: must be a whole number, found text",
                "f:6: limiters[3].on: must be one of `request`, `auth_failure`, `response`, found `failure`",
                "f:7: limiters[4].cost: must be a whole number or `header:NAME`",
                "f:8: limiters[5].cost: must be the name of a header",
            ],
        ),
        (
            "limiters:\n\
             - {name: a, key: [ip], rate: 1/s, on: response}\n- {name: b, key: [ip], rate: 1/s, on: response}\n\
             - {name: c, key: [ip], rate: 1/s, on: response}\n- {name: d, key: [ip], rate: 1/s, on: response}\n\
             - {name: e, key: [ip], rate: 1/s, on: response}\n\
             routes: [{name: r, paths: [/a], limits: [a, b, c, d, e], max_in_flight: 0}]",
            &[
                "f:8: routes[0].limits: 5 of its limits count failures of auth or answers, at most 4 can",
                "f:8: routes[0].max_in_flight: must be above 0",
            ],
        ),
    ]);
}

#[test]
fn how_nodes_are_chosen() {
    let upstream = |rest: &str| format!("upstreams: [{{name: u, nodes: [{{host: a, port: 1}}], {rest}}}]");
    let cases = [
        (
            "algorithm: hash",
            "f:2: upstreams[0]: needs `hash_on`, such as `[header:x-user]`, where `algorithm` is `hash`",
        ),
        (
            "hash_on: [ip]",
            "f:2: upstreams[0].hash_on: has no meaning where `algorithm` is `adaptive`; write `algorithm: hash`",
        ),
        (
            "algorithm: round_robin, hash_on: [ip]",
            "f:2: upstreams[0].hash_on: has no meaning where `algorithm` is `round_robin`; write `algorithm: hash`",
        ),
        (
            "algorithm: hash, hash_on: [global]",
            "f:2: upstreams[0].hash_on[0]: must differ between requests: by `global` all of them would go to one node",
        ),
        ("algorithm: hash, hash_on: [ip, ip]", "f:2: upstreams[0].hash_on[1]: stands here twice"),
        ("algorithm: hash, hash_on: [remote_addr]", "f:2: upstreams[0].hash_on[0]: our word is `ip`"),
        (
            "algorithm: hash, hash_on: [ip], slow_start: 10s",
            "f:2: upstreams[0].slow_start: has no meaning where `algorithm` is `hash`: each key would move to another node and back",
        ),
        ("max_in_flight: 0", "f:2: upstreams[0].max_in_flight: must be above 0"),
        ("max_conns: 3", "f:2: upstreams[0]: unknown field `max_conns`; our word is `max_in_flight`"),
        ("lb_policy: x", "f:2: upstreams[0]: unknown field `lb_policy`; our word is `algorithm`"),
    ];
    for (rest, error) in cases {
        assert_errors(&[(upstream(rest).as_str(), &[error])]);
    }
    assert_errors(&[
        (upstream("slow_start: 0s, algorithm: p2c_ewma, max_in_flight: 7").as_str(), &[]),
        (
            "upstreams: [{name: u, algorithm: hash, hash_on: [ip], nodes: [{host: a, port: 1, weight: 13000}, {host: b, port: 1, weight: 108}]}]",
            &[
                "f:2: upstreams[0].nodes: weigh 13108 together; where `algorithm` is `hash` that is at most 13107, as each unit of weight takes room: divide all weights by one number",
            ],
        ),
    ]);
}
