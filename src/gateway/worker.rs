//! What one process needs to decide: its place in the region, parsed keys, buffers that are used again.

use super::caller::Callers;
use super::expressions::Expressions;
use super::lines::Lines;
use super::log::Log;
use super::object::{BANS, Route, SETTINGS, Settings, Upstream};
use super::sight::state_word;
use super::ticket::Ticket;
use crate::balancer::{ArchivedTls, Rng};
use crate::breaker::{Breaker, Forced, State};
use crate::router::settings::ArchivedStaticReply;
use crate::state::tables::breaker::{self, Permit, Refused};
use crate::state::tables::peers::Peers;
use crate::state::tables::places::Places;
use crate::state::tables::rate::RateTable;
use crate::state::tables::shards::Shard;
use crate::state::tables::slot::{Slot, Slots};
use crate::state::{Blob, Identity, Reader, Region, View};
use crate::types::{Id, Kind, Now};

/// One process's (or thread's) way into the region. All calls of a request go through the same one.
pub struct Worker {
    pub(super) region: Region,
    pub(super) reader: Reader,
    pub(super) rng: Rng,
    pub(super) callers: Callers,
    pub(super) expressions: Expressions,
    pub(super) common: Common,
    pub(super) out: Out,
    /// The generation for which series were last looked over.
    pub(super) tidied: u32,
    /// Where lines of the log go, if anywhere.
    pub(super) log: Option<Log>,
}

/// What comes of the request that was looked at last, in memory that is used again.
#[derive(Default)]
pub(super) struct Out {
    /// The path to forward, where it is not the client's.
    pub path: Vec<u8>,
    /// The query to forward …
    pub query: Vec<u8>,
    /// … where it is not the client's.
    pub has_query: bool,
    /// Headers that the route sets on what is forwarded.
    pub request: Lines,
    /// Headers of the answer, whoever gives it.
    pub response: Lines,
    /// Status, headers and body of an answer that the route gives.
    pub answer: Lines,
    pub status: u16,
    pub body: Vec<u8>,
}

impl Out {
    /// Writes an answer of the document.
    pub(super) fn reply(&mut self, reply: &ArchivedStaticReply) {
        self.status = reply.status.to_native();
        for line in reply.headers.iter() {
            self.answer.push(line.0.as_bytes(), &[line.1.as_bytes()]);
        }
        self.body.extend_from_slice(reply.body.as_bytes());
    }

    pub(super) fn clear(&mut self) {
        self.path.clear();
        self.query.clear();
        self.has_query = false;
        self.request.clear();
        self.response.clear();
        self.answer.clear();
        self.status = 0;
        self.body.clear();
    }
}

/// What holds for every request, looked up once a generation.
#[derive(Default)]
pub(super) struct Common {
    generation: u32,
    /// Headers that only we may set.
    reserved: Vec<Box<[u8]>>,
    /// Who is banned.
    pub bans: Option<Id>,
}

impl Worker {
    /// Takes a worker slot of `region`; `None` when all are taken. `seed` starts the generator of picks and ids.
    #[must_use]
    pub fn start(region: Region, identity: Identity, seed: [u64; 2]) -> Option<Self> {
        let reader = Reader::claim(region, identity)?;
        inherit(&region, reader.slot());
        let [low, high] = seed;
        let mut callers = Callers::new(region);
        callers.signatures.keep_in(region, reader.slot());
        Some(Self {
            region,
            reader,
            rng: Rng::new(low ^ high.rotate_left(32)),
            callers,
            expressions: Expressions::default(),
            common: Common::default(),
            out: Out { path: Vec::with_capacity(4_096), query: Vec::with_capacity(4_096), ..Out::default() },
            tidied: 0,
            log: None,
        })
    }

    /// Ends as a process does that is killed, with all requests that it has under way; `inside`: in the middle of one
    /// call. For simulators, whose workers share one process.
    pub fn die(self, inside: bool) {
        self.reader.die(inside);
    }

    /// The region that it decides from.
    #[must_use]
    pub fn region(&self) -> Region {
        self.region
    }

    /// 128 random bits that nobody's safety hangs on: request ids, salts.
    pub fn random(&mut self) -> [u64; 2] {
        [self.rng.next_u64(), self.rng.next_u64()]
    }

