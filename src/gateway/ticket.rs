//! What one request carries from `access` to `pick` and `complete`.
//!
//! A request may outlive the generation that decided on it: a 60-second upload meets another document at `pick` and
//! `complete`. So the ticket holds values and ids, never references, and what is looked up again is checked to be
//! still the same thing.

use super::cache::CacheEntry;
use super::decision::Reply;
use super::fallback::Resort;
use super::object::{Route, Upstream};
use super::signature::Accepted;
use crate::auth::signature::BodyDigest;
use crate::balancer::{RetryOn, Timeouts, Tried};
use crate::config::{EVENTS_MAX, LIMITS_MAX};
use crate::limiter::{HeaderStyle, HeaderText, Quota};
use crate::state::Blob;
use crate::state::tables::breaker::Permit;
use crate::state::tables::peers::Peer;
use crate::state::tables::places::Place;
use crate::types::{Id, Method, NAME_MAX, Reason};

/// The record of one request; adapters keep it beside their own and hand it to every call.
#[derive(Debug)]
pub struct Ticket {
    pub(super) stage: Stage,
    pub(super) route: Id,
    pub(super) upstream: Id,
    pub(super) method: Method,
    /// When `access` saw it first, microseconds.
    pub(super) started: u64,
    pub(super) refused: Option<Reason>,
    /// Whether it goes its way whatever was decided.
    pub(super) shadow: bool,
    /// Whether the route answered by itself.
    pub(super) responded: bool,
    /// Whether it counts in this worker's requests in flight.
    pub(super) counted: bool,
    /// The limiters that were asked for it already.
    pub(super) asked: Asked,
    pub(super) passed: Passed,
    /// How often something had to be found out for it.
    pub(super) asks: u8,
    pub(super) limit: Option<LimitNote>,
    /// Limiters that count what is still to come.
    pub(super) awaited: Awaited,
    pub(super) limit_status: LimitStatus,
    pub(super) permit: Option<Permit>,
    /// Its place on a route that lets in so many at a time.
    pub(super) place: Place,
    /// Its place among those that wait for their upstream's response header; none = it does not.
    pub(super) load: Place,
    /// Where how long that took is a sample, if anywhere.
    pub(super) sampled: Place,
    /// From so many microseconds to the response header on, a try has failed in its breaker's eyes.
    pub(super) slow_after: u64,
    /// Whether the last try that was answered took that long.
    pub(super) slow: bool,
    /// What is left should its upstream not serve.
    pub(super) resort: Resort,
    /// Why the upstream is not to be asked, though the request goes on: to the cache, which may have something.
    pub(super) barred: Option<Reply>,
    /// Why the fallback was taken up.
    pub(super) fallen: Option<Reason>,
    pub(super) timeouts: Timeouts,
    /// Tries in all that the route allows …
    pub(super) allowed: u8,
    /// … and that the adapter may make, given the peers and the budget that there were.
    pub(super) offered: u8,
    pub(super) retry_on: RetryOn,
    pub(super) idempotent_only: bool,
    /// Whether the server's own rules say what is tried again, as nobody else does.
    pub(super) server_retries: bool,
    /// Whether the upstream wants a `Host` of its own.
    pub(super) own_host: bool,
    /// How its upstream is spoken to, [`crate::balancer::Tls::identity`]; 0 = plain HTTP.
    pub(super) tls: u64,
    /// The most bytes that its body may have; 0 = as the server says.
    pub(super) max_body: u64,
    /// How long a try may take until the response header is there, microseconds; 0 = as the timeouts say.
    pub(super) per_try: u64,
    /// Whether another upstream is sent a copy.
    pub(super) mirrored: bool,
    /// Whether a location other than the one that it came to passes it on.
    pub(super) elsewhere: bool,
    /// Whether the route answers browsers of other origins itself.
    pub(super) cors: bool,
    /// Retries per 1,000 requests.
    pub(super) retry_budget: u16,
    pub(super) tried: Tried,
    /// What an upstream that hashes looks at, if the request has it: the CRC-32 of the key.
    pub(super) key: Option<u32>,
    pub(super) attempt: Option<Attempt>,
    pub(super) tries: u8,
    /// The last try met a closed connection; the next one is no retry.
    pub(super) stale: bool,
    /// The worker slot whose shard counts it.
    pub(super) shard: u32,
    /// The generation that wrote the upstream at the last try; places in its pick table mean nothing in another.
    pub(super) table: u32,
    /// The signature that let it in, for the whole of its life.
    pub(super) signed: Option<Accepted>,
    /// Under which key it may be answered from the cache.
    pub(super) cache: Option<CacheEntry>,
    /// Whether its upstream's breaker is still to be asked: only where the cache has no answer.
    pub(super) put_off: bool,
    /// What its body must hash to.
    pub(super) digest: Option<BodyDigest>,
    /// What the variant that serves it is counted by; 0 = it has none.
    pub(super) variant: u64,
    /// When its first try began, and when the header of its last answer came; 0 = not yet. Microseconds.
    pub(super) sent: u64,
    pub(super) answered: u64,
    pub(super) names: Names,
}

