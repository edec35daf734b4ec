//! The document once it is checked: nothing here can be wrong, nothing is left to look up.

use crate::cache::Cache;
use crate::cors::Cors;
use crate::lists::{Ban, List, Range};
use crate::router::pattern::Rule;
use crate::router::settings::{Answer, Condition, StaticReply, Template};
use crate::types::{Methods, Protocol};
use crate::{auth, balancer, breaker, canary, limiter};

/// Free texts, in the order of names: name, text.
pub type Labels = Vec<(String, String)>;

/// A checked document. `defaults` are folded into the routes, references lead somewhere, and objects that stood in
/// the place of a name have a made one, such as `orders/limits[0]`.
///
/// Names are unique within a list. Lists are in the order of the document, made objects after the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// Always 1.
    pub version: u32,
    /// Ways to authenticate.
    pub auth: Vec<auth::Auth>,
    /// Known callers.
    pub consumers: Vec<Consumer>,
    /// Named sets of permissions.
    pub roles: Vec<Role>,
    /// Limiters.
    pub limiters: Vec<limiter::Limiter>,
    /// Upstreams.
    pub upstreams: Vec<Upstream>,
    /// Sets of addresses.
    pub lists: Vec<List>,
    /// Addresses that are refused before anything else.
    pub bans: Vec<Ban>,
    /// Routes.
    pub routes: Vec<Route>,
}

/// A known caller.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Consumer {
    /// 1 to `NAME_MAX` bytes; what tokens call it.
    pub name: String,
    /// The SHA-256 of each of its API keys, 64 hexadecimal digits in lower case; nobody else has one of them.
    pub api_keys: Vec<String>,
    /// What it may do, with wildcards.
    pub permissions: Vec<String>,
    /// Names of roles that exist.
    pub roles: Vec<String>,
    /// Its priority; 0 where none is written.
    pub priority: i32,
    /// Free texts.
    pub labels: Labels,
    /// Whether it is let in at all.
    pub enabled: bool,
}

/// A named set of permissions.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Role {
    /// 1 to `NAME_MAX` bytes.
    pub name: String,
    /// What it permits, with wildcards.
    pub permissions: Vec<String>,
}

/// Servers that do the same, and how they are treated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// Its name, or a made one.
    pub name: String,
    /// At least one; no two with the same host and port.
    pub nodes: Vec<balancer::Node>,
    /// The labels of each of `nodes`, in the same order.
    pub node_labels: Vec<Labels>,
    /// How a node is chosen.
    pub policy: balancer::Policy,
    /// What `hash` hashes; empty for the other algorithms.
    pub hash_on: Vec<limiter::KeyPart>,
    /// The `Host` that is sent.
    pub host: HostHeader,
    /// When a node is left alone for a while.
    pub ejection: balancer::Ejection,
    /// How much it is sent at once.
    pub overload: Option<crate::overload::Overload>,
    /// Its breaker, if it has one.
    pub breaker: Option<breaker::Breaker>,
    /// Retries as written here, what is not written as by default; `None` where nothing is written. Routes carry
    /// the resolved ones.
    pub retries: Option<balancer::Retries>,
    /// Timeouts as written here, microseconds; 0 = not written. Routes carry the resolved ones.
    pub timeouts: balancer::Timeouts,
    /// The fallback as written here. Routes carry the resolved ones.
    pub fallback: Option<Fallback>,
    /// TLS towards its nodes; `None` = plain HTTP.
    pub tls: Option<balancer::Tls>,
}

/// What a client gets where the upstream cannot serve: its breaker is open, no node is left, no try has come to an
/// answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Fallback {
    /// This answer.
    Reply(StaticReply),
    /// What this upstream says, whose own fallback does not count.
    Upstream(String),
    /// What nginx's cache still has.
    Stale,
}

/// The `Host` header that an upstream is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostHeader {
    /// The client's.
    Preserve,
    /// This one, lower case; a port where one is written.
    Name(String),
}

