//! Conditions, answers without an upstream, templates, CORS and lists of addresses.

use gateway::config::PathPolicy;
use gateway::cors::Origins;
use gateway::router::settings::Answer;
use gateway::router::settings::{Condition, Field, Part, Template, Test};

use super::{assert_errors, load};

#[test]
fn everything_arrives() {
    let document = load(
        r#"
version: 1
lists:
  - {name: office, cidrs: [10.0.0.0/9, 10.128.0.0/9, "2001:db8::/32"]}
  - {name: blocked, file: /etc/lists/office}
bans: [{cidr: "::/0", until: "2026-12-31T23:59:59Z", reason: flood}]
defaults: {path_policy: strict, upstream: u}
upstreams: [{name: u, nodes: [{host: a, port: 1}]}]
routes:
  - name: a
    paths: ["/a/{id}", "/b/{id}/*"]
    match:
      - {header: X-Version, equals: v2}
      - {query: q, in: [b, a, b]}
      - {cookie: c, exists: false}
      - {header: X-A, exists: true, not: true}
      - {header: User-Agent, regex: "(?i)bot", not: true}
    rewrite: "/n%C3%A9w/{id}"
    headers: {X-Id: "id {id}"}
    allow: [office, 192.168.0.0/17, 192.168.128.0/17]
    deny: [blocked]
    cors: {origins: ["https://A.example", "https://*.b.example"], headers: [X-Up], credentials: true, max_age: 1m}
  - {name: teapot, paths: [/teapot], path_policy: normal, reply: {status: 418, headers: {X-A: b}, body: {error: short}}}
  - {name: text, paths: [/text], reply: {body: hello}}
  - {name: moved, paths: ["/old/{*rest}"], redirect: {to: "https://new.example/{rest}", status: 308}}
"#,
    )
    .unwrap()
    .document;
    let [office, blocked] = document.lists.as_slice() else { panic!() };
    assert_eq!((office.ranges.len(), blocked.ranges.len()), (2, 1));
    assert_eq!(document.bans.len(), 2, "without the IPv4 addresses, which are not meant");
    assert!(document.bans.iter().all(|ban| ban.until == 1_798_761_599 && ban.reason == "flood"));

    let [a, teapot, text, moved] = document.routes.as_slice() else { panic!() };
    let condition = |field, test, not| Condition { field, test, not };
    assert_eq!(
        a.conditions,
        [
            condition(Field::Header("x-version".into()), Test::Equals("v2".into()), false),
            condition(Field::Query("q".into()), Test::In(vec!["a".into(), "b".into()]), false),
            condition(Field::Cookie("c".into()), Test::Exists, true),
            condition(Field::Header("x-a".into()), Test::Exists, true),
            condition(Field::Header("user-agent".into()), Test::Regex("(?i)bot".into()), true),
        ]
    );
    let id = || Part::Param("id".into());
    assert_eq!(a.rewrite, Some(Template(vec![Part::Text("/néw/".into()), id()])));
    assert_eq!(a.headers, [("X-Id".to_owned(), Template(vec![Part::Text("id ".into()), id()]))]);
    assert_eq!((a.allow.ranges.len(), a.allow.lists.as_slice()), (1, &["office".to_owned()][..]));
    assert_eq!((a.deny.ranges.len(), a.deny.lists.as_slice()), (0, &["blocked".to_owned()][..]));
    let cors = a.cors.as_ref().unwrap();
    assert_eq!(cors.origins, Origins::These(vec!["https://*.b.example".into(), "https://a.example".into()]));
    assert_eq!((cors.headers.as_slice(), cors.credentials, cors.max_age), (&["x-up".to_owned()][..], true, 60));
    assert_eq!((a.path_policy, teapot.path_policy), (PathPolicy::Strict, PathPolicy::Normal));

    // An answer of its own goes before the upstream of `defaults`.
    assert_eq!((a.upstream.as_deref(), teapot.upstream.as_deref()), (Some("u"), None));
    let Some(Answer::Reply(reply)) = &teapot.answer else { panic!() };
    assert_eq!((reply.status, reply.body.as_str()), (418, r#"{"error":"short"}"#));
    let line = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(reply.headers, [line("Content-Type", "application/json"), line("X-A", "b")]);
    let Some(Answer::Reply(reply)) = &text.answer else { panic!() };
    assert_eq!((reply.status, reply.body.as_str(), reply.headers.len()), (200, "hello", 0));
    let Some(Answer::Redirect(redirect)) = &moved.answer else { panic!() };
    assert_eq!((redirect.status, redirect.to.0.len()), (308, 2));
}

#[test]
fn conditions() {
    let many = format!(
        "routes: [{{name: a, paths: [/a], match: [{}]}}]",
        (0..17).map(|number| format!("{{query: q{number}, exists: true}}")).collect::<Vec<_>>().join(", ")
    );
    assert_errors(&[
        (
            "routes: [{name: a, paths: [/a], match: [{header: X, cookie: c, equals: a}, {query: q}]}]",
            &[
                "f:2: routes[0].match[0]: needs exactly one of `header`, `query` and `cookie`",
                "f:2: routes[0].match[1]: needs exactly one of `equals`, `in`, `regex` and `exists`",
            ],
        ),
        (
            "routes: [{name: a, paths: [/a], match: [{header: X_A, equals: 2}, {query: q, regex: \"(\"}, {query: q, in: []}]}]",
            &[
                "f:2: routes[0].match[0].header: nginx drops headers with an underscore in their name; write `-`",
                "f:2: routes[0].match[0].equals: must be text, found a number",
                "f:2: routes[0].match[1].regex: is no regular expression: unclosed group",
                "f:2: routes[0].match[2].in: must have at least one entry",
            ],
        ),
        (
            "routes: [{name: a, paths: [/a], match: [{header: X-A, equals: a}, {header: x-a, equals: a}]}]",
            &["f:2: routes[0].match[1]: stands here twice"],
        ),
        (&many, &["f:2: routes[0].match: has 17 entries, at most 16 are possible"]),
    ]);
}

#[test]
fn conditions_tell_routes_apart() {
    let route = |name: &str, condition: &str| format!("{{name: {name}, paths: [/a], match: [{condition}]}}");
    let one = "{query: a, equals: x}, {query: b, exists: true}";
    for (first, second, conflict) in [
        (one, "{query: b, exists: true}, {query: a, equals: x}", true),
        (one, "{query: a, equals: x}, {query: b, exists: false}", false),
        (one, "{query: a, equals: x}", false),
        ("{query: a, in: [x, y]}", "{query: a, in: [y, x]}", true),
        ("", "{query: a, equals: x}", false),
    ] {
        let text = format!("version: 1\nroutes: [{}, {}]", route("r", first), route("s", second));
        let expected = "f:2: routes[1]: `s` and `r` of routes[0] (line 2) both take /a, and nothing tells them apart: give \
                        one a `priority`, or `methods` or `match` of its own";
        assert_eq!(load(&text).err().as_deref(), conflict.then_some(expected), "{first} {second}");
    }
}

#[test]
fn answers() {
    assert_errors(&[
        (
            "upstreams: [{name: u, nodes: [{host: a, port: 1}]}]\nroutes: [{name: a, paths: [/a], upstream: u, reply: {status: 200}}]",
            &["f:3: routes[0]: has both `upstream` and `reply`; a route has one of `upstream`, `reply` and `redirect`"],
        ),
        (
            "routes: [{name: a, paths: [/a], reply: {status: 204, body: x}}]",
            &["f:2: routes[0].reply.body: an answer of status 204 has no body"],
        ),
        (
            "routes: [{name: a, paths: [/a], reply: {status: 100, headers: {Content-Length: \"1\", X-A: \"a\\nb\"}, body: 1}}]",
            &[
                "f:2: routes[0].reply.status: must be at least 200",
                "f:2: routes[0].reply.headers.Content-Length: this header is set by nginx or the gateway",
                "f:2: routes[0].reply.headers.X-A: a header's value cannot hold control characters",
                "f:2: routes[0].reply.body: must be text or an object, found a number",
            ],
        ),
        (
            "routes: [{name: a, paths: [/a], redirect: {to: //evil.example, status: 305}}]",
            &[
                "f:2: routes[0].redirect.to: `//` begins another host: write its URL with `https://`",
                "f:2: routes[0].redirect.status: must be 301, 302, 303, 307 or 308",
            ],
        ),
        ("routes: [{name: a, paths: [/a], redirect: {}}]", &["f:2: routes[0].redirect: needs `to`: a path or a URL"]),
    ]);
}

#[test]
fn templates() {
    assert_errors(&[
        (
            "routes: [{name: a, paths: [\"/a/{id}\", /b], rewrite: \"/x/{id}\", headers: {X-Id: \"{id}\"}}]",
            &[
                "f:2: routes[0].rewrite: needs the parameter `id`, which /b does not have",
                "f:2: routes[0].headers.X-Id: needs the parameter `id`, which /b does not have",
            ],
        ),
        (
            "defaults: {headers: {X-Id: \"{id}\"}}\nroutes: [{name: a, paths: [/b]}]",
            &["f:3: routes[0]: headers (by `defaults`) needs the parameter `id`, which /b does not have"],
        ),
        (
            "routes: [{name: a, paths: [/b], rewrite: /x, strip_prefix: true}]",
            &["f:2: routes[0].rewrite: `rewrite` and `strip_prefix` exclude each other"],
        ),
        (
            "routes: [{name: a, paths: [/b], rewrite: \"/x?y\", headers: {Host: a, X-A: \"{\"}}]",
            &[
                "f:2: routes[0].rewrite: a path has no query and no fragment: the client's query is kept",
                "f:2: routes[0].headers.Host: this header is set by nginx or the gateway",
                "f:2: routes[0].headers.X-A: braces stand around the name of a path parameter, such as `{id}`",
            ],
        ),
    ]);
}

#[test]
fn cors() {
    assert_errors(&[
        (
            "routes: [{name: a, paths: [/b], cors: {origins: [\"*\"], credentials: true}}]",
            &["f:2: routes[0].cors.origins: `*` and `credentials: true` exclude each other: name the origins"],
        ),
        (
            "routes: [{name: a, paths: [/b], cors: {allow_origins: [a], max_age: 100ms}}]",
            &[
                "f:2: routes[0].cors: needs `origins`: a list",
                "f:2: routes[0].cors: unknown field `allow_origins`; our word is `origins`",
                "f:2: routes[0].cors.max_age: must be whole seconds",
            ],
        ),
        (
            "routes: [{name: a, paths: [/b], cors: {origins: [https://a.example/]}}]",
            &["f:2: routes[0].cors.origins[0]: an origin has no path: write `https://a.example`"],
        ),
    ]);
}

#[test]
fn cache() {
    assert_errors(&[
        (
            "routes: [{name: a, paths: [/b], proxy_cache: {}, cache: {cache_ttl: 5, levels: [redis], methods: [POST]}}]",
            &[
                "f:2: routes[0]: unknown field `proxy_cache`; our word is `cache`",
                "f:2: routes[0].cache: needs `zone`: the name of a zone of `proxy_cache_path`",
                "f:2: routes[0].cache: unknown field `cache_ttl`; our word is `ttl`, a duration or one for each status",
                "f:2: routes[0].cache.levels[0]: `redis` is not supported yet",
                "f:2: routes[0].cache.methods[0]: must be one of `GET`, `HEAD`, found `POST`",
            ],
        ),
        (
            "routes: [{name: a, paths: [/b], cache: {zone: off, ttl: {200: 0s, 206: 1s, any: 1500ms, 404: 5}}}]",
            &[
                "f:2: routes[0].cache.zone: `off` is what routes without `cache` have",
                "f:2: routes[0].cache.ttl.200: must be above 0",
                "f:2: routes[0].cache.ttl.206: `206` must be a status from 200 to 599 other than 206 and 304, or `any`",
                "f:2: routes[0].cache.ttl.any: must be whole seconds",
                "f:2: routes[0].cache.ttl.404: must be a duration such as `10s`, found a number",
            ],
        ),
        (
            "routes: [{name: a, paths: [/b], cache: {zone: z, key: {query: {allow: [a], deny: [b]}, headers: [Cookie, X_A], consumer: all}}}]",
            &[
                "f:2: routes[0].cache.key.query: needs `allow` or `deny`, not both",
                "f:2: routes[0].cache.key.headers[0]: name the cookies that count in `cookies`",
                "f:2: routes[0].cache.key.headers[1]: nginx drops headers with an underscore in their name; write `-`",
                "f:2: routes[0].cache.key.consumer: must be one of `auto`, `shared`, found `all`",
            ],
        ),
        (
            "routes: [{name: a, paths: [/b], reply: {status: 204}, cache: {zone: z, tags: [a/b]}}]",
            &[
                "f:2: routes[0].cache: has no meaning beside `reply` and `redirect`: what the route answers by itself is fetched from nobody",
                "f:2: routes[0].cache.tags[0]: a name cannot hold '/'",
            ],
        ),
    ]);
}

#[test]
fn addresses() {
    assert_errors(&[
        (
            "lists: [{name: office, cidrs: [10.0.0.0/8]}]\nroutes: [{name: a, paths: [/b], allow: [ofice, 10.0.0.1/8, 10.0.0.256]}]",
            &[
                "f:3: routes[0].allow[0]: no list is called `ofice`, did you mean `office`?",
                "f:3: routes[0].allow[1]: has bits beyond its prefix: write `10.0.0.0/8`",
                "f:3: routes[0].allow[2]: must be an address or a block such as `10.0.0.0/8`",
            ],
        ),
        (
            "lists: [{name: a}, {name: b, cidrs: [], file: /x}, {name: c, file: /none}, {name: d, file: /etc/lists/wrong}, {name: 10.0.0.1, cidrs: []}]",
            &[
                "f:2: lists[0]: needs `cidrs` or `file`",
                "f:2: lists[1]: needs `cidrs` or `file`, not both",
                "f:2: lists[2].file: cannot read `/none`: No such file or directory (os error 2)",
                "f:2: lists[3].file: line 2: has bits beyond its prefix: write `10.0.0.0/8`",
                "f:2: lists[4].name: an address cannot be a list's name",
            ],
        ),
        (
            "lists: [{name: a, cidrs: []}, {name: a, cidrs: []}]\nbans: [{cidr: x, until: tomorrow}]",
            &[
                "f:2: lists[1].name: `a` is the name of lists[0] too, in line 2",
                "f:3: bans[0].cidr: must be an address or a block such as `10.0.0.0/8`",
                "f:3: bans[0].until: must be a time such as `2026-12-31T23:59:59Z`",
            ],
        ),
    ]);
}
