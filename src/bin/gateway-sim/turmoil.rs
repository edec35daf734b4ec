//! What goes wrong, and what people do: kills, reloads, edits, failing servers, clocks that step.

use gateway::breaker::{Forced, State};
use gateway::types::SECOND;

use crate::backend::Mood;
use crate::queue::Event;
use crate::trace::{Checked, broken};
use crate::world::{RECLAIM, World};

/// How long old workers may go on after a reload, microseconds.
const SHUTDOWN: u64 = 30 * SECOND;

impl World {
    /// Plans the next event of a kind that comes `rate` times a minute.
    pub fn plan(&mut self, rate: f64, event: Event) {
        if rate > 0.0 {
            let wait = self.random.turmoil.wait(rate / 60.0);
            if self.time + wait < self.calm_from() {
                self.queue.at(self.time + wait, event);
            }
        }
    }

    /// kill -9 of some worker, between two calls or inside of one.
    pub fn kill(&mut self) -> Checked {
        self.plan(self.scenario.turmoil.kills, Event::Kill);
        let all: Vec<u32> = self.fleet.members.keys().copied().collect();
        let Some(&id) = self.random.turmoil.pick(&all) else { return Ok(()) };
        let Some(member) = self.fleet.members.remove(&id) else { return Ok(()) };
        let inside = self.random.turmoil.chance(0.5);
        let lost: Vec<u64> =
            self.flights.iter().filter(|(_, flight)| flight.worker == id).map(|(number, _)| *number).collect();
        self.trace.note(self.time, &format!("worker {id} is killed with {} requests", lost.len()));
        for number in lost {
            let Some(flight) = self.flights.remove(&number) else { continue };
            self.checks.accounts.killed += 1;
            self.losses.push((self.time, 1));
            self.checks.rooms.killed(flight.route, number, self.time + RECLAIM);
            if let Some(pass) = &flight.pass {
                self.checks.breakers.killed(number, pass, self.time);
            }
        }
        member.worker.die(inside);
        if !member.leaving {
            let wait = self.random.turmoil.between(10_000, 500_000);
            self.queue.at(self.time + wait, Event::Start);
        }
        Ok(())
    }

    pub fn start(&mut self) -> Checked {
        let id = self.fleet.start(&mut self.random.turmoil)?;
        self.trace.note(self.time, &format!("worker {id} starts"));
        Ok(())
    }

    /// New workers, other ones in number too; the old ones end what they have.
    pub fn reload(&mut self) -> Checked {
        self.plan(self.scenario.turmoil.reloads, Event::Reload);
        let old = self.fleet.serving();
        let (low, high) = self.scenario.workers;
        let count = self.random.turmoil.between(low, high);
        self.trace.note(self.time, &format!("reload: {count} new workers for {}", old.len()));
        for _ in 0..count {
            self.start()?;
        }
        for id in old {
            if let Some(member) = self.fleet.members.get_mut(&id) {
                member.leaving = true;
                self.queue.at(self.time + SHUTDOWN, Event::Expire(id));
            }
        }
        self.retire();
        Ok(())
    }

    /// An old worker has waited long enough: nginx closes what is left.
    pub fn expire(&mut self, id: u32) -> Checked {
        if !self.fleet.members.contains_key(&id) {
            return Ok(());
        }
        let left: Vec<u64> =
            self.flights.iter().filter(|(_, flight)| flight.worker == id).map(|(number, _)| *number).collect();
        for number in left {
            self.abort(number)?;
        }
        self.retire();
        Ok(())
    }

    /// Old workers that have nothing left to do go.
    pub fn retire(&mut self) {
        self.fleet.members.retain(|_, member| !member.leaving || member.busy > 0);
    }

    /// Somebody edits the document.
    pub fn edit(&mut self) -> Checked {
        let Some(mut document) = self.wanted.take().or_else(|| self.history.last().cloned()) else { return Ok(()) };
        let what = document.edit(&mut self.random.turmoil, &mut self.named);
        self.trace.note(self.time, &format!("edit: {what}"));
        self.wanted = Some(document);
        self.plan(self.scenario.turmoil.edits, Event::Edit);
        self.publish()
    }

