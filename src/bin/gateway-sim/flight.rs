//! One request from its arrival to its end, as an adapter leads it through the gateway.

use gateway::balancer::RetryOn;
use gateway::gateway::{Decision, Entry, Outcome, Reply, Ticket, TryEnd};
use gateway::types::{Kind, Method, Now, Reason};

use crate::backend::Served;
use crate::checks::{Pass, Reach, astray, expected};
use crate::client::Call;
use crate::document::server_at;
use crate::queue::Event;
use crate::trace::{Checked, broken};
use crate::world::World;

/// nginx's own timeout, where the route has none, microseconds.
const TIMEOUT: u64 = 60_000_000;

/// A request under way.
pub struct Flight {
    pub worker: u32,
    pub ticket: Ticket,
    pub call: Call,
    /// How many documents there had been when it came.
    pub born: usize,
    /// The ids of its route and of its upstream.
    pub route: u64,
    pub home: u64,
    pub pass: Option<Pass>,
    /// Numbers its tries.
    pub tries: u32,
    /// The server of the try under way, and what it does.
    pub serving: Option<(u32, Served)>,
    /// The next try is none, as the last one met a closed connection.
    pub stale: bool,
    /// The status of its last try.
    pub last: u16,
    /// When the try under way began by its worker's clock, and whether an answer took too long.
    began: u64,
    slow: bool,
}

impl World {
    /// A request arrives and is decided.
    pub fn arrive(&mut self, call: Call) -> Checked {
        let serving = self.fleet.serving();
        let Some(&id) = self.random.clients.pick(&serving) else { return Ok(()) };
        let Some((member, now)) = self.fleet.member(id, self.time, &mut self.random.net) else { return Ok(()) };
        let mut ticket = Ticket::new();
        let decision = member.worker.access(&call, Entry::First, now, &mut ticket);
        member.busy += 1;
        self.flown += 1;
        let number = self.flown;
        let text = format!("request {number} to {} at worker {id}: {}", call.route, word(&decision));
        self.trace.note(self.time, &text);
        let born = self.history.len().saturating_sub(1);
        let mut flight = Flight {
            worker: id,
            ticket,
            call,
            born,
            route: 0,
            home: 0,
            pass: None,
            tries: 0,
            serving: None,
            stale: false,
            last: 0,
            began: 0,
            slow: false,
        };
        self.judge(number, &mut flight, &decision, now)?;
        match decision {
            Decision::Forward => {
                self.checks.accounts.forwarded += 1;
                // Some bodies take their time; edits and reloads come in between.
                let upload = if self.random.clients.chance(0.05) { self.random.clients.below(8_000_000) } else { 0 };
                self.queue.at(self.time + upload, Event::Send(number));
                if self.random.clients.chance(0.02) {
                    let patience = self.random.clients.below(2_000_000);
                    self.queue.at(self.time + patience, Event::Abort(number));
                }
                self.flights.insert(number, flight);
                Ok(())
            }
            Decision::Reply(reply) => {
                self.checks.accounts.refused += 1;
                self.complete(number, flight, reply.reason.status(), false)
            }
            Decision::Respond(_) | Decision::Ask(_) => broken("decision", format!("{decision:?} to {text}")),
        }
    }

    /// Holds a decision against the document and the models.
    fn judge(&mut self, number: u64, flight: &mut Flight, decision: &Decision, now: Now) -> Checked {
        let Some(document) = self.history.last() else { return Ok(()) };
        let code = match decision {
            Decision::Reply(reply) => reply.reason.code(),
            _ => "forward",
        };
        let call = &flight.call;
        let refusal = expected(document, call);
        let reach = match code {
            "limit.exceeded" => Reach::Refused,
            "auth.missing" => Reach::Early,
            "forward" | "breaker.open" => Reach::Late,
            _ => Reach::None,
        };
        let is_right = match refusal {
            Some("auth.missing") => matches!(code, "auth.missing" | "limit.exceeded" | "limit.in_flight"),
            Some(refusal) => code == refusal,
            None => matches!(code, "forward" | "limit.exceeded" | "limit.in_flight" | "breaker.open"),
        };
        if !is_right {
            let wanted = refusal.unwrap_or("forward");
            return broken("decision", format!("{code} to a request of {}, expected {wanted}", call.route));
        }
        let clocks = (now.mono, self.fleet.now(self.time).mono);
        let id = |kind: Kind, name: &str| self.fleet.id_of(kind, name);
        self.checks.limits.verdict(document, call, reach, clocks, id)?;

        let Some(route) = document.routes.get(&call.route) else { return Ok(()) };
        match code {
            "forward" => {
                flight.route = self.fleet.id_of(Kind::Route, &call.route);
                self.checks.rooms.enter(flight.route, number, route.max_in_flight)?;
                flight.home = self.fleet.id_of(Kind::Upstream, &route.upstream);
                flight.pass =
                    self.checks.breakers.passed(&route.upstream, number, flight.ticket.is_probe(), self.time)?;
                let budget = document.upstreams.get(&route.upstream).map_or(0, |upstream| upstream.budget);
                self.checks.retries.request(&route.upstream, budget);
                Ok(())
            }
            "limit.in_flight" => {
                let id = self.fleet.id_of(Kind::Route, &call.route);
                self.checks.rooms.refused(id, route.max_in_flight, self.time)
            }
            "breaker.open" => self.checks.breakers.refused(&route.upstream, self.time),
            _ => Ok(()),
        }
    }

