//! What a route may ask of a request beside host, path and method, whom it lets in, and what it answers by itself.

use std::net::IpAddr;

use gateway::gateway::{Decision, Respond};
use gateway::types::Method;
use serde_json::json;

use crate::support::{Fake, Gateway, at};
use crate::{document, token};

/// The route that takes the request, or why it was refused.
fn route(gateway: &mut Gateway, request: &Fake) -> String {
    let (decision, ticket) = gateway.access(0, request, at(0.0));
    match decision {
        Decision::Reply(reply) => reply.reason.code().to_owned(),
        _ => ticket.route_name().to_owned(),
    }
}

fn lines(gateway: &Gateway) -> Vec<String> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let worker = &gateway.workers[0];
    worker
        .response_headers()
        .chain(worker.answer_headers())
        .map(|(name, value)| format!("{}: {}", text(name), text(value)))
        .collect()
}

/// The path that is forwarded, and the headers that are set.
fn forwarded(gateway: &mut Gateway, request: &Fake) -> Result<(String, Vec<String>), String> {
    match gateway.access(0, request, at(0.0)).0 {
        Decision::Forward => {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let worker = &gateway.workers[0];
            let set = worker.request_headers().map(|(name, value)| format!("{}: {}", text(name), text(value)));
            Ok((worker.forwarded_path().map(text).unwrap_or_default(), set.collect()))
        }
        Decision::Reply(reply) => Err(reply.reason.code().to_owned()),
        other => Err(format!("{other:?}")),
    }
}

const U: &str = "upstreams: [{name: u, nodes: [{host: 127.0.0.1, port: 1}]}]\n";

#[test]
fn conditions_choose_among_routes() {
    let mut gateway = Gateway::new(
        &document(
            r#"
routes:
  - {name: plain, paths: ["/a/*"]}
  - {name: v2, paths: ["/a/*"], match: [{header: X-Version, equals: "2"}]}
  - {name: v2-beta, paths: ["/a/*"], match: [{header: X-Version, equals: "2"}, {query: beta, exists: true}]}
  - {name: canary, paths: ["/a/*"], priority: 1, match: [{cookie: canary, regex: "^(yes|true)$"}]}
  - {name: posts, paths: ["/a/*"], methods: [POST]}
  - {name: bots, paths: ["/b"], match: [{header: User-Agent, regex: "(?i)bot"}]}
  - {name: people, paths: ["/b"], match: [{header: User-Agent, regex: "(?i)bot", not: true}, {query: as, in: [a, b c]}]}
"#,
        ),
        1,
    );
    for (request, expected) in [
        (Fake::get("/a/x"), "plain"),
        (Fake::get("/a/x").header("X-Version", "2"), "v2"),
        (Fake::get("/a/x").header("X-Version", "1, 2"), "plain"),
        (Fake::get("/a/x").header("X-Version", "2").header("X-Version", "1"), "plain"),
        (Fake::get("/a/x?beta").header("X-Version", "2"), "v2-beta"),
        (Fake::get("/a/x?beta").header("X-Version", "3"), "plain"),
        (Fake::get("/a/x").header("Cookie", "a=b; canary=true"), "canary"),
        (Fake::get("/a/x").header("X-Version", "2").header("Cookie", "canary=yes"), "canary"),
        (Fake::get("/a/x").header("Cookie", "canary=yes; canary=no"), "plain"),
        (Fake::get("/a/x").method(Method::Post), "posts"),
        (Fake::get("/a/x").method(Method::Post).header("X-Version", "2"), "posts"),
        (Fake::get("/b").header("User-Agent", "GoodBot/1"), "bots"),
        (Fake::get("/b?as=b+c").header("User-Agent", "curl"), "people"),
        (Fake::get("/b?as=%61").header("User-Agent", "curl"), "people"),
        (Fake::get("/b?as=c").header("User-Agent", "curl"), "route.none"),
        (Fake::get("/b"), "route.none"),
        (Fake::get("/b?as=a"), "people"),
    ] {
        assert_eq!(route(&mut gateway, &request), expected, "{:?} {:?}", request.target, request.headers);
    }
}

