//! What a place asks for: a route by its name, and decisions that bind nobody.

use gateway::gateway::{Decision, Entry, Outcome, Respond};
use gateway::types::{Method, Protocol};
use serde_json::json;

use crate::support::{Fake, Gateway, at};
use crate::{document, token};

const DOCUMENT: &str = r#"
limiters:
  - {name: two, key: [ip], rate: 1/h, burst: 2}
  - {name: wide, key: [ip], rate: 1/h, burst: 9}
upstreams: [{name: u, nodes: [{host: 127.0.0.1, port: 1}], breaker: {failures: 1, open_for: 60s}}]
routes:
  - {name: all, paths: ["/*"], upstream: u}
  - {name: guarded, hosts: [other.example], paths: ["/guarded"], methods: [POST], match: [{header: x-a, equals: b}], auth: [staff]}
  - {name: limited, paths: ["/limited"], limits: [wide, two]}
  - {name: browsers, paths: ["/browsers"], cors: {origins: ["https://a.example"]}}
  - {name: shop, paths: ["/shop/{id}/*"], upstream: u, strip_prefix: true, headers: {X-Id: "{id}"}}
  - {name: cut, paths: ["/cut/*"], upstream: u, strip_prefix: true}
  - {name: plain, paths: ["/plain"], protocols: [http]}
  - {name: asleep, paths: ["/asleep"], enabled: false}
"#;

#[test]
fn a_named_route_takes_what_it_would_not_match() {
    let mut gateway = Gateway::new(&document(DOCUMENT), 1);
    let good = token("anna", json!({}));
    let mut socket = Fake::get("/x").named("plain");
    socket.protocol = Protocol::WebSocket;
    for (request, expected) in [
        (Fake::get("/x"), "forward"),
        (Fake::get("/x").named("guarded"), "auth.missing"),
        (Fake::get("/x").named("guarded").bearer(&good), "forward"),
        (Fake::get("/x").named("nothing"), "route.gone"),
        (Fake::get("/x").named("asleep"), "route.gone"),
        (Fake::get("/x/../%2f").named("all"), "path.refused"),
        (Fake::get("/x").named("plain"), "forward"),
        (socket, "route.protocol"),
        (Fake::get("/x").named("limited"), "forward"),
        (Fake::get("/y").named("limited"), "forward"),
        (Fake::get("/x").named("limited"), "limit.exceeded"),
    ] {
        assert_eq!(gateway.verdict(0, &request, at(0.0)), expected, "{:?}", request.route);
    }
    let preflight = Fake::get("/x").method(Method::Options).header("origin", "https://a.example");
    let preflight = preflight.header("access-control-request-method", "GET");
    let asked = |route| preflight.clone().named(route);
    let (decision, ticket) = gateway.access(0, &asked("browsers"), at(0.0));
    assert_eq!((decision, ticket.route_name()), (Decision::Respond(Respond::Preflight), "browsers"));
    assert_eq!(gateway.verdict(0, &asked("all"), at(0.0)), "forward");
}

#[test]
fn parameters_and_prefixes_are_known_where_the_path_is_the_routes_own() {
    let mut gateway = Gateway::new(&document(DOCUMENT), 1);
    for (target, route, expected) in [
        ("/shop/7/x", "shop", Some(("/7/x", "7"))),
        ("/elsewhere", "shop", None),
        ("/cut/a", "cut", Some(("/a", ""))),
        ("/elsewhere", "cut", Some(("", ""))),
    ] {
        let (decision, _) = gateway.access(0, &Fake::get(target).named(route), at(0.0));
        let worker = &gateway.workers[0];
        let path = worker.forwarded_path().unwrap_or_default().to_vec();
        let id = worker.request_headers().next().map(|(_, value)| value.to_vec()).unwrap_or_default();
        let found = (String::from_utf8(path).unwrap(), String::from_utf8(id).unwrap());
        let found = (decision == Decision::Forward).then_some(found);
        assert_eq!(found, expected.map(|(path, id)| (path.to_owned(), id.to_owned())), "{target} {route}");
    }
}

