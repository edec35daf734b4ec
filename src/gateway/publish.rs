//! From a checked document to the tree: what differs is written, what is gone is removed, all in one transaction.

use std::collections::{BTreeSet, HashSet};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, Ipv6Addr, ToSocketAddrs};
use std::sync::atomic::AtomicU64;

use siphasher::sip::SipHasher13;

use super::object::{
    Addresses, ApiKey, BANS, CacheTag, Cached, Canary, Consumer, Fallback, InFlight, LoadPlace, PATHS, PeerEntry, Role,
    Route, SETTINGS, Settings, Upstream, Variant, WRITTEN_BANS,
};
use super::overlay::Overlays;
use super::{key_sets, promote};
use crate::auth::{Grants, Requirement};
use crate::balancer::{self, Member, PickTable, Policy, Seat, Tls, asked_name};
use crate::cache::BUCKETS;
use crate::canary::key_of;
use crate::config::{self, Document, HostHeader, LIMITS_MAX, PathPolicy, Sources};
use crate::limiter::KeyPart;
use crate::lists::{Ban, Bans, Set};
use crate::overload::{Mode, Overload};
use crate::state::tables::breaker;
use crate::state::tables::peers::Peers;
use crate::state::tables::places::Places;
use crate::state::tables::slot::Slots;
use crate::state::tables::upstreams::Upstreams;
use crate::state::{Full, HeapRegion, Identity, Refusal, Region, Transaction, Tree, Writer};
use crate::types::{Id, Kind, Methods, Now, Object};

/// What the words beside routes and tags mean; another meaning would be another number.
const PURGES: u64 = 1;

/// No larger zone is tried out for the sake of an error message.
const SIZE_MAX: usize = 4 << 30;

/// Why a document did not go live. The live one is untouched.
#[derive(Clone, Debug)]
pub enum PublishError {
    /// The tree has no room for it.
    Full(Full),
    /// A table has no free slot for one more of its kind.
    Table(&'static str),
    /// The zone is too small, be it for the tree or for a table.
    TooSmall {
        /// What has no room.
        why: Box<Self>,
        /// Bytes of the zone.
        zone: usize,
        /// Bytes of a zone in which a trial succeeded; 0 = not even the largest that was tried would do.
        would_do: usize,
    },
    /// A route names more limits than are looked at.
    TooManyLimits(String),
}

impl fmt::Display for PublishError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full(full) => write!(out, "the document does not fit into the zone: {full}"),
            Self::TooSmall { why, zone, would_do: 0 } => write!(out, "{why}; the zone has {}", Size(*zone)),
            Self::TooSmall { why, zone, would_do } => {
                write!(out, "{why}; the zone has {}, one of {} would do", Size(*zone), Size(*would_do))
            }
            Self::Table(table) => write!(out, "the zone has no room for one more {table}"),
            Self::TooManyLimits(route) => write!(out, "route \"{route}\": at most {LIMITS_MAX} limits"),
        }
    }
}

/// Bytes as `gateway_zone` takes them.
struct Size(usize);

impl fmt::Display for Size {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bytes if bytes % (1 << 20) == 0 => write!(out, "{}m", bytes >> 20),
            bytes => write!(out, "{}k", bytes >> 10),
        }
    }
}

impl PublishError {
    /// Whether the same document may go live later without anybody's doing: a worker is still in an old generation.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Full(full) if full.why == Refusal::Held)
    }

    fn is_about_room(&self) -> bool {
        matches!(self, Self::Table(_)) || matches!(self, Self::Full(full) if full.why == Refusal::Room)
    }
}

impl std::error::Error for PublishError {}

impl From<Full> for PublishError {
    fn from(full: Full) -> Self {
        Self::Full(full)
    }
}

/// What publishing did.
#[derive(Clone, Debug, Default)]
pub struct Published {
    /// The generation that is live now.
    pub generation: u32,
    /// Objects written, objects removed; both 0 where nothing differed and the generation stayed.
    pub written: usize,
    /// See `written`.
    pub removed: usize,
    /// What an operator should hear about.
    pub warnings: Vec<String>,
}

