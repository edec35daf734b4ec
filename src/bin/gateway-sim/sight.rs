//! What the checks see of the region after each step: breakers, peers, tables.

use gateway::balancer::Statistics;
use gateway::breaker::State;
use gateway::gateway::Upstream;
use gateway::state::Reader;
use gateway::state::tables::breaker;
use gateway::state::tables::peers::Peers;
use gateway::state::tables::slot::Slots;
use gateway::types::Now;

/// An upstream as it is.
pub struct Seen {
    pub name: String,
    /// Its id, in one word.
    pub id: u64,
    pub breaker: Option<State>,
    /// Keys of its peers, and whether each may be picked.
    pub peers: Vec<(u64, bool)>,
}

/// Every upstream of the published generation.
pub fn look(observer: &Reader, now: Now) -> Vec<Seen> {
    let Some(view) = observer.enter() else { return Vec::new() };
    let region = observer.region();
    let breakers = Slots::new(region.breaker_words(), breaker::WIDTH);
    let peers = Peers::new(region.peer_words());
    let seen = view.each::<Upstream>().map(|upstream| {
        let id = upstream.id().word();
        let breaker = upstream.breaker.as_ref().and_then(|settings| {
            let slot = breakers.owned(upstream.breaker_slot.to_native(), id)?;
            Some(breaker::state(slot, &settings.settings(), now.mono))
        });
        let peers = upstream
            .peers
            .iter()
            .map(|peer| (peer.key.to_native(), peers.standing(peer.slot.to_native(), now.mono).available));
        Seen { name: upstream.name().to_owned(), id, breaker, peers: peers.collect() }
    });
    seen.collect()
}
