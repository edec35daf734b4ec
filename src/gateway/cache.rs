//! Answering from what was answered before: under which key, and what becomes of an answer.
//!
//! Asked after auth, since the caller stands in the key, and after the path to forward is known, since that is what it is
//! about. The ticket keeps the digest and which of the request's traits matter to the answer; settings are read in the
//! tree when they are needed, and an answer whose route is gone by then is not kept.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use super::caller::Callers;
use super::explain::{Recorder, Step, tell};
use super::leader::Leader;
use super::object::{ArchivedCached, CacheTag, PATHS, Route};
use super::ticket::Ticket;
use super::worker::{Out, Worker};
use crate::auth::{ArchivedScheme, ArchivedSource, Auth, cookies};
use crate::cache::control::{Answer, Asker, Verdict, Why};
use crate::cache::{ArchivedCache, Canonical, Field, Key, KeyHasher, OVERRIDES, bucket, canonical};
use crate::router::path;
use crate::state::{Blob, Region, View};
use crate::types::{Header, Method, Protocol, Request};

/// The longest authority that a key takes.
const AUTHORITY_MAX: usize = 256;

/// Headers that come with a body.
const BODY: [&[u8]; 2] = [b"content-length", b"transfer-encoding"];

/// What a request that may be answered from the cache carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CacheEntry {
    key: Key,
    asker: Asker,
}

impl CacheEntry {
    /// The key as text.
    pub(super) fn text(self) -> [u8; 32] {
        let mut text = [0; 32];
        let bytes = self.key.into_iter().flat_map(u64::to_be_bytes);
        for (digits, byte) in text.as_chunks_mut::<2>().0.iter_mut().zip(bytes) {
            let digit = |nibble: u8| if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 };
            *digits = [digit(byte >> 4), digit(byte & 15)];
        }
        text
    }
}

/// How the cache of a request's route behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheRules {
    /// For so many milliseconds requests wait for another one's answer to the same; 0 = they do not.
    pub lock: u32,
}

