//! `max_in_flight`: how many requests a route lets in at a time.

use gateway::gateway::{Decision, Entry, Notes, Outcome, Ticket, Worker};
use gateway::state::Identity;
use gateway::types::Reason;

use crate::support::{Fake, Gateway, at};
use crate::{document, reply, token};

const DOCUMENT: &str = r#"
limiters: [{name: ip, key: [ip], rate: 1/h, burst: 3}]
roles: []
upstreams: [{name: u, nodes: [{host: 127.0.0.1, port: 1}], breaker: {failures: 1, open_for: 9s}}]
routes:
  - {name: two, paths: ["/two"], limits: [ip], max_in_flight: 2}
  - {name: guarded, paths: ["/guarded"], auth: [staff], max_in_flight: 1}
  - {name: sent, paths: ["/sent"], upstream: u, max_in_flight: 1}
  - {name: free, paths: ["/free"]}
"#;

const OVER: Outcome = Outcome { status: 200, upstream_status: 0, aborted: false };

/// How many requests are under way on `route`, as the metrics have it.
fn under_way(gateway: &mut Gateway, route: &str) -> f64 {
    let text = gateway.workers[0].metrics(at(0.0));
    crate::metric(&text, &format!("gateway_route_in_flight{{route=\"{route}\"}}"))
}

#[test]
fn so_many_and_no_more_over_all_workers_until_one_is_over() {
    let mut gateway = Gateway::new(&document(DOCUMENT), 3);
    let enter = |gateway: &mut Gateway, worker| gateway.access(worker, &Fake::get("/two"), at(0.0));
    let (_, mut first) = enter(&mut gateway, 0);
    let (_, mut second) = enter(&mut gateway, 1);
    assert_eq!(under_way(&mut gateway, "two"), 2.0);
    let (refused, mut third) = enter(&mut gateway, 2);
    let refused = reply(refused);
    assert_eq!((refused.reason, refused.reason.status(), refused.retry_after), (Reason::LimitInFlight, 503, 1));
    assert_eq!(third.limit_status(), "REJECTED");
    gateway.workers[2].refused(&mut third, refused.reason);
    gateway.workers[2].complete(&mut third, &OVER, at(0.0));
    assert_eq!(under_way(&mut gateway, "two"), 2.0, "who was refused gives nothing back");

    gateway.workers[1].complete(&mut second, &OVER, at(0.0));
    gateway.workers[1].complete(&mut second, &OVER, at(0.0));
    assert_eq!(under_way(&mut gateway, "two"), 1.0, "once, however often it is over");
    let (decision, mut third) = enter(&mut gateway, 2);
    assert_eq!(decision, Decision::Forward, "and the refusal took no token: this is the third");
    assert_eq!(enter(&mut gateway, 1).1.reason(), "limit.in_flight");
    gateway.workers[2].abandon(&mut third);
    gateway.workers[0].abandon(&mut first);
    assert_eq!(under_way(&mut gateway, "two"), 0.0);
    assert_eq!(enter(&mut gateway, 1).1.reason(), "limit.exceeded");
    assert_eq!(under_way(&mut gateway, "two"), 0.0, "whom a limit refuses takes no place");
    let text = gateway.workers[0].metrics(at(0.0));
    assert_eq!(crate::metric(&text, "gateway_rate_limit_hits_total{route=\"two\",rule=\"max_in_flight\"}"), 2.0);
}

#[test]
fn whatever_refuses_gives_the_place_back() {
    let mut gateway = Gateway::new(&document(DOCUMENT), 2);
    for bad in [Fake::get("/guarded"), Fake::get("/guarded").bearer("a.b.c"), Fake::get("/guarded")] {
        assert!(gateway.verdict(0, &bad, at(0.0)).starts_with("auth."));
    }
    let good = Fake::get("/guarded").bearer(&token("anna", serde_json::json!({})));
    let (decision, mut ticket) = gateway.access(0, &good, at(0.0));
    assert_eq!(decision, Decision::Forward);
    assert_eq!(gateway.verdict(1, &good, at(0.0)), "limit.in_flight");
    // Refused by the adapter, after the decision.
    gateway.workers[0].refused(&mut ticket, Reason::BodyDigest);
    assert_eq!(under_way(&mut gateway, "guarded"), 0.0);

    // By the breaker, which is the last to be asked.
    let (_, mut ticket) = gateway.access(0, &Fake::get("/sent"), at(0.0));
    crate::pick(&mut gateway, 0, &mut ticket, at(0.0));
    let failed = Outcome { status: 502, upstream_status: 502, aborted: false };
    gateway.workers[0].complete(&mut ticket, &failed, at(0.0));
    assert_eq!(gateway.verdict(0, &Fake::get("/sent"), at(0.0)), "breaker.open");
    assert_eq!(under_way(&mut gateway, "sent"), 0.0);
}