#[test]
fn a_shadow_decides_as_it_would_in_earnest_and_is_counted() {
    let mut gateway = Gateway::new(&document(DOCUMENT), 1);
    let ok = Outcome { status: 200, upstream_status: 200, aborted: false };
    for (request, expected) in [
        (Fake::get("/limited"), ["forward", "", "PASSED"]),
        (Fake::get("/limited"), ["forward", "", "PASSED"]),
        (Fake::get("/limited"), ["refuse", "limit.exceeded", "REJECTED_DRY_RUN"]),
        (Fake::get("/guarded").named("guarded"), ["refuse", "auth.missing", ""]),
        (Fake::get("/a"), ["forward", "", ""]),
    ] {
        let (_, mut ticket) = gateway.access(0, &request.shadow(), at(0.0));
        assert!(ticket.is_shadow());
        assert_eq!([ticket.decision(), ticket.reason(), ticket.limit_status()], expected);
        gateway.workers[0].complete(&mut ticket, &ok, at(0.0));
    }
    let text = gateway.workers[0].metrics(at(0.0));
    for line in [
        r#"gateway_requests_total{route="limited",method="GET",status="200"} 3"#,
        r#"gateway_shadow_refusals_total{route="guarded",reason="auth.missing"} 1"#,
        r#"gateway_shadow_refusals_total{route="limited",reason="limit.exceeded"} 1"#,
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
}

#[test]
fn what_goes_elsewhere_moves_no_breaker() {
    let mut gateway = Gateway::new(&document(DOCUMENT), 1);
    let failed = Outcome { status: 502, upstream_status: 502, aborted: false };
    let request = Fake::get("/a").shadow();
    let mut run = |request: &Fake, now| {
        let (_, mut ticket) = gateway.access(0, request, now);
        let reason = ticket.reason();
        gateway.workers[0].complete(&mut ticket, &failed, now);
        reason
    };
    assert_eq!([run(&request, at(0.0)), run(&request, at(0.0))], ["", ""], "it stays closed");
    assert_eq!([run(&Fake::get("/a"), at(0.0)), run(&Fake::get("/a"), at(1.0))], ["", "breaker.open"]);
    assert_eq!(run(&request, at(2.0)), "breaker.open");
    // Half open: as many as there are come by, none takes a probe's place.
    for _ in 0..20 {
        assert_eq!(run(&request, at(61.0)), "");
    }
    assert_eq!(run(&Fake::get("/a"), at(61.0)), "");
}

#[test]
fn from_a_shadow_to_a_place_that_means_it_limits_are_asked_once_and_hold() {
    let mut gateway = Gateway::new(&document(DOCUMENT), 1);
    let mut twice = |client: u8| {
        let request = Fake::get("/limited").client(client);
        let (_, mut ticket) = gateway.access(0, &request.clone().shadow(), at(0.0));
        gateway.workers[0].access(&request, Entry::Again, at(0.0), &mut ticket);
        ticket.decision()
    };
    assert_eq!([twice(1), twice(1), twice(1), twice(2)], ["forward", "forward", "refuse", "forward"]);
}

#[test]
fn who_is_passed_by_is_counted_nowhere_unless_it_was_let_in_before() {
    let mut gateway = Gateway::new(&document(r#"routes: [{name: a, paths: ["/a"]}]"#), 1);
    let outcome = Outcome { status: 200, upstream_status: 0, aborted: false };
    for (first, counted) in [("/none", 0), ("/a", 1)] {
        let (_, mut ticket) = gateway.access(0, &Fake::get(first), at(0.0));
        let mut entry = Entry::First;
        let worker = &mut gateway.workers[0];
        if first == "/a" {
            entry = Entry::Again;
            worker.access(&Fake::get("/none"), entry, at(0.0), &mut ticket);
        }
        worker.pass_by(&mut ticket, entry);
        assert_eq!(ticket.reason(), "");
        worker.complete(&mut ticket, &outcome, at(0.0));
        let text = worker.metrics(at(0.0));
        assert_eq!(text.matches("\ngateway_requests_total{").count(), counted, "{text}");
        assert!(text.contains("\ngateway_active_connections 0\n"));
    }
}