/// Makes `document` the live policy.
///
/// Objects are compared by a digest of what they are made of, so an edit of one route among 100,000 writes that route;
/// ids, statistics, buckets and breakers stay with their names.
///
/// # Errors
/// What is wrong, and for a zone that is too small the size of one that would do; the live policy is untouched.
pub fn publish(region: Region, writer: &mut Writer, document: &Document, now: Now) -> Result<Published, PublishError> {
    publish_over(region, writer, document, &Overlays::default(), now)
}

/// The same with `overlays` laid over the document.
pub(super) fn publish_over(
    region: Region,
    writer: &mut Writer,
    document: &Document,
    overlays: &Overlays,
    now: Now,
) -> Result<Published, PublishError> {
    match change(region, writer, document, overlays, now) {
        Err(why) if why.is_about_room() => {
            let (zone, would_do) = (region.size(), size_for(region.size(), document, overlays, now));
            Err(PublishError::TooSmall { why: Box::new(why), zone, would_do })
        }
        done => done,
    }
}

/// The smallest of some larger zones in which `document` goes live; 0 = none of them.
///
/// A trial is the only honest answer: tables and tree share a zone in fixed parts, and which of them is full first
/// hangs on the document. Nothing of the trial's memory is used but what the document takes.
fn size_for(size: usize, document: &Document, overlays: &Overlays, now: Now) -> usize {
    let mut size = size;
    while size < SIZE_MAX {
        // At least a third more each time, in whole megabytes.
        size = (size + size / 3 + 1).next_multiple_of(1 << 20);
        let Ok(heap) = HeapRegion::new(size, [0; 2]) else { return 0 };
        let Ok(Some(mut writer)) = Writer::take(heap.region(), Identity::current()) else { return 0 };
        match change(heap.region(), &mut writer, document, overlays, now) {
            Ok(_) => return size,
            Err(error) if error.is_about_room() => {}
            Err(_) => return 0,
        }
    }
    0
}

/// Writes one upstream of the live document anew, with what is laid over it.
pub(super) fn publish_upstream(
    region: Region,
    writer: &mut Writer,
    upstream: &config::Upstream,
    overlays: &Overlays,
    now: Now,
) -> Result<Published, PublishError> {
    let mut edit = Edit { region, txn: writer.begin(), overlays, written: 0, warnings: Vec::new() };
    edit.put_upstream(upstream, &mut Alive::none(), now)?;
    Ok(edit.finish(0))
}

/// The same for the bans.
pub(super) fn publish_bans(
    region: Region,
    writer: &mut Writer,
    overlays: &Overlays,
) -> Result<Published, PublishError> {
    let mut edit = Edit { region, txn: writer.begin(), overlays, written: 0, warnings: Vec::new() };
    let written = written_bans(&edit.txn.view());
    let kept = edit.put_bans(&written)?;
    let gone: Vec<&str> = [BANS, WRITTEN_BANS]
        .into_iter()
        .filter(|name| !kept.contains(name) && edit.txn.view().id_of(Kind::Bans, name).is_some())
        .collect();
    for name in &gone {
        edit.txn.remove(Kind::Bans, name)?;
    }
    Ok(edit.finish(gone.len()))
}

/// The bans of the document, as the tree has them.
pub(super) fn written_bans(tree: &Tree<'_>) -> Vec<Ban> {
    let bans = tree.named::<Bans>(WRITTEN_BANS).or_else(|| tree.named::<Bans>(BANS));
    bans.iter().flat_map(|bans| bans.bans().collect::<Vec<_>>()).collect()
}

/// The objects that bans are: what counts, and beside it the document's own where there is more.
fn bans_kept(document: &Document, overlays: &Overlays) -> Vec<&'static str> {
    match (document.bans.is_empty(), overlays.bans().is_empty()) {
        (true, true) => Vec::new(),
        (false, true) => vec![BANS],
        (_, false) => vec![BANS, WRITTEN_BANS],
    }
}

fn change(
    region: Region,
    writer: &mut Writer,
    document: &Document,
    overlays: &Overlays,
    now: Now,
) -> Result<Published, PublishError> {
    let mut edit = Edit { region, txn: writer.begin(), overlays, written: 0, warnings: Vec::new() };
    let alive = edit.apply(document, now)?;
    let removed = edit.remove_missing(document)?;
    let done = edit.finish(removed);
    if done.written + done.removed > 0 {
        alive.sweep(region, now);
    }
    Ok(done)
}

