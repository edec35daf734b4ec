//! Plots for the README: load against time, with the gateway and without.

mod rig;
mod svg;

use std::collections::BTreeMap;
use std::path::Path;

use gateway::types::{MILLISECOND, SECOND};

use crate::backend::{Mood, Server};
use crate::document::{Breaker, Document, Key, Limiter, Node, Route, Upstream};
use crate::random::Random;
use crate::trace::Violation;
use rig::{Asker, Rig, Second};
use svg::{Chart, Curve, Panel};

/// Writes the plot called `name` into `folder`.
pub fn write(name: &str, folder: &Path) -> Result<(), String> {
    let chart = match name {
        "avalanche" => avalanche(),
        "flood" => flood(),
        _ => return Err(format!("no plot is called `{name}`: there are avalanche and flood")),
    };
    let chart = chart.map_err(|violation| format!("{}: {}", violation.invariant, violation.text))?;
    let path = folder.join(format!("{name}.svg"));
    std::fs::create_dir_all(folder)
        .and_then(|()| std::fs::write(&path, chart.svg()))
        .map_err(|error| format!("{}: {error}", path.display()))
}

fn upstream(servers: &[u32], breaker: Option<Breaker>) -> Upstream {
    let nodes = servers.iter().map(|server| Node { server: *server, weight: 1, priority: 0 }).collect();
    Upstream { algorithm: "adaptive", nodes, breaker, attempts: 1, budget: 0 }
}

fn route(upstream: &str, limits: &[&str]) -> Route {
    let limits = limits.iter().map(|name| (*name).to_owned()).collect();
    Route { upstream: upstream.to_owned(), limits, guarded: false, timeout: 1_000, max_in_flight: 0 }
}

fn curves(with: &[Second], without: &[Second], value: impl Fn(&Second) -> f64) -> Vec<Curve> {
    let curve = |name, seconds: &[Second], other| Curve { name, values: seconds.iter().map(&value).collect(), other };
    vec![curve("with the gateway", with, false), curve("without", without, true)]
}

/// Three services behind one proxy of 1,000 connections, 300 requests a second to each; one of them hangs.
fn avalanche() -> Result<Chart, Violation> {
    const SECONDS: usize = 100;
    let breaker = Breaker {
        failures: 10,
        ratio: 0,
        minimum_calls: 20,
        slow_call: 0,
        window: 10,
        open_for: 5,
        open_for_max: 5,
        jitter: 0,
        probes: 5,
        closes_after: 5,
    };
    let mut document = Document::default();
    for service in 0..3 {
        document.upstreams.insert(format!("u{service}"), upstream(&[service * 2, service * 2 + 1], Some(breaker)));
        document.routes.insert(format!("r{service}"), route(&format!("u{service}"), &[]));
    }
    let run = |with| {
        let servers = (0..6).map(|_| Server::new(20 * MILLISECOND, 64, 2 * SECOND)).collect();
        let mut rig = Rig::new(document.clone(), with, servers, 1_000, SECONDS, SECOND)?;
        let mut random = Random::new(1, "avalanche");
        let mut time = 0;
        let askers = std::iter::from_fn(move || {
            time += random.wait(900.0);
            let service = random.below(3);
            let asker: Asker = (time, format!("r{service}"), random.below(1_000) as u32, service != 2);
            Some(asker)
        });
        rig.run(askers, |second, servers| {
            let mood = if (10..40).contains(&second) { Mood::Hangs } else { Mood::Well };
            servers.iter_mut().skip(4).for_each(|server| server.mood = mood);
        });
        Ok(rig.seconds)
    };
    let (with, without) = (run(true)?, run(false)?);
    Ok(Chart {
        title: "Avalanche: one service of three hangs for 30 s",
        trouble: (10.0, 40.0, "one service hangs"),
        panels: vec![
            Panel {
                what: "answers a second from the two services that are well, within 1 s",
                top: 800.0,
                curves: curves(&with, &without, |second| second.good),
                mark: Some((600.0, "asked for")),
            },
            Panel {
                what: "connections in use",
                top: 1_200.0,
                curves: curves(&with, &without, |second| second.open),
                mark: Some((1_000.0, "all that the proxy has")),
            },
        ],
    })
}

/// 10^6 requests from 10^5 addresses in 40 s, beside 1,000 clients that ask every 5 s.
fn flood() -> Result<Chart, Violation> {
    const SECONDS: usize = 60;
    let limiter = Limiter { key: Key::Ip, count: 30, per: 60, burst: 2, cost: 1, shadow: false };
    let document = Document {
        limiters: BTreeMap::from([("per-ip".to_owned(), limiter)]),
        upstreams: BTreeMap::from([("u".to_owned(), upstream(&[0, 1, 2, 3], None))]),
        routes: BTreeMap::from([("r".to_owned(), route("u", &["per-ip"]))]),
        consumers: 0,
    };
    let mut random = Random::new(1, "flood");
    let mut askers: Vec<(u64, u32, bool)> = Vec::new();
    for client in 0..1_000 {
        let start = random.below(5 * SECOND);
        askers.extend((0..12).map(|turn| (start + turn * 5 * SECOND, 1_000_000 + client, true)));
    }
    for address in 0..100_000 {
        let start = 10 * SECOND + random.below(39 * SECOND);
        askers.extend((0..10).map(|turn| (start + turn * 100 * MILLISECOND, address, false)));
    }
    askers.sort_unstable();
    let run = |with| {
        // Four servers that bear 2,000 requests a second each.
        let servers = (0..4).map(|_| Server::new(4 * MILLISECOND, 8, 2 * SECOND)).collect();
        let mut rig = Rig::new(document.clone(), with, servers, 100_000, SECONDS, SECOND)?;
        rig.run(askers.iter().map(|(time, address, good)| (*time, "r".to_owned(), *address, *good)), |_, _| ());
        Ok(rig.seconds)
    };
    let (with, without) = (run(true)?, run(false)?);
    Ok(Chart {
        title: "Flood: 1,000,000 requests from 100,000 addresses in 40 s",
        trouble: (10.0, 50.0, "the flood"),
        panels: vec![
            Panel {
                what: "answers a second to the 1,000 clients that behave, within 1 s",
                top: 240.0,
                curves: curves(&with, &without, |second| second.good),
                mark: Some((200.0, "asked for")),
            },
            Panel {
                what: "requests a second that reach the servers",
                top: 30_000.0,
                curves: curves(&with, &without, |second| second.sent),
                mark: Some((8_000.0, "all that the servers bear")),
            },
        ],
    })
}
