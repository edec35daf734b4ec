//! The scrape: names and gauges for the text that `metrics` makes of the shards.

use std::collections::HashMap;
use std::sync::atomic::Ordering::Relaxed;

use super::leader::{Standing, counter};
use super::limit::IN_FLIGHT;
use super::object::{ArchivedPeerEntry, Route, Upstream};
use super::worker::{Worker, breaker_state};
use super::{key_sets, promote};
use crate::breaker::State;
use crate::limiter::Limiter;
use crate::metrics::{BreakerGauge, Gauges, LoadGauge, LogGauge, Names, Series, UpstreamGauge, render};
use crate::state::{Tree, View};
use crate::types::{Id, Now, SECOND};

impl Worker {
    /// Everything in Prometheus' text format. Allocates and takes some microseconds a series.
    pub fn metrics(&mut self, now: Now) -> String {
        let region = self.region;
        let Some(view) = self.reader.enter() else { return String::new() };
        let index = Index::of(&view);
        let upstreams: Vec<_> = view.each::<Upstream>().collect();
        let breakers = upstreams.iter().filter_map(|upstream| {
            let (state, forced) = match breaker_state(&region, upstream, now)? {
                State::Closed => (0, false),
                State::Open => (1, false),
                State::HalfOpen => (2, false),
                State::ForcedOpen => (1, true),
                State::ForcedClosed => (0, true),
            };
            Some(BreakerGauge { upstream: upstream.name(), state, forced })
        });
        let in_flight = view.each::<Route>().filter_map(|route| {
            let limit = route.in_flight.as_ref()?;
            let count = Self::places(&region).count(limit.slot.to_native(), limit.key.to_native())?;
            Some((route.name(), count))
        });
        let peers = Self::peers(&region);
        let standing = upstreams.iter().map(|upstream| {
            let out = |peer: &&ArchivedPeerEntry| peers.ejected(peer.slot.to_native(), now.mono).is_some();
            UpstreamGauge {
                upstream: upstream.name(),
                peers: upstream.peers.len() as u32,
                ejected: upstream.peers.iter().filter(out).count() as u32,
                ejections: Self::shared(&region, upstream).map_or(0, |shared| shared.ejections()),
                load: upstream.overload.as_ref().and_then(|overload| {
                    let load = Self::loads(&region).load(overload.place(0))?;
                    let limit = f64::from(load.state.limit(&overload.settings.settings()));
                    Some(LoadGauge { limit, in_flight: load.in_flight, shed: load.shed })
                }),
            }
        });
        let standing = standing.collect();
        let counter = |index: usize| region.counters().get(index).map_or(0, |word| word.load(Relaxed));
        let shards: Vec<_> = (0..region.workers()).map(|slot| region.shard_words(slot)).collect();
        let fullest = (0..region.workers())
            .filter_map(|slot| Self::shard(&region, slot))
            .map(|shard| shard.fill())
            .fold(0.0, f64::max);
        let log = self.log.as_ref().map(|log| log.lines.counts());
        let gauges = Gauges {
            log: log.map(|counts| LogGauge {
                written: counts.written,
                dropped: counts.dropped,
                waiting: counts.waiting,
                fill: counts.waiting as f64 / counts.room.max(1) as f64,
            }),
            generation: view.generation(),
            degraded: Standing::of(&region) != Standing::Current,
            age: now.wall.saturating_sub(counter(counter::CHANGED)) as f64 / SECOND as f64,
            fill: vec![
                ("tree", counter(counter::ARENA) as f64 / 1e6),
                ("rates", counter(counter::RATES) as f64 / 1e6),
                ("nonces", counter(counter::NONCES) as f64 / 1e6),
                ("peers", Self::peers(&region).fill()),
                ("series", fullest),
            ],
            breakers: breakers.collect(),
            upstreams: standing,
            in_flight: in_flight.collect(),
            canaries: promote::shares(&view.tree()),
            key_sets: key_sets::ages(&view.tree(), now),
        };
        render(shards, &index, &gauges).unwrap_or_default()
    }
}

/// So full is a shard when its owner looks for series whose names are gone.
const CROWDED: f64 = 0.5;

impl Worker {
    /// Frees this worker's series of routes, peers and limiters that are gone, once they may be in the way of new ones.
    /// Its host calls this every second or so, not in a request. Names go only with an edit, so there is one look for
    /// each generation at most.
    pub fn tidy(&mut self) {
        let region = self.region;
        if self.tidied == region.generation() {
            return;
        }
        let Some(shard) = Self::shard(&region, self.reader.slot()).filter(|shard| shard.fill() > CROWDED) else {
            return;
        };
        if let Some(view) = self.reader.enter() {
            self.tidied = view.generation();
            shard.sweep(&Index::of(&view));
        }
    }
}

/// Names of the policy by what series are made of. Routes and limiters are looked up by their ids; peers have none.
struct Index<'v> {
    tree: Tree<'v>,
    peers: HashMap<u64, (&'v str, &'v str)>,
}

/// So many bits of a route's slot are in its series; the tree has no more.
const ROUTE_SLOT: u32 = 0xff_ffff;

impl<'v> Index<'v> {
    fn of(view: &'v View<'_>) -> Self {
        let tree = view.tree();
        let peers = tree.each::<Upstream>().flat_map(|upstream| {
            let name = upstream.name();
            let peers = upstream.get().peers.iter();
            peers.map(move |peer| (peer.key.to_native() & Series::PEER_KEY, (name, peer.name.as_str())))
        });
        Self { tree, peers: peers.collect() }
    }
}

impl Names for Index<'_> {
    fn route(&self, slot: u32, birth: u16) -> Option<&str> {
        let route = self.tree.at::<Route>(slot & ROUTE_SLOT)?;
        (route.id().birth as u16 == birth).then(|| route.name())
    }

    fn variant(&self, route: Id, key: u64) -> Option<(&str, &str)> {
        let route = self.tree.object::<Route>(route)?;
        let variant = route.get().canary.as_ref()?.variants.iter().find(|variant| variant.key.to_native() == key)?;
        Some((route.name(), variant.name.as_str()))
    }

    fn rule(&self, id: Id) -> Option<&str> {
        if !id.is_some() {
            return Some(IN_FLIGHT);
        }
        self.tree.object::<Limiter>(id).map(|limiter| limiter.name())
    }

    fn peer(&self, key: u64) -> Option<(&str, &str)> {
        self.peers.get(&key).copied()
    }
}