#[test]
fn expressions_stand_between_patterns_and_prefixes() {
    let mut gateway = Gateway::new(
        &document(
            r#"
routes:
  - {name: all, paths: ["/*"]}
  - {name: version, paths: ['~^/v\d+']}
  - {name: version-one, paths: ['~^/v1/(a|b)$']}
  - {name: image, paths: ['~\.(png|jpg)$'], methods: [GET]}
  - {name: pattern, paths: ["/v1/{x}/c"]}
  - {name: exact, paths: ["/v1/exact"]}
"#,
        ),
        1,
    );
    for (path, expected) in [
        ("/v1/exact", "exact"),
        ("/v1/q/c", "pattern"),
        ("/v1/a", "version-one"),
        ("/v1/c", "version"),
        ("/v22", "version"),
        ("/v", "all"),
        ("/x/y.png", "image"),
        ("/v1/y.png", "version"),
    ] {
        assert_eq!(route(&mut gateway, &Fake::get(path)), expected, "{path}");
    }
    let other = Fake::get("/x/y.png").method(Method::Post);
    assert_eq!(route(&mut gateway, &other), "all");
}

#[test]
fn a_condition_is_no_reason_to_speak_of_methods() {
    let mut gateway = Gateway::new(
        &document("routes: [{name: r, paths: [\"/a\"], methods: [POST], match: [{header: X, exists: true}]}]\n"),
        1,
    );
    assert_eq!(route(&mut gateway, &Fake::get("/a")), "route.none");
    assert_eq!(route(&mut gateway, &Fake::get("/a").header("X", "")), "route.method");
}

#[test]
fn addresses() {
    let mut gateway = Gateway::new(
        &document(
            r#"
lists: [{name: office, cidrs: [192.0.2.0/29, "2001:db8::/32"]}, {name: bad, cidrs: [192.0.2.3]}]
bans: [{cidr: 192.0.2.200/30, reason: scraping}, {cidr: 192.0.2.210, until: "2020-01-01T00:00:00Z", reason: old}]
routes:
  - {name: open, paths: ["/open"]}
  - {name: inner, paths: ["/inner"], allow: [office, 192.0.2.100], deny: [bad]}
  - {name: outer, paths: ["/outer"], deny: [office]}
"#,
        ),
        1,
    );
    let v6 = |path: &str, client: &str| Fake { client: client.parse::<IpAddr>().unwrap(), ..Fake::get(path) };
    for (request, expected) in [
        (Fake::get("/open").client(1), "open"),
        (Fake::get("/inner").client(1), "inner"),
        (Fake::get("/inner").client(3), "access.denied"),
        (Fake::get("/inner").client(8), "access.denied"),
        (Fake::get("/inner").client(100), "inner"),
        (v6("/inner", "::ffff:192.0.2.1"), "inner"),
        (v6("/inner", "2001:db8::1"), "inner"),
        (v6("/inner", "2001:db9::1"), "access.denied"),
        (Fake::get("/outer").client(1), "access.denied"),
        (Fake::get("/outer").client(9), "outer"),
        (Fake::get("/open").client(200), "access.banned"),
        (Fake::get("/nowhere").client(203), "access.banned"),
        (Fake::get("/open").client(204), "open"),
        (Fake::get("/open").client(210), "open"),
    ] {
        assert_eq!(route(&mut gateway, &request), expected, "{:?} {}", request.target, request.client);
    }
    // Lists and bans are followed like anything else.
    gateway.load(
        &document("lists: [{name: office, cidrs: [192.0.2.8]}]\nroutes: [{name: inner, paths: [\"/inner\"], allow: [office]}]\n"),
        at(1.0),
    );
    assert_eq!(route(&mut gateway, &Fake::get("/inner").client(200)), "access.denied");
    assert_eq!(route(&mut gateway, &Fake::get("/inner").client(8)), "inner");
}