    /// The headers to set on the request that was looked at last, if it is forwarded: those that the route sets, then
    /// those that say who the caller is.
    pub fn request_headers(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.out.request.iter().chain(self.callers.headers())
    }

    /// Whether any header of the client's has to give way.
    #[must_use]
    pub fn replaces_headers(&self) -> bool {
        !self.common.reserved.is_empty() || !self.out.request.is_empty()
    }

    /// Whether the client's header `name` gives way, in whatever spelling a backend may take for it: only we may set
    /// it, or the route of the request that was looked at last does.
    #[must_use]
    pub fn is_replaced(&self, name: &[u8]) -> bool {
        self.common.reserved.iter().any(|other| is_spelling(other, name)) || self.is_set(name)
    }

    /// Whether the client's header `name`, in whatever spelling, gives way to the route of the request that was looked
    /// at last.
    #[must_use]
    pub fn is_set(&self, name: &[u8]) -> bool {
        self.out.request.iter().any(|line| is_spelling(line.0, name))
    }

    /// The claim at the dotted `path` of who sent the request that was looked at last: a text, a number, a truth value.
    #[must_use]
    pub fn claim(&self, ticket: &Ticket, path: &str) -> Option<&str> {
        if ticket.is_authenticated() { self.callers.claims().header_value(path) } else { None }
    }

    /// The headers to set on the answer to the request that was looked at last, whoever gives it.
    pub fn response_headers(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.out.response.iter()
    }

    /// The headers of the answer that [`super::Decision::Respond`] speaks of, beside those of any answer. Where somebody
    /// else answers in its place, they are not shown.
    pub fn answer_headers(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.out.answer.iter()
    }

    /// Status and body of the answer that [`super::Decision::Respond`] speaks of; of a refused request, what its route
    /// would have answered. A status of 0 where there is none.
    #[must_use]
    pub fn response(&self) -> (u16, &[u8]) {
        (self.out.status, &self.out.body)
    }

    /// The path to forward for the request that was looked at last, decoded; `None` where the client's own target may
    /// go out as it came.
    #[must_use]
    pub fn forwarded_path(&self) -> Option<&[u8]> {
        (!self.out.path.is_empty()).then_some(&self.out.path)
    }

    /// The query to forward for the request that was looked at last, undecoded; `None` where the client's own goes out.
    #[must_use]
    pub fn forwarded_query(&self) -> Option<&[u8]> {
        self.out.has_query.then_some(&self.out.query)
    }

