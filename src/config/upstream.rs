//! `upstreams`, and the parts that routes share with them: retries and timeouts.

use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::document::{HostHeader, Labels, Upstream};
use super::limiter::parse_key;
use super::read::At;
use super::{Context, fallback, scalar};
use crate::balancer::{Algorithm, Ejection, Node, Policy, Retries, RetryOn, Timeouts, WEIGHT_MAX};
use crate::breaker::Breaker;
use crate::limiter::KeyPart;
use crate::overload::{Mode, Overload};
use crate::router::pattern::Host;
use crate::types::SECOND;

mod tls;

pub(super) use tls::check_sni;

/// An upstream is never sent more requests at once unless the document says so.
const OVERLOAD_MAX: u32 = 1_000;

/// Reads an upstream that the tables have checked, and its retries as they are written; `None` where something was
/// reported.
pub(super) fn read(at: &At<'_>, name: String, context: &Context<'_>) -> Option<(Upstream, WrittenRetries)> {
    let (nodes, node_labels) = nodes(at);
    let (policy, hash_on) = policy(at, &nodes);
    let written = at.get("retries").map(|at| WrittenRetries::read(&at));
    let upstream = Upstream {
        name,
        nodes: Some(nodes).filter(|nodes| !nodes.is_empty())?,
        node_labels,
        policy,
        hash_on,
        host: match at.text("host") {
            None | Some("preserve") => HostHeader::Preserve,
            Some(host) => HostHeader::Name(host.to_ascii_lowercase()),
        },
        ejection: ejection(at),
        overload: at.object("overload").map(|at| overload(&at)),
        breaker: at.get("breaker").map(|at| breaker(&at)),
        retries: written.as_ref().map(|written| written.clone().resolve()),
        timeouts: at.get("timeouts").map(|at| timeouts(&at)).unwrap_or_default(),
        tls: at.object("tls").and_then(|at| tls::read(&at, context.secrets)),
        fallback: at.object("fallback").and_then(|at| fallback::read(&at, &context.names.upstreams)),
    };
    tls::check_names(at, &upstream);
    Some((upstream, written.unwrap_or_default()))
}

fn nodes(at: &At<'_>) -> (Vec<Node>, Vec<Labels>) {
    let mut nodes = Vec::new();
    let mut labels = Vec::new();
    let mut seen = HashMap::new();
    let list = at.get("nodes");
    for (index, item) in list.iter().flat_map(At::items).enumerate() {
        let (Some(host), Some(port)) = (item.text("host").and_then(node_host), item.number("port")) else { continue };
        if let Some(first) = seen.insert((host.clone(), port), index) {
            item.error(format!("is the same host and port as nodes[{first}]; give one node a higher weight"));
        }
        nodes.push(Node {
            host,
            port,
            weight: item.number("weight").unwrap_or(1),
            priority: item.number("priority").unwrap_or(0),
        });
        labels.push(item.labels("labels").unwrap_or_default());
    }
    (nodes, labels)
}

fn overload(at: &At<'_>) -> Overload {
    let min = at.number("min").unwrap_or(1);
    let overload = Overload {
        mode: match at.text("mode") {
            Some("enforce") => Mode::Enforce,
            Some("shadow") => Mode::Shadow,
            _ => Mode::Off,
        },
        min,
        max: at.number("max").unwrap_or(OVERLOAD_MAX.max(min)),
        tolerance: at.number("tolerance").unwrap_or(2),
    };
    if let Some(max) = at.get("max").filter(|_| overload.max < min) {
        max.error(format!("must be at least `min`, which is {min}"));
    }
    overload
}

/// What `health.passive`, `outlier` and `max_ejection_percent` say; what is not written is as by default.
fn ejection(at: &At<'_>) -> Ejection {
    let mut ejection = Ejection { most: at.number("max_ejection_percent").unwrap_or(50), ..Ejection::default() };
    let health = at.object("health");
    if let Some(passive) = health.as_ref().and_then(|health| health.object("passive")) {
        ejection.failures = passive.number("failures").unwrap_or(ejection.failures);
        ejection.window = passive.parsed("window", scalar::duration).unwrap_or(ejection.window);
    }
    if let Some(outlier) = at.object("outlier") {
        ejection.consecutive = outlier.number("consecutive_5xx").unwrap_or(5);
        ejection.error_ratio = outlier.parsed("error_ratio", scalar::percentage).unwrap_or(0);
        ejection.minimum_calls = outlier.number("minimum_calls").unwrap_or(ejection.minimum_calls);
        match (outlier.get("error_ratio"), outlier.get("minimum_calls")) {
            (None, Some(calls)) => calls.error("is of use with `error_ratio` alone, which is missing"),
            (Some(ratio), _) if ejection.error_ratio == 0 => ratio.error("must be above 0%"),
            _ => {}
        }
    }
    ejection
}