#[test]
fn a_ban_ends_by_itself() {
    // The tests' clock begins at 2027-01-15T08:00:00Z.
    let mut gateway = Gateway::new(
        &document(
            "bans: [{cidr: 192.0.2.1, until: \"2027-01-15T08:00:10Z\", reason: x}]\nroutes: [{name: r, paths: [\"/*\"]}]\n",
        ),
        1,
    );
    assert_eq!(gateway.verdict(0, &Fake::get("/"), at(9.0)), "access.banned");
    assert_eq!(gateway.verdict(0, &Fake::get("/"), at(10.0)), "forward");
}

#[test]
fn a_million_addresses() {
    let mut text = String::new();
    for n in 0..1_000_000_u32 {
        // Every other address from 10.0.0.0 on.
        text += &format!("{}\n", std::net::Ipv4Addr::from(0x0a00_0000 + 2 * n));
    }
    struct Files(String);
    impl gateway::config::Secrets for Files {
        fn env(&self, _: &str) -> Option<String> {
            None
        }
        fn file(&self, path: &str) -> Result<Vec<u8>, String> {
            Err(path.to_owned())
        }
        fn list(&self, _: &str) -> Result<Vec<u8>, String> {
            Ok(self.0.clone().into_bytes())
        }
    }
    let document =
        "version: 1\nlists: [{name: many, file: /many}]\nroutes: [{name: r, paths: [\"/*\"], deny: [many]}]\n";
    let checked = gateway::config::parse(document, "f", &Files(text)).unwrap();
    let mut gateway = Gateway::sized("version: 1\nroutes: [{name: r, paths: [\"/*\"]}]\n", 1, 64 << 20);
    gateway.leader.publish(&checked.document, at(0.0)).unwrap();
    for (address, expected) in [
        ("10.0.0.0", "access.denied"),
        ("10.0.0.1", "forward"),
        ("10.30.132.126", "access.denied"),
        ("10.30.132.128", "forward"),
    ] {
        let request = Fake { client: address.parse().unwrap(), ..Fake::get("/") };
        assert_eq!(gateway.verdict(0, &request, at(1.0)), expected, "{address}");
    }
    assert_eq!(gateway.leader.publish(&checked.document, at(0.0)).unwrap().written, 0);
}

#[test]
fn strict_paths_are_the_route_s_own_affair() {
    let mut gateway = Gateway::new(
        &document(
            "routes: [{name: strict, paths: [\"/s/*\"], path_policy: strict}, {name: normal, paths: [\"/n/*\"]}]\n",
        ),
        1,
    );
    for (path, expected) in [
        ("/s/a", "strict"),
        ("/s/a;b", "path.refused"),
        ("/n/a;b", "normal"),
        ("/s/%252e", "path.refused"),
        ("/n/%252e", "normal"),
        ("/n/%2f", "path.refused"),
    ] {
        let request = Fake { path: path.replace("%25", "%").into_bytes(), ..Fake::get(path) };
        assert_eq!(route(&mut gateway, &request), expected, "{path}");
    }
}

