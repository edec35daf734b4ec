//! The breaker and the metrics hear of each request once.

use gateway::breaker::{Forced, State};
use gateway::gateway::{Decision, Outcome, Ticket, TryEnd};
use gateway::types::{Method, Reason};

use crate::support::{Fake, Gateway, at};
use crate::{document, metric, pick, reply};

const DOCUMENT: &str = r#"
limiters: [{name: l, key: [ip], rate: 1/h, burst: 1}]
upstreams:
  - name: u
    nodes: [{host: 127.0.0.1, port: 1}]
    breaker: {failures: 3, window: 10s, open_for: 30s, probes: 2, closes_after: 2}
routes:
  - {name: r, paths: ["/r"], methods: [GET], upstream: u}
  - {name: limited, paths: ["/limited"], upstream: u, limits: [l]}
"#;

fn ended(status: u16) -> Outcome {
    Outcome { status, upstream_status: status, aborted: false }
}

/// A request that is let through, ends with `outcome`, and is completed twice, as once counts.
fn request(gateway: &mut Gateway, worker: usize, outcome: &Outcome, seconds: f64) {
    let (decision, mut ticket) = gateway.access(worker, &Fake::get("/r"), at(seconds));
    assert_eq!(decision, Decision::Forward, "{outcome:?}");
    for _ in 0..2 {
        gateway.workers[worker].complete(&mut ticket, outcome, at(seconds));
    }
}

#[test]
fn what_counts_as_a_failure() {
    let aborted = Outcome { status: 499, upstream_status: 502, aborted: true };
    let own = Outcome { status: 503, upstream_status: 0, aborted: false };
    for (outcome, counts) in [
        (ended(200), false),
        (ended(404), false),
        (ended(499), false),
        (ended(501), false),
        (aborted, false),
        (own, false),
        (ended(500), true),
        (ended(502), true),
        (ended(503), true),
        (ended(504), true),
    ] {
        let mut gateway = Gateway::new(&document(DOCUMENT), 2);
        for turn in 0..3 {
            request(&mut gateway, turn % 2, &outcome, 0.0);
        }
        let expected = if counts { "breaker.open" } else { "forward" };
        for worker in 0..2 {
            assert_eq!(gateway.verdict(worker, &Fake::get("/r"), at(0.0)), expected, "{outcome:?}");
        }
    }
}

#[test]
fn it_opens_for_all_workers_probes_and_closes() {
    let mut gateway = Gateway::new(&document(DOCUMENT), 3);
    request(&mut gateway, 0, &ended(500), 0.0);
    request(&mut gateway, 1, &ended(500), 0.0);
    for worker in 0..3 {
        let (_, ticket) = gateway.access(worker, &Fake::get("/r"), at(0.0));
        assert_eq!(gateway.workers[worker].breaker_state(&ticket, at(0.0)), "closed");
    }
    // Its success comes after the breaker opened, and changes nothing.
    let (_, mut late) = gateway.access(0, &Fake::get("/r"), at(0.0));
    request(&mut gateway, 2, &ended(500), 0.0);
    for worker in 0..3 {
        let (decision, ticket) = gateway.access(worker, &Fake::get("/r"), at(10.5));
        let refused = reply(decision);
        assert_eq!((refused.reason, refused.retry_after), (Reason::BreakerOpen, 20), "worker {worker}");
        assert_eq!(gateway.workers[worker].breaker_state(&ticket, at(0.0)), "open");
    }
    gateway.workers[0].complete(&mut late, &ended(200), at(11.0));
    assert_eq!(gateway.verdict(0, &Fake::get("/r"), at(29.9)), "breaker.open");

    // Two probes at a time, whoever asks.
    let (one, mut first) = gateway.access(0, &Fake::get("/r"), at(30.0));
    let (two, mut second) = gateway.access(1, &Fake::get("/r"), at(30.0));
    assert_eq!((one, two), (Decision::Forward, Decision::Forward));
    assert_eq!(gateway.verdict(2, &Fake::get("/r"), at(30.0)), "breaker.open");
    assert_eq!(gateway.workers[2].breaker_state(&first, at(30.0)), "half-open");
    gateway.workers[0].complete(&mut first, &ended(200), at(30.1));
    gateway.workers[1].complete(&mut second, &ended(200), at(30.1));
    for worker in 0..3 {
        assert_eq!(gateway.verdict(worker, &Fake::get("/r"), at(30.1)), "forward");
    }
    let text = gateway.workers[0].metrics(at(30.1));
    assert_eq!(metric(&text, "gateway_circuit_breaker_state{upstream=\"u\"}"), 0.0);
    assert!(text.contains("gateway_circuit_breaker_state{upstream=\"u\"}"), "{text}");
}

