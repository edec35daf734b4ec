//! What one process needs to decide: its place in the region, parsed keys, buffers that are used again.

use super::object::{SETTINGS, Settings, Upstream};
use super::ticket::Ticket;
use crate::auth::{ArchivedAuth, ArchivedScheme, Claims, Verifier};
use crate::balancer::Rng;
use crate::breaker::{Breaker, State};
use crate::state::tables::breaker;
use crate::state::tables::peers::Peers;
use crate::state::tables::rate::RateTable;
use crate::state::tables::shards::Shard;
use crate::state::tables::slot::{Slot, Slots};
use crate::state::{Blob, Identity, Reader, Region, View};
use crate::types::{Id, Now};

/// One process's (or thread's) way into the region. All calls of a request go through the same one.
pub struct Worker {
    pub(super) region: Region,
    pub(super) reader: Reader,
    pub(super) rng: Rng,
    pub(super) keys: Keys,
    pub(super) claims: Claims,
    /// The `auth` entry that knew the caller of the request that was looked at last.
    pub(super) known: Option<u32>,
    /// The path to forward for the request that was looked at last, where it is not the client's.
    pub(super) path: Vec<u8>,
    pub(super) reserved: Reserved,
}

/// Parsed verifiers, sorted by the slot of their `auth` entry: there are few, and a search beats a hash of the slot.
/// Crypto keys cannot live in shared memory.
#[derive(Default)]
pub(super) struct Keys(Vec<Known>);

/// An `auth` entry as this process uses it.
pub(super) struct Known {
    id: Id,
    /// The generation that wrote the entry; another means that the keys changed.
    seq: u32,
    pub verifier: Verifier,
    /// Header name in lower case, claim.
    headers: Box<[(Box<str>, Box<str>)]>,
}

/// Headers that only we may set, copied once a generation.
#[derive(Default)]
pub(super) struct Reserved {
    generation: u32,
    names: Vec<Box<[u8]>>,
}

impl Worker {
    /// Takes a worker slot of `region`; `None` when all are taken. `seed` starts the generator of picks and ids.
    #[must_use]
    pub fn start(region: Region, identity: Identity, seed: [u64; 2]) -> Option<Self> {
        let reader = Reader::claim(region, identity)?;
        inherit(&region, reader.slot());
        let [low, high] = seed;
        Some(Self {
            region,
            reader,
            rng: Rng::new(low ^ high.rotate_left(32)),
            keys: Keys::default(),
            claims: Claims::new(),
            known: None,
            path: Vec::with_capacity(4_096),
            reserved: Reserved::default(),
        })
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

    /// The identity headers to set on the request that was looked at last: name in lower case, value.
    pub fn identity(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let headers = self.known.and_then(|slot| self.keys.of(slot)).map_or(&[][..], |known| &known.headers);
        headers.iter().filter_map(|(name, claim)| {
            self.claims.header_value(claim).map(|value| (name.as_bytes(), value.as_bytes()))
        })
    }

    /// Whether any header is reserved at all.
    #[must_use]
    pub fn reserves_headers(&self) -> bool {
        !self.reserved.names.is_empty()
    }

    /// Whether only we may set the header `name`, in whatever spelling a backend may take for it.
    #[must_use]
    pub fn is_reserved(&self, name: &[u8]) -> bool {
        self.reserved.names.iter().any(|reserved| {
            reserved.len() == name.len()
                && reserved
                    .iter()
                    .zip(name)
                    .all(|(reserved, byte)| *reserved == if *byte == b'_' { b'-' } else { byte.to_ascii_lowercase() })
        })
    }

    /// The path to forward for the request that was looked at last, decoded; `None` where the client's own target may
    /// go out as it came.
    #[must_use]
    pub fn forwarded_path(&self) -> Option<&[u8]> {
        (!self.path.is_empty()).then_some(&self.path)
    }

    pub(super) fn shard(region: &Region, slot: u32) -> Option<Shard<'_>> {
        Shard::new(region.shard_words(slot))
    }

    pub(super) fn rates(region: &Region) -> RateTable<'_> {
        RateTable::new(region.rate_words())
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

    /// The state of the breaker of the request's upstream; empty without one.
    pub fn breaker_state(&mut self, ticket: &Ticket, now: Now) -> &'static str {
        let region = self.region;
        let state = self.reader.enter().and_then(|view| {
            let upstream = view.object::<Upstream>(ticket.upstream)?;
            breaker_state(&region, &upstream, now)
        });
        match state {
            None => "",
            Some(State::Closed) => "closed",
            Some(State::Open) => "open",
            Some(State::HalfOpen) => "half-open",
        }
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
}

/// Counts a panic that an adapter caught in the process with worker slot `slot`.
pub fn count_panic(region: Region, slot: u32) {
    if let Some(shard) = Shard::new(region.shard_words(slot)) {
        shard.panicked();
    }
}

impl Reserved {
    /// Follows the policy of `view`.
    pub(super) fn follow(&mut self, view: &View<'_>) {
        if self.generation == view.generation() {
            return;
        }
        self.generation = view.generation();
        self.names = view
            .named::<Settings>(SETTINGS)
            .map_or_else(Vec::new, |settings| settings.reserved.iter().map(|name| name.as_bytes().into()).collect());
    }
}

impl Keys {
    /// The verifier of an `auth` entry, parsed at its first use and when the entry was written anew.
    pub(super) fn verifier(&mut self, auth: &Blob<'_, crate::auth::Auth>) -> Option<&Known> {
        let id = auth.id();
        let fresh = self.of(id.slot).is_some_and(|known| known.id == id && known.seq == auth.seq());
        if !fresh {
            let known = Known::new(id, auth.seq(), auth)?;
            match self.0.binary_search_by_key(&id.slot, |known| known.id.slot) {
                Ok(index) => *self.0.get_mut(index)? = known,
                Err(index) => self.0.insert(index, known),
            }
        }
        self.of(id.slot)
    }

    fn of(&self, slot: u32) -> Option<&Known> {
        self.0.binary_search_by_key(&slot, |known| known.id.slot).ok().and_then(|index| self.0.get(index))
    }
}

impl Known {
    fn new(id: Id, seq: u32, auth: &ArchivedAuth) -> Option<Self> {
        let ArchivedScheme::Jwt(jwt) = &auth.scheme;
        let headers = jwt.headers.iter().map(|entry| (Box::from(entry.0.as_str()), Box::from(entry.1.as_str())));
        Some(Self { id, seq, verifier: Verifier::new(jwt).ok()?, headers: headers.collect() })
    }
}