/// How far a request has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    New,
    /// Something has to be found out first.
    Asking,
    /// Refused before or after it had a route.
    Refused,
    /// Decided and let through.
    Forwarded,
    /// A peer has answered.
    Answered,
    Completed,
}

/// What a main request got past, for its subrequests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Passed {
    /// The route that let it in.
    pub route: Id,
    /// The `auth` entry that knew it.
    pub auth: Id,
}

/// Limiters that a request has asked. After an internal redirect it may meet the same ones once more, and others.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    slots: [u32; LIMITS_MAX],
    count: u32,
}

impl Asked {
    const fn new() -> Self {
        Self { slots: [0; LIMITS_MAX], count: 0 }
    }

    /// Notes that limiter `id` is asked, and says whether that is for the first time.
    #[inline]
    pub fn first(&mut self, id: Id) -> bool {
        let known = self.slots.get(..self.count as usize).unwrap_or(&self.slots);
        if known.contains(&id.slot) {
            return false;
        }
        if let Some(free) = self.slots.get_mut(self.count as usize) {
            *free = id.slot;
            self.count += 1;
        }
        true
    }

    /// How many there are, for [`Asked::back_to`].
    pub fn len(&self) -> u32 {
        self.count
    }

    /// Forgets those that were asked since there were `count`.
    pub fn back_to(&mut self, count: u32) {
        self.count = self.count.min(count);
    }
}

/// A limiter that counts what is still to come of a request.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wait {
    pub limiter: Id,
    /// Its bucket for this request.
    pub key: u64,
    /// Whether it counts a failure of auth; else it counts the answer.
    pub failure: bool,
    /// What a failure costs.
    pub cost: u32,
    /// When those tokens were taken, before auth was decided; 0 = they were not.
    pub reserved: u64,
}

/// All of them.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Awaited {
    list: [Wait; EVENTS_MAX],
    count: u8,
}

impl Awaited {
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Adds one; `false`: there is no room.
    pub fn push(&mut self, wait: Wait) -> bool {
        let free = self.list.get_mut(usize::from(self.count));
        self.count += u8::from(free.is_some());
        free.map(|free| *free = wait).is_some()
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Wait> {
        self.list.iter_mut().take(usize::from(self.count))
    }

    pub fn iter(&self) -> impl Iterator<Item = &Wait> {
        self.list.iter().take(usize::from(self.count))
    }

    /// Keeps those for which `keep` holds.
    pub fn retain(&mut self, keep: impl Fn(&Wait) -> bool) {
        let all = *self;
        self.clear();
        all.iter().filter(|wait| keep(wait)).for_each(|wait| {
            self.push(*wait);
        });
    }

    pub fn clear(&mut self) {
        self.count = 0;
    }
}

/// The try that is under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attempt {
    /// Its peer's place in the pick table.
    pub place: u32,
    /// Its peer, as the statistics know it; without a slot there, `key` still names its series.
    pub peer: Peer,
    pub key: u64,
    /// When it began, microseconds.
    pub started: u64,
    /// Microseconds to the response header, once it is there.
    pub latency: Option<u64>,
}