#[test]
fn an_internal_redirect_keeps_its_place_or_moves_to_another() {
    let mut gateway = Gateway::new(&document(DOCUMENT), 1);
    let mut ticket = Ticket::new();
    let mut go = |gateway: &mut Gateway, path: &str, entry| {
        gateway.workers[0].access(&Fake::get(path), entry, at(0.0), &mut ticket)
    };
    assert_eq!(go(&mut gateway, "/sent", Entry::First), Decision::Forward);
    assert_eq!(go(&mut gateway, "/sent", Entry::Again), Decision::Forward, "it has the only place already");
    assert_eq!(under_way(&mut gateway, "sent"), 1.0);
    go(&mut gateway, "/two", Entry::Again);
    assert_eq!((under_way(&mut gateway, "sent"), under_way(&mut gateway, "two")), (0.0, 1.0));
    go(&mut gateway, "/free", Entry::Again);
    assert_eq!(under_way(&mut gateway, "two"), 0.0);
    go(&mut gateway, "/two", Entry::Again);
    go(&mut gateway, "/nowhere", Entry::Again);
    assert_eq!(under_way(&mut gateway, "two"), 0.0);
}

#[test]
fn edits_keep_the_count_and_a_new_limit_begins_anew() {
    let mut gateway = Gateway::new(&document(DOCUMENT), 1);
    let mut old = gateway.access(0, &Fake::get("/sent"), at(0.0)).1;
    let edited = |from: &str, to: &str| document(&DOCUMENT.replace(from, to));
    gateway.load(&edited("upstream: u, max_in_flight: 1", "upstream: u, max_in_flight: 2"), at(1.0));
    let mut next = gateway.access(0, &Fake::get("/sent"), at(1.0)).1;
    assert_eq!(gateway.verdict(0, &Fake::get("/sent"), at(1.0)), "limit.in_flight", "two are under way");

    gateway.load(&edited("upstream: u, max_in_flight: 1", "upstream: u"), at(2.0));
    assert_eq!(gateway.verdict(0, &Fake::get("/sent"), at(2.0)), "forward");
    gateway.load(&document(DOCUMENT), at(3.0));
    let (decision, _ticket) = gateway.access(0, &Fake::get("/sent"), at(3.0));
    assert_eq!(decision, Decision::Forward, "what began without this limit is not counted");
    // These began under another limit: they give nothing back that is not theirs.
    gateway.workers[0].complete(&mut old, &OVER, at(3.0));
    gateway.workers[0].complete(&mut next, &OVER, at(3.0));
    assert_eq!(gateway.verdict(0, &Fake::get("/sent"), at(3.0)), "limit.in_flight");
}

#[test]
fn a_new_owner_of_a_worker_slot_finds_no_places_taken() {
    let mut gateway = Gateway::new(&document(DOCUMENT), 2);
    let ticket = gateway.access(1, &Fake::get("/sent"), at(0.0)).1;
    assert_eq!(gateway.verdict(0, &Fake::get("/sent"), at(0.0)), "limit.in_flight");
    // The process ends with its request under way, as a killed one does.
    drop(gateway.workers.pop());
    drop(ticket);
    let heir = Worker::start(gateway.heap.region(), Identity::current(), [5, 6]).unwrap();
    assert_eq!(heir.slot(), 2, "the one that was given back");
    assert_eq!(gateway.verdict(0, &Fake::get("/sent"), at(0.0)), "forward");
}

#[test]
fn it_is_told() {
    let mut gateway = Gateway::new(&document(DOCUMENT), 1);
    let mut tickets = [Ticket::new(), Ticket::new()];
    for (ticket, expected) in
        tickets.iter_mut().zip(["`max_in_flight` has a place, 1 at most", "`max_in_flight` refuses: 1 are under way"])
    {
        let mut notes = Notes::default();
        gateway.workers[0].access_with(&Fake::get("/sent"), Entry::First, at(0.0), ticket, &mut notes);
        assert!(notes.0.iter().any(|(_, text)| text == expected), "{notes:?}");
    }
}

#[test]
fn a_zone_without_room_for_another_limit_says_which_size_would_do() {
    let routes: String =
        (0..60).map(|n| format!("  - {{name: r{n}, paths: [\"/{n}\"], max_in_flight: 1}}\n")).collect();
    let checked =
        gateway::config::parse(&document(&format!("routes:\n{routes}")), "test.yaml", &crate::support::TestSecrets);
    let mut gateway = Gateway::sized(&document("routes: [{name: a, paths: [/a]}]"), 0, 1 << 20);
    let error = gateway.leader.publish(&checked.unwrap().document, at(0.0)).unwrap_err().to_string();
    assert_eq!(
        error,
        "the zone has no room for one more route with `max_in_flight`; the zone has 1m, one of 2m would do"
    );
}
