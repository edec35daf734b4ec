//! Limits by what a header says, and limits that count failures of auth and answers.

use gateway::gateway::{Decision, Entry, Notes, Outcome, Ticket};
use gateway::types::{Header, Now};
use serde_json::json;

use crate::support::{Fake, Gateway, at};
use crate::{document, reply, token};

const DOCUMENT: &str = r#"
limiters:
  - {name: weighed, key: [ip], rate: 1/h, burst: 10, cost: "header:X-Cost", headers: both}
  - {name: wide, key: [ip], rate: 1/h, burst: 100}
  - {name: seen, key: [global], rate: 1/h, burst: 2, cost: "header:X-Cost", mode: shadow}
  - {name: guesses, key: [ip], rate: 6/m, burst: 3, on: auth_failure}
  - {name: guesses-seen, key: [ip], rate: 1/h, burst: 1, on: auth_failure, mode: shadow}
  - {name: tokens, key: [consumer], rate: 10/s, burst: 100, on: response, cost: "header:X-Tokens", headers: x}
  - {name: misses, key: [ip], rate: 1/h, burst: 2, on: response, statuses: [404, 410]}
  - {name: paid, key: [ip], rate: 1/h, burst: 10, on: response, cost: 4}
  - {name: tokens-seen, key: [ip], rate: 1/h, burst: 1, on: response, mode: shadow}
routes:
  - {name: weighed, paths: ["/weighed"], limits: [wide, weighed]}
  - {name: seen, paths: ["/seen"], limits: [seen]}
  - {name: login, paths: ["/login"], auth: [staff], limits: [guesses]}
  - {name: login-seen, paths: ["/login-seen"], auth: [staff], limits: [guesses-seen]}
  - {name: model, paths: ["/model"], auth: [staff], limits: [tokens]}
  - {name: pages, paths: ["/pages"], limits: [misses]}
  - {name: paid, paths: ["/paid"], limits: [paid, weighed]}
  - {name: answers-seen, paths: ["/answers-seen"], limits: [tokens-seen]}
"#;

