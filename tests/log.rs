//! The log: what a line says, and how it comes into a worker's ring.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::unwrap_used, reason = "tests may")]

#[path = "fuzz/log_line.rs"]
mod log_line;

use gateway::log::redact::{NAMES, Redact};
use gateway::log::{Clock, LINE_MAX, Record, TEXT_MAX, TRIES_MAX, Try};
use proptest::prelude::*;
use serde_json::{Value, json};

fn line(record: &Record<'_>, redact: &Redact) -> String {
    let mut line = Vec::new();
    record.write(&mut Clock::default(), redact, &mut line);
    String::from_utf8(line).unwrap()
}

fn read(record: &Record<'_>, redact: &Redact) -> Value {
    serde_json::from_str(&line(record, redact)).unwrap()
}

const FULL: Record<'static> = Record {
    wall: 1_767_225_600_123_456,
    request_id: b"0198c0de-0000-7000-8000-000000000000",
    method: b"POST",
    uri: b"/orders/7",
    args: b"page=2&token=secret",
    host: b"shop.example",
    client_ip: b"192.0.2.7",
    user_agent: b"curl/8",
    referer: b"https://shop.example/cart?session=1&x=2",
    status: 502,
    bytes_sent: 512,
    request_time: 1_034,
    tries: &[
        Try { address: b"10.0.0.1:80", status: 502, time: Some(1_000) },
        Try { address: b"10.0.0.2:80", status: 0, time: None },
    ],
    cache_status: b"MISS",
    user_id: b"ada",
    trace_id: b"4bf92f3577b34da6a3ce929d0e0e4736",
    span_id: b"00f067aa0ba902b7",
    node: b"edge-1",
    route: "orders",
    upstream: "orders",
    consumer: "shop",
    variant: "stable",
    decision: "forward",
    reason: "upstream.failed",
    limit: "PASSED",
    breaker: "closed",
    gateway_time: Some(41),
};

/// Names and order are what users' dashboards know: DESIGN section 7.
#[test]
fn a_whole_line() {
    let expected = json!({
        "timestamp": "2026-01-01T00:00:00.123Z",
        "request_id": "0198c0de-0000-7000-8000-000000000000",
        "method": "POST",
        "uri": "/orders/7",
        "args": "page=2&token=***",
        "host": "shop.example",
        "client_ip": "192.0.2.7",
        "user_agent": "curl/8",
        "referer": "https://shop.example/cart?session=***&x=2",
        "status": 502,
        "bytes_sent": 512,
        "request_time": 1.034,
        "upstream_response_time": [1.0, null],
        "upstream_addr": ["10.0.0.1:80", "10.0.0.2:80"],
        "upstream_status": [502, null],
        "cache_status": "MISS",
        "user_id": "ada",
        "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
        "span_id": "00f067aa0ba902b7",
        "node": "edge-1",
        "route": "orders",
        "upstream": "orders",
        "consumer": "shop",
        "variant": "stable",
        "decision": "forward",
        "reason": "upstream.failed",
        "tries": 2,
        "limit": "PASSED",
        "breaker": "closed",
        "gateway_time": 0.000041,
    });
    assert_eq!(read(&FULL, &Redact::default()), expected);
    let text = line(&FULL, &Redact::default());
    let order = "timestamp request_id method uri args host client_ip user_agent referer status bytes_sent request_time \
                 upstream_response_time upstream_addr upstream_status cache_status user_id trace_id span_id node route \
                 upstream consumer variant decision reason tries limit breaker gateway_time";
    let places: Vec<usize> =
        order.split_whitespace().map(|name| text.find(&format!("\"{name}\":")).expect(name)).collect();
    assert!(places.is_sorted(), "{places:?}");
}

#[test]
fn what_is_absent_is_null_and_nothing_is_left_out() {
    let empty = read(&Record::default(), &Redact::default());
    let full = read(&FULL, &Redact::default());
    let names = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&empty), names(&full));
    for (name, value) in empty.as_object().unwrap() {
        let counted = ["timestamp", "status", "bytes_sent", "request_time", "tries"].contains(&name.as_str());
        assert_eq!(value.is_null(), !counted, "{name}: {value}");
    }
}

#[test]
fn values_of_secrets_are_hidden_in_whatever_case_and_spelling() {
    let own = Redact { all: false, names: vec![b"ticket".as_slice().into()] };
    for (args, shown) in [
        ("a=1", "a=1"),
        ("a=1&access_token=x", "a=1&access_token=***"),
        ("Access_Token=x;API_KEY=y&b", "Access_Token=***;API_KEY=***&b"),
        ("%74oken=x&t%6fken=y", "%74oken=***&t%6fken=***"),
        ("token=", "token="),
        ("token", "token"),
        ("ticket=1&Ticket=2&tickets=3", "ticket=***&Ticket=***&tickets=3"),
        ("token=a=b&c=d", "token=***&c=d"),
        ("&&=x&token=%22", "&&=x&token=***"),
    ] {
        let record = Record { args: args.as_bytes(), ..FULL };
        assert_eq!(read(&record, &own)["args"], shown, "{args}");
    }
    for name in NAMES {
        let args = format!("{name}=gem");
        assert!(!line(&Record { args: args.as_bytes(), ..FULL }, &Redact::default()).contains("gem"), "{name}");
        assert_eq!(name, name.to_ascii_lowercase());
    }
    assert!(NAMES.is_sorted());
    let all = Redact { all: true, names: Vec::new() };
    assert_eq!(read(&Record { args: b"a=1&b=&c", ..FULL }, &all)["args"], "a=***&b=&c");
}

#[test]
fn the_longest_line_has_room() {
    let text = vec![0x01_u8; 3 * TEXT_MAX];
    let tries = [Try { address: &text[..60], status: 599, time: Some(u64::MAX) }; 3 * TRIES_MAX];
    let name = "\u{1}".repeat(256);
    let record = Record {
        uri: &text,
        args: &text,
        host: &text,
        user_agent: &text,
        referer: &text,
        method: &text,
        user_id: &text[..256],
        route: &name,
        upstream: &name,
        consumer: &name,
        variant: &name,
        tries: &tries,
        ..FULL
    };
    let text = line(&record, &Redact::default());
    assert!(text.len() <= LINE_MAX, "{}", text.len());
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap()["tries"], 3 * TRIES_MAX);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn any_line_can_be_read_back(data in proptest::collection::vec(
        prop_oneof![3 => any::<u8>(), 2 => 0x20..0x7f_u8, 1 => proptest::sample::select(b"\"\\&;=?%\n".to_vec())], 0..1_500,
    )) {
        log_line::run(&data);
    }
}
