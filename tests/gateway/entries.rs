//! Requests that come again, and subrequests.

use gateway::gateway::{Decision, Entry, Outcome, Passed, Ticket};
use serde_json::json;

use crate::support::{Fake, Gateway, at};
use crate::{document, metric, token};

const DOCUMENT: &str = r#"
limiters:
  - {name: l, key: [ip], rate: 1/h, burst: 2}
  - {name: m, key: [ip], rate: 1/h, burst: 1}
upstreams:
  - {name: u, nodes: [{host: 127.0.0.1, port: 1}], breaker: {failures: 1, open_for: 10s, probes: 1, closes_after: 1}}
routes:
  - {name: first, paths: ["/first"], limits: [l], upstream: u}
  - {name: second, paths: ["/second"], limits: [l], upstream: u}
  - {name: third, paths: ["/third"], limits: [l, m]}
  - {name: free, paths: ["/free"]}
  - {name: staff, paths: ["/staff"], auth: [staff]}
  - {name: staff-too, paths: ["/staff-too"], auth: [staff]}
  - {name: others, paths: ["/others"], auth: [by-cookie]}
  - {name: read, paths: ["/read"], auth: [staff], permissions: {any: [a:b]}}
"#;

fn code(gateway: &mut Gateway, request: &Fake, entry: Entry, ticket: &mut Ticket) -> &'static str {
    match gateway.workers[0].access(request, entry, at(0.0), ticket) {
        Decision::Forward => "forward",
        Decision::Reply(reply) => reply.reason.code(),
        Decision::Respond(_) => "respond",
        Decision::Ask(_) => "ask",
    }
}

#[test]
fn again_routes_anew_and_asks_no_limit_twice() {
    let mut gateway = Gateway::new(&document(DOCUMENT), 1);
    for (turn, expected) in ["forward", "forward", "limit.exceeded"].into_iter().enumerate() {
        let mut ticket = Ticket::new();
        assert_eq!(code(&mut gateway, &Fake::get("/first"), Entry::First, &mut ticket), expected, "turn {turn}");
        for path in ["/second", "/first", "/second"] {
            assert_eq!(code(&mut gateway, &Fake::get(path), Entry::Again, &mut ticket), "forward", "turn {turn}");
            assert_eq!(ticket.route_name(), &path[1..]);
            assert_eq!(ticket.limit_status(), if turn == 2 { "REJECTED" } else { "PASSED" });
            let mut buffer = [0; 512];
            assert_eq!(ticket.limit_headers(&mut buffer).count(), 2, "what the limit said still holds");
        }
        gateway.workers[0].complete(&mut ticket, &Outcome { status: 200, ..Outcome::default() }, at(0.0));
    }
    let text = gateway.workers[0].metrics(at(0.0));
    assert_eq!(metric(&text, "gateway_active_connections"), 0.0);
    assert_eq!(metric(&text, "gateway_requests_total{route=\"second\",method=\"GET\",status=\"200\"}"), 3.0, "{text}");
    assert_eq!(metric(&text, "gateway_requests_total{route=\"first\",method=\"GET\",status=\"200\"}"), 0.0);
}

#[test]
fn a_redirect_is_no_way_around_the_limits_of_where_it_leads() {
    let mut gateway = Gateway::new(&document(DOCUMENT), 1);
    for expected in ["forward", "limit.exceeded"] {
        let mut ticket = Ticket::new();
        assert_eq!(code(&mut gateway, &Fake::get("/free"), Entry::First, &mut ticket), "forward");
        assert_eq!(code(&mut gateway, &Fake::get("/third"), Entry::Again, &mut ticket), expected);
        assert_eq!(code(&mut gateway, &Fake::get("/third"), Entry::Again, &mut ticket), "forward", "asked already");
        gateway.workers[0].abandon(&mut ticket);
    }
}

#[test]
fn again_gives_back_the_probe_that_the_first_look_took() {
    let mut gateway = Gateway::new(&document(DOCUMENT), 1);
    let mut ticket = Ticket::new();
    assert_eq!(code(&mut gateway, &Fake::get("/first"), Entry::First, &mut ticket), "forward");
    let outcome = Outcome { status: 502, upstream_status: 502, aborted: false };
    gateway.workers[0].complete(&mut ticket, &outcome, at(0.0));
    let later = at(10.0);
    let mut ticket = Ticket::new();
    let worker = &mut gateway.workers[0];
    assert_eq!(worker.access(&Fake::get("/first"), Entry::First, later, &mut ticket), Decision::Forward);
    assert_eq!(
        worker.access(&Fake::get("/second"), Entry::Again, later, &mut ticket),
        Decision::Forward,
        "the one probe"
    );
}

#[test]
fn subrequests_go_where_their_main_request_or_anybody_may() {
    let mut gateway = Gateway::new(&document(DOCUMENT), 1);
    let bearer = token("anna", json!({"permissions": ["a:b"]}));
    let mut main = |path: &str, with: bool| {
        let mut ticket = Ticket::new();
        let request = if with { Fake::get(path).bearer(&bearer) } else { Fake::get(path) };
        code(&mut gateway, &request, Entry::First, &mut ticket);
        ticket.passed()
    };
    let (staff, read, free) = (main("/staff", true), main("/read", true), main("/free", false));
    assert_eq!(main("/staff", false), Passed::default(), "refused, so it passed nothing");
    for (passed, path, expected) in [
        (free, "/free", "forward"),
        (free, "/staff", "auth.missing"),
        (staff, "/staff", "forward"),
        (staff, "/staff-too", "forward"),
        (staff, "/others", "auth.missing"),
        (staff, "/read", "auth.missing"),
        (read, "/read", "forward"),
        (read, "/staff", "forward"),
        (Passed::default(), "/staff", "auth.missing"),
        (Passed::default(), "/read", "auth.missing"),
        (Passed::default(), "/free", "forward"),
        (Passed::default(), "/none", "route.none"),
    ] {
        let mut ticket = Ticket::new();
        assert_eq!(code(&mut gateway, &Fake::get(path), Entry::Subrequest(passed), &mut ticket), expected, "{path}");
    }
    // They take no limit, with which more than the burst would be refused, and count nowhere.
    for _ in 0..5 {
        let mut ticket = Ticket::new();
        assert_eq!(code(&mut gateway, &Fake::get("/first"), Entry::Subrequest(free), &mut ticket), "forward");
        assert_eq!(ticket.limit_status(), "");
        gateway.workers[0].complete(&mut ticket, &Outcome { status: 200, ..Outcome::default() }, at(0.0));
    }
    let text = gateway.workers[0].metrics(at(0.0));
    assert_eq!(metric(&text, "gateway_requests_total{route=\"first\",method=\"GET\",status=\"200\"}"), 0.0, "{text}");
}
