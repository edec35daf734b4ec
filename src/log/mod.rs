//! The access log: one request is one line, which is one JSON object (RFC 8259).
//!
//! A [`Record`] borrows everything from the request and is written into a buffer that is used again, so a line takes no
//! memory of its own. Where it goes from there is `state::tables::lines`' business.
//!
//! What clients choose cannot forge a line, break the JSON or fill the disk: control characters are escaped, bytes that
//! are no UTF-8 become U+FFFD, and of each text at most [`TEXT_MAX`] bytes are shown. Values of query parameters whose
//! names speak of secrets are replaced by [`HIDDEN`] ([`redact`]).

mod json;
pub mod redact;
mod time;
pub mod trace;

use json::Line;
use redact::Redact;
pub use time::Clock;

/// Of a text that a client or a backend chose, at most so many bytes are shown; three dots say that there was more.
pub const TEXT_MAX: usize = 2_048;

/// No line is longer, bytes: a record of nothing but texts of [`TEXT_MAX`] bytes, each escaped to six times its length.
pub const LINE_MAX: usize = 96 << 10;

/// So many tries of a request are shown.
pub const TRIES_MAX: usize = 16;

/// What stands in the place of a secret.
pub const HIDDEN: &str = "***";

/// One try of an upstream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Try<'a> {
    /// `address:port`.
    pub address: &'a [u8],
    /// What it answered; 0 = nothing.
    pub status: u16,
    /// Milliseconds until its answer was there; `None` where it gave none.
    pub time: Option<u64>,
}

/// What is said of one request. Empty texts are `null` in the line.
#[derive(Clone, Copy, Debug, Default)]
pub struct Record<'a> {
    /// When it ended, microseconds since 1970.
    pub wall: u64,
    /// Its id.
    pub request_id: &'a [u8],
    /// The method as the client wrote it.
    pub method: &'a [u8],
    /// The path as the client wrote it.
    pub uri: &'a [u8],
    /// The query as the client wrote it.
    pub args: &'a [u8],
    /// The `Host` that was asked for.
    pub host: &'a [u8],
    /// The client's address.
    pub client_ip: &'a [u8],
    /// `User-Agent`.
    pub user_agent: &'a [u8],
    /// `Referer`.
    pub referer: &'a [u8],
    /// What the client was answered.
    pub status: u16,
    /// How many bytes it was sent, headers included.
    pub bytes_sent: u64,
    /// From its first byte to the last of the answer, milliseconds.
    pub request_time: u64,
    /// The tries, in their order.
    pub tries: &'a [Try<'a>],
    /// What nginx's cache said.
    pub cache_status: &'a [u8],
    /// The token's subject, else the consumer.
    pub user_id: &'a [u8],
    /// The trace that it belongs to (W3C Trace Context), 32 hexadecimal digits …
    pub trace_id: &'a [u8],
    /// … and the span that we are in it, 16.
    pub span_id: &'a [u8],
    /// Who wrote the line.
    pub node: &'a [u8],
    /// The route's name.
    pub route: &'a str,
    /// The upstream's name.
    pub upstream: &'a str,
    /// The consumer.
    pub consumer: &'a str,
    /// The variant that served it.
    pub variant: &'a str,
    /// What was decided.
    pub decision: &'a str,
    /// The precise code of a refusal.
    pub reason: &'a str,
    /// What the limits said.
    pub limit: &'a str,
    /// How its upstream's breaker stood.
    pub breaker: &'a str,
    /// What our decision took, microseconds.
    pub gateway_time: Option<u64>,
}

impl Record<'_> {
    /// Writes the line, its end included, into `out`, which is emptied first.
    pub fn write(&self, clock: &mut Clock, redact: &Redact, out: &mut Vec<u8>) {
        out.clear();
        let mut line = Line::new(out);
        line.raw("timestamp", &[b"\"", clock.show(self.wall), b"\""]);
        line.text("request_id", self.request_id);
        line.text("method", self.method);
        line.text("uri", self.uri);
        line.query("args", self.args, redact);
        line.text("host", self.host);
        line.text("client_ip", self.client_ip);
        line.text("user_agent", self.user_agent);
        line.reference("referer", self.referer, redact);
        line.number("status", self.status.into());
        line.number("bytes_sent", self.bytes_sent);
        line.seconds("request_time", self.request_time);
        let tries = self.tries.get(..TRIES_MAX).unwrap_or(self.tries);
        line.each("upstream_response_time", tries, |line, one| match one.time {
            Some(time) => line.put_seconds(time),
            None => line.put_null(),
        });
        line.each("upstream_addr", tries, |line, one| line.put_text(one.address));
        line.each("upstream_status", tries, |line, one| match one.status {
            0 => line.put_null(),
            status => line.put_number(status.into()),
        });
        line.text("cache_status", self.cache_status);
        line.text("user_id", self.user_id);
        line.text("trace_id", self.trace_id);
        line.text("span_id", self.span_id);
        line.text("node", self.node);
        line.text("route", self.route.as_bytes());
        line.text("upstream", self.upstream.as_bytes());
        line.text("consumer", self.consumer.as_bytes());
        line.text("variant", self.variant.as_bytes());
        line.text("decision", self.decision.as_bytes());
        line.text("reason", self.reason.as_bytes());
        line.number("tries", self.tries.len() as u64);
        line.text("limit", self.limit.as_bytes());
        line.text("breaker", self.breaker.as_bytes());
        match self.gateway_time {
            Some(micros) => line.micros("gateway_time", micros),
            None => line.text("gateway_time", b""),
        }
        line.end();
    }
}