#[test]
fn rewriting_and_headers() {
    let mut gateway = Gateway::new(
        &document(&format!(
            r#"{U}
routes:
  - {{name: r, paths: ["/users/{{id}}/{{what}}"], rewrite: "/v2/{{what}}/of/{{id}}", headers: {{X-User-Id: "{{id}}", X-Fixed: "a b"}}, upstream: u}}
  - {{name: f, paths: ["/f/{{*rest}}"], rewrite: "/{{rest}}", upstream: u}}
  - {{name: s, paths: ["/s/{{id}}/*"], strip_prefix: true, headers: {{X-Seven: "{{id}}"}}, upstream: u}}
  - {{name: x, paths: ['~^/x\d/', '~^/y/z\d'], strip_prefix: true, upstream: u}}
"#
        )),
        1,
    );
    for (path, target, expected) in [
        ("/users/7/orders", "/users/7/orders", Ok(("/v2/orders/of/7", "X-Fixed: a b|X-User-Id: 7"))),
        ("/users/a b/ü", "/users/a%20b/%C3%BC", Ok(("/v2/ü/of/a b", "X-Fixed: a b|X-User-Id: a b"))),
        ("/users/;../x", "/users/;../x", Ok(("/v2/x/of/;..", "X-Fixed: a b|X-User-Id: ;.."))),
        ("/users/..;/x", "/users/..;/x", Err("path.refused")),
        ("/users/%2e%2e/x", "/users/%252e%252e/x", Err("path.refused")),
        ("/f/a/b", "/f/a/b", Ok(("/a/b", ""))),
        ("/f/%2e%2e/b", "/f/%252e%252e/b", Err("path.refused")),
        ("/s/7/y", "/s/7/y", Ok(("/7/y", "X-Seven: 7"))),
        ("/x1/y", "/x1/y", Ok(("/x1/y", ""))),
        ("/y/z1/y", "/y/z1/y", Ok(("/z1/y", ""))),
    ] {
        let request = Fake { path: path.into(), ..Fake::get(target) };
        let found = forwarded(&mut gateway, &request).map(|(path, set)| (path, set.join("|")));
        let expected = expected.map(|(path, set)| (path.to_owned(), set.to_owned())).map_err(str::to_owned);
        assert_eq!(found, expected, "{path}");
    }
    // The client's own copies give way, in every spelling, while the route sets them.
    gateway.access(0, &Fake::get("/users/7/orders"), at(0.0));
    for (name, expected) in [("x-user-id", true), ("X_User_Id", true), ("x-fixed", true), ("x-other", false)] {
        assert_eq!(gateway.workers[0].is_replaced(name.as_bytes()), expected, "{name}");
    }
    gateway.access(0, &Fake::get("/f/a"), at(0.0));
    assert!(!gateway.workers[0].is_replaced(b"x-fixed"));
}

#[test]
fn answers_of_the_route() {
    let mut gateway = Gateway::new(
        &document(
            r#"
limiters: [{name: one, key: [ip], rate: 1/h, burst: 1}]
routes:
  - {name: reply, paths: ["/reply"], reply: {status: 503, headers: {X-Why: maintenance, Retry-After: "60"}, body: {error: later}}}
  - {name: text, paths: ["/text"], reply: {body: hello}}
  - {name: moved, paths: ["/old/{id}"], redirect: {to: "/new/{id}?from=old", status: 301}}
  - {name: away, paths: ["/away/{*rest}"], redirect: {to: "https://b.example/{rest}"}}
  - {name: staff, paths: ["/staff"], auth: [staff], reply: {body: secret}}
  - {name: limited, paths: ["/limited"], limits: [one], reply: {status: 204}}
"#,
        ),
        1,
    );
    let mut ask = |request: &Fake| {
        let (decision, ticket) = gateway.access(0, request, at(0.0));
        if let Decision::Reply(reply) = decision {
            return (reply.reason.code().to_owned(), String::new(), Vec::new());
        }
        assert_eq!(decision, Decision::Respond(Respond::Route));
        assert_eq!((ticket.decision(), ticket.reason()), ("respond", ""));
        let (status, body) = gateway.workers[0].response();
        let body = String::from_utf8(body.to_vec()).unwrap();
        (status.to_string(), body, lines(&gateway))
    };
    let answer = |status: &str, body: &str, lines: &[&str]| {
        (status.to_owned(), body.to_owned(), lines.iter().map(|&line| line.to_owned()).collect::<Vec<_>>())
    };
    for (path, target, expected) in [
        (
            "/reply",
            "/reply",
            answer(
                "503",
                r#"{"error":"later"}"#,
                &["Content-Type: application/json", "Retry-After: 60", "X-Why: maintenance"],
            ),
        ),
        ("/text", "/text", answer("200", "hello", &[])),
        ("/old/7", "/old/7", answer("301", "", &["Location: /new/7?from=old"])),
        ("/old/a?b", "/old/a%3Fb", answer("301", "", &["Location: /new/a%3Fb?from=old"])),
        ("/away/a/b c", "/away/a/b%20c", answer("302", "", &["Location: https://b.example/a/b%20c"])),
        ("/staff", "/staff", answer("auth.missing", "", &[])),
        ("/limited", "/limited", answer("204", "", &[])),
        ("/limited", "/limited", answer("limit.exceeded", "", &[])),
    ] {
        assert_eq!(ask(&Fake { path: path.into(), ..Fake::get(target) }), expected, "{path}");
    }
    assert_eq!(ask(&Fake::get("/staff").bearer(&token("anna", json!({})))).1, "secret");
    // Nothing of one answer is left in the next.
    assert_eq!(ask(&Fake::get("/text")), answer("200", "hello", &[]));
}