/// What a purge is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purge<'a> {
    /// All that routes with `cache` have.
    All,
    /// What the route of this name has.
    Route(&'a str),
    /// What routes with this tag have.
    Tag(&'a str),
    /// What there is of one path, whatever query, caller and route: and of one in [`crate::cache::BUCKETS`] others.
    Path {
        /// In lower case, without port.
        host: &'a str,
        /// As the client asks for it, decoded.
        path: &'a str,
    },
}

/// A request that got as far as to be forwarded.
pub(super) struct Asked<'a, 'v, Q> {
    pub region: &'a Region,
    pub view: &'a View<'v>,
    pub request: &'a Q,
    pub route: &'a Blob<'v, Route>,
    /// In lower case, without port.
    pub host: &'a [u8],
}

impl<Q: Request> Asked<'_, '_, Q> {
    /// Finds the key of a request of a route with `cache`, and brings its query into the form that is in the key.
    #[inline(never)]
    pub(super) fn enter(
        &self,
        cached: &ArchivedCached,
        callers: &Callers,
        out: &mut Out,
        ticket: &mut Ticket,
        recorder: &mut impl Recorder,
    ) {
        match self.entry(cached, callers, out, ticket) {
            Ok(entry) => {
                ticket.cache = Some(entry);
                tell!(
                    recorder,
                    Step::Cache,
                    "zone {}, key {}",
                    cached.cache.zone,
                    String::from_utf8_lossy(&entry.text())
                );
                if let Some(query) = out.has_query.then_some(&out.query) {
                    tell!(recorder, Step::Forward, "query {}", String::from_utf8_lossy(query));
                }
            }
            Err(why) => tell!(recorder, Step::Cache, "not for this request: {why}"),
        }
    }

    fn entry(
        &self,
        cached: &ArchivedCached,
        callers: &Callers,
        out: &mut Out,
        ticket: &Ticket,
    ) -> Result<CacheEntry, &'static str> {
        let (request, cache) = (self.request, &cached.cache);
        let fits = match request.method() {
            Method::Get => cache.get,
            Method::Head => cache.head,
            _ => false,
        };
        if !fits {
            return Err("its method");
        }
        if request.protocol() != Protocol::Http {
            return Err("it is no plain HTTP");
        }
        if request.has_any(&BODY) && has_body(request) {
            return Err("it has a body");
        }
        let mut authority = [0; AUTHORITY_MAX];
        let authority = lower(request.authority(), &mut authority).ok_or("its host is too long")?;
        // The upstream gets the very form that is in the key.
        let query = match canonical(request.query(), &cache.query, &mut out.query, &mut out.body) {
            Canonical::Same => request.query(),
            Canonical::Written => {
                out.has_query = true;
                &*out.query
            }
            Canonical::TooLong => return Err("its query has too many parameters"),
        };
        let target = request.target();
        if out.path.is_empty() && (out.has_query || query.is_empty() && target.last() == Some(&b'?')) {
            out.path.extend_from_slice(request.path());
        }

        let secret = self.region.secret();
        let mut key = KeyHasher::new(secret, self.route.id().word());
        key.field(Field::Scheme, request.scheme());
        key.field(Field::Host, self.host).field(Field::Authority, authority);
        if out.path.is_empty() {
            key.field(Field::Path, path::sent(target));
        } else {
            let odd = memchr::memchr2(b'[', b']', &out.path).is_some();
            key.head(if odd { Field::Rewritten } else { Field::Path }, path::escaped_len(&out.path));
            path::escape(&out.path, &mut |piece| {
                key.piece(piece);
            });
        }
        key.field(Field::Query, query);
        key.field(Field::Variant, ticket.variant().as_bytes());
        chosen(&mut key, cache, request);
        if request.has_any(&OVERRIDES) {
            overrides(&mut key, request);
        }
        let asker = self.caller(&mut key, cache.shared, callers, ticket);
        self.generations(&mut key, cached);
        Ok(CacheEntry { key: key.finish(), asker })
    }

    /// Adds who asks. An `Authorization` that nobody has looked at stands for whom it names.
    fn caller(&self, key: &mut KeyHasher, shared: bool, callers: &Callers, ticket: &Ticket) -> Asker {
        let known = ticket.is_authenticated();
        let authorization = self.request.header(b"authorization") != Header::Absent;
        if !shared && known {
            // The same name may be another one's in another entry.
            key.field(Field::Auth, &ticket.passed.auth.word().to_be_bytes());
            key.field(Field::Consumer, ticket.consumer().as_bytes());
            for (name, value) in callers.headers() {
                key.field(Field::Identity, name).field(Field::Value, value);
            }
        }
        if !shared && authorization && !(known && !ticket.consumer().is_empty() && self.is_read(ticket)) {
            self.request.header_lines(b"authorization", &mut |line| {
                key.field(Field::Authorization, line);
            });
        }
        Asker { authorization, known }
    }

    /// Whether it is the `Authorization` from which the caller is known.
    fn is_read(&self, ticket: &Ticket) -> bool {
        self.view.object::<Auth>(ticket.passed.auth).is_some_and(|auth| match &auth.scheme {
            ArchivedScheme::Basic(_) => true,
            ArchivedScheme::Jwt(jwt) => jwt.source.iter().all(|source| matches!(source, ArchivedSource::Header)),
            ArchivedScheme::ApiKey(_) | ArchivedScheme::Mtls(_) | ArchivedScheme::Signature(_) => false,
        })
    }

    fn generations(&self, key: &mut KeyHasher, cached: &ArchivedCached) {
        let count = |words: Option<&[AtomicU64]>, index: usize| {
            words.and_then(|words| words.get(index)).map_or(0, |word| word.load(Relaxed))
        };
        key.generation(self.route.id().word(), count(self.route.table(), 0));
        let mut tags = cached.tags.iter().filter_map(|id| self.view.object::<CacheTag>(id.id()));
        if let Some(paths) = tags.next() {
            let group = bucket(self.region.secret(), self.host, self.request.path());
            key.generation(paths.id().word(), count(paths.table(), group));
        }
        for tag in tags {
            key.generation(tag.id().word(), count(tag.table(), 0));
        }
    }
}

