//! What an operator lays over the document: a node drained, a ban, a breaker forced, a canary held.
//!
//! The document stays what it is. What is laid over it is put on at the place where documents become policy, so it holds
//! over every document to come until it is taken off, and a node's own weight stands beside the one that counts. To put one
//! on or take it off writes the object that it is about and no other.
//!
//! Forced breakers and canaries are words of the region, which any process may set; the leader sets those that are laid
//! again whenever it has made a document live, as an edit may have begun them anew.

use std::borrow::Cow;

use super::leader::Leader;
use super::object::Upstream;
use super::promote::{CanaryCommand, CanaryError, CanaryStatus, command};
use super::publish::{PublishError, Published, publish_bans, publish_upstream};
use super::revoke::ByHand;
use super::worker::Worker;
use crate::balancer::Node;
use crate::breaker::Forced;
use crate::config::{self, Collection, Document};
use crate::lists::Ban;
use crate::state::tables::breaker;
use crate::types::Now;

/// One thing that is laid over the document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Overlay {
    /// The node of an upstream, `HOST:PORT` as the document says it, has this weight; 0 = it is drained.
    Weight {
        /// The upstream's name.
        upstream: String,
        /// `HOST:PORT`.
        node: String,
        /// Its weight.
        weight: u32,
    },
    /// Addresses that are refused.
    Ban {
        /// The block as it was written.
        cidr: String,
        /// Until when, seconds since the Unix epoch; 0 = until it is lifted.
        until: u64,
        /// Why, for the log.
        reason: String,
    },
    /// A breaker that refuses everything, or lets everything through.
    Breaker {
        /// The upstream's name.
        upstream: String,
        /// What it does.
        forced: Forced,
    },
    /// Tokens that are refused.
    Revocation(ByHand),
    /// What was done to a canary by hand.
    Canary {
        /// The route's name.
        route: String,
        /// What.
        command: CanaryCommand,
    },
}

/// All that is laid over the document.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overlays(Vec<Overlay>);

/// How the document names a node.
#[must_use]
pub fn node_name(node: &Node) -> String {
    match node.host.contains(':') && !node.host.starts_with('[') {
        true => format!("[{}]:{}", node.host, node.port),
        false => format!("{}:{}", node.host, node.port),
    }
}

impl Overlays {
    /// These and no others.
    #[must_use]
    pub fn new(all: Vec<Overlay>) -> Self {
        Self(all)
    }

    /// The nodes of `upstream` with the weights that count.
    pub(super) fn nodes<'u>(&self, upstream: &'u config::Upstream) -> Cow<'u, [Node]> {
        let mut nodes = Cow::Borrowed(&upstream.nodes[..]);
        for overlay in &self.0 {
            if let Overlay::Weight { upstream: name, node, weight } = overlay
                && *name == upstream.name
            {
                nodes.to_mut().iter_mut().filter(|one| node_name(one) == *node).for_each(|one| one.weight = *weight);
            }
        }
        nodes
    }

    /// What is revoked by hand.
    pub(super) fn revocations(&self) -> Vec<ByHand> {
        let revocation = |overlay: &Overlay| match overlay {
            Overlay::Revocation(by_hand) => Some(by_hand.clone()),
            _ => None,
        };
        self.0.iter().filter_map(revocation).collect()
    }

    /// The bans that are laid over the document's.
    pub(super) fn bans(&self) -> Vec<Ban> {
        let mut bans = Vec::new();
        for overlay in &self.0 {
            if let Overlay::Ban { cidr, until, reason } = overlay {
                let ban = |range| Ban { range, until: *until, reason: reason.clone() };
                bans.extend(config::ban_range(cidr).into_iter().map(ban));
            }
        }
        bans
    }
}

impl Leader {
    /// Lays `overlays` over every document from the next one on.
    pub fn lay(&mut self, overlays: Overlays) {
        self.revoked.lay(overlays.revocations());
        self.overlays = overlays;
    }