#[test]
fn origins() {
    let mut gateway = Gateway::new(
        &document(&format!(
            r#"{U}
limiters: [{{name: one, key: [ip], rate: 1/h, burst: 1}}]
routes:
  - {{name: api, paths: ["/api/*"], methods: [GET, PUT], auth: [staff], limits: [one], upstream: u, deny: [192.0.2.66],
     cors: {{origins: ["https://app.example"], headers: [X-A], expose: [X-B], credentials: true}}}}
  - {{name: v2, paths: ["/api/*"], methods: [GET, PUT], match: [{{header: X-Version, equals: "2"}}], upstream: u,
     cors: {{origins: ["*"]}}}}
  - {{name: own, paths: ["/own"], upstream: u}}
  - {{name: hello, paths: ["/hello"], reply: {{body: hello}}, cors: {{origins: ["*"]}}}}
"#
        )),
        1,
    );
    let asked = |path: &str, origin: &str, method: &str| {
        let request = Fake::get(path).method(Method::Options).header("Origin", origin);
        if method.is_empty() { request } else { request.header("Access-Control-Request-Method", method) }
    };
    let app = "https://app.example";
    // A preflight is answered before auth and limits, for the first route with `cors` that may take what follows.
    let (decision, ticket) = gateway.access(0, &asked("/api/x", app, "PUT"), at(0.0));
    assert_eq!((decision, ticket.route_name()), (Decision::Respond(Respond::Preflight), "v2"));
    assert_eq!(gateway.workers[0].response(), (204, &b""[..]));
    assert_eq!(
        lines(&gateway),
        [
            "Vary: Origin, Access-Control-Request-Method, Access-Control-Request-Headers",
            "Access-Control-Allow-Origin: *",
            "Access-Control-Allow-Methods: GET, PUT",
            "Access-Control-Max-Age: 600"
        ]
    );
    // Of a method that no route with `cors` takes, and where there is none, it is a request like any other.
    assert_eq!(gateway.verdict(0, &asked("/api/x", app, "DELETE"), at(0.0)), "route.method");
    assert_eq!(gateway.verdict(0, &asked("/own", app, "GET"), at(0.0)), "forward");
    assert_eq!(gateway.verdict(0, &asked("/api/x", app, ""), at(0.0)), "route.method");
    // Refusals can be read by the page, too; those of the route's lists come before.
    let get = |origin: &str| Fake::get("/api/x").header("Origin", origin);
    assert_eq!(gateway.verdict(0, &get(app), at(0.0)), "auth.missing");
    let granted = [
        "Vary: Origin",
        "Access-Control-Allow-Origin: https://app.example",
        "Access-Control-Allow-Credentials: true",
        "Access-Control-Expose-Headers: x-b",
    ];
    assert_eq!(lines(&gateway), granted);
    assert_eq!(gateway.verdict(0, &get(app), at(0.0)), "limit.exceeded");
    assert_eq!(lines(&gateway), granted);
    assert_eq!(gateway.verdict(0, &get(app).client(66), at(0.0)), "access.denied");
    assert!(lines(&gateway).is_empty());
    let staff = token("anna", json!({}));
    let (decision, ticket) = gateway.access(0, &get("https://evil.example").client(2).bearer(&staff), at(0.0));
    assert_eq!((decision, ticket.owns_cors()), (Decision::Forward, true));
    assert_eq!(lines(&gateway), ["Vary: Origin"]);
    let (_, ticket) = gateway.access(0, &Fake::get("/own").header("Origin", app), at(0.0));
    assert!(!ticket.owns_cors() && lines(&gateway).is_empty());
    gateway.access(0, &Fake::get("/hello").header("Origin", app), at(0.0));
    assert_eq!(lines(&gateway), ["Access-Control-Allow-Origin: *"]);
}

