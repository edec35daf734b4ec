//! The two limit steps of a request. Within each a refusal by one limit consumes none of the others.

use std::net::IpAddr;

use super::decision::{Halt, Reply};
use super::explain::{Recorder, Step, tell};
use super::object::{ArchivedInFlight, Route};
use super::ticket::{LimitNote, LimitStatus, Ticket, Wait};
use super::worker::Worker;
use crate::auth::Claims;
use crate::config::LIMITS_MAX;
use crate::limiter::{
    Admitted, ArchivedCost, ArchivedEvent, ArchivedHeaderStyle, ArchivedKeyPart, ArchivedLimiter, HeaderStyle,
    KeyHasher, Limiter, Quota, parse_cost,
};
use crate::state::tables::places::Place;
use crate::state::tables::rate::{Outcome, RateTable};
use crate::state::{Blob, Captures, Region, View};
use crate::types::{ArchivedId, Header, Id, Now, Reason, Request, SECOND};

/// The rule under which refusals of a full route are counted.
pub(super) const IN_FLIGHT: &str = "max_in_flight";

/// What keys are made of.
pub(super) struct Limits<'a, 'v, R> {
    pub region: &'a Region,
    pub view: &'a View<'v>,
    pub request: &'a R,
    pub route: &'a Blob<'v, Route>,
    pub rule: u32,
    pub captures: &'a Captures,
    pub now: Now,
}

/// What became of a request's credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// It has to be found out.
    Open,
    /// They were refused.
    Failed,
    /// They are good, or there are none, or nobody can tell.
    Innocent,
}

impl Verdict {
    fn of<T>(auth: &Result<T, Halt>) -> Self {
        match auth {
            Err(Halt::Ask(_)) => Self::Open,
            // Who shows nothing guesses nothing.
            Err(Halt::Reply(reply)) if reply.reason.status() == 401 && reply.reason != Reason::AuthMissing => {
                Self::Failed
            }
            Err(Halt::Reply(_)) | Ok(_) => Self::Innocent,
        }
    }
}

/// A charge that may have to be given back.
#[derive(Clone, Copy)]
struct Charge {
    key: u64,
    quota: Quota,
    cost: i64,
    taken: Admitted,
}

impl Worker {
    /// Charges the limiters that count answers: `status` is the one that the client was sent, `header` shows the headers
    /// of the answer, names in lower case.
    #[cold]
    pub(super) fn charge<'h>(&self, ticket: &mut Ticket, status: u16, header: &dyn Fn(&[u8]) -> Header<'h>, now: Now) {
        let awaited = std::mem::take(&mut ticket.awaited);
        let Some(view) = self.reader.enter() else { return };
        let rates = Self::rates(&self.region);
        for wait in awaited.iter().filter(|wait| !wait.failure) {
            let Some(limiter) = view.object::<Limiter>(wait.limiter) else { continue };
            let Ok(quota) = Quota::of_archived(&limiter) else { continue };
            if !limiter.statuses.is_empty() && !limiter.statuses.iter().any(|counted| counted.to_native() == status) {
                continue;
            }
            let cost = match &limiter.cost {
                ArchivedCost::Fixed(cost) => cost.to_native(),
                ArchivedCost::Header(name) => match header(name.as_bytes()) {
                    Header::One(value) => parse_cost(value).unwrap_or(1),
                    Header::Absent | Header::Many => 1,
                },
            };
            if cost != 0 {
                let _ = rates.owe(wait.key, &quota, cost, now.mono);
            }
        }
    }

    /// Gives back the place that the request has on its route, if it has one.
    #[inline]
    pub(super) fn leave(region: &Region, ticket: &mut Ticket) {
        if ticket.place.key != 0 {
            Self::places(region).leave(std::mem::take(&mut ticket.place));
        }
    }
}

