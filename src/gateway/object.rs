//! What the tree stores: the document's resources with names turned into ids, so that a request follows numbers.

use rkyv::with::Niche;
use rkyv::{Archive, Deserialize, Serialize};

use crate::auth::{Auth, Grants, Jwks, Key, Requirement};
use crate::balancer::{Ejection, Node, Policy, Retries, Timeouts, Tls, asked_name};
use crate::breaker::Breaker;
use crate::cache::Cache;
use crate::canary::{Promote, Rules};
use crate::config::Labels;
use crate::cors::Cors;
use crate::limiter::{KeyPart, Limiter};
use crate::lists::{Bans, Set};
use crate::overload::Overload;
use crate::router::settings::{Answer, Condition, StaticReply, Template};
use crate::types::{Id, Kind, Object};

/// A route.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct Route {
    /// Its name.
    pub name: String,
    /// Where it goes; `Id::NONE` = policy alone.
    pub upstream: Id,
    /// Any of these lets a request in; empty = everybody may.
    pub auth: Vec<Id>,
    /// What the caller must be permitted.
    pub permissions: Option<Requirement>,
    /// Limiters that need no identity, then those that do.
    pub limits: Vec<Id>,
    /// How many of `limits` are asked before auth.
    pub early: u32,
    /// How many requests it lets in at a time.
    pub in_flight: Option<InFlight>,
    /// Upstream timeouts.
    pub timeouts: Timeouts,
    /// Retry rules.
    pub retries: Retries,
    /// For each rule the length of the literal prefix to take off the path; empty = the path stays.
    pub strip: Vec<u32>,
    /// For each rule the names of its path parameters, in the order of the captures.
    pub parameters: Vec<Vec<String>>,
    /// Whether plain HTTP, WebSocket, gRPC may be spoken.
    pub protocols: [bool; 3],
    /// Whether paths that some servers read differently are refused.
    pub strict: bool,
    /// What must hold of a request beside host, path and method.
    pub conditions: Vec<Condition>,
    /// Who may not come …
    #[rkyv(with = Niche)]
    pub deny: Option<Box<Addresses>>,
    /// … and who alone may.
    #[rkyv(with = Niche)]
    pub allow: Option<Box<Addresses>>,
    /// Which variant serves a request, instead of `upstream`.
    #[rkyv(with = Niche)]
    pub canary: Option<Box<Canary>>,
    /// What browsers of other origins may do.
    #[rkyv(with = Niche)]
    pub cors: Option<Box<Cors>>,
    /// What is answered from what was answered before; a word beside the route counts its purges.
    #[rkyv(with = Niche)]
    pub cache: Option<Box<Cached>>,
    /// What is answered without an upstream.
    #[rkyv(with = Niche)]
    pub answer: Option<Box<Answer>>,
    /// What is done where the upstream cannot serve.
    #[rkyv(with = Niche)]
    pub fallback: Option<Box<Fallback>>,
    /// The decoded path that is forwarded instead of the matched one.
    #[rkyv(with = Niche)]
    pub rewrite: Option<Box<Template>>,
    /// The most bytes of a body; `None` = as the server says.
    pub max_body: Option<u64>,
    /// The named location that passes its requests on.
    #[rkyv(with = Niche)]
    pub location: Option<Box<String>>,
    /// Headers to set on the forwarded request.
    pub headers: Vec<(String, Template)>,
    /// Free texts.
    pub labels: Labels,
}

/// A route's cache.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct Cached {
    /// What the document says.
    pub cache: Cache,
    /// The objects whose words count purges: that of all paths, then that of each tag.
    pub tags: Vec<Id>,
}

/// What is purged together: all that has a tag, by one word beside this, or paths, by one for each group of them.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct CacheTag {
    /// How many words there are.
    pub words: u32,
}

/// The name under which the words of paths are stored; no tag has it.
pub const PATHS: &str = "/";

/// Variants of a service, and how one is chosen.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct Canary {
    /// At least two; the first is the baseline, the last the candidate.
    pub variants: Vec<Variant>,
    /// How one is chosen.
    pub rules: Rules,
    /// What a caller must be permitted for an override to count.
    pub permission: Option<Requirement>,
    /// How the candidate is promoted.
    pub promote: Option<Promote>,
    /// Who is sent a copy, …
    pub mirror: Option<Id>,
    /// … of how many among 10,000 requests.
    pub mirror_share: u16,
}

/// One version of a service.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct Variant {
    /// Its name.
    pub name: String,
    /// What it is counted by.
    pub key: u64,
    /// Its share, relative to the others'.
    pub weight: u32,
    /// Where it goes.
    pub upstream: Id,
    /// Timeouts towards it.
    pub timeouts: Timeouts,
    /// Retry rules.
    pub retries: Retries,
    /// What is done where it cannot serve.
    #[rkyv(with = Niche)]
    pub fallback: Option<Box<Fallback>>,
}

/// How many requests at a time, and where they are counted.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub struct InFlight {
    /// So many.
    pub most: u32,
    /// The slot in the table of places …
    pub slot: u32,
    /// … and the key that must stand there.
    pub key: u64,
}

/// Addresses written out, and lists of them.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct Addresses {
    /// Those written out.
    pub set: Set,
    /// The lists.
    pub lists: Vec<Id>,
}

