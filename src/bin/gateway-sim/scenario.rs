//! Scenarios, as data: who asks, what goes wrong and how often.

use std::collections::BTreeMap;

use crate::document::{Breaker, Document, Key, Limiter, Node, Route, Upstream};
use crate::random::Random;

pub struct Scenario {
    pub name: &'static str,
    pub about: &'static str,
    /// How long it goes on before all is well again, seconds.
    pub seconds: u64,
    /// Fewest and most workers.
    pub workers: (u64, u64),
    pub upstreams: u64,
    /// Fewest and most nodes of an upstream.
    pub nodes: (u64, u64),
    pub algorithms: &'static [&'static str],
    pub crowds: &'static [Crowd],
    pub turmoil: Turmoil,
}

/// Clients that are alike. They do not wait for answers: what is slow does not slow them.
pub struct Crowd {
    /// Requests a second of all of them.
    pub rate: f64,
    /// How many addresses they come from.
    pub addresses: u32,
    /// How many consumers' API keys they show; 0 = none.
    pub consumers: u32,
    /// How many requests come at once.
    pub burst: u32,
}

/// How often something happens, times a minute.
#[derive(Clone, Copy)]
pub struct Turmoil {
    pub kills: f64,
    pub reloads: f64,
    pub edits: f64,
    pub beheadings: f64,
    pub steps: f64,
    pub troubles: f64,
    pub forces: f64,
}

const QUIET: Turmoil =
    Turmoil { kills: 0.0, reloads: 0.0, edits: 0.0, beheadings: 0.0, steps: 0.0, troubles: 0.0, forces: 0.0 };

const USUAL: &[Crowd] = &[
    Crowd { rate: 80.0, addresses: 40, consumers: 0, burst: 1 },
    Crowd { rate: 40.0, addresses: 10, consumers: 6, burst: 1 },
    Crowd { rate: 2.0, addresses: 4, consumers: 2, burst: 25 },
];

/// Those that the document knows; each upstream gets one of them.
const ALGORITHMS: &[&str] = &["adaptive", "adaptive", "round_robin", "least_conn", "p2c_ewma", "hash", "random"];

pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "chaos",
        about: "everything at once",
        seconds: 60,
        workers: (1, 6),
        upstreams: 3,
        nodes: (1, 5),
        algorithms: ALGORITHMS,
        crowds: USUAL,
        turmoil: Turmoil {
            kills: 8.0,
            reloads: 4.0,
            edits: 30.0,
            beheadings: 4.0,
            steps: 4.0,
            troubles: 20.0,
            forces: 2.0,
        },
    },
    Scenario {
        name: "calm",
        about: "nothing goes wrong: shares are as the weights say, nobody is refused in error",
        seconds: 30,
        workers: (2, 4),
        upstreams: 2,
        nodes: (3, 5),
        algorithms: ALGORITHMS,
        crowds: USUAL,
        turmoil: QUIET,
    },
    Scenario {
        name: "kills",
        about: "workers and leaders die all the time",
        seconds: 60,
        workers: (2, 8),
        upstreams: 2,
        nodes: (2, 3),
        algorithms: ALGORITHMS,
        crowds: USUAL,
        turmoil: Turmoil { kills: 80.0, reloads: 4.0, beheadings: 20.0, troubles: 12.0, ..QUIET },
    },
    Scenario {
        name: "edits",
        about: "the document changes twice a second: objects come and go, memory comes back",
        seconds: 60,
        workers: (2, 4),
        upstreams: 3,
        nodes: (2, 4),
        algorithms: ALGORITHMS,
        crowds: USUAL,
        turmoil: Turmoil { edits: 120.0, reloads: 6.0, beheadings: 4.0, kills: 4.0, ..QUIET },
    },
    Scenario {
        name: "outage",
        about: "servers fail in every way: breakers, retries, ejections",
        seconds: 120,
        workers: (2, 4),
        upstreams: 3,
        nodes: (1, 4),
        algorithms: ALGORITHMS,
        crowds: USUAL,
        turmoil: Turmoil { troubles: 60.0, kills: 2.0, forces: 2.0, ..QUIET },
    },
    Scenario {
        name: "limits",
        about: "few keys under heavy fire, clocks that differ and step",
        seconds: 60,
        workers: (2, 8),
        upstreams: 1,
        nodes: (2, 3),
        algorithms: ALGORITHMS,
        crowds: &[
            Crowd { rate: 150.0, addresses: 5, consumers: 0, burst: 1 },
            Crowd { rate: 100.0, addresses: 3, consumers: 3, burst: 1 },
            Crowd { rate: 4.0, addresses: 2, consumers: 2, burst: 40 },
        ],
        turmoil: Turmoil { kills: 10.0, reloads: 6.0, edits: 10.0, steps: 30.0, ..QUIET },
    },
];