/// How nodes are chosen, and what is hashed.
fn policy(at: &At<'_>, nodes: &[Node]) -> (Policy, Vec<KeyPart>) {
    let word = at.text("algorithm").unwrap_or("adaptive");
    let algorithm = Algorithm::WORDS.into_iter().find(|(other, _)| *other == word).map(|(_, algorithm)| algorithm);
    let policy = Policy {
        algorithm: algorithm.unwrap_or_default(),
        max_in_flight: at.number("max_in_flight").unwrap_or(0),
        slow_start: at.parsed("slow_start", scalar::duration).unwrap_or(0),
    };
    let hash_on = at.get("hash_on");
    let parts: Vec<KeyPart> =
        hash_on.iter().flat_map(At::items).filter_map(|item| parse_key(item.node.text()?).ok()).collect();
    match (policy.algorithm, &hash_on) {
        (Algorithm::Hash, None) => {
            at.error("needs `hash_on`, such as `[header:x-user]`, where `algorithm` is `hash`");
        }
        (Algorithm::Hash, Some(_)) => {}
        (_, Some(item)) => item.error(format!("has no meaning where `algorithm` is `{word}`; write `algorithm: hash`")),
        (_, None) => {}
    }
    if let Some(list) = &hash_on
        && let Some(index) =
            (1..parts.len()).find(|&index| parts.iter().take(index).any(|part| Some(part) == parts.get(index)))
        && let Some(item) = list.items().nth(index)
    {
        item.error("stands here twice");
    }
    if policy.algorithm == Algorithm::Hash {
        if let Some(item) = at.get("slow_start") {
            item.error("has no meaning where `algorithm` is `hash`: each key would move to another node and back");
        }
        let sum: u64 = nodes.iter().map(|node| u64::from(node.weight)).sum();
        if let (true, Some(item)) = (sum > u64::from(WEIGHT_MAX), at.get("nodes")) {
            item.error(format!(
                "weigh {sum} together; where `algorithm` is `hash` that is at most {WEIGHT_MAX}, as each unit of weight \
                 takes room: divide all weights by one number"
            ));
        }
    }
    (policy, parts)
}

/// Checks one part of what is hashed.
pub(super) fn check_hash_key(text: &str) -> Result<(), String> {
    match parse_key(text)? {
        KeyPart::Global | KeyPart::Upstream => {
            Err(format!("must differ between requests: by `{text}` all of them would go to one node"))
        }
        _ => Ok(()),
    }
}

fn breaker(at: &At<'_>) -> Breaker {
    let span = |name, default| at.parsed(name, scalar::duration).unwrap_or(default);
    let open_for = span("open_for", 30 * SECOND);
    let open_for_max = span("open_for_max", open_for);
    if open_for_max < open_for {
        at.get("open_for_max")
            .as_ref()
            .unwrap_or(at)
            .error("must not be below `open_for`, which is `30s` where none is written");
    }
    let ratio = at.get("failure_ratio");
    if let Some(calls) = at.get("minimum_calls").filter(|_| ratio.is_none()) {
        calls.error("belongs to `failure_ratio`, which is not there");
    }
    Breaker {
        // Whoever writes a share alone means that alone.
        failures: at.number("failures").unwrap_or(if ratio.is_some() { 0 } else { 10 }),
        failure_ratio: at.parsed("failure_ratio", scalar::percentage).unwrap_or(0),
        minimum_calls: at.number("minimum_calls").unwrap_or(20),
        slow_call: span("slow_call", 0),
        window: span("window", 10 * SECOND),
        open_for,
        open_for_max,
        jitter: at.parsed("jitter", scalar::percentage).unwrap_or(0),
        probes: at.number("probes").unwrap_or(5),
        closes_after: at.number("closes_after").unwrap_or(5),
    }
}

/// Reads timeouts that the tables have checked; 0 where nothing is written.
pub(super) fn timeouts(at: &At<'_>) -> Timeouts {
    let span = |name| at.parsed(name, scalar::duration).unwrap_or(0);
    Timeouts { connect: span("connect"), send: span("send"), read: span("read") }
}

/// `near` where it says something, `far` where it does not.
pub(super) fn timeouts_or(near: Timeouts, far: Timeouts) -> Timeouts {
    let or = |near: u64, far: u64| if near > 0 { near } else { far };
    Timeouts { connect: or(near.connect, far.connect), send: or(near.send, far.send), read: or(near.read, far.read) }
}

/// `retries` as far as they are written.
#[derive(Clone, Debug, Default)]
pub(super) struct WrittenRetries {
    attempts: Option<u8>,
    on: Option<RetryOn>,
    idempotent_only: Option<bool>,
    budget: Option<u16>,
    per_try: Option<u64>,
}

impl WrittenRetries {
    /// Reads retries that the tables have checked.
    pub(super) fn read(at: &At<'_>) -> Self {
        Self {
            attempts: at.number("attempts"),
            on: at.texts("on").map(|words| retry_on(&words)),
            idempotent_only: at.text("methods").map(|word| word == "idempotent"),
            budget: at.parsed("budget", scalar::percentage),
            per_try: at.parsed("per_try_timeout", scalar::duration),
        }
    }