/// The limit that is nearest to its end, for the answer's headers.
#[derive(Clone, Copy, Debug)]
pub(super) struct LimitNote {
    pub quota: Quota,
    pub remaining: u32,
    /// Microseconds until the bucket is full.
    pub reset: u64,
    pub style: HeaderStyle,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LimitStatus {
    None,
    Passed,
    Rejected,
    DryRun,
}

impl Default for Ticket {
    fn default() -> Self {
        Self::new()
    }
}

impl Ticket {
    /// The ticket of a request that nobody has looked at.
    #[must_use]
    pub fn new() -> Self {
        Self {
            stage: Stage::New,
            route: Id::NONE,
            upstream: Id::NONE,
            method: Method::Other,
            started: 0,
            refused: None,
            shadow: false,
            responded: false,
            counted: false,
            asked: Asked::new(),
            asks: 0,
            passed: Passed::default(),
            limit: None,
            awaited: Awaited::default(),
            limit_status: LimitStatus::None,
            permit: None,
            place: Place::default(),
            load: Place::default(),
            sampled: Place::default(),
            slow_after: 0,
            slow: false,
            resort: Resort::None,
            barred: None,
            fallen: None,
            timeouts: Timeouts::default(),
            allowed: 1,
            offered: 1,
            retry_on: RetryOn { error: false, timeout: false, statuses: 0 },
            idempotent_only: true,
            server_retries: false,
            own_host: false,
            tls: 0,
            max_body: 0,
            per_try: 0,
            elsewhere: false,
            mirrored: false,
            cors: false,
            retry_budget: 0,
            tried: Tried::default(),
            key: None,
            attempt: None,
            tries: 0,
            stale: false,
            shard: 0,
            table: 0,
            signed: None,
            cache: None,
            put_off: false,
            digest: None,
            variant: 0,
            sent: 0,
            answered: 0,
            names: Names::default(),
        }
    }

    /// Keeps which upstream the request goes to.
    pub(super) fn goes_to(&mut self, upstream: &Blob<'_, Upstream>) {
        self.upstream = upstream.id();
        self.names.upstream.set(upstream.name_bytes());
        self.own_host = upstream.host.is_some();
        self.tls = upstream.tls_identity.to_native();
        // The same peer is not tried twice; with one peer its response is the answer, whatever it is.
        self.offered = self.allowed.min(u8::try_from(upstream.peers.len()).unwrap_or(u8::MAX)).max(1);
    }

    /// Keeps which route the request takes.
    pub(super) fn routed(&mut self, route: &Blob<'_, Route>) {
        self.route = route.id();
        self.names.route.set(route.name_bytes());
    }

    /// Forgets what an earlier look at the request decided; what limits said still holds, as they are not asked again.
    pub(super) fn restart(&mut self, method: Method, shard: u32) {
        // Field by field: the texts of the names need not be cleared.
        self.stage = Stage::New;
        self.route = Id::NONE;
        self.upstream = Id::NONE;
        self.method = method;
        self.refused = None;
        self.responded = false;
        self.passed = Passed::default();
        self.permit = None;
        self.sampled = Place::default();
        self.slow = false;
        self.resort = Resort::None;
        self.barred = None;
        self.fallen = None;
        self.timeouts = Timeouts::default();
        self.allowed = 1;
        self.offered = 1;
        self.retry_on = RetryOn { error: false, timeout: false, statuses: 0 };
        self.idempotent_only = true;
        self.server_retries = false;
        self.retry_budget = 0;
        self.tried.clear();
        self.key = None;
        self.attempt = None;
        self.tries = 0;
        self.stale = false;
        self.shard = shard;
        self.table = 0;
        self.cache = None;
        self.put_off = false;
        self.own_host = false;
        self.variant = 0;
        self.sent = 0;
        self.answered = 0;
        self.tls = 0;
        self.max_body = 0;
        self.per_try = 0;
        self.elsewhere = false;
        self.mirrored = false;
        self.cors = false;
        self.names.route.clear();
        self.names.upstream.clear();
        self.names.consumer.clear();
    }

    /// Whether `access` did not let it through: it refused, or asked something first.
    #[must_use]
    pub fn was_refused(&self) -> bool {
        matches!(self.stage, Stage::Refused | Stage::Asking)
    }

    /// Whether it goes its way whatever was decided.
    #[must_use]
    pub fn is_shadow(&self) -> bool {
        self.shadow
    }