/// A request whose header takes so many seconds.
fn slow(gateway: &mut Gateway, target: &str, began: f64, seconds: f64) -> Decision {
    let (decision, mut ticket) = gateway.access(0, &Fake::get(target), at(began));
    if decision == Decision::Forward {
        pick(gateway, 0, &mut ticket, at(began));
        gateway.workers[0].answered(&mut ticket, at(began + seconds));
        // The body takes longer; that is not what is measured.
        gateway.workers[0].tried(&mut ticket, TryEnd::Answered(200), at(began + seconds + 9.0));
        gateway.workers[0].complete(&mut ticket, &ended(200), at(began + seconds + 9.0));
    }
    decision
}

#[test]
fn slow_answers_are_failures_and_shares_count() {
    let mut gateway = Gateway::new(
        &document(
            r#"
upstreams:
  - {name: u, nodes: [{host: 127.0.0.1, port: 1}], breaker: {failures: 2, slow_call: 2s, window: 60s}}
  - {name: v, nodes: [{host: 127.0.0.1, port: 2}], breaker: {failure_ratio: 50%, minimum_calls: 4, slow_call: 2s, window: 60s}}
routes: [{name: u, paths: ["/u"], upstream: u}, {name: v, paths: ["/v"], upstream: v}]
"#,
        ),
        2,
    );
    for seconds in [0.1, 1.9, 2.0, 2.1, 2.1] {
        assert_eq!(slow(&mut gateway, "/u", 0.0, seconds), Decision::Forward, "{seconds}");
    }
    assert_eq!(gateway.verdict(1, &Fake::get("/u"), at(12.0)), "breaker.open");
    // Two of four; the successes are counted too.
    for seconds in [2.1, 0.1, 0.1, 2.1] {
        assert_eq!(slow(&mut gateway, "/v", 0.0, seconds), Decision::Forward, "{seconds}");
    }
    assert_eq!(gateway.verdict(1, &Fake::get("/v"), at(12.0)), "breaker.open");
}

#[test]
fn a_forced_breaker_outlives_edits_and_is_seen() {
    let mut gateway = Gateway::new(&document(DOCUMENT), 2);
    let shown = |gateway: &mut Gateway, worker: usize| {
        let (_, ticket) = gateway.access(worker, &Fake::get("/r"), at(0.0));
        let text = gateway.workers[worker].metrics(at(0.0));
        let gauge = |name: &str| metric(&text, &format!("gateway_circuit_breaker_{name}{{upstream=\"u\"}}"));
        (gateway.workers[worker].breaker_state(&ticket, at(0.0)), gauge("state"), gauge("forced"))
    };
    assert_eq!(gateway.workers[0].force_breaker("nobody", Some(Forced::Open)), None);
    assert_eq!(shown(&mut gateway, 1), ("closed", 0.0, 0.0));
    assert_eq!(gateway.workers[0].force_breaker("u", Some(Forced::Open)), Some(State::Closed));
    assert_eq!(gateway.verdict(1, &Fake::get("/r"), at(0.0)), "breaker.open");
    assert_eq!(shown(&mut gateway, 1), ("forced-open", 1.0, 1.0));
    gateway.load(&document(&DOCUMENT.replace("failures: 3", "failures: 4").replace("port: 1", "port: 2")), at(1.0));
    assert_eq!(gateway.verdict(1, &Fake::get("/r"), at(99.0)), "breaker.open");
    assert_eq!(gateway.workers[1].force_breaker("u", Some(Forced::Closed)), Some(State::ForcedOpen));
    for _ in 0..9 {
        request(&mut gateway, 0, &ended(500), 99.0);
    }
    assert_eq!(shown(&mut gateway, 0), ("forced-closed", 0.0, 1.0));
    assert_eq!(gateway.workers[1].force_breaker("u", None), Some(State::ForcedClosed));
    assert_eq!(shown(&mut gateway, 0), ("closed", 0.0, 0.0));
}

#[test]
fn a_probe_without_a_result_gives_its_place_back() {
    type End = fn(&mut Gateway, &mut Ticket);
    let cases: [(&str, End); 5] = [
        ("a later step refuses", |g, t| g.workers[0].refused(t, Reason::Internal)),
        ("the client goes away", |g, t| {
            g.workers[0].complete(t, &Outcome { status: 499, upstream_status: 200, aborted: true }, at(30.0));
        }),
        ("no try was made", |g, t| g.workers[0].complete(t, &Outcome { status: 503, ..Outcome::default() }, at(30.0))),
        ("it is abandoned", |g, t| g.workers[0].abandon(t)),
        ("it is abandoned in a try", |g, t| {
            pick(g, 0, t, at(30.0));
            g.workers[0].abandon(t);
        }),
    ];
    for (what, end) in cases {
        let mut gateway = Gateway::new(&document(DOCUMENT), 2);
        for _ in 0..3 {
            request(&mut gateway, 0, &ended(500), 0.0);
        }
        for round in 0..5 {
            let (one, mut first) = gateway.access(0, &Fake::get("/r"), at(30.0));
            let (two, mut second) = gateway.access(0, &Fake::get("/r"), at(30.0));
            assert_eq!((one, two), (Decision::Forward, Decision::Forward), "{what}, round {round}");
            end(&mut gateway, &mut first);
            end(&mut gateway, &mut second);
            end(&mut gateway, &mut second);
        }
    }
}