    pub(super) fn shard(region: &Region, slot: u32) -> Option<Shard<'_>> {
        Shard::new(region.shard_words(slot))
    }

    pub(super) fn rates(region: &Region) -> RateTable<'_> {
        RateTable::new(region.rate_words())
    }

    pub(super) fn places(region: &Region) -> Places<'_> {
        Places::new(region.place_words())
    }

    pub(super) fn peers(region: &Region) -> Peers<'_> {
        Peers::new(region.peer_words())
    }

    /// The breaker of an upstream, if it has one and the slot is still its own.
    pub(super) fn breaker<'r>(region: &'r Region, upstream: &Blob<'_, Upstream>) -> Option<(Slot<'r>, Breaker)> {
        let settings = upstream.breaker.as_ref()?.settings();
        let slots = Slots::new(region.breaker_words(), breaker::WIDTH);
        Some((slots.owned(upstream.breaker_slot.to_native(), upstream.id().word())?, settings))
    }

    /// Asks the breaker of `upstream`, if it has one, whether one more request may be sent there; the permit goes into
    /// the ticket.
    #[inline]
    pub(super) fn permit(
        region: &Region,
        upstream: &Blob<'_, Upstream>,
        now: Now,
        ticket: &mut Ticket,
    ) -> Result<Option<Permit>, Refused> {
        ticket.permit = None;
        ticket.slow_after = 0;
        if let Some((slot, settings)) = Self::breaker(region, upstream) {
            ticket.permit = Some(breaker::allow(slot, &settings, ticket.shard as u16, now.mono)?);
            ticket.slow_after = settings.slow_call;
        }
        Ok(ticket.permit)
    }

    /// The number of this worker's slot, which is also that of its shard.
    #[must_use]
    pub fn slot(&self) -> u32 {
        self.reader.slot()
    }

    /// Shows the `Host` that the request's upstream wants instead of the client's, if it wants one.
    pub fn host<T>(&mut self, ticket: &Ticket, take: impl FnOnce(&str) -> T) -> Option<T> {
        if !ticket.own_host {
            return None;
        }
        let view = self.reader.enter()?;
        let upstream = view.object::<Upstream>(ticket.upstream)?;
        upstream.host.as_ref().map(|host| take(host))
    }

    /// Shows the named location that is to pass the request on, where its route names one.
    pub fn location<T>(&mut self, ticket: &Ticket, take: impl FnOnce(&str) -> T) -> Option<T> {
        if !ticket.elsewhere {
            return None;
        }
        let view = self.reader.enter()?;
        let route = view.object::<Route>(ticket.route)?;
        route.location.as_ref().map(|name| take(name))
    }

    /// Shows the TLS settings of the request's upstream, if those of `access` still hold.
    pub fn tls<T>(&mut self, ticket: &Ticket, take: impl FnOnce(&ArchivedTls) -> T) -> Option<T> {
        let view = self.reader.enter()?;
        let upstream = view.object::<Upstream>(ticket.upstream)?;
        upstream.tls.as_ref().filter(|_| upstream.tls_identity.to_native() == ticket.tls).map(take)
    }

    /// The state of the breaker of the request's upstream; empty without one.
    pub fn breaker_state(&mut self, ticket: &Ticket, now: Now) -> &'static str {
        let region = self.region;
        let state = self.reader.enter().and_then(|view| {
            let upstream = view.object::<Upstream>(ticket.upstream)?;
            breaker_state(&region, &upstream, now)
        });
        state.map_or("", state_word)
    }

    /// Has the breaker of the upstream `name` refuse everything or let everything pass, for all workers at once and
    /// until the next call; `None` ends that, and it begins anew, closed. Edits of the document leave it alone, as long
    /// as the upstream and its breaker stay. Says where it stood before; `None` = there is no such upstream, or it has
    /// no breaker.
    pub fn force_breaker(&mut self, name: &str, forced: Option<Forced>) -> Option<State> {
        let region = self.region;
        let view = self.reader.enter()?;
        let (slot, _) = Self::breaker(&region, &view.named::<Upstream>(name)?)?;
        Some(breaker::force(slot, forced))
    }
}

/// How the breaker of `upstream` stands, if it has one.
pub(super) fn breaker_state(region: &Region, upstream: &Blob<'_, Upstream>, now: Now) -> Option<State> {
    let (slot, settings) = Worker::breaker(region, upstream)?;
    Some(breaker::state(slot, &settings, now.mono))
}

/// Puts in order what the former owner of a worker slot may have left, if it was killed: its requests are not in flight
/// any more, its probes' places are free again. For whoever has just taken the slot.
pub(super) fn inherit(region: &Region, slot: u32) {
    if let Some(shard) = Shard::new(region.shard_words(slot)) {
        shard.adopt();
    }
    for (_, breaker) in Slots::new(region.breaker_words(), breaker::WIDTH).iter() {
        breaker::forget(breaker, slot as u16);
    }
    Peers::new(region.peer_words()).forget(slot);
    Places::new(region.place_words()).forget(slot);
}

/// Counts a panic that an adapter caught in the process with worker slot `slot`.
pub fn count_panic(region: Region, slot: u32) {
    if let Some(shard) = Shard::new(region.shard_words(slot)) {
        shard.panicked();
    }
}

impl Common {
    /// Follows the policy of `view`.
    #[inline]
    pub(super) fn follow(&mut self, view: &View<'_>) {
        if self.generation == view.generation() {
            return;
        }
        self.look(view);
    }

    #[cold]
    fn look(&mut self, view: &View<'_>) {
        self.generation = view.generation();
        self.bans = view.id_of(Kind::Bans, BANS);
        self.reserved = view
            .named::<Settings>(SETTINGS)
            .map_or_else(Vec::new, |settings| settings.reserved.iter().map(|name| name.as_bytes().into()).collect());
    }
}

/// Whether a backend may take both names for the same header.
fn is_spelling(one: &[u8], other: &[u8]) -> bool {
    let folded = |byte: &u8| if *byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
    one.len() == other.len() && one.iter().map(folded).eq(other.iter().map(folded))
}