    /// Whether it counts in the requests at hand: somebody has looked at it, and it is not over.
    #[must_use]
    pub fn is_counted(&self) -> bool {
        self.counted
    }

    /// Whether it has a route to an upstream; true also where it was refused after routing, as another module may let
    /// it in all the same.
    #[must_use]
    pub fn is_routed(&self) -> bool {
        self.upstream.is_some()
    }

    /// Whether the gateway says which other origins may read the answer, so that what an upstream says of it does not
    /// count.
    #[must_use]
    pub fn owns_cors(&self) -> bool {
        self.cors
    }

    /// Whether it probes whether the upstream of an open breaker is well again.
    #[must_use]
    pub fn is_probe(&self) -> bool {
        self.permit.is_some_and(Permit::is_probe)
    }

    /// Whether an `auth` entry knew the caller.
    #[must_use]
    pub fn is_authenticated(&self) -> bool {
        self.passed.auth.is_some()
    }

    /// The ticket of a request like this one that fetches a new answer in the background, on the terms on which this one
    /// was let through.
    #[must_use]
    pub fn refresh(&self) -> Self {
        let mut other = Self { stage: Stage::Forwarded, put_off: true, ..Self::new() };
        other.route = self.route;
        other.upstream = self.upstream;
        other.method = self.method;
        other.started = self.started;
        other.passed = self.passed;
        other.timeouts = self.timeouts;
        other.allowed = self.allowed;
        other.offered = self.allowed.min(self.offered.max(1));
        other.retry_on = self.retry_on;
        other.idempotent_only = self.idempotent_only;
        other.own_host = self.own_host;
        other.tls = self.tls;
        other.slow_after = self.slow_after;
        other.retry_budget = self.retry_budget;
        other.shard = self.shard;
        other.cache = self.cache;
        other.variant = self.variant;
        other.names.variant.set(self.names.variant.as_bytes());
        other.names.route.set(self.names.route.as_bytes());
        other.names.upstream.set(self.names.upstream.as_bytes());
        other.names.consumer.set(self.names.consumer.as_bytes());
        other
    }

    /// Whether it may be answered from the cache.
    #[must_use]
    pub fn is_cached(&self) -> bool {
        self.cache.is_some()
    }

    /// The key under which it may be answered from the cache: 32 hexadecimal digits.
    #[must_use]
    pub fn cache_key(&self) -> Option<[u8; 32]> {
        self.cache.map(|entry| entry.text())
    }

    /// What the body must hash to before the request may go on: the adapter compares, and refuses another one with
    /// [`Reason::BodyDigest`]. It stays with the request after an internal redirect.
    #[must_use]
    pub fn body_digest(&self) -> Option<BodyDigest> {
        self.digest
    }

    /// Whether a try is under way whose answer has not come.
    #[must_use]
    pub fn is_trying(&self) -> bool {
        self.attempt.is_some_and(|attempt| attempt.latency.is_none())
    }

    /// What its subrequests may rely on.
    #[must_use]
    pub fn passed(&self) -> Passed {
        if self.stage == Stage::Refused { Passed::default() } else { self.passed }
    }

    /// How many tries it has in all.
    #[must_use]
    pub fn attempts(&self) -> u8 {
        self.offered
    }

    /// A number for the TLS settings of its upstream, the same as long as they are; 0 = plain HTTP.
    #[must_use]
    pub fn tls(&self) -> u64 {
        self.tls
    }

    /// Whether another upstream is to be sent a copy of it ([`super::Worker::mirror`]).
    #[must_use]
    pub fn is_mirrored(&self) -> bool {
        self.mirrored
    }

    /// Whether its route names the location that is to pass it on.
    #[must_use]
    pub fn goes_elsewhere(&self) -> bool {
        self.elsewhere && !self.shadow
    }

    /// The most bytes that its body may have; `None` = as the server says. One with more is refused with
    /// [`Reason::BodyTooLarge`].
    #[must_use]
    pub fn max_body(&self) -> Option<u64> {
        (self.max_body != 0 && !self.shadow).then_some(self.max_body)
    }

