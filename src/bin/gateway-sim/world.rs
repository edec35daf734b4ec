//! The run of one scenario: a loop over what happens, and a look at everything after each step.

use std::collections::BTreeMap;

use gateway::state::tables::peers::Peers;
use gateway::types::{MILLISECOND, Method, SECOND};

use crate::backend::{Mood, Server};
use crate::checks::Checks;
use crate::client::Call;
use crate::document::Document;
use crate::fault::Fault;
use crate::fleet::Fleet;
use crate::flight::Flight;
use crate::queue::{Event, Queue};
use crate::random::Random;
use crate::scenario::Scenario;
use crate::sight::look;
use crate::trace::{Checked, Trace, Violation, broken};

/// How long it takes until every ejection is over, microseconds: the longest is 300 s.
const HEALING: u64 = 320 * SECOND;
/// How long shares are counted …
const STEADY: u64 = 60 * SECOND;
/// … and how long the last requests may take: nobody's timeout is longer.
const DRAIN: u64 = 70 * SECOND;
/// What died with a worker is taken off all counts within this time.
pub const RECLAIM: u64 = 5 * SECOND;

/// A stream of chance for each who needs one.
pub struct Randoms {
    pub clients: Random,
    pub net: Random,
    pub turmoil: Random,
    pub servers: Random,
}

pub struct World {
    pub scenario: &'static Scenario,
    pub time: u64,
    pub steps: u64,
    /// How long the turmoil lasts, microseconds.
    turmoil: u64,
    pub queue: Queue,
    pub random: Randoms,
    pub fleet: Fleet,
    pub servers: BTreeMap<u32, Server>,
    pub flights: BTreeMap<u64, Flight>,
    /// How many requests there have been.
    pub flown: u64,
    /// Every document that was live, and the one that waits to be.
    pub history: Vec<Document>,
    pub wanted: Option<Document>,
    /// Names that edits made up so far.
    pub named: u32,
    /// When requests died with their workers, and how many.
    pub losses: Vec<(u64, u64)>,
    /// How much of the crowds' usual rate comes.
    pace: f64,
    pub checks: Checks,
    pub fault: Fault,
    pub trace: Trace,
    over: bool,
}

impl World {
    pub fn new(
        scenario: &'static Scenario,
        seed: u64,
        seconds: Option<u64>,
        fault: Fault,
        trace: Trace,
    ) -> Result<Self, Violation> {
        let stream = |name| Random::new(seed, name);
        let mut random = Randoms {
            clients: stream("clients"),
            net: stream("net"),
            turmoil: stream("turmoil"),
            servers: stream("servers"),
        };
        let fleet = Fleet::new(&mut random.turmoil)?;
        let mut world = Self {
            scenario,
            time: 0,
            steps: 0,
            turmoil: seconds.unwrap_or(scenario.seconds) * SECOND,
            queue: Queue::default(),
            random,
            fleet,
            servers: BTreeMap::new(),
            flights: BTreeMap::new(),
            flown: 0,
            history: Vec::new(),
            wanted: None,
            named: 10,
            losses: Vec::new(),
            pace: 1.0,
            checks: Checks::default(),
            fault,
            trace,
            over: false,
        };
        let document = scenario.document(&mut world.random.turmoil);
        world.wanted = Some(document);
        world.publish()?;
        let (low, high) = scenario.workers;
        for _ in 0..world.random.turmoil.between(low, high) {
            world.start()?;
        }
        for (index, _) in scenario.crowds.iter().enumerate() {
            world.queue.at(0, Event::Arrive(index as u32));
        }
        for event in [Event::Tick, Event::Tidy, Event::Look] {
            world.queue.at(0, event);
        }
        let turmoil = scenario.turmoil;
        world.plan(turmoil.kills, Event::Kill);
        world.plan(turmoil.reloads, Event::Reload);
        world.plan(turmoil.edits, Event::Edit);
        world.plan(turmoil.beheadings, Event::Behead);
        world.plan(turmoil.steps, Event::Step);
        world.plan(turmoil.troubles, Event::Trouble);
        world.plan(turmoil.forces, Event::Force);
        world.queue.at(world.turmoil, Event::Part(1));
        world.observe()?;
        Ok(world)
    }