/// With `satisfy any` another module may let the caller in; then the request goes the way of one that was let in here.
#[test]
fn who_is_refused_would_go_the_same_way() {
    let mut gateway = Gateway::new(
        &document(&format!(
            r#"{U}
routes:
  - {{name: strip, paths: ["/strip/*"], strip_prefix: true, headers: {{X-Set: a}}, auth: [staff], upstream: u}}
  - {{name: rewrite, paths: ["/r/{{id}}"], rewrite: "/x/{{id}}", auth: [staff], permissions: {{any: [a:b]}}, upstream: u}}
  - {{name: reply, paths: ["/reply"], auth: [staff], reply: {{status: 201, headers: {{X-A: b}}, body: hello}}}}
  - {{name: denied, paths: ["/denied/*"], strip_prefix: true, deny: [0.0.0.0/0, "::/0"], upstream: u}}
"#
        )),
        1,
    );
    for (path, reason, forwarded, answer) in [
        ("/strip/x", "auth.missing", Some("/x"), (0, "")),
        ("/r/a b", "auth.missing", Some("/x/a b"), (0, "")),
        ("/reply", "auth.missing", None, (201, "hello")),
        ("/denied/x", "access.denied", None, (0, "")),
    ] {
        let request = Fake::get(path);
        assert_eq!(route(&mut gateway, &request), reason, "{path}");
        let worker = &gateway.workers[0];
        assert_eq!(worker.forwarded_path(), forwarded.map(str::as_bytes), "{path}");
        assert_eq!(worker.response(), (answer.0, answer.1.as_bytes()), "{path}");
        assert_eq!(worker.response_headers().count(), 0, "{path}: whoever answers, these are the reply's own");
        assert_eq!(worker.answer_headers().count(), usize::from(answer.0 != 0), "{path}");
    }
}

#[test]
fn bodies_are_as_large_as_the_route_says() {
    let mut gateway = Gateway::new(
        &document(&format!(
            "{U}routes:\n  - {{name: small, paths: [/small], upstream: u, max_body: 10}}\n  - {{name: any, paths: [/any], upstream: u}}\n"
        )),
        1,
    );
    for (path, length, expected) in [
        ("/small", None, "small"),
        ("/small", Some("10"), "small"),
        ("/small", Some("11"), "body.too_large"),
        ("/any", Some("18446744073709551615"), "any"),
    ] {
        let mut request = Fake::get(path);
        request.headers.extend(length.map(|length| ("content-length".to_owned(), length.into())));
        assert_eq!(route(&mut gateway, &request), expected, "{path} {length:?}");
        let (_, ticket) = gateway.access(0, &request, at(0.0));
        assert_eq!(ticket.max_body(), (path == "/small").then_some(10), "what has no length is counted");
    }
}

#[test]
fn a_route_may_name_who_passes_it_on() {
    let mut gateway = Gateway::new(
        &document(&format!(
            "{U}routes:\n  - {{name: a, paths: [/a], upstream: u, location: \"@a\"}}\n  - {{name: b, paths: [/b], upstream: u}}\n"
        )),
        1,
    );
    for (path, expected) in [("/a", Some("@a")), ("/b", None)] {
        let (_, ticket) = gateway.access(0, &Fake::get(path), at(0.0));
        assert_eq!(ticket.goes_elsewhere(), expected.is_some());
        assert_eq!(gateway.workers[0].location(&ticket, str::to_owned).as_deref(), expected);
    }
}
