//! What becomes of a request whose upstream cannot serve.

use gateway::breaker::{Forced, State};
use gateway::gateway::{Decision, Entry, Notes, Outcome, Respond, Ticket, TryEnd};
use gateway::types::{Protocol, Reason};

use crate::support::{Fake, Gateway, at};
use crate::{document, pick, reply};

const DOCUMENT: &str = r#"
upstreams:
  - {name: u, nodes: [{host: 127.0.0.1, port: 1}, {host: 127.0.0.1, port: 2}], breaker: {failures: 2, open_for: 30s, probes: 1}}
  - {name: v, host: v.example, nodes: [{host: 127.0.0.1, port: 3}], breaker: {failures: 2, open_for: 60s}, fallback: {status: 200, body: never}}
routes:
  - {name: answer, paths: ["/answer"], upstream: u, fallback: {body: {error: later}, headers: {X-A: b}}}
  - {name: other, paths: ["/other"], upstream: u, fallback: {upstream: v}}
  - {name: stale, paths: ["/stale"], upstream: u, fallback: {stale: true}}
  - {name: plain, paths: ["/plain"], upstream: u}
"#;

fn new() -> Gateway {
    Gateway::new(&document(DOCUMENT), 2)
}

fn force(gateway: &mut Gateway, name: &str, forced: Forced) {
    assert_eq!(gateway.workers[1].force_breaker(name, Some(forced)), Some(State::Closed));
}

fn shown(ticket: &Ticket) -> (&'static str, &'static str, String) {
    (ticket.decision(), ticket.reason(), ticket.upstream_name().to_owned())
}