    /// The next try of a request.
    pub fn send(&mut self, number: u64) -> Checked {
        let Some(mut flight) = self.flights.remove(&number) else { return Ok(()) };
        let Some((member, now)) = self.fleet.member(flight.worker, self.time, &mut self.random.net) else {
            return broken("worker", format!("request {number} has none"));
        };
        let picked = member.worker.pick(&mut flight.ticket, now, |peer| server_at(peer.name));
        let server = match picked {
            Ok(Some(server)) => server,
            Ok(None) => return broken("astray", "a peer that nobody knows".to_owned()),
            Err(Reply { reason, .. }) => {
                self.trace.note(self.time, &format!("request {number} has no peer: {}", reason.code()));
                if reason == Reason::BreakerOpen {
                    self.checks.breakers.refused(&self.target(&flight), self.time)?;
                }
                // Its upstream went away while it was under way, and with it what it had of the breaker's.
                let status = if flight.last > 0 { flight.last } else { reason.status() };
                return self.complete(number, flight, status, false);
            }
        };
        (flight.began, flight.slow) = (now.mono, false);
        let upstream = flight.ticket.upstream_name().to_owned();
        self.trace.note(self.time, &format!("request {number} to server {server} of {upstream}"));
        self.follow(number, &mut flight, &upstream)?;
        let lived = self.history.get(flight.born..).unwrap_or_default();
        astray(lived, &flight.call.route, &upstream, server)?;
        self.checks.shares.pick(&upstream, server);
        if flight.tries > 0 && !flight.stale {
            self.checks.retries.retry(&upstream)?;
        }
        flight.stale = false;
        flight.tries += 1;
        let timeout = Some(flight.ticket.timeouts().read).filter(|timeout| *timeout > 0).unwrap_or(TIMEOUT);
        // A kept connection may be gone; never twice in a row.
        let served = if flight.tries == 1 && self.random.net.chance(0.01) {
            self.queue.at(self.time + 100, Event::Stale(number, flight.tries));
            Served::Silence
        } else {
            let served =
                self.server(server).map_or(Served::Silence, |(server, time, random)| server.serve(time, random));
            let (after, event) = match served {
                Served::Answer { after, .. } if after < timeout => (after, Event::Header(number, flight.tries)),
                Served::Refused { after } => (after, Event::Refused(number, flight.tries)),
                Served::Answer { .. } | Served::Silence => (timeout, Event::Timeout(number, flight.tries)),
            };
            self.queue.at(self.time + after, event);
            served
        };
        flight.serving = Some((server, served));
        self.flights.insert(number, flight);
        Ok(())
    }

    /// Where the route of a request goes now.
    fn target(&self, flight: &Flight) -> String {
        let route = self.history.last().and_then(|document| document.routes.get(&flight.call.route));
        route.map_or_else(String::new, |route| route.upstream.clone())
    }

    /// A request whose upstream is gone goes where its route goes now, past another breaker.
    fn follow(&mut self, number: u64, flight: &mut Flight, upstream: &str) -> Checked {
        let home = self.fleet.id_of(Kind::Upstream, upstream);
        if flight.home != home {
            flight.home = home;
            flight.pass = self.checks.breakers.passed(upstream, number, flight.ticket.is_probe(), self.time)?;
        }
        Ok(())
    }

    /// The response header of a try has come.
    pub fn header(&mut self, number: u64, attempt: u32) -> Checked {
        let Some(flight) = self.flights.get_mut(&number).filter(|flight| flight.tries == attempt) else {
            return Ok(());
        };
        let Some((_, Served::Answer { status, .. })) = flight.serving else { return Ok(()) };
        if self.again(number, false, status) {
            return self.failed(number, status);
        }
        let Some(flight) = self.flights.get_mut(&number) else { return Ok(()) };
        if let Some((member, now)) = self.fleet.member(flight.worker, self.time, &mut self.random.net) {
            member.worker.answered(&mut flight.ticket, now);
            let slow = flight.pass.as_ref().map_or(0, |pass| pass.slow_call);
            flight.slow = slow > 0 && now.mono - flight.began > slow;
        }
        let body = if self.random.net.chance(0.03) { 3_000_000 } else { 5_000 };
        let body = self.random.net.below(body);
        self.queue.at(self.time + body, Event::End(number, attempt));
        Ok(())
    }

