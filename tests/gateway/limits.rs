//! Limits in the order of one request.

use gateway::types::Method;
use serde_json::json;

use crate::support::{Fake, Gateway, at};
use crate::{document, reply, token};

const DOCUMENT: &str = r#"
limiters:
  - {name: ip, key: [ip], rate: 1/h, burst: 3}
  - {name: wide, key: [ip], rate: 1/h, burst: 100}
  - {name: narrow, key: [ip, route], rate: 1/h, burst: 2, headers: both}
  - {name: user, key: [consumer], rate: 1/h, burst: 2}
  - {name: watch, key: [global], rate: 1/h, burst: 1, mode: shadow}
  - {name: slow, key: [global], rate: 6/m, burst: 1, headers: x}
routes:
  - {name: guarded, paths: ["/guarded"], auth: [staff], limits: [user, ip]}
  - {name: two, paths: ["/two"], limits: [wide, narrow]}
  - {name: one, paths: ["/one"], limits: [wide]}
  - {name: seen, paths: ["/seen"], limits: [watch]}
  - {name: slow, paths: ["/slow"], limits: [slow]}
"#;

fn remaining(gateway: &mut Gateway, path: &str, client: u8) -> String {
    let (_, ticket) = gateway.access(0, &Fake::get(path).client(client), at(0.0));
    let mut buffer = [0; 512];
    let value = ticket.limit_headers(&mut buffer).find(|(name, _)| *name == b"RateLimit").unwrap().1.to_vec();
    String::from_utf8(value).unwrap()
}

#[test]
fn limits_without_identity_stand_before_auth_and_those_with_it_behind() {
    let mut gateway = Gateway::new(&document(DOCUMENT), 2);
    let good = Fake::get("/guarded").bearer(&token("anna", json!({})));
    let bad = Fake::get("/guarded").bearer("a.b.c");
    // Who fails auth has spent the address's token, and none of a user's.
    for (worker, request, expected) in [
        (0, &bad, "auth.malformed"),
        (1, &Fake::get("/guarded"), "auth.missing"),
        (0, &good, "forward"),
        (1, &good, "limit.exceeded"),
        (0, &bad, "limit.exceeded"),
    ] {
        assert_eq!(gateway.verdict(worker, request, at(0.0)), expected);
    }
    // From elsewhere: one of the user's two tokens is left.
    for (client, expected) in [(2, "forward"), (3, "limit.exceeded"), (3, "limit.exceeded")] {
        assert_eq!(gateway.verdict(0, &good.clone().client(client), at(0.0)), expected, "client {client}");
    }
    // Refused by the second step, the first one's token is spent.
    assert_eq!(gateway.verdict(1, &bad.clone().client(3), at(0.0)), "auth.malformed");
    assert_eq!(gateway.verdict(1, &bad.clone().client(3), at(0.0)), "limit.exceeded");
    assert_eq!(
        gateway.verdict(1, &Fake::get("/guarded").client(9).bearer(&token("otto", json!({}))), at(0.0)),
        "forward"
    );
}

#[test]
fn within_a_step_a_refusal_consumes_none_of_the_others() {
    let mut gateway = Gateway::new(&document(DOCUMENT), 2);
    for (turn, expected) in ["forward", "forward", "limit.exceeded", "limit.exceeded"].into_iter().enumerate() {
        assert_eq!(gateway.verdict(turn % 2, &Fake::get("/two"), at(0.0)), expected);
    }
    assert!(remaining(&mut gateway, "/one", 1).starts_with("\"wide\";r=97;"), "two were taken, this is the third");
}

#[test]
fn a_shadow_limit_reports_and_refuses_nothing() {
    let mut gateway = Gateway::new(&document(DOCUMENT), 1);
    for expected in ["PASSED", "REJECTED_DRY_RUN", "REJECTED_DRY_RUN"] {
        let (decision, ticket) = gateway.access(0, &Fake::get("/seen"), at(0.0));
        assert!(matches!(decision, gateway::gateway::Decision::Forward));
        assert_eq!(ticket.limit_status(), expected);
    }
    let text = gateway.workers[0].metrics(at(0.0));
    assert_eq!(crate::metric(&text, "gateway_rate_limit_hits_total{route=\"seen\",rule=\"watch\"}"), 2.0, "{text}");
}

#[test]
fn headers_tell_of_the_limit_that_is_nearest_to_its_end() {
    let mut gateway = Gateway::new(&document(DOCUMENT), 1);
    let cases: [(&str, &[(&str, &str)]); 4] = [
        (
            "/two",
            &[
                ("RateLimit-Policy", "\"narrow\";q=2;w=7200"),
                ("RateLimit", "\"narrow\";r=1;t=3600"),
                ("X-RateLimit-Limit", "2"),
                ("X-RateLimit-Remaining", "1"),
                ("X-RateLimit-Reset", "3600"),
            ],
        ),
        ("/one", &[("RateLimit-Policy", "\"wide\";q=100;w=360000"), ("RateLimit", "\"wide\";r=98;t=7200")]),
        ("/slow", &[("X-RateLimit-Limit", "1"), ("X-RateLimit-Remaining", "0"), ("X-RateLimit-Reset", "10")]),
        ("/nowhere", &[]),
    ];
    for (path, expected) in cases {
        let (_, ticket) = gateway.access(0, &Fake::get(path), at(0.0));
        let mut buffer = [0; 512];
        let found: Vec<_> = ticket
            .limit_headers(&mut buffer)
            .map(|(name, value)| {
                (String::from_utf8_lossy(name).into_owned(), String::from_utf8_lossy(value).into_owned())
            })
            .collect();
        let expected: Vec<_> = expected.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        assert_eq!(found, expected, "{path}");
    }
}

#[test]
fn a_refusal_says_when_to_come_back_and_then_it_is_so() {
    let mut gateway = Gateway::new(&document(DOCUMENT), 2);
    let request = Fake::get("/slow").method(Method::Post);
    assert_eq!(gateway.verdict(0, &request, at(0.0)), "forward");
    let refused = reply(gateway.access(1, &request, at(0.5)).0);
    assert_eq!((refused.reason.code(), refused.reason.status(), refused.retry_after), ("limit.exceeded", 429, 10));
    assert_eq!(gateway.verdict(1, &request, at(9.999)), "limit.exceeded");
    assert_eq!(gateway.verdict(1, &request, at(10.0)), "forward");
}

#[test]
fn all_workers_together_admit_what_the_limit_says() {
    let rest = r#"
limiters: [{name: l, key: [ip], rate: 10/s, burst: 20}]
routes: [{name: r, paths: ["/*"], limits: [l]}]
"#;
    let mut gateway = Gateway::new(&document(rest), 4);
    let mut admitted = |from: f64, count: u32| {
        (0..count)
            .filter(|n| {
                gateway.verdict(*n as usize % 4, &Fake::get("/"), at(from + f64::from(*n) / f64::from(count) * 0.2))
                    == "forward"
            })
            .count()
    };
    let first = admitted(0.0, 200);
    assert!((20..=22).contains(&first), "{first}");
    let second = admitted(1.2, 200);
    assert!((11..=13).contains(&second), "{second}");
}