/// An upstream.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct Upstream {
    /// Its name.
    pub name: String,
    /// How a peer is chosen.
    pub policy: Policy,
    /// What `hash` hashes; empty for the other algorithms.
    pub hash_on: Vec<KeyPart>,
    /// The `Host` that peers are sent; `None` = the client's.
    pub host: Option<String>,
    /// The peers, in the order of the pick table.
    pub peers: Vec<PeerEntry>,
    /// Its slot in the table of upstreams.
    pub slot: u32,
    /// When a peer is left alone for a while.
    pub ejection: Ejection,
    /// How much it is sent at once.
    #[rkyv(with = Niche)]
    pub overload: Option<Box<LoadPlace>>,
    /// The breaker.
    pub breaker: Option<Breaker>,
    /// The breaker's slot in the table, where there is a breaker.
    pub breaker_slot: u32,
    /// What the document says of it beside: its nodes, of which `peers` are the addresses, …
    pub nodes: Vec<Node>,
    /// … the labels of each, …
    pub node_labels: Vec<Labels>,
    /// … and what routes inherit.
    pub retries: Option<Retries>,
    /// Likewise.
    pub timeouts: Timeouts,
    /// Likewise.
    #[rkyv(with = Niche)]
    pub fallback: Option<Box<Fallback>>,
    /// TLS towards the peers; `None` = plain HTTP.
    pub tls: Option<Tls>,
    /// [`Tls::identity`]; 0 = plain HTTP.
    pub tls_identity: u64,
}

/// What is done where an upstream cannot serve.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub enum Fallback {
    /// This is answered.
    Reply(StaticReply),
    /// This upstream serves.
    Upstream(Id),
    /// nginx's cache may serve what is stale.
    Stale,
}

impl ArchivedUpstream {
    /// The name that is asked of `peer` in a TLS handshake and verified; `None` where only its address is known.
    #[must_use]
    pub fn server_name<'a>(&'a self, peer: &'a ArchivedPeerEntry) -> Option<&'a str> {
        let settings = self.tls.as_ref()?;
        asked_name(settings.sni.as_deref(), self.host.as_deref(), peer.host.as_deref())
    }
}

/// How much an upstream is sent at once, and where that is counted.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq)]
pub struct LoadPlace {
    /// What the document says.
    pub settings: Overload,
    /// Index of the slot, …
    pub slot: u32,
    /// … and its key; 0 = it is not counted.
    pub key: u64,
}

/// One address of one node.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct PeerEntry {
    /// `10.0.0.1:8080`, `[::1]:8080`: what `$upstream_addr` shows.
    pub name: String,
    /// The host name that it was found under; `None` where the document names the address.
    pub host: Option<String>,
    /// The address, IPv4 as v4-mapped.
    pub address: [u8; 16],
    /// The TCP port.
    pub port: u16,
    /// Static weight.
    pub weight: u32,
    /// 0 serves first.
    pub priority: u8,
    /// The peer's slot in the statistics table …
    pub slot: u32,
    /// … and the key that must stand there.
    pub key: u64,
    /// What a kept connection must be to be used for it ([`crate::balancer::connection`]); 0 = plain HTTP.
    pub connection: u64,
}

/// A known caller.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct Consumer {
    /// What it may do, with wildcards.
    pub permissions: Grants,
    /// Its roles.
    pub roles: Vec<Id>,
    /// Whether it is let in at all.
    pub enabled: bool,
    /// Its priority.
    pub priority: i32,
    /// Free texts.
    pub labels: Labels,
}

/// An API key, stored under the hexadecimal SHA-256 of what clients send.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct ApiKey {
    /// Whose it is.
    pub consumer: Id,
}

/// The keys that a `jwt` entry fetched, stored under the entry's name. Beside it stand two words that change: whether
/// somebody met a token whose `kid` is not among them, and when the set was last confirmed (wall clock, microseconds).
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct FetchedKeys {
    /// Where they come from; an entry that names another place has no keys.
    pub source: Jwks,
    /// At least one.
    pub keys: Vec<Key>,
}

/// A named set of permissions.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct Role {
    /// What it permits, with wildcards.
    pub permissions: Grants,
}

/// What holds for every request.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct Settings {
    /// Headers that only an `auth` entry may set: lower case, dashes for underscores, sorted.
    pub reserved: Vec<String>,
}

/// The name under which [`Settings`] are stored.
pub const SETTINGS: &str = "settings";

/// The name under which [`Bans`] are stored; there is no such object where nobody is banned.
pub const BANS: &str = "bans";
/// … and of those that the document says, where more are laid over it.
pub const WRITTEN_BANS: &str = "bans/written";

impl Object for Route {
    const KIND: Kind = Kind::Route;
}

impl Object for Upstream {
    const KIND: Kind = Kind::Upstream;
}

impl Object for Limiter {
    const KIND: Kind = Kind::Limiter;
}

impl Object for Auth {
    const KIND: Kind = Kind::Auth;
}

impl Object for Consumer {
    const KIND: Kind = Kind::Consumer;
}

impl Object for ApiKey {
    const KIND: Kind = Kind::ApiKey;
}

impl Object for FetchedKeys {
    const KIND: Kind = Kind::KeySet;
}

impl Object for CacheTag {
    const KIND: Kind = Kind::CacheTag;
}

impl Object for Role {
    const KIND: Kind = Kind::Role;
}

impl Object for Settings {
    const KIND: Kind = Kind::Settings;
}

impl Object for Set {
    const KIND: Kind = Kind::List;
}

impl Object for Bans {
    const KIND: Kind = Kind::Bans;
}