/// Tells the keys of upstreams among the places from those of routes.
const LOAD: u64 = 1 << 31;

struct Edit<'w> {
    region: Region,
    txn: Transaction<'w>,
    overlays: &'w Overlays,
    written: usize,
    warnings: Vec<String>,
}

/// The slots of the fixed tables that the new policy refers to.
struct Alive {
    peers: HashSet<u64>,
    breakers: HashSet<u64>,
    upstreams: HashSet<u64>,
    places: HashSet<u64>,
}

impl Alive {
    fn none() -> Self {
        Self { peers: HashSet::new(), breakers: HashSet::new(), upstreams: HashSet::new(), places: HashSet::new() }
    }

    /// Frees the slots of what is gone. Whoever still has one in flight compares keys and finds another or none.
    fn sweep(&self, region: Region, now: Now) {
        Peers::new(region.peer_words()).sweep(|key| self.peers.contains(&key), now.mono);
        Slots::new(region.breaker_words(), breaker::WIDTH).sweep(|key| self.breakers.contains(&key));
        Upstreams::new(region.upstream_words()).sweep(|key| self.upstreams.contains(&key));
        Places::new(region.place_words()).sweep(|key| self.places.contains(&key));
    }
}

impl Edit<'_> {
    /// Makes what was written live; where nothing was and `removed` is 0, the generation stays.
    fn finish(self, removed: usize) -> Published {
        let Self { region, txn, written, warnings, .. } = self;
        if written == 0 && removed == 0 && region.generation() != 0 {
            return Published { generation: region.generation(), warnings, ..Published::default() };
        }
        Published { generation: txn.commit(), written, removed, warnings }
    }

    /// Puts the bans of the document and those that are laid over them; the names of the objects that they are.
    fn put_bans(&mut self, written: &[Ban]) -> Result<Vec<&'static str>, PublishError> {
        let laid = self.overlays.bans();
        let mut kept = Vec::new();
        if !laid.is_empty() {
            self.put(WRITTEN_BANS, &written, |_| Ok(Bans::new(written)))?;
            kept.push(WRITTEN_BANS);
        }
        let all: Vec<Ban> = written.iter().cloned().chain(laid).collect();
        if !all.is_empty() {
            self.put(BANS, &all, |_| Ok(Bans::new(&all)))?;
            kept.push(BANS);
        }
        Ok(kept)
    }

    fn apply(&mut self, document: &Document, now: Now) -> Result<Alive, PublishError> {
        let mut alive = Alive::none();
        for role in &document.roles {
            self.put(&role.name, role, |_| Ok(Role { permissions: Grants::new(&role.permissions) }))?;
        }
        for consumer in &document.consumers {
            self.put(&consumer.name, consumer, |edit| {
                Ok(Consumer {
                    permissions: Grants::new(&consumer.permissions),
                    roles: edit.ids(Kind::Role, &consumer.roles)?,
                    enabled: consumer.enabled,
                    priority: consumer.priority,
                    labels: consumer.labels.clone(),
                })
            })?;
            for key in &consumer.api_keys {
                self.put(key, &consumer.name, |edit| {
                    Ok(ApiKey { consumer: edit.txn.id(Kind::Consumer, &consumer.name)? })
                })?;
            }
        }
        let mut reserved = Vec::new();
        for auth in &document.auth {
            reserved.extend(auth.headers().iter().map(|(name, _)| config::spelled(name)));
            self.put(&auth.name, auth, |_| Ok(auth.clone()))?;
        }
        for limiter in &document.limiters {
            self.put(&limiter.name, limiter, |_| Ok(limiter.clone()))?;
        }
        for list in &document.lists {
            self.put(&list.name, list, |_| Ok(Set::new(list.ranges.iter().copied())))?;
        }
        self.put_bans(&document.bans)?;
        for upstream in &document.upstreams {
            self.put_upstream(upstream, &mut alive, now)?;
        }
        let late: HashSet<&str> = document
            .limiters
            .iter()
            .filter(|limiter| limiter.key.iter().any(KeyPart::needs_identity))
            .map(|limiter| limiter.name.as_str())
            .collect();
        for tag in cache_tags(document) {
            self.put_tag(tag)?;
        }
        for route in document.routes.iter().filter(|route| route.enabled) {
            self.put_route(route, &late, &mut alive)?;
        }
        reserved.sort();
        reserved.dedup();
        self.put(SETTINGS, &reserved, |_| Ok(Settings { reserved: reserved.clone() }))?;
        Ok(alive)
    }

    /// Puts what `build` makes of `source`, unless the live object was made of the same: what it refers to keeps its id
    /// as long as it keeps its name.
    fn put<T: Object>(
        &mut self,
        name: &str,
        source: &impl Hash,
        build: impl FnOnce(&mut Self) -> Result<T, PublishError>,
    ) -> Result<(), PublishError> {
        let digest = digest(source);
        if self.txn.view().digest_of(T::KIND, name) != Some(digest) {
            let object = build(self)?;
            self.txn.put(name, &object, digest)?;
            self.written += 1;
        }
        Ok(())
    }

    fn put_upstream(&mut self, upstream: &config::Upstream, alive: &mut Alive, now: Now) -> Result<(), PublishError> {
        let id = self.txn.id(Kind::Upstream, &upstream.name)?;
        let peers = self.peers(upstream, id)?;
        alive.peers.extend(peers.iter().map(|peer| peer.key));
        let slot = Upstreams::new(self.region.upstream_words()).claim(id.word());
        let slot = slot.ok_or(PublishError::Table("upstream"))?;
        alive.upstreams.insert(id.word());
        let overload = match upstream.overload {
            Some(settings) => Some(self.load_place(&upstream.name, id, settings)?),
            None => None,
        };
        alive.places.extend(overload.map(|overload| overload.key));
        let mut breaker_slot = 0;
        if upstream.breaker.is_some() {
            let slots = Slots::new(self.region.breaker_words(), breaker::WIDTH);
            (breaker_slot, _) = slots.claim(id.word()).ok_or(PublishError::Table("breaker"))?;
            alive.breakers.insert(id.word());
        }
        let object = Upstream {
            name: upstream.name.clone(),
            policy: upstream.policy,
            hash_on: upstream.hash_on.clone(),
            host: match &upstream.host {
                HostHeader::Preserve => None,
                HostHeader::Name(name) => Some(name.clone()),
            },
            peers,
            slot,
            ejection: upstream.ejection,
            overload: overload.map(Box::new),
            breaker: upstream.breaker,
            breaker_slot,
            nodes: upstream.nodes.clone(),
            node_labels: upstream.node_labels.clone(),
            retries: upstream.retries.clone(),
            timeouts: upstream.timeouts,
            fallback: self.fallback(&upstream.fallback)?,
            tls: upstream.tls.clone(),
            tls_identity: upstream.tls.as_ref().map_or(0, Tls::identity),
        };
        // Of the object itself: addresses come from elsewhere than the document.
        let bytes = rkyv::to_bytes::<rkyv::rancor::Error>(&object);
        let digest = digest(&bytes.map_err(|_| PublishError::Table("upstream of this size"))?.as_slice());
        if self.txn.view().digest_of(Kind::Upstream, &upstream.name) == Some(digest) {
            return Ok(());
        }
        // The pick table goes on as long as the peers are the same; a new one is built before anybody can see it.
        let mut fingerprint = SipHasher13::new();
        (object.policy.algorithm, object.policy.slow_start > 0).hash(&mut fingerprint);
        for peer in &object.peers {
            fingerprint.write_u64(peer.key);
            // On a ring a name stands for its addresses.
            peer.host.hash(&mut fingerprint);
            fingerprint.write_u64(u64::from(peer.weight) << 8 | u64::from(peer.priority));
        }
        let words = self.table(object.policy, &object.peers, now);
        self.txn.put_with_table(&upstream.name, &object, digest, fingerprint.finish(), &words)?;
        self.written += 1;
        Ok(())
    }

    /// A pick table of `peers`, built from what is known of them now.
    fn table(&self, policy: Policy, peers: &[PeerEntry], now: Now) -> Vec<u64> {
        let seat = |peer: &PeerEntry| Seat { weight: peer.weight, priority: peer.priority, slot: peer.slot };
        let seats: Vec<Seat> = peers.iter().map(seat).collect();
        let servers: Vec<String> = peers.iter().map(server).collect();
        let words = PickTable::lay(policy, &seats, &members(peers, &servers));
        if let Some(table) = PickTable::new(&words, peers.len() as u32) {
            table.under(policy).build(seats, &Peers::new(self.region.peer_words()), now.mono);
        }
        words.into_iter().map(AtomicU64::into_inner).collect()
    }

    /// The addresses of an upstream's nodes, each with its place in the statistics.
    fn peers(&mut self, upstream: &config::Upstream, id: Id) -> Result<Vec<PeerEntry>, PublishError> {
        let mut entries: Vec<PeerEntry> = Vec::with_capacity(upstream.nodes.len());
        let overlays = self.overlays;
        for node in overlays.nodes(upstream).iter() {
            for address in self.resolve(upstream, node) {
                let name = match address {
                    IpAddr::V4(address) => format!("{address}:{}", node.port),
                    IpAddr::V6(address) => format!("[{address}]:{}", node.port),
                };
                let key = balancer::key(id, &address.to_string(), node.port);
                if entries.iter().any(|entry| entry.key == key) {
                    continue;
                }
                // A full table is no error: peers without a slot share by static weight.
                let slot = Peers::new(self.region.peer_words()).claim(key);
                let octets = match address {
                    IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
                    IpAddr::V6(address) => address.octets(),
                };
                let (weight, priority) = (node.weight, node.priority);
                let host = literal(&node.host).is_none().then(|| node.host.clone());
                let connection = upstream.tls.as_ref().map_or(0, |tls| {
                    let named = match &upstream.host {
                        HostHeader::Name(name) => Some(name.as_str()),
                        HostHeader::Preserve => None,
                    };
                    let asked = asked_name(tls.sni.as_deref(), named, host.as_deref());
                    balancer::connection(tls.identity(), asked)
                });
                let port = node.port;
                entries.push(PeerEntry { name, host, address: octets, port, weight, priority, slot, key, connection });
            }
        }
        Ok(entries)
    }

    /// The addresses of a node. Literals are never looked up. A name that does not resolve now keeps the addresses that
    /// are live; where there are none, the upstream goes without that node and an operator is told.
    fn resolve(&mut self, upstream: &config::Upstream, node: &balancer::Node) -> Vec<IpAddr> {
        if let Some(address) = literal(&node.host) {
            return vec![address];
        }
        match (node.host.as_str(), node.port).to_socket_addrs() {
            Ok(addresses) => {
                let mut found: Vec<IpAddr> = addresses.map(|address| address.ip()).collect();
                found.sort();
                found.dedup();
                found
            }
            Err(error) => {
                let tree = self.txn.view();
                let live = tree.named::<Upstream>(&upstream.name);
                let stale: Vec<IpAddr> = live
                    .iter()
                    .flat_map(|live| live.peers.iter())
                    .filter(|peer| {
                        peer.port.to_native() == node.port
                            && peer.host.as_ref().is_some_and(|host| host.as_str() == node.host)
                    })
                    .map(|peer| Ipv6Addr::from(peer.address).to_canonical())
                    .collect();
                let then = if stale.is_empty() { "it is left out" } else { "its last addresses stay" };
                self.warnings.push(format!(
                    "upstream \"{}\": host \"{}\" cannot be resolved, {then}: {error}",
                    upstream.name, node.host
                ));
                stale
            }
        }
    }

    fn put_route(
        &mut self,
        route: &config::Route,
        late: &HashSet<&str>,
        alive: &mut Alive,
    ) -> Result<(), PublishError> {
        if route.limits.len() > LIMITS_MAX {
            return Err(PublishError::TooManyLimits(route.name.clone()));
        }
        let in_flight = match route.max_in_flight {
            Some(most) => Some(self.in_flight(&route.name, most)?),
            None => None,
        };
        alive.places.extend(in_flight.map(|in_flight| in_flight.key));
        // Beside the route itself, in which step each of its limits is asked.
        let steps: Vec<bool> = route.limits.iter().map(|name| late.contains(name.as_str())).collect();
        let digest = digest(&(route, steps));
        if self.txn.view().digest_of(Kind::Route, &route.name) == Some(digest) {
            return Ok(());
        }
        // The document's order within each of the two steps.
        let (late, early): (Vec<&String>, Vec<&String>) =
            route.limits.iter().partition(|name| late.contains(name.as_str()));
        let object = Route {
            name: route.name.clone(),
            upstream: match &route.upstream {
                Some(name) => self.txn.id(Kind::Upstream, name)?,
                None => Id::NONE,
            },
            auth: self.ids(Kind::Auth, &route.auth)?,
            permissions: route
                .permissions
                .as_ref()
                .map(|permissions| Requirement { all: permissions.all, required: permissions.required.clone() }),
            early: early.len() as u32,
            limits: self.ids(Kind::Limiter, early.into_iter().chain(late))?,
            in_flight,
            timeouts: route.timeouts,
            retries: route.retries.clone(),
            strip: if route.strip_prefix {
                route.rules.iter().map(|rule| rule.path.literal_prefix().len() as u32).collect()
            } else {
                Vec::new()
            },
            parameters: route.rules.iter().map(|rule| rule.path.params().map(str::to_owned).collect()).collect(),
            protocols: [route.protocols.http, route.protocols.websocket, route.protocols.grpc],
            strict: route.path_policy == PathPolicy::Strict,
            conditions: route.conditions.clone(),
            deny: self.addresses(&route.deny)?,
            allow: self.addresses(&route.allow)?,
            canary: self.canary(route)?.map(Box::new),
            cors: route.cors.clone().map(Box::new),
            cache: self.cached(route)?,
            answer: route.answer.clone().map(Box::new),
            fallback: self.fallback(&route.fallback)?,
            rewrite: route.rewrite.clone().map(Box::new),
            max_body: route.max_body,
            location: route.location.clone().map(Box::new),
            headers: route.headers.clone(),
            labels: route.labels.clone(),
        };
        // As `router::order` counts: methods are a condition where they are restricted.
        let conditions = route.conditions.len() as u16 + u16::from(route.methods != Methods::ANY);
        let ranks = (route.methods, route.priority, conditions);
        let (fingerprint, words) = self.words(route);
        self.txn.put_route_with_table(&route.name, &object, digest, &route.rules, ranks, (fingerprint, &words))?;
        self.written += 1;
        Ok(())
    }

    /// The words that live beside a route: what counts purges, then those of its canary. An edit of the variants begins
    /// both anew, which is a purge too.
    fn words(&self, route: &config::Route) -> (u64, Vec<u64>) {
        let purges = self.first_purge();
        match &route.canary {
            Some(canary) => {
                let (fingerprint, words) = promote::begin(canary);
                (fingerprint, [&[purges][..], &words[..]].concat())
            }
            None => (PURGES, if route.cache.is_some() { vec![purges] } else { Vec::new() }),
        }
    }

    fn fallback(&mut self, written: &Option<config::Fallback>) -> Result<Option<Box<Fallback>>, PublishError> {
        Ok(match written {
            None => None,
            Some(config::Fallback::Reply(reply)) => Some(Box::new(Fallback::Reply(reply.clone()))),
            Some(config::Fallback::Upstream(name)) => {
                Some(Box::new(Fallback::Upstream(self.txn.id(Kind::Upstream, name)?)))
            }
            Some(config::Fallback::Stale) => Some(Box::new(Fallback::Stale)),
        })
    }

    /// What counts purges begins above whatever any earlier one of the same name came to, so that what is removed and
    /// comes back does not meet what was kept before.
    fn first_purge(&self) -> u64 {
        u64::from(self.txn.generation()) << 32
    }

    fn put_tag(&mut self, name: &str) -> Result<(), PublishError> {
        let words = if name == PATHS { BUCKETS } else { 1 };
        if self.txn.view().id_of(Kind::CacheTag, name).is_none() {
            let first = vec![self.first_purge(); words];
            self.txn.put_with_table(name, &CacheTag { words: words as u32 }, 0, PURGES, &first)?;
            self.written += 1;
        }
        Ok(())
    }

    fn cached(&mut self, route: &config::Route) -> Result<Option<Box<Cached>>, PublishError> {
        let Some(cache) = &route.cache else { return Ok(None) };
        let paths = self.txn.id(Kind::CacheTag, PATHS)?;
        let mut tags = self.ids(Kind::CacheTag, &cache.tags)?;
        tags.insert(0, paths);
        Ok(Some(Box::new(Cached { cache: cache.clone(), tags })))
    }

    fn canary(&mut self, route: &config::Route) -> Result<Option<Canary>, PublishError> {
        let Some(canary) = &route.canary else { return Ok(None) };
        let mut variants = Vec::with_capacity(canary.variants.len());
        for variant in &canary.variants {
            variants.push(Variant {
                name: variant.name.clone(),
                key: key_of(&variant.name),
                weight: variant.weight,
                upstream: self.txn.id(Kind::Upstream, &variant.upstream)?,
                timeouts: variant.timeouts,
                retries: variant.retries.clone(),
                fallback: self.fallback(&variant.fallback)?,
            });
        }
        Ok(Some(Canary {
            variants,
            rules: canary.rules.clone(),
            permission: canary.permission.clone(),
            promote: canary.promote.clone(),
            mirror: canary.mirror.as_ref().map(|mirror| self.txn.id(Kind::Upstream, &mirror.upstream)).transpose()?,
            mirror_share: canary.mirror.as_ref().map_or(0, |mirror| mirror.share),
        }))
    }

    /// Where the load of an upstream is counted: where it was, as long as it is counted without a break.
    fn load_place(&mut self, name: &str, id: Id, settings: Overload) -> Result<LoadPlace, PublishError> {
        if settings.mode == Mode::Off {
            return Ok(LoadPlace { settings, slot: 0, key: 0 });
        }
        let places = Places::new(self.region.place_words());
        let live = self.txn.view().named::<Upstream>(name).and_then(|live| {
            let live = live.overload.as_ref()?;
            Some((live.slot.to_native(), live.key.to_native()))
        });
        if let Some((slot, key)) = live.filter(|(slot, key)| *key != 0 && places.is(*slot, *key)) {
            return Ok(LoadPlace { settings, slot, key });
        }
        let key = u64::from(self.region.generation().wrapping_add(1)) << 32 | LOAD | u64::from(id.slot);
        let slot = places.claim(key).ok_or(PublishError::Table("upstream with `overload`"))?;
        Ok(LoadPlace { settings, slot, key })
    }

    /// Where the requests of a route are counted: where they were, if it had a limit already; else in a new place, so
    /// that what is under way without one gives nothing back that it never took.
    fn in_flight(&mut self, route: &str, most: u32) -> Result<InFlight, PublishError> {
        let places = Places::new(self.region.place_words());
        let live = self.txn.view().named::<Route>(route).and_then(|live| {
            let live = live.in_flight.as_ref()?;
            Some((live.slot.to_native(), live.key.to_native()))
        });
        if let Some((slot, key)) = live.filter(|(slot, key)| places.is(*slot, *key)) {
            return Ok(InFlight { most, slot, key });
        }
        let id = self.txn.id(Kind::Route, route)?;
        let key = u64::from(self.region.generation().wrapping_add(1)) << 32 | u64::from(id.slot);
        let slot = places.claim(key).ok_or(PublishError::Table("route with `max_in_flight`"))?;
        Ok(InFlight { most, slot, key })
    }

    fn addresses(&mut self, sources: &Sources) -> Result<Option<Box<Addresses>>, PublishError> {
        if sources.is_empty() {
            return Ok(None);
        }
        let set = Set::new(sources.ranges.iter().copied());
        Ok(Some(Box::new(Addresses { set, lists: self.ids(Kind::List, &sources.lists)? })))
    }

    fn ids<'n>(&mut self, kind: Kind, names: impl IntoIterator<Item = &'n String>) -> Result<Vec<Id>, PublishError> {
        names.into_iter().map(|name| self.txn.id(kind, name).map_err(PublishError::from)).collect()
    }

    fn remove_missing(&mut self, document: &Document) -> Result<usize, PublishError> {
        // Everything of the document is there by now, so where there is no more than that, nothing is to go.
        if self.txn.view().len()
            == objects(document, self.overlays) + key_sets::kept(&self.txn.view(), document).count()
        {
            return Ok(0);
        }
        let mut removed = 0;
        for kind in Kind::ALL {
            let kept: HashSet<&str> = match kind {
                Kind::Settings => HashSet::from([SETTINGS]),
                Kind::Route => {
                    document.routes.iter().filter(|route| route.enabled).map(|route| route.name.as_str()).collect()
                }
                Kind::Upstream => document.upstreams.iter().map(|upstream| upstream.name.as_str()).collect(),
                Kind::Limiter => document.limiters.iter().map(|limiter| limiter.name.as_str()).collect(),
                Kind::Auth => document.auth.iter().map(|auth| auth.name.as_str()).collect(),
                Kind::Consumer => document.consumers.iter().map(|consumer| consumer.name.as_str()).collect(),
                Kind::Role => document.roles.iter().map(|role| role.name.as_str()).collect(),
                Kind::List => document.lists.iter().map(|list| list.name.as_str()).collect(),
                Kind::ApiKey => keys(document).map(String::as_str).collect(),
                Kind::KeySet => key_sets::kept(&self.txn.view(), document).collect(),
                Kind::CacheTag => cache_tags(document).into_iter().collect(),
                Kind::Bans => bans_kept(document, self.overlays).into_iter().collect(),
            };
            let gone: Vec<String> =
                self.txn.view().names(kind).filter(|name| !kept.contains(name)).map(str::to_owned).collect();
            for name in gone {
                self.txn.remove(kind, &name)?;
                removed += 1;
            }
        }
        Ok(removed)
    }
}

