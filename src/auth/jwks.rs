//! Key sets from elsewhere (JWKS, RFC 7517): when to fetch one, what to believe, how long to keep it.
//!
//! No clock, no file and no socket: whoever fetches says what happened at which time and is told what to do. The rules:
//!
//! * A set is fetched again when its `max-age` is over (1 min to 12 h; 10 min where none is said), less up to a tenth, so
//!   that many gateways do not ask at one moment. The bound is half of what a set is kept, so that one that cannot be
//!   renewed is tried for hours before it is lost.
//! * A fetch that fails is repeated after 1 s, and after twice that each time, up to 5 min (30 s as long as there is no
//!   set: nobody gets in until then).
//! * A token with an unknown `kid` brings about a fetch, but one in 30 s whatever comes of it, and it changes nothing of
//!   the two rules above unless it succeeds: a flood of made-up names costs the issuer no more.
//! * Nothing but a set with a usable key replaces a set. The last good one stays for 24 h after it was last confirmed.

use std::fmt;

use super::error::KeyError;
use super::key::KeySet;
use super::settings::Algorithm;
use crate::types::SECOND;

/// The most bytes that a set may have.
pub const SET_MAX: usize = 1 << 20;

const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;

/// How long a set is used after it was last confirmed, microseconds.
pub const KEEP: u64 = 24 * HOUR;
/// How long an unknown `kid` brings about no further fetch, microseconds.
pub const COOLDOWN: u64 = 30 * SECOND;

const REFRESH: u64 = 10 * MINUTE;
const REFRESH_MIN: u64 = MINUTE;
const REFRESH_MAX: u64 = 12 * HOUR;
const RETRY_MIN: u64 = SECOND;
const RETRY_MAX: u64 = 5 * MINUTE;
const RETRY_MAX_WITHOUT: u64 = 30 * SECOND;

/// What came back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status; 200 for a file.
    pub status: u16,
    /// The body, decoded.
    pub body: Vec<u8>,
    /// Its `ETag`, as it came.
    pub etag: Option<String>,
    /// Seconds that it may be kept, as [`max_age`] reads them.
    pub max_age: Option<u64>,
}

/// What an answer comes to.
#[derive(Debug)]
pub enum Verdict {
    /// This set is the one to use from now on; it may equal the one before.
    Set(KeySet),
    /// The set that there is stays, confirmed.
    Confirmed,
    /// Nothing usable came; the set that there is stays.
    Refused(Refused),
}

/// Why an answer is no set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// A status other than 200, or 304 where nothing was asked for under a condition.
    Status(u16),
    /// More than [`SET_MAX`] bytes.
    Large,
    /// Not UTF-8.
    Text,
    /// No set, or one that must not be used.
    Set(KeyError),
}

impl fmt::Display for Refused {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(out, "the answer has status {status}"),
            Self::Large => write!(out, "larger than {SET_MAX} bytes"),
            Self::Text => out.write_str("not UTF-8 text"),
            Self::Set(error) => error.fmt(out),
        }
    }
}

/// Reads a set as it was fetched; keys that do not say their algorithm get the first of `allowed` that goes with them,
/// and only those of `allowed` are taken, where it is not empty. `remote`: as [`KeySet::from_json`].
///
/// # Errors
/// Why it is none.
pub fn read_set(body: &[u8], allowed: &[Algorithm], remote: bool) -> Result<KeySet, Refused> {
    if body.len() > SET_MAX {
        return Err(Refused::Large);
    }
    let text = std::str::from_utf8(body).map_err(|_| Refused::Text)?;
    let set = KeySet::from_json_among(text, allowed, remote).map_err(Refused::Set)?;
    // Whoever publishes a private key has lost it, and may not know what else stands there.
    let is_private = |error: &KeyError| matches!(error, KeyError::At(_, error) if **error == KeyError::Private);
    match set.left_out.iter().find(|error| is_private(error)) {
        Some(error) => Err(Refused::Set(error.clone())),
        None => Ok(set),
    }
}

/// One set's way through time. All times are microseconds of one monotonic clock.
#[derive(Clone, Debug)]
pub struct Refresh {
    allowed: Vec<Algorithm>,
    remote: bool,
    /// When it is fetched in the background.
    next: u64,
    /// A fetch is under way; whether an unknown `kid` brought it about.
    under_way: Option<Cause>,
    /// Failures in a row.
    failures: u32,
    /// When an unknown `kid` last brought about a fetch.
    asked: Option<u64>,
    /// The next fetch is one that an unknown `kid` brought about.
    wanted: bool,
    /// Until when the set is used; `None` = there is none.
    until: Option<u64>,
    /// What the set came with.
    etag: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    Background,
    UnknownKid,
}