    /// This where it says something, `far` where it does not.
    pub(super) fn or(&self, far: &Self) -> Self {
        Self {
            attempts: self.attempts.or(far.attempts),
            on: self.on.or(far.on),
            idempotent_only: self.idempotent_only.or(far.idempotent_only),
            budget: self.budget.or(far.budget),
            per_try: self.per_try.or(far.per_try),
        }
    }

    /// What is not written is as by default.
    pub(super) fn resolve(self) -> Retries {
        let default = Retries::default();
        Retries {
            attempts: self.attempts.unwrap_or(default.attempts),
            on: self.on.unwrap_or(default.on),
            idempotent_only: self.idempotent_only.unwrap_or(default.idempotent_only),
            budget: self.budget.unwrap_or(default.budget),
            per_try: self.per_try.unwrap_or(default.per_try),
        }
    }
}

fn retry_on(words: &[String]) -> RetryOn {
    let has = |word: &str| words.iter().any(|other| other == word);
    let statuses = RetryOn::STATUSES.iter().enumerate().filter(|(_, status)| has(&format!("http_{status}")));
    RetryOn {
        error: has("error"),
        timeout: has("timeout"),
        statuses: statuses.fold(0, |bits, (bit, _)| bits | 1 << bit),
    }
}

/// Checks the `host` of an upstream.
pub(super) fn check_host_header(text: &str) -> Result<(), String> {
    if text == "preserve" {
        return Ok(());
    }
    // Unlike a route's host, this one is sent, so a port may belong to it.
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !host.ends_with(':') && !text.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    if port.is_some_and(|port| !port.parse::<u16>().is_ok_and(|number| number > 0)) {
        return Err("the port must be 1 to 65535".to_owned());
    }
    match Host::parse(host) {
        Ok(Host::Exact(_)) => Ok(()),
        Ok(Host::Any | Host::Wildcard(_)) => Err("must be `preserve` or one host, without a star".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// Checks the `host` of a node.
pub(super) fn check_node_host(text: &str) -> Result<(), String> {
    if node_host(text).is_some() {
        return Ok(());
    }
    if text.contains("://") {
        return Err("must be a host name or an address alone, without `http://`".to_owned());
    }
    match text.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') && port.parse::<u16>().is_ok() => {
            Err(format!("must be without the port; write `port: {port}`"))
        }
        _ => Err("must be a host name or an address".to_owned()),
    }
}

/// A host name in lower case, or an address literal in its one spelling, IPv6 without brackets.
fn node_host(text: &str) -> Option<String> {
    let bare = text.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(text);
    if let Ok(address) = bare.parse::<Ipv6Addr>() {
        return Some(address.to_string());
    }
    if let Ok(address) = text.parse::<Ipv4Addr>() {
        return Some(address.to_string());
    }
    // What looks like an IPv4 address and is none, such as `10.0.0.256` or `010.0.0.1`, is not looked up.
    let is_numeric = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    match Host::parse(text).ok().filter(|_| !is_numeric)? {
        Host::Exact(name) => String::from_utf8(name).ok(),
        Host::Any | Host::Wildcard(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_hosts() {
        for (text, expected) in [
            ("10.0.0.1", Some("10.0.0.1")),
            ("::1", Some("::1")),
            ("[2001:DB8::0:1]", Some("2001:db8::1")),
            ("Orders.Internal.", Some("orders.internal")),
            ("orders_v2", Some("orders_v2")),
            ("10.0.0.256", None),
            ("010.0.0.1", None),
            ("10.0.0.1:80", None),
            ("http://orders", None),
            ("*.internal", None),
            ("*", None),
            ("", None),
            ("a b", None),
            ("unix:/run/x", None),
        ] {
            assert_eq!(node_host(text).as_deref(), expected, "for {text}");
            assert_eq!(check_node_host(text).is_ok(), expected.is_some(), "for {text}");
        }
    }

    #[test]
    fn host_headers() {
        for (text, right) in [
            ("preserve", true),
            ("api.example.com", true),
            ("api.example.com:8443", true),
            ("[::1]:80", true),
            ("[::1]", true),
            ("api.example.com:0", false),
            ("api.example.com:x", false),
            ("*.example.com", false),
            ("*", false),
            ("", false),
            ("a\r\nX: y", false),
        ] {
            assert_eq!(check_host_header(text).is_ok(), right, "for {text:?}");
        }
    }

    #[test]
    fn retries_merge_field_by_field() {
        let words = ["http_500", "http_429", "error"].map(str::to_owned);
        assert_eq!(retry_on(&words), RetryOn { error: true, timeout: false, statuses: 0b100_0001 });

        let near = WrittenRetries { attempts: Some(3), ..Default::default() };
        let far = WrittenRetries { attempts: Some(5), budget: Some(100), ..Default::default() };
        let merged = near.or(&far).resolve();
        assert_eq!((merged.attempts, merged.budget, merged.idempotent_only), (3, 100, true));
        assert_eq!(WrittenRetries::default().resolve(), Retries::default());
    }
}