    /// When nothing goes wrong any more, microseconds.
    pub fn calm_from(&self) -> u64 {
        self.turmoil
    }

    /// What happens next; `false`: nothing.
    pub fn step(&mut self) -> Result<bool, Violation> {
        let Some((time, event)) = self.queue.next().filter(|_| !self.over) else { return Ok(false) };
        self.time = time;
        self.steps += 1;
        self.happen(event)?;
        Fault::strike(self);
        self.observe()?;
        Ok(true)
    }

    /// Holds what the region says now against what it may.
    fn observe(&mut self) -> Checked {
        let seen = look(&self.fleet.observer, self.fleet.now(self.time));
        if let Some(document) = self.history.last() {
            self.checks.breakers.step(&seen, document, self.time)?;
        }
        self.checks.retries.step(&seen);
        self.checks.ejections.step(&seen)
    }

    fn happen(&mut self, event: Event) -> Checked {
        match event {
            Event::Arrive(crowd) => self.crowd(crowd),
            Event::Send(number) => self.send(number),
            Event::Header(number, attempt) => self.header(number, attempt),
            Event::End(number, attempt) => self.end(number, attempt),
            Event::Refused(number, attempt) => self.fail(number, attempt, 502),
            Event::Stale(number, attempt) => self.stale(number, attempt),
            Event::Timeout(number, attempt) => self.fail(number, attempt, 504),
            Event::Abort(number) => self.abort(number),
            Event::Tick => self.tick(),
            Event::Tidy => self.tidy(),
            Event::Look => self.look(),
            Event::Kill => self.kill(),
            Event::Start => self.start(),
            Event::Reload => self.reload(),
            Event::Expire(id) => self.expire(id),
            Event::Edit => self.edit(),
            Event::Behead => self.behead(),
            Event::Takeover => self.take_over(),
            Event::Step => self.step_clock(),
            Event::Trouble => self.trouble(),
            Event::Relief(server) => self.relieve(server),
            Event::Force => self.force(),
            Event::Part(part) => self.part(part),
        }
    }

    /// Clients of a crowd ask, and will again.
    fn crowd(&mut self, index: u32) -> Checked {
        let Some(crowd) = self.scenario.crowds.get(index as usize) else { return Ok(()) };
        if self.pace <= 0.0 {
            return Ok(());
        }
        let random = &mut self.random.clients;
        let wait = random.wait(crowd.rate * self.pace);
        self.queue.at(self.time + wait, Event::Arrive(index));
        let consumer = (crowd.consumers > 0).then(|| random.below(crowd.consumers.into()) as u32);
        let address = 0x0a00_0000 | index << 16 | random.below(crowd.addresses.into()) as u32;
        let routes: Vec<String> = match self.history.last() {
            Some(document) => document.routes.keys().cloned().collect(),
            None => return Ok(()),
        };
        // Now and then somebody asks for what there is not, or is no more.
        let route = match self.random.clients.chance(0.02) {
            true => format!("r{}", self.random.clients.below(u64::from(self.named) + 10)),
            false => self.random.clients.pick(&routes).cloned().unwrap_or_default(),
        };
        for _ in 0..crowd.burst {
            let method = if self.random.clients.chance(0.2) { Method::Post } else { Method::Get };
            self.arrive(Call::new(&route, address, consumer, method))?;
        }
        Ok(())
    }

    /// A simulated server, and what it needs to serve.
    pub fn server(&mut self, id: u32) -> Option<(&mut Server, u64, &mut Random)> {
        let server = self.servers.entry(id).or_insert_with(|| Server::new(5 * MILLISECOND, 64, 2 * SECOND));
        Some((server, self.time, &mut self.random.servers))
    }

