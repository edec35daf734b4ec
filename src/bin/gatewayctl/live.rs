//! A document made live on this process's heap, so that the gateway itself decides.

use std::net::IpAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use gateway::config::Document;
use gateway::gateway::{
    Answer, Decision, Entry, Question, Recorder, Severity, Ticket, Worker, ZONE_MIN, publish, read_key_files,
};
use gateway::state::{HeapRegion, Identity, Writer};
use gateway::types::Now;

use gateway::admin::Sent;

/// The largest region that is tried, in bytes.
pub const SIZE_MAX: usize = 8 << 30;

/// A live document.
pub struct Live {
    pub worker: Worker,
    live: usize,
    // Behind the worker, which refers to it.
    _owner: HeapRegion,
}

impl Live {
    /// Makes `document` live in a region that is large enough, with the keys that are in files.
    pub fn start(document: &Document) -> Result<Self, String> {
        let mut size = 64 << 20;
        loop {
            match Self::open(document, size, true) {
                Err(_) if size < SIZE_MAX => size *= 2,
                done => return done,
            }
        }
    }

    /// Makes `document` live in a region of `size` bytes.
    pub fn of_size(document: &Document, size: usize) -> Result<Self, String> {
        Self::open(document, size, false)
    }

    fn open(document: &Document, size: usize, with_keys: bool) -> Result<Self, String> {
        let document = without_names(document);
        let owner = HeapRegion::new(size.max(ZONE_MIN), [1, 2]).map_err(|error| error.to_string())?;
        let region = owner.region();
        let identity = Identity::current();
        let mut writer = Writer::take(region, identity)
            .ok()
            .flatten()
            .ok_or_else(|| "a fresh region has no room for a writer".to_owned())?;
        publish(region, &mut writer, &document, Now { mono: 1, wall: 0 }).map_err(|error| error.to_string())?;
        let live = writer.stats().live;
        if with_keys {
            // Of keys that are left out `jwks check` tells.
            read_key_files(&mut writer, now(), &mut |event| match event.severity {
                Severity::Error => eprintln!("gatewayctl: {}", event.text),
                Severity::Warning | Severity::Notice => {}
            });
        }
        let worker = Worker::start(region, identity, [1, 2])
            .ok_or_else(|| "a fresh region has no room for a worker".to_owned())?;
        Ok(Self { worker, live, _owner: owner })
    }

    /// Bytes of the region that the document takes.
    pub fn live_bytes(&self) -> usize {
        self.live
    }

    /// What is decided on `request`; it is over at once.
    pub fn decide(&mut self, request: &Sent, now: Now, ticket: &mut Ticket, recorder: &mut impl Recorder) -> Decision {
        let mut decision = self.worker.access_with(request, Entry::First, now, ticket, recorder);
        // Found out here and now; there is nobody else to wait.
        while let Decision::Ask(ask) = decision {
            let answer = self.worker.question().map_or(Answer::failed(ask), Question::answer);
            self.worker.learn(answer, now);
            decision = self.worker.resume_with(answer, request, now, ticket, recorder);
        }
        decision
    }
}

/// The same with addresses for names: what is decided does not hang on them, and nothing is looked up.
fn without_names(document: &Document) -> Document {
    let mut document = document.clone();
    for upstream in &mut document.upstreams {
        for (index, node) in upstream.nodes.iter_mut().enumerate() {
            if node.host.parse::<IpAddr>().is_err() {
                // RFC 3849: addresses that are nobody's.
                node.host = format!("2001:db8::{:x}:{:x}", index >> 16, index & 0xffff);
            }
        }
    }
    document
}

/// This instant.
pub fn now() -> Now {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as u64);
    Now { mono: wall, wall }
}