    /// Lays `overlays` over the document that is live, in the place of those that were: only what differs is written. A
    /// breaker that is not among them any more begins anew; what becomes of a canary, [`Leader::canary`] is told.
    ///
    /// # Errors
    /// Something does not fit; then those that were are laid still.
    pub fn relay(&mut self, overlays: Overlays, now: Now) -> Result<Published, PublishError> {
        let before = std::mem::replace(&mut self.overlays, overlays);
        let changed = before.revocations() != self.overlays.revocations();
        let done = match self.write_changed(&before, now) {
            Ok(_) if changed && !self.hold_revocations(now) => Err(PublishError::Table("revocation")),
            done => done,
        };
        match &done {
            Ok(_) => {
                for gone in before.0.iter().filter(|one| !self.overlays.has_breaker_of(one)) {
                    self.set_word(gone, None);
                }
                self.settle_overlays();
            }
            Err(_) => {
                let failed = std::mem::replace(&mut self.overlays, before);
                // What does not go back now goes back with the next document.
                let _ = self.write_changed(&failed, now);
                if changed {
                    self.hold_revocations(now);
                }
            }
        }
        done
    }

    fn write_changed(&mut self, before: &Overlays, now: Now) -> Result<Published, PublishError> {
        let mut upstreams: Vec<String> = Vec::new();
        for overlay in before.0.iter().chain(&self.overlays.0) {
            if let Overlay::Weight { upstream, .. } = overlay
                && (before.0.contains(overlay) != self.overlays.0.contains(overlay))
                && !upstreams.contains(upstream)
            {
                upstreams.push(upstream.clone());
            }
        }
        let mut done = Published::default();
        let region = self.region();
        for name in upstreams {
            let found = self.sight().map(|sight| sight.one(Collection::Upstreams, &name));
            let Some(Ok(Some(Document { upstreams, .. }))) = found else { continue };
            for upstream in &upstreams {
                let one = publish_upstream(region, &mut self.writer, upstream, &self.overlays, now)?;
                done.written += one.written;
                done.generation = done.generation.max(one.generation);
            }
        }
        if before.bans() != self.overlays.bans() {
            let one = publish_bans(region, &mut self.writer, &self.overlays)?;
            done.written += one.written;
            done.removed += one.removed;
            done.generation = done.generation.max(one.generation);
        }
        Ok(done)
    }

    /// Does `what` to the canary of the route called `route`.
    ///
    /// # Errors
    /// There is nothing to do it to.
    pub fn canary(&self, route: &str, what: CanaryCommand) -> Result<CanaryStatus, CanaryError> {
        let view = self.reader().and_then(|reader| reader.enter()).ok_or(CanaryError::NoRoute)?;
        command(&view, route, what)
    }

    /// Sets the words of the region that are laid over what a document made of them.
    pub(super) fn settle_overlays(&self) {
        for overlay in &self.overlays.0 {
            match overlay {
                Overlay::Breaker { forced, .. } => self.set_word(overlay, Some(*forced)),
                Overlay::Canary { route, command } => drop(self.canary(route, *command)),
                Overlay::Weight { .. } | Overlay::Ban { .. } | Overlay::Revocation(_) => {}
            }
        }
    }

    fn set_word(&self, overlay: &Overlay, forced: Option<Forced>) {
        let Overlay::Breaker { upstream, .. } = overlay else { return };
        let region = self.region();
        if let Some(view) = self.reader().and_then(|reader| reader.enter())
            && let Some(found) = view.named::<Upstream>(upstream)
            && let Some((slot, _)) = Worker::breaker(&region, &found)
        {
            breaker::force(slot, forced);
        }
    }
}

impl Overlays {
    /// Whether one of these forces the breaker that `other` does.
    fn has_breaker_of(&self, other: &Overlay) -> bool {
        let name = |one: &Overlay| match one {
            Overlay::Breaker { upstream, .. } => Some(upstream.clone()),
            _ => None,
        };
        self.0.iter().any(|one| name(one) == name(other))
    }
}
