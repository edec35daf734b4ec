//! Requests go where their route goes, to each node its share.

use std::collections::BTreeMap;

use crate::client::Call;
use crate::document::Document;
use crate::trace::{Checked, broken};

/// What the document says about `call` before any limit or breaker: a refusal's code, or `None`.
pub fn expected(document: &Document, call: &Call) -> Option<&'static str> {
    match document.routes.get(&call.route) {
        None => Some("route.none"),
        Some(route) if route.guarded && call.consumer.is_none() => Some("auth.missing"),
        Some(_) => None,
    }
}

/// Whether `server` of `upstream` is where `route` goes in some document that the request has lived in.
pub fn astray(lived: &[Document], route: &str, upstream: &str, server: u32) -> Checked {
    let leads = |document: &Document| document.routes.get(route).is_some_and(|route| route.upstream == upstream);
    let holds = |document: &Document| {
        let nodes = document.upstreams.get(upstream).map(|upstream| upstream.nodes.as_slice()).unwrap_or_default();
        nodes.iter().any(|node| node.server == server)
    };
    if lived.iter().any(leads) && lived.iter().any(holds) {
        return Ok(());
    }
    broken("astray", format!("a request of route {route} was sent to server {server} of {upstream}"))
}

/// Who is on a route that lets in so many requests at a time.
#[derive(Default)]
pub struct Rooms {
    /// Requests by the route's id, and until when one whose worker was killed may still be counted.
    taken: BTreeMap<u64, BTreeMap<u64, Option<u64>>>,
}

impl Rooms {
    /// Route `id` let `flight` in.
    pub fn enter(&mut self, id: u64, flight: u64, most: u32) -> Checked {
        let taken = self.taken.entry(id).or_default();
        taken.insert(flight, None);
        let living = taken.values().filter(|until| until.is_none()).count();
        if most > 0 && living > most as usize {
            return broken("room", format!("{living} requests are on a route that lets in {most}"));
        }
        Ok(())
    }

    /// Route `id` had no room.
    pub fn refused(&mut self, id: u64, most: u32, time: u64) -> Checked {
        let taken = self.taken.entry(id).or_default();
        taken.retain(|_, until| until.is_none_or(|until| until > time));
        if taken.len() < most as usize {
            let taken = taken.len();
            return broken("lost room", format!("a route refused with {taken} requests on it, {most} may be"));
        }
        Ok(())
    }

    pub fn leave(&mut self, id: u64, flight: u64) {
        if let Some(taken) = self.taken.get_mut(&id) {
            taken.remove(&flight);
        }
    }

    /// The worker of `flight` was killed: its place is free again by then.
    pub fn killed(&mut self, id: u64, flight: u64, until: u64) {
        if let Some(place) = self.taken.get_mut(&id).and_then(|taken| taken.get_mut(&flight)) {
            *place = Some(until);
        }
    }
}

/// Picks while nothing happens.
#[derive(Default)]
pub struct Shares {
    picks: BTreeMap<String, BTreeMap<u32, u64>>,
    pub counting: bool,
}

/// Fewer picks say nothing.
const ENOUGH: u64 = 500;
/// So far from what the weights say a share may be: latencies are averages over three seconds.
const TOLERANCE: f64 = 0.2;

impl Shares {
    pub fn pick(&mut self, upstream: &str, server: u32) {
        if self.counting {
            *self.picks.entry(upstream.to_owned()).or_default().entry(server).or_default() += 1;
        }
    }

    /// Holds the picks against the weights of `document`.
    pub fn check(&self, document: &Document) -> Checked {
        for (name, picks) in &self.picks {
            let Some(upstream) = document.upstreams.get(name) else { continue };
            let all: u64 = picks.values().sum();
            let best = upstream.nodes.iter().map(|node| node.priority).min().unwrap_or(0);
            let serving = || upstream.nodes.iter().filter(|node| node.priority == best);
            let weights: f64 = serving().map(|node| f64::from(node.weight)).sum();
            // The others share by load, or by who asks.
            if all < ENOUGH || !matches!(upstream.algorithm, "adaptive" | "round_robin" | "random") {
                continue;
            }
            for node in serving() {
                let expected = all as f64 * f64::from(node.weight) / weights;
                let found = picks.get(&node.server).copied().unwrap_or(0) as f64;
                let slack = expected * TOLERANCE + 5.0 * expected.sqrt();
                if (found - expected).abs() > slack {
                    let text = format!(
                        "{name} ({}): server {} got {found} of {all}, by weight {expected:.0}",
                        upstream.algorithm, node.server
                    );
                    return broken("shares", text);
                }
            }
        }
        Ok(())
    }
}