impl<R: Request> Limits<'_, '_, R> {
    /// Takes a place on the route, where it lets in so many at a time: before anything else is taken, so that a refusal
    /// costs nothing. Whatever refuses the request later gives the place back.
    #[inline]
    pub fn enter(&self, ticket: &mut Ticket, recorder: &mut impl Recorder) -> Result<(), Reply> {
        match self.route.in_flight.as_ref() {
            Some(in_flight) => self.enter_route(in_flight, ticket, recorder),
            None => {
                // After an internal redirect it may have one on another route.
                Worker::leave(self.region, ticket);
                Ok(())
            }
        }
    }

    fn enter_route(
        &self,
        in_flight: &ArchivedInFlight,
        ticket: &mut Ticket,
        recorder: &mut impl Recorder,
    ) -> Result<(), Reply> {
        let (slot, key, most) = (in_flight.slot.to_native(), in_flight.key.to_native(), in_flight.most.to_native());
        if ticket.place.key == key {
            return Ok(());
        }
        Worker::leave(self.region, ticket);
        match Worker::places(self.region).enter(Place { slot, worker: ticket.shard, key }, most) {
            Some(place) => {
                ticket.place = place;
                tell!(recorder, Step::Limit, "`max_in_flight` has a place, {most} at most");
                Ok(())
            }
            None => {
                tell!(recorder, Step::Limit, "`max_in_flight` refuses: {most} are under way");
                if let Some(shard) = Worker::shard(self.region, ticket.shard)
                    && recorder.takes()
                {
                    shard.limited(self.route.id(), Id::NONE);
                }
                ticket.limit_status = if ticket.shadow { LimitStatus::DryRun } else { LimitStatus::Rejected };
                Err(Reply::later(Reason::LimitInFlight, SECOND))
            }
        }
    }

    /// Asks `limits` in their order.
    #[inline]
    pub fn step(
        &self,
        limits: Option<&[ArchivedId]>,
        claims: Option<&Claims>,
        ticket: &mut Ticket,
        recorder: &mut impl Recorder,
    ) -> Result<(), Reply> {
        match limits {
            None | Some([]) => Ok(()),
            Some(limits) => self.ask_all(limits, claims, ticket, recorder),
        }
    }

    #[inline(never)]
    fn ask_all(
        &self,
        limits: &[ArchivedId],
        claims: Option<&Claims>,
        ticket: &mut Ticket,
        recorder: &mut impl Recorder,
    ) -> Result<(), Reply> {
        let rates = Worker::rates(self.region);
        let before = ticket.asked.len();
        let mut charges = [None; LIMITS_MAX];
        for (id, charge) in limits.iter().zip(0..) {
            let id = id.id();
            if !ticket.asked.first(id) {
                continue;
            }
            // A limiter that went away since the route was written limits nothing any more.
            let Some(limiter) = self.view.object::<Limiter>(id) else { continue };
            let Ok(quota) = Quota::of_archived(&limiter) else { return Err(Reply::new(Reason::Internal)) };
            let key = self.key(id, &limiter, claims, ticket);
            let (answer, cost) = match self.cost(&limiter) {
                Some(cost) => (self.ask(&rates, &limiter, &quota, key, cost, recorder.takes()), cost),
                None => (Err(Reply::new(Reason::LimitCost)), 1),
            };
            if let Ok(taken) = &answer {
                tell!(
                    recorder,
                    Step::Limit,
                    "\"{}\" admits, {} of {} left",
                    limiter.name(),
                    taken.remaining,
                    quota.burst()
                );
                note(ticket, &limiter, quota, taken.remaining, taken.reset);
                if let (Some(place), ArchivedEvent::Request, true) =
                    (charges.get_mut(charge), &limiter.on, recorder.takes())
                {
                    *place = Some(Charge { key, quota, cost: cost.into(), taken: *taken });
                }
            }
            if !matches!(limiter.on, ArchivedEvent::Request) && (answer.is_ok() || limiter.shadow) {
                let failure = matches!(limiter.on, ArchivedEvent::AuthFailure);
                // A document has no more of them for one route; several redirects may have.
                if !ticket.awaited.push(Wait { limiter: id, key, failure, cost, reserved: 0 }) {
                    return Err(Reply::new(Reason::Internal));
                }
            }
            let Err(refusal) = answer else { continue };
            tell!(recorder, Step::Limit, "\"{}\" refuses: {}", limiter.name(), refusal.reason.code());
            if let Some(shard) = Worker::shard(self.region, ticket.shard)
                && recorder.takes()
            {
                shard.limited(self.route.id(), id);
            }
            if limiter.shadow {
                if ticket.limit_status != LimitStatus::Rejected {
                    ticket.limit_status = LimitStatus::DryRun;
                }
                continue;
            }
            for charge in charges.into_iter().flatten() {
                rates.give_back(charge.key, &charge.quota, charge.cost, charge.taken.at, self.now.mono);
            }
            ticket.limit = None;
            let standing = rates.peek(key, &quota, self.now.mono);
            note(ticket, &limiter, quota, standing.remaining.min(quota.burst()), standing.reset);
            ticket.limit_status = LimitStatus::Rejected;
            if ticket.shadow {
                ticket.limit_status = LimitStatus::DryRun;
                // Nothing was taken: where the request comes to a place that means it, they are asked.
                ticket.asked.back_to(before);
            }
            return Err(refusal);
        }
        Ok(())
    }

