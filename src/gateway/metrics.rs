//! The scrape: names and gauges for the text that `metrics` makes of the shards.

use std::collections::HashMap;
use std::sync::atomic::Ordering::Relaxed;

use super::leader::counter;
use super::object::{Route, Upstream};
use super::worker::{Worker, breaker_state};
use crate::breaker::State;
use crate::limiter::Limiter;
use crate::metrics::{BreakerGauge, Gauges, Names, render};
use crate::state::View;
use crate::types::{Id, Now, SECOND};

impl Worker {
    /// Everything in Prometheus' text format. Allocates and takes some microseconds a series.
    pub fn metrics(&mut self, now: Now) -> String {
        let region = self.region;
        let Some(view) = self.reader.enter() else { return String::new() };
        let index = Index::of(&view);
        let upstreams: Vec<_> = view.each::<Upstream>().collect();
        let breakers = upstreams.iter().filter_map(|upstream| {
            let state = match breaker_state(&region, upstream, now)? {
                State::Closed => 0,
                State::Open => 1,
                State::HalfOpen => 2,
            };
            Some(BreakerGauge { upstream: upstream.name(), state })
        });
        let counter = |index: usize| region.counters().get(index).map_or(0, |word| word.load(Relaxed));
        let shards: Vec<_> = (0..region.workers()).map(|slot| region.shard_words(slot)).collect();
        let fullest = (0..region.workers())
            .filter_map(|slot| Self::shard(&region, slot))
            .map(|shard| shard.fill())
            .fold(0.0, f64::max);
        let gauges = Gauges {
            generation: view.generation(),
            age: now.wall.saturating_sub(counter(counter::CHANGED)) as f64 / SECOND as f64,
            fill: vec![
                ("tree", counter(counter::ARENA) as f64 / 1e6),
                ("rates", counter(counter::RATES) as f64 / 1e6),
                ("peers", Self::peers(&region).fill()),
                ("series", fullest),
            ],
            breakers: breakers.collect(),
        };
        render(shards, &index, &gauges).unwrap_or_default()
    }
}

/// So full is a shard when its owner looks for series whose names are gone.
const CROWDED: f64 = 0.5;

impl Worker {
    /// Frees this worker's series of routes, peers and limiters that are gone, once they may be in the way of new ones.
    /// Its host calls this every second or so, not in a request.
    pub fn tidy(&mut self) {
        let region = self.region;
        let Some(shard) = Self::shard(&region, self.reader.slot()).filter(|shard| shard.fill() > CROWDED) else {
            return;
        };
        if let Some(view) = self.reader.enter() {
            shard.sweep(&Index::of(&view));
        }
    }
}

/// Names of the policy by what series are made of.
struct Index {
    routes: HashMap<(u32, u16), String>,
    rules: HashMap<Id, String>,
    peers: HashMap<u64, (String, String)>,
}

/// So many bits of a peer's key are in its series.
const PEER_KEY: u64 = (1 << 60) - 1;

impl Index {
    fn of(view: &View<'_>) -> Self {
        let routes = view.each::<Route>().map(|route| {
            let id = route.id();
            ((id.slot & 0xff_ffff, id.birth as u16), route.name().to_owned())
        });
        let peers = view.each::<Upstream>().flat_map(|upstream| {
            let name = upstream.name().to_owned();
            let peers: Vec<_> = upstream
                .peers
                .iter()
                .map(|peer| (peer.key.to_native() & PEER_KEY, (name.clone(), peer.name.as_str().to_owned())))
                .collect();
            peers
        });
        Self {
            routes: routes.collect(),
            rules: view.each::<Limiter>().map(|limiter| (limiter.id(), limiter.name().to_owned())).collect(),
            peers: peers.collect(),
        }
    }
}

impl Names for Index {
    fn route(&self, slot: u32, birth: u16) -> Option<&str> {
        self.routes.get(&(slot, birth)).map(String::as_str)
    }

    fn rule(&self, id: Id) -> Option<&str> {
        self.rules.get(&id).map(String::as_str)
    }

    fn peer(&self, key: u64) -> Option<(&str, &str)> {
        self.peers.get(&key).map(|(upstream, peer)| (upstream.as_str(), peer.as_str()))
    }
}