    fn tick(&mut self) -> Checked {
        self.queue.at(self.time + 250 * MILLISECOND, Event::Tick);
        let now = self.fleet.now(self.time);
        if let Some(leader) = &mut self.fleet.leader {
            leader.tick(now, &mut |_| ());
        }
        if self.wanted.is_some() { self.publish() } else { Ok(()) }
    }

    fn tidy(&mut self) -> Checked {
        self.queue.at(self.time + SECOND, Event::Tidy);
        self.fleet.members.values_mut().for_each(|member| member.worker.tidy());
        Ok(())
    }

    /// Holds the metrics against what has happened.
    fn look(&mut self) -> Checked {
        self.queue.at(self.time + 5 * SECOND, Event::Look);
        let (time, now) = (self.time, self.fleet.now(self.time));
        self.losses.retain(|(at, _)| at + RECLAIM > time);
        let lost = self.losses.iter().map(|(_, count)| count).sum();
        let Some(member) = self.fleet.members.values_mut().next() else { return Ok(()) };
        let text = member.worker.metrics(now);
        self.checks.accounts.metrics(&text, self.flights.len() as u64, lost)
    }

    /// After the turmoil: healing, counting, the end.
    fn part(&mut self, part: u32) -> Checked {
        let Some(base) = self.history.first().cloned() else { return Ok(()) };
        let (after, what) = match part {
            1 => {
                self.servers.values_mut().for_each(|server| server.mood = Mood::Well);
                self.pace = 0.2;
                let names = self.history.last().map(|document| document.upstreams.keys().cloned().collect::<Vec<_>>());
                self.tell_breakers(&names.unwrap_or_default(), None)?;
                self.wanted = Some(base);
                (HEALING, "nothing goes wrong any more")
            }
            2 => {
                // Without limits, so that there is something to count.
                let mut open = base;
                for route in open.routes.values_mut() {
                    route.limits.clear();
                    route.max_in_flight = 0;
                }
                self.wanted = Some(open);
                self.pace = 1.0;
                self.checks.shares.counting = true;
                (STEADY, "shares are counted")
            }
            3 => {
                self.checks.shares.counting = false;
                self.checks.shares.check(&base)?;
                self.wanted = Some(base);
                self.pace = 0.0;
                (DRAIN, "nobody asks any more")
            }
            _ => {
                self.over = true;
                return self.finish();
            }
        };
        self.trace.note(self.time, what);
        self.queue.at(self.time + after, Event::Part(part + 1));
        self.publish()
    }

    /// All is quiet: nothing is left.
    fn finish(&mut self) -> Checked {
        if !self.flights.is_empty() {
            return broken("in flight", format!("{} requests never end", self.flights.len()));
        }
        self.losses.clear();
        self.look()?;
        let now = self.fleet.now(self.time);
        let region = self.fleet.region();
        for (_, peer) in Peers::new(region.peer_words()).snapshots(now.mono) {
            if peer.in_flight > 0 {
                return broken(
                    "in flight",
                    format!("a peer has {} requests in flight when all is quiet", peer.in_flight),
                );
            }
        }
        let Some(leader) = &mut self.fleet.leader else { return broken("lease", "no leader".to_owned()) };
        leader.tick(now, &mut |_| ());
        let stats = leader.stats();
        if stats.waiting > 0 || stats.behind > 0 {
            return broken("readers", format!("memory is held for readers that are gone: {stats:?}"));
        }
        if let Err(corrupt) = leader.check() {
            return broken("memory", format!("{corrupt:?}"));
        }
        self.checks.accounts.memory(stats.live)
    }

    /// Bytes of the policy, before anything was edited.
    pub fn measure(&mut self) {
        self.checks.accounts.base = self.fleet.leader.as_ref().map(|leader| leader.stats().live);
    }
}