    /// How many tokens the request takes, or is to find there; `None` where a header says no number.
    #[inline]
    fn cost(&self, limiter: &ArchivedLimiter) -> Option<u32> {
        match (&limiter.cost, &limiter.on) {
            (ArchivedCost::Fixed(cost), _) => Some(cost.to_native()),
            // What the answer will cost nobody knows yet; anything that is left will do.
            (ArchivedCost::Header(_), ArchivedEvent::Response) => Some(1),
            (ArchivedCost::Header(name), _) => match self.request.header(name.as_bytes()) {
                Header::Absent => Some(1),
                Header::One(value) => parse_cost(value),
                Header::Many => None,
            },
        }
    }

    /// Takes the tokens, or looks whether they are there for what is still to come.
    #[inline]
    fn ask(
        &self,
        rates: &RateTable<'_>,
        limiter: &ArchivedLimiter,
        quota: &Quota,
        key: u64,
        cost: u32,
        takes: bool,
    ) -> Result<Admitted, Reply> {
        let now = self.now.mono;
        let refused = match limiter.on {
            ArchivedEvent::Request if takes => match rates.take(key, quota, cost.into(), now) {
                Outcome::Taken(taken) => return Ok(taken),
                Outcome::Refused(refused) => refused,
                Outcome::TableFull { retry } => return Err(Reply::later(Reason::LimitTableFull, retry)),
            },
            ArchivedEvent::Request | ArchivedEvent::AuthFailure | ArchivedEvent::Response => {
                match rates.look(key, quota, cost.into(), now) {
                    Ok(standing) => return Ok(standing),
                    Err(refused) => refused,
                }
            }
        };
        Err(match refused.retry_after() {
            Some(wait) => Reply::later(Reason::LimitExceeded, wait),
            // Coming back later is no use.
            None => Reply::new(Reason::LimitNever),
        })
    }

    /// Auth is decided, or has to wait: limiters that count its failures hear of it.
    ///
    /// While a password is being looked at, the tokens of a failure are taken in advance: guesses that are made at the
    /// same time do not all pass because none of them has failed yet.
    #[inline]
    pub fn settle<T>(&self, auth: &Result<T, Halt>, ticket: &mut Ticket, recorder: &mut impl Recorder) {
        if !ticket.awaited.is_empty() && recorder.takes() {
            self.settle_all(Verdict::of(auth), ticket, recorder);
        }
    }

