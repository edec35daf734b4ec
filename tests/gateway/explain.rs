//! What is told is what was decided.

use gateway::gateway::{Decision, Entry, Notes, Step, Ticket};
use serde_json::json;

use crate::support::{Fake, Gateway, at};
use crate::{document, token};

const DOCUMENT: &str = r#"
limiters:
  - {name: ip, key: [ip], rate: 1/h, burst: 100}
  - {name: user, key: [consumer], rate: 1/h, burst: 1}
upstreams: [{name: u, nodes: [{host: 127.0.0.1, port: 1}], breaker: {failures: 1}}]
routes:
  - {name: r, paths: ["/r/*"], methods: [GET], auth: [staff], permissions: {any: [a:b]}, limits: [user, ip], upstream: u, strip_prefix: true}
"#;

#[test]
fn notes_say_what_access_decides_in_the_order_of_one_request() {
    let good = token("anna", json!({"permissions": "a:b"}));
    let all = [
        Step::Route,
        Step::Limit,
        Step::Auth,
        Step::Permission,
        Step::Limit,
        Step::Forward,
        Step::Balancer,
        Step::Breaker,
    ];
    let cases: Vec<(Fake, &str, &[Step], &str)> = vec![
        (Fake::get("/none"), "route.none", &all[..1], "no route matches"),
        (
            Fake::get("/r/x").method(gateway::types::Method::Put),
            "route.method",
            &[Step::Route, Step::Route],
            "routes match, but none for PUT",
        ),
        (Fake::get("/r/x"), "auth.missing", &all[..2], "\"ip\" admits, 99 of 100 left"),
        (Fake::get("/r/x").bearer("x.y.z"), "auth.malformed", &all[..3], "\"staff\" refuses: auth.malformed"),
        (
            Fake::get("/r/x").bearer(&token("anna", json!({}))),
            "permission.missing",
            &all[..4],
            "none of what is granted is what is required",
        ),
        (Fake::get("/r/x").bearer(&good), "forward", &all, "lets it through"),
        (Fake::get("/r/x").bearer(&good), "limit.exceeded", &all[..5], "\"user\" refuses: limit.exceeded"),
    ];
    // Two gateways that see the same requests: one tells, one does not.
    let (mut silent, mut told) = (Gateway::new(&document(DOCUMENT), 1), Gateway::new(&document(DOCUMENT), 1));
    for (request, expected, steps, last) in cases {
        let mut notes = Notes::default();
        let mut ticket = Ticket::new();
        let decision = told.workers[0].access_with(&request, Entry::First, at(0.0), &mut ticket, &mut notes);
        let (plain, other) = silent.access(0, &request, at(0.0));
        assert_eq!(decision, plain);
        assert_eq!((ticket.reason(), ticket.decision()), (other.reason(), other.decision()));
        assert_eq!(told.workers[0].forwarded_path(), silent.workers[0].forwarded_path());
        let code = if decision == Decision::Forward { "forward" } else { ticket.reason() };
        assert_eq!(code, expected);
        assert_eq!(notes.0.iter().map(|(step, _)| *step).collect::<Vec<_>>(), steps, "{notes:?}");
        assert_eq!(notes.0.last().unwrap().1, last, "{notes:?}");
    }
}

#[test]
fn every_candidate_is_told_why_it_lost() {
    let mut gateway = Gateway::new(
        &document(
            r#"
routes:
  - {name: winner, paths: ["/a/{id}"], hosts: [gw.example]}
  - {name: post, paths: ["/a/{id}"], hosts: [gw.example], methods: [POST]}
  - {name: asks, paths: ["/a/{id}"], hosts: [gw.example], match: [{header: X-A, in: [b, c]}]}
  - {name: first, paths: ["/a/*"], hosts: [gw.example], priority: 5, match: [{cookie: k, regex: "^v"}]}
  - {name: digits, paths: ['~^/a/\d+$'], hosts: [gw.example]}
  - {name: wide, paths: ["/a/*"], hosts: ["*.example"]}
  - {name: wider, paths: ["/a/*"], hosts: [gw.example]}
  - {name: low, paths: ["/a/{x}"], hosts: [gw.example], priority: -1}
  - {name: other, paths: ["/b"], hosts: [b.example]}
  - {name: many, paths: ["/a/{id}", "/a/*"], hosts: [h.example]}
"#,
        ),
        1,
    );
    let mut told = |request: &Fake| {
        let (mut notes, mut ticket) = (Notes::default(), Ticket::new());
        gateway.workers[0].access_with(request, Entry::First, at(0.0), &mut ticket, &mut notes);
        notes.0.into_iter().map(|(_, text)| text).collect::<Vec<_>>()
    };
    assert_eq!(
        told(&Fake::get("/a/x")),
        [
            "not \"first\" (gw.example/a/*): asks for cookie k matching ~^v",
            "not \"asks\" (gw.example/a/{id}): asks for header x-a among \"b\", \"c\"",
            "not \"post\" (gw.example/a/{id}): takes only POST",
            "not \"digits\" (gw.example~^/a/\\d+$): the expression is not found in the path",
            "not \"wider\" (gw.example/a/*): would take it too, and its path is less exact",
            "not \"low\" (gw.example/a/{x}): would take it too, and its priority -1 is below 0",
            "not \"wide\" (*.example/a/*): would take it too, and its host is less exact",
            "route \"winner\", rule 0",
        ]
    );
    assert_eq!(
        told(&Fake::get("/a/x").host("h.example"))[..2],
        [
            "not \"many\" (h.example/a/*): would take it too, and is another path of the same route",
            "not \"wide\" (*.example/a/*): would take it too, and its host is less exact"
        ]
    );
    // Where no route fits, those are told that come near.
    assert_eq!(
        told(&Fake::get("/b").host("c.elsewhere")),
        ["not \"other\": takes /b for other hosts: b.example", "no route matches"]
    );
    assert_eq!(told(&Fake::get("/b/c").host("b.example")), ["not \"other\": takes b.example/b", "no route matches"]);
    assert_eq!(told(&Fake::get("/zzz").host("b.example")), ["no route matches"]);
}
