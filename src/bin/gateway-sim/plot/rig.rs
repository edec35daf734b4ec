//! A proxy with the gateway or without it, on the simulator's clock: what it takes to compare the two.

use gateway::gateway::{Decision, Entry, Outcome, Ticket, TryEnd};
use gateway::types::{Method, SECOND};

use crate::backend::{Served, Server};
use crate::client::Call;
use crate::document::{Document, server_at};
use crate::fleet::Fleet;
use crate::queue::{Event, Queue};
use crate::random::Random;
use crate::trace::Violation;

/// nginx's own timeout, which a proxy without the gateway has, microseconds.
const TIMEOUT: u64 = 60 * SECOND;

/// What a request does to the curves.
#[derive(Default, Clone)]
pub struct Second {
    /// Answers of the kind that is asked for.
    pub good: f64,
    /// Requests that reached a server.
    pub sent: f64,
    /// Connections in use at its end.
    pub open: f64,
}

/// A request under way.
struct Flight {
    started: u64,
    call: Call,
    counts: bool,
    /// With the gateway: which worker has it, and its ticket.
    ticket: Option<(u32, Ticket)>,
    /// How its try ends.
    status: u16,
}

/// Who asks: when, which route, from which address, and whether its answers are counted.
pub type Asker = (u64, String, u32, bool);

pub struct Rig {
    fleet: Option<Fleet>,
    document: Document,
    pub servers: Vec<Server>,
    random: Random,
    flights: Vec<Option<Flight>>,
    open: usize,
    /// Connections that there may be at once.
    most: usize,
    turn: usize,
    pub seconds: Vec<Second>,
    /// A good answer takes no longer, microseconds.
    patience: u64,
}

impl Rig {
    pub fn new(
        document: Document,
        with: bool,
        servers: Vec<Server>,
        most: usize,
        seconds: usize,
        patience: u64,
    ) -> Result<Self, Violation> {
        let mut random = Random::new(1, "plot");
        let fleet = match with {
            true => {
                let mut fleet = Fleet::new(&mut random)?;
                fleet.publish(&document, 0)?;
                fleet.start(&mut random)?;
                fleet.start(&mut random)?;
                Some(fleet)
            }
            false => None,
        };
        let seconds = vec![Second::default(); seconds];
        let flights = Vec::new();
        Ok(Self { fleet, document, servers, random, flights, open: 0, most, turn: 0, seconds, patience })
    }

    /// Runs all requests of `askers`, which are in the order of their times; `change` may change servers each second.
    pub fn run(&mut self, askers: impl IntoIterator<Item = Asker>, change: impl Fn(u64, &mut [Server])) {
        let mut queue = Queue::default();
        let end = self.seconds.len() as u64 * SECOND;
        let mut askers = askers.into_iter().peekable();
        queue.at(0, Event::Tick);
        while let Some((time, event)) = queue.next() {
            if time >= end {
                break;
            }
            match event {
                Event::Tick => {
                    change(time / SECOND, &mut self.servers);
                    if let Some(fleet) = &mut self.fleet {
                        let now = fleet.now(time);
                        if let Some(leader) = &mut fleet.leader {
                            leader.tick(now, &mut |_| ());
                        }
                    }
                    let open = self.open as f64;
                    if let Some(second) = self.seconds.get_mut((time / SECOND) as usize) {
                        second.open = open;
                    }
                    queue.at(time + SECOND / 4, Event::Tick);
                    // What comes until the next tick.
                    while let Some((at, ..)) = askers.peek()
                        && *at < time + SECOND / 4
                    {
                        let Some((at, route, address, counts)) = askers.next() else { break };
                        let number = self.flights.len() as u64;
                        let call = Call::new(&route, address, None, Method::Get);
                        self.flights.push(Some(Flight { started: at, call, counts, ticket: None, status: 0 }));
                        queue.at(at, Event::Send(number));
                    }
                }
                Event::Send(number) => self.send(number, time, &mut queue),
                Event::End(number, _) => self.end(number, time),
                _ => {}
            }
        }
    }

    /// A request comes, is decided and goes to a server.
    fn send(&mut self, number: u64, time: u64, queue: &mut Queue) {
        let Some(mut flight) = self.flights.get_mut(number as usize).and_then(Option::take) else { return };
        // Whoever finds no connection left is turned away.
        if self.open >= self.most {
            return;
        }
        let (server, timeout) = match &mut self.fleet {
            Some(fleet) => {
                let id = 1 + number as u32 % 2;
                let Some((member, now)) = fleet.member(id, time, &mut self.random) else { return };
                let mut ticket = Ticket::new();
                let decision = member.worker.access(&flight.call, Entry::First, now, &mut ticket);
                let picked = match decision {
                    Decision::Forward => member.worker.pick(&mut ticket, now, |peer| server_at(peer.name)),
                    Decision::Reply(reply) => Err(reply),
                    Decision::Respond(_) | Decision::Ask(_) => return,
                };
                let server = match picked {
                    Ok(server) => server.unwrap_or(0),
                    Err(reply) => {
                        let outcome = Outcome { status: reply.reason.status(), ..Outcome::default() };
                        member.worker.complete(&mut ticket, &outcome, now);
                        return;
                    }
                };
                let timeout = ticket.timeouts().read;
                flight.ticket = Some((id, ticket));
                (server, timeout)
            }
            None => {
                let upstream = self.document.routes.get(&flight.call.route).map(|route| &route.upstream);
                let upstream = upstream.and_then(|name| self.document.upstreams.get(name));
                let nodes = upstream.map(|upstream| upstream.nodes.as_slice()).unwrap_or_default();
                self.turn += 1;
                (nodes.get(self.turn % nodes.len().max(1)).map_or(0, |node| node.server), TIMEOUT)
            }
        };
        let Some(found) = self.servers.get_mut(server as usize) else { return };
        if let Some(second) = self.seconds.get_mut((time / SECOND) as usize) {
            second.sent += 1.0;
        }
        self.open += 1;
        let (after, status) = match found.serve(time, &mut self.random) {
            Served::Answer { after, status } if after < timeout => (after, status),
            Served::Refused { after } => (after, 502),
            Served::Answer { .. } | Served::Silence => (timeout, 504),
        };
        flight.status = status;
        queue.at(time + after, Event::End(number, 0));
        if let Some(place) = self.flights.get_mut(number as usize) {
            *place = Some(flight);
        }
    }

    fn end(&mut self, number: u64, time: u64) {
        let Some(mut flight) = self.flights.get_mut(number as usize).and_then(Option::take) else { return };
        self.open -= 1;
        let status = flight.status;
        if let (Some((id, ticket)), Some(fleet)) = (&mut flight.ticket, &mut self.fleet)
            && let Some((member, now)) = fleet.member(*id, time, &mut self.random)
        {
            let failed = matches!(status, 502 | 504);
            if !failed {
                member.worker.answered(ticket, now);
            }
            member.worker.tried(ticket, if failed { TryEnd::Failed } else { TryEnd::Answered(status) }, now);
            let outcome = Outcome { status, upstream_status: status, aborted: false };
            member.worker.complete(ticket, &outcome, now);
        }
        if flight.counts
            && status < 500
            && time - flight.started <= self.patience
            && let Some(second) = self.seconds.get_mut((time / SECOND) as usize)
        {
            second.good += 1.0;
        }
    }
}