/// Whom a request reaches, and on which conditions.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Route {
    /// Its name.
    pub name: String,
    /// Each of its hosts with each of its paths; at least one.
    pub rules: Vec<Rule>,
    /// The methods it accepts.
    pub methods: Methods,
    /// Higher goes first within a host.
    pub priority: i32,
    /// Whether it takes part in routing.
    pub enabled: bool,
    /// What must hold of a request beside all that; at most 16.
    pub conditions: Vec<Condition>,
    /// The name of an upstream that exists; `None` where `answer` is there, else policy alone.
    pub upstream: Option<String>,
    /// What is answered without an upstream; never together with one.
    pub answer: Option<Answer>,
    /// The decoded path that is forwarded instead of the matched one; its parameters are those of each of `rules`.
    pub rewrite: Option<Template>,
    /// The most bytes that a request's body may have; `None` = as the server says.
    pub max_body: Option<u64>,
    /// The named location of nginx.conf, `@name`, that passes its requests on.
    pub location: Option<String>,
    /// Request headers to set: name as written, value; their parameters are those of each of `rules`.
    pub headers: Vec<(String, Template)>,
    /// Which variant serves a request; `None` = all go to `upstream`. Never without that.
    pub canary: Option<Canary>,
    /// What browsers of other origins may do; `None` = we add nothing.
    pub cors: Option<Cors>,
    /// What is answered from what was answered before; `None` = nothing.
    pub cache: Option<Cache>,
    /// Who may come; empty = everybody.
    pub allow: Sources,
    /// Who may not; it goes before `allow`.
    pub deny: Sources,
    /// Names of `auth` entries that exist, any of which will do; empty = everybody may.
    pub auth: Vec<String>,
    /// What the caller must be permitted; `None` = nothing.
    pub permissions: Option<Permissions>,
    /// Names of limiters that exist, in the order in which they are asked.
    pub limits: Vec<String>,
    /// How many requests it lets in at a time, over all workers; `None` = any number.
    pub max_in_flight: Option<u32>,
    /// Microseconds, by route, else upstream, else defaults; 0 = nginx's own setting stays.
    pub timeouts: balancer::Timeouts,
    /// By route, else upstream, else defaults, else built in; field by field.
    pub retries: balancer::Retries,
    /// By route, else upstream, else defaults; `None` also where there is no upstream, or a canary, whose variants each
    /// have their own.
    pub fallback: Option<Fallback>,
    /// Whether the literal beginning of the path is taken off before it is forwarded.
    pub strip_prefix: bool,
    /// How strange paths are treated.
    pub path_policy: PathPolicy,
    /// What may be spoken.
    pub protocols: Protocols,
    /// Free texts.
    pub labels: Labels,
}

/// Variants of a service, and how one is chosen.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Canary {
    /// 2 to `VARIANTS_MAX`, with names of their own; the first is the baseline, the last the candidate.
    pub variants: Vec<Variant>,
    /// How one is chosen.
    pub rules: canary::Rules,
    /// What a caller must be permitted for an override to count; `None` = nothing.
    pub permission: Option<Permissions>,
    /// How the candidate is promoted; it has no weight then.
    pub promote: Option<canary::Promote>,
    /// Who is sent a copy of its requests.
    pub mirror: Option<Mirror>,
}

/// Who is sent a copy of a route's requests.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Mirror {
    /// The name of an upstream.
    pub upstream: String,
    /// Of how many requests among 10,000, 1 to 10,000.
    pub share: u16,
}

/// One version of a service.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Variant {
    /// Its name.
    pub name: String,
    /// Its share, relative to the others'; not 0 for all.
    pub weight: u32,
    /// The name of an upstream that exists.
    pub upstream: String,
    /// Microseconds, by variant, else route, else upstream, else defaults; 0 = nginx's own setting stays.
    pub timeouts: balancer::Timeouts,
    /// Likewise, else built in; field by field.
    pub retries: balancer::Retries,
    /// By variant, else route, else upstream, else defaults.
    pub fallback: Option<Fallback>,
}

/// Addresses written out, and lists of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Sources {
    /// In order, without overlap.
    pub ranges: Vec<Range>,
    /// Names of lists that exist, each once.
    pub lists: Vec<String>,
}

impl Sources {
    /// Whether nothing is written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty() && self.lists.is_empty()
    }
}

/// What a route requires of a caller: `{all, required}`.
pub type Permissions = auth::Requirement;

/// How strange paths are treated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum PathPolicy {
    /// Refuses what changes meaning on the way.
    #[default]
    Normal,
    /// Also refuses what some servers read differently.
    Strict,
}

/// A set of protocols.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Protocols {
    /// Plain HTTP.
    pub http: bool,
    /// WebSocket.
    pub websocket: bool,
    /// gRPC.
    pub grpc: bool,
}

impl Protocols {
    /// Every protocol: what a route has that says nothing.
    pub const ALL: Self = Self { http: true, websocket: true, grpc: true };
    /// None.
    pub const NONE: Self = Self { http: false, websocket: false, grpc: false };

    /// Whether `protocol` is in the set.
    #[must_use]
    pub const fn contains(self, protocol: Protocol) -> bool {
        match protocol {
            Protocol::Http => self.http,
            Protocol::WebSocket => self.websocket,
            Protocol::Grpc => self.grpc,
        }
    }
}
