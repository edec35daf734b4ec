//! `complete`: what is learnt from a request that is over.

use super::access::Entry;
use super::canary;
use super::object::Upstream;
use super::ticket::{Stage, Ticket};
use super::worker::Worker;
use crate::state::tables::breaker::{self, Permit};
use crate::state::{Region, View};
use crate::types::{Header, Now, Reason};

/// How a request ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The status that the client was sent; 0 = none.
    pub status: u16,
    /// The status of the last try; 502 and 504 also stand for a peer that could not be reached or was too slow.
    /// 0 = no try was made, or it was cut off.
    pub upstream_status: u16,
    /// Whether the client went away first.
    pub aborted: bool,
}

impl Worker {
    /// The access phase refused, and the adapter tells the client so.
    pub fn refused(&mut self, ticket: &mut Ticket, reason: Reason) {
        ticket.stage = Stage::Refused;
        ticket.refused = Some(reason);
        ticket.awaited.clear();
        self.cancel_permit(ticket);
        Self::leave(&self.region, ticket);
    }

    /// No route takes the request that `access` has just looked at, and the place where it came in goes on as if nobody
    /// had looked. One that an earlier look let in is counted all the same.
    pub fn pass_by(&mut self, ticket: &mut Ticket, entry: Entry) {
        ticket.refused = None;
        if entry == Entry::Again {
            ticket.stage = Stage::Forwarded;
            return;
        }
        self.abandon(ticket);
        ticket.stage = Stage::New;
    }

    /// The request is over: the breaker hears how its upstream did, the metrics count it. Once a request.
    pub fn complete(&mut self, ticket: &mut Ticket, outcome: &Outcome, now: Now) {
        self.complete_with(ticket, outcome, &|_| Header::Absent, now);
    }

    /// [`Worker::complete`] with the headers of the answer, by their names in lower case: limits may count by them.
    pub fn complete_with<'h>(
        &mut self,
        ticket: &mut Ticket,
        outcome: &Outcome,
        header: &dyn Fn(&[u8]) -> Header<'h>,
        now: Now,
    ) {
        if ticket.stage == Stage::Completed || ticket.stage == Stage::New {
            return;
        }
        if let Some(attempt) = ticket.attempt.take() {
            Self::peers(&self.region).finished(attempt.peer);
        }
        Self::unload(&self.region, ticket);
        if !ticket.awaited.is_empty() {
            self.charge(ticket, outcome.status, header, now);
        }
        Self::leave(&self.region, ticket);
        let judged = if outcome.aborted { 0 } else { outcome.upstream_status };
        match judged {
            // Nobody can say what the upstream would have answered.
            0 => self.cancel_permit(ticket),
            status => self.report(ticket, (status < 500 || status == 501) && !ticket.slow, now),
        }
        if ticket.counted
            && let Some(shard) = Self::shard(&self.region, self.reader.slot())
        {
            if ticket.variant != 0 {
                canary::count(shard, ticket, outcome, now);
            }
            shard.disconnected();
            shard.request(ticket.route, ticket.method, outcome.status, now.mono.saturating_sub(ticket.started));
            if ticket.shadow
                && let Some(reason) = ticket.refused
            {
                shard.shadowed(ticket.route, reason);
            }
        }
        ticket.counted = false;
        ticket.stage = Stage::Completed;
    }

    /// The request went away without having been completed: what it holds is given back.
    pub fn abandon(&mut self, ticket: &mut Ticket) {
        if let Some(attempt) = ticket.attempt.take() {
            Self::peers(&self.region).finished(attempt.peer);
        }
        Self::unload(&self.region, ticket);
        self.cancel_permit(ticket);
        Self::leave(&self.region, ticket);
        if ticket.counted
            && let Some(shard) = Self::shard(&self.region, self.reader.slot())
        {
            shard.disconnected();
        }
        ticket.counted = false;
        ticket.stage = Stage::Completed;
    }

    fn report(&mut self, ticket: &mut Ticket, good: bool, now: Now) {
        if ticket.permit.is_some_and(|permit| !good || !permit.ignores_success())
            && let Some(view) = self.reader.enter()
        {
            Self::judge(&self.region, &view, ticket, good, now);
        }
    }

    /// Tells the breaker of the request's upstream how it did.
    pub(super) fn judge(region: &Region, view: &View<'_>, ticket: &mut Ticket, good: bool, now: Now) {
        // A success while the breaker is closed mostly changes nothing, and need not find it.
        let Some(permit) = ticket.permit.take().filter(|permit| !good || !permit.ignores_success()) else { return };
        let Some(upstream) = view.object::<Upstream>(ticket.upstream) else { return };
        if let Some((slot, settings)) = Self::breaker(region, &upstream) {
            breaker::report(slot, &settings, permit, good, now.mono);
        }
    }

    pub(super) fn cancel_permit(&mut self, ticket: &mut Ticket) {
        if ticket.permit.is_some_and(Permit::is_probe)
            && let Some(view) = self.reader.enter()
        {
            Self::cancel(&self.region, &view, ticket);
        }
        ticket.permit = None;
    }

    /// Gives back what the breaker of the request's upstream granted.
    pub(super) fn cancel(region: &Region, view: &View<'_>, ticket: &mut Ticket) {
        // Only a probe holds a place.
        let Some(permit) = ticket.permit.take().filter(|permit| permit.is_probe()) else { return };
        let Some(upstream) = view.object::<Upstream>(ticket.upstream) else { return };
        if let Some((slot, _)) = Self::breaker(region, &upstream) {
            breaker::cancel(slot, permit);
        }
    }
}
