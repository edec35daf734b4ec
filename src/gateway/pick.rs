//! `pick` and what follows it: the tries of a request.

use std::net::{IpAddr, Ipv6Addr};

use super::access::enter;
use super::decision::Reply;
use super::explain::Silent;
use super::fallback::Resort;
use super::object::{Route, Upstream};
use super::ticket::{Attempt, Stage, Ticket};
use super::worker::Worker;
use crate::balancer::{Outcome, PickTable, Rng, Tried};
use crate::state::tables::peers as statistics;
use crate::state::{Blob, Region, View};
use crate::types::{ArchivedId, Id, Kind, Now, Reason, SECOND};

/// So often a peer is chosen anew whose last place another worker took in the same moment.
const RACES: u32 = 4;

/// The peer of one try.
#[derive(Clone, Copy, Debug)]
pub struct Peer<'v> {
    /// `address:port`, as `$upstream_addr` shows it.
    pub name: &'v str,
    /// The address.
    pub address: IpAddr,
    /// The TCP port.
    pub port: u16,
    /// What a kept connection must be to be used for this try; 0 = plain HTTP.
    pub connection: u64,
    /// The name to ask for in a TLS handshake, and to verify; `None` without TLS, or where only an address is known.
    pub server_name: Option<&'v str>,
}

/// How a try ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TryEnd {
    /// No answer that counts, or one that is tried again elsewhere.
    Failed,
    /// A kept connection turned out to be closed: the peer is not to blame, and may be tried again.
    Stale,
    /// The peer answered with this status; 0 = the client went away before it did.
    Answered(u16),
}

impl Worker {
    /// Sends the request to the upstream `name`, whatever its route says, and whether it has been decided on or not. What
    /// the upstream says of retries and timeouts holds; where it says nothing, the server's own.
    ///
    /// # Errors
    /// There is no such upstream any more, it has no peers, or its breaker is open.
    pub fn send_to(&mut self, ticket: &mut Ticket, name: &str, now: Now) -> Result<(), Reply> {
        let view = self.reader.enter().ok_or(Reply::new(Reason::PolicyNone))?;
        let id = view.id_of(Kind::Upstream, name).ok_or(Reply::new(Reason::UpstreamGone))?;
        drop(view);
        self.send_to_id(ticket, id, now)
    }

    /// Makes `copy`, a new ticket, that of a copy of the request with `ticket`, which its route's mirror is sent: it is
    /// tried once, and says nothing of the route. False where there is no such upstream any more, or it is spared.
    pub fn mirror(&mut self, ticket: &Ticket, copy: &mut Ticket, now: Now) -> bool {
        let Some(view) = self.reader.enter() else { return false };
        let mirror = view.object::<Route>(ticket.route).and_then(|route| {
            let canary = route.canary.as_ref()?;
            canary.mirror.as_ref().map(ArchivedId::id)
        });
        drop(view);
        let Some(id) = mirror.filter(|_| ticket.mirrored) else { return false };
        if self.send_to_id(copy, id, now).is_err() {
            return false;
        }
        (copy.allowed, copy.offered, copy.server_retries) = (1, 1, false);
        // What it makes of a copy opens no breaker: the client's own requests do.
        self.cancel_permit(copy);
        true
    }

    fn send_to_id(&mut self, ticket: &mut Ticket, id: Id, now: Now) -> Result<(), Reply> {
        let goes_there = ticket.upstream == id && !ticket.shadow && matches!(ticket.stage, Stage::Forwarded);
        if goes_there && ticket.tries == 0 {
            return Ok(());
        }
        self.cancel_permit(ticket);
        let view = self.reader.enter().ok_or(Reply::new(Reason::PolicyNone))?;
        let named = view.object::<Upstream>(id).ok_or(Reply::new(Reason::UpstreamGone))?;
        (ticket.tries, ticket.tried, ticket.stale) = (0, Tried::new(), false);
        (ticket.server_retries, ticket.put_off) = (false, false);
        // What the route falls back to belongs to its own upstream.
        (ticket.resort, ticket.barred) = (Resort::None, None);
        // So do the variants.
        ticket.variant = 0;
        ticket.shard = self.reader.slot();
        enter(&view, id, &named.timeouts, named.retries.as_ref(), ticket)?;
        if ticket.stage == Stage::New {
            ticket.stage = Stage::Forwarded;
        }
        // What is told to nobody is not to be believed either: this request does go there.
        let shadow = std::mem::take(&mut ticket.shadow);
        let entered = Self::enter_upstream(&self.region, &view, &named, now, ticket, &mut Silent);
        ticket.shadow = shadow;
        entered
    }