#[test]
fn a_refusal_before_the_breaker_takes_no_probe() {
    let mut gateway = Gateway::new(&document(DOCUMENT), 1);
    assert_eq!(gateway.verdict(0, &Fake::get("/limited"), at(0.0)), "forward");
    for _ in 0..3 {
        request(&mut gateway, 0, &ended(500), 0.0);
    }
    for _ in 0..9 {
        assert_eq!(gateway.verdict(0, &Fake::get("/limited"), at(30.0)), "limit.exceeded");
    }
    for expected in ["forward", "forward", "breaker.open"] {
        assert_eq!(gateway.verdict(0, &Fake::get("/r"), at(30.0)), expected);
    }
}

#[test]
fn metrics_after_a_known_sequence() {
    let mut gateway = Gateway::new(&document(DOCUMENT), 2);
    for (worker, target, method, status, seconds) in [
        (0, "/r", Method::Get, 200, 0.004),
        (1, "/r", Method::Get, 200, 0.2),
        (1, "/r", Method::Get, 404, 0.2),
        (0, "/limited", Method::Post, 201, 3.0),
        (1, "/limited", Method::Post, 429, 0.0),
        (0, "/nowhere", Method::Get, 404, 0.0),
        (0, "/r", Method::Put, 405, 0.0),
    ] {
        let (decision, mut ticket) = gateway.access(worker, &Fake::get(target).method(method), at(0.0));
        let mut outcome = Outcome { status, ..Outcome::default() };
        if decision == Decision::Forward {
            assert_eq!(pick(&mut gateway, worker, &mut ticket, at(0.0)), "127.0.0.1:1");
            gateway.workers[worker].answered(&mut ticket, at(seconds));
            gateway.workers[worker].tried(&mut ticket, TryEnd::Answered(status), at(seconds));
            outcome.upstream_status = status;
        }
        gateway.workers[worker].complete(&mut ticket, &outcome, at(seconds));
    }
    let (_, mut open) = gateway.access(0, &Fake::get("/r"), at(0.0));
    for worker in 0..2 {
        let text = gateway.workers[worker].metrics(at(5.0));
        for (series, expected) in [
            ("gateway_requests_total{route=\"r\",method=\"GET\",status=\"200\"}", 2.0),
            ("gateway_requests_total{route=\"r\",method=\"GET\",status=\"404\"}", 1.0),
            ("gateway_requests_total{route=\"limited\",method=\"POST\",status=\"201\"}", 1.0),
            ("gateway_requests_total{route=\"limited\",method=\"POST\",status=\"429\"}", 1.0),
            ("gateway_requests_total{route=\"-\",method=\"GET\",status=\"404\"}", 1.0),
            ("gateway_requests_total{route=\"-\",method=\"PUT\",status=\"405\"}", 1.0),
            ("gateway_request_duration_seconds_bucket{route=\"r\",method=\"GET\",le=\"0.005\"}", 1.0),
            ("gateway_request_duration_seconds_bucket{route=\"r\",method=\"GET\",le=\"0.25\"}", 3.0),
            ("gateway_request_duration_seconds_count{route=\"r\",method=\"GET\"}", 3.0),
            ("gateway_request_duration_seconds_sum{route=\"limited\",method=\"POST\"}", 3.0),
            ("gateway_upstream_duration_seconds_count{upstream=\"u\",peer=\"127.0.0.1:1\"}", 4.0),
            ("gateway_upstream_duration_seconds_bucket{upstream=\"u\",peer=\"127.0.0.1:1\",le=\"2.5\"}", 3.0),
            ("gateway_rate_limit_hits_total{route=\"limited\",rule=\"l\"}", 1.0),
            ("gateway_active_connections", 1.0),
            ("gateway_circuit_breaker_state{upstream=\"u\"}", 0.0),
        ] {
            assert_eq!(metric(&text, series), expected, "{series} in\n{text}");
        }
    }
    gateway.workers[0].abandon(&mut open);
    assert_eq!(metric(&gateway.workers[1].metrics(at(5.0)), "gateway_active_connections"), 0.0);
}