    /// How long a try may take until the response header is there, microseconds; 0 = as the timeouts say.
    #[must_use]
    pub fn per_try_timeout(&self) -> u64 {
        self.per_try
    }

    /// Its timeouts, microseconds; 0 = the server's own.
    #[must_use]
    pub fn timeouts(&self) -> Timeouts {
        self.timeouts
    }

    /// Whether the server's own rules say what is tried again.
    #[must_use]
    pub fn has_server_retries(&self) -> bool {
        self.server_retries
    }

    /// What is tried again, and whether only for methods that may be sent twice.
    #[must_use]
    pub fn retry_on(&self) -> (RetryOn, bool) {
        (self.retry_on, self.idempotent_only)
    }

    /// The route's name; empty without one.
    #[must_use]
    pub fn route_name(&self) -> &str {
        self.names.route.as_str()
    }

    /// The variant of the route's `canary` that serves it; empty without one.
    #[must_use]
    pub fn variant(&self) -> &str {
        // Its text is whatever the last one was where there is none.
        if self.variant == 0 { "" } else { self.names.variant.as_str() }
    }

    /// The upstream's name; empty without one.
    #[must_use]
    pub fn upstream_name(&self) -> &str {
        self.names.upstream.as_str()
    }

    /// The consumer, or the token's subject where no consumer is named; empty for the anonymous.
    #[must_use]
    pub fn consumer(&self) -> &str {
        self.names.consumer.as_str()
    }

    /// How often something had to be found out elsewhere before it could be decided on.
    #[must_use]
    pub fn asks(&self) -> u8 {
        self.asks
    }

    /// What was decided, in one word.
    #[must_use]
    pub fn decision(&self) -> &'static str {
        match self.stage {
            Stage::New => "",
            Stage::Asking => "ask",
            _ if self.refused.is_some() => "refuse",
            _ if self.fallen.is_some() => "fallback",
            _ if self.responded => "respond",
            _ => "forward",
        }
    }

    /// Why it was refused.
    #[must_use]
    pub const fn refusal(&self) -> Option<Reason> {
        self.refused
    }

    /// Whether a peer was asked.
    #[must_use]
    pub const fn has_tried(&self) -> bool {
        self.tries > 0
    }

    /// The precise code of the refusal, or of what there was a fallback for; else empty. For logs, not for clients.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        self.refused.or(self.fallen).map_or("", Reason::code)
    }

    /// What the limits said, in nginx's words for `limit_req`; empty where none was asked.
    #[must_use]
    pub fn limit_status(&self) -> &'static str {
        match self.limit_status {
            LimitStatus::None => "",
            LimitStatus::Passed => "PASSED",
            LimitStatus::Rejected => "REJECTED",
            LimitStatus::DryRun => "REJECTED_DRY_RUN",
        }
    }

    /// The headers that tell the client where it stands: `RateLimit` and `RateLimit-Policy` (IETF draft), the
    /// `X-RateLimit-*` family, or both, as the limiter asks for. Values are written into `buffer`.
    pub fn limit_headers<'b>(
        &self,
        buffer: &'b mut [u8; 512],
    ) -> impl Iterator<Item = (&'static [u8], &'b [u8])> + use<'b> {
        let mut headers: [Option<(&'static [u8], &'b [u8])>; 5] = [None; 5];
        if let Some(note) = &self.limit {
            let (ietf, rest) = buffer.split_at_mut(224);
            let (policy, x) = rest.split_at_mut(224);
            let (limit, x) = x.split_at_mut(20);
            let (remaining, reset) = x.split_at_mut(20);
            let name = self.names.limit.as_str();
            if matches!(note.style, HeaderStyle::Ietf | HeaderStyle::Both) {
                let mut text = HeaderText::new(policy);
                text.policy(name, &note.quota);
                let policy = text.into_bytes();
                let mut text = HeaderText::new(ietf);
                text.rate_limit(name, note.remaining, note.reset);
                headers[0] = Some((b"RateLimit-Policy", policy));
                headers[1] = Some((b"RateLimit", text.into_bytes()));
            }
            if matches!(note.style, HeaderStyle::X | HeaderStyle::Both) {
                let number = |buffer: &'b mut [u8], value: u64| {
                    let mut text = HeaderText::new(buffer);
                    text.number(value);
                    text.into_bytes()
                };
                headers[2] = Some((b"X-RateLimit-Limit", number(limit, note.quota.burst().into())));
                headers[3] = Some((b"X-RateLimit-Remaining", number(remaining, note.remaining.into())));
                headers[4] = Some((b"X-RateLimit-Reset", number(reset, note.reset.div_ceil(crate::types::SECOND))));
            }
        }
        headers.into_iter().flatten()
    }
}