    /// Asks what stands between a request that may be answered from the cache and its upstream. To be called once it is
    /// known that the cache has no answer; [`Worker::pick`] does it otherwise.
    ///
    /// # Errors
    /// The breaker is open: nobody may be asked.
    pub fn forward(&mut self, ticket: &mut Ticket, now: Now) -> Result<(), Reply> {
        if !std::mem::take(&mut ticket.put_off) {
            return Ok(());
        }
        let view = self.reader.enter().ok_or(Reply::new(Reason::PolicyNone))?;
        // Where the route of one that is gone leads now is found when a peer is picked.
        let Some(upstream) = view.object::<Upstream>(ticket.upstream) else { return Ok(()) };
        match Self::enter_upstream(&self.region, &view, &upstream, now, ticket, &mut Silent) {
            Ok(()) => Ok(()),
            Err(refusal) => Self::turn_away(&self.region, &view, refusal, now, ticket),
        }
    }

    /// Chooses the peer of the next try and shows it to `take`, whose result is returned.
    ///
    /// # Errors
    /// There is no peer left to try, or no upstream any more.
    pub fn pick<T>(&mut self, ticket: &mut Ticket, now: Now, take: impl FnOnce(&Peer<'_>) -> T) -> Result<T, Reply> {
        if ticket.put_off {
            self.forward(ticket, now)?;
        }
        let Self { region, reader, rng, .. } = self;
        let view = reader.enter().ok_or(Reply::new(Reason::PolicyNone))?;
        if let Some(refusal) = ticket.barred {
            return Err(refusal);
        }
        let (upstream, place, slot) = match Self::choose(region, &view, rng, ticket, now) {
            Ok(chosen) => chosen,
            Err(refusal) => {
                Self::divert(region, &view, refusal, now, ticket)?;
                Self::choose(region, &view, rng, ticket, now)?
            }
        };
        let entry = upstream.peers.get(place as usize).ok_or(Reply::new(Reason::UpstreamNone))?;
        Self::load(region, &upstream, ticket);
        ticket.tried.insert(place);
        ticket.tries = ticket.tries.saturating_add(1);
        if ticket.sent == 0 {
            ticket.sent = now.mono;
        }
        let address = Ipv6Addr::from(entry.address).to_canonical();
        let peer = Peer {
            name: &entry.name,
            address,
            port: entry.port.to_native(),
            connection: entry.connection.to_native(),
            server_name: if ticket.tls == 0 { None } else { upstream.server_name(entry) },
        };
        ticket.attempt =
            Some(Attempt { place, peer: slot, key: entry.key.to_native(), started: now.mono, latency: None });
        Ok(take(&peer))
    }

    /// The request's upstream, and of the peer for one more try the place in its table and in the statistics.
    fn choose<'v>(
        region: &Region,
        view: &'v View<'_>,
        rng: &mut Rng,
        ticket: &mut Ticket,
        now: Now,
    ) -> Result<(Blob<'v, Upstream>, u32, statistics::Peer), Reply> {
        let upstream = match view.object::<Upstream>(ticket.upstream) {
            Some(upstream) => upstream,
            None => Self::moved(region, view, ticket, now)?,
        };
        if upstream.tls_identity.to_native() != ticket.tls {
            // An edit has changed how its nodes are spoken to, and the connection's settings are made already.
            return Err(Reply::new(Reason::UpstreamGone));
        }
        let none = Reply::new(Reason::UpstreamNone);
        let words = view.pick_table(&upstream).ok_or(none)?;
        let policy = upstream.policy.get();
        let table = PickTable::new(words, upstream.peers.len() as u32).ok_or(none)?.under(policy).keyed(ticket.key);
        if ticket.tries >= ticket.allowed.max(1) {
            return Err(none);
        }
        if ticket.tries > 0
            && !ticket.stale
            && !ticket.server_retries
            && let Some(shared) = Self::shared(region, &upstream)
        {
            // `access` offered it when there was one; others may have taken it since.
            if !shared.retries().retry() {
                return Err(none);
            }
        }
        ticket.stale = false;
        // Places mean the table they were picked from.
        if ticket.table != upstream.seq() {
            ticket.tried.clear();
            ticket.table = upstream.seq();
        }
        let peers = Self::peers(region);
        let choose = |rng: &mut Rng| {
            let place = table.pick(&peers, &ticket.tried, rng, now.mono)?;
            Some((place, upstream.peers.get(place as usize)?))
        };
        let (place, slot) = if policy.max_in_flight == 0 {
            let (place, entry) = choose(rng).ok_or(none)?;
            (place, peers.started(entry.slot.to_native(), ticket.shard))
        } else {
            // Who is below its limit when it is chosen may be at it when the try is counted, as workers choose at once.
            let chosen = (0..RACES).find_map(|_| {
                let (place, entry) = choose(rng)?;
                let slot = peers.started_below(entry.slot.to_native(), ticket.shard, policy.max_in_flight)?;
                Some((place, slot))
            });
            match chosen {
                Some(chosen) => chosen,
                None if ticket.tries == 0 => return Err(Reply::later(Reason::UpstreamBusy, SECOND)),
                None => return Err(none),
            }
        };
        Ok((upstream, place, slot))
    }

