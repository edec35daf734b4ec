//! The document as the simulator knows it: what it writes for the gateway, and what it holds the gateway to.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::random::Random;

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Document {
    pub limiters: BTreeMap<String, Limiter>,
    pub upstreams: BTreeMap<String, Upstream>,
    pub routes: BTreeMap<String, Route>,
    /// How many consumers there are, each with an API key.
    pub consumers: u32,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Limiter {
    pub key: Key,
    /// `count` tokens come back in `per` seconds (1, 60 or 3,600) …
    pub count: u32,
    pub per: u32,
    /// … into a bucket of so many.
    pub burst: u32,
    pub cost: u32,
    pub shadow: bool,
}

/// What a limiter tells requests apart by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    Ip,
    Consumer,
    Route,
    Global,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Upstream {
    pub algorithm: &'static str,
    pub nodes: Vec<Node>,
    pub breaker: Option<Breaker>,
    pub attempts: u32,
    /// Per cent.
    pub budget: u32,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Which of the simulated servers it is.
    pub server: u32,
    pub weight: u32,
    pub priority: u32,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Breaker {
    /// 0 = their number does not count.
    pub failures: u32,
    /// Per cent; 0 = their share does not count.
    pub ratio: u32,
    pub minimum_calls: u32,
    /// Milliseconds; 0 = however slow.
    pub slow_call: u32,
    /// Seconds.
    pub window: u32,
    pub open_for: u32,
    pub open_for_max: u32,
    /// Per cent.
    pub jitter: u32,
    pub probes: u32,
    pub closes_after: u32,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    pub upstream: String,
    pub limits: Vec<String>,
    /// Whether it wants an API key.
    pub guarded: bool,
    /// Milliseconds until a try without an answer is given up.
    pub timeout: u32,
    /// So many requests at a time; 0 = as many as come.
    pub max_in_flight: u32,
}

/// The API key of a consumer.
pub fn api_key(consumer: u32) -> String {
    format!("a-key-for-the-consumer-{consumer:08}")
}

/// The address of a server.
pub fn address(server: u32) -> String {
    format!("10.1.{}.{}:8080", server / 200, server % 200 + 1)
}

/// The server behind an address.
pub fn server_at(address: &str) -> Option<u32> {
    let mut parts = address.strip_suffix(":8080")?.strip_prefix("10.1.")?.split('.');
    let (high, low): (u32, u32) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    Some(high * 200 + low.checked_sub(1)?)
}

impl Key {
    const fn word(self) -> &'static str {
        match self {
            Self::Ip => "ip",
            Self::Consumer => "consumer",
            Self::Route => "route",
            Self::Global => "global",
        }
    }
}

impl Document {
    /// The document in YAML.
    pub fn text(&self) -> String {
        let mut text = String::from("version: 1\nauth: [{name: keys, api_key: {header: x-key}}]\n");
        self.write(&mut text).unwrap_or_default();
        text
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        section(out, "consumers", self.consumers > 0)?;
        for consumer in 0..self.consumers {
            let digest = gateway::auth::digest(api_key(consumer).as_bytes());
            let digest = std::str::from_utf8(&digest).unwrap_or_default();
            writeln!(out, "  - {{name: c{consumer}, api_key: \"sha256:{digest}\"}}")?;
        }
        section(out, "limiters", !self.limiters.is_empty())?;
        for (name, limiter) in &self.limiters {
            let Limiter { key, count, per, burst, cost, shadow } = limiter;
            let unit = match per {
                1 => 's',
                60 => 'm',
                _ => 'h',
            };
            let mode = if *shadow { ", mode: shadow" } else { "" };
            writeln!(
                out,
                "  - {{name: {name}, key: [{}], rate: {count}/{unit}, burst: {burst}, cost: {cost}{mode}}}",
                key.word()
            )?;
        }
        section(out, "upstreams", !self.upstreams.is_empty())?;
        for (name, upstream) in &self.upstreams {
            upstream.write(name, out)?;
        }
        section(out, "routes", !self.routes.is_empty())?;
        for (name, route) in &self.routes {
            let auth = if route.guarded { ", auth: [keys]" } else { "" };
            let room = match route.max_in_flight {
                0 => String::new(),
                most => format!(", max_in_flight: {most}"),
            };
            writeln!(
                out,
                "  - {{name: {name}, paths: [\"/{name}/*\"], upstream: {}, limits: [{}], timeouts: {{connect: 1s, read: \
                 {}ms}}{auth}{room}}}",
                route.upstream,
                route.limits.join(", "),
                route.timeout
            )?;
        }
        Ok(())
    }

    /// One change as somebody at a keyboard makes it, and what it was.
    pub fn edit(&mut self, random: &mut Random, next: &mut u32) -> String {
        let mut fresh = || {
            *next += 1;
            *next
        };
        let upstreams: Vec<String> = self.upstreams.keys().cloned().collect();
        let routes: Vec<String> = self.routes.keys().cloned().collect();
        let limiters: Vec<String> = self.limiters.keys().cloned().collect();
        let Some(upstream) = random.pick(&upstreams) else { return String::new() };
        match random.below(9) {
            0 => {
                let name = format!("r{}", fresh());
                let limits = random.pick(&limiters).filter(|_| random_half(upstream)).cloned();
                let route = Route {
                    upstream: upstream.clone(),
                    limits: limits.into_iter().collect(),
                    guarded: false,
                    timeout: random.between(200, 2_000) as u32,
                    max_in_flight: random.pick(&[0, 0, 3, 20]).copied().unwrap_or(0),
                };
                self.routes.insert(name.clone(), route);
                format!("route {name} to {upstream}")
            }
            1 if routes.len() > 2 => {
                let Some(name) = random.pick(&routes) else { return String::new() };
                self.routes.remove(name);
                format!("no route {name}")
            }
            2 => {
                let Some(found) = self.upstreams.get_mut(upstream) else { return String::new() };
                let server = fresh() + 100;
                found.nodes.push(Node { server, weight: random.between(1, 4) as u32, priority: 0 });
                format!("{upstream} gets server {server}")
            }
            3 => match self.upstreams.get_mut(upstream) {
                Some(found) if found.nodes.len() > 1 => {
                    let gone = found.nodes.remove(random.below(found.nodes.len() as u64) as usize);
                    format!("{upstream} loses server {}", gone.server)
                }
                _ => String::new(),
            },
            4 => {
                let Some(found) = self.upstreams.get_mut(upstream) else { return String::new() };
                let index = random.below(found.nodes.len() as u64) as usize;
                let Some(node) = found.nodes.get_mut(index) else { return String::new() };
                node.weight = random.between(1, 5) as u32;
                format!("server {} of {upstream} weighs {}", node.server, node.weight)
            }
            5 => {
                let name = format!("u{}", fresh());
                let nodes = (0..random.between(1, 4)).map(|_| Node { server: fresh() + 100, weight: 1, priority: 0 });
                let like = self.upstreams.get(upstream).cloned();
                let Some(like) = like else { return String::new() };
                let added = Upstream { nodes: nodes.collect(), ..like };
                self.upstreams.insert(name.clone(), added);
                // Somebody goes there at once.
                if let Some(route) = random.pick(&routes).and_then(|name| self.routes.get_mut(name)) {
                    route.upstream.clone_from(&name);
                }
                format!("upstream {name}")
            }
            6 if upstreams.len() > 1 => {
                let Some(other) = upstreams.iter().find(|name| *name != upstream) else { return String::new() };
                self.upstreams.remove(upstream);
                for route in self.routes.values_mut().filter(|route| route.upstream == *upstream) {
                    route.upstream.clone_from(other);
                }
                format!("no upstream {upstream}: its routes go to {other}")
            }
            7 => {
                let Some((name, limiter)) =
                    random.pick(&limiters).and_then(|name| Some((name, self.limiters.get_mut(name)?)))
                else {
                    return String::new();
                };
                limiter.count = random.between(1, 60) as u32;
                limiter.burst = random.between(u64::from(limiter.cost), 30) as u32;
                format!("limiter {name}: {} per {} s, burst {}", limiter.count, limiter.per, limiter.burst)
            }
            _ => {
                let Some(route) = random.pick(&routes).and_then(|name| self.routes.get_mut(name)) else {
                    return String::new();
                };
                route.timeout = random.between(200, 2_000) as u32;
                match random.pick(&limiters) {
                    Some(limit) if !route.limits.contains(limit) && route.limits.len() < 3 => {
                        // Only who is known can be counted as a consumer.
                        let keyed = self.limiters.get(limit).is_some_and(|limiter| limiter.key == Key::Consumer);
                        if !keyed || route.guarded {
                            route.limits.push(limit.clone());
                        }
                    }
                    _ => {
                        route.limits.pop();
                    }
                }
                "limits and timeout of a route".to_owned()
            }
        }
    }
}

fn random_half(name: &str) -> bool {
    name.len().is_multiple_of(2)
}

fn section(out: &mut String, name: &str, any: bool) -> std::fmt::Result {
    if any { writeln!(out, "{name}:") } else { writeln!(out, "{name}: []") }
}

impl Upstream {
    fn write(&self, name: &str, out: &mut String) -> std::fmt::Result {
        let hash_on = if self.algorithm == "hash" { "\n    hash_on: [ip]" } else { "" };
        write!(out, "  - name: {name}\n    algorithm: {}{hash_on}\n    nodes: [", self.algorithm)?;
        for (index, node) in self.nodes.iter().enumerate() {
            let Node { server, weight, priority } = node;
            let address = address(*server);
            let (host, port) = address.split_once(':').unwrap_or_default();
            let comma = if index == 0 { "" } else { ", " };
            write!(out, "{comma}{{host: {host}, port: {port}, weight: {weight}, priority: {priority}}}")?;
        }
        writeln!(out, "]\n    retries: {{attempts: {}, budget: {}%}}", self.attempts, self.budget)?;
        if let Some(breaker) = &self.breaker {
            breaker.write(out)?;
        }
        Ok(())
    }
}

impl Breaker {
    fn write(&self, out: &mut String) -> std::fmt::Result {
        let Self { failures, ratio, minimum_calls, slow_call, window, open_for, open_for_max, jitter, .. } = self;
        write!(out, "    breaker: {{window: {window}s, open_for: {open_for}s, open_for_max: {open_for_max}s, ")?;
        write!(out, "jitter: {jitter}%, probes: {}, closes_after: {}", self.probes, self.closes_after)?;
        if *failures > 0 {
            write!(out, ", failures: {failures}")?;
        }
        if *ratio > 0 {
            write!(out, ", failure_ratio: {ratio}%, minimum_calls: {minimum_calls}")?;
        }
        if *slow_call > 0 {
            write!(out, ", slow_call: {slow_call}ms")?;
        }
        writeln!(out, "}}")
    }
}