impl Refresh {
    /// Without a set: it is due at once. `allowed` and `remote` are as of [`read_set`].
    #[must_use]
    pub fn new(allowed: Vec<Algorithm>, remote: bool) -> Self {
        Self {
            allowed,
            remote,
            next: 0,
            under_way: None,
            failures: 0,
            asked: None,
            wanted: false,
            until: None,
            etag: None,
        }
    }

    /// There is a set, which was confirmed `age` microseconds before `now`, by a process that went away. It is due at once:
    /// nobody knows what the other one was about to do.
    pub fn resume(&mut self, now: u64, age: u64) {
        self.until = Some(now.saturating_add(KEEP.saturating_sub(age)));
    }

    /// Whether a fetch is to begin now. There is never more than one under way.
    #[must_use]
    pub fn is_due(&self, now: u64) -> bool {
        self.under_way.is_none() && (self.wanted || now >= self.next)
    }

    /// A fetch has begun; the `ETag` to send as `If-None-Match`, where there is one.
    pub fn started(&mut self, now: u64) -> Option<&str> {
        if std::mem::take(&mut self.wanted) {
            self.asked = Some(now);
        }
        // What would have been fetched anyway goes by the rule of the background.
        self.under_way = Some(if now < self.next { Cause::UnknownKid } else { Cause::Background });
        self.etag.as_deref()
    }

    /// A token named a key that the set has not. One that comes while a fetch is under way or in the time after the last
    /// one is forgotten: the next such token will do.
    pub fn unknown_kid(&mut self, now: u64) {
        let cools = self.asked.is_some_and(|asked| now < asked.saturating_add(COOLDOWN));
        self.wanted |= self.under_way.is_none() && !cools;
    }

    /// The fetch came to an answer. `jitter` is any number; it is taken modulo the tenth that it may shift.
    pub fn answer(&mut self, now: u64, answer: &Answer, jitter: u64) -> Verdict {
        let verdict = match answer.status {
            200 => match read_set(&answer.body, &self.allowed, self.remote) {
                Ok(set) => Verdict::Set(set),
                Err(why) => Verdict::Refused(why),
            },
            304 if self.etag.is_some() && self.until.is_some() => Verdict::Confirmed,
            status => Verdict::Refused(Refused::Status(status)),
        };
        match &verdict {
            Verdict::Set(_) => self.etag.clone_from(&answer.etag),
            Verdict::Confirmed => {}
            Verdict::Refused(_) => {
                self.failed(now, jitter);
                return verdict;
            }
        }
        self.under_way = None;
        self.failures = 0;
        self.confirm(now);
        let age = answer.max_age.map_or(REFRESH, |seconds| seconds.saturating_mul(SECOND));
        self.next = now.saturating_add(less(age.clamp(REFRESH_MIN, REFRESH_MAX), jitter));
        verdict
    }

    /// The fetch failed: no connection, no answer in time.
    pub fn failed(&mut self, now: u64, jitter: u64) {
        if self.under_way.take() == Some(Cause::UnknownKid) {
            return;
        }
        let most = if self.until.is_some() { RETRY_MAX } else { RETRY_MAX_WITHOUT };
        let pause = RETRY_MIN.saturating_mul(1 << self.failures.min(20)).min(most);
        self.failures = self.failures.saturating_add(1);
        self.next = now.saturating_add(less(pause, jitter));
    }

    /// The set that an answer brought could not be stored: it is fetched again, without a condition.
    pub fn lost(&mut self, now: u64, jitter: u64) {
        self.etag = None;
        self.failed(now, jitter);
    }

    /// The source still says what it said (a file that did not change).
    pub fn confirm(&mut self, now: u64) {
        self.until = Some(now.saturating_add(KEEP));
    }

    /// Whether there is a set.
    #[must_use]
    pub fn has_set(&self) -> bool {
        self.until.is_some()
    }

    /// Gives up a set that was not confirmed for [`KEEP`]; true when this was the moment.
    pub fn expire(&mut self, now: u64) -> bool {
        let is_over = self.until.is_some_and(|until| now >= until);
        if is_over {
            self.until = None;
            self.etag = None;
        }
        is_over
    }
}

/// `span` less up to a tenth of it.
fn less(span: u64, jitter: u64) -> u64 {
    span - jitter % (span / 10 + 1)
}

/// The seconds of `max-age` in a `Cache-Control` header (RFC 9111, 5.2.2.1); `None` where it says nothing, nothing that
/// can be read, or that nothing may be kept.
#[must_use]
pub fn max_age(header: &str) -> Option<u64> {
    let mut age = None;
    for directive in header.split(',').map(str::trim) {
        let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
        if name.eq_ignore_ascii_case("no-store") || name.eq_ignore_ascii_case("no-cache") {
            return None;
        }
        if name.eq_ignore_ascii_case("max-age") {
            age = value.trim_matches('"').parse().ok();
        }
    }
    age
}

#[cfg(test)]
mod tests;