impl Scenario {
    pub fn named(name: &str) -> Option<&'static Self> {
        SCENARIOS.iter().find(|scenario| scenario.name == name)
    }

    /// The document that a run begins and ends with.
    pub fn document(&self, random: &mut Random) -> Document {
        let mut document = Document { consumers: 8, ..Document::default() };
        let keys =
            [("per-ip", Key::Ip), ("per-consumer", Key::Consumer), ("per-route", Key::Route), ("all", Key::Global)];
        for (name, key) in keys {
            let wide = matches!(key, Key::Route | Key::Global);
            let per = random.pick(&[1, 1, 60]).copied().unwrap_or(1);
            let (low, high) = if wide { (20, 200) } else { (1, 20) };
            let limiter = Limiter {
                key,
                count: random.between(low, high) as u32 * if per == 60 { 20 } else { 1 },
                per,
                burst: random.between(low, high) as u32 + 2,
                cost: random.pick(&[1, 1, 1, 2, 3]).copied().unwrap_or(1),
                shadow: random.chance(0.15),
            };
            document.limiters.insert(name.to_owned(), limiter);
        }
        let mut server = 0;
        for index in 0..self.upstreams {
            let count = random.between(self.nodes.0, self.nodes.1);
            let nodes = (0..count).map(|place| {
                server += 1;
                let priority = u32::from(count > 2 && place + 1 == count && random.chance(0.3));
                Node { server, weight: random.pick(&[1, 1, 2, 3]).copied().unwrap_or(1), priority }
            });
            let nodes = nodes.collect();
            let breaker = random.chance(0.8).then(|| breaker(random));
            let upstream = Upstream {
                algorithm: random.pick(self.algorithms).copied().unwrap_or("adaptive"),
                nodes,
                breaker,
                attempts: random.between(1, 3) as u32,
                budget: random.between(0, 4) as u32 * 10,
            };
            document.upstreams.insert(format!("u{index}"), upstream);
        }
        let mut routes = BTreeMap::new();
        for index in 0..self.upstreams + 2 {
            let guarded = index % 2 == 1;
            let limits: &[&str] = match (guarded, random.below(3)) {
                (_, 0) => &[],
                (true, 1) => &["per-ip", "per-consumer"],
                (true, _) => &["per-consumer", "all"],
                (false, 1) => &["per-ip"],
                (false, _) => &["per-ip", "per-route", "all"],
            };
            let route = Route {
                upstream: format!("u{}", index % self.upstreams.max(1)),
                limits: limits.iter().map(|name| (*name).to_owned()).collect(),
                guarded,
                timeout: random.between(300, 1_500) as u32,
                max_in_flight: random.pick(&[0, 4, 30]).copied().unwrap_or(0),
            };
            routes.insert(format!("r{index}"), route);
        }
        document.routes = routes;
        document
    }
}

/// Some breaker: by number, by share, or by both.
fn breaker(random: &mut Random) -> Breaker {
    let how = random.below(3);
    let open_for = random.between(1, 8) as u32;
    Breaker {
        failures: if how == 1 { 0 } else { random.between(2, 12) as u32 },
        ratio: if how == 0 { 0 } else { random.between(1, 9) as u32 * 10 },
        minimum_calls: random.between(3, 30) as u32,
        slow_call: random.pick(&[0, 0, 60, 200]).copied().unwrap_or(0),
        window: random.between(2, 10) as u32,
        open_for,
        open_for_max: open_for * random.pick(&[1, 1, 4, 6]).copied().unwrap_or(1),
        jitter: random.pick(&[0, 0, 20]).copied().unwrap_or(0),
        probes: random.between(1, 5) as u32,
        closes_after: random.between(1, 6) as u32,
    }
}
