//! What one process needs to decide: its place in the region, parsed keys, buffers that are used again.

use super::caller::Callers;
use super::object::{SETTINGS, Settings, Upstream};
use super::ticket::Ticket;
use crate::balancer::Rng;
use crate::breaker::{Breaker, State};
use crate::state::tables::breaker;
use crate::state::tables::peers::Peers;
use crate::state::tables::rate::RateTable;
use crate::state::tables::shards::Shard;
use crate::state::tables::slot::{Slot, Slots};
use crate::state::{Blob, Identity, Reader, Region, View};
use crate::types::Now;

/// One process's (or thread's) way into the region. All calls of a request go through the same one.
pub struct Worker {
    pub(super) region: Region,
    pub(super) reader: Reader,
    pub(super) rng: Rng,
    pub(super) callers: Callers,
    /// The path to forward for the request that was looked at last, where it is not the client's.
    pub(super) path: Vec<u8>,
    pub(super) reserved: Reserved,
    /// The generation for which series were last looked over.
    pub(super) tidied: u32,
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
            callers: Callers::default(),
            path: Vec::with_capacity(4_096),
            reserved: Reserved::default(),
            tidied: 0,
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
        self.callers.headers()
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
