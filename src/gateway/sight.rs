//! What an operator is shown of the region: resources as the document says them, nodes and breakers as they stand.
//!
//! Everything here is read from one generation, by whatever process asks, and costs what is asked for: one route among
//! 100,000 is one look into the tree.

use std::sync::atomic::Ordering::Relaxed;

use serde_json::{Map, Value, json};

use super::dump::{self, DumpError};
use super::leader::{Leader, counter};
use super::object::{ArchivedPeerEntry, Upstream};
use super::promote::{self, CanaryStatus};
use super::worker::{Worker, breaker_state};
use crate::balancer::Standing;
use crate::breaker::State;
use crate::config::{self, Collection, Document};
use crate::state::tables::peers::Peers;
use crate::state::{Blob, Region, View};
use crate::types::{Now, SECOND};

/// One generation as an operator sees it.
pub struct Sight<'a> {
    region: Region,
    view: View<'a>,
}

impl Worker {
    /// What is live now; `None` where nothing is.
    pub fn sight(&mut self) -> Option<Sight<'_>> {
        let region = self.region;
        self.reader.enter().map(|view| Sight { region, view })
    }
}

impl Leader {
    /// What is live now; `None` where nothing is, or the leader found no place to read from.
    pub fn sight(&self) -> Option<Sight<'_>> {
        let region = self.region();
        self.reader()?.enter().map(|view| Sight { region, view })
    }
}

impl Leader {
    /// Says which revision is live.
    pub fn set_revision(&self, revision: u64) {
        if let Some(word) = self.region().counters().get(counter::REVISION) {
            word.store(revision, Relaxed);
        }
    }

    /// A secret of the region, for keyed hashes.
    #[must_use]
    pub fn secret(&self) -> [u64; 2] {
        self.region().secret()
    }
}

impl Sight<'_> {
    /// The number of the generation.
    #[must_use]
    pub fn generation(&self) -> u32 {
        self.view.generation()
    }

    /// The number of the revision that is live; 0 where the document is a file.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.region.counters().get(counter::REVISION).map_or(0, |word| word.load(Relaxed))
    }

    /// The whole document, as [`dump`](super::dump()) has it.
    ///
    /// # Errors
    /// What cannot be read back.
    pub fn document(&self) -> Result<Document, DumpError> {
        dump::dump(&self.view.tree())
    }

    /// One object of the document, as a document of its own.
    pub(super) fn one(&self, collection: Collection, name: &str) -> Result<Option<Document>, DumpError> {
        dump::dump_one(&self.view.tree(), collection, name)
    }

    /// The upstream `name` as the document says it; `None` where there is none.
    #[must_use]
    pub fn upstream(&self, name: &str) -> Option<config::Upstream> {
        self.one(Collection::Upstreams, name).ok().flatten()?.upstreams.pop()
    }

    /// How the canary of the route `name` stands; `None` where there is no such route, or it has none.
    #[must_use]
    pub fn canary(&self, name: &str) -> Option<CanaryStatus> {
        promote::status(&self.view.named(name)?)
    }

    /// One resource; `None` where there is none of that name.
    ///
    /// # Errors
    /// It cannot be read back.
    pub fn resource(&self, collection: Collection, name: &str) -> Result<Option<Value>, DumpError> {
        let found = dump::dump_one(&self.view.tree(), collection, name)?;
        Ok(found.and_then(|document| config::resources(&document, collection).pop()))
    }

    /// At most `most` resources from the place `from` on, and the place of the next one.
    ///
    /// # Errors
    /// One cannot be read back.
    pub fn resources(
        &self,
        collection: Collection,
        from: u32,
        most: usize,
    ) -> Result<(Vec<Value>, Option<u32>), DumpError> {
        let (page, next) = dump::dump_page(&self.view.tree(), collection, from, most)?;
        let values = page.iter().filter_map(|document| config::resources(document, collection).pop()).collect();
        Ok((values, next))
    }

    /// How many resources there are.
    #[must_use]
    pub fn count(&self, collection: Collection) -> usize {
        dump::count(&self.view.tree(), collection)
    }

    /// Generation and age of the policy, how many resources there are, how full the tables are.
    #[must_use]
    pub fn summary(&self, now: Now) -> Value {
        let word = |index: usize| self.region.counters().get(index).map_or(0, |word| word.load(Relaxed));
        let share = |index: usize| word(index) as f64 / 1e6;
        let counts: Map<String, Value> =
            Collection::ALL.iter().map(|one| (one.name().to_owned(), self.count(*one).into())).collect();
        let peers = Peers::new(self.region.peer_words());
        json!({
            "generation": self.generation(),
            "changed": config::rfc3339(word(counter::CHANGED) / SECOND),
            "age": now.wall.saturating_sub(word(counter::CHANGED)) / SECOND,
            "resources": counts,
            "zone": {
                "bytes": self.region.size(),
                "fill": {
                    "tree": share(counter::ARENA),
                    "rates": share(counter::RATES),
                    "nonces": share(counter::NONCES),
                    "peers": peers.fill(),
                },
            },
        })
    }

    /// The nodes of the upstream `name`, an entry an address, and how each one does; `None` where there is no such
    /// upstream.
    #[must_use]
    pub fn nodes(&self, name: &str, now: Now) -> Option<Value> {
        let upstream = self.view.named::<Upstream>(name)?;
        let peers = Peers::new(self.region.peer_words());
        let odds = self.odds(&upstream, &peers, now);
        let nodes: Vec<Value> =
            upstream.peers.iter().zip(odds).map(|(peer, share)| node(&peers, peer, share, now)).collect();
        let mut fields = Map::new();
        fields.insert("upstream".to_owned(), name.into());
        fields.insert("generation".to_owned(), self.generation().into());
        fields.insert("nodes".to_owned(), nodes.into());
        if let Some(state) = breaker_state(&self.region, &upstream, now) {
            fields.insert("breaker".to_owned(), state_word(state).into());
        }
        Some(Value::Object(fields))
    }

    /// Each upstream with a breaker and how it stands.
    #[must_use]
    pub fn breakers(&self, now: Now) -> Vec<Value> {
        let shown = |upstream: Blob<'_, Upstream>| {
            let state = breaker_state(&self.region, &upstream, now)?;
            Some(json!({"upstream": upstream.name(), "state": state_word(state), "forced": is_forced(state)}))
        };
        self.view.each::<Upstream>().filter_map(shown).collect()
    }

    /// The breaker of the upstream `name`; `None` where there is no such upstream, or it has none.
    #[must_use]
    pub fn breaker(&self, name: &str, now: Now) -> Option<Value> {
        let state = breaker_state(&self.region, &self.view.named::<Upstream>(name)?, now)?;
        Some(json!({"upstream": name, "state": state_word(state), "forced": is_forced(state)}))
    }

    /// The part of the next requests that each peer is worth: its weight times its quality among those of the lowest
    /// priority that are available. What an algorithm other than `adaptive` makes of it differs.
    fn odds(&self, upstream: &Blob<'_, Upstream>, peers: &Peers<'_>, now: Now) -> Vec<f64> {
        let standing = |peer: &ArchivedPeerEntry| {
            let snapshot = peers.snapshot(peer.key.to_native(), now.mono);
            snapshot.map_or(Standing::UNKNOWN, |snapshot| snapshot.standing)
        };
        let serves = |peer: &&ArchivedPeerEntry| peer.weight.to_native() > 0 && standing(peer).available;
        let group = upstream.peers.iter().filter(serves).map(|peer| peer.priority).min();
        let measured: Vec<f32> = upstream.peers.iter().filter_map(|peer| standing(peer).latency).collect();
        let mean = measured.iter().sum::<f32>() / (measured.len().max(1) as f32);
        let worth = |peer: &ArchivedPeerEntry| match Some(peer.priority) == group && serves(&peer) {
            true => f64::from(peer.weight.to_native()) * f64::from(standing(peer).quality(mean)),
            false => 0.0,
        };
        let worths: Vec<f64> = upstream.peers.iter().map(worth).collect();
        let total: f64 = worths.iter().sum();
        worths.into_iter().map(|worth| if total > 0.0 { worth / total } else { 0.0 }).collect()
    }
}

