//! Faults on purpose: what the library would do if it were wrong. Each is there for a check that must find it.

use std::sync::atomic::Ordering::Relaxed;

use gateway::balancer::PickTable;
use gateway::gateway::Upstream;
use gateway::state::tables::breaker;
use gateway::state::tables::peers::Peers;
use gateway::state::tables::upstreams;
use gateway::types::SECOND;

use crate::document::Document;
use crate::world::World;

/// Nothing strikes before the run is under way, microseconds.
const FROM: u64 = 5 * SECOND;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    None,
    /// Buckets forget what was taken.
    Limits,
    /// Buckets are emptied.
    Refusals,
    /// Places of probes are forgotten.
    Probes,
    /// Places of probes are never free.
    LostProbe,
    /// Open breakers close by themselves.
    Transition,
    /// Budgets of retries are always full.
    Retries,
    /// All nodes of an upstream are ejected.
    Ejections,
    /// All requests go to the first node.
    Shares,
    /// Nodes of two upstreams are mixed up.
    Astray,
    /// Some requests are never completed.
    Leak,
    /// Metrics lose counts.
    Metrics,
    /// A reader never leaves its generation.
    Reader,
    /// Nothing is ever removed from the document.
    Memory,
}

/// Each fault and the check that finds it; `tests/sim.rs` sees to it.
pub const FAULTS: [(&str, Fault, &str); 13] = [
    ("limits", Fault::Limits, "over-admission"),
    ("refusals", Fault::Refusals, "refused in error"),
    ("probes", Fault::Probes, "probes"),
    ("lost-probe", Fault::LostProbe, "lost probe"),
    ("transition", Fault::Transition, "transition"),
    ("retries", Fault::Retries, "retry budget"),
    ("ejections", Fault::Ejections, "ejection ceiling"),
    ("shares", Fault::Shares, "shares"),
    ("astray", Fault::Astray, "astray"),
    ("leak", Fault::Leak, "in flight"),
    ("metrics", Fault::Metrics, "metrics"),
    ("reader", Fault::Reader, "readers"),
    ("memory", Fault::Memory, "memory"),
];

impl Fault {
    pub fn named(name: &str) -> Option<Self> {
        FAULTS.iter().find(|(known, ..)| *known == name).map(|(_, fault, _)| *fault)
    }

    /// Whether the end of request `number` is forgotten.
    pub fn forgets(self, number: u64) -> bool {
        self == Self::Leak && number % 500 == 499
    }

    /// What is published instead of `document`.
    pub fn mislead(self, document: &Document, time: u64) -> Document {
        let mut document = document.clone();
        match self {
            Self::Astray => {
                let swapped: Vec<_> = document.upstreams.values().map(|upstream| upstream.nodes.clone()).collect();
                for (upstream, nodes) in document.upstreams.values_mut().zip(swapped.into_iter().rev()) {
                    upstream.nodes = nodes;
                }
            }
            Self::Memory if time > FROM => {
                let Some(route) = document.routes.values().next().cloned() else { return document };
                document.routes.extend((0..300).map(|index| (format!("left-{index}"), route.clone())));
            }
            _ => {}
        }
        document
    }

    /// Does its harm after a step.
    pub fn strike(world: &mut World) {
        if world.fault == Self::None || world.time < FROM {
            return;
        }
        let region = world.fleet.region();
        let now = world.fleet.now(world.time);
        let Some(view) = world.fleet.observer.enter() else { return };
        match world.fault {
            Self::Limits if world.steps.is_multiple_of(100) => {
                region.rate_words().iter().for_each(|word| word.store(0, Relaxed))
            }
            Self::Refusals if world.steps.is_multiple_of(1_000) => {
                // The word beside each key says until when the bucket fills: half a minute more.
                for pair in region.rate_words().chunks(2) {
                    if let [key, due] = pair
                        && key.load(Relaxed) != 0
                    {
                        due.fetch_add((30 * SECOND) << 20, Relaxed);
                    }
                }
            }
            Self::Probes | Self::LostProbe | Self::Transition => {
                for slot in region.breaker_words().chunks(breaker::WIDTH) {
                    let Some(places) = slot.get(8..24) else { continue };
                    match (world.fault, slot.first().map_or(0, |key| key.load(Relaxed)), slot.get(1)) {
                        (_, 0, _) | (_, _, None) => {}
                        (Self::Probes, ..) => places.iter().for_each(|place| place.store(0, Relaxed)),
                        (Self::LostProbe, ..) => {
                            let until = (now.mono + SECOND / 2) & ((1 << 42) - 1);
                            places.iter().for_each(|place| place.store(until << 22 | 0xfff << 10 | 1, Relaxed));
                        }
                        (_, _, Some(state)) if state.load(Relaxed) >> 61 == 1 => state.store(0, Relaxed),
                        _ => {}
                    }
                }
            }
            Self::Retries => {
                for [key, budget, ..] in region.upstream_words().as_chunks::<{ upstreams::WIDTH }>().0 {
                    if key.load(Relaxed) != 0 {
                        budget.store(1_000_000, Relaxed);
                    }
                }
            }
            Self::Shares => {
                for upstream in view.each::<Upstream>() {
                    let peers = upstream.peers.len() as u32;
                    let words = view.pick_table(&upstream).unwrap_or_default();
                    if PickTable::new(words, peers).is_none() {
                        continue;
                    }
                    words.iter().skip(8).step_by(2).take(peers as usize).for_each(|word| word.store(0, Relaxed));
                }
            }
            Self::Ejections => {
                let all = Peers::new(region.peer_words());
                for peer in view.each::<Upstream>().flat_map(|upstream| upstream.get().peers.iter()) {
                    all.eject(peer.slot.to_native(), now.mono + 20 * SECOND, now.mono);
                }
            }
            Self::Metrics if world.steps.is_multiple_of(100) => {
                for word in (0..region.workers()).flat_map(|slot| region.shard_words(slot).iter().skip(64)) {
                    if (1..1 << 20).contains(&word.load(Relaxed)) {
                        word.store(0, Relaxed);
                    }
                }
            }
            Self::Reader if world.steps.is_multiple_of(5_000) => std::mem::forget(view),
            _ => {}
        }
    }
}