#[test]
fn an_answer_takes_the_place_of_the_refusal() {
    let mut gateway = new();
    let (decision, ticket) = gateway.access(0, &Fake::get("/answer"), at(0.0));
    assert_eq!((decision, ticket.has_last_word()), (Decision::Forward, true));
    force(&mut gateway, "u", Forced::Open);
    let (decision, mut ticket) = gateway.access(0, &Fake::get("/answer"), at(0.0));
    assert_eq!(decision, Decision::Respond(Respond::Route));
    assert_eq!(gateway.workers[0].response(), (503, &br#"{"error":"later"}"#[..]));
    let headers: Vec<_> = gateway.workers[0].answer_headers().collect();
    let expected: [(&[u8], &[u8]); 3] =
        [(b"Content-Type", b"application/json"), (b"X-A", b"b"), (b"Retry-After", b"30")];
    assert_eq!(headers, expected);
    assert_eq!(shown(&ticket), ("fallback", "breaker.open", "u".to_owned()));
    gateway.workers[0].complete(&mut ticket, &Outcome { status: 503, ..Outcome::default() }, at(0.0));
    // A gRPC client cannot read it.
    let grpc = Fake { protocol: Protocol::Grpc, ..Fake::get("/answer") };
    let (decision, _) = gateway.access(0, &grpc, at(0.0));
    assert_eq!(reply(decision).reason, Reason::BreakerOpen);
    assert_eq!(gateway.verdict(0, &Fake::get("/plain"), at(0.0)), "breaker.open");
}

#[test]
fn an_answer_comes_after_the_last_try() {
    let mut gateway = new();
    for (status, reason) in [(502, "upstream.failed"), (504, "upstream.timeout")] {
        let (_, mut ticket) = gateway.access(0, &Fake::get("/answer"), at(0.0));
        for _ in 0..2 {
            pick(&mut gateway, 0, &mut ticket, at(0.0));
            gateway.workers[0].tried(&mut ticket, TryEnd::Failed, at(0.0));
        }
        assert_eq!(gateway.workers[0].failed(&mut ticket, status), Ok(Respond::Route));
        assert_eq!(gateway.workers[0].response().0, 503);
        assert_eq!(shown(&ticket), ("fallback", reason, "u".to_owned()));
        // The client's answer is ours, the breaker hears what the upstream did.
        let outcome = Outcome { status: 503, upstream_status: status, aborted: false };
        gateway.workers[0].complete(&mut ticket, &outcome, at(0.0));
    }
    assert_eq!(gateway.verdict(0, &Fake::get("/plain"), at(0.0)), "breaker.open");
}

#[test]
fn another_upstream_serves_and_each_breaker_hears_of_its_own() {
    let mut gateway = new();
    for turn in 0..2 {
        let (decision, mut ticket) = gateway.access(0, &Fake::get("/other"), at(0.0));
        assert_eq!((decision, ticket.has_alternate()), (Decision::Forward, true), "{turn}");
        for _ in 0..2 {
            assert!(["127.0.0.1:1", "127.0.0.1:2"].contains(&&*pick(&mut gateway, 0, &mut ticket, at(0.0))));
            gateway.workers[0].tried(&mut ticket, TryEnd::Failed, at(0.0));
        }
        assert_eq!(pick(&mut gateway, 0, &mut ticket, at(0.0)), "127.0.0.1:3");
        assert!(!ticket.has_alternate());
        assert_eq!(shown(&ticket), ("fallback", "upstream.failed", "v".to_owned()));
        assert_eq!(gateway.workers[0].host(&ticket, str::to_owned).as_deref(), Some("v.example"));
        gateway.workers[0].answered(&mut ticket, at(0.0));
        gateway.workers[0].tried(&mut ticket, TryEnd::Answered(200), at(0.0));
        let outcome = Outcome { status: 200, upstream_status: 200, aborted: false };
        gateway.workers[0].complete(&mut ticket, &outcome, at(0.0));
    }
    // Two failures of u; from now on it is not asked.
    let (decision, mut ticket) = gateway.access(1, &Fake::get("/other"), at(0.0));
    assert_eq!(decision, Decision::Forward);
    assert_eq!(shown(&ticket), ("fallback", "breaker.open", "v".to_owned()));
    assert_eq!(gateway.workers[1].breaker_state(&ticket, at(0.0)), "closed");
    assert_eq!(pick(&mut gateway, 1, &mut ticket, at(0.0)), "127.0.0.1:3");
    gateway.workers[1].tried(&mut ticket, TryEnd::Failed, at(0.0));
    // What it comes to is the end: v's own fallback does not count, and u is not asked again.
    assert_eq!(pick(&mut gateway, 1, &mut ticket, at(0.0)), "upstream.none");
    assert!(!ticket.has_last_word() && !ticket.has_alternate());
    let outcome = Outcome { status: 502, upstream_status: 502, aborted: false };
    gateway.workers[1].complete(&mut ticket, &outcome, at(0.0));
    // One more failure of v, and it cannot serve either; then the refusal is that of the first.
    let (_, mut ticket) = gateway.access(1, &Fake::get("/other"), at(0.0));
    pick(&mut gateway, 1, &mut ticket, at(0.0));
    gateway.workers[1].tried(&mut ticket, TryEnd::Failed, at(0.0));
    gateway.workers[1].complete(&mut ticket, &outcome, at(0.0));
    let (decision, ticket) = gateway.access(1, &Fake::get("/other"), at(0.0));
    assert_eq!((reply(decision).reason, reply(decision).retry_after), (Reason::BreakerOpen, 30));
    assert_eq!(shown(&ticket), ("refuse", "breaker.open", "u".to_owned()));
}

/// A probe of the first upstream that fails is told before the second one serves; one that never was sent gives its
/// place back.
#[test]
fn a_probe_is_settled_when_the_request_turns_away() {
    let mut gateway = new();
    for sent in [true, false] {
        gateway.workers[0].force_breaker("u", Some(Forced::Closed));
        gateway.workers[0].force_breaker("u", None);
        for _ in 0..2 {
            let (_, mut ticket) = gateway.access(0, &Fake::get("/plain"), at(0.0));
            let outcome = Outcome { status: 500, upstream_status: 500, aborted: false };
            gateway.workers[0].complete(&mut ticket, &outcome, at(0.0));
        }
        let (_, mut ticket) = gateway.access(0, &Fake::get("/other"), at(30.0));
        assert_eq!(gateway.workers[0].breaker_state(&ticket, at(30.0)), "half-open");
        if sent {
            pick(&mut gateway, 0, &mut ticket, at(30.0));
            gateway.workers[0].tried(&mut ticket, TryEnd::Failed, at(30.0));
        }
        ticket.give_up();
        if sent {
            assert_eq!(pick(&mut gateway, 0, &mut ticket, at(30.0)), "127.0.0.1:3");
            let (decision, _) = gateway.access(0, &Fake::get("/plain"), at(31.0));
            assert_eq!(reply(decision).retry_after, 29, "reopened at once");
        } else {
            gateway.workers[0].abandon(&mut ticket);
            assert_eq!(gateway.verdict(0, &Fake::get("/plain"), at(30.0)), "forward", "the place is free");
        }
    }
}

#[test]
fn stale_goes_on_to_the_cache_alone() {
    let mut gateway = new();
    force(&mut gateway, "u", Forced::Open);
    let (decision, mut ticket) = gateway.access(0, &Fake::get("/stale"), at(0.0));
    assert_eq!(decision, Decision::Forward);
    assert!(ticket.takes_stale() && ticket.has_last_word());
    assert_eq!(shown(&ticket), ("fallback", "breaker.open", "u".to_owned()));
    assert_eq!(pick(&mut gateway, 0, &mut ticket, at(0.0)), "breaker.open", "the upstream is not asked");
    let refusal = gateway.workers[0].failed(&mut ticket, 502).unwrap_err();
    assert_eq!((refusal.reason, refusal.retry_after), (Reason::BreakerOpen, 30));
    assert_eq!(shown(&ticket).0, "refuse");
}

#[test]
fn an_upstream_without_peers_is_named_to_those_who_may_come() {
    let text = r#"
upstreams: [{name: u, nodes: [{host: nobody.invalid, port: 1}], fallback: {status: 200, body: x}}]
routes: [{name: r, paths: ["/"], upstream: u, auth: [staff]}, {name: open, paths: ["/open"], upstream: u}]
"#;
    let mut gateway = Gateway::new(&document(text), 1);
    assert_eq!(gateway.verdict(0, &Fake::get("/"), at(0.0)), "auth.missing");
    let (decision, ticket) = gateway.access(0, &Fake::get("/open"), at(0.0));
    assert_eq!(decision, Decision::Respond(Respond::Route));
    assert_eq!(shown(&ticket), ("fallback", "upstream.none", "u".to_owned()));
}

#[test]
fn explain_tells_of_it() {
    let mut gateway = new();
    force(&mut gateway, "u", Forced::Open);
    for (target, expected) in [
        ("/answer", "breaker.open: 503 with 17 bytes"),
        ("/other", "breaker.open: upstream \"v\""),
        ("/stale", "breaker.open: what the cache still has"),
    ] {
        let mut notes = Notes::default();
        let mut ticket = Ticket::new();
        gateway.workers[0].access_with(&Fake::get(target), Entry::First, at(0.0), &mut ticket, &mut notes);
        assert!(notes.0.iter().any(|(_, text)| text == expected), "{target}: {:?}", notes.0);
        gateway.workers[0].abandon(&mut ticket);
    }
}