    /// An edit has removed the upstream that `access` found, while the body was read: the request goes where its route
    /// goes now. The header is written already, so that is only right where neither upstream wants a `Host` of its own.
    #[cold]
    fn moved<'v>(
        region: &Region,
        view: &'v View<'_>,
        ticket: &mut Ticket,
        now: Now,
    ) -> Result<Blob<'v, Upstream>, Reply> {
        let gone = Reply::new(Reason::UpstreamGone);
        let route = view.object::<Route>(ticket.route).ok_or(gone)?;
        let leads_to = match route.canary.as_ref().filter(|_| ticket.variant != 0) {
            None => route.upstream.id(),
            Some(canary) => {
                let variant = canary.variants.iter().find(|variant| variant.key.to_native() == ticket.variant);
                variant.ok_or(gone)?.upstream.id()
            }
        };
        let upstream = view.object::<Upstream>(leads_to).ok_or(gone)?;
        // What the old document let in must not reach what the new one guards otherwise.
        let passed = ticket.passed.auth;
        let free = route.auth.is_empty() || passed.is_some() && route.auth.iter().any(|auth| auth.id() == passed);
        if ticket.own_host || upstream.host.is_some() || !free || route.permissions.is_some() {
            return Err(gone);
        }
        // The permit of the old one's breaker went with it.
        Self::permit(region, &upstream, now, ticket)
            .map_err(|refused| Reply::later(Reason::BreakerOpen, refused.retry_after))?;
        ticket.upstream = upstream.id();
        ticket.names.upstream.set(upstream.name_bytes());
        Ok(upstream)
    }

    /// The response header of the try under way has come.
    pub fn answered(&mut self, ticket: &mut Ticket, now: Now) {
        if let Some(attempt) = &mut ticket.attempt {
            let latency = now.mono.saturating_sub(attempt.started);
            attempt.latency = Some(latency);
            ticket.answered = now.mono;
            ticket.slow = ticket.slow_after != 0 && latency > ticket.slow_after;
            ticket.stage = Stage::Answered;
            Self::unload(&self.region, ticket);
        }
    }

    /// The try under way has ended. To be called once for each [`Worker::pick`] that gave a peer.
    pub fn tried(&mut self, ticket: &mut Ticket, end: TryEnd, now: Now) {
        let Some(attempt) = ticket.attempt.take() else { return };
        let peers = Self::peers(&self.region);
        match end {
            TryEnd::Stale | TryEnd::Answered(0) => peers.withdrawn(attempt.peer),
            _ => peers.finished(attempt.peer),
        }
        let elapsed = now.mono.saturating_sub(attempt.started);
        match end {
            TryEnd::Stale => {
                // Who was tried and failed before stays tried.
                ticket.tried.remove(attempt.place);
                ticket.tries = ticket.tries.saturating_sub(1);
                ticket.stale = true;
            }
            // 501 says that the request is strange, not that the server is in trouble; all other 5xx do.
            TryEnd::Failed | TryEnd::Answered(500 | 502..=599) => {
                peers.observe(attempt.peer, Outcome::Failure, now.mono);
                self.peer_failed(ticket, &attempt, now);
                self.sample(ticket, false, attempt.latency.unwrap_or(elapsed), now);
            }
            TryEnd::Answered(0) => {}
            TryEnd::Answered(_) => {
                let latency = attempt.latency.unwrap_or(elapsed);
                peers.observe(attempt.peer, Outcome::Latency(latency), now.mono);
                self.sample(ticket, true, latency, now);
            }
        }
        if !matches!(end, TryEnd::Stale | TryEnd::Answered(0))
            && let Some(shard) = Self::shard(&self.region, self.reader.slot())
        {
            shard.upstream(attempt.key, attempt.latency.unwrap_or(elapsed));
        }
    }
}
