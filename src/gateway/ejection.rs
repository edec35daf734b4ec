//! Ejection: who takes a failing peer out of the picks, who says so, and who compares peers.
//!
//! The worker that sees the last failure of a row ejects at once: by the time of the leader's next look, a peer that
//! fails fast would have failed hundreds of requests. What needs a comparison over time, the leader does every
//! [`INTERVAL`], from counts that the region keeps anyway; so a good answer costs nothing for any of it.

use std::collections::HashMap;

use super::explain::{Recorder, Step, tell};
use super::leader::{Event, Severity};
use super::object::Upstream;
use super::ticket::{Attempt, Ticket};
use super::worker::Worker;
use crate::balancer::{Calls, Ejection, INTERVAL, stands_out};
use crate::state::tables::peers::{CALLS_MASK, News, Peers};
use crate::state::tables::upstreams::{self, Upstreams};
use crate::state::{Blob, Region, View};
use crate::types::{Now, SECOND};

impl Worker {
    /// What the region knows of an upstream as a whole; `None` once its slot is another's.
    #[inline]
    pub(super) fn shared<'r>(region: &'r Region, upstream: &Blob<'_, Upstream>) -> Option<upstreams::Upstream<'r>> {
        Upstreams::new(region.upstream_words()).owned(upstream.slot.to_native(), upstream.id().word())
    }

    /// The peer of `attempt` has failed once more: it is taken out of the picks if that was once too often, unless too
    /// many of its siblings are out already.
    #[cold]
    pub(super) fn peer_failed(&mut self, ticket: &Ticket, attempt: &Attempt, now: Now) {
        let region = self.region;
        let Some(view) = self.reader.enter() else { return };
        let Some(upstream) = view.object::<Upstream>(ticket.upstream) else { return };
        let settings = upstream.ejection.settings();
        let peers = Self::peers(&region);
        let streak = peers.failed_again(attempt.peer, settings.window, now.mono);
        if let Some(cause) = streak.cause(&settings)
            && let Some(shared) = Self::shared(&region, &upstream)
        {
            shared.eject(peers, attempt.peer.slot, cause, settings.most(upstream.peers.len()), now.mono);
        }
    }
}

/// Tells who is out.
pub(super) fn explain(region: &Region, upstream: &Blob<'_, Upstream>, now: Now, recorder: &mut impl Recorder) {
    if !recorder.listens() {
        return;
    }
    let peers = Worker::peers(region);
    let mut out = 0;
    for peer in upstream.peers.iter() {
        if let Some((cause, left)) = peers.ejected(peer.slot.to_native(), now.mono) {
            out += 1;
            let left = left.div_ceil(SECOND);
            tell!(recorder, Step::Balancer, "{} is ejected for {left} more s: {}", peer.name.as_str(), cause.words());
        }
    }
    match upstream.peers.len() {
        _ if out == 0 => {}
        all if out == all => tell!(recorder, Step::Balancer, "all are ejected, so all are used"),
        all => tell!(recorder, Step::Balancer, "{} of {all} can be picked", all - out),
    }
}

/// The leader's part.
#[derive(Default)]
pub(super) struct Ejections {
    /// When the interval began, microseconds …
    began: u64,
    /// … and the calls of each peer until then, by its key.
    before: HashMap<u64, Calls>,
}

impl Ejections {
    /// Tells what happened to peers, and compares them when an interval is over.
    pub(super) fn tick(&mut self, region: &Region, view: &View<'_>, now: Now, log: &mut dyn FnMut(Event)) {
        let due = now.mono.saturating_sub(self.began) >= INTERVAL;
        let mut after = HashMap::new();
        for upstream in view.each::<Upstream>() {
            let settings = upstream.ejection.settings();
            if due && settings.error_ratio > 0 {
                self.compare(region, &upstream, &settings, &mut after, now);
            }
            look(region, &upstream, &settings, now, log);
        }
        if due {
            (self.began, self.before) = (now.mono, after);
        }
    }

    /// Ejects who failed much more often than its siblings since the last comparison, the worst first.
    fn compare(
        &self,
        region: &Region,
        upstream: &Blob<'_, Upstream>,
        settings: &Ejection,
        after: &mut HashMap<u64, Calls>,
        now: Now,
    ) {
        let peers = Worker::peers(region);
        let mut compared = Vec::new();
        let mut all = Calls::default();
        for peer in upstream.peers.iter() {
            let (key, slot) = (peer.key.to_native(), peer.slot.to_native());
            let Some(calls) = peers.calls(slot) else { continue };
            after.insert(key, calls);
            // What was counted before this leader looked for the first time is of no interval.
            let Some(before) = self.before.get(&key) else { continue };
            let own = Calls { ended: since(calls.ended, before.ended), failed: since(calls.failed, before.failed) };
            all.ended += own.ended;
            all.failed += own.failed;
            compared.push((own, slot));
        }
        let others = |own: Calls| Calls {
            ended: all.ended.saturating_sub(own.ended),
            failed: all.failed.saturating_sub(own.failed),
        };
        compared.retain(|(own, _)| stands_out(*own, others(*own), settings));
        compared.sort_by_key(|(own, _)| std::cmp::Reverse(own.failed.saturating_mul(1_000) / own.ended.max(1)));
        let Some(shared) = Worker::shared(region, upstream) else { return };
        for (_, slot) in compared {
            shared.eject(peers, slot, crate::balancer::Cause::Ratio, settings.most(upstream.peers.len()), now.mono);
        }
    }
}

/// Tells who of `upstream` went out or came back since the last look, counts who is out, and brings back whoever is too
/// many, as after an edit that took peers away: those first whose time is over first.
fn look(region: &Region, upstream: &Blob<'_, Upstream>, settings: &Ejection, now: Now, log: &mut dyn FnMut(Event)) {
    let peers = Peers::new(region.peer_words());
    let (name, all) = (upstream.name(), upstream.peers.len());
    let mut out = Vec::new();
    for peer in upstream.peers.iter() {
        let slot = peer.slot.to_native();
        let ejected = peers.ejected(slot, now.mono);
        match (peers.news(slot, now.mono), ejected) {
            (Some(News::Out), Some((cause, left))) => {
                let (seconds, cause) = (left.div_ceil(SECOND), cause.words());
                let text = format!("upstream \"{name}\": {} is ejected for {seconds} s: {cause}", peer.name.as_str());
                log(Event { severity: Severity::Warning, text });
            }
            (Some(News::Back), _) => {
                let text = format!("upstream \"{name}\": {} is back after its ejection", peer.name.as_str());
                log(Event { severity: Severity::Notice, text });
            }
            _ => {}
        }
        out.extend(ejected.map(|(_, left)| (left, slot)));
    }
    let most = settings.most(all) as usize;
    if out.len() > most {
        out.sort_unstable();
        for (_, slot) in out.drain(..out.len() - most) {
            peers.eject(slot, now.mono, now.mono);
        }
    }
    if let Some(shared) = Worker::shared(region, upstream) {
        shared.settle(out.len() as u32, now.mono);
    }
}

/// How much a count has grown; nothing where another process is about to change it.
const fn since(after: u64, before: u64) -> u64 {
    match after.wrapping_sub(before) & CALLS_MASK {
        grown if grown > CALLS_MASK / 2 => 0,
        grown => grown,
    }
}