    #[cold]
    fn settle_all(&self, verdict: Verdict, ticket: &mut Ticket, recorder: &mut impl Recorder) {
        let rates = Worker::rates(self.region);
        let now = self.now.mono;
        let mut awaited = ticket.awaited;
        for wait in awaited.iter_mut().filter(|wait| wait.failure) {
            let Some(limiter) = self.view.object::<Limiter>(wait.limiter) else { continue };
            let Ok(quota) = Quota::of_archived(&limiter) else { continue };
            match verdict {
                Verdict::Open | Verdict::Failed if wait.reserved == 0 => {
                    if let Outcome::Taken(taken) = rates.take(wait.key, &quota, wait.cost.into(), now) {
                        wait.reserved = now.max(1);
                        tell!(recorder, Step::Limit, "\"{}\" counts, {} left", limiter.name(), taken.remaining);
                        note(ticket, &limiter, quota, taken.remaining, taken.reset);
                    }
                }
                Verdict::Open | Verdict::Failed => {}
                Verdict::Innocent if wait.reserved != 0 => {
                    rates.give_back(wait.key, &quota, wait.cost.into(), wait.reserved, now);
                }
                Verdict::Innocent => {}
            }
        }
        ticket.awaited = awaited;
        if verdict != Verdict::Open {
            ticket.awaited.retain(|wait| !wait.failure);
        }
    }

    fn key(&self, id: Id, limiter: &ArchivedLimiter, claims: Option<&Claims>, ticket: &Ticket) -> u64 {
        let mut hasher = KeyHasher::new(self.region.secret(), id.word());
        for part in limiter.key.iter() {
            match part {
                ArchivedKeyPart::Ip => hasher.address(self.client()),
                ArchivedKeyPart::Route => hasher.part(&self.route.id().word().to_le_bytes()),
                ArchivedKeyPart::Upstream => hasher.part(&self.route.upstream.id().word().to_le_bytes()),
                ArchivedKeyPart::Global => &mut hasher,
                ArchivedKeyPart::Consumer => match claims {
                    Some(_) => hasher.part(ticket.names.consumer.as_bytes()),
                    None => hasher.absent(),
                },
                ArchivedKeyPart::Claim(name) => match claims.and_then(|claims| claims.header_value(name)) {
                    Some(value) => hasher.part(value.as_bytes()),
                    None => hasher.absent(),
                },
                ArchivedKeyPart::Header(name) => match self.request.header(name.as_bytes()) {
                    Header::One(value) => hasher.part(value),
                    // Several values are no way out of a bucket: all such requests share one.
                    Header::Absent | Header::Many => hasher.absent(),
                },
                ArchivedKeyPart::Cookie(name) => match self.cookie(name) {
                    Some(value) => hasher.part(value),
                    None => hasher.absent(),
                },
                ArchivedKeyPart::Path(name) => match self.parameter(name) {
                    Some(value) => hasher.part(value),
                    None => hasher.absent(),
                },
            };
        }
        hasher.finish()
    }

    fn client(&self) -> IpAddr {
        self.request.client()
    }

    fn cookie(&self, name: &str) -> Option<&[u8]> {
        let line = self.request.header(b"cookie").one()?;
        crate::auth::cookies(line).find(|(key, _)| *key == name.as_bytes()).map(|(_, value)| value)
    }

    /// The value of a path parameter; the route knows the names of each of its rules in the order of the captures.
    fn parameter(&self, name: &str) -> Option<&[u8]> {
        let names = self.route.parameters.get(self.rule as usize)?;
        let index = names.iter().position(|known| known == name)?;
        self.captures.get(index, self.request.path())
    }
}

/// Keeps the limit that is nearest to its end for the answer's headers.
fn note(ticket: &mut Ticket, limiter: &Blob<'_, Limiter>, quota: Quota, remaining: u32, reset: u64) {
    if ticket.limit_status == LimitStatus::None {
        ticket.limit_status = LimitStatus::Passed;
    }
    // The share that is left decides, not the number: 3 of 5 is further from the end than 10 of 1,000.
    let share = |remaining: u32, burst: u32| u64::from(remaining) * 1_000_000 / u64::from(burst.max(1));
    let nearer =
        ticket.limit.is_none_or(|other| share(remaining, quota.burst()) < share(other.remaining, other.quota.burst()));
    if nearer {
        let style = match limiter.headers {
            ArchivedHeaderStyle::Ietf => HeaderStyle::Ietf,
            ArchivedHeaderStyle::X => HeaderStyle::X,
            ArchivedHeaderStyle::Both => HeaderStyle::Both,
        };
        ticket.limit = Some(LimitNote { quota, remaining, reset, style });
        ticket.names.limit.set(limiter.name_bytes());
    }
}