/// A peer's node as `server` of nginx.conf would say it.
fn server(peer: &PeerEntry) -> String {
    peer.host.as_ref().map_or_else(|| peer.name.clone(), |host| format!("{host}:{}", peer.port))
}

/// The nodes that `peers` are the addresses of; those of one node stand next to one another.
fn members<'s>(peers: &[PeerEntry], servers: &'s [String]) -> Vec<Member<'s>> {
    let mut members: Vec<Member<'_>> = Vec::new();
    for ((peer, server), place) in peers.iter().zip(servers).zip(0..) {
        match members.last_mut().filter(|last| last.server == server) {
            Some(last) => last.count += 1,
            None => {
                let (weight, priority) = (peer.weight, peer.priority);
                members.push(Member { server, weight, priority, first: place, count: 1 });
            }
        }
    }
    members
}

/// The address that a node's host is, where it is no name.
fn literal(host: &str) -> Option<IpAddr> {
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

/// A digest of what an object is made of. It need not withstand an attacker: operators write documents.
pub(super) fn digest(source: &impl Hash) -> u64 {
    let mut hasher = SipHasher13::new();
    source.hash(&mut hasher);
    hasher.finish()
}

fn keys(document: &Document) -> impl Iterator<Item = &String> {
    document.consumers.iter().flat_map(|consumer| &consumer.api_keys)
}

/// The names of what is purged together.
fn cache_tags(document: &Document) -> BTreeSet<&str> {
    let cached = document.routes.iter().filter(|route| route.enabled).filter_map(|route| route.cache.as_ref());
    cached.flat_map(|cache| std::iter::once(PATHS).chain(cache.tags.iter().map(String::as_str))).collect()
}

/// How many objects `document` is.
fn objects(document: &Document, overlays: &Overlays) -> usize {
    let Document { auth, consumers, roles, limiters, upstreams, lists, routes, .. } = document;
    let lists = lists.len() + bans_kept(document, overlays).len();
    let routes = routes.iter().filter(|route| route.enabled).count();
    1 + auth.len()
        + cache_tags(document).len()
        + consumers.len()
        + keys(document).count()
        + roles.len()
        + limiters.len()
        + upstreams.len()
        + lists
        + routes
}