    /// Publishes what is wanted, as soon as that is possible.
    pub fn publish(&mut self) -> Checked {
        let Some(document) = self.wanted.take() else { return Ok(()) };
        if self.fleet.publish(&self.fault.mislead(&document, self.time), self.time)? {
            if self.trace.verbose {
                println!("{}", document.text());
            }
            if self.history.last() != Some(&document) {
                self.history.push(document);
            }
        } else {
            self.wanted = Some(document);
        }
        Ok(())
    }

    /// The leader dies; somebody takes over within two seconds.
    pub fn behead(&mut self) -> Checked {
        self.plan(self.scenario.turmoil.beheadings, Event::Behead);
        if let Some(leader) = self.fleet.leader.take() {
            self.trace.note(self.time, "the leader is killed");
            leader.die();
            let wait = self.random.turmoil.between(10_000, 2_000_000);
            self.queue.at(self.time + wait, Event::Takeover);
        }
        Ok(())
    }

    pub fn take_over(&mut self) -> Checked {
        self.fleet.take_over()?;
        self.trace.note(self.time, "another leader takes over");
        self.publish()
    }

    /// Somebody sets the wall clock.
    pub fn step_clock(&mut self) -> Checked {
        self.plan(self.scenario.turmoil.steps, Event::Step);
        let hours = 2 * 3_600 * SECOND;
        let step = self.random.turmoil.below(2 * hours) as i64 - hours as i64;
        self.fleet.stepped += step;
        self.trace.note(self.time, &format!("the wall clock steps by {:.3} s", step as f64 / 1e6));
        Ok(())
    }

    /// A server gets into trouble for a while.
    pub fn trouble(&mut self) -> Checked {
        self.plan(self.scenario.turmoil.troubles, Event::Trouble);
        let all: Vec<u32> = self.servers.keys().copied().collect();
        let Some(&id) = self.random.turmoil.pick(&all) else { return Ok(()) };
        let mood = Mood::trouble(&mut self.random.turmoil);
        let Some(server) = self.servers.get_mut(&id) else { return Ok(()) };
        server.mood = mood;
        self.trace.note(self.time, &format!("server {id}: {mood:?}"));
        let ends = self.time + self.random.turmoil.between(500_000, 20_000_000);
        self.queue.at(ends.min(self.calm_from()), Event::Relief(id));
        Ok(())
    }

    /// Somebody who knows better tells a breaker what to do, or to do as it likes again.
    pub fn force(&mut self) -> Checked {
        let word = self.random.turmoil.below(3);
        // All is left to themselves before it gets quiet.
        self.plan(self.scenario.turmoil.forces, Event::Force);
        let names = self.history.last().map(|document| document.upstreams.keys().cloned().collect::<Vec<_>>());
        match word {
            0 => self.tell_breakers(&names.unwrap_or_default(), None),
            _ => {
                let Some(name) = names.and_then(|names| self.random.turmoil.pick(&names).cloned()) else {
                    return Ok(());
                };
                let forced = if word == 1 { Forced::Open } else { Forced::Closed };
                self.tell_breakers(&[name], Some(forced))
            }
        }
    }

    /// Has breakers do as they are told.
    pub fn tell_breakers(&mut self, names: &[String], forced: Option<Forced>) -> Checked {
        let Some(member) = self.fleet.members.values_mut().next() else { return Ok(()) };
        for name in names {
            let Some(before) = member.worker.force_breaker(name, forced) else { continue };
            let state = match forced {
                Some(Forced::Open) => State::ForcedOpen,
                Some(Forced::Closed) => State::ForcedClosed,
                None if matches!(before, State::ForcedOpen | State::ForcedClosed) => State::Closed,
                None => continue,
            };
            if state != before {
                self.trace.note(self.time, &format!("the breaker of {name} is told to be {state:?}"));
                self.checks.breakers.forced(name, state, self.time);
            }
        }
        Ok(())
    }

    pub fn relieve(&mut self, id: u32) -> Checked {
        let Some(server) = self.servers.get_mut(&id) else { return broken("server", format!("no {id}")) };
        server.mood = Mood::Well;
        self.trace.note(self.time, &format!("server {id} is well"));
        Ok(())
    }
}