/// A request whose answer has `status` and `headers`; the code of its refusal, or `forward`.
fn round(
    gateway: &mut Gateway,
    worker: usize,
    request: &Fake,
    status: u16,
    headers: &[(&str, &'static str)],
    now: Now,
) -> &'static str {
    let (decision, mut ticket) = gateway.access(worker, request, now);
    let header = |name: &[u8]| match headers.iter().filter(|(key, _)| key.as_bytes() == name).collect::<Vec<_>>()[..] {
        [] => Header::Absent,
        [(_, value)] => Header::One(value.as_bytes()),
        _ => Header::Many,
    };
    let outcome = Outcome { status, upstream_status: status, aborted: false };
    gateway.workers[worker].complete_with(&mut ticket, &outcome, &header, now);
    match decision {
        Decision::Forward => "forward",
        other => reply(other).reason.code(),
    }
}

#[test]
fn a_request_costs_what_its_header_says() {
    let mut gateway = Gateway::new(&document(DOCUMENT), 2);
    let mut ask = |cost: Option<&str>| {
        let request = Fake::get("/weighed");
        let request = cost.map_or(request.clone(), |cost| request.header("X-Cost", cost));
        let (decision, ticket) = gateway.access(0, &request, at(0.0));
        let mut buffer = [0; 512];
        let left = ticket.limit_headers(&mut buffer).find(|(name, _)| *name == b"X-RateLimit-Remaining");
        let left = left.map(|(_, value)| String::from_utf8_lossy(value).into_owned());
        let (code, wait) = match decision {
            Decision::Forward => ("forward", 0),
            other => {
                let reply = reply(other);
                (reply.reason.code(), reply.retry_after)
            }
        };
        (code, wait, left.unwrap_or_default())
    };
    for (cost, code, wait, left) in [
        (Some("4"), "forward", 0, "6"),
        (None, "forward", 0, "5"),
        // Looks, and takes nothing.
        (Some("0"), "forward", 0, "5"),
        (Some("6"), "limit.exceeded", 3_600, "5"),
        // No wait would help, so none is asked for.
        (Some("11"), "limit.never", 0, "5"),
        (Some("4294967295"), "limit.never", 0, "5"),
        (Some("4294967296"), "limit.cost", 0, "5"),
        (Some("-1"), "limit.cost", 0, "5"),
        (Some("1.5"), "limit.cost", 0, "5"),
        (Some(""), "limit.cost", 0, "5"),
        (Some("5"), "forward", 0, "0"),
        (Some("0"), "forward", 0, "0"),
    ] {
        assert_eq!(ask(cost), (code, wait, left.to_owned()), "{cost:?}");
    }
    let twice = Fake::get("/weighed").header("X-Cost", "1").header("X-Cost", "1");
    let refused = reply(gateway.access(0, &twice, at(0.0)).0);
    assert_eq!((refused.reason.code(), refused.reason.status()), ("limit.cost", 400));
    // Five passed, and what was refused took nothing from the other limit of the step.
    let mut notes = Notes::default();
    let request = Fake::get("/weighed").header("X-Cost", "0");
    gateway.workers[0].access_with(&request, Entry::First, at(0.0), &mut Ticket::new(), &mut notes);
    assert!(notes.0.iter().any(|(_, text)| text == "\"wide\" admits, 94 of 100 left"), "{notes:?}");
}

#[test]
fn in_shadow_nothing_is_refused_whatever_the_header_says() {
    let mut gateway = Gateway::new(&document(DOCUMENT), 1);
    for (cost, status) in
        [("2", "PASSED"), ("1", "REJECTED_DRY_RUN"), ("9", "REJECTED_DRY_RUN"), ("x", "REJECTED_DRY_RUN")]
    {
        let (decision, ticket) = gateway.access(0, &Fake::get("/seen").header("X-Cost", cost), at(0.0));
        assert_eq!((decision, ticket.limit_status()), (Decision::Forward, status), "{cost}");
    }
    let text = gateway.workers[0].metrics(at(0.0));
    assert_eq!(crate::metric(&text, "gateway_rate_limit_hits_total{route=\"seen\",rule=\"seen\"}"), 3.0);
}

#[test]
fn guessing_is_throttled_and_nothing_else_is() {
    let mut gateway = Gateway::new(&document(DOCUMENT), 2);
    let good = Fake::get("/login").bearer(&token("anna", json!({})));
    let bad = Fake::get("/login").bearer("a.b.c");
    for turn in 0..50 {
        assert_eq!(gateway.verdict(turn % 2, &good, at(0.0)), "forward", "good credentials cost nothing");
        assert_eq!(gateway.verdict(turn % 2, &Fake::get("/login"), at(0.0)), "auth.missing", "nor does showing none");
    }
    for (worker, expected) in
        [(0, "auth.malformed"), (1, "auth.malformed"), (0, "auth.malformed"), (1, "limit.exceeded")]
    {
        assert_eq!(gateway.verdict(worker, &bad, at(0.0)), expected);
    }
    let refused = reply(gateway.access(0, &good, at(0.0)).0);
    assert_eq!((refused.reason.status(), refused.retry_after), (429, 10), "whatever it shows now");
    assert_eq!(gateway.verdict(1, &good.clone().client(9), at(0.0)), "forward", "from elsewhere");
    assert_eq!(gateway.verdict(0, &good, at(9.9)), "limit.exceeded");
    assert_eq!(gateway.verdict(0, &good, at(10.0)), "forward");
    assert_eq!(gateway.verdict(0, &bad, at(10.0)), "auth.malformed");
    assert_eq!(gateway.verdict(0, &bad, at(10.0)), "limit.exceeded");

    let bad = Fake::get("/login-seen").bearer("a.b.c");
    for expected in ["PASSED", "REJECTED_DRY_RUN"] {
        let (decision, ticket) = gateway.access(0, &bad, at(0.0));
        assert_eq!((reply(decision).reason.code(), ticket.limit_status()), ("auth.malformed", expected));
    }
}

#[test]
fn guesses_that_are_looked_at_at_the_same_time_do_not_all_pass() {
    let rest = "  - {name: passwords, basic: {file: /htpasswd}}\n\
        limiters: [{name: guesses, key: [ip], rate: 1/h, burst: 3, on: auth_failure, cost: 1}]\n\
        routes: [{name: r, paths: [\"/*\"], auth: [passwords], limits: [guesses]}]\n";
    let mut gateway = Gateway::new(&document(rest), 1);
    let worker = &mut gateway.workers[0];
    let mut open = Vec::new();
    for n in 0..5 {
        let request = Fake::get("/").basic("ann", &format!("guess {n}"));
        let mut ticket = Ticket::new();
        match worker.access(&request, Entry::First, at(0.0), &mut ticket) {
            Decision::Ask(_) => open.push((request, ticket, worker.question().unwrap())),
            other => assert_eq!(reply(other).reason.code(), "limit.exceeded", "guess {n}"),
        }
    }
    assert_eq!(open.len(), 3, "as many as may fail");
    // Wrong ones stay counted; a right one gets its token back, and only its own.
    let right = Fake::get("/").basic("ann", "secret").client(7);
    let mut ticket = Ticket::new();
    let Decision::Ask(_) = worker.access(&right, Entry::First, at(0.0), &mut ticket) else { panic!("no question") };
    let answer = worker.question().unwrap().answer();
    worker.learn(answer, at(0.0));
    assert!(!matches!(worker.resume(answer, &right, at(0.0), &mut ticket), Decision::Ask(_)));
    for (request, mut ticket, question) in open {
        let answer = question.answer();
        worker.learn(answer, at(0.0));
        let decision = worker.resume(answer, &request, at(0.0), &mut ticket);
        assert_eq!(reply(decision).reason.code(), "auth.password");
    }
    assert_eq!(gateway.verdict(0, &Fake::get("/").basic("ann", "secret"), at(0.0)), "limit.exceeded");
    for wrong in 0..3 {
        let request = Fake::get("/").basic("ann", &format!("other {wrong}")).client(7);
        assert_eq!(gateway.verdict(0, &request, at(0.0)), "auth.password", "all three were left");
    }
    assert_eq!(gateway.verdict(0, &right, at(0.0)), "limit.exceeded");
}

#[test]
fn an_answer_costs_what_its_header_says_and_the_next_request_waits_for_it() {
    let mut gateway = Gateway::new(&document(DOCUMENT), 2);
    let anna = Fake::get("/model").bearer(&token("anna", json!({})));
    let mut ask = |worker, used: &'static str, seconds: f64| {
        round(&mut gateway, worker, &anna, 200, &[("x-tokens", used)], at(seconds))
    };
    assert_eq!(ask(0, "60", 0.0), "forward");
    assert_eq!(ask(1, "60", 0.0), "forward", "40 are left, and what it will cost nobody knows");
    assert_eq!(ask(0, "1", 0.0), "limit.exceeded", "20 are owed");
    assert_eq!(ask(0, "1", 2.0), "limit.exceeded");
    assert_eq!(ask(0, "1000000", 2.1), "forward", "one is there again");
    // It owes at most another hundred, so it is well again after 10 s and a token.
    assert_eq!(ask(1, "1", 12.1), "limit.exceeded");
    assert_eq!(ask(1, "0", 12.2), "forward");
    assert_eq!(ask(1, "not a number", 12.2), "forward", "counts as one");
    assert_eq!(ask(1, "1", 12.2), "limit.exceeded");
    let otto = Fake::get("/model").bearer(&token("otto", json!({})));
    assert_eq!(round(&mut gateway, 0, &otto, 200, &[], at(12.2)), "forward", "somebody else");
    let (_, ticket) = gateway.access(0, &otto, at(12.2));
    let mut buffer = [0; 512];
    let shown: Vec<_> = ticket.limit_headers(&mut buffer).map(|(_, value)| value.to_vec()).collect();
    assert_eq!(shown[1], b"99", "an answer without the header costs one");
}