fn node(peers: &Peers<'_>, peer: &ArchivedPeerEntry, share: f64, now: Now) -> Value {
    let slot = peer.slot.to_native();
    let snapshot = peers.snapshot(peer.key.to_native(), now.mono);
    let standing = snapshot.map(|snapshot| snapshot.standing);
    let ejected = peers.ejected(slot, now.mono);
    let mut fields = Map::new();
    let mut put = |name: &str, value: Value| drop(fields.insert(name.to_owned(), value));
    put("node", peer.name.as_str().into());
    if let Some(host) = peer.host.as_ref() {
        put("host", host.as_str().into());
    }
    put("weight", peer.weight.to_native().into());
    put("priority", peer.priority.into());
    put("share", share.into());
    put("latency", standing.and_then(|one| one.latency).map(|ms| f64::from(ms) / 1e3).into());
    put("errors", f64::from(standing.map_or(0.0, |one| one.errors)).into());
    put("in_flight", snapshot.map_or(0, |snapshot| snapshot.in_flight).into());
    put("picks", snapshot.map_or(0, |snapshot| snapshot.picks).into());
    put("failures", snapshot.map_or(0, |snapshot| snapshot.failures).into());
    put(
        "ejected",
        match ejected {
            None => Value::Null,
            Some((cause, left)) => json!({
                "cause": format!("{cause:?}").to_lowercase(),
                "seconds_left": left.div_ceil(SECOND),
            }),
        },
    );
    Value::Object(fields)
}

/// A breaker's state as `$gateway_breaker_state` has it.
pub(super) const fn state_word(state: State) -> &'static str {
    match state {
        State::Closed => "closed",
        State::Open => "open",
        State::HalfOpen => "half-open",
        State::ForcedOpen => "forced-open",
        State::ForcedClosed => "forced-closed",
    }
}

const fn is_forced(state: State) -> bool {
    matches!(state, State::ForcedOpen | State::ForcedClosed)
}
