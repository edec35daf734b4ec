//! A line of the log beside what `serde_json` makes of the same record, in one run and alternating: `cargo bench --bench
//! log`.
#![allow(clippy::unwrap_used)]

#[path = "harness/record.rs"]
mod record;

use std::hint::black_box;
use std::time::Instant;

use gateway::log::redact::Redact;
use gateway::log::{Clock, Record};
use record::ORDINARY;
use serde::Serialize;

/// The same members, with the texts made ready and the secrets hidden already: serde_json has less to do.
#[derive(Serialize)]
struct Line<'a> {
    timestamp: &'a str,
    request_id: &'a str,
    method: &'a str,
    uri: &'a str,
    args: &'a str,
    host: &'a str,
    client_ip: &'a str,
    user_agent: &'a str,
    referer: &'a str,
    status: u16,
    bytes_sent: u64,
    request_time: f64,
    upstream_response_time: f64,
    upstream_addr: &'a str,
    upstream_status: u16,
    cache_status: Option<&'a str>,
    user_id: &'a str,
    trace_id: &'a str,
    span_id: &'a str,
    node: &'a str,
    route: &'a str,
    upstream: &'a str,
    consumer: &'a str,
    variant: Option<&'a str>,
    decision: &'a str,
    reason: Option<&'a str>,
    tries: u32,
    limit: &'a str,
    breaker: &'a str,
    gateway_time: f64,
}

fn line(record: &Record<'static>) -> Line<'static> {
    let text = |bytes: &'static [u8]| std::str::from_utf8(bytes).unwrap();
    let one = record.tries.first().unwrap();
    Line {
        timestamp: "2026-01-01T00:00:00.123Z",
        request_id: text(record.request_id),
        method: text(record.method),
        uri: text(record.uri),
        args: text(record.args),
        host: text(record.host),
        client_ip: text(record.client_ip),
        user_agent: text(record.user_agent),
        referer: text(record.referer),
        status: record.status,
        bytes_sent: record.bytes_sent,
        request_time: record.request_time as f64 / 1e3,
        upstream_response_time: one.time.unwrap() as f64 / 1e3,
        upstream_addr: text(one.address),
        upstream_status: one.status,
        cache_status: None,
        user_id: text(record.user_id),
        trace_id: text(record.trace_id),
        span_id: text(record.span_id),
        node: text(record.node),
        route: record.route,
        upstream: record.upstream,
        consumer: record.consumer,
        variant: None,
        decision: record.decision,
        reason: None,
        tries: 1,
        limit: record.limit,
        breaker: record.breaker,
        gateway_time: record.gateway_time.unwrap() as f64 / 1e6,
    }
}

fn main() {
    const CALLS: u32 = 20_000;
    let (mut clock, redact, mut out) = (Clock::default(), Redact::default(), Vec::new());
    let theirs = line(&ORDINARY);
    let mut best = [f64::MAX; 2];
    for _ in 0..15 {
        let began = Instant::now();
        for _ in 0..CALLS {
            black_box(&ORDINARY).write(&mut clock, &redact, &mut out);
            black_box(&out);
        }
        best[0] = best[0].min(began.elapsed().as_nanos() as f64 / f64::from(CALLS));
        let began = Instant::now();
        for _ in 0..CALLS {
            black_box(serde_json::to_vec(black_box(&theirs)).unwrap());
        }
        best[1] = best[1].min(began.elapsed().as_nanos() as f64 / f64::from(CALLS));
    }
    println!(
        "a line of {} bytes: {:.0} ns; serde_json::to_vec: {:.0} ns, {:.2} times as long",
        out.len(),
        best[0],
        best[1],
        best[1] / best[0]
    );
}