#[test]
fn answers_count_by_their_status() {
    let mut gateway = Gateway::new(&document(DOCUMENT), 2);
    let request = Fake::get("/pages");
    for (status, expected) in
        [(200, "forward"), (404, "forward"), (500, "forward"), (410, "forward"), (200, "limit.exceeded")]
    {
        assert_eq!(round(&mut gateway, 0, &request, status, &[], at(0.0)), expected, "{status}");
    }
    assert_eq!(round(&mut gateway, 1, &request.client(4), 404, &[], at(0.0)), "forward");
}

#[test]
fn what_is_refused_or_never_ends_costs_nothing_of_answers() {
    let mut gateway = Gateway::new(&document(DOCUMENT), 1);
    // The second limit of the step refuses: no answer, no charge, and the first one's price is known in advance.
    let dear = Fake::get("/paid").header("X-Cost", "11");
    for _ in 0..5 {
        assert_eq!(round(&mut gateway, 0, &dear, 429, &[], at(0.0)), "limit.never");
    }
    let mut abandoned = gateway.access(0, &Fake::get("/paid"), at(0.0)).1;
    gateway.workers[0].abandon(&mut abandoned);
    for expected in ["forward", "forward", "limit.exceeded"] {
        assert_eq!(round(&mut gateway, 0, &Fake::get("/paid"), 200, &[], at(0.0)), expected, "4 of 10 each");
    }
    for expected in ["PASSED", "REJECTED_DRY_RUN"] {
        let (_, mut ticket) = gateway.access(0, &Fake::get("/answers-seen"), at(0.0));
        assert_eq!(ticket.limit_status(), expected);
        gateway.workers[0].complete(&mut ticket, &Outcome { status: 200, ..Outcome::default() }, at(0.0));
    }
}

#[test]
fn it_is_told() {
    let mut gateway = Gateway::new(&document(DOCUMENT), 1);
    let mut told = |request: &Fake| {
        let mut notes = Notes::default();
        gateway.workers[0].access_with(request, Entry::First, at(0.0), &mut Ticket::new(), &mut notes);
        notes.0.into_iter().map(|(_, text)| text).filter(|text| text.starts_with('"')).collect::<Vec<_>>()
    };
    let bad = Fake::get("/login").bearer("a.b.c");
    assert_eq!(
        told(&bad),
        ["\"guesses\" admits, 3 of 3 left", "\"staff\" refuses: auth.malformed", "\"guesses\" counts, 2 left"]
    );
    told(&bad);
    told(&bad);
    assert_eq!(told(&bad), ["\"guesses\" refuses: limit.exceeded"]);
    let dear = Fake::get("/weighed").header("X-Cost", "99");
    assert_eq!(told(&dear), ["\"wide\" admits, 99 of 100 left", "\"weighed\" refuses: limit.never"]);
}