/// Copies of the names that later calls and variables show: the objects they came from may be gone by then.
#[derive(Debug, Default)]
pub(super) struct Names {
    pub route: Name,
    pub upstream: Name,
    pub consumer: Name,
    pub variant: Name,
    pub limit: Name,
}

/// A name of at most [`NAME_MAX`] bytes; only a long one is on the heap.
#[derive(Debug)]
pub(super) enum Name {
    Short { length: u8, text: [u8; 46] },
    Long(Box<[u8]>),
}

impl Default for Name {
    fn default() -> Self {
        Self::Short { length: 0, text: [0; 46] }
    }
}

impl Name {
    pub(super) fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }

    /// For who hashes or copies it and need not know that it is UTF-8.
    pub(super) fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Short { length, text } => text.get(..usize::from(*length)).unwrap_or_default(),
            Self::Long(text) => text,
        }
    }

    pub(super) fn clear(&mut self) {
        match self {
            Self::Short { length, .. } => *length = 0,
            Self::Long(_) => *self = Self::default(),
        }
    }

    /// Keeps `name`, which the policy holds and is therefore UTF-8 of at most [`NAME_MAX`] bytes.
    pub(super) fn set(&mut self, name: &[u8]) {
        match self {
            Self::Short { length, text } if name.len() <= text.len() => {
                if let Some(place) = text.get_mut(..name.len()) {
                    place.copy_from_slice(name);
                    *length = name.len() as u8;
                }
            }
            Self::Long(_) if name.len() <= 46 => {
                *self = Self::default();
                self.set(name);
            }
            _ => *self = Self::Long(name.into()),
        }
    }

    /// Keeps what a token says, cut at a character where it is longer than any name may be.
    pub(super) fn set_text(&mut self, name: &str) {
        self.set(name.get(..name.floor_char_boundary(NAME_MAX)).unwrap_or_default().as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_kept_and_cut_at_characters() {
        let mut name = Name::default();
        assert_eq!(name.as_str(), "");
        for text in ["orders", "a", &"x".repeat(46), &"x".repeat(47), &"x".repeat(NAME_MAX)] {
            name.set(text.as_bytes());
            assert_eq!(name.as_str(), text);
        }
        name.set(b"short again");
        assert_eq!(name.as_str(), "short again");
        name.set_text(&"é".repeat(100));
        assert_eq!(name.as_str(), "é".repeat(64));
    }

    #[test]
    fn limit_headers_of_every_style() {
        let mut ticket = Ticket::new();
        let mut buffer = [0; 512];
        assert_eq!(ticket.limit_headers(&mut buffer).count(), 0);
        ticket.names.limit.set(b"per-ip");
        let quota = Quota::new(10, crate::types::SECOND, 20).unwrap();
        for (style, names) in [
            (HeaderStyle::Ietf, &["RateLimit-Policy", "RateLimit"][..]),
            (HeaderStyle::X, &["X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset"]),
        ] {
            ticket.limit = Some(LimitNote { quota, remaining: 3, reset: 1_700_000, style });
            let found: Vec<_> = ticket.limit_headers(&mut buffer).map(|(name, _)| name.to_vec()).collect();
            assert_eq!(found, names.iter().map(|name| name.as_bytes().to_vec()).collect::<Vec<_>>());
        }
        ticket.limit = Some(LimitNote { quota, remaining: 3, reset: 1_700_000, style: HeaderStyle::Both });
        let values: Vec<_> = ticket.limit_headers(&mut buffer).map(|(_, value)| value.to_vec()).collect();
        let expected: [&[u8]; 5] = [b"\"per-ip\";q=20;w=2", b"\"per-ip\";r=3;t=2", b"20", b"3", b"2"];
        assert_eq!(values, expected);
    }
}