    /// The response is there.
    pub fn end(&mut self, number: u64, attempt: u32) -> Checked {
        let Some(mut flight) = self.take(number, attempt) else { return Ok(()) };
        let Some((_, Served::Answer { status, .. })) = flight.serving else { return Ok(()) };
        self.tried(&mut flight, TryEnd::Answered(status));
        flight.last = status;
        self.complete(number, flight, status, false)
    }

    /// The try came to nothing, or to an answer that is tried again: `status` stands for it.
    pub fn fail(&mut self, number: u64, attempt: u32, status: u16) -> Checked {
        if self.flights.get(&number).is_none_or(|flight| flight.tries != attempt) {
            return Ok(());
        }
        if self.again(number, true, status) {
            return self.failed(number, status);
        }
        let Some(mut flight) = self.take(number, attempt) else { return Ok(()) };
        self.tried(&mut flight, TryEnd::Failed);
        flight.last = status;
        self.complete(number, flight, status, false)
    }

    /// Whether what a try ended with is tried again; `lost`: there was no answer.
    fn again(&self, number: u64, lost: bool, status: u16) -> bool {
        let Some(flight) = self.flights.get(&number) else { return false };
        let (on, idempotent) = flight.ticket.retry_on();
        let wanted = match (lost, status) {
            (true, 504) => on.timeout,
            (true, _) => on.error,
            (false, status) => {
                RetryOn::STATUSES.iter().position(|one| *one == status).is_some_and(|bit| on.statuses & 1 << bit != 0)
            }
        };
        // Nothing was sent where nobody took the connection.
        let repeatable = !idempotent || flight.call.method != Method::Post || (lost && status == 502);
        wanted && repeatable && flight.tries < u32::from(flight.ticket.attempts())
    }

    fn failed(&mut self, number: u64, status: u16) -> Checked {
        let Some(mut flight) = self.flights.remove(&number) else { return Ok(()) };
        self.tried(&mut flight, TryEnd::Failed);
        flight.last = status;
        self.flights.insert(number, flight);
        self.send(number)
    }

    /// A kept connection was closed: another one is made, and that is no retry.
    pub fn stale(&mut self, number: u64, attempt: u32) -> Checked {
        let Some(mut flight) = self.take(number, attempt) else { return Ok(()) };
        self.tried(&mut flight, TryEnd::Stale);
        flight.stale = true;
        self.flights.insert(number, flight);
        self.send(number)
    }

    /// The client goes away.
    pub fn abort(&mut self, number: u64) -> Checked {
        let Some(mut flight) = self.flights.remove(&number) else { return Ok(()) };
        self.checks.accounts.aborted += 1;
        self.trace.note(self.time, &format!("the client of request {number} goes away"));
        if flight.serving.is_some() {
            self.tried(&mut flight, TryEnd::Answered(0));
        }
        self.complete(number, flight, 499, true)
    }

    fn take(&mut self, number: u64, attempt: u32) -> Option<Flight> {
        let current = self.flights.get(&number).is_some_and(|flight| flight.tries == attempt);
        if current { self.flights.remove(&number) } else { None }
    }

    fn tried(&mut self, flight: &mut Flight, end: TryEnd) {
        flight.serving = None;
        if let Some((member, now)) = self.fleet.member(flight.worker, self.time, &mut self.random.net) {
            member.worker.tried(&mut flight.ticket, end, now);
        }
    }

    /// The request is over; the client got `status`.
    fn complete(&mut self, number: u64, mut flight: Flight, status: u16, aborted: bool) -> Checked {
        self.trace.note(self.time, &format!("request {number} ends with {status}"));
        let outcome = Outcome { status, upstream_status: flight.last, aborted };
        let Some((member, now)) = self.fleet.member(flight.worker, self.time, &mut self.random.net) else {
            return broken("worker", format!("request {number} has none"));
        };
        if self.fault.forgets(number) {
            member.busy -= 1;
            return Ok(());
        }
        member.worker.complete(&mut flight.ticket, &outcome, now);
        member.busy = member.busy.saturating_sub(1);
        self.checks.accounts.completed += 1;
        self.checks.rooms.leave(flight.route, number);
        if let Some(pass) = &flight.pass {
            let good = match flight.last {
                0 => None,
                _ if aborted => None,
                status => Some((status < 500 || status == 501) && !flight.slow),
            };
            self.checks.breakers.ended(number, pass, good, self.time);
        }
        self.retire();
        Ok(())
    }
}

fn word(decision: &Decision) -> &'static str {
    match decision {
        Decision::Forward => "forward",
        Decision::Reply(reply) => reply.reason.code(),
        Decision::Respond(_) => "respond",
        Decision::Ask(_) => "ask",
    }
}