/// Adds the headers and cookies that the route names.
#[inline]
fn chosen(key: &mut KeyHasher, cache: &ArchivedCache, request: &impl Request) {
    for name in cache.headers.iter() {
        key.field(Field::Header, name.as_bytes());
        request.header_lines(name.as_bytes(), &mut |line| {
            key.field(Field::Value, line);
        });
    }
    for name in cache.cookies.iter() {
        key.field(Field::Cookie, name.as_bytes());
        request.header_lines(b"cookie", &mut |line| {
            for (_, value) in cookies(line).filter(|(other, _)| *other == name.as_bytes()) {
                key.field(Field::Value, value);
            }
        });
    }
}

#[cold]
fn overrides(key: &mut KeyHasher, request: &impl Request) {
    for name in OVERRIDES {
        request.header_lines(name, &mut |line| {
            key.field(Field::Override, name).field(Field::Value, line);
        });
    }
}

#[cold]
fn has_body(request: &impl Request) -> bool {
    request.header(b"transfer-encoding") != Header::Absent
        || !matches!(request.header(b"content-length"), Header::Absent | Header::One(b"0"))
}

/// `text` in lower case; `None` where it is longer than `buffer`.
fn lower<'b>(text: &[u8], buffer: &'b mut [u8]) -> Option<&'b [u8]> {
    let place = buffer.get_mut(..text.len())?;
    place.copy_from_slice(text);
    place.make_ascii_lowercase();
    Some(place)
}

impl Worker {
    /// Shows the zone of the request's route and how it behaves to `take`; `None` where the request is not for the
    /// cache, or its route is gone.
    pub fn cache<T>(&mut self, ticket: &Ticket, take: impl FnOnce(&str, CacheRules) -> T) -> Option<T> {
        ticket.cache?;
        let view = self.reader.enter()?;
        let route = view.object::<Route>(ticket.route)?;
        let cache = &route.cache.as_ref()?.cache;
        Some(take(&cache.zone, CacheRules { lock: cache.lock.to_native() }))
    }

    /// What becomes of the answer to a request that is for the cache.
    pub fn storable(&mut self, ticket: &Ticket, answer: &Answer) -> Verdict {
        let gone = Verdict::Leave(Why::Told);
        let Some(entry) = ticket.cache else { return gone };
        let Some(view) = self.reader.enter() else { return gone };
        let Some(route) = view.object::<Route>(ticket.route) else { return gone };
        route.cache.as_ref().map_or(gone, |cached| answer.verdict(entry.asker, &cached.cache))
    }

    /// Has nothing be answered any more of what was kept up to now. Whether there is a route or a tag of that name.
    pub fn purge(&mut self, what: Purge<'_>) -> bool {
        let region = self.region;
        self.reader.enter().is_some_and(|view| purge(&region, &view, what))
    }
}

impl Leader {
    /// Has nothing be answered any more of what was kept up to now. Whether there is a route or a tag of that name.
    pub fn purge(&mut self, what: Purge<'_>) -> bool {
        let region = self.region();
        self.reader().and_then(|reader| reader.enter()).is_some_and(|view| purge(&region, &view, what))
    }
}

/// One addition, which all processes see: whoever asks from now on asks under another key. What is fetched at this
/// moment is kept under the old one.
fn purge(region: &Region, view: &View<'_>, what: Purge<'_>) -> bool {
    let add = |words: Option<&[AtomicU64]>, index: usize| {
        words.and_then(|words| words.get(index)).map(|word| word.fetch_add(1, Relaxed)).is_some()
    };
    match what {
        Purge::All => {
            let purged = view.each::<Route>().filter(|route| route.cache.is_some() && add(route.table(), 0)).count();
            purged > 0
        }
        Purge::Route(name) => {
            view.named::<Route>(name).is_some_and(|route| route.cache.is_some() && add(route.table(), 0))
        }
        Purge::Tag(PATHS) => false,
        Purge::Tag(name) => view.named::<CacheTag>(name).is_some_and(|tag| add(tag.table(), 0)),
        Purge::Path { host, path } => {
            let group = bucket(region.secret(), host.as_bytes(), path.as_bytes());
            view.named::<CacheTag>(PATHS).is_some_and(|paths| add(paths.table(), group))
        }
    }
}
