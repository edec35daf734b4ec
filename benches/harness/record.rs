//! The record of an ordinary request.

use gateway::log::{Record, Try};

pub const ORDINARY: Record<'static> = Record {
    wall: 1_767_225_600_123_456,
    request_id: b"0198c0de-0000-7000-8000-000000000000",
    method: b"GET",
    uri: b"/api/v1/service77/items/4711",
    args: b"page=2&sort=name&filter=open",
    host: b"api.example.com",
    client_ip: b"192.0.2.77",
    user_agent: b"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    referer: b"https://shop.example.com/orders?page=1",
    status: 200,
    bytes_sent: 4_711,
    request_time: 12,
    tries: &[Try { address: b"10.0.0.11:8080", status: 200, time: Some(11) }],
    cache_status: b"",
    user_id: b"ada",
    trace_id: b"4bf92f3577b34da6a3ce929d0e0e4736",
    span_id: b"00f067aa0ba902b7",
    node: b"edge-1",
    route: "service77-items",
    upstream: "service77",
    consumer: "shop",
    variant: "",
    decision: "forward",
    reason: "",
    limit: "PASSED",
    breaker: "closed",
    gateway_time: Some(3),
};
